"""PatchMatch: what it promises, against plain loops and on textures and photographs whose hole is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.errors import UsageError
from cvtool.metrics.psnr import psnr
from cvtool.models.inpaint import patchmatch
from cvtool.ops.pyramid import halved, push_pull


def built(**changes):
    return weights.build("patchmatch", categories=[], **changes)


def textured(period, size, hole, seed=0):
    """A periodic picture 1 3 size size, and a square hole in its middle."""
    tile = torch.from_numpy(np.random.default_rng(seed).random((3, period, period), np.float32))
    count = -(-size // period)
    image = tile.repeat(1, count, count)[None, :, :size, :size]
    mask = torch.zeros(1, 1, size, size, dtype=torch.bool)
    start = (size - hole) // 2 + 3
    mask[..., start : start + hole, start : start + hole] = True
    return image, mask


@pytest.mark.system("patchmatch")
@pytest.mark.parametrize("period", [8, 13, 21])
def test_a_periodic_texture_is_restored_and_the_rest_is_bit_equal(period):
    image, mask = textured(period, 112, 30)
    done = built().fill(image * ~mask, mask, 0)
    where = mask[0, 0].numpy()
    true, found = (x[0].permute(1, 2, 0).numpy() * 255 for x in (image, done))
    assert psnr(true[where], found[where]) > 30
    assert torch.equal(done[~mask.expand_as(done)], image[~mask.expand_as(done)])


@pytest.mark.system("patchmatch")
def test_search_finds_the_nearest_patches_by_random_init_propagation_and_random_search():
    """On a picture whose every patch lies once more elsewhere, against the exact nearest of all sources."""
    image, mask = textured(20, 60, 10, seed=3)
    image = image + 0.02 * torch.from_numpy(np.random.default_rng(1).random(image.shape, np.float32))
    model, chance = built(components=245), torch.Generator().manual_seed(0)
    level = model._level(torch.cat([image[0], torch.zeros(2, 60, 60)]), mask[0, 0], 7, chance)
    own = patchmatch._patches(level.image, level.targets, 7)
    places = level.source.nonzero()[:, 0]
    exact = torch.cdist(own, patchmatch._patches(level.image, places, 7)).square()
    sources = patchmatch._start(level, None, chance)
    start = patchmatch._distances(level, sources)
    assert level.source[sources].all()
    assert len(sources.unique()) > len(sources) / 3  # random
    before = start
    for _ in range(4):
        sources, distances = patchmatch._search(level, sources, chance, fresh=True)
        assert (distances <= before + 1e-3).all()  # never worse
        before = distances
    assert level.source[sources].all()
    torch.testing.assert_close(distances, (own - patchmatch._patches(level.image, sources, 7)).square().sum(1), atol=0.05, rtol=0.01)
    assert (distances < exact.min(1)[0] + 0.05).float().mean() > 0.97
    assert start.mean() > 5 * distances.mean()


def test_propagation_spreads_one_good_source():
    """All targets at one wrong source but for one at its true one: a single turn takes it to more than half of them."""
    image, mask = textured(20, 60, 10, seed=3)
    model, chance = built(components=245), torch.Generator().manual_seed(0)
    level = model._level(torch.cat([image[0], torch.zeros(2, 60, 60)]), mask[0, 0], 7, chance)
    sources = level.source.nonzero()[:1, 0].expand(len(level.targets)).clone()
    middle = len(sources) // 2
    sources[middle] = level.targets[middle] - 20
    assert level.source[sources[middle]]
    found, _ = patchmatch._search(level, sources, torch.Generator().manual_seed(1), fresh=True)
    assert (found == level.targets - 20).float().mean() > 0.5


@pytest.mark.system("patchmatch")
def test_it_depends_on_picture_hole_and_seed_alone():
    image, mask = textured(9, 48, 14)
    image = image + 0.1 * torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    model = built(turns=1)
    alone = model.fill(image, mask, 4)
    other = image.flip(3)
    both = model.fill(torch.cat([other, image]), torch.cat([mask, mask]), 4)
    assert torch.equal(both[1], alone[0])
    hidden = torch.where(mask, torch.rand(image.shape), image)
    assert torch.equal(model.fill(hidden, mask, 4), alone)  # what stands under the hole counts nothing
    assert not torch.equal(model.fill(image, mask, 5), alone)


def test_scattered_holes_and_tiny_pictures_are_filled_too():
    model = built()
    image = torch.rand(1, 3, 40, 30, generator=torch.Generator().manual_seed(0))
    dots = torch.zeros(1, 1, 40, 30, dtype=torch.bool)
    dots[..., ::2, ::2] = True  # no patch is whole
    done = model.fill(image * ~dots, dots)
    assert torch.equal(done[~dots.expand_as(done)], image[~dots.expand_as(done)])
    assert (done[dots.expand_as(done)] > 0).all()
    assert done.max() <= 1
    for height, width in ((1, 5), (3, 2), (8, 9), (4, 60)):
        picture = torch.rand(1, 3, height, width)
        hole = torch.zeros(1, 1, height, width, dtype=torch.bool)
        hole[..., 0, : width // 2] = True
        done = model.fill(picture * ~hole, hole)
        assert done.isfinite().all()
        assert torch.equal(done[~hole.expand_as(done)], picture[~hole.expand_as(done)])
    edge = torch.zeros(1, 1, 40, 30, dtype=torch.bool)
    edge[..., :12, :14] = True  # at the picture's corner
    assert model.fill(image * ~edge, edge).isfinite().all()


def test_options_that_cannot_be():
    with pytest.raises(UsageError, match="odd number"):
        built().fill(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8), patch=4)
    with pytest.raises(UsageError, match="turns=0"):
        built(turns=0)


def test_halving_and_smooth_filling_use_what_is_known_only():
    image, hole = torch.rand(3, 9, 7), torch.zeros(9, 7, dtype=torch.bool)
    hole[2:5, 2:6] = True
    wild = torch.where(hole, torch.full_like(image, 100.0), image)
    small, coarse = halved(wild, hole)
    assert small.shape == (3, 5, 4)
    for y in range(4):
        for x in range(3):
            block, known = wild[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2], ~hole[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            assert bool(coarse[y, x]) == (int(known.sum()) < 2)
            if known.any():
                torch.testing.assert_close(small[:, y, x], block[:, known].mean(1))
    smooth = push_pull(wild, ~hole)
    assert torch.equal(smooth[:, ~hole], image[:, ~hole])
    assert smooth.min() >= 0
    assert smooth.max() <= 1
    flat = torch.where(hole, torch.zeros(1), torch.full((3, 9, 7), 0.25))
    torch.testing.assert_close(push_pull(flat, ~hole), torch.full((3, 9, 7), 0.25))


def test_a_photograph_under_text_is_restored_better_than_by_other_means(data):
    """The portrait under its lines of text: better than its surroundings spread smoothly, and than by Telea's method, which has no textures."""
    telea = pytest.importorskip("cv2")
    part = np.s_[60:360, 160:340]
    picture = np.asarray(Image.open(data / "inpaint/kate.png").convert("RGB"))[part]
    where = np.asarray(Image.open(data / "inpaint/kate_mask.png").convert("L"))[part] < 128
    image, mask = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255, torch.from_numpy(where)[None, None]
    done = built().fill(image * ~mask, mask)
    smooth = push_pull(image[0] * ~mask[0], ~mask[0, 0])[None]
    mine, plain = (psnr(picture[where], x[0].permute(1, 2, 0).numpy()[where] * 255) for x in (done, smooth))
    theirs = psnr(picture[where], telea.inpaint(picture, where.astype(np.uint8), 3, telea.INPAINT_TELEA)[where])
    assert mine > plain + 1, (mine, plain, theirs)
    assert mine > theirs, (mine, plain, theirs)
