"""Views of a batch: each kind does what its name says, reproducibly, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cvtool.errors import UsageError
from cvtool.ops.views import Views

PLAIN = SimpleNamespace(mean=(0.0,) * 3, std=(1.0,) * 3)
USUAL = SimpleNamespace(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def made(text, images, normalised=PLAIN, seed=0):
    return Views.parse(text)(images, normalised, torch.Generator().manual_seed(seed))


@pytest.fixture
def images():
    return torch.rand(16, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def test_nothing_changes_nothing_and_normalisation_is_undone(images):
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (USUAL.mean, USUAL.std))
    normalised = (images - mean) / std
    torch.testing.assert_close(Views()(normalised, USUAL), normalised)
    for text in ("flip", "solarize:1", "gray:1", "color:0.5", "turn:30,shift:0.2"):
        torch.testing.assert_close(made(text, normalised, USUAL) * std + mean, made(text, images), atol=1e-5, rtol=1e-5)


def test_each_kind(images):
    flipped = made("flip", images)
    kinds = [torch.allclose(a, b, atol=1e-5) or (torch.allclose(a, b.flip(-1), atol=1e-5) and "turned") for a, b in zip(flipped, images, strict=True)]
    assert set(kinds) == {True, "turned"}
    torch.testing.assert_close(made("solarize:1", images), torch.where(images < 0.5, images, 1 - images))
    gray = made("gray:1", images)
    torch.testing.assert_close(gray[:, 0], gray[:, 2])
    torch.testing.assert_close(gray[:, 0], 0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2])
    some = (made("gray:0.5", images) == images).flatten(1).all(1)
    assert 0 < some.sum() < 16
    coloured = made("color:0.8", images)
    assert coloured.min() >= 0
    assert coloured.max() <= 1
    assert not torch.allclose(coloured, images)
    large = torch.rand(2, 3, 64, 64)
    assert made("blur:1", large).std() < large.std()


def test_what_moves_pixels_keeps_to_the_picture(images):
    flat = torch.full((8, 3, 12, 12), 0.7)
    for text in ("crop:0.2", "turn:90", "shear:30", "scale:0.5", "shift:0.3", "elastic:0.1"):
        torch.testing.assert_close(made(text, flat), flat)  # beyond the edge is the edge
        moved = made(text, images)
        assert moved.shape == images.shape
        assert not torch.allclose(moved, images, atol=1e-3)
        assert torch.equal(moved, made(text, images))
        assert not torch.equal(moved, made(text, images, seed=1))


def test_a_crop_shows_a_part_in_full_size():
    """On a ramp from left to right: what is seen spans between sqrt(0.25 * 3/4) and 1 of it, and lies inside."""
    ramp = torch.linspace(0, 1, 64).expand(200, 3, 64, 64)
    seen = made("crop:0.25", ramp)[:, 0, 32]
    span = seen[:, -1] - seen[:, 0]
    assert span.min() > 0.40
    assert span.max() <= 1
    assert span.std() > 0.05


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("spin:3", "unknown view 'spin'"),
        ("crop:2", "crop takes a number above 0 and up to 1"),
        ("flip,flip", "given twice"),
        ("flip:1", "takes 0 arguments"),
    ],
)
def test_what_makes_no_sense(text, says):
    with pytest.raises(UsageError, match=says):
        Views.parse(text)
