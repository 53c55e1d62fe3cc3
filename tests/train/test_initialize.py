"""Where weights begin: measured variances, what comes through ten layers, and the starts that are not drawn."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvtool import weights
from cvtool.errors import UsageError
from cvtool.ops import init
from cvtool.train import initialize


def variance(text: str, module: nn.Module) -> float:
    torch.manual_seed(0)
    assert initialize.apply(module, text) == 1
    assert not module.bias.any()
    return float(module.weight.detach().double().var())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("xavier:normal", lambda i, o: 1 / i, marks=pytest.mark.system("xavier")),
        pytest.param("xavier:uniform", lambda i, o: 1 / i, marks=pytest.mark.system("xavier")),
        pytest.param("glorot:normal", lambda i, o: 2 / (i + o), marks=pytest.mark.system("xavier")),
        pytest.param("glorot:uniform", lambda i, o: 2 / (i + o), marks=pytest.mark.system("xavier")),
        pytest.param("he:normal", lambda i, o: 2.0 / i, marks=pytest.mark.system("he")),
        pytest.param("he:uniform", lambda i, o: 2.0 / i, marks=pytest.mark.system("he")),
        ("small:0.01", lambda i, o: 1e-4),
        ("large", lambda i, o: 1),
    ],
)
def test_the_variance_is_the_formulas_within_two_percent(text, expected):
    for module, fan_in, fan_out in (
        (nn.Linear(400, 600), 400, 600),
        (nn.Conv2d(64, 200, 5), 64 * 25, 200 * 25),
        (nn.Conv2d(256, 512, 3, groups=2), 128 * 9, 256 * 9),
        (nn.ConvTranspose2d(128, 160, 4, 2), 128 * 4, 160 * 16),
    ):
        assert variance(text, module) == pytest.approx(expected(fan_in, fan_out), rel=0.02)
    module = nn.Linear(400, 600)
    variance(text, module)
    edge = math.sqrt(3 * expected(400, 600))
    if text.endswith("uniform"):
        assert float(module.weight.abs().max()) <= edge
    elif text.endswith("normal"):
        assert float(module.weight.abs().max()) > 1.5 * edge


def deep(
    text: str, activation: nn.Module, *, layers: int = 10, width: int = 256, x: torch.Tensor | None = None
) -> tuple[list[nn.Linear], list[torch.Tensor]]:
    """Ten layers started so, and what comes out of each."""
    torch.manual_seed(0)
    x = torch.randn(512, width) if x is None else x
    parts = [nn.Linear(width, width) for _ in range(layers)]
    initialize.apply(nn.Sequential(*parts), text)
    found = []
    for part in parts:
        x = activation(part(x))
        found.append(x)
    return parts, found


@pytest.mark.system("xavier")
@pytest.mark.parametrize("text", ["xavier", "xavier:uniform", "glorot", "glorot:uniform"])
def test_xavier_keeps_the_deviation_of_a_deep_tanh_network(text):
    small = torch.randn(512, 256, generator=torch.Generator().manual_seed(1)) * 0.1  # where tanh is the line that the formula takes it for
    _, outputs = deep(text, nn.Tanh(), x=small)
    stds = [float(x.std()) for x in outputs]
    assert max(stds) / min(stds) < 1.15
    _, outputs = deep(text, nn.Tanh())  # beyond, it levels off: by a third in ten layers, where `small` loses a factor of six in each
    stds = [float(x.std()) for x in outputs]
    assert max(stds) / min(stds) < 3
    assert all(later > 0.75 * former for former, later in pairwise(stds))


@pytest.mark.system("he")
@pytest.mark.parametrize("text", ["he", "he:uniform"])
def test_he_keeps_the_second_moment_of_a_deep_relu_network(text):
    _, outputs = deep(text, nn.ReLU())
    moments = [float(x.square().mean()) for x in outputs]
    assert max(moments) / min(moments) < 2
    _, outputs = deep("xavier", nn.ReLU())
    assert float(outputs[-1].square().mean()) < 0.01 * moments[-1]  # what xavier is not for


@pytest.mark.system("naive-init")
def test_the_three_naive_starts_and_their_symptoms():
    layers, outputs = deep("zeros", nn.Tanh())
    (outputs[-1] - torch.randn(512, 256)).square().mean().backward()
    for layer in layers:  # every unit of a layer gets the same gradient
        assert torch.equal(layer.weight.grad, layer.weight.grad[:1].expand_as(layer.weight.grad))
    equal = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))
    for p in equal.parameters():
        nn.init.constant_(p, 0.3)  # the same holds for any one value: nothing tells the units apart
    equal(torch.randn(7, 5)).sum().backward()
    assert torch.allclose(equal[0].weight.grad, equal[0].weight.grad[:1].expand(4, 5))
    assert equal[0].weight.grad.abs().sum() > 0

    _, outputs = deep("small:0.01", nn.Tanh())
    stds = [float(x.std()) for x in outputs]
    assert all(later < 0.3 * former for former, later in pairwise(stds))
    assert stds[-1] < 1e-6

    layers, outputs = deep("large:1", nn.Tanh())
    assert float((outputs[-1].abs() > 0.99).float().mean()) > 0.8  # saturated
    a, s = deep("xavier", nn.Tanh())
    assert float((1 - outputs[-1].square()).mean()) < 0.2 * float((1 - s[-1].square()).mean())  # the way of the gradient is closed
    assert float((1 - outputs[-1].square()).median()) < 1e-3
    assert len(a) == 10


@pytest.mark.system("trunc-normal")
def test_a_truncated_normal():
    for std in (0.02, 0.5):
        module = nn.Linear(800, 500)
        found = math.sqrt(variance(f"trunc-normal:{std}", module))
        assert float(module.weight.abs().max()) <= 2 * std
        assert found == pytest.approx(0.8796 * std, rel=0.01)
    assert math.sqrt(variance("trunc-normal", nn.Linear(800, 500))) == pytest.approx(0.0176, rel=0.01)  # 0.02 unless told


@pytest.mark.system("trunc-normal")
def test_it_is_how_our_transformers_begin():
    """The default of the networks that DeiT is one of."""
    torch.manual_seed(0)
    model = weights.build("vit.tiny", categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
    linear = [module.weight.detach() for name, module in model.named_modules() if isinstance(module, nn.Linear) and "encoder" in name]
    assert len(linear) >= 12
    assert max(float(weight.abs().max()) for weight in linear) <= 0.04
    assert float(torch.cat([weight.flatten() for weight in linear]).std()) == pytest.approx(0.8796 * 0.02, rel=0.01)


@pytest.mark.system("prior-prob-bias")
def test_the_prior_of_a_detection_head():
    assert init.prior_bias(0.01) == pytest.approx(-4.5951, abs=1e-4)
    for p in (0.01, 0.3, 0.9):
        assert torch.sigmoid(torch.tensor(init.prior_bias(p))).item() == pytest.approx(p)
    with pytest.raises(ValueError, match="between 0 and 1"):
        init.prior_bias(0.0)
    torch.manual_seed(0)
    model = weights.build("retinanet.tiny", categories=[{"id": i, "name": str(i)} for i in range(5)]).eval()
    bias = model.head.classification_head.cls_logits.bias
    assert torch.allclose(bias, torch.full_like(bias, init.prior_bias(0.01)))
    batch = model.prepare([torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8) for _ in range(2)])
    with torch.no_grad():
        assert float(model(batch)["logits"].sigmoid().mean()) == pytest.approx(0.01, rel=0.05)
    initialize.apply(model, "small")  # a bias that was set on purpose stays
    initialize.init_bias(model, 0.1)
    assert torch.allclose(bias, torch.full_like(bias, init.prior_bias(0.01)))


@pytest.mark.system("bilinear-init")
def test_a_transposed_convolution_begins_as_interpolation():
    layer = nn.ConvTranspose2d(3, 3, 3, 2, 1, bias=False)
    assert initialize.apply(nn.Sequential(layer), "bilinear") == 1
    kernel = torch.tensor([[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]])
    assert torch.equal(layer.weight[1, 1], kernel)
    assert not layer.weight[1, 0].any()
    x = torch.randn(2, 3, 6, 9)
    y = layer(x)
    assert y.shape[2:] == (11, 17)  # 2 n - 1
    assert torch.allclose(y, F.interpolate(x, size=(11, 17), mode="bilinear", align_corners=True), atol=1e-6)
    grouped = nn.ConvTranspose2d(4, 4, 4, 2, 1, groups=4, bias=False)
    initialize.apply(grouped, "bilinear")
    x = torch.randn(1, 4, 5, 5)
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert torch.allclose(grouped(x)[inside], F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)[inside], atol=1e-6)
    with pytest.raises(UsageError, match="no transposed"):
        initialize.apply(nn.Linear(2, 2), "bilinear")
    with pytest.raises(UsageError, match="C C k k"):
        initialize.apply(nn.ConvTranspose2d(3, 4, 3), "bilinear")


@pytest.mark.system("relu")
def test_biases_are_set():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(4, 2), nn.MultiheadAttention(4, 2))
    assert initialize.init_bias(model, 0.01) == 4  # with the attention's two projections
    for bias in (model[0].bias, model[3].bias, model[4].in_proj_bias, model[4].out_proj.bias):
        assert torch.equal(bias, torch.full_like(bias, 0.01))
    assert not model[1].bias.any()
    with pytest.raises(UsageError, match="no biases"):
        initialize.init_bias(nn.Conv2d(3, 4, 3, bias=False), 0.01)


def test_attentions_projections_are_drawn_one_by_one():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(200, 2)
    assert initialize.apply(attention, "glorot") == 4
    assert float(attention.in_proj_weight.detach().var()) == pytest.approx(2 / 400, rel=0.02)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hee", "he"),
        ("kaiming", "initializers: bilinear, glorot, he"),
        ("he:triangle", "such as he:uniform"),
        ("small:-1", "above 0"),
        ("zeros:3", "takes 0"),
    ],
)
def test_wrong_names_and_values_are_usage_errors(text, said):
    with pytest.raises(UsageError) as error:
        initialize.apply(nn.Linear(2, 2), text)
    assert said in str(error.value)
    with pytest.raises(UsageError, match="no effect"):
        initialize.apply(nn.BatchNorm2d(3), "he")
