"""SqueezeNet: torchvision's tensors, and a published file that loads key for key."""

import numpy as np
import pytest
import torch

from cvtool import registry, weights
from cvtool.categories import numbered
from cvtool.models.classify import squeezenet
from cvtool.runtime.torchvision import cheap_import


@pytest.mark.parametrize("version", ["1_0", "1_1"])
def test_tensors_are_those_of_torchvision(version):
    with cheap_import():
        from torchvision.models import get_model
    with torch.device("meta"):
        other = get_model(f"squeezenet{version}", weights=None)
        own = weights.build(registry.parse(f"squeezenet{version}@none"), categories=numbered(1000))
    wanted = squeezenet.rename(other.state_dict())
    assert {key: value.shape for key, value in own.state_dict().items()} == {key: value.shape for key, value in wanted.items()}


def test_a_published_file_loads(data):
    path = data / "checkpoints/classification/squeezenet1_0_deepcompression_tvnorm.pth"
    model, _ = weights.load(f"squeezenet.1-0@{path}")
    assert len(model.categories) == 1000
    assert not model.fresh
    images = [np.asarray(picture) for picture in [np.zeros((240, 300, 3), np.uint8)]]
    assert torch.isfinite(model(model.prepare(images).images)).all()
