"""DeepFill v2: what its two networks are shown, what is lost, its sketches, and a photograph's hole filled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cvtool import registry, weights
from cvtool.batch import Batch
from cvtool.categories import numbered
from cvtool.errors import UsageError
from cvtool.layers.gated_conv import GatedConv
from cvtool.layers.sn_patch_discriminator import SpectralConv2d
from cvtool.results import Picture


def built(variant="tiny", **changes):
    torch.manual_seed(0)
    return weights.build(f"deepfill-v2.{variant}", categories=numbered(1), **changes)


def example(size=32):
    images, hole = torch.rand(2, 3, size, size) * 2 - 1, torch.zeros(2, size, size, dtype=torch.bool)
    hole[0, 4:12, 5:20], hole[1, 20:30, 0:8] = True, True
    return Batch(images, torch.zeros(2, size, size, dtype=torch.bool), [None] * 2, [Picture(hole=one) for one in hole])


def shown(module):
    seen = []
    module.register_forward_hook(lambda module, given, out: seen.append((given[0].detach(), out.detach())))
    return seen


@pytest.mark.system("deepfill-v2")
@pytest.mark.parametrize("sketch", [False, True])
def test_what_coarse_and_refining_network_and_rival_see(sketch):
    """img * (1 - m) + m with the mask behind it, B 4 H W -> B 3 H W; then img * (1 - m) + coarse * m. A sketch is one channel more, in G and D."""
    model = built(sketch=sketch).eval()
    coarse, refine, judge = shown(model.generator.coarse), shown(model.generator.refine), shown(model.discriminator)
    batch = example()
    with torch.no_grad():
        told = model.condition(batch)
        model.losses(batch)
    images, mask = batch.images, torch.stack([target.hole for target in batch.targets])[:, None].float()
    ((first, rough),) = coarse
    ((second, fine),) = refine
    assert first.shape == second.shape == (2, 4 + sketch, 32, 32)
    assert rough.shape == fine.shape == (2, 3, 32, 32)
    torch.testing.assert_close(first, torch.cat([images * (1 - mask) + mask, told], 1))
    torch.testing.assert_close(second, torch.cat([images * (1 - mask) + rough * mask, told], 1))
    assert torch.equal(told[:, :1], mask)
    completed = torch.where(mask == 1, fine, images)
    for (given, _), picture in zip(judge, (completed, images, completed), strict=True):
        torch.testing.assert_close(given, torch.cat([picture, told], 1))
    if sketch:
        assert told[:, 1:].unique().tolist() == [0, 1]
        assert not (told[:, 1:] * (1 - mask)).any()


@pytest.mark.system("deepfill-v2")
@pytest.mark.system("sn-patchgan")
def test_l1_and_hinge_count_one_to_one():
    """The recipe says so; of both results over all pixels, and of every element that the discriminator says."""
    recipe = registry.catalogue()["deepfill-v2"].recipe
    assert (recipe["step"], recipe["gan_loss"], recipe["adversarial"]) == ("inpainting", "hinge", 1.0)
    model, batch = built().eval(), example()
    with torch.no_grad():
        losses, told = model.losses(batch), model.condition(batch)
        coarse, fine = model.generator(batch.images, told)
        made, real = model.judge(torch.where(told == 1, fine, batch.images), told), model.judge(batch.images, told)
    assert made.ndim == 4
    assert made.shape[1] == 16
    wanted = {
        "l1_coarse": (coarse - batch.images).abs().mean(), "l1": (fine - batch.images).abs().mean(), "adversarial": -made.mean(),
        "d_real": (1 - real).clamp(min=0).mean(), "d_made": (1 + made).clamp(min=0).mean(),
    }  # fmt: skip
    assert list(losses) == list(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(losses[name], value, msg=name)


@pytest.mark.system("deepfill-v2")
def test_every_convolution_is_gated_and_of_the_rival_normed():
    model = built("small")
    plain = [m for m in model.generator.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    gated = [m.both for m in model.generator.modules() if isinstance(m, GatedConv)]
    assert [m.out_channels for m in plain if not any(m is one for one in gated)] == [3, 3]  # what gives out the colours
    assert all(isinstance(m, SpectralConv2d) for m in model.discriminator if not isinstance(m, nn.LeakyReLU))
    assert sum(p.numel() for p in model.parameters()) <= 3_000_000
    paper = sum(p.numel() for p in built("base").generator.parameters())
    assert paper == pytest.approx(4.1e6, rel=0.05)


@pytest.mark.system("deepfill-v2")
def test_mask_1_is_hole_and_any_size_will_do():
    model = built().eval()
    images, masks = torch.rand(1, 3, 40, 64), torch.zeros(1, 1, 40, 64, dtype=torch.bool)
    masks[:, :, 8:20, 8:20] = True
    filled = model.fill(images, masks)
    assert filled.shape == images.shape
    torch.testing.assert_close(model.fill(torch.where(masks, torch.rand(1, 3, 40, 64), images), masks), filled)
    assert not torch.allclose(model.fill(torch.where(masks, images, torch.rand(1, 3, 40, 64)), masks), filled)


@pytest.mark.system("deepfill-v2")
def test_a_sketch_guides_what_is_filled_and_nothing_else():
    model = built(sketch=True).eval()
    images, masks = torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    masks[:, :, 8:24, 8:24] = True
    lines = torch.zeros(1, 1, 32, 32)
    lines[:, :, 16] = 1
    bare, drawn = model.fill(images, masks), model.fill(images, masks, guidance=lines)
    assert not torch.allclose(bare, drawn)
    assert torch.equal(model.fill(images, masks, guidance=lines * masks), drawn)  # of the lines, those in the hole
    assert torch.equal(model.fill(images, masks, guidance=torch.zeros_like(lines)), bare)
    with pytest.raises(UsageError, match="sketch"):
        built().fill(images, masks, guidance=lines)


def test_edges_are_where_the_gray_values_jump():
    pictures = -torch.ones(1, 3, 16, 16)
    pictures[..., 8:] = 1
    edges = built().edges(pictures)
    assert edges[0, 0, 5].tolist() == [0] * 7 + [1, 1] + [0] * 7
    assert not built().edges(torch.zeros(1, 3, 16, 16)).any()


@pytest.mark.system("deepfill-v2")
@pytest.mark.system("sn-patchgan")
def test_it_learns_eight_photographs_and_fills_one(taught, inpainted):
    folder, lines = taught("deepfill-v2.tiny", 20, augment="none", lr=2e-3)
    assert {"l1_coarse", "l1", "adversarial", "d_real", "d_made"} <= set(lines[0])
    assert np.mean([line["l1"] for line in lines[-3:]]) < 0.7 * lines[0]["l1"]
    before, after, hole = inpainted(folder)
    assert np.array_equal(before[~hole], after[~hole])
    assert not np.array_equal(before[hole], after[hole])


def test_with_sketches_it_trains_as_well(taught):
    folder, _ = taught("deepfill-v2.tiny", 1, sketch=True)
    model, _ = weights.load(str(folder))
    assert model.sketch
    assert model.discriminator[0].in_channels == 5
