"""Attention whose weights a small network computes, soft or hard, over a sequence (Bahdanau 2014, arXiv:1409.0473; Xu 2015, arXiv:1502.03044).

    e_i = v^T tanh(W q + U m_i),   a = softmax(e)

Soft: the context is sum_i a_i m_i, differentiable. Hard: one place is drawn from a; what the draw leads to is no function with a gradient, so a is
taught by the gradient of the expectation, sampled (`losses.reinforce`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn


class Drawn(NamedTuple):
    """What hard attention looked at: context B D, its place B int64, log a of that place B, and all weights B M."""

    context: Tensor
    place: Tensor
    log_probability: Tensor
    weights: Tensor


class AdditiveAttention(nn.Module):
    """forward: queries B Q (or B N Q) and a memory B M D -> context B D (or B N D) and weights B M (or B N M), rows that sum to 1.

    mask: B M bool, True where there is something to look at.
    """

    def __init__(self, query: int, memory: int, hidden: int = 64) -> None:
        super().__init__()
        self.of_query = nn.Linear(query, hidden)
        self.of_memory = nn.Linear(memory, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def weights(self, query: Tensor, memory: Tensor, mask: Tensor | None = None, keys: Tensor | None = None) -> Tensor:
        """keys: U m of the memory (`of_memory`), B M hidden, where it is known already: for queries one after another."""
        many = query.ndim == 3
        q = self.of_query(query if many else query[:, None])  # B N h
        keys = self.of_memory(memory) if keys is None else keys
        scores = self.score((q[:, :, None] + keys[:, None]).tanh())[..., 0]  # B N M
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -math.inf)
        weights = scores.softmax(-1)
        return weights if many else weights[:, 0]

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        weights = self.weights(query, memory, mask)
        return (weights if query.ndim == 3 else weights[:, None]).matmul(memory).view(*query.shape[:-1], -1), weights

    def hard(self, query: Tensor, memory: Tensor, mask: Tensor | None = None) -> Drawn:
        """One place drawn for each query B Q; in eval mode the likeliest."""
        weights = self.weights(query, memory, mask)  # B M
        place = weights.multinomial(1) if self.training else weights.argmax(-1, keepdim=True)  # B 1
        context = memory.gather(1, place[..., None].expand(-1, -1, memory.shape[-1]))[:, 0]
        return Drawn(context, place[:, 0], weights.gather(1, place)[:, 0].log(), weights)
