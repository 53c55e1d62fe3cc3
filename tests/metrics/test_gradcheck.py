"""Gradients against finite differences: right ones pass, wrong ones do not, and nothing is left changed."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvtool.__main__ import main
from cvtool.errors import ModelError
from cvtool.metrics.gradcheck import gradcheck, in_double
from cvtool.tasks.gradcheck import gradcheck as of_model


@pytest.mark.system("sgd")
def test_autograd_is_the_slope():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)).double()
    x, y = torch.randn(5, 2, 6, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    errors = gradcheck(lambda: F.cross_entropy(model(x), y), dict(model.named_parameters()))
    assert list(errors) == list(before)
    assert all(error < 1e-6 for error in errors.values())
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])
        assert p.grad is None
        assert p.requires_grad


class Wrong(torch.autograd.Function):
    """x^2 with 3x for its slope."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(context, grad):
        return 3 * context.saved_tensors[0] * grad


@pytest.mark.system("sgd")
def test_a_wrong_gradient_is_found():
    x = torch.linspace(1, 2, 7, dtype=torch.float64)
    assert gradcheck(lambda: Wrong.apply(x).sum(), {"x": x})["x"] == pytest.approx(1 / 3, rel=1e-5)
    assert not x.requires_grad
    assert gradcheck(lambda: (x * x).sum(), {"x": x})["x"] < 1e-8
    unused = torch.ones(2, dtype=torch.float64)
    cut = gradcheck(lambda: (x * x).sum() + (unused.detach() ** 2).sum(), {"x": x, "unused": unused})
    assert cut["unused"] == pytest.approx(1)  # there is a slope, and no gradient
    assert cut["x"] < 1e-8
    with pytest.raises(ValueError, match="float64"):
        gradcheck(lambda: x.sum(), {"x": x.float()})


def test_in_double_nothing_is_rounded_to_single():
    x = torch.ones(2, dtype=torch.float64) + 1e-12
    with in_double():
        assert torch.equal(x.float(), x)
    assert x.float().dtype == torch.float32


@pytest.mark.system("sgd")
def test_the_losses_of_a_model_have_the_gradients_that_training_takes():
    rows = of_model("unet.tiny", samples=1, img_size=32)
    assert len(rows) > 20
    assert all(row["error"] < 1e-4 for row in rows), [row for row in rows if row["error"] >= 1e-4]
    assert sum(row["error"] > 0 for row in rows) > len(rows) / 2


@pytest.mark.system("sgd")
def test_from_the_shell(capsys, tmp_path):
    assert main(["models", "gradcheck", "resnet.tiny", "--samples", "1", "--json"]) == 0
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert rows[0]["name"] == "net.conv1.weight"
    assert f"{len(rows)} gradients are the slope" in said.err
    assert main(["models", "gradcheck", "resnet.tiny", "--samples", "1", "--tolerance", "0"]) == 6
    assert "are not the slope" in capsys.readouterr().err
    assert main(["models", "gradcheck", "viola-jones"]) == 4
    with pytest.raises(ModelError, match="not trained by gradient"):
        of_model("viola-jones")
