"""Features with batch normalisation folded in: the same numbers, and the model untouched."""

import numpy as np
import pytest
import torch
from torch import nn

from cvtool import weights
from cvtool.categories import numbered
from cvtool.runtime.pool import Loaded
from cvtool.tasks.embedding._encode import Features, encoder
from cvtool.tasks.embedding._fold import folded


@pytest.mark.parametrize(("name", "traced"), [("resnet.tiny", True), ("mobilenet-v2.tiny", True), ("vgg.tiny", False)])
def test_equal_but_for_rounding(name, traced):
    torch.manual_seed(0)
    model = weights.build(name, categories=numbered(3))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    model.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    batch = model.prepare([np.random.default_rng(i).integers(0, 256, (40, 50, 3)).astype(np.uint8) for i in range(2)])
    fast = folded(model)
    with torch.inference_mode():
        plain = model.embed(batch)
        assert (fast is not None) == traced
        if fast is not None:
            assert fast(batch.images) == pytest.approx(plain, rel=1e-4, abs=1e-4)
        loaded = Loaded(model, weights.Info(reference=name), name, torch.device("cpu"), "fp32")
        unit = encoder(loaded, Features(normalize=True))(batch)
    assert unit == pytest.approx(nn.functional.normalize(plain, dim=-1), abs=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
