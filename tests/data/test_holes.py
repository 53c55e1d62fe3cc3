"""Holes: what a mask, a box, an annotation or a folder of masks says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from cvtool.annotations import rle
from cvtool.data import holes
from cvtool.data.holes import Chooser, Masks
from cvtool.errors import InputError, UsageError
from cvtool.records import Record

SHAPE = np.zeros((6, 8), bool)
SHAPE[1:4, 2:5] = True


def saved(folder, name, values, mode=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values) if mode is None else Image.fromarray(values).convert(mode)
    image.save(path)
    return str(path)


def test_white_or_one_is_hole_in_every_kind_of_picture(tmp_path):
    gray = SHAPE.astype(np.uint8)
    coloured = Image.new("P", (8, 6))
    coloured.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    coloured.putdata(gray.reshape(-1).tolist())
    coloured.save(tmp_path / "classes.png")
    kinds = {
        "bits.png": SHAPE, "white.png": gray * 255, "ones.png": gray, "rgb.png": np.repeat(gray[..., None] * 255, 3, 2),
        "deep.png": gray.astype(np.uint16) * 65535, "deepones.png": gray.astype(np.uint16),
        "soft.png": np.where(SHAPE, np.uint8(140), np.uint8(110)), "opaque.png": np.dstack([gray * 255] * 3 + [np.full_like(gray, 255)]),
    }  # fmt: skip
    for name, values in kinds.items():
        assert (holes.of_picture(saved(tmp_path, name, values)) == SHAPE).all(), name
    assert (holes.of_picture(str(tmp_path / "classes.png")) == SHAPE).all()
    Image.fromarray(np.kron(gray * 255, np.ones((8, 8), np.uint8))).save(tmp_path / "noisy.jpg", quality=40)
    assert (holes.of_picture(str(tmp_path / "noisy.jpg")) == np.kron(SHAPE, np.ones((8, 8), bool))).all()
    turned = Image.fromarray(np.rot90(gray * 255).copy())
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    assert (holes.of_picture(str(tmp_path / "turned.png")) == SHAPE).all()
    with pytest.raises(InputError, match="transparent"):
        holes.of_picture(saved(tmp_path, "clear.png", np.dstack([gray * 255] * 4)))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match="not a picture"):
        holes.of_picture(str(tmp_path / "text.png"))


def test_annotations_are_their_segmentations_else_their_boxes():
    polygon = [[2, 1, 5, 1, 5, 4, 2, 4]]
    assert (holes.of_annotations([{"segmentation": polygon, "bbox": [0, 0, 8, 6]}], 8, 6) == SHAPE).all()
    assert (holes.of_annotations([{"segmentation": rle(SHAPE)[0]}], 8, 6) == SHAPE).all()
    assert (holes.of_annotations([{"bbox": [2.4, 1, 2.1, 3]}], 8, 6) == SHAPE).all()
    two = holes.of_annotations([{"bbox": [-3, -3, 4, 4]}, {"bbox": [7, 5, 9, 9], "segmentation": []}], 8, 6)
    assert two.sum() == 2
    assert not holes.of_annotations([], 8, 6).any()
    for wrong in ({"bbox": [1, 2, 3]}, {"bbox": [1, 2, float("nan"), 3]}, {"segmentation": {"size": [5, 8], "counts": [40]}}):
        with pytest.raises(InputError):
            holes.of_annotations([wrong], 8, 6)


def test_growing_and_feathering_against_a_plain_loop():
    rng = np.random.default_rng(0)
    hole = rng.random((17, 23)) < 0.03
    ys, xs = np.nonzero(hole)
    for pixels in (0, 1, 3):
        grown, soft = holes.grown(hole, pixels), holes.weights(hole, pixels)
        for y in range(17):
            for x in range(23):
                distance = np.sqrt((ys - y) ** 2 + (xs - x) ** 2).min()
                assert grown[y, x] == (distance <= pixels)
                assert soft[y, x] == pytest.approx(1 - distance / (pixels + 1) if distance <= pixels else 0)
    empty = np.zeros((4, 4), bool)
    assert not holes.grown(empty, 3).any()
    assert not holes.weights(empty, 3).any()


def test_masks_are_paired_by_stem(tmp_path):
    saved(tmp_path, "masks/a.png", SHAPE)
    saved(tmp_path, "masks/b_mask.png", ~SHAPE)
    saved(tmp_path, "masks/c/d.png", SHAPE)
    saved(tmp_path, "masks/e/d.png", SHAPE)
    saved(tmp_path, "masks/small.png", SHAPE[:4])
    masks = Masks(str(tmp_path / "masks"), Chooser())
    assert (masks.find(Record(file_name="photos/a.jpg"), 8, 6) == SHAPE).all()
    assert (masks.find(Record(file_name="photos/b.jpg"), 8, 6) == ~SHAPE).all()
    with pytest.raises(InputError, match="more than one mask"):
        masks.find(Record(file_name="d.jpg"), 8, 6)
    with pytest.raises(InputError, match="no mask for it"):
        masks.find(Record(file_name="z.jpg"), 8, 6)
    with pytest.raises(InputError, match="8 x 4 pixels, the picture 8 x 6"):
        masks.find(Record(file_name="small.jpg"), 8, 6)
    own = Masks(str(tmp_path / "masks"), Chooser())  # pictures and masks in one folder: a picture is not its own mask
    with pytest.raises(InputError, match="no mask for it"):
        own.find(Record(file_name=str(tmp_path / "masks/a.png")), 8, 6)
    with pytest.raises(InputError, match="no such mask"):
        Masks(str(tmp_path / "gone.png"), Chooser())
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="there is no mask in this folder"):
        Masks(str(tmp_path / "none"), Chooser())


def test_masks_of_a_coco_file_and_of_json_lines(tmp_path):
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "dog"}]
    boxes = [{"id": 1, "image_id": 5, "category_id": 1, "bbox": [2, 1, 3, 3], "area": 9, "iscrowd": 0}]
    boxes += [{"id": 2, "image_id": 5, "category_id": 2, "bbox": [0, 0, 1, 1], "area": 1, "iscrowd": 0}]
    images = [{"id": 5, "file_name": "a.png", "width": 8, "height": 6}]
    (tmp_path / "x.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    saved(tmp_path, "a.png", SHAPE)
    every = Masks(str(tmp_path / "x.json"), Chooser()).find(Record(file_name="other/a.jpg"), 8, 6)
    assert every.sum() == 10
    cars = Masks(str(tmp_path / "x.json"), Chooser(["Car"]))
    assert (cars.find(Record(file_name="a.jpg"), 8, 6) == SHAPE).all()
    with pytest.raises(InputError, match="no mask for it"):
        cars.find(Record(file_name="b.jpg"), 8, 6)
    with pytest.raises(UsageError, match="unknown class 'cat'"):
        Masks(str(tmp_path / "x.json"), Chooser(["cat"])).find(Record(file_name="a.jpg"), 8, 6)
    record = {"file_name": "b.png", "annotations": [{"bbox": [2, 1, 3, 3], "score": 0.9}, {"bbox": [0, 0, 1, 1], "score": 0.2}]}
    (tmp_path / "x.jsonl").write_text(json.dumps(record) + "\n")
    assert (Masks(str(tmp_path / "x.jsonl"), Chooser(conf=0.5)).find(Record(file_name="b.jpg"), 8, 6) == SHAPE).all()
