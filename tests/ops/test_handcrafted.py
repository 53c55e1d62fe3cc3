"""Features by hand, against counting."""

import numpy as np
import pytest
import torch

from cvtool.ops import handcrafted


@pytest.mark.system("handcrafted-features")
def test_colours_are_counted():
    image = torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    counts = np.zeros((4, 4, 4))
    for r, g, b in image[0].flatten(1).T.tolist():
        counts[int(r * 4), int(g * 4), int(b * 4)] += 1
    assert handcrafted.colours(image)[0].numpy() == pytest.approx(counts.ravel() / 63)


@pytest.mark.system("handcrafted-features")
def test_edges_have_a_direction():
    """A picture that gets lighter to the right has all its strength in the first direction, one that gets lighter downwards in the middle one."""
    ramp = torch.linspace(0, 1, 16).expand(1, 3, 16, 16)
    for picture, direction in ((ramp, 0), (ramp.transpose(2, 3), 4)):
        found = handcrafted.edges(picture.contiguous())[0].reshape(8, 4, 4)
        assert float(found.norm()) == pytest.approx(1)
        assert float(found[direction].norm()) == pytest.approx(1, abs=1e-5)
