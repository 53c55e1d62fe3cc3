"""A small network with weights on disk, whose layers losses compare."""

import pytest
import torch

from cvtool import weights
from cvtool.categories import numbered


@pytest.fixture(scope="session")
def small_network(tmp_path_factory) -> str:
    """The path of a checkpoint of a small VGG with two convolutions in its third stage, random but not zero in its biases."""
    torch.manual_seed(0)
    model = weights.build("vgg.tiny", categories=numbered(5))
    path = tmp_path_factory.mktemp("networks") / "small.safetensors"
    return str(weights.save(model, path, weights.Info(reference="vgg.tiny", categories=model.categories, prepare=model.prepare)))
