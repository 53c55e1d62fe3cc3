"""The transformer: attention and a small network for each token, both residual, in layers (Vaswani 2017, arXiv:1706.03762, section 3.1).

`norm_first` says where the normalisation stands: before each part, inside the residual branch (pre-norm, trains without a long warm-up), or after
the sum (post-norm, the paper's). A pre-norm stack is normalised once more at its end.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from cvtool.layers.activation import activation as activation_of
from cvtool.layers.activation import pieces
from cvtool.layers.attention import MultiHeadAttention
from cvtool.layers.stochastic_depth import StochasticDepth, linear


class FeedForward(nn.Module):
    """FFN(x) = activation(x W1 + b1) W2 + b2 on every token alike: D -> hidden (4 D) -> D (eq. 2). forward: B N D -> B N D.

    form: "conv" writes the same as two convolutions over the sequence with kernels of one token; only the weights' shape differs.
    """

    def __init__(
        self, channels: int, hidden: int | None = None, *, activation: str = "gelu", dropout: float = 0.0, form: Literal["linear", "conv"] = "linear"
    ) -> None:
        super().__init__()
        hidden = hidden or 4 * channels
        self.form = form
        inner = hidden * pieces(activation)
        self.linear1: nn.Module = nn.Conv1d(channels, inner, 1) if form == "conv" else nn.Linear(channels, inner)
        self.activation = activation_of(activation)
        self.dropout = nn.Dropout(dropout)
        self.linear2: nn.Module = nn.Conv1d(hidden, channels, 1) if form == "conv" else nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2) if self.form == "conv" else x
        y = self.linear2(self.dropout(self.activation(self.linear1(x))))
        return y.transpose(1, 2) if self.form == "conv" else y


class _Residual(nn.Module):
    """What both layers share: the sum of a part with its input, and the normalisation around it."""

    def __init__(self, dropout: float, drop_path: float, norm_first: bool) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.dropout = nn.Dropout(dropout)
        self.drop_path = StochasticDepth(drop_path)

    def _added(self, x: Tensor, norm: nn.Module, part: nn.Module, *memory: Tensor, **options: object) -> Tensor:
        y = part(norm(x) if self.norm_first else x, *memory, **options)
        y = x + self.drop_path(self.dropout(y))
        return y if self.norm_first else norm(y)


class EncoderLayer(_Residual):
    """Self-attention, then the feed-forward network. forward: B N D -> B N D. drop_path: probability to leave a branch out (stochastic depth)."""

    def __init__(
        self, channels: int, heads: int, hidden: int | None = None, *, activation: str = "gelu", norm_first: bool = True, dropout: float = 0.0,
        drop_path: float = 0.0, eps: float = 1e-6,
    ) -> None:  # fmt: skip
        super().__init__(dropout, drop_path, norm_first)
        self.norm1 = nn.LayerNorm(channels, eps=eps)
        self.attention = MultiHeadAttention(channels, heads, dropout=dropout)
        self.norm2 = nn.LayerNorm(channels, eps=eps)
        self.ffn = FeedForward(channels, hidden, activation=activation, dropout=dropout)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        x = self._added(x, self.norm1, self.attention, mask=mask, causal=causal)
        return self._added(x, self.norm2, self.ffn)


class DecoderLayer(_Residual):
    """Self-attention (causal unless told), cross-attention to the encoder's output, then the feed-forward network. forward: B N D, B M D -> B N D."""

    def __init__(
        self, channels: int, heads: int, hidden: int | None = None, *, memory_channels: int | None = None, activation: str = "gelu",
        norm_first: bool = True, dropout: float = 0.0, drop_path: float = 0.0, eps: float = 1e-6,
    ) -> None:  # fmt: skip
        super().__init__(dropout, drop_path, norm_first)
        self.norm1 = nn.LayerNorm(channels, eps=eps)
        self.attention = MultiHeadAttention(channels, heads, dropout=dropout)
        self.norm2 = nn.LayerNorm(channels, eps=eps)
        self.cross = MultiHeadAttention(channels, heads, memory_channels=memory_channels, dropout=dropout)
        self.norm3 = nn.LayerNorm(channels, eps=eps)
        self.ffn = FeedForward(channels, hidden, activation=activation, dropout=dropout)

    def forward(self, x: Tensor, memory: Tensor, *, mask: Tensor | None = None, memory_mask: Tensor | None = None, causal: bool = True) -> Tensor:
        x = self._added(x, self.norm1, self.attention, mask=mask, causal=causal and mask is None)
        x = self._added(x, self.norm2, self.cross, memory, mask=memory_mask)
        return self._added(x, self.norm3, self.ffn)


class Encoder(nn.Module):
    """`layers` encoder layers; drop_path grows evenly to its value at the last. forward: B N D -> B N D."""

    def __init__(self, layers: int, channels: int, heads: int, hidden: int | None = None, *, drop_path: float = 0.0, norm_first: bool = True,
                 eps: float = 1e-6, **options: object) -> None:  # fmt: skip
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(channels, heads, hidden, drop_path=rate, norm_first=norm_first, eps=eps, **options)  # type: ignore[arg-type]
            for rate in linear(drop_path, layers)
        )
        self.norm: nn.Module = nn.LayerNorm(channels, eps=eps) if norm_first else nn.Identity()

    def forward(self, x: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask=mask, causal=causal)
        return self.norm(x)


class Decoder(nn.Module):
    """`layers` decoder layers. forward: B N D, the encoder's B M D -> B N D; in causal mode output i depends on inputs 0..i."""

    def __init__(self, layers: int, channels: int, heads: int, hidden: int | None = None, *, norm_first: bool = True, eps: float = 1e-6,
                 **options: object) -> None:  # fmt: skip
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(channels, heads, hidden, norm_first=norm_first, eps=eps, **options)  # type: ignore[arg-type]
            for _ in range(layers)
        )
        self.norm: nn.Module = nn.LayerNorm(channels, eps=eps) if norm_first else nn.Identity()

    def forward(self, x: Tensor, memory: Tensor, *, mask: Tensor | None = None, memory_mask: Tensor | None = None, causal: bool = True) -> Tensor:
        for layer in self.layers:
            x = layer(x, memory, mask=mask, memory_mask=memory_mask, causal=causal)
        return self.norm(x)


class Transformer(nn.Module):
    """Encoder and decoder. forward: a source B M D and a target B N D -> B N D. options: of both, as `EncoderLayer` and `DecoderLayer` take them."""

    def __init__(self, channels: int, heads: int, *, encoder_layers: int = 6, decoder_layers: int = 6, hidden: int | None = None,
                 **options: object) -> None:  # fmt: skip
        super().__init__()
        self.encoder = Encoder(encoder_layers, channels, heads, hidden, **options)  # type: ignore[arg-type]
        self.decoder = Decoder(decoder_layers, channels, heads, hidden, **options)  # type: ignore[arg-type]

    def forward(self, source: Tensor, target: Tensor, *, causal: bool = True) -> Tensor:
        return self.decoder(target, self.encoder(source), causal=causal)
