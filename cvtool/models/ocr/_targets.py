"""What a recogniser with an end mark is to say: each text's labels, then the mark, in one tensor for a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100  # what no loss looks at


def ended(texts: Sequence[str], labels: Mapping[str, int], end: int, *, longest: int) -> Tensor:
    """B L int64: labels, `end`, then IGNORED up to the length of the longest, mark included.

    A text of more than `longest` characters, or with one that is not in `labels`, is IGNORED altogether: data to validate on may hold such, and no
    loss can say how far from them the model is.
    """
    rows = [[*(labels[c] for c in text), end] if len(text) <= longest and all(c in labels for c in text) else [] for text in texts]
    width = max(1, *map(len, rows)) if rows else 1
    return torch.tensor([row + [IGNORED] * (width - len(row)) for row in rows], dtype=torch.int64).reshape(-1, width)


def per_character(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy of all characters and end marks of a batch, in nats: B L C, B L; 0 where there is none."""
    total = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (targets != IGNORED).sum().clamp(min=1)
