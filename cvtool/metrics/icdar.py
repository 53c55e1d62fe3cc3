"""ICDAR 2015: text that is found (precision, recall, H-mean of quadrilaterals) and read, end to end (Karatzas 2015, doi:10.1109/ICDAR.2015.7333942).

The rules of the competition's own scripts: a region found more than half of which lies in one that need not be read (`###`) counts for nothing; the
others are paired in the order of the files, each true one with the first free one that it overlaps by more than the threshold. Read right is what is
paired and equals the true word but for capitals and a punctuation mark before or behind that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cvtool.errors import UsageError
from cvtool.metrics import _polygons

KIND = "text-boxes"
ALIASES = ("h-mean", "icdar2015", "end-to-end")
KEYS = {
    "precision": "of the regions found, those that overlap a true one by more than half",
    "recall": "of the true regions, those that are found",
    "hmean": "harmonic mean of both",
    "e2e_precision": "of the regions found, those that are also read right",
    "e2e_recall": "of the true regions, those that are found and read right",
    "e2e_hmean": "harmonic mean of both",
}
COVERED = 0.5  # of a region found: beyond it, it lies in one that need not be read
MARKS = "!?.:,*\"()·[]/'"


@dataclass
class Regions:
    """Of one picture: R polygons (each V 2), their texts (None: not read), which need not be found, and scores (nan: none)."""

    corners: list[np.ndarray] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    spared: list[bool] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


def counts(true: Regions, found: Regions, *, iou: float = 0.5, min_score: float = 0.0) -> tuple[np.ndarray, list[tuple[int, int]], set[int]]:
    """(4 whole numbers: regions to be found, regions found that count, paired, paired and read right; the pairs, positions of both; the found ones
    that do not count, because they lie in what need not be found or because of their score).

    iou: the overlap to exceed. min_score: found regions of a lower score are left out; those without a score stay. Raises UsageError.
    """
    if not 0 <= iou < 1:
        raise UsageError(f"--metric icdar: iou is at least 0 and below 1, not {iou:g}")
    kept = [i for i, score in enumerate(found.scores) if not score < min_score]
    mine, theirs = [np.abs(_polygons.area(one)) for one in true.corners], np.array([np.abs(_polygons.area(found.corners[i])) for i in kept])
    common = _polygons.shared(true.corners, [found.corners[i] for i in kept])
    inside = np.divide(common, theirs[None], out=np.zeros_like(common), where=theirs[None] > 0)
    union = np.array(mine)[:, None] + theirs[None] - common
    overlap = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    spared = np.array(true.spared, bool)
    free = ~(inside[spared] > COVERED).any(0)
    out = set(range(len(found.corners))) - {kept[j] for j in np.flatnonzero(free)}
    found_count, pairs, right = int(free.sum()), [], 0
    for i in np.flatnonzero(~spared):
        hits = np.flatnonzero(free & (overlap[i] > iou))
        if len(hits):
            free[hits[0]] = False
            pairs.append((int(i), kept[hits[0]]))
            right += _read_right(true.texts[i], found.texts[kept[hits[0]]])
    return np.array([(~spared).sum(), found_count, len(pairs), right], float), pairs, out


def _read_right(true: str | None, found: str | None) -> bool:
    """Whether both are the same word, capitals and a mark at either end of the true one aside."""
    if true is None or found is None:
        return False
    true, found = true.upper(), found.upper()
    forms = {true}
    if true[:1] and true[0] in MARKS:
        forms.add(true[1:])
    if true[-1:] and true[-1] in MARKS:
        forms.add(true[:-1])
        if len(true) > 1 and true[0] in MARKS:
            forms.add(true[1:-1])
    return found in forms


def figures(sums: np.ndarray, *, read: bool) -> dict[str, np.ndarray]:
    """... 4 sums of `counts` -> the metrics, nan without regions to be found, or found. read: with those of the texts."""
    there, said, paired, right = (sums[..., i] for i in range(4))
    out = {}
    for name, hits in [("", paired)] + ([("e2e_", right)] if read else []):
        for key, above, below in (("precision", hits, said), ("recall", hits, there), ("hmean", 2 * hits, there + said)):
            out[name + key] = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)
    return out
