"""Each activation against its formula, its derivative by autograd against the printed one, and by its name."""

import math

import pytest
import torch
from torch import nn

from cvtool.errors import UsageError
from cvtool.layers.activation import NAMES, activation, pieces
from cvtool.ops.activations import dead_share, maxout

X = torch.cat([torch.linspace(-6, 6, 241, dtype=torch.float64)])


def both(text: str, x: torch.Tensor = X) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and derivative."""
    x = x.clone().requires_grad_()
    y = activation(text)(x)
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


def step(x: torch.Tensor) -> torch.Tensor:
    return (x > 0).double()


@pytest.mark.system("relu")
def test_relu():
    y, slope = both("relu")
    assert torch.equal(y, torch.maximum(X, torch.zeros_like(X)))
    assert torch.equal(slope, step(X))  # 1 or 0


@pytest.mark.system("leaky-relu")
def test_leaky_relu():
    for text, expected in (("leaky-relu", 0.01), ("leaky-relu:0.2", 0.2), ("leaky_relu:slope=0.3", 0.3)):
        y, slope = both(text)
        assert torch.allclose(y, torch.where(X > 0, X, expected * X))
        assert torch.allclose(slope[X < 0], torch.full_like(X[X < 0], expected))
        assert torch.equal(slope[X > 0], torch.ones_like(X[X > 0]))


@pytest.mark.system("elu")
def test_elu():
    for text, alpha in (("elu", 1.0), ("elu:0.5", 0.5)):
        y, slope = both(text)
        assert torch.allclose(y, torch.where(X > 0, X, alpha * (X.exp() - 1)))
        assert torch.allclose(slope[X != 0], torch.where(X > 0, torch.ones_like(X), alpha * X.exp())[X != 0])
        assert torch.equal(y, nn.ELU(alpha)(X))


@pytest.mark.system("gelu")
def test_gelu_in_both_forms():
    exact, slope = both("gelu")
    rough, _ = both("gelu:tanh")
    phi = 0.5 * (1 + torch.erf(X / math.sqrt(2)))
    assert torch.allclose(exact, X * phi)
    assert torch.allclose(slope, phi + X * torch.exp(-X.square() / 2) / math.sqrt(2 * math.pi))
    assert torch.allclose(rough, 0.5 * X * (1 + torch.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3))))
    fine = torch.linspace(-20, 20, 400_001, dtype=torch.float64)
    apart = (activation("gelu:exact")(fine) - activation("gelu:tanh")(fine)).abs().max()
    assert 4.7e-4 < apart < 4.8e-4  # < 1e-3 everywhere


@pytest.mark.system("sigmoid")
def test_sigmoid():
    y, slope = both("sigmoid")
    assert torch.allclose(y, 1 / (1 + torch.exp(-X)))
    assert torch.allclose(slope, y * (1 - y))
    assert slope.max() == 0.25
    assert X[slope.argmax()].abs() < 1e-12
    for dtype in (torch.float32, torch.float64):
        y, slope = both("sigmoid", torch.tensor([-1e4, 1e4], dtype=dtype))
        assert y.tolist() == [0, 1]
        assert slope.tolist() == [0, 0]


@pytest.mark.system("tanh")
def test_tanh():
    y, slope = both("tanh")
    assert torch.allclose(y, (X.exp() - (-X).exp()) / (X.exp() + (-X).exp()))
    assert (y.abs() < 1).all()
    assert torch.allclose(y, -y.flip(0))  # centred on zero
    assert torch.allclose(slope, 1 - y.square())


@pytest.mark.system("softmax")
@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 1000])
def test_softmax_of_a_constant_is_one_nth_exactly(n):
    for c in (-1e4, 0.0, 1e4):
        for dtype in (torch.float32, torch.float64):
            given = activation("softmax")(torch.full((2, n), c, dtype=dtype))
            assert torch.equal(given, torch.full((2, n), 1 / n, dtype=dtype))


@pytest.mark.system("softmax")
def test_softmax_sums_to_one_and_is_always_finite():
    torch.manual_seed(0)
    for scale in (1, 100, 1e4, 1e30):
        given = activation("softmax")(torch.randn(5, 9, 3, 3) * scale)
        assert given.isfinite().all()
        assert torch.allclose(given.sum(1), torch.ones(5, 3, 3))
    z = torch.randn(4, 6, dtype=torch.float64)
    shifted = (z - z.max(1, keepdim=True).values).exp()
    assert torch.allclose(activation("softmax")(z), shifted / shifted.sum(1, keepdim=True))


@pytest.mark.system("maxout")
def test_maxout_is_the_maximum_over_linear_pieces():
    torch.manual_seed(0)
    x = torch.randn(2, 12, 3, 3)
    y = activation("maxout:4")(x)
    assert y.shape == (2, 3, 3, 3)
    for c in range(3):
        assert torch.equal(y[:, c], x[:, 4 * c : 4 * c + 4].max(1).values)
    assert pieces("maxout:4") == 4
    assert pieces("relu") == 1
    with pytest.raises(ValueError, match="12 channels"):
        maxout(x, 5)


@pytest.mark.system("maxout")
def test_maxout_of_w_and_zero_is_relu_exactly():
    torch.manual_seed(0)
    linear, wide = nn.Linear(5, 7), nn.Linear(5, 14)
    with torch.no_grad():
        for mine, theirs in ((wide.weight, linear.weight), (wide.bias, linear.bias)):
            mine.zero_()
            mine[::2] = theirs
    x = torch.randn(100, 5, requires_grad=True)
    net, plain = nn.Sequential(wide, activation("maxout")), nn.Sequential(linear, activation("relu"))
    assert torch.equal(net(x), plain(x))
    slopes = [torch.autograd.grad(made(x).sum(), x)[0] for made in (net, plain)]
    assert torch.allclose(*slopes)


@pytest.mark.system("relu")
def test_the_share_of_dead_units():
    x = torch.zeros(3, 4, 2, 2)
    x[1, 2, 0, 1] = 1
    assert dead_share(x) == 0.75
    layer = nn.Linear(3, 8)
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([-1.0, -1, -1, -1, -1, -1, 0.01, 0.01]))
    assert dead_share(torch.relu(layer(torch.randn(10, 3)))) == 0.75


def test_by_name():
    for name in NAMES:
        assert isinstance(activation(name), nn.Module)
    assert activation("relu", inplace=True).inplace
    assert "0.2" in repr(activation("leaky-relu:0.2"))
    for text, said in (
        ("relo", "relu"),
        ("xyz", "activations: elu, gelu"),
        ("relu:3", "takes 0 arguments"),
        ("gelu:rough", "gelu:exact"),
        ("maxout:0", "maxout:2"),
    ):
        with pytest.raises(UsageError) as error:
            activation(text)
        assert said in str(error.value)


@pytest.mark.system("maxout")
@pytest.mark.system("leaky-relu")
@pytest.mark.parametrize("name", ["simple-cnn.tiny", "lenet.tiny"])
def test_networks_are_built_with_them(name):
    from cvtool import weights

    table = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    plain, leaky, widest = (weights.build(name, categories=table, activation=text) for text in ("relu", "leaky-relu:0.2", "maxout:2"))
    assert {type(m) for m in plain.modules()} - {type(m) for m in leaky.modules()} == {nn.ReLU}
    assert {m.negative_slope for m in leaky.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert list(plain.state_dict()) == list(leaky.state_dict()) == list(widest.state_dict())
    x = torch.randn(2, 3, *([plain.prepare.size] * 2))
    for model in (plain, leaky, widest):
        assert model(x).shape == (2, 2)
    count = [sum(p.numel() for p in model.parameters()) for model in (plain, widest)]
    assert 1.6 * count[0] < count[1] < 2.1 * count[0]  # twice as many filters, as many channels
    with pytest.raises(UsageError, match="unknown activation"):
        weights.build(name, categories=table, activation="relo")
