"""Category tables: what a model's label indices mean. No torch, no numpy.

A model's `categories` is a list whose position is the label index. An entry is `{"id": int, "name": str}` (plus any COCO
key such as `supercategory` or `keypoints`), or None for an index that was never trained (the holes in COCO's numbering, the
background of a semantic map); such an index never leaves the program.
"""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

Category = dict
Categories = list  # of Category | None

_COCO_NAMES = (  # in the order of the ids 1..90; "-" where the data set skips an id
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, -, stop sign, parking meter, "
    "bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, -, backpack, umbrella, -, -, handbag, tie, suitcase, "
    "frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, -, wine "
    "glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, "
    "potted plant, bed, -, dining table, -, -, toilet, -, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, "
    "sink, refrigerator, -, book, clock, vase, scissors, teddy bear, hair drier, toothbrush"
).split(", ")
_VOC_NAMES = "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep sofa train tvmonitor"
COCO_KEYPOINTS = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_hip right_hip "
    "left_knee right_knee left_ankle right_ankle"
).split()  # fmt: skip
COCO_SKELETON = [[16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9], [8, 10], [9, 11], [2, 3], [1, 2],
                 [1, 3], [2, 4], [3, 5], [4, 6], [5, 7]]  # fmt: skip


def coco() -> Categories:
    """COCO's 80 categories at their original ids 1..90: 90 entries, index = id - 1, None where COCO skips an id."""
    return [None if name == "-" else {"id": i, "name": name} for i, name in enumerate(_COCO_NAMES, 1)]


def coco_91() -> Categories:
    """The same with a hole in front (index = id), as one-stage detectors trained with 91 outputs number them."""
    return [None, *coco()]


def coco_person() -> Categories:
    """COCO's one category with keypoints."""
    return [{"id": 1, "name": "person", "keypoints": COCO_KEYPOINTS, "skeleton": COCO_SKELETON}]


def voc() -> Categories:
    """Pascal VOC's 20 categories, ids 1..20, with the background as a hole in front (index = id)."""
    return [None, *({"id": i, "name": name} for i, name in enumerate(_VOC_NAMES.split(), 1))]


def cifar10() -> Categories:
    """CIFAR-10's ten classes, ids 0..9."""
    return [{"id": i, "name": name} for i, name in enumerate("airplane automobile bird cat deer dog frog horse ship truck".split())]


def imagenet() -> Categories:
    """ImageNet-1K's classes in the order of the outputs, ids 0..999, each with a name of its own: those of torchvision's weights."""
    return [{"id": i, "name": name} for i, name in enumerate(_imagenet_names())]


@cache
def _imagenet_names() -> list[str]:
    """Read from torchvision's file as text: importing it costs a second and a half."""
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None
    assert spec.submodule_search_locations
    text = Path(next(iter(spec.submodule_search_locations)), "models", "_meta.py").read_text(encoding="utf-8")
    return ast.literal_eval(text.partition("_IMAGENET_CATEGORIES = ")[2].partition("\n]\n")[0] + "]")


NAMED = {"cifar10": cifar10, "coco": coco, "coco-91": coco_91, "coco-person": coco_person, "imagenet": imagenet, "voc": voc}


def numbered(count: int) -> Categories:
    """`count` categories without names of their own, ids 1..count: what an untrained model has."""
    return [{"id": i, "name": f"class{i}"} for i in range(1, count + 1)]
