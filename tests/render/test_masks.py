"""Masks: COCO's forms into pixels as pycocotools has them, and pixels into a tint that is exact and a contour that is inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from cvtool.annotations import rle
from cvtool.errors import InputError
from cvtool.render import masks
from cvtool.render.canvas import Canvas


def blob(width=60, height=50):
    y, x = np.mgrid[0:height, 0:width]
    return ((x - 30) ** 2 / 300 + (y - 22) ** 2 / 150) < 1


def full(part, width, height):
    out = np.zeros((height, width), bool)
    if part is not None:
        out[part.y : part.y + part.mask.shape[0], part.x : part.x + part.mask.shape[1]] = part.mask
    return out


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_run_lengths_give_their_pixels_back(width, height, seed):
    pixels = np.random.default_rng(seed).random((height, width)) < 0.4
    compressed, _ = rle(pixels)
    assert (full(masks.region(compressed, (width, height)), width, height) == pixels).all()
    flat = pixels.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(int))).tolist()
    counts = np.diff([0, *edges, flat.size]).tolist()
    assert (full(masks.region({"size": [height, width], "counts": counts}, (width, height)), width, height) == pixels).all()


def test_polygons_are_those_of_pycocotools():
    rings = [[5, 5, 40, 8, 30, 30], [45.5, 30, 55, 31, 50, 44.2, 41, 40]]
    wanted = coco.decode(coco.merge(coco.frPyObjects(rings, 50, 60))).astype(bool)
    assert (full(masks.region(rings, (60, 50)), 60, 50) == wanted).all()


@pytest.mark.parametrize("scale", [3, 2, 0.5])
def test_masks_grow_and_shrink_with_the_picture(scale):
    part = masks.region(rle(blob())[0], (60, 50), scale)
    assert part is not None
    assert part.mask.sum() == pytest.approx(blob().sum() * scale**2, rel=0.05)
    rows, columns = np.nonzero(blob())
    wanted = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * scale
    assert np.abs(np.array(part.box) - wanted).max() <= max(scale, 1)


def test_an_empty_mask_is_none():
    assert masks.region([], (8, 8)) is None
    assert masks.region([[1, 1, 2, 2]], (8, 8)) is None
    assert masks.region(rle(np.zeros((8, 8), bool))[0], (8, 8)) is None


@pytest.mark.parametrize(
    "bad",
    [
        "text",
        [["a", "b", "c", "d", "e", "f"]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, float("nan")]],
        {"size": [8, 8]},
        {"size": [9, 8], "counts": [72]},
        {"size": [8, 8], "counts": [1, 2]},
        {"size": [8, 8], "counts": [-64, 128]},
        {"size": [8, 8], "counts": [2**62, 2**62, 2**62, 2**62, 64]},
        {"size": [8, 8], "counts": "~~~~"},
        {"size": [8, 8], "counts": "é"},
        {"size": [8, 8], "counts": 5},
    ],
)
def test_damaged_masks_are_input_errors(bad):
    with pytest.raises(InputError):
        masks.region(bad, (8, 8))


def test_the_tint_covers_the_mask_and_nothing_else():
    canvas = Canvas(Image.new("RGB", (60, 50), (100, 100, 100)))
    part = masks.cut(blob())
    masks.tint(canvas, part, (255, 0, 0), 0.4)
    drawn = np.asarray(canvas.image).astype(int)
    assert (np.abs(drawn[blob()] - [162, 60, 60]) <= 1).all()
    assert (drawn[~blob()] == 100).all()


@pytest.mark.parametrize("line", [1, 2, 6])
def test_the_contour_runs_along_the_inside_of_the_edge(line):
    square = np.zeros((80, 80), bool)
    square[20:60, 15:65] = True
    canvas = Canvas(Image.new("RGB", (80, 80), (0, 0, 0)))
    masks.contour(canvas, masks.cut(square), (255, 0, 0), line)
    drawn = np.asarray(canvas.image)[..., 0]
    assert (drawn[20, 25:55] > 200).all()
    assert (drawn[20:60, 40] > 127).sum() == pytest.approx(2 * line, abs=1)
    assert not drawn[20 + line + 2 : 58 - line, 17 + line : 63 - line].any()
    assert not drawn[:18].any()
    assert not drawn[:, :13].any()


def test_no_contour_runs_along_the_border_of_the_picture():
    half = np.zeros((40, 40), bool)
    half[:, :20] = True
    canvas = Canvas(Image.new("RGB", (40, 40), (0, 0, 0)))
    masks.contour(canvas, masks.cut(half), (255, 0, 0), 2)
    drawn = np.asarray(canvas.image)[..., 0]
    assert not drawn[:, :15].any()
    assert (drawn[:, 19] > 200).all()


def test_a_mask_thinner_than_its_contour_is_filled():
    thin = np.zeros((40, 40), bool)
    thin[20, 5:35] = True
    canvas = Canvas(Image.new("RGB", (40, 40), (0, 0, 0)))
    masks.contour(canvas, masks.cut(thin), (255, 0, 0), 4)
    assert (np.asarray(canvas.image)[20, 6:34, 0] > 200).all()


def test_the_heart_lies_inside():
    ring = np.zeros((300, 400), bool)
    ring[20:280, 20:380] = True
    ring[60:240, 60:340] = False
    part = masks.cut(ring)
    x, y = part.heart()
    assert ring[int(y), int(x)]
    one = masks.cut(np.pad(np.ones((1, 1), bool), 5))
    assert one.heart() == (5.5, 5.5)
    assert one.tips() == ((5.5, 5), (5.5, 6))
