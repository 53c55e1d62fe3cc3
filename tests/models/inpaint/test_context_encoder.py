"""The context encoder: what it is made of, what it loses, and that it fills a photograph's hole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from cvtool import weights
from cvtool.batch import Batch
from cvtool.categories import numbered
from cvtool.cli import command
from cvtool.errors import UsageError
from cvtool.layers.channel_fc import ChannelFC
from cvtool.results import Picture


def built(variant="tiny", **changes):
    torch.manual_seed(0)
    return weights.build(f"context-encoder.{variant}", categories=numbered(1), **changes)


@pytest.mark.system("context-encoder")
def test_l2_counts_in_the_hole_alone_and_the_rival_sees_the_completed_picture():
    """0.999 of the mean of (x - F((1 - M) * x))^2 over M = 1, 0.001 of -ln D(completed)."""
    model = built().eval()
    images, hole = torch.rand(2, 3, 32, 32) * 2 - 1, torch.zeros(2, 32, 32, dtype=torch.bool)
    hole[0, 4:10, 5:20], hole[1, 20:30, 0:8] = True, True
    batch = Batch(images, torch.zeros(2, 32, 32, dtype=torch.bool), [None] * 2, [Picture(hole=one) for one in hole])
    with torch.no_grad():
        losses = model.losses(batch)
        mask = hole[:, None].float()
        made = model.generator((1 - mask) * images)
        inside = mask.expand_as(images) == 1
        assert losses["l2"].item() == pytest.approx(0.999 * float((images - made)[inside].square().mean()), rel=1e-5)
        completed = torch.where(mask == 1, made, images)
        assert losses["adversarial"].item() == pytest.approx(0.001 * float(-model.discriminator(completed).sigmoid().log().mean()), rel=1e-4)
        assert losses["d_real"].item() == pytest.approx(float(-model.discriminator(images).sigmoid().log().mean()), rel=1e-4)
        assert losses["d_made"].item() == pytest.approx(float(-(1 - model.discriminator(completed).sigmoid()).log().mean()), rel=1e-4)


@pytest.mark.system("context-encoder")
def test_mask_1_is_hole():
    """What lies under a 1 changes nothing, what lies under a 0 does."""
    model = built().eval()
    images, masks = torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    masks[:, :, 8:20, 8:20] = True
    filled = model.fill(images, masks)
    other = images.clone()
    other[:, :, 10, 10] = 1 - other[:, :, 10, 10]
    assert torch.equal(model.fill(other, masks), filled)
    other[:, :, 2, 2] = 1 - other[:, :, 2, 2]
    assert not torch.equal(model.fill(other, masks), filled)
    assert filled.shape == images.shape
    assert 0 <= filled.min() <= filled.max() <= 1


@pytest.mark.system("context-encoder")
def test_bottlenecks():
    deep, side = 32, 4
    fc, conv = built(), built(bottleneck="conv")
    (layer,) = [m for m in fc.modules() if isinstance(m, ChannelFC)]
    assert layer.weight.numel() == deep * (side * side) ** 2
    assert not [m for m in conv.modules() if isinstance(m, ChannelFC)]
    assert isinstance(conv.generator.bottleneck[0], nn.Conv2d)
    with pytest.raises(UsageError, match="channel-fc, conv"):
        built(bottleneck="fc")


@pytest.mark.system("context-encoder")
def test_trained_by_the_command_it_fills_a_photograph(photos, tmp_path, inpainted):
    """`--bottleneck conv` at the command line, and the folder that comes of it."""
    words = ["-m", "context-encoder.tiny", "--data", str(photos), "--bottleneck", "conv", "--epochs", "2", "--batch-size", "8"]
    done = CliRunner().invoke(command("train"), [*words, "-o", str(tmp_path / "runs"), "--device", "cpu", "-q"])
    assert done.exit_code == 0, done.output
    assert weights.read_info(tmp_path / "runs/0001").arguments == {"bottleneck": "conv"}
    before, after, hole = inpainted(tmp_path / "runs/0001")
    assert np.array_equal(before[~hole], after[~hole])
    assert not np.array_equal(before[hole], after[hole])


@pytest.mark.system("context-encoder")
def test_it_learns_eight_photographs(taught):
    _, lines = taught("context-encoder.tiny", 20, augment="none")
    assert np.mean([line["l2"] for line in lines[-3:]]) < 0.5 * lines[0]["l2"]
    assert all({"l2", "adversarial", "d_real", "d_made"} <= set(line) for line in lines)
