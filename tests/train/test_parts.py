"""Schedules, optimisers, moving averages and random states, each against its formula."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from cvtool.errors import CvtoolError, InputError, UsageError
from cvtool.train import optim, schedule, state, steps
from cvtool.train.ema import Ema


def test_one_cycle_is_torchs() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=101, pct_start=0.11, cycle_momentum=False)
    ours = schedule.make("one-cycle", turns=101, warmup=10)  # torch's peak is at pct_start * total - 1 = 10.11
    for turn in range(101):
        assert ours(turn) == pytest.approx(optimizer.param_groups[0]["lr"], abs=0.02)
        optimizer.step()
        theirs.step()
    assert ours(0) == pytest.approx(1 / 25)
    assert ours(10) == 1
    assert ours(100) == pytest.approx(1 / 250_000)


def test_cosine_is_torchs() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    ours = schedule.make("cosine", turns=50)
    for turn in range(50):
        assert ours(turn) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
        optimizer.step()
        theirs.step()


def test_step_constant_and_warmup() -> None:
    step = schedule.make("step", turns=90)
    assert [step(turn) for turn in (0, 59, 60, 79, 80, 89)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    constant = schedule.make("constant", turns=10, warmup=4)
    assert [constant(turn) for turn in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    cosine = schedule.make("cosine", turns=14, warmup=4)
    assert cosine(4) == 1
    assert cosine(9) == pytest.approx(0.5)
    assert schedule.warmup_turns(0.1, turns=200, per_epoch=20) == 20
    assert schedule.warmup_turns(2, turns=200, per_epoch=20) == 40
    assert schedule.warmup_turns(50, turns=200, per_epoch=20) == 200
    assert all(math.isfinite(schedule.make(name, turns=turns)(0)) for name in schedule.NAMES for turns in (1, 2, 3))


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda: schedule.make("cosin", turns=3), "cosine"),
        (lambda: optim.make("adam-w", lr=1), "adamw"),
        (lambda: steps.get("superviced"), "supervised"),
        (lambda: schedule.make("xyz", turns=3), "one-cycle, constant, cosine, step"),
    ],
)
def test_a_wrong_name_lists_the_right_ones(call, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        call()
    assert hint in str(error.value)


def test_norms_and_biases_do_not_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    model[3].bias.requires_grad_(False)
    decayed, free = optim.groups(model.parameters(), 0.05)
    assert [p.ndim for p in decayed["params"]] == [4, 2]
    assert [p.ndim for p in free["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    assert optim.make("sgd", lr=0.1)(model.parameters()).param_groups[0]["momentum"] == 0.9


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
