"""Average precision by PASCAL VOC: the whole area below the curve (2010 and later) and at eleven recalls (2007), at one overlap (Everingham 2010).

As the development kit has it: a detection belongs to the object of its class that it overlaps most, be it taken or not; it is right if that overlap
reaches 0.5 and nobody with a better score has found the object. Difficult objects (crowds too) need not be found, and finding them is neither right
nor wrong. Precision at a recall is the best one at that recall or beyond; the mean runs over the classes that have an object to find.
"""

from __future__ import annotations

import numpy as np

from cvtool.errors import UsageError
from cvtool.metrics._matching import mean
from cvtool.metrics._objects import Objects, Part
from cvtool.metrics._overlaps import Table
from cvtool.metrics._ranking import Ranking
from cvtool.metrics.iou import convert
from cvtool.metrics.iou import iou as box_iou

KIND = "objects"
ALIASES = ("pascal-voc",)
KEYS = {"VOC_AP": "average precision by VOC 2010, the whole area below the curve", "VOC_AP11": "average precision by VOC 2007, at eleven recalls"}
ELEVEN = np.arange(11) / 10  # 3 / 10 and not 0.30000000000000004, so that three of ten objects reach it


def of_objects(objects: Objects, *, iou: float = 0.5, inclusive: bool = False) -> Part:
    """iou: the overlap that is enough. inclusive: x + width and y + height are the last pixels of a box and not the first ones behind it."""
    if not 0 < iou <= 1:
        raise UsageError(f"--metric voc: iou is above 0 and at most 1, not {iou:g}")
    table = Table(objects)
    if inclusive and table.kind != "bbox":
        raise UsageError("--metric voc: inclusive has no effect on masks", hint="it is a convention for the corners of boxes")
    ranking = rank(table, iou, inclusive=inclusive)

    def values(weights: np.ndarray | None) -> dict[str, np.ndarray]:
        return {"VOC_AP": ranking.areas(weights)[0][:, 0], "VOC_AP11": ranking.areas(weights, levels=ELEVEN)[0][:, 0]}  # B K

    every = values(None)
    return Part(
        metrics={key: float(mean(rows)[0]) for key, rows in every.items()},
        per_class={name: {key: float(rows[0, k]) for key, rows in every.items()} for k, name in enumerate(table.names)},
        params={"voc": {"iou": iou, "inclusive": inclusive}},
        many=lambda weights: {key: mean(rows) for key, rows in values(weights).items()},
    )


def rank(table: Table, threshold: float, *, inclusive: bool = False) -> Ranking:
    """The devkit's rights and wrongs, one condition."""
    gt, dt = table.gt, table.dt
    spared = gt.difficult | gt.crowd
    right, wrong = np.zeros((1, len(dt)), bool), np.ones((1, len(dt)), bool)
    for picture in table.pictures():
        mine, theirs = picture.found, picture.true
        if not (len(mine) and len(theirs)):
            continue
        if inclusive:
            one, other = convert(dt.shapes[mine], "xywh", "xyxy"), convert(gt.shapes[theirs], "xywh", "xyxy")
            overlaps = box_iou(one[:, None], other[None], inclusive=True)
        else:
            overlaps = table.overlaps(mine, theirs)
        overlaps = np.where(dt.label[mine][:, None] == gt.label[theirs], overlaps, -1.0)
        best = overlaps.argmax(1)
        reached = overlaps[np.arange(len(mine)), best] >= threshold
        wrong[0, mine[reached & spared[theirs[best]]]] = False
        hits = np.flatnonzero(reached & ~spared[theirs[best]])
        first = mine[hits[np.unique(best[hits], return_index=True)[1]]]  # of each object the detection with the best score
        right[0, first], wrong[0, first] = True, False
    return Ranking(len(table.images), len(table.categories), dt.score, dt.image, dt.label, right, wrong, gt.image, gt.label, ~spared[None])
