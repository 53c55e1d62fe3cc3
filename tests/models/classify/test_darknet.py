"""DarkNet-53: 52 convolutions and a full layer, strides 8, 16 and 32, timm's tensors."""

import pytest
import torch

from cvtool import registry, weights
from cvtool.categories import numbered
from cvtool.models.classify import darknet
from cvtool.runtime.torchvision import cheap_import


@pytest.mark.system("darknet-53")
def test_layers_and_parameters():
    with torch.device("meta"):
        model = weights.build(registry.parse("darknet53"), categories=numbered(1000))
    assert sum(isinstance(module, torch.nn.Conv2d) for module in model.modules()) == 52
    assert sum(p.numel() for p in model.parameters()) == 41_609_928
    assert sum(p.numel() for name, p in model.named_parameters() if "head" not in name) == 40_584_928


@pytest.mark.system("darknet-53")
def test_maps_for_a_detector_lie_at_strides_8_16_32():
    with torch.device("meta"):
        net = darknet.build(classes=2).net
    maps = net.maps(torch.empty(1, 3, 416, 416, device="meta"))
    assert [tuple(x.shape[1:]) for x in maps[-3:]] == [(256, 52, 52), (512, 26, 26), (1024, 13, 13)]


@pytest.mark.system("darknet-53")
def test_copied_weights_give_timms_logits():
    with cheap_import():
        import timm
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in darknet.rename(timm.create_model("darknet53").state_dict()).items()}
        own = weights.build(registry.parse("darknet53"), categories=numbered(1000))
    assert {key: value.shape for key, value in own.state_dict().items()} == shapes
    torch.manual_seed(0)
    other = timm.create_model("darknet53", num_classes=5).eval()
    own = darknet.build(classes=5, slope=0.01).eval()  # timm's
    own.load_state_dict(darknet.rename(other.state_dict()))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.allclose(own(images), other(images), atol=1e-5)
