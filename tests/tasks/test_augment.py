"""Augmented records: the annotations are where the picture shows their objects."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from cvtool.annotations import rle
from cvtool.errors import UsageError
from cvtool.records import Record
from cvtool.tasks.augment import augmented


@pytest.fixture
def record(tmp_path) -> Record:
    """A red box without a mask, a green ellipse with one, a blue point of a keypoint."""
    pixels = np.zeros((80, 120, 3), np.uint8)
    pixels[20:40, 15:45, 0] = 255
    y, x = np.mgrid[:80, :120] + 0.5
    ellipse = ((x - 85) / 20) ** 2 + ((y - 50) / 12) ** 2 <= 1
    pixels[ellipse, 1] = 255
    pixels[48:53, 83:88, 2] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    shape, area = rle(ellipse)
    annotations = [
        {"bbox": [15, 20, 30, 20], "category_id": 1, "category": "box", "area": 600, "iscrowd": 0},
        {"bbox": [65, 38, 40, 24], "category_id": 2, "category": "egg", "segmentation": shape, "area": area, "keypoints": [85, 50, 2, 0, 0, 0]},
    ]
    return Record({"id": 4, "file_name": str(tmp_path / "a.png"), "width": 120, "height": 80, "annotations": annotations})


def bounds(seen: np.ndarray) -> np.ndarray:
    ys, xs = np.nonzero(seen)
    return np.array([xs.min(), ys.min(), xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()])


@pytest.mark.system("aug-basic")
@pytest.mark.system("randaugment")
@pytest.mark.parametrize("text", ["flips,rotate:25,translate:0.1", "shear:20", "crop:0.6,1", "scale-crop-flip", "v2:RandomAffine:20"])
def test_annotations_move_with_the_picture(record, text) -> None:
    if text.startswith("v2:"):
        del record["annotations"][1]["keypoints"]  # an older torchvision cannot move them
    found = list(augmented([record], text, samples=6, seed=3))
    assert [r["file_name"].rsplit("/", 1)[-1] for r in found] == [f"a-{k}.png" for k in range(1, 7)]
    checked = 0
    for one in found:
        pixels = one.pixels()
        assert (one["height"], one["width"]) == pixels.shape[:2]
        assert "id" not in one
        assert one.origin == record["file_name"]
        by_name = {a["category"]: a for a in one["annotations"]}
        red, green = pixels[..., 0] > 127, pixels[..., 1] > 127
        if "egg" in by_name:
            egg = by_name["egg"]
            mask = coco.decode(egg["segmentation"]).astype(bool)
            assert (mask != green).mean() < 0.015
            assert np.abs(np.array(egg["bbox"]) - bounds(green)).max() <= 2
            assert egg["area"] == mask.sum()
            x, y, v = egg.get("keypoints", [0, 0, 0])[:3]
            if v:
                ys, xs = np.nonzero(pixels[..., 2] > 127)
                assert abs(xs.mean() - x) < 1.5
                assert abs(ys.mean() - y) < 1.5
            checked += 1
        if "box" in by_name:
            assert "segmentation" not in by_name["box"]
            assert np.abs(np.array(by_name["box"]["bbox"]) - bounds(red)).max() <= 2
            checked += 1
    assert checked >= 6
    again = list(augmented([record], text, samples=6, seed=3))
    assert all(np.array_equal(a.pixels(), b.pixels()) and a == b for a, b in zip(found, again, strict=True))
    other = list(augmented([record], text, samples=6, seed=4))
    assert any(a.pixels().shape != b.pixels().shape or (a.pixels() != b.pixels()).any() for a, b in zip(found, other, strict=True))


def test_a_label_map_moves_along(tmp_path) -> None:
    labels = np.full((30, 40), 255, np.uint8)
    labels[:, :20] = 3
    labels[10:20, 25:35] = 11
    Image.fromarray(labels).save(tmp_path / "m.png")
    Image.fromarray(np.repeat(labels[..., None], 3, 2)).save(tmp_path / "a.png")
    record = Record({"file_name": str(tmp_path / "a.png"), "segmentation_map": str(tmp_path / "m.png")})
    (one,) = augmented([record], "flip:1", samples=1)
    assert "segmentation_map" not in one
    assert {a["category_id"] for a in one["annotations"]} == {3, 11}
    for a in one["annotations"]:
        assert np.array_equal(coco.decode(a["segmentation"]).astype(bool), one.pixels()[..., 0] == a["category_id"])


@pytest.mark.system("mixup")
@pytest.mark.system("cutmix")
def test_mixtures_of_pictures_name_their_shares(tmp_path) -> None:
    records = []
    for i, name in enumerate(("cat", "dog", "owl")):
        Image.new("RGB", (40 + i, 30), (60 * (i + 1),) * 3).save(tmp_path / f"{name}.png")
        entry = {"labels": [{"category": name, "category_id": i}]} if name != "owl" else {}
        records.append(Record({"file_name": str(tmp_path / f"{name}.png"), **entry}))
    values = {"cat": 60, "dog": 120, "owl": 180}
    for text in ("mixup:1", "cutmix:1"):
        found = list(augmented(records, text, samples=5, seed=1))
        assert len(found) == 15
        assert any(len(one["labels"]) == 2 for one in found)
        for one in found:
            shares = {entry["category"]: entry["score"] for entry in one["labels"]}
            assert sum(shares.values()) == pytest.approx(1, abs=2e-4)
            assert one.pixels().shape == (30, 40, 3)
            expected = sum(values[name] * share for name, share in shares.items())
            assert one.pixels().mean() == pytest.approx(expected, abs=0.6)
            if text == "cutmix:1":
                assert {int(v) for v in np.unique(one.pixels())} <= set(values.values())
    assert len(list(augmented(records * 12, "mixup", samples=1))) == 36  # more than go together, none left alone
    with pytest.raises(UsageError, match="there is only one"):
        list(augmented(records[:1], "mixup"))


def test_what_has_no_effect_and_what_cannot_be_read(record, tmp_path) -> None:
    for text, said in (("none", "no effect"), ("flip,repeated:3", "repeated has no effect"), ("flop", "did you mean flip")):
        with pytest.raises(UsageError, match=said):
            list(augmented([record], text))
    missing = Record({"file_name": str(tmp_path / "no.png")})
    for text in ("flip", "mixup"):
        found = list(augmented([missing, record, record], text, samples=1))
        assert [one.failed for one in found] == [True, False, False]
    broken = record.with_annotations([{"bbox": [1, 2, 3, 4], "segmentation": {"size": [5, 5], "counts": [25]}}])
    assert next(iter(augmented([broken], "flip"))).failed
