"""Where attention looks: its weights, its masks, and how many entries it has."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def causal_mask(length: int, *, device: torch.device | str = "cpu") -> Tensor:
    """N N bool, True where query i may look: at keys 0..i (the lower triangle)."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def attention_weights(
    query: Tensor, key: Tensor, *, mask: Tensor | None = None, scale: float | None = None, form: Literal["-inf", "zero"] = "-inf"
) -> Tensor:
    """softmax(Q K^T / sqrt(d)) over the keys: ... N d, ... M d -> ... N M, rows that sum to 1 (Vaswani 2017, arXiv:1706.03762, eq. 1).

    mask: bool, True where a query may look. form: "-inf" masks the scores before the softmax; "zero" sets the weights to 0 after it and divides
    them by what is left. Both are the same numbers, as long as the scores of what is masked do not dwarf the others.
    """
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if mask is None:
        return scores.softmax(-1)
    if form == "-inf":
        return scores.masked_fill(~mask, -math.inf).softmax(-1)
    kept = scores.softmax(-1) * mask
    return kept / kept.sum(-1, keepdim=True)


def entries(tokens: int, *, heads: int = 1, layers: int = 1) -> int:
    """How many weights self-attention has: N^2 a head and layer. Pixels of 224 x 224 as tokens: 2 517 630 976."""
    return tokens * tokens * heads * layers


class _Watch(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            given = dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args, strict=False)) | kwargs
            self.seen.append(self._weights(**given))
        if func is F.multi_head_attention_forward:  # torch.nn.MultiheadAttention: what it calls inside is not seen from here
            both: Any = func(*args, **kwargs | {"need_weights": True, "average_attn_weights": False})
            output, weights = both
            self.seen.append(weights)
            mean = kwargs.get("average_attn_weights", True)
            return output, (weights.mean(1) if mean else weights) if kwargs.get("need_weights", True) else None
        return func(*args, **kwargs)

    @staticmethod
    def _weights(
        query: Tensor, key: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False, scale: float | None = None, **_: Any
    ) -> Tensor:
        if is_causal:
            attn_mask = causal_mask(query.shape[-2], device=query.device)
        if attn_mask is None or attn_mask.dtype == torch.bool:
            return attention_weights(query, key, mask=attn_mask, scale=scale)
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        return (scores + attn_mask).softmax(-1)  # a bias on the scores


@contextmanager
def watched() -> Iterator[list[Tensor]]:
    """What is computed inside adds the weights (B h N M) of each attention, in order, to the list: of any network that calls torch's function for
    it (ours, timm's, transformers'), and torch.nn.MultiheadAttention, whose fused way around it is shut meanwhile."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _Watch() as watch:
            yield watch.seen
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
