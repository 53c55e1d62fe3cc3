"""CrowdPose: keypoint AP of 14 body points in crowds, in all and in easy, medium and hard pictures (Li 2019, arXiv:1812.00324, section 5).

COCO's object keypoint similarity and matching with CrowdPose's own points and fall-off constants. The data set has no areas: 0.53 of
an annotation's box stands in, as in the authors' evaluation. `crowdIndex`, a key of an image, says how crowded it is: below 0.2 easy, below 0.8
medium, else hard.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from cvtool.errors import InputError, UsageError
from cvtool.metrics._matching import THRESHOLDS, average, match, mean
from cvtool.metrics._objects import Objects, Part
from cvtool.metrics._ranking import Ranking

KIND = "objects"
ALIASES = ("crowd-keypoints",)
KEYS = {
    "crowd_AP": "keypoint AP, similarity 0.50 to 0.95, the best 20 of an image",
    "crowd_AP50": "the same at similarity 0.5",
    "crowd_AP75": "the same at similarity 0.75",
    "crowd_AR": "keypoint recall, similarity 0.50 to 0.95",
    "crowd_AR50": "the same at similarity 0.5",
    "crowd_AR75": "the same at similarity 0.75",
    "crowd_AP_easy": "keypoint AP of pictures with a crowd index below 0.2",
    "crowd_AP_medium": "keypoint AP of pictures with a crowd index from 0.2 to 0.8",
    "crowd_AP_hard": "keypoint AP of pictures with a crowd index of 0.8 and more",
}
# shoulders, elbows, wrists, hips, knees, ankles (left, right), head, neck; tenths of what COCO prints
SIGMAS = np.array([0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79]) / 10
LIMIT = 20
PART = 0.53  # of a box's area, in the place of the person's
EDGES = {"easy": (-np.inf, 0.2), "medium": (0.2, 0.8), "hard": (0.8, np.inf)}


def similarity(found: np.ndarray, truth: dict[str, Any]) -> np.ndarray:
    """Object keypoint similarity of poses d 42 (x, y, v) with one annotation, d in [0, 1]; without a visible point, by how far they leave its box."""
    points = np.asarray(truth["keypoints"], np.float64)
    visible = points[2::3] > 0
    x, y, width, height = truth["bbox"]
    xs, ys = found[:, 0::3], found[:, 1::3]
    if visible.any():
        dx, dy = xs - points[0::3], ys - points[1::3]
    else:  # inside of twice the box nothing is lost
        dx = np.maximum(0, x - width - xs) + np.maximum(0, xs - (x + 2 * width))
        dy = np.maximum(0, y - height - ys) + np.maximum(0, ys - (y + 2 * height))
        visible = np.ones(len(SIGMAS), bool)
    errors = (dx**2 + dy**2) / (2 * SIGMAS) ** 2 / (PART * width * height + np.spacing(1)) / 2
    return np.exp(-errors[:, visible]).mean(1)


def of_objects(objects: Objects) -> Part:
    """The keys above; nan where there is nothing to measure. Raises UsageError and InputError."""
    if objects.iou_type != "keypoints":
        raise UsageError("--metric crowdpose compares keypoints", hint="--iou-type keypoints")
    objects = objects.as_dicts()
    _check(objects)
    images = [image["id"] for image in objects.document["images"]]
    ranking = _ranking(objects, {number: i for i, number in enumerate(images)})
    indices = np.array([float(image.get("crowdIndex", np.nan)) for image in objects.document["images"]])
    groups = {name: (indices >= low) & (indices < high) for name, (low, high) in EDGES.items()}
    half, most = (int(np.flatnonzero(np.isclose(THRESHOLDS, t))[0]) for t in (0.5, 0.75))

    def many(weights: np.ndarray) -> dict[str, np.ndarray]:
        precision, recall = average(ranking, weights, {"all": (0.0, 1e10)})  # B 1 T K
        out: dict[str, np.ndarray] = {}
        for name, cells in (("AP", precision), ("AR", recall)):
            out |= {f"crowd_{name}": mean(cells), f"crowd_{name}50": mean(cells[:, :, half]), f"crowd_{name}75": mean(cells[:, :, most])}
        for name, inside in groups.items():
            out[f"crowd_AP_{name}"] = mean(average(ranking, weights * inside, {"all": (0.0, 1e10)})[0])
        return out

    values = {key: float(row[0]) for key, row in many(np.ones((1, len(images)))).items()}
    warnings = [] if np.isfinite(indices).any() else ["no image has a crowdIndex: easy, medium and hard are not told apart"]
    params = {"crowdpose": {"max_det": LIMIT, "sigmas": SIGMAS.tolist(), "area_of_box": PART}}
    return Part(metrics={key: values[key] for key in KEYS}, params=params, warnings=warnings, many=many)


def _check(objects: Objects) -> None:
    for what, entries in (("an annotation", objects.document["annotations"]), ("a detection", objects.results)):
        for entry in entries:
            if (count := len(entry["keypoints"]) // 3) != len(SIGMAS):
                raise InputError(f"CrowdPose has {len(SIGMAS)} body points, and {what} has {count}", hint="COCO's 17 are measured without --metric")
            if what == "an annotation" and "bbox" not in entry:
                raise InputError("an annotation without bbox: its area cannot be told")


def _ranking(objects: Objects, place: dict[int, int]) -> Ranking:
    """Rights and wrongs at each threshold, pictures one by one."""
    classes = {c["id"]: k for k, c in enumerate(objects.document["categories"])}
    chosen = set(classes) if objects.category_ids is None else set(objects.category_ids)
    truth = [entry for entry in objects.document["annotations"] if entry["category_id"] in chosen]
    found = [entry for entry in objects.results if entry["category_id"] in chosen]
    score = np.array([entry["score"] for entry in found], np.float64)
    ignored = np.array([bool(e.get("iscrowd")) or not any(v > 0 for v in e["keypoints"][2::3]) for e in truth], bool)
    crowd = np.array([bool(entry.get("iscrowd")) for entry in truth], bool)
    right = np.zeros((len(THRESHOLDS), len(found)), bool)
    wrong = np.zeros_like(right)
    groups: dict[tuple[int, int], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for side, entries in enumerate((found, truth)):
        for i, entry in enumerate(entries):
            groups[entry["image_id"], entry["category_id"]][side].append(i)
    for listed, theirs in groups.values():
        mine = np.array(sorted(listed, key=lambda i: -score[i])[:LIMIT], int)
        if not len(mine):
            continue
        poses = np.array([found[i]["keypoints"] for i in mine], np.float64)
        overlaps = np.stack([similarity(poses, truth[j]) for j in theirs], 1) if theirs else np.zeros((len(mine), 0))
        matched = match(overlaps, THRESHOLDS, ignored[theirs], crowd[theirs])
        hit = matched >= 0
        spared = np.where(hit, ignored[theirs][matched], False) if theirs else np.zeros_like(hit)
        right[:, mine], wrong[:, mine] = hit & ~spared, ~hit
    (image, label), (object_image, object_label) = (
        (np.array([place[e["image_id"]] for e in side], int), np.array([classes[e["category_id"]] for e in side], int)) for side in (found, truth)
    )
    counted = np.repeat(~ignored[None], len(THRESHOLDS), 0)
    return Ranking(len(place), len(classes), score, image, label, right, wrong, object_image, object_label, counted)
