"""CTC read backwards: from the probabilities of each step to texts (Graves 2006, ICML; Hannun 2014, arXiv:1408.2873).

A path says one label a step. It comes to the text that is left once repeated labels are merged and then blanks removed: "hh-e-l-ll-oo" is "hello",
and without a blank between the two l there would be one. A text's probability is the sum over all its paths. The best path is the most probable one,
which is quick to find and need not come to the most probable text: where two steps say a with .4 and blank with .6 each, the best path is empty
(.36), but "a" has .16 + .24 + .24 = .64. Prefix beam search sums the paths of each text as it goes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cvtool.errors import UsageError
from cvtool.ops.lexicon import Lexicon

BLANK = 0  # the label of "no character here", which is another thing than a space; characters follow it
LEAST = 1e-5  # a label below this probability begins no new prefix


@dataclass(frozen=True)
class Answer:
    """A text, its probability (the sum over all paths that come to it), and of each character the highest probability among the steps that say it
    and the middle of those steps, counted from 0."""

    text: str
    score: float
    characters: NDArray[np.float32]
    steps: NDArray[np.float32]


def surprise(log_probs: Tensor, labels: Sequence[Tensor], steps: Tensor | None = None, *, impossible: float = torch.inf) -> Tensor:
    """-ln of each text's probability, B float32 (Graves 2006, eqs. 5 to 8, as torch computes it).

    log_probs: B T K float32, ln of each step's probabilities. labels: B texts, int64 each, without blanks. steps: B, how many of the T count (all
    where None). A text of L labels, R of which repeat the one before, takes L + R steps; one that has fewer is impossible: infinity, or 0
    (without a gradient) where `impossible` is 0.
    """
    if not len(labels):
        return log_probs.sum((1, 2))
    counts = torch.tensor([len(text) for text in labels], dtype=torch.int64)
    flat = torch.cat([*labels]).to(log_probs.device)
    taken = torch.full_like(counts, log_probs.shape[1]) if steps is None else steps.to("cpu", torch.int64)
    return F.ctc_loss(log_probs.transpose(0, 1), flat, taken, counts, blank=BLANK, reduction="none", zero_infinity=impossible == 0)


def collapsed(path: Sequence[int]) -> list[int]:
    """The labels that a path comes to: repeated ones merged, then blanks removed."""
    return [label for i, label in enumerate(path) if label != BLANK and (i == 0 or label != path[i - 1])]


def best_path(log_probs: Tensor, steps: Tensor) -> list[tuple[list[int], list[float], list[float]]]:
    """B T K and B -> of each the labels of its most probable path, collapsed, the highest probability that each has among its steps, and their
    middle."""
    highest, labels = log_probs.max(2)
    found = []
    for path, values, count in zip(labels.cpu().numpy(), highest.exp().cpu().numpy(), steps.tolist(), strict=True):
        path, values = path[:count], values[:count]
        begins = np.flatnonzero(np.diff(path, prepend=-1))  # runs of one label
        runs = path[begins]
        said = runs != BLANK
        tops = np.maximum.reduceat(values, begins) if count else values
        middles = (begins + np.append(begins[1:], count) - 1) / 2 if count else begins
        found.append((runs[said].tolist(), tops[said].tolist(), middles[said].tolist()))
    return found


def prefix_beam(log_probs: NDArray[np.float32], beam: int) -> list[tuple[tuple[int, ...], float]]:
    """T K -> the `beam` most probable texts that were kept, as (labels, ln of the probability), best first.

    Each prefix has two sums, over its paths that end in a blank and those that end in its last label: only the former may repeat that label. After
    each step the `beam` most probable prefixes stay, and new ones begin with the `beam` most probable labels alone.

    Raises UsageError for a beam below 1.
    """
    if beam < 1:
        raise UsageError(f"a beam of {beam} keeps nothing", hint="10 keeps the ten most probable texts")
    kept: dict[tuple[int, ...], tuple[float, float]] = {(): (1.0, 0.0)}
    scale = 0.0  # ln of what the sums were divided by, so that long lines do not come to 0
    for p in np.exp(np.asarray(log_probs, np.float64)):
        labels = 1 + (np.argpartition(-p[1:], beam)[:beam] if len(p) - 1 > beam else np.arange(len(p) - 1))
        likely = [(int(label), float(p[label])) for label in labels if p[label] >= LEAST]
        sums: defaultdict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for prefix, (blank, said) in kept.items():
            last = prefix[-1] if prefix else BLANK
            sums[prefix][0] += float(p[BLANK]) * (blank + said)
            if prefix:
                sums[prefix][1] += float(p[last]) * said
            for label, value in likely:
                sums[(*prefix, label)][1] += value * (blank if label == last else blank + said)
        best = sorted(sums.items(), key=lambda item: -sum(item[1]))[:beam]
        most = sum(best[0][1])
        if most <= 0:
            break
        scale += np.log(most)
        kept = {prefix: (blank / most, said / most) for prefix, (blank, said) in best}
    texts = sorted(((prefix, sum(both)) for prefix, both in kept.items()), key=lambda item: -item[1])
    return [(prefix, float(np.log(value) + scale)) for prefix, value in texts if value > 0]


def aligned(log_probs: NDArray[np.float32], labels: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """T K and L labels -> of each, L and L, the highest probability among the steps that say it on the most probable path of this text, and the
    middle of those steps."""
    if not labels:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    states = np.full(2 * len(labels) + 1, BLANK)
    states[1::2] = labels
    skips = np.zeros(len(states), bool)  # a blank may be left out between different labels
    skips[3::2] = states[3::2] != states[1:-2:2]
    seen = np.asarray(log_probs)[:, states]  # T S
    at = np.full(len(states), -np.inf)
    at[:2] = seen[0, :2]
    came = np.zeros(seen.shape, np.int64)
    for t in range(1, len(seen)):
        one, two = np.full_like(at, -np.inf), np.full_like(at, -np.inf)
        one[1:], two[2:] = at[:-1], np.where(skips[2:], at[:-2], -np.inf)
        ways = np.stack([at, one, two])
        came[t] = ways.argmax(0)
        at = ways.max(0) + seen[t]
    state = len(states) - 1 if at[-1] > at[-2] else len(states) - 2
    found = np.full(len(labels), -np.inf)
    first, last = np.zeros(len(labels)), np.full(len(labels), -1)
    for t in range(len(seen) - 1, -1, -1):
        if state % 2:
            i = state // 2
            found[i] = max(found[i], seen[t, state])
            first[i], last[i] = t, max(last[i], t)
        state = max(0, state - int(came[t, state]))
    return np.exp(found).astype(np.float32), ((first + last) / 2).astype(np.float32)


def read(log_probs: Tensor, steps: Tensor, charset: str, *, beam: int | None = None, lexicon: Lexicon | None = None) -> list[Answer]:
    """B T K and B -> what stands in each, label 1 being the first of `charset`: by the best path, by prefix beam search of that width (from 2 on), or
    the most probable word of a lexicon. Raises UsageError for a beam together with a lexicon, which needs none.
    """
    if lexicon is not None:
        if beam is not None:
            raise UsageError("--beam has no effect beside --dictionary, all of whose words are weighed")
        return [_of_lexicon(values, lexicon) for values in _each(log_probs, steps)]
    if beam in (None, 1):
        read = best_path(log_probs, steps)
    else:
        read = []
        for values in _each(log_probs, steps):
            labels = list(prefix_beam(values, beam)[0][0])
            tops, middles = aligned(values, labels)
            read.append((labels, tops.tolist(), middles.tolist()))
    scores = (-surprise(log_probs, [torch.tensor(labels, dtype=torch.int64) for labels, _, _ in read], steps)).exp().clamp(0, 1).tolist()
    return [
        Answer("".join(charset[label - 1] for label in labels), score, np.array(characters, np.float32), np.array(middles, np.float32))
        for (labels, characters, middles), score in zip(read, scores, strict=True)
    ]


def _each(log_probs: Tensor, steps: Tensor) -> Iterator[NDArray[np.float32]]:
    for values, count in zip(log_probs.float().cpu().numpy(), steps.tolist(), strict=True):
        yield values[:count]


def _of_lexicon(log_probs: NDArray[np.float32], lexicon: Lexicon) -> Answer:
    folded = lexicon.folded(np.exp(log_probs))
    words, probability = lexicon.best(folded)
    word = words[0]
    if len(words) > 1:  # spellings that differ in case alone
        values = torch.from_numpy(log_probs)[None]
        costs = [float(surprise(values, [torch.tensor(lexicon.labels(i), dtype=torch.int64)])) for i in words]
        word = words[int(np.argmin(costs))]
    with np.errstate(divide="ignore"):
        characters, middles = aligned(np.log(folded), lexicon.folded_labels(word))
    return Answer(lexicon.words[word], probability, characters, middles)
