"""Texts that are written character by character: greedily, with a beam, or along the words of a dictionary. All words of a batch at once.

`steps` is a decoder in the middle of its work: called with the latest label of each text (N int64) it gives the next one's logits (N C),
`select(index)` makes it go on with some of the texts, and `looked` (N M) says where it looked last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from cvtool.models.ocr._dictionary import Dictionary
from cvtool.ops.prefix_tree import Tree

COMPACT = 0.75  # of the texts still being written: below it the others are dropped from the computation


class Steps(Protocol):
    looked: Any

    def __call__(self, tokens: Tensor) -> Tensor: ...
    def select(self, index: Tensor) -> None: ...


@dataclass
class Answer:
    """labels: L, without the end mark. characters: L float32, the probability of each. score: that of all and the end mark.

    looked: L M, where asked for.
    """

    labels: list[int]
    characters: Tensor
    score: float
    looked: Tensor | None = None


def greedy(steps: Steps, count: int, start: int, end: int, may: Tensor, longest: int, *, looking: bool = False) -> list[Answer]:
    """The likeliest character each time, until `end` or `longest` characters. may: C bool, what can come out; probabilities are shares of it."""
    device = may.device
    labels = torch.full((count, longest + 1), end, device=device)
    chances = torch.ones(count, longest + 1, device=device)
    seen: list[Tensor] = []
    rows = torch.arange(count, device=device)  # of the texts that the decoder still works on
    tokens = torch.full((count,), start, device=device)
    alive = torch.ones(count, dtype=torch.bool, device=device)
    for i in range(longest + 1):
        chance = steps(tokens).float().masked_fill(~may, -math.inf).softmax(-1)
        best, tokens = (chance[:, end], torch.full_like(tokens, end)) if i == longest else chance.max(-1)
        labels[rows[alive], i], chances[rows[alive], i] = tokens[alive], best[alive]
        if looking:
            seen.append(torch.zeros(count, steps.looked.shape[1], device=device).index_copy(0, rows, steps.looked.float()))
        alive = alive & (tokens != end)
        left = int(alive.sum())
        if not left:
            break
        if left < COMPACT * len(alive):
            index = alive.nonzero()[:, 0]
            steps.select(index)
            rows, tokens, alive = rows[index], tokens[index], alive[index]
    looked = torch.stack(seen, 1) if seen else None
    return [_answer(labels[n], chances[n], end, None if looked is None else looked[n]) for n in range(count)]


def _answer(labels: Tensor, chances: Tensor, end: int, looked: Tensor | None) -> Answer:
    """One text's labels and probabilities, end mark and what follows included."""
    own = labels.tolist()
    length = own.index(end) if end in own else len(own)
    score = float(chances[: length + 1].double().prod())
    return Answer(own[:length], chances[:length].cpu(), score, None if looked is None else looked[:length].cpu())


def beam_search(
    steps: Steps, count: int, start: int, end: int, may: Tensor, longest: int, *, beam: int, words: Dictionary | None = None, looking: bool = False
) -> list[Answer]:
    """The likeliest whole text, as far as the `beam` likeliest beginnings at each length lead to it; one of `words` where they are given.

    A text's probability is the product of its characters' and the end mark's, and only falls as it grows: once the best is complete, none passes it.
    """
    device = may.device
    scores = torch.full((count, beam), -math.inf, device=device)
    scores[:, 0] = 0.0  # all begin alike, so one is enough
    labels = torch.full((count, beam, longest + 1), end, device=device)
    chances = torch.ones(count, beam, longest + 1, device=device)
    done = torch.zeros(count, beam, dtype=torch.bool, device=device)
    nodes = [Tree.root] * (count * beam)
    seen: Tensor | None = None
    first = torch.arange(count, device=device)[:, None] * beam  # where each picture's candidates lie
    steps.select(torch.arange(count, device=device).repeat_interleave(beam))
    tokens = torch.full((count * beam,), start, device=device)
    for i in range(longest + 1):
        told = steps(tokens).float().masked_fill(~may, -math.inf).log_softmax(-1).view(count, beam, -1)  # n k C
        if i == longest:
            told[..., :end], told[..., end + 1 :] = -math.inf, -math.inf
        if words is not None:
            told = told.masked_fill(~words.masks(nodes).to(device).view_as(told), -math.inf)
        told = told.masked_fill(done[..., None], -math.inf)
        told[..., end] = told[..., end].masked_fill(done, 0.0)  # what is complete stays as it is
        found, place = (scores[..., None] + told).flatten(1).topk(beam, 1)
        parent, tokens2 = place // told.shape[-1], place % told.shape[-1]  # n k
        chance = told.exp().flatten(1).gather(1, place)
        scores, index = found, (first + parent).flatten()
        steps.select(index)
        labels, chances, done = (x.flatten(0, 1)[index].view_as(x) for x in (labels, chances, done))
        labels[..., i], chances[..., i] = tokens2, chance
        if looking:
            now = steps.looked.float().view(count, beam, 1, -1)
            seen = now if seen is None else torch.cat([seen, now], 2)
            seen = seen.flatten(0, 1)[index].view_as(seen)
        if words is not None:
            nodes = [words.child(nodes[j], token) for j, token in zip(index.tolist(), tokens2.flatten().tolist(), strict=True)]
        done, tokens = done | (tokens2 == end), tokens2.flatten()
        if bool(done[:, 0].all()):
            break
    return [_answer(labels[n, 0], chances[n, 0], end, None if seen is None else seen[n, 0]) for n in range(count)]
