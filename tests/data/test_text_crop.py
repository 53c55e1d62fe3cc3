"""The crop that detectors of text are trained on: around a word, at some scale, never mirrored, its corners where the word is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvtool.data import augment
from cvtool.data.augment.text_crop import TextCrop
from cvtool.errors import UsageError
from cvtool.ops import quads
from cvtool.results import Quads

WORDS = [[30, 20, 90, 40], [200, 150, 260, 165]]


def scene():
    """Grey, with two words whose left half is red and whose right half is green."""
    pixels = np.full((180, 300, 3), 60, np.uint8)
    for x0, y0, x1, y1 in WORDS:
        pixels[y0:y1, x0 : (x0 + x1) // 2] = 250, 0, 0
        pixels[y0:y1, (x0 + x1) // 2 : x1] = 0, 250, 0
    return pixels, Quads(torch.tensor(quads.of_boxes(WORDS), dtype=torch.float32), spared=torch.tensor([False, False]))


@given(st.integers(0, 100_000), st.sampled_from([64, 160, 400]))
def test_a_square_with_a_word_that_still_reads_from_left_to_right(seed, size):
    out, found = TextCrop(0.5, 2.0, size, 0.0)(*scene(), np.random.default_rng(seed))
    assert out.shape == (size, size, 3)
    assert len(found)
    middles = found.quads.mean(1)
    assert ((middles > -1) & (middles < size + 1)).all(1).any()
    for quad, spared in zip(found.quads.numpy(), found.spared.tolist(), strict=True):
        width, height = quads.sides(quad)
        assert 2.9 < width / height < 4.2
        assert quads.angles(quad) == pytest.approx(0, abs=1e-3)
        assert 0.49 < height / 20 < 2.02 or 0.49 < height / 15 < 2.02
        assert quads.area(quad) > 0
        (x0, y0), (x1, y1) = quad.min(0).round().astype(int), quad.max(0).round().astype(int)
        whole = x0 >= 0 and y0 >= 0 and x1 <= size and y1 <= size
        assert not (spared and whole)
        if whole:
            row = out[(y0 + y1) // 2].astype(int)
            assert row[x0 + (x1 - x0) // 4].tolist() == [250, 0, 0]
            assert row[x1 - (x1 - x0) // 4].tolist() == [0, 250, 0]


def test_every_word_is_drawn_and_any_place_where_there_is_none():
    part, rng = augment.pipeline("text-crop:1,1,64,0"), np.random.default_rng(0)
    seen = [tuple(sorted(float(h) for h in quads.sides(part(*scene(), rng)[1].quads.numpy())[1].round())) for _ in range(40)]
    assert {(20.0,), (15.0,)} <= set(seen)
    pixels, target = scene()
    spared = Quads(target.quads, spared=torch.tensor([False, True]))
    assert all((quads.sides(part(pixels, spared, rng)[1].quads.numpy())[1] > 19).any() for _ in range(20))
    nothing = Quads(torch.zeros(0, 4, 2), spared=torch.zeros(0, dtype=torch.bool))
    out, found = part(pixels, nothing, rng)
    assert out.shape == (64, 64, 3)
    assert len(found) == 0
    anywhere = augment.pipeline("text-crop:1,1,64,1")
    assert sum(len(anywhere(pixels, target, rng)[1]) == 0 for _ in range(40)) > 5


@pytest.mark.parametrize("text", ["text-crop:0,1", "text-crop:2,1", "text-crop:0.5,2,8", "text-crop:0.5,2,320,2"])
def test_what_makes_no_crop_is_refused(text):
    with pytest.raises(UsageError, match="text-crop"):
        augment.parse(text)
