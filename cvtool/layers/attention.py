"""Attention: each query takes the mean of the values, weighed by how well their keys fit it (Vaswani 2017, arXiv:1706.03762, section 3.2)."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.ops.attention import attention_weights, causal_mask


def dot_product_attention(x: Tensor, y: Tensor) -> Tensor:
    """Nothing learned: softmax(x y^T) y. x: ... N D, y: ... M D -> ... N D."""
    return attention_weights(x, y, scale=1.0) @ y


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, form: Literal["-inf", "zero"] = "-inf"
) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V as it is written (eq. 1): ... N d, ... M d, ... M v -> ... N v. mask: N M bool, True where a query may look.

    For looking into; `MultiHeadAttention` computes the same without keeping the N x M weights.
    """
    return attention_weights(query, key, mask=mask, form=form) @ value


class MultiHeadAttention(nn.Module):
    """h attentions side by side on D/h channels each, concatenated, then W_O (section 3.2.2): B N D -> B N D.

    Queries come from x, keys and values from `memory` (B M `memory_channels`): self-attention without one, else cross-attention. The tensors have
    the names and shapes that torch.nn.MultiheadAttention gives them; with a memory of other width W_Q, W_K and W_V stand apart, as there.
    """

    def __init__(self, channels: int, heads: int, *, memory_channels: int | None = None, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared out among {heads} heads")
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        memory_channels = memory_channels or channels
        self.joint = memory_channels == channels
        if self.joint:
            self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
            nn.init.xavier_uniform_(self.in_proj_weight)
        else:
            for name, inputs in (("q", channels), ("k", memory_channels), ("v", memory_channels)):
                weight = nn.Parameter(torch.empty(channels, inputs))
                self.register_parameter(f"{name}_proj_weight", weight)
                nn.init.xavier_uniform_(weight)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels)) if bias else None
        self.out_proj = nn.Linear(channels, channels, bias=bias)
        if bias:
            nn.init.zeros_(self.out_proj.bias)

    def projected(self, x: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Q (B h N d), K and V (B h M d)."""
        if self.joint and memory is None:
            q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        else:
            memory = x if memory is None else memory
            weights: Any = self.in_proj_weight.chunk(3) if self.joint else (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
            q, k, v = (F.linear(y, w, b) for y, w, b in zip((x, memory, memory), weights, biases, strict=True))
        return tuple(y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (q, k, v))  # type: ignore[return-value]

    def query(self, x: Tensor) -> Tensor:
        """Q alone, B h N d."""
        return self._part(x, 0)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """K and V alone, B h M d: for a memory that is asked again and again."""
        return self._part(memory, 1), self._part(memory, 2)

    def _part(self, x: Tensor, number: int) -> Tensor:
        weights: Any = self.in_proj_weight.chunk(3) if self.joint else (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        bias = None if self.in_proj_bias is None else self.in_proj_bias.chunk(3)[number]
        return F.linear(x, weights[number], bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, memory: Tensor | None = None, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """mask: N M, or anything that broadcasts to B h N M; True where a query may look. causal: query i looks at keys 0..i only."""
        q, k, v = self.projected(x, memory)
        dropout = self.dropout.p if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal)  # B h N d
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor, memory: Tensor | None = None, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """B h N M: where each head looks; rows sum to 1."""
        q, k, _ = self.projected(x, memory)
        return attention_weights(q, k, mask=causal_mask(q.shape[-2], device=q.device) if causal else mask)

    def extra_repr(self) -> str:
        return f"heads={self.heads}"
