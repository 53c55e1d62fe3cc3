"""Why average precision is lost: six kinds of error, and how much each of them costs (Bolya 2020, arXiv:2008.08115).

Every detection that is not right is of one kind, asked in this order: Loc, an object of its class overlapped by at least 0.1 but not enough; Cls, an
object of another class overlapped enough; Dupe, an object of its class that a better detection has found; Bkg, nothing overlapped by more than 0.1;
else Both. Miss are the objects that no detection found and no mended Cls or Loc would. dAP is what average precision at overlap 0.5 gains if all
errors of a kind are mended, each by itself: a Cls or Loc becomes right if it is the best claim to a free object and goes away otherwise; Dupe, Bkg
and Both go away; Miss objects are no longer asked for. dAP_FP: all wrong detections rank last; dAP_FN: no object that was not found is asked for.
These gains do not add up to what is missing to 1. The numbers are tidecv's: the best 100 detections of an image over all classes; a class that was
found and does not occur counts 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvtool.errors import UsageError
from cvtool.metrics import _detection_errors
from cvtool.metrics._matching import mean
from cvtool.metrics._objects import Objects, Part
from cvtool.metrics._overlaps import Table
from cvtool.metrics._ranking import Ranking

KIND = "objects"
ALIASES = ("error-types",)
KEYS = {
    "TIDE_AP": "average precision at overlap 0.5 of the best 100 detections of an image",
    "dAP_Cls": "average precision lost by wrong classes",
    "dAP_Loc": "average precision lost by boxes or masks that do not fit well enough",
    "dAP_Both": "average precision lost by both at once",
    "dAP_Dupe": "average precision lost by second detections of one object",
    "dAP_Bkg": "average precision lost by detections of nothing",
    "dAP_Miss": "average precision lost by objects that no detection is near",
    "dAP_FP": "average precision lost by all wrong detections",
    "dAP_FN": "average precision lost by all objects not found",
}
LOWER = ("dAP_Cls", "dAP_Loc", "dAP_Both", "dAP_Dupe", "dAP_Bkg", "dAP_Miss", "dAP_FP", "dAP_FN")
TYPES = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
CLS, LOC, BOTH, DUPE, BKG = range(5)
LEVELS = np.arange(101) / 100


@dataclass
class Verdicts:
    """Of D detections and G objects. state: 1 right, 0 wrong, -1 ignored, -2 beyond the limit. kind: of error, -1 for none. mended: the object that a
    Cls or Loc finds once it is mended, -1 for none. counted: objects to be found; used: found; claimed: would be, by a mended detection."""

    state: np.ndarray  # D int
    kind: np.ndarray  # D int
    mended: np.ndarray  # D int
    counted: np.ndarray  # G bool
    used: np.ndarray  # G bool
    claimed: np.ndarray  # G bool


def of_objects(objects: Objects, *, iou: float = 0.5, background: float = 0.1, max_det: int = 100) -> Part:
    """iou: the overlap that is enough. background: the overlap above which a detection is not of nothing. max_det: detections an image."""
    if not 0 < background < iou <= 1:
        raise UsageError(f"--metric tide: 0 < background < iou <= 1 is needed, not background={background:g}, iou={iou:g}")
    table = Table(objects)
    verdicts = judge(table, iou, background, max_det)
    runs = {key: _run(table, verdicts, key) for key in ("", *TYPES, "FP", "FN")}

    def many(weights: np.ndarray) -> dict[str, np.ndarray]:
        whole = {key: mean(_of_classes(run, weights)) for key, run in runs.items()}
        gains = {f"dAP_{key}": np.maximum(whole[key] - whole[""], 0) for key in TYPES}  # losses there are artefacts of the 101 steps
        return {"TIDE_AP": whole[""], **gains, **{f"dAP_{key}": whole[key] - whole[""] for key in ("FP", "FN")}}

    missed = verdicts.counted & ~verdicts.used & ~verdicts.claimed
    counts = {name: int((verdicts.kind == i).sum()) for i, name in enumerate(TYPES[:-1])} | {"Miss": int(missed.sum())}
    single = _of_classes(runs[""], np.ones((1, len(table.images))))[0]
    rows = {name: {"TIDE_AP": float(single[k])} | _counts(table, verdicts, missed, k) for k, name in enumerate(table.names)}
    return Part(
        metrics={key: float(value[0]) for key, value in many(np.ones((1, len(table.images)))).items()},
        per_class=rows,
        params={"tide": {"iou": iou, "background": background, "max_det": max_det}},
        extra={"tide": {"counts": counts, **_detection_errors.analysis(table, verdicts, missed, TYPES)}},
        many=many,
        per_image=lambda: _per_image(table, verdicts),
    )


def judge(table: Table, enough: float, background: float, limit: int) -> Verdicts:
    """Every detection's verdict."""
    gt, dt = table.gt, table.dt
    spared = gt.crowd | gt.difficult
    state, kind, mended = np.full(len(dt), -2), np.full(len(dt), -1), np.full(len(dt), -1)
    used, claimed = np.zeros(len(gt), bool), np.zeros(len(gt), bool)
    for picture in table.pictures():
        mine = picture.found[:limit]
        real, ignored = picture.true[~spared[picture.true]], picture.true[spared[picture.true]]
        state[mine] = 0
        same = dt.label[mine][:, None] == gt.label[real]
        overlaps = table.overlaps(mine, real)
        own = overlaps * same  # d g
        free = own.copy()
        for i in np.flatnonzero(own.max(1, initial=0.0) >= enough):
            if free[i, best := free[i].argmax()] >= enough:
                state[mine[i]], used[real[best]] = 1, True
                free[:, best] = 0
        if len(ignored):
            inside = table.overlaps(mine, ignored, np.ones(len(ignored), bool)) > enough
            inside &= dt.label[mine][:, None] == gt.label[ignored]
            state[mine[(state[mine] == 0) & inside.any(1)]] = -1
        wrong = np.flatnonzero(state[mine] != 1)
        if not len(real):
            kind[mine[wrong]] = BKG
            continue
        other, taken = overlaps * ~same, own * used[real]
        kinds, target = _kinds(overlaps[wrong], own[wrong], other[wrong], taken[wrong], enough, background)
        kind[mine[wrong]] = kinds
        for i, goal in zip(wrong, target, strict=True):
            if goal >= 0 and not used[real[goal]] and not claimed[real[goal]]:
                mended[mine[i]], claimed[real[goal]] = real[goal], True
    return Verdicts(state, kind, mended, ~spared, used, claimed)


def _kinds(every: np.ndarray, own: np.ndarray, other: np.ndarray, taken: np.ndarray, enough: float, low: float) -> tuple[np.ndarray, np.ndarray]:
    """(kind, the object in question or -1) of w wrong detections; w g overlaps: all, with its class, with others, with its class where taken."""
    near, across = own.max(1), other.max(1)
    tests = [(near >= low) & (near <= enough), across >= enough, taken.max(1) >= enough, every.max(1) <= low]
    kinds = np.select(tests, [LOC, CLS, DUPE, BKG], BOTH)
    return kinds, np.select([kinds == LOC, kinds == CLS], [own.argmax(1), other.argmax(1)], -1)


def _run(table: Table, verdicts: Verdicts, mend: str) -> Ranking:
    """The ranking with one kind of error mended ("" for none), one condition.

    Where something is mended, wrong detections come before right ones of the same score, as in tidecv.
    """
    gt, dt = table.gt, table.dt
    right, wrong = verdicts.state == 1, verdicts.state == 0
    score, label, counted = dt.score, dt.label.copy(), verdicts.counted
    order = np.arange(len(dt)) if not mend else np.argsort(right, kind="stable")
    if mend in TYPES[:-1]:
        faulty = verdicts.kind == TYPES.index(mend)
        saved = faulty & (verdicts.mended >= 0)
        right, wrong = right | saved, wrong & ~faulty
        label[saved] = gt.label[verdicts.mended[saved]]
    elif mend == "Miss":
        counted = counted & (verdicts.used | verdicts.claimed)
    elif mend == "FP":
        score = right.astype(float)
    elif mend == "FN":
        counted = counted & verdicts.used
    images, classes = len(table.images), len(table.categories)
    flags = right[None, order], wrong[None, order]
    return Ranking(images, classes, score[order], dt.image[order], label[order], *flags, gt.image, gt.label, counted[None])


def _of_classes(run: Ranking, weights: np.ndarray) -> np.ndarray:
    """B K average precisions: 0 for a class that was found and does not occur, nan for one that is neither."""
    area, _, totals = run.areas(weights, levels=LEVELS)
    shown = weights[:, run.image] * (run.right[0] | run.wrong[0])
    points = np.stack([np.bincount(run.label, row, run.classes) for row in shown]) if run.classes else np.zeros((len(weights), 0))
    return np.where(totals[:, 0] > 0, area[:, 0], np.where(points > 0, 0.0, np.nan))


def _counts(table: Table, verdicts: Verdicts, missed: np.ndarray, k: int) -> dict[str, int]:
    mine = verdicts.kind[table.dt.label == k]
    return {name: int((mine == i).sum()) for i, name in enumerate(TYPES[:-1])} | {"Miss": int(missed[table.gt.label == k].sum())}


def _per_image(table: Table, verdicts: Verdicts) -> dict[str, np.ndarray]:
    """F1 of each image at overlap 0.5 over all its detections, nan without any and without objects."""
    n = len(table.images)
    right, wrong = (np.bincount(table.dt.image, verdicts.state == state, n) for state in (1, 0))
    below = right + wrong + np.bincount(table.gt.image, verdicts.counted, n)
    return {"TIDE_AP": np.divide(2 * right, below, out=np.full(n, np.nan), where=below > 0)}
