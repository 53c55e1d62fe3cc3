"""Counting: against formulas, against torchvision's own figures, and memory against what was allocated."""

import pytest
import torch
from torch import nn

from cvtool.metrics.cost import cost


@pytest.mark.parametrize(
    ("layer", "shape", "macs", "outputs"),
    [
        (lambda: nn.Conv2d(3, 8, 5, stride=2, padding=2), (2, 3, 16, 20), 2 * 8 * 8 * 10 * 75, 2 * 8 * 8 * 10),
        (lambda: nn.Conv2d(6, 9, 3, groups=3), (1, 6, 7, 7), 9 * 25 * 2 * 9, 9 * 25),
        (lambda: nn.ConvTranspose2d(4, 6, 2, 2), (1, 4, 5, 5), 4 * 25 * 6 * 4, 6 * 100),
        (lambda: nn.Linear(10, 7), (3, 10), 3 * 70, 21),
        (lambda: nn.Conv1d(4, 4, 3), (1, 4, 10), 8 * 4 * 12, 32),
        (lambda: nn.LSTM(5, 6, batch_first=True), (1, 4, 5), 4 * 4 * (30 + 36), None),
        (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), (1, 3, 8, 8), 0, 0),
    ],
)
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_products_are_those_of_the_formula(layer, shape, macs, outputs, device):
    torch.manual_seed(0)
    layer = layer().to(device).eval()
    x = torch.zeros(*shape, device=device)
    found = cost(layer, lambda: layer(x))
    assert found.macs == macs
    assert found.flops == 2 * macs
    assert outputs in (None, found.activations)
    assert found.parameters == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize("fused", [True, False])
def test_attention_is_counted_however_it_is_computed(fused):
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    torch.backends.mha.set_fastpath_enabled(fused)
    try:
        x = torch.zeros(1, 10, 32)
        found = cost(layer, lambda: layer(x))
        assert torch.backends.mha.get_fastpath_enabled() == fused  # as it was
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert found.macs == 10 * (32 * 96 + 32 * 32 + 2 * 32 * 64) + 2 * 10 * 10 * 32


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1", "shufflenet_v2_x0_5", "vit_b_32", "swin_t"])
def test_torchvisions_figures(name):
    """`_ops` of its weights: multiply-adds in thousands of millions, which it calls GFLOPS."""
    from torchvision.models import get_model, get_model_weights

    published = next(iter(get_model_weights(name)))
    with torch.device("meta"):
        model, x = get_model(name).eval(), torch.empty(1, 3, *[published.transforms.keywords["crop_size"]] * 2)
    found = cost(model, lambda: model(x))
    assert round(found.macs / 1e9, 3) == published.meta["_ops"]
    assert found.parameters == published.meta["num_params"]


def test_parts_add_up_and_lists_are_opened():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.blocks = nn.Conv2d(3, 4, 3, padding=1), nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
            self.scale, self.unused = nn.Parameter(torch.ones(4, 4)), nn.Linear(2, 2)

        def forward(self, x):
            x = self.stem(x)
            for block in self.blocks:
                x = block(block(x))  # each twice
            return x.mean((2, 3)) @ self.scale

    net = nn.Sequential(Net())  # a wrapper
    x = torch.zeros(1, 3, 8, 8)
    found = cost(net, lambda: net(x))
    parts = {part.name: part for part in found.parts}
    assert list(parts) == ["0.stem", "0.blocks.0", "0.blocks.1", "0.unused", "(rest)"]
    assert parts["0.stem"].macs == 64 * 27 * 4
    assert parts["0.blocks.0"].macs == 2 * 64 * 36 * 4
    assert parts["0.blocks.0"].output == (1, 4, 8, 8)
    assert parts["0.unused"].macs == 0
    assert parts["(rest)"].macs == 16
    assert parts["(rest)"].parameters == 16
    for key in ("parameters", "macs", "activations"):
        assert sum(getattr(part, key) for part in found.parts) == getattr(found, key)


def test_memory_is_the_weights_and_what_lives_beside_them():
    layer = nn.Sequential(nn.Linear(100, 1000, bias=False), nn.ReLU(), nn.Linear(1000, 10, bias=False))
    weights = 4 * (100_000 + 10_000)
    x = torch.zeros(50, 100)
    found = cost(layer, lambda: layer(x))
    assert found.weight_bytes == weights
    assert found.peak_bytes == weights + 2 * 4 * 50 * 1000  # the hidden layer before and after the ReLU
    layer[1] = nn.ReLU(inplace=True)
    assert cost(layer, lambda: layer(x)).peak_bytes == weights + 4 * 50 * 1000 + 4 * 50 * 10


def test_shared_weights_count_once():
    first = nn.Linear(8, 8, bias=False)
    net = nn.Sequential(first, nn.ReLU(), first)
    x = torch.zeros(1, 8)
    found = cost(net, lambda: net(x))
    assert found.parameters == 64
    assert found.weight_bytes == 256
    assert found.macs == 128


def test_nothing_stays_behind():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).train()
    x = torch.randn(8, 4, requires_grad=True)

    def broken():
        net(x)
        raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        cost(net, broken)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    net(x).sum().backward()
    assert x.grad is not None
