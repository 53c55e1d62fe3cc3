"""Every schedule against torch's, turn by turn; milestones, warm-up, restarts and plateau."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as theirs

from cvtool.errors import CvtoolError, UsageError
from cvtool.train import schedule


def torchs(make, turns: int) -> list[float]:
    """The rates of a scheduler of torch's over an optimiser whose own rate is 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, found = make(optimizer), []
    for _ in range(turns):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def ours(text: str, turns: int, **more) -> list[float]:
    made = schedule.make(text, turns=turns, **more)
    return [made(turn) for turn in range(turns)]


@pytest.mark.parametrize(
    ("text", "more", "make"),
    [
        ("constant", {}, lambda o: theirs.ConstantLR(o, 1.0)),
        ("cosine", {}, lambda o: theirs.CosineAnnealingLR(o, 60)),
        ("cosine:least=0.01", {}, lambda o: theirs.CosineAnnealingLR(o, 60, eta_min=0.01)),
        ("cosine:cycles=4", {}, lambda o: theirs.CosineAnnealingWarmRestarts(o, 15)),
        ("cosine:cycles=3,mult=2", {"turns": 70}, lambda o: theirs.CosineAnnealingWarmRestarts(o, 10, 2)),
        ("step:20,45", {}, lambda o: theirs.MultiStepLR(o, [20, 45])),
        ("step:2,4,gamma=0.5", {"per_epoch": 10}, lambda o: theirs.MultiStepLR(o, [20, 40], gamma=0.5)),
        ("step:0.5,0.75", {}, lambda o: theirs.MultiStepLR(o, [30, 45])),
        ("step:every=7,gamma=0.9", {}, lambda o: theirs.StepLR(o, 7, gamma=0.9)),
        ("poly", {}, lambda o: theirs.PolynomialLR(o, 60, power=0.9)),
        ("poly:2", {}, lambda o: theirs.PolynomialLR(o, 60, power=2)),
        ("exponential:0.9", {}, lambda o: theirs.ExponentialLR(o, 0.9)),
        ("exponential:gamma=0.5", {"per_epoch": 10}, lambda o: theirs.ExponentialLR(o, 0.5**0.1)),
        ("one-cycle", {"warmup": 11}, lambda o: theirs.OneCycleLR(o, 1.0, total_steps=60, pct_start=0.2, cycle_momentum=False)),
        ("one-cycle:div=10,final=100", {"warmup": 11},
         lambda o: theirs.OneCycleLR(o, 1.0, total_steps=60, pct_start=0.2, div_factor=10, final_div_factor=100, cycle_momentum=False)),
        ("cosine", {"warmup": 9}, lambda o: theirs.SequentialLR(
            o, [theirs.LinearLR(o, 0.1, 1.0, 9), theirs.CosineAnnealingLR(o, 51)], milestones=[9])),
        ("poly", {"warmup": 9}, lambda o: theirs.SequentialLR(
            o, [theirs.LinearLR(o, 0.1, 1.0, 9), theirs.PolynomialLR(o, 51, power=0.9)], milestones=[9])),
        ("exponential:0.9", {"warmup": 9}, lambda o: theirs.SequentialLR(
            o, [theirs.LinearLR(o, 0.1, 1.0, 9), theirs.ExponentialLR(o, 0.9)], milestones=[9])),
    ],
)  # fmt: skip
def test_it_is_torchs(text, more, make):
    assert ours(text, **{"turns": 60, **more}) == pytest.approx(torchs(make, more.get("turns", 60)), abs=1e-9)


def test_the_detectors_steps_and_warm_up():
    assert [ours("step", 90)[turn] for turn in (0, 59, 60, 79, 80, 89)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    constant = schedule.make("constant", turns=10, warmup=4)
    assert [constant(turn) for turn in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    cosine = schedule.make("cosine", turns=14, warmup=4)
    assert cosine(4) == 1
    assert cosine(9) == pytest.approx(0.5)
    assert schedule.warmup_turns(0.1, turns=200, per_epoch=20) == 20
    assert schedule.warmup_turns(2, turns=200, per_epoch=20) == 40
    assert schedule.warmup_turns(50, turns=200, per_epoch=20) == 200
    with pytest.raises(UsageError, match="negative"):
        schedule.warmup_turns(-1, turns=200, per_epoch=20)


def test_one_cycles_three_points():
    found = ours("one-cycle", 101, warmup=10)
    assert (found[0], found[10], found[100]) == pytest.approx((1 / 25, 1, 1 / 250_000))


@pytest.mark.parametrize("name", schedule.NAMES)
@pytest.mark.parametrize("warmup", [0, 1, 5])
def test_every_schedule_is_finite_however_short_the_run(name, warmup):
    for turns in (1, 2, 3, 7):
        made = schedule.make(name, turns=turns, warmup=min(warmup, turns), per_epoch=2)
        assert all(math.isfinite(made(turn)) and 0 <= made(turn) <= 1 for turn in range(turns))


@pytest.mark.parametrize(("watch", "mode"), [("val_loss", "min"), ("val_accuracy", "max")])
@pytest.mark.parametrize("patience", [0, 2])
def test_plateau_is_torchs(watch, mode, patience):
    draw = torch.Generator().manual_seed(0)
    values = [1.0, 0.9, 0.9, 0.91, 0.899995, 0.5, math.nan, 0.6, *torch.rand(60, generator=draw).tolist()]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    other = theirs.ReduceLROnPlateau(optimizer, mode, factor=0.5, patience=patience, min_lr=1e-3)
    made = schedule.make(f"plateau:patience={patience},factor=0.5,least=0.001,watch={watch}", turns=100)
    for value in values:
        made.observe({watch: value, "other": 3.0})
        other.step(value)
        assert made(50) == pytest.approx(optimizer.param_groups[0]["lr"])
    assert made(50) < 0.1


def test_plateau_keeps_its_state_and_names_what_it_misses():
    first, second = (schedule.make("plateau:patience=1", turns=100, warmup=4) for _ in range(2))
    for value in (1.0, 2.0):
        first.observe({"val_loss": value})
    second.load_state_dict(first.state_dict())
    for made in (first, second):
        made.observe({"val_loss": 3.0})
        assert [made(turn) for turn in (0, 3, 4, 50)] == pytest.approx([0.2, 0.8, 0.1, 0.1])
    with pytest.raises(CvtoolError, match="watches val_loss") as error:
        first.observe({"AP": 0.1})
    assert "AP" in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cosin", "cosine"),
        ("xyz", "constant, cosine, exponential, one-cycle, plateau, poly, step"),
        ("step:0.5,8", "mixes"),
        ("step:8.5", "mixes"),
        ("step:11,8", "growing"),
        ("step:x", "growing"),
        ("step:8,every=3", "when and how often"),
        ("poly:-1", "above 0"),
        ("plateau:factor=2", "between 0 and 1"),
        ("cosine:cycles=0", "at least 1"),
        ("cosine:powr=2", "no argument 'powr'"),
        ("constant:3", "takes 0"),
    ],
)
def test_wrong_names_and_values_are_usage_errors(text, said):
    with pytest.raises(UsageError) as error:
        schedule.make(text, turns=10)
    assert said in str(error.value)


def test_the_segmenters_decay_polynomially():
    from cvtool import registry
    from cvtool.train import recipe

    for name in ("fcn", "deeplab-v3", "lr-aspp"):
        entry = registry.catalogue()[name]
        assert recipe.of_model(entry.recipe, "resnet50")["schedule"] == "poly"
