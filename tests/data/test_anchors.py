"""Anchors by k-means with 1 - IoU: the right distance, a fit that rises with k, the same for a seed."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvtool.data import source, synth
from cvtool.data.anchors import box_sizes, iou, learned, mean_iou
from cvtool.errors import InputError
from cvtool.records import Record


def blobs(centres: list[tuple[float, float]], each: int = 60, seed: int = 0) -> np.ndarray:
    """Widths and heights about some centres, within a tenth."""
    draw = np.random.default_rng(seed)
    return np.concatenate([np.array(c) * draw.uniform(0.9, 1.1, (each, 2)) for c in centres])


def test_the_distance_is_that_of_boxes_on_one_centre() -> None:
    def by_hand(w: float, h: float, a: float, b: float) -> float:
        shared = min(w, a) * min(h, b)
        return shared / (w * h + a * b - shared)

    draw = np.random.default_rng(0)
    one, two = draw.uniform(1, 90, (7, 2)), draw.uniform(1, 90, (4, 2))
    assert iou(one, two) == pytest.approx(np.array([[by_hand(*x, *y) for y in two] for x in one]))
    assert np.diag(iou(one, one)) == pytest.approx(1)
    assert iou(one, two) == pytest.approx(iou(3 * one, 3 * two))  # of shapes, not of sizes


def test_the_centres_of_clear_groups_are_found() -> None:
    centres = [(10, 12), (40, 20), (30, 90), (120, 110), (200, 60)]
    found = learned(blobs(centres), 5)[-1]
    assert found.sizes == pytest.approx(np.array(sorted(centres, key=lambda c: c[0] * c[1])), rel=0.05)
    # by Euclid's distance the two small groups would be one: they are nearer to each other than the spread of the large ones
    assert found.mean_iou > 0.89


def test_no_other_anchors_nearby_fit_better() -> None:
    sizes = blobs([(10, 12), (40, 20), (30, 90)], seed=3)
    found = learned(sizes, 3)[-1]
    draw = np.random.default_rng(1)
    others = (mean_iou(sizes, found.sizes * draw.uniform(0.8, 1.25, found.sizes.shape)) for _ in range(200))
    assert found.mean_iou == mean_iou(sizes, found.sizes)
    assert max(others) < found.mean_iou + 0.003  # a mean of the group is not quite the best point


@pytest.mark.system("kmeans-anchors")
def test_mean_best_iou_rises_with_k_on_blood_cells(data: Path) -> None:
    """Distance 1 - IoU on width and height; k = 5 (YOLOv2) and k = 9 (YOLOv3); deterministic."""
    records, _, _ = source.read({"data": str(data / "bccd"), "split": "trainval", "split_val": "none"})
    sizes = box_sizes(records[::3], 416)
    found = learned(sizes, 9)
    assert [len(one.sizes) for one in found] == list(range(1, 10))
    assert all(a.mean_iou < b.mean_iou for a, b in pairwise(found))
    assert found[4].mean_iou > 0.84
    assert found[8].mean_iou > 0.87
    assert all(one.mean_iou == pytest.approx(iou(sizes, one.sizes).max(1).mean()) for one in found)
    assert sizes.max() <= 416


@pytest.mark.system("kmeans-anchors")
@pytest.mark.parametrize("seed", range(3))
def test_the_fit_rises_with_k_and_the_seed_decides(seed: int) -> None:
    sizes = np.random.default_rng(seed).gamma(2.0, 20.0, (150, 2)) + 1
    found = learned(sizes, 9, seed)
    assert all(a.mean_iou < b.mean_iou for a, b in pairwise(found))
    again = learned(sizes, 9, seed)
    assert all(np.array_equal(a.sizes, b.sizes) for a, b in zip(found, again, strict=True))
    areas = found[-1].sizes.prod(1)
    assert (np.diff(areas) >= 0).all()


def test_sizes_are_clipped_and_scaled() -> None:
    boxes = ([-10, 5, 30, 20], [90, 0, 40, 10], [150, 0, 10, 10])
    entries = [{"bbox": [0, 0, 8, 9], "category_id": 1, "iscrowd": 1}, *({"bbox": box, "category_id": 1} for box in boxes)]
    record = Record(file_name="x.png", width=100, height=50, annotations=entries)
    assert box_sizes([record]).tolist() == [[20, 20], [10, 10]]
    assert box_sizes([record], 200).tolist() == [[40, 40], [20, 20]]
    with pytest.raises(InputError, match="no picture"):
        box_sizes([Record(file_name="x.png", annotations=[])])
    with pytest.raises(InputError, match="3 anchors of 2 different"):
        learned(box_sizes([record]), 3)


def test_the_command_and_its_figure(tmp_path: Path, cvtool) -> None:
    path = synth.write_shapes(tmp_path / "in", 12, 64)
    done = cvtool("data", "anchors", path, "-k", "3", "--img-size", "128", "--plot", "anchors.png")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["k"] == len(report["anchors"]) == len(report["curve"]) == 3
    assert report["curve"] == sorted(report["curve"])
    assert report["mean_iou"] == report["curve"][-1]
    assert 0 < report["recall"] <= 1
    with Image.open(tmp_path / "anchors.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 100
    assert cvtool("data", "anchors", path, "-k", "3", "--plot", "anchors.png").returncode == 2
