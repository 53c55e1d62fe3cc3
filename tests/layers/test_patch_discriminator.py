"""PatchGAN: its count of parameters, its map, and the pixels that one answer sees."""

import pytest
import torch

from cvtool.errors import UsageError
from cvtool.layers.patch_discriminator import PatchDiscriminator


def test_the_papers_size():
    net = PatchDiscriminator(6)
    assert sum(p.numel() for p in net.parameters()) == 2_768_705
    with torch.inference_mode():
        assert net(torch.zeros(1, 6, 256, 256)).shape == (1, 1, 30, 30)


def test_an_answer_sees_70_pixels():
    net = PatchDiscriminator(3, width=4, norm="none")
    x = torch.randn(1, 3, 128, 128, requires_grad=True)
    net(x)[0, 0, 7, 7].backward()
    seen = x.grad.abs().sum(dim=(0, 1)).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [70, 70]


@pytest.mark.parametrize(("layers", "least"), [(1, 6), (2, 12), (3, 24)])
def test_pictures_too_small_are_told(layers, least):
    net = PatchDiscriminator(width=4, layers=layers)
    assert net(torch.rand(2, 3, least, least)).shape == (2, 1, 1, 1)
    with pytest.raises(UsageError, match=f"from {least} pixels"):
        net(torch.rand(1, 3, least - 1, 40))
