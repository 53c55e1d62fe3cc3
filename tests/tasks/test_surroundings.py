"""What of a picture a model that fills holes is shown: whole pictures, squares around holes, windows; and what of its answer is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvtool.batch import Prepare
from cvtool.tasks import _surroundings


class Model:
    """Paints every hole white; notes what it was shown."""

    def __init__(self, size=None, multiple_of=1, largest=None):
        self.prepare = Prepare(resize=None if size is None else "stretch", size=size or 0, multiple_of=multiple_of)
        if largest is not None:
            self.largest = largest
        self.seen = []

    def __call__(self, images, masks, guidance=None):
        assert masks.dtype == torch.bool
        assert not images[masks.expand_as(images)].any()  # nothing under the hole is told
        self.seen.append((tuple(images.shape[2:]), float(masks.float().mean())))
        assert masks.any()
        return torch.ones_like(images)


def filled(model, hole, tile=None):
    pixels = np.random.default_rng(0).integers(1, 200, (*hole.shape, 3), np.uint8)
    done = _surroundings.fill(pixels, hole, model, model, tile=tile)
    assert (done[~hole] == pixels[~hole]).all()
    assert (done[hole] == 255).all()
    return model.seen


def holes(height, width, *boxes):
    hole = np.zeros((height, width), bool)
    for y, x, h, w in boxes:
        hole[y : y + h, x : x + w] = True
    return hole


def test_a_model_of_any_size_sees_all_of_it_padded_to_its_multiple():
    seen = filled(Model(multiple_of=8), holes(37, 53, (4, 5, 6, 7), (30, 50, 7, 3)))
    assert [shape for shape, _ in seen] == [(40, 56)]


def test_a_large_picture_comes_in_windows_whose_holes_are_known_afterwards():
    hole = holes(100, 130, (10, 10, 60, 100))
    seen = filled(Model(largest=40 * 40), hole)
    assert {shape for shape, _ in seen} == {(40, 40)}
    assert len(seen) > 6
    assert all(share < 0.8 for _, share in seen)  # each has something to go by
    seen = filled(Model(), hole, tile=64)
    assert {shape for shape, _ in seen} == {(64, 64)}
    assert filled(Model(), hole, tile=200)[0][0] == (100, 130)


@pytest.mark.parametrize("seed", range(3))
def test_windows_leave_no_hole_whatever_its_shape(seed):
    hole = np.random.default_rng(seed).random((70, 45)) < (0.02, 0.5, 0.97)[seed]
    filled(Model(), hole, tile=32)
    filled(Model(size=16), hole)
    filled(Model(size=24), hole, tile=33)


def test_a_model_of_one_size_sees_squares_around_the_holes():
    model = Model(size=32)
    seen = filled(model, holes(90, 120, (8, 8, 6, 6), (60, 90, 10, 4)))
    assert [shape for shape, _ in seen] == [(32, 32)] * 2
    assert seen[0][1] == pytest.approx(36 / 1024)  # in its own pixels
    seen = filled(Model(size=32), holes(90, 120, (8, 8, 6, 6), (20, 20, 4, 4)))
    assert len(seen) == 1  # two that lie in one square
    seen = filled(Model(size=32), holes(90, 120, (20, 20, 40, 30)))
    assert len(seen) == 1  # one that is larger: shrunk, with as much around it
    assert 0.15 < seen[0][1] < 0.25
    seen = filled(Model(size=64), holes(30, 20, (8, 8, 6, 6)))
    assert [shape for shape, _ in seen] == [(64, 64)]  # a smaller picture


def test_a_sketch_is_cut_along_and_its_lines_survive_shrinking():
    class Drawing(Model):
        def __call__(self, images, masks, guidance=None):
            assert guidance.dtype == torch.bool
            assert guidance.shape == masks.shape
            drawn.append(guidance[0, 0])
            return super().__call__(images, masks)

    pixels, hole = np.full((100, 100, 3), 200, np.uint8), holes(100, 100, (20, 30, 40, 40))
    sketch = np.zeros((100, 100), bool)
    sketch[35, 30:70] = True
    for model, tile, across in ((Model(), None, 40), (Model(size=20), None, 10), (Model(size=160), None, 64)):
        drawn: list = []
        own = Drawing()
        _surroundings.fill(pixels, hole, model, own, tile=tile, sketch=sketch)
        (lines,) = drawn
        assert lines.any(1).sum() in (1, 2)
        assert lines.any(0).sum() == pytest.approx(across, abs=2)


def test_the_black_of_a_hole_does_not_bleed_when_a_square_is_shrunk():
    class Looking(Model):
        def __call__(self, images, masks, guidance=None):
            known = images[~masks.expand_as(images)]
            torch.testing.assert_close(known, torch.full_like(known, 200 / 255))
            return super().__call__(images, masks)

    pixels, hole = np.full((100, 100, 3), 200, np.uint8), holes(100, 100, (21, 33, 37, 29))
    model = Looking(size=24)
    _surroundings.fill(pixels, hole, model, model)
    assert len(model.seen) == 1
