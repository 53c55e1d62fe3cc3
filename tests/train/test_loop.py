"""The loop against plain loops, and what it does when something goes wrong."""

from __future__ import annotations

import json
import os
import signal
from copy import deepcopy

import pytest
import torch
from torch import nn

from cvtool.errors import CvtoolError, Interrupted, Terminated
from cvtool.train.log import Reporter
from cvtool.train.loop import Loop
from cvtool.train.step import Phase


def lines(loop: Loop) -> list[dict]:
    return [json.loads(line) for line in loop.log.path.read_text().splitlines()]


def same(a: nn.Module, b: nn.Module, **tolerance: float) -> bool:
    return all(torch.allclose(x, y, **tolerance) if tolerance else torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("momentum", [0.9])
def test_equals_a_plain_loop(make_loop, toys, momentum: float) -> None:
    loop = make_loop(epochs=3, lr=0.2, weight_decay=0.01, schedule=lambda turn: 1 / (1 + turn))
    plain = deepcopy(loop.step.model)
    loop.run()
    velocity = {name: torch.zeros_like(p) for name, p in plain.named_parameters()}
    turn = 0
    for epoch in range(3):
        for item in toys.Pictures().epoch(epoch):
            total = sum(plain.losses(item.batch).values())
            gradients = torch.autograd.grad(total, list(plain.parameters()))
            with torch.no_grad():
                for (name, p), g in zip(plain.named_parameters(), gradients, strict=True):
                    velocity[name] = momentum * velocity[name] + g + (0.01 * p if p.ndim > 1 else 0)
                    p -= 0.2 / (1 + turn) * velocity[name]
            turn += 1
    assert turn == 9
    assert same(loop.step.model, plain, atol=1e-6)


def test_accumulation_equals_a_large_batch(make_loop, toys) -> None:
    small = make_loop(loader=toys.Pictures(11, 2), accumulate=3)  # 6 + 5 pictures a turn
    large = make_loop(loader=toys.Pictures(11, 6))
    small.run()
    large.run()
    assert small.at.turn == large.at.turn == 4
    assert same(small.step.model, large.step.model, atol=1e-6)
    assert [line["loss"] for line in lines(small)] == pytest.approx([line["loss"] for line in lines(large)], rel=1e-5)


def test_clipping(make_loop) -> None:
    loop = make_loop(epochs=1, turns=1, clip=0.01, lr=1.0)
    before = deepcopy(loop.step.model)
    loop.run()
    moved = torch.cat([(a - b).flatten() for a, b in zip(loop.step.model.parameters(), before.parameters(), strict=True)])
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)


class Two:
    """Two phases as of an adversarial method: `even` moves the weight every second turn, `bias` the bias every turn."""

    def __init__(self, model: nn.Module) -> None:
        self.model = self.evaluated = model
        self.seen: list[tuple[str, list[bool]]] = []
        self.afters = 0
        self.optimizers = [torch.optim.SGD([model.linear.weight], lr=0.1), torch.optim.SGD([model.linear.bias], lr=0.1)]

    def phases(self) -> list[Phase]:
        def losses(name: str):
            def run(batch):
                self.seen.append((name, [p.requires_grad for p in self.model.linear.parameters()]))
                return {name: sum(self.model.losses(batch).values())}

            return run

        weight, bias = self.model.linear.weight, self.model.linear.bias
        return [Phase("even", [weight], losses("even"), self.optimizers[0], every=2), Phase("bias", [bias], losses("bias"), self.optimizers[1])]

    def after(self, batch) -> None:
        self.afters += 1

    def state_dict(self):
        return {}

    def load_state_dict(self, state) -> None: ...


def test_phases(make_loop, toys) -> None:
    model = toys.Toy()
    step = Two(model)
    loop = make_loop(step=step, epochs=1)
    plain = deepcopy(model)
    loop.run()
    even, bias = ("even", [True, False]), ("bias", [False, True])
    assert step.seen == [even, bias, bias, even, bias]
    assert step.afters == 3
    for turn, item in enumerate(toys.Pictures().epoch(0)):  # the second phase sees what the first has done
        for name, p, every in (("w", plain.linear.weight, 2), ("b", plain.linear.bias, 1)):
            if turn % every == 0:
                (g,) = torch.autograd.grad(sum(plain.losses(item.batch).values()), [p])
                with torch.no_grad():
                    p -= 0.1 * g
            assert name
    assert same(model, plain, atol=1e-6)
    epoch = lines(loop)[-1]
    assert {"even", "bias"} <= set(epoch)


def test_log_has_a_line_a_tick_and_one_an_epoch(make_loop) -> None:
    loop = make_loop(log_every=2)
    loop.run()
    found = lines(loop)
    assert [(line["kind"], line["epoch"], line["iteration"]) for line in found] == [
        ("tick", 1, 2), ("tick", 1, 3), ("epoch", 1, 3), ("tick", 2, 4), ("tick", 2, 6), ("epoch", 2, 6),
    ]  # fmt: skip
    for line in found:
        assert {"loss", "class", "size", "lr", "images_per_second", "seconds"} <= set(line)
        assert line["loss"] == pytest.approx(line["class"] + line["size"], rel=1e-5)
    ticks = [line for line in found if line["kind"] == "tick" and line["epoch"] == 1]
    assert found[2]["loss"] == pytest.approx((2 * ticks[0]["loss"] + ticks[1]["loss"]) / 3, rel=1e-5)


def test_a_loss_that_is_not_finite_stops_and_names_itself(make_loop, toys) -> None:
    class Broken(toys.Toy):
        calls = 0

        def losses(self, batch):
            self.calls += 1
            found = super().losses(batch)
            return found | {"size": found["size"] / (0.0 if self.calls == 5 else 1.0)}

    loop = make_loop(model=Broken)
    with pytest.raises(CvtoolError) as error:
        loop.run()
    text = str(error.value)
    assert error.value.exit_code == 1
    assert "size = inf" in text
    assert "class" not in text
    assert "epoch 2, turn 5" in text
    names = [item.names for item in toys.Pictures().epoch(1)][1]
    assert all(name in text for name in names)
    assert len(loop.keeper.states) == 1  # the first epoch's state is kept, nothing broken was saved


@pytest.mark.parametrize(("number", "kind", "code"), [(signal.SIGTERM, Terminated, 143), (signal.SIGINT, Interrupted, 130)])
def test_a_signal_saves_and_says_how_to_go_on(make_loop, number: int, kind: type, code: int) -> None:
    class Kill(Reporter):
        def turn(self, *, turn: int, **values) -> None:
            if turn == 4:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    loop = make_loop(reporter=Kill(), epochs=5, resume_hint="go on with: cvtool train --resume runs/0007")
    with pytest.raises(kind) as error:
        loop.run()
    assert error.value.exit_code == code
    assert "cvtool train --resume runs/0007" in str(error.value)
    assert signal.getsignal(number) == before
    assert loop.keeper.states[-1]["position"]["turn"] == 4
    assert loop.keeper.states[-1]["position"]["batch"] == 1


@pytest.mark.parametrize("stop", [1, 3, 4, 8])
def test_a_stopped_run_goes_on_to_the_bit(make_loop, toys, stop: int) -> None:
    more = {"epochs": 4, "ema": 0.9, "optimizer": "adamw", "log_every": 2, "schedule": lambda turn: 1 / (1 + turn)}
    whole = make_loop(model=lambda: toys.Toy(norm=True, noisy=True), **more)
    whole.run()

    class Stop(Reporter):
        def turn(self, *, turn: int, **values) -> None:
            if turn == stop:
                os.kill(os.getpid(), signal.SIGTERM)

    first = make_loop(model=lambda: toys.Toy(norm=True, noisy=True), reporter=Stop(), **more)
    with pytest.raises(Terminated):
        first.run()
    state = deepcopy(first.keeper.states[-1])
    torch.rand(7)  # a new process has other random numbers
    second = make_loop(model=lambda: toys.Toy(norm=True, noisy=True), **more)
    second.load_state_dict(state)
    second.run()
    parts = [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines(first) + lines(second)]
    assert parts == [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines(whole)]
    for a, b in ((whole.step.model, second.step.model), (whole.step.evaluated, second.step.evaluated)):
        for key, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[key]), key


def test_turns_end_a_run_inside_an_epoch_and_more_go_on_there(make_loop) -> None:
    loop = make_loop(epochs=4, turns=5)
    loop.run()
    assert (loop.at.epoch, loop.at.batch, loop.at.turn) == (1, 2, 5)
    state = deepcopy(loop.keeper.states[-1])
    more = make_loop(epochs=2)
    more.load_state_dict(state)
    more.run()
    whole = make_loop(epochs=2)
    whole.run()
    assert same(more.step.model, whole.step.model)


def test_validation_decides_the_best_and_moves_no_random_number(make_loop, toys) -> None:
    scores = iter([0.2, float("nan"), 0.5, 0.4])
    seen: list[bool] = []

    def validate(model: nn.Module) -> dict[str, float]:
        seen.append(model.training)
        torch.rand(3)
        return {"AP": next(scores), "val_loss": 1.0}

    with_it = make_loop(model=lambda: toys.Toy(noisy=True), epochs=4, validate=validate)
    with_it.run()
    without = make_loop(model=lambda: toys.Toy(noisy=True), epochs=4)
    without.run()
    assert [best for _, best in with_it.keeper.epochs] == [True, False, True, False]
    assert same(with_it.step.model, without.step.model)
    assert with_it.at.best_epoch == 3
    assert lines(with_it)[-1]["AP"] == 0.4


def test_val_every_and_save_every(make_loop) -> None:
    loop = make_loop(epochs=5, validate=lambda model: {"val_loss": 1.0}, val_every=2, save_every=3)
    loop.run()
    epochs = [line for line in lines(loop) if line["kind"] == "epoch"]
    assert ["val_loss" in line for line in epochs] == [False, True, False, True, True]
    assert [state["position"]["epoch"] for state in loop.keeper.states] == [3, 5]


def test_empty_losses_are_an_error(make_loop, toys) -> None:
    class Silent(toys.Toy):
        def losses(self, batch):
            return {}

    with pytest.raises(CvtoolError, match="empty"):
        make_loop(model=Silent, keeper=toys.Keeper()).run()


def test_a_gradient_that_is_not_finite_ends_the_run_with_the_weights_whole(make_loop, toys) -> None:
    class Edge(toys.Toy):
        def losses(self, batch):
            return super().losses(batch) | {"edge": (self.linear.weight * 0).square().sum().sqrt()}  # 0, with the slope 0 / 0

    loop = make_loop(model=Edge, clip=1.0)
    with pytest.raises(CvtoolError, match="the gradient is not finite"):
        loop.run()
    assert all(p.isfinite().all() for p in loop.step.model.parameters())
    assert not loop.keeper.epochs
