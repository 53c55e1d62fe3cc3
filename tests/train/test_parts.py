"""Moving averages and random states, each against its formula."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from cvtool.errors import CvtoolError, InputError, UsageError
from cvtool.train import state, steps
from cvtool.train.ema import Ema


def test_a_wrong_step_lists_the_right_ones() -> None:
    with pytest.raises(UsageError, match="superviced") as error:
        steps.get("superviced")
    assert "supervised" in str(error.value)


def test_ema_formula(toys) -> None:
    torch.manual_seed(0)
    model = toys.Toy(norm=True)
    ema = Ema(model, 0.6)
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    for n in range(12):
        with torch.no_grad():
            for p in model.parameters():
                p += torch.randn_like(p)
            model.norm.running_mean += 1
        ema.update()
        d = min(0.6, (1 + n) / (10 + n))
        expected = {name: d * expected[name] + (1 - d) * p.detach() for name, p in model.named_parameters()}
    for name, p in ema.model.named_parameters():
        assert torch.allclose(p, expected[name], atol=1e-5), name
        assert not p.requires_grad
    assert torch.equal(ema.model.norm.running_mean, model.norm.running_mean)
    other = Ema(model, 0.6)
    other.load_state_dict(ema.state_dict())
    assert other.turns == 12
    with pytest.raises(ValueError, match="between"):
        Ema(model, 1.0)


@pytest.mark.system("ema")
@pytest.mark.parametrize("decay", [0.1, 0.999])
def test_shares_of_the_last_values_in_an_average(decay: float) -> None:
    """(1 - d) d^k for the k-th value before the last: 90 %, 9 %, 0.9 % at d = 0.1 (a seed text calls that 0.9, the NEW value's share)."""
    model = nn.Linear(5, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()
    ema = Ema(model, decay)
    ema.turns = 10**6  # its warm-up is over
    with torch.no_grad():
        for k in range(4, -1, -1):  # each element is 1 in one turn alone, the k-th before the last
            model.weight.copy_(torch.eye(5)[k : k + 1])
            ema.update()
    shares = ema.model.weight[0].tolist()
    assert shares == pytest.approx([(1 - decay) * decay**k for k in range(5)], rel=1e-3)
    if decay == 0.1:
        assert shares[:3] == pytest.approx([0.9, 0.09, 0.009], rel=1e-3)


@pytest.mark.system("ema")
def test_the_average_is_what_is_validated_and_kept(make_loop, toys) -> None:
    judged: list[nn.Module] = []
    loop = make_loop(ema=0.9, validate=lambda model: judged.append(model) or {"val_loss": 1.0})
    kept: list[nn.Module] = []
    loop.keeper.epoch = lambda model, values, best: kept.append(model)
    loop.run()
    assert judged == kept == [loop.step.ema.model] * 2
    assert not torch.equal(loop.step.ema.model.linear.weight, loop.step.model.linear.weight)
    plain = make_loop(validate=lambda model: judged.append(model) or {"val_loss": 1.0})
    plain.run()
    assert judged[-1] is plain.step.model


def test_random_states_come_back() -> None:
    before = state.rng_state()

    def draw() -> tuple:
        return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(3).tolist()  # noqa: NPY002

    first = draw()
    state.set_rng_state(before)
    assert draw() == first


def test_state_is_written_all_or_nothing(tmp_path, monkeypatch) -> None:
    path = tmp_path / "state.pt"
    state.save({"a": torch.arange(3)}, path)

    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state.os, "fsync", full)
    with pytest.raises(CvtoolError, match="No space left") as error:
        state.save({"a": torch.arange(4)}, path)
    assert error.value.exit_code == 1
    assert "kept" in str(error.value)
    assert torch.equal(state.load(path)["a"], torch.arange(3))
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError):
        state.load(path)
