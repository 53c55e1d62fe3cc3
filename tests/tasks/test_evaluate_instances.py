"""Instances of label maps: the contest's precision against a plain loop, average precision against COCO's, and what is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cvtool.annotations import rle
from cvtool.errors import CvtoolError, InputError, UsageError
from cvtool.metrics import instance_ap
from cvtool.metrics.coco import score as coco_score
from cvtool.tasks.evaluate import evaluate

THRESHOLDS = [0.5 + 0.05 * k for k in range(10)]


def made(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A map of squares, and one in which they are moved, dropped, joined; numbers beyond a byte."""
    draw = np.random.default_rng(seed)
    true, found = np.zeros((64, 80), np.uint16), np.zeros((64, 80), np.uint16)
    for n in range(12):
        y, x = 16 * (n // 4) + 4, 20 * (n % 4) + 4
        true[y : y + 10, x : x + 12] = 300 + n
        if draw.random() < 0.8:
            v, u = y + int(draw.integers(0, 4)), x + int(draw.integers(0, 4))
            found[v : v + 10, u : u + 12] = 5 + n
    found[60:63, :9] = 999
    return found, true


def reference(found: np.ndarray, true: np.ndarray) -> list[float]:
    """right / (right + wrong + missed) at each threshold."""
    mine, theirs = ([key for key in np.unique(side) if key] for side in (found, true))
    overlaps = {}
    for a in mine:
        for b in theirs:
            both = ((found == a) & (true == b)).sum()
            if both:
                overlaps[a, b] = both / ((found == a) | (true == b)).sum()
    rows = []
    for t in THRESHOLDS:
        taken: set = set()
        right = 0
        for (a, b), value in sorted(overlaps.items(), key=lambda item: -item[1]):
            if value >= t - 1e-12 and ("a", a) not in taken and ("b", b) not in taken:
                taken |= {("a", a), ("b", b)}
                right += 1
        rows.append(right / (len(mine) + len(theirs) - right))
    return rows


def write(folder: Path, maps: list[np.ndarray], *, pictures: bool = False) -> Path:
    place = folder / "labels" if pictures else folder
    place.mkdir(parents=True)
    if pictures:
        (folder / "images").mkdir()
    for n, values in enumerate(maps):
        Image.fromarray(values).save(place / f"{n}.png")
        if pictures:
            Image.fromarray(np.zeros((*values.shape, 3), np.uint8)).save(folder / "images" / f"{n}.png")
    return folder


def test_the_contests_precision_is_that_of_a_plain_loop(tmp_path: Path) -> None:
    pairs = [made(seed) for seed in range(4)]
    pairs.append((np.zeros((64, 80), np.uint16), np.zeros((64, 80), np.uint16)))  # nothing there, nothing found: right
    gt = write(tmp_path / "gt", [true for _, true in pairs], pictures=True)
    dt = write(tmp_path / "dt", [found for found, _ in pairs])
    report = evaluate(gt, dt, metrics="instance-ap")
    rows = np.array([reference(found, true) for found, true in pairs[:4]] + [[1.0] * 10])
    assert report["metrics"]["mean_precision"] == pytest.approx(rows.mean())
    assert report["metrics"]["precision_50"] == pytest.approx(rows[:, 0].mean())
    assert report["metrics"]["precision_75"] == pytest.approx(rows[:, 5].mean())
    assert report["task"] == "instances"
    assert "AP" not in report["metrics"]
    assert any("no scores: AP is not measured" in line for line in report["warnings"])
    assert evaluate(write(tmp_path / "bare", [true for _, true in pairs]), dt, metrics="dsb")["metrics"] == report["metrics"]
    with pytest.raises(UsageError, match="--min-score has no effect"):
        evaluate(gt, dt, metrics="instance-ap", min_score=0.5)


def records(maps: list[np.ndarray], scores: list[list[float]] | None = None) -> str:
    lines = []
    for n, values in enumerate(maps):
        keys = [key for key in np.unique(values) if key]
        entries: list[dict[str, Any]] = [{"category_id": 1, "segmentation": rle(values == key)[0]} for key in keys]
        for i, entry in enumerate(entries):
            if scores is not None:
                entry["score"] = scores[n][i]
        lines.append(json.dumps({"file_name": f"{n}.png", "width": values.shape[1], "height": values.shape[0], "annotations": entries}))
    return "\n".join(lines)


def test_masks_with_scores_have_average_precision_too(tmp_path: Path) -> None:
    pairs = [made(seed) for seed in range(4)]
    draw = np.random.default_rng(0)
    scores = [draw.random(len(np.unique(found)) - 1).tolist() for found, _ in pairs]
    gt = write(tmp_path / "gt", [true for _, true in pairs])
    dt = tmp_path / "dt.jsonl"
    dt.write_text(records([found for found, _ in pairs], scores))
    report = evaluate(gt, dt, metrics="instance-ap", interval=0.9, resamples=10)
    truths, results = [], []
    for n, (found, true) in enumerate(pairs, 1):
        for key in np.unique(true)[1:]:
            code, area = rle(true == key)
            truths.append(
                {"id": len(truths) + 1, "image_id": n, "category_id": 1, "segmentation": code, "area": area, "iscrowd": 0, "bbox": [0, 0, 1, 1]}
            )
        for i, key in enumerate(np.unique(found)[1:]):
            results.append({"image_id": n, "category_id": 1, "segmentation": rle(found == key)[0], "score": scores[n - 1][i]})
    images = [{"id": n, "height": 64, "width": 80} for n in range(1, 5)]
    known = coco_score({"images": images, "annotations": truths, "categories": [{"id": 1, "name": "o"}]}, results, "segm").summary()
    assert report["metrics"]["AP"] == pytest.approx(known["AP"])
    assert report["metrics"]["AP50"] == pytest.approx(known["AP50"])
    sure = evaluate(gt, dt, metrics="instance-ap", min_score=0.9)
    assert sure["metrics"]["AP"] == report["metrics"]["AP"]
    assert sure["metrics"]["F1_50"] < report["metrics"]["F1_50"]


def test_of_equal_overlaps_each_is_paired_once() -> None:
    counted = instance_ap.counts(np.array([[0.5, 0.5], [0.5, 0.0]]))
    assert counted[0] == 1  # the first pair taken leaves nothing for the second
    assert instance_ap.counts(np.zeros((0, 3)))[2 * instance_ap.T] == 3
    assert np.isnan(instance_ap.figures(np.zeros((1, 3 * instance_ap.T + 1)))["F1_50"])


def test_refusals(tmp_path: Path) -> None:
    found, true = made(0)
    gt = write(tmp_path / "gt", [true])
    with pytest.raises(InputError, match="the truth 80 x 64"):
        evaluate(gt, write(tmp_path / "small", [found[:32]]), metrics="instance-ap")
    boxes = tmp_path / "boxes.jsonl"
    boxes.write_text(json.dumps({"file_name": "0.png", "annotations": [{"category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}]}))
    with pytest.raises(InputError, match=r"an object of .*0\.png has no mask"):
        evaluate(gt, boxes, metrics="instance-ap")
    with pytest.raises(CvtoolError, match="no effect"):
        evaluate(gt, gt, metrics="instance-ap", per_class=True)


def test_real_nuclei(data: Path, tmp_path: Path) -> None:
    """The maps against themselves, and grown by a pixel: large nuclei stay right where small ones do not."""
    from scipy.ndimage import grey_dilation

    folder = data / "nuclei"
    labels = folder / "val" / "labels"
    names = sorted(path.name for path in labels.iterdir())[:6]
    for name in names:
        (tmp_path / "true").mkdir(exist_ok=True)
        (tmp_path / "grown").mkdir(exist_ok=True)
        values = np.asarray(Image.open(labels / name)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / "true" / name)
        Image.fromarray(np.where(values > 0, values, grey_dilation(values, (3, 3)))).save(tmp_path / "grown" / name)
    same = evaluate(folder, tmp_path / "true", metrics="instance-ap", split="val")
    assert any(f"{40 - len(names)} ground-truth pictures without an answer" in line for line in same["warnings"])
    assert evaluate(tmp_path / "true", tmp_path / "true", metrics="instance-ap")["metrics"]["mean_precision"] == 1.0
    grown = evaluate(tmp_path / "true", tmp_path / "grown", metrics="instance-ap")["metrics"]
    assert 0.2 < grown["mean_precision"] < grown["precision_50"] <= 1.0
    assert grown["matched_IoU"] < 1.0
