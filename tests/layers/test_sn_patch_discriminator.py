"""SN-PatchGAN: what it sees, what it says, and that no layer stretches anything."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cvtool.layers.sn_patch_discriminator import SNPatchDiscriminator, SpectralConv2d
from cvtool.losses._gan import form


@pytest.mark.system("sn-patchgan")
def test_every_layer_is_spectrally_normed():
    torch.manual_seed(0)
    judge = SNPatchDiscriminator(5, [8, 16, 16])
    convolutions = [m for m in judge.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 3
    for conv in convolutions:
        assert isinstance(conv, SpectralConv2d)
        with torch.no_grad():
            conv.weight.mul_(7)  # however large the weights grow
            for _ in range(300):
                conv._advance()
        assert torch.linalg.svdvals(conv.normalised().flatten(1))[0].item() == pytest.approx(1, abs=2e-3)
    # sigma(W x + b) of the whole: a layer's own bound on maps is that of its windows, so look at it alone, in use
    conv, x = convolutions[0].eval(), torch.randn(1, 5, 16, 16)
    torch.testing.assert_close(conv(x), torch.nn.functional.conv2d(x, conv.weight / torch.linalg.svdvals(conv.weight.flatten(1))[0], conv.bias, 2, 2),
                               atol=1e-3, rtol=1e-3)  # fmt: skip


@pytest.mark.system("sn-patchgan")
def test_it_takes_picture_mask_and_guidance_and_answers_c_x_h_x_w():
    judge = SNPatchDiscriminator(3 + 1 + 1, [64, 128, 256, 256, 256, 256])
    with torch.no_grad():
        assert judge(torch.randn(1, 5, 256, 256)).shape == (1, 256, 4, 4)
    strided = [m for m in judge if isinstance(m, nn.Conv2d)]
    assert [(m.kernel_size, m.stride) for m in strided] == [((5, 5), (2, 2))] * 6


@pytest.mark.system("sn-patchgan")
def test_the_hinge_counts_every_element():
    """C H W small games: the mean over all elements of max(0, 1 - D), max(0, 1 + D), and -D for the generator."""
    torch.manual_seed(0)
    scores = 3 * torch.randn(2, 4, 3, 3, requires_grad=True)
    scores.retain_grad()
    hinge = form("hinge")
    values = scores.detach().flatten().tolist()
    for loss, plain in (
        (hinge.judging(scores, True), [max(0.0, 1 - v) for v in values]),
        (hinge.judging(scores, False), [max(0.0, 1 + v) for v in values]),
        (hinge.deceiving(scores), [-v for v in values]),
    ):
        assert loss.item() == pytest.approx(sum(plain) / len(values), rel=1e-5)
    hinge.deceiving(scores).backward()
    torch.testing.assert_close(scores.grad, torch.full_like(scores, -1 / scores.numel()))


def test_the_norm_advances_in_training_alone_and_is_saved():
    torch.manual_seed(0)
    conv, x = SpectralConv2d(3, 8, 3), torch.randn(1, 3, 8, 8)
    before = conv.u.clone()
    first = conv.eval()(x)
    assert torch.equal(conv.u, before)
    other = SpectralConv2d(3, 8, 3).eval()
    other.load_state_dict(copy.deepcopy(conv.state_dict()))
    assert torch.equal(other(x), first)
    with torch.no_grad():
        conv.weight.add_(torch.randn_like(conv.weight))
    (conv.train()(x).sum() + conv(x).sum()).backward()  # two passes before one gradient
    assert not torch.equal(conv.u, before)
    assert conv.weight.grad.isfinite().all()


def test_its_gradient_is_that_of_the_largest_singular_value():
    torch.manual_seed(0)
    conv = SpectralConv2d(2, 3, 3).double()
    for _ in range(500):
        conv._advance()
    pull = torch.randn(3, 2, 3, 3, dtype=torch.float64)
    (got,) = torch.autograd.grad((conv.normalised() * pull).sum(), conv.weight)
    exact = conv.weight / torch.linalg.svdvals(conv.weight.flatten(1))[0]
    (wanted,) = torch.autograd.grad((exact * pull).sum(), conv.weight)
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-6)
