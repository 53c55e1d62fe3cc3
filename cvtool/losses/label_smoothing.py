"""Label smoothing: the truth gives a share of its certainty to the other classes (Szegedy 2015, arXiv:1512.00567, section 7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def smooth(target: Tensor, classes: int, eps: float, *, over: str = "others") -> Tensor:
    """Targets B int64, or B K weights that sum to 1, -> B K weights that sum to 1; cross-entropy against them is the smoothed loss.

    over "others": the class keeps 1 - eps, and eps is shared by the other K - 1 (the form of the texts). "all": eps is shared by all K, so that the
    class keeps 1 - eps + eps / K (the paper's and torch's form). eps: in [0, 1]; 0 changes nothing. Weights that are soft already (a mixture, a
    teacher's answer) are softened in the same way. Raises ValueError.
    """
    if not 0 <= eps <= 1 or classes < 2 or over not in ("others", "all"):
        raise ValueError(f"smoothing takes eps in [0, 1], two classes or more, over others or all; not {eps}, {classes}, {over}")
    weights = F.one_hot(target, classes).to(torch.get_default_dtype()) if target.ndim == 1 else target
    if over == "all":
        return weights * (1 - eps) + eps / classes
    return weights * (1 - eps) + (1 - weights) * (eps / (classes - 1))


def to_all(eps: float, classes: int) -> float:
    """An eps over the others as the one over all (torch's `label_smoothing`) that gives the same targets: eps K / (K - 1)."""
    return eps * classes / (classes - 1)


def to_others(eps: float, classes: int) -> float:
    """An eps over all as the one over the others that gives the same targets: eps (K - 1) / K."""
    return eps * (classes - 1) / classes
