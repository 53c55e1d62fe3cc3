"""DenseNet: what each layer reads, what stands between blocks, torchvision's tensors."""

import pytest
import torch
from torch import nn
from torchvision import models as tv
from torchvision.models.densenet import _DenseLayer

from cvtool import weights
from cvtool.errors import UsageError
from cvtool.models.classify import densenet


def test_the_published_facts_are_torchvisions_own(torchvisions):
    torchvisions("densenet", {name: f"densenet{name}" for name in ("121", "161", "169", "201")})


@pytest.mark.system("densenet")
def test_parameters(parameters):
    counts = {"121": 7_978_856, "161": 28_681_000, "169": 14_149_480, "201": 20_013_928}
    assert {name: parameters(f"densenet{name}@none") for name in counts} == counts
    assert parameters("densenet-bc-100-12", classes=10) == 769_162  # 0.8 million in the paper's table 2


@pytest.mark.system("densenet")
def test_torchvisions_weights_give_torchvisions_logits(same_as):
    same_as("densenet.121", tv.densenet121(num_classes=5), classes=5)


@pytest.mark.system("densenet")
def test_the_names_of_the_published_files_are_read(tmp_path):
    model = densenet.build(classes=3, **densenet.VARIANTS["tiny"])
    own = model.state_dict()
    old = {key.removeprefix("net.").replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for key, value in own.items()}
    assert any("denselayer1.norm.1.weight" in key for key in old)
    torch.save(old, tmp_path / "old.pth")
    model, info = weights.load(f"densenet.tiny@{tmp_path / 'old.pth'}", classes=3)
    assert info.fresh == []
    for key, value in model.state_dict().items():
        assert torch.equal(value, own[key])


@pytest.mark.system("densenet")
def test_each_layer_reads_all_earlier_maps_of_its_block():
    """The inputs of every layer, listed: the block's own input, then what each layer before it has added, unchanged and in order."""
    torch.manual_seed(0)
    model = densenet.build(classes=3, **densenet.VARIANTS["tiny"] | {"layers": (3, 2, 2)}).eval()
    seen = {}
    layers = [m for m in model.modules() if isinstance(m, _DenseLayer)]
    for layer in layers:
        layer.register_forward_hook(lambda m, i, o: seen.update({m: ([t.clone() for t in i[0]], o.clone())}))
    with torch.no_grad():
        model(torch.randn(1, 3, 32, 32))
    for name in ("denseblock1", "denseblock2", "denseblock3"):
        block = list(getattr(model.net.features, name).values())
        made = [seen[block[0]][0][0]]
        for layer in block:
            inputs, new = seen[layer]
            assert len(inputs) == len(made)
            assert all(torch.equal(a, b) for a, b in zip(inputs, made, strict=True))
            assert new.shape[1] == 8, "growth"
            made.append(new)


@pytest.mark.system("densenet")
def test_a_transition_is_a_1x1_convolution_and_a_2x2_mean():
    with torch.device("meta"):
        net = densenet.build(classes=10, **densenet.VARIANTS["121"]).net
    for name in ("transition1", "transition2", "transition3"):
        convolution, pooling = getattr(net.features, name).conv, getattr(net.features, name).pool
        assert convolution.kernel_size == (1, 1)
        assert convolution.out_channels == convolution.in_channels // 2
        assert isinstance(pooling, nn.AvgPool2d)
        assert (pooling.kernel_size, pooling.stride) == (2, 2)


def test_the_stem_for_small_pictures_keeps_their_size():
    model = densenet.build(classes=3, **densenet.VARIANTS["tiny"])
    assert model.net.features(torch.randn(2, 3, 32, 32)).shape[-2:] == (8, 8)
    with pytest.raises(UsageError):
        densenet.build(classes=3, layers=(0, 1))
    with pytest.raises(UsageError, match="stem"):
        densenet.build(classes=3, stem="9x9")
