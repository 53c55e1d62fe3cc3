"""A language model of words that fills each place from all the others: ABINet's bidirectional cloze network, and how it learns from words alone.

Each layer's queries go from place to place of the word (their codes first, then the layer before), its keys and values are always the characters as
they are given; a mask on the diagonal hides from place i the character that stands there (Fang 2021, arXiv:2103.06495, eq. 2). There is no attention
among the queries, through which it might come back: in every layer place i knows the other characters and not its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cvtool.layers.attention import MultiHeadAttention
from cvtool.layers.positional import Sinusoidal
from cvtool.layers.transformer import FeedForward

WRONG = 0.15  # the share of characters that `misspelled` changes
LOSING, ADDING = 0.15, 0.15  # of the changes: a character lost, one too many; the others are exchanged


class ClozeLayer(nn.Module):
    """Attention from places to characters, then the feed-forward part, both residual and normalised before: B T D, B T D -> B T D."""

    def __init__(self, channels: int, heads: int, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = MultiHeadAttention(channels, heads, dropout=dropout)
        self.ffn = FeedForward(channels, hidden, activation="relu", dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, characters: Tensor, mask: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x), characters, mask=mask))
        return x + self.dropout(self.ffn(self.norm2(x)))


class ClozeNetwork(nn.Module):
    """BCN. forward: the probabilities of the characters (and the end mark) at each place, B T C, and how many places count, B, end mark included ->
    features B T D; `head` makes logits of them."""

    def __init__(self, classes: int, channels: int, heads: int, hidden: int, layers: int, *, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Linear(classes, channels, bias=False)
        self.positions = Sinusoidal(channels)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(ClozeLayer(channels, heads, hidden, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, classes)

    def forward(self, chances: Tensor, lengths: Tensor) -> Tensor:
        characters = self.dropout(self.positions(self.embedding(chances)))
        x = self.positions(torch.zeros_like(characters))
        mask = cloze_mask(chances.shape[1], lengths)
        for layer in self.layers:
            x = layer(x, characters, mask)
        return self.norm(x)


def cloze_mask(places: int, lengths: Tensor) -> Tensor:
    """B 1 T T bool, True where place i may look: at every place of the word but i itself. lengths: B; of 1, 2 count, for i must look at one."""
    at = torch.arange(places, device=lengths.device)
    return (at[:, None] != at) & (at < lengths.clamp(min=2)[:, None, None, None])


def lengths_of(chances: Tensor, end: int) -> Tensor:
    """B T C -> B: up to the first place where the end mark is the likeliest, that included; all T where there is none."""
    ends = chances.argmax(-1) == end
    return torch.where(ends.any(1), ends.int().argmax(1) + 1, chances.shape[1])


def as_chances(words: Sequence[Sequence[int]], places: int, classes: int, end: int) -> Tensor:
    """Words of labels -> B T C, 1 at their characters and at the end marks, which fill each up; what is longer than T - 1 is cut."""
    rows = torch.full((len(words), places), end)
    for row, word in zip(rows, words, strict=True):
        cut = torch.as_tensor(list(word[: places - 1]), dtype=torch.int64)
        row[: len(cut)] = cut
    return nn.functional.one_hot(rows, classes).float()


def misspelled(words: Sequence[Sequence[int]], characters: int, rng: np.random.Generator, *, wrong: float = WRONG) -> list[list[int]]:
    """The same words of labels in 0..characters-1 with mistakes, as a reader makes them: most exchange a character, some lose or add one."""
    out = []
    for word in words:
        new: list[int] = []
        for label, chance, kind, other in zip(
            word, rng.random(len(word)), rng.random(len(word)), rng.integers(characters, size=len(word)), strict=True
        ):
            if chance >= wrong:
                new.append(label)
            elif kind >= LOSING:
                new += [int(other), label] if kind >= 1 - ADDING else [int(other)]
        out.append(new)
    return out
