"""A transformer's decoder, token by token: what it has computed of the tokens before is kept, so that a new one costs one step, not a whole text.

Equals `layers/transformer.py`'s causal Decoder on the tokens so far, its last output: keys and values of a causal layer never change once known.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.layers.attention import MultiHeadAttention
from cvtool.layers.transformer import Decoder, DecoderLayer
from cvtool.ops.attention import attention_weights


class Incremental:
    """Made for one encoder output, memory B M D, and at most `length` tokens. A call takes the next token of each, B 1 D, and gives its output B 1 D.

    looked: B M, where the last layer's cross-attention looked for the latest token, the mean over its heads.
    """

    looked: Tensor

    def __init__(self, decoder: Decoder, memory: Tensor, length: int) -> None:
        self.decoder, self.length, self.position = decoder, length, 0
        self._memory = [layer.cross.keys_values(memory) for layer in _layers(decoder)]  # of each layer K, V: B h M d
        self._kept: list[tuple[Tensor, Tensor]] = []  # of each layer K, V of the tokens: B h length d, made when the first is known

    def __call__(self, x: Tensor) -> Tensor:
        layers = _layers(self.decoder)
        for number, layer in enumerate(layers):
            x = _added(layer, x, layer.norm1, partial(self._self, number=number, attention=layer.attention))
            x = _added(layer, x, layer.norm2, partial(self._cross, number=number, attention=layer.cross, seen=number == len(layers) - 1))
            x = _added(layer, x, layer.norm3, layer.ffn)
        self.position += 1
        return self.decoder.norm(x)

    def _self(self, y: Tensor, number: int, attention: MultiHeadAttention) -> Tensor:
        q, k, v = attention.projected(y)  # B h 1 d
        if number == len(self._kept):
            shape = (*k.shape[:2], self.length, k.shape[-1])
            self._kept.append((k.new_empty(shape), v.new_empty(shape)))
        keys, values = self._kept[number]
        keys[:, :, self.position], values[:, :, self.position] = k[:, :, 0], v[:, :, 0]
        upto = self.position + 1
        return _joined(attention, F.scaled_dot_product_attention(q, keys[:, :, :upto], values[:, :, :upto]))

    def _cross(self, y: Tensor, number: int, attention: MultiHeadAttention, seen: bool) -> Tensor:
        keys, values = self._memory[number]
        q = attention.query(y)
        if not seen:
            return _joined(attention, F.scaled_dot_product_attention(q, keys, values))
        weights = attention_weights(q, keys)  # B h 1 M
        self.looked = weights.mean(1)[:, 0]
        return _joined(attention, weights @ values)

    def select(self, index: Tensor) -> None:
        """Go on with these of the texts, in this order (some maybe several times): a beam's survivors, or those that have not ended."""
        self._memory = [(k[index], v[index]) for k, v in self._memory]
        self._kept = [(k[index], v[index]) for k, v in self._kept]


def _layers(decoder: Decoder) -> list[DecoderLayer]:
    return list(decoder.layers)  # type: ignore[arg-type]


def _added(layer: DecoderLayer, x: Tensor, norm: nn.Module, part: Callable[[Tensor], Tensor]) -> Tensor:
    """The sum of a part with its input, normalised where the layer does that; nothing is dropped, for this is no training."""
    return x + part(norm(x)) if layer.norm_first else norm(x + part(x))


def _joined(attention: MultiHeadAttention, y: Tensor) -> Tensor:
    """B h N d -> B N D, through W_O."""
    return attention.out_proj(y.transpose(1, 2).flatten(2))
