"""Dropout, stochastic depth, spectral normalisation, L1, weight decay, noise: each by its formula, and as a recipe asks for it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cvtool import weights
from cvtool.batch import Batch, Place
from cvtool.errors import UsageError
from cvtool.layers.dropout import KeepDropout, drop_of, dropout_at_test
from cvtool.layers.spectral_norm import spectral_norm
from cvtool.layers.stochastic_depth import StochasticDepth, drop_path, linear
from cvtool.runtime.torchvision import cheap_import
from cvtool.train import optim, regularize
from cvtool.train.noise import InputNoise

with cheap_import():
    from timm.layers import DropPath
    from torchvision.ops import StochasticDepth as TorchStochasticDepth

NOTHING = {"dropout": -1.0, "drop_path": -1.0, "spectral_norm": False, "l1": 0.0}


# ---- dropout -------------------------------------------------------------------------------------------------------


@pytest.mark.system("dropout")
def test_the_texts_p_keeps_and_torchs_drops():
    torch.manual_seed(0)
    x = torch.rand(400, 500) + 0.5
    theirs, ours = nn.Dropout(drop_of(0.8)), KeepDropout(0.8)
    torch.manual_seed(1)
    dropped = theirs(x)
    torch.manual_seed(1)
    kept = ours(x)
    assert torch.allclose(kept, 0.8 * dropped, atol=1e-6)  # the forms differ by a factor
    assert torch.allclose(kept[kept != 0], x[kept != 0], atol=1e-6)  # kept or zero, not scaled
    assert float((kept != 0).float().mean()) == pytest.approx(0.8, abs=0.005)
    assert torch.allclose(ours.eval()(x), 0.8 * x)
    assert torch.equal(theirs.eval()(x), x)
    for module in (theirs, ours):  # the mean is that of evaluation
        assert float(module.train()(x).mean() / module.eval()(x).mean()) == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="kept"):
        KeepDropout(0.0)


@pytest.mark.system("dropout")
def test_dropout_at_test():
    model = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5), nn.BatchNorm1d(64), nn.Sequential(nn.Dropout2d(0.25)))
    keys = list(model.state_dict())
    model.eval()
    x = torch.randn(16, 8)
    assert torch.equal(model[1](model[0](x)), model[0](x))
    assert dropout_at_test(model) == 2
    assert float((model[1](model[0](x)) == 0).float().mean()) == pytest.approx(0.5, abs=0.1)
    assert not torch.equal(model(x), model(x))
    other = copy.deepcopy(model)  # as a moving average does
    assert float((other[3](torch.ones(8, 400, 1, 1)) == 0).float().mean()) == pytest.approx(0.25, abs=0.05)
    assert torch.equal(model[2].running_mean, torch.zeros(64))  # a norm stays in eval mode
    assert list(model.state_dict()) == keys
    assert dropout_at_test(model, on=False) == 2
    assert torch.equal(model(x), model(x))


@pytest.mark.system("dropout")
def test_the_recipes_dropout_reaches_every_kind():
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout2d(0.2), nn.MultiheadAttention(8, 2, dropout=0.3))
    regularize.apply(model, NOTHING)
    assert (model[0].p, model[1].p, model[2].dropout) == (0.5, 0.2, 0.3)
    regularize.apply(model, NOTHING | {"dropout": 0.0})
    assert (model[0].p, model[1].p, model[2].dropout) == (0.0, 0.0, 0.0)
    with pytest.raises(UsageError, match="--dropout has no effect"):
        regularize.apply(nn.Linear(2, 2), NOTHING | {"dropout": 0.1})
    torch.manual_seed(0)
    dense = weights.build("densenet.tiny", categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(dense.eval()(x), dense(x))
    regularize.apply(dense, NOTHING | {"dropout": 0.5})
    torch.testing.assert_close(dense(x), dense(x))
    dense.train()
    assert not torch.allclose(dense(x), dense(x))


# ---- stochastic depth ----------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """H <- ReLU(b f(H) + H)."""

    def __init__(self, drop: nn.Module) -> None:
        super().__init__()
        self.f, self.drop_path = nn.Linear(6, 6), drop

    def forward(self, x):
        return torch.relu(self.drop_path(self.f(x)) + x)


@pytest.mark.system("stochastic-depth")
@pytest.mark.parametrize("inverted", [False, True])
def test_a_branch_is_there_or_not_and_all_there_at_evaluation(inverted):
    torch.manual_seed(0)
    block = Residual(StochasticDepth(0.4, inverted=inverted))
    h = torch.randn(4000, 6)
    f = block.f(h)
    given = block(h)
    whole = torch.relu(f / 0.6 + h) if inverted else torch.relu(f + h)
    dropped = (given == torch.relu(h)).all(1)
    assert torch.allclose(given[~dropped], whole[~dropped], atol=1e-6)  # b = 1
    assert float(dropped.float().mean()) == pytest.approx(0.4, abs=0.03)  # Bernoulli, each picture for itself
    expected = torch.relu(f + h) if inverted else torch.relu(0.6 * f + h)  # the whole model; the paper's scales by the survival
    assert torch.allclose(block.eval()(h), expected, atol=1e-6)
    x = torch.ones(20000, 1)
    mean = drop_path(x, 0.4, training=True, inverted=inverted).mean() / drop_path(x, 0.4, training=False, inverted=inverted).mean()
    assert float(mean) == pytest.approx(1, abs=0.02)


@pytest.mark.system("stochastic-depth")
def test_rate_zero_is_a_no_op():
    x = torch.randn(3, 4)
    before = torch.get_rng_state()
    assert StochasticDepth(0.0)(x) is x
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        StochasticDepth(1.0)


@pytest.mark.system("stochastic-depth")
def test_the_rate_grows_linearly_with_the_depth_on_every_kind_of_branch():
    assert list(linear(0.5, 5)) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])  # survival 1 - l/L (1 - p_L)
    twice = nn.Module()
    twice.drop_path1, twice.drop_path2 = DropPath(0.1), nn.Identity()
    model = nn.Sequential(
        Residual(StochasticDepth()), Residual(TorchStochasticDepth(0.0, "row")), Residual(DropPath(0.3)), Residual(nn.Identity()), twice
    )
    regularize.apply(model, NOTHING | {"drop_path": 0.5})
    rates = [model[0].drop_path.rate, model[1].drop_path.p, model[2].drop_path.drop_prob, model[3].drop_path.rate]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert (twice.drop_path1.drop_prob, twice.drop_path2.rate) == (0.5, 0.5)
    keys = list(model.state_dict())
    regularize.apply(model, NOTHING | {"drop_path": 0.0})
    assert list(model.state_dict()) == keys
    x = torch.randn(2, 6)
    assert torch.equal(model[:4](x), model[:4](x))
    with pytest.raises(UsageError, match="--drop-path has no effect"):
        regularize.apply(nn.Linear(2, 2), NOTHING | {"drop_path": 0.1})


@pytest.mark.system("stochastic-depth")
def test_in_a_residual_network_of_ours():
    torch.manual_seed(0)
    table = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    model = weights.build("resnet.tiny", categories=table)
    x = torch.randn(16, 3, 32, 32)
    before = model.eval()(x)
    regularize.apply(model, NOTHING | {"drop_path": 0.6})
    assert torch.equal(model(x), before)  # all of it at evaluation
    model.train()
    assert not torch.equal(model(x), model(x))
    found = [module.rate for module in model.modules() if isinstance(module, StochasticDepth)]
    assert found == pytest.approx([0.2, 0.4, 0.6])


# ---- spectral normalisation ----------------------------------------------------------------------------------------


def network() -> nn.Module:
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, 2), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    return nn.Sequential(*parts)


def sigma(module: nn.Module) -> float:
    weight = module.weight.detach()
    return float(torch.linalg.matrix_norm((weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else weight).flatten(1), 2))


@pytest.mark.system("spectral-norm")
def test_the_largest_singular_value_is_one_after_warming_up():
    model = network()
    with torch.no_grad():
        for p in model.parameters():
            p *= 5
    regularize.apply(model, NOTHING | {"spectral_norm": True})
    layers = [model[0], model[2], model[6]]
    optimizer = optim.make("sgd", lr=0.01)(model.parameters())
    for _ in range(40):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 8, 8)).square().sum().backward()
        optimizer.step()
        model.eval()
        model.train()
    model(torch.randn(4, 3, 8, 8))
    for layer in layers:
        assert sigma(layer) == pytest.approx(1, abs=1e-2)
    assert spectral_norm(model) == 0  # once is enough
    with pytest.raises(UsageError, match="--spectral-norm has no effect"):
        regularize.apply(nn.ReLU(), NOTHING | {"spectral_norm": True})


@pytest.mark.system("spectral-norm")
def test_a_checkpoint_of_it_is_one_of_the_bare_model(tmp_path):
    table = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    name = "resnet.tiny"
    model = weights.build(name, categories=table)
    regularize.apply(model, NOTHING | {"spectral_norm": True})
    model.train()
    x = torch.randn(4, 3, 32, 32)
    model(x)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path = weights.save(model, tmp_path / "model.safetensors", weights.Info(reference=name, categories=table))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())  # saving has moved nothing
    assert all(module.training for module in model.modules())
    loaded, _ = weights.load(str(path))
    assert not any("parametrizations" in key for key in loaded.state_dict())
    torch.testing.assert_close(loaded(x), model.eval()(x))
    other = weights.build(name, categories=table)  # a resumed run takes the whole state
    regularize.apply(other, NOTHING | {"spectral_norm": True})
    other.load_state_dict(before)
    torch.testing.assert_close(other.eval()(x), model(x))


# ---- penalties -----------------------------------------------------------------------------------------------------


@pytest.mark.system("weight-decay")
def test_the_worked_example_of_l2():
    x = torch.ones(1, 4)
    one, other = nn.Linear(4, 1), nn.Linear(4, 1)
    with torch.no_grad():
        one.weight.copy_(torch.tensor([[1.0, 0, 0, 0]]))
        other.weight.copy_(torch.full((1, 4), 0.25))
    assert (x @ one.weight.T).item() == (x @ other.weight.T).item() == 1
    assert regularize.report(one)["squared_norm"] == 1.0
    assert regularize.report(other)["squared_norm"] == 0.25  # not 0.5, which is the norm before squaring
    for layer in (one, other):  # the optimiser's decay is the gradient of alpha/2 |w|^2, alpha w
        alpha, start = 0.4, layer.weight.detach().clone()
        (alpha / 2 * layer.weight.square().sum()).backward()
        assert torch.allclose(layer.weight.grad, alpha * start)
        layer.weight.grad = torch.zeros_like(start)
        bias = layer.bias.detach().clone()
        layer.bias.grad = torch.zeros_like(bias)
        optim.make("sgd", lr=0.1, weight_decay=alpha)(layer.parameters()).step()
        assert torch.allclose(layer.weight, start - 0.1 * alpha * start)
        assert torch.equal(layer.bias, bias)


def fitted(l1: float) -> dict[str, float]:
    """The report of a linear model that was trained with so much of l1, on data of which two features of twelve count."""
    torch.manual_seed(0)
    x = torch.randn(200, 12)
    y = x[:, :1] - 2 * x[:, 1:2] + 0.3 * torch.randn(200, 1)
    model = nn.Linear(12, 1)
    optimizer = optim.make("sgd", lr=0.06, momentum=0.0)(model.parameters())
    for turn in range(200):
        for group in optimizer.param_groups:
            group["lr"] = 0.06 * (1 - turn / 200)
        losses = {"fit": (model(x) - y).square().mean()} | regularize.penalty(model, NOTHING | {"l1": l1})
        assert losses.keys() == ({"fit", "l1"} if l1 else {"fit"})
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    return regularize.report(model)


@pytest.mark.system("l1-reg")
def test_l1_is_the_sum_of_absolute_values_and_makes_weights_small():
    model = network()
    value = regularize.penalty(model, NOTHING | {"l1": 0.3})["l1"]
    assert float(value) == pytest.approx(0.3 * sum(float(p.abs().sum()) for p in model.parameters() if p.ndim > 1), rel=1e-5)
    value.backward()
    assert torch.allclose(model[0].weight.grad, 0.3 * model[0].weight.sign())
    assert model[0].bias.grad is None
    shares = [fitted(alpha)["small_weights"] for alpha in (0.0, 0.02, 0.2)]
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] == pytest.approx(10 / 12, abs=0.1)  # of twelve, the two that count stay


# ---- noise ---------------------------------------------------------------------------------------------------------


@pytest.mark.system("input-noise")
def test_input_noise_is_gaussian_and_the_same_again():
    images, padding = torch.zeros(4, 3, 64, 64), torch.zeros(4, 64, 64, dtype=torch.bool)
    padding[:, 60:] = True
    batch = Batch(images, padding, [Place(60, 64, 60, 64)] * 4)
    noise = InputNoise(0.05, seed=1)
    given = noise(batch, 3).images
    assert float(given[:, :, :60].std()) == pytest.approx(0.05, rel=0.02)
    assert abs(float(given.mean())) < 1e-3
    assert not given[:, :, 60:].any()
    assert not images.any()
    assert torch.equal(given, noise(batch, 3).images)
    assert not torch.equal(given, noise(batch, 4).images)
