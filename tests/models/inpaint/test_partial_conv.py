"""The partial convolution U-Net: masks that close, holes that are never looked at, and a photograph's hole filled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cvtool import weights
from cvtool.batch import Batch
from cvtool.categories import numbered
from cvtool.errors import UsageError
from cvtool.layers.partial_conv import PartialConv
from cvtool.losses.irregular_holes import irregular_holes
from cvtool.models.inpaint import partial_conv
from cvtool.results import Picture


def built(variant="tiny", **changes):
    torch.manual_seed(0)
    return weights.build(f"partial-conv.{variant}", categories=numbered(1), **changes)


@pytest.mark.system("partial-conv")
def test_the_mask_is_full_at_the_end():
    """Each layer's is the one before under a kernel of ones; even one known pixel is enough for depth 8."""
    net = partial_conv.UNet(2, 8).eval()
    mask = torch.zeros(1, 1, 256, 256)
    mask[:, :, 3, 250] = 1
    seen = []
    for stage in (*net.down, *net.up):
        stage.register_forward_hook(lambda module, given, out: seen.append(float(out[1].mean())))
    with torch.no_grad():
        _, end = net(torch.rand(1, 3, 256, 256), mask)
    assert end.shape == (1, 1, 256, 256)
    assert torch.equal(end, torch.ones_like(end))
    assert seen == sorted(seen)
    assert seen[0] < 0.01
    assert seen[7:] == [1.0] * 9


@pytest.mark.system("partial-conv")
def test_what_lies_in_the_hole_is_never_seen():
    """By the whole network, in training as in use; mask 1 is hole in the program and 0 in the paper's network."""
    model = built().eval()
    images, masks = torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    masks[:, :, 8:24, 4:20] = True
    filled = model.fill(images, masks)
    assert torch.equal(model.fill(torch.where(masks, torch.rand(1, 3, 32, 32), images), masks), filled)
    assert not torch.equal(model.fill(torch.where(masks, images, torch.rand(1, 3, 32, 32)), masks), filled)
    first = model.generator(torch.where(masks, torch.rand(1, 3, 32, 32), images), 1 - masks.float())[0]
    torch.testing.assert_close(first.clamp(0, 1), filled)


@pytest.mark.system("partial-conv")
def test_its_layers():
    """Kernels 7, 5, 5, 3, ... of stride 2 downwards and 3 upwards behind nearest neighbours; norms behind all but the first and last."""
    model = built("base")
    convolutions = [[stage.conv.conv for stage in part] for part in (model.generator.down, model.generator.up)]
    assert [(c.kernel_size[0], c.stride[0]) for c in convolutions[0]] == [(7, 2), (5, 2), (5, 2), *[(3, 2)] * 5]
    assert [(c.kernel_size[0], c.stride[0]) for c in convolutions[1]] == [(3, 1)] * 8
    assert [c.out_channels for c in convolutions[0]] == [64, 128, 256, *[512] * 5]
    for part in (model.generator.down, model.generator.up):
        assert [isinstance(stage.norm, nn.BatchNorm2d) for stage in part] == [False, *[True] * 7]
    assert len([m for m in model.modules() if isinstance(m, nn.Conv2d)]) == len([m for m in model.modules() if isinstance(m, PartialConv)]) == 16
    assert sum(p.numel() for p in model.parameters()) == 32_859_796
    with pytest.raises(UsageError, match="halved 3 times"):
        built(image_size=36)


@pytest.mark.system("partial-conv")
def test_it_loses_the_six_terms():
    model = built().eval()
    images, hole = torch.rand(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.bool)
    hole[:, 10:20, 5:25] = True
    batch = Batch(images, torch.zeros(2, 32, 32, dtype=torch.bool), [None] * 2, [Picture(hole=one) for one in hole])
    with torch.no_grad():
        losses = model.losses(batch)
        made, _ = model.generator(images, 1 - hole[:, None].float())
        plain = irregular_holes(made, images, hole[:, None], features=partial_conv.shared("vgg.tiny@none"))
    assert list(losses) == ["valid", "hole", "perceptual", "style_out", "style_comp", "tv"]
    for name, value in losses.items():
        torch.testing.assert_close(value, plain[name])


@pytest.mark.system("partial-conv")
def test_it_learns_eight_photographs_and_fills_one(taught, inpainted):
    """In one phase, for it has no rival."""
    folder, lines = taught("partial-conv.tiny", 20, augment="none", lr=3e-3)
    assert {"valid", "hole", "perceptual", "style_out", "style_comp", "tv"} <= set(lines[0])
    assert "adversarial" not in lines[0]
    assert np.mean([line["hole"] for line in lines[-3:]]) < 0.5 * lines[0]["hole"]
    before, after, hole = inpainted(folder)
    assert np.array_equal(before[~hole], after[~hole])
    assert not np.array_equal(before[hole], after[hole])
