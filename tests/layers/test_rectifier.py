"""Parts that straighten text: the identity, the warp beside scipy's, and what strings alone teach."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import map_coordinates
from torch import nn

from cvtool.errors import UsageError
from cvtool.layers.rectifier import Rectifier, lattice, rectifier

KINDS = ("affine", "tps")
both = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def images():
    return torch.randint(256, (3, 3, 32, 60), generator=torch.Generator().manual_seed(0)) / 255


def made(kind, **changes):
    torch.manual_seed(0)
    return Rectifier(kind, **({"widths": (4, 8), "hidden": 16} | changes)).eval()


def bent(part, count, amount, seed=1):
    return part.identity + amount * torch.randn(count, *part.identity.shape, generator=torch.Generator().manual_seed(seed))


@both
@pytest.mark.system("stn-rectify")
def test_identity_parameters_leave_the_picture_unchanged(kind, images):
    part = made(kind)
    torch.testing.assert_close(part.warp(images, bent(part, 3, 0)), images, atol=1e-5, rtol=0)


@both
@pytest.mark.system("stn-rectify")
def test_it_begins_with_the_picture_as_it_is(kind, images):
    part = made(kind, widths=(16, 32, 64, 128, 128), hidden=256)
    shown = part(images)
    assert torch.equal((shown * 255).round(), (images * 255).round())
    (shown * torch.rand(shown.shape)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in part.parameters())  # and all of it can learn from there


@pytest.mark.system("stn-rectify")
def test_an_affine_picture_is_torchs(images):
    part = made("affine")
    theta = bent(part, 3, 0.1)
    found = F.grid_sample(images, F.affine_grid(theta, list(images.shape), align_corners=False), align_corners=False, padding_mode="border")
    torch.testing.assert_close(part.warp(images, theta), found, atol=1e-4, rtol=0)


@pytest.mark.system("stn-rectify")
def test_a_thin_plate_picture_is_the_one_that_scipys_spline_fetches(images):
    part = made("tps", points=10)
    moved = bent(part, 3, 0.1)
    at = lattice(32, 60, torch.tensor([[32.0, 60.0]]))[0].flatten(0, 1).double().numpy()
    for picture, values, shown in zip(images.double().numpy(), moved.double().numpy(), part.warp(images, moved), strict=True):
        places = RBFInterpolator(part.centres.double().numpy(), values, kernel="thin_plate_spline", degree=1)(at)
        columns, rows = (((places[:, axis] + 1) * size - 1) / 2 for axis, size in ((0, 60), (1, 32)))
        wanted = [map_coordinates(plane, [rows, columns], order=1, mode="nearest") for plane in picture]
        np.testing.assert_allclose(shown.flatten(1).numpy(), np.stack(wanted), atol=1e-4)


@both
@pytest.mark.system("stn-rectify")
def test_a_padded_picture_is_straightened_as_it_is_alone(kind, images):
    part = made(kind)
    nn.init.normal_(part.localiser.out.weight, std=0.01)
    sizes = torch.tensor([[32, 60], [32, 41], [20, 17]])
    together = part(images, sizes)
    for picture, shown, (height, width) in zip(images, together, sizes.tolist(), strict=True):
        torch.testing.assert_close(shown[:, :height, :width], part(picture[None, :, :height, :width])[0], atol=1e-4, rtol=0)
        assert not shown[:, height:].any()
        assert not shown[:, :, width:].any()
    assert (together[0] - images[0]).abs().max() > 0.01  # it did bend it


def test_half_precision_around_it_moves_no_pixel(images):
    part = made("tps")
    moved = bent(part, 3, 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(part.warp(images, moved), part.warp(images, moved).float())
        shown = part.warp(images, moved)
    torch.testing.assert_close(shown, part.warp(images, moved), atol=1e-6, rtol=0)


def test_names():
    assert rectifier("none") is None
    assert isinstance(rectifier("tps"), Rectifier)
    with pytest.raises(UsageError, match=r"unknown rectification 'tsp'"):
        rectifier("tsp")
    with pytest.raises(UsageError, match="even number of points"):
        Rectifier("tps", points=7)


LETTERS, SLANT = "ACEHLMNT", 0.9


@pytest.fixture(scope="module")
def slanted():
    """Words of four letters, upright and slanted, and a reader that has seen upright ones alone."""
    rng, font = np.random.default_rng(0), ImageFont.load_default(26)
    upright, sheared, letters, slants = [], [], [], []
    for _ in range(420):
        said, slant = rng.integers(0, len(LETTERS), 4), float(rng.uniform(-SLANT, SLANT))
        picture = Image.new("L", (96, 32))
        for place, letter in enumerate(said):
            ImageDraw.Draw(picture).text((16 * place + 24, 16), LETTERS[letter], fill=255, font=font, anchor="mm")
        upright.append(np.asarray(picture))
        sheared.append(
            np.asarray(picture.transform(picture.size, Image.Transform.AFFINE, (1, slant, -16 * slant, 0, 1, 0), Image.Resampling.BILINEAR))
        )
        letters.append(said)
        slants.append(slant)
    pictures = [torch.from_numpy(np.stack(each)).float()[:, None] / 255 for each in (upright, sheared)]
    data = SimpleNamespace(upright=pictures[0], sheared=pictures[1], letters=torch.from_numpy(np.stack(letters)), slants=np.array(slants))
    torch.manual_seed(0)
    # Templates of each place: what is slanted looks unlike them. A reader that shrugs a slant off would not teach to straighten it.
    data.reader = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16 * 48, 4 * len(LETTERS)), nn.Unflatten(1, (4, len(LETTERS))))
    learn(data.reader.parameters(), lambda chosen: (data.reader(data.upright[chosen]), data.letters[chosen]), 80, 3e-3)
    data.reader.requires_grad_(False)
    return data


def learn(parameters, answers, turns, rate):
    optimizer = torch.optim.Adam(parameters, rate)
    for _ in range(turns):
        said, true = answers(torch.randint(320, (48,)))
        optimizer.zero_grad()
        F.cross_entropy(said.flatten(0, 1), true.flatten()).backward()
        optimizer.step()


@both
@pytest.mark.system("stn-rectify")
def test_strings_alone_teach_it_to_make_a_sheared_word_straight(kind, slanted):
    """The reader is fixed and the truth is letters: nothing says how a word is slanted, nor what it looked like upright."""
    torch.manual_seed(0)
    part = Rectifier(kind, channels=1, widths=(8, 16, 16, 16), hidden=32, points=8).train()
    learn(part.parameters(), lambda chosen: (slanted.reader(part(slanted.sheared[chosen])), slanted.letters[chosen]), 45, 8e-3)
    held = slice(320, None)
    with torch.no_grad():
        straight, said = part.eval()(slanted.sheared[held]), part.parameters_of(slanted.sheared[held])
    right = [float((slanted.reader(x).argmax(-1) == slanted.letters[held]).all(1).float().mean()) for x in (slanted.sheared[held], straight)]
    away = [float((x - slanted.upright[held]).abs().mean()) for x in (slanted.sheared[held], straight)]
    assert right[0] < 0.6
    assert right[1] > 0.8
    assert away[1] < 0.7 * away[0]  # the pictures are nearer to the upright ones, which it never saw
    # How much further right the lower edge lies than the upper: 32 rows at the slant, in half widths of 48 pixels.
    lean = 2 * said[:, 0, 1] if kind == "affine" else (said[:, 4:, 0] - said[:, :4, 0]).mean(1)
    left = slanted.slants[held] * 32 / 48
    assert np.corrcoef(lean, -left)[0, 1] > 0.95
    assert np.abs(lean.numpy() + left).mean() < 0.55 * np.abs(left).mean()  # the slant is gone, most of it
