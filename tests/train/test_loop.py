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
from cvtool.train.log import TIMES, Reporter
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
    parts = [{k: v for k, v in line.items() if k not in TIMES} for line in lines(first) + lines(second)]
    assert parts == [{k: v for k, v in line.items() if k not in TIMES} for line in lines(whole)]
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


@pytest.mark.system("sgd")
def test_epochs_are_shuffled_anew_and_their_last_batch_counts_too(make_loop, toys, tmp_path) -> None:
    from cvtool.batch import Prepare
    from cvtool.data import synth
    from cvtool.data.dataset import Dataset
    from cvtool.data.loader import Loader

    dataset = Dataset(synth.shapes(11, 32, seed=1), synth.CATEGORIES)
    loader = Loader(dataset, Prepare(resize="stretch", size=32), batch_size=4, seed=5)
    orders = [[i for batch in loader.plan(epoch) for i in batch] for epoch in range(3)]
    assert all(sorted(order) == list(range(11)) for order in orders)  # each picture once an epoch
    assert len({tuple(order) for order in orders}) == 3
    assert orders == [[i for batch in loader.plan(epoch) for i in batch] for epoch in range(3)]
    assert [len(batch) for batch in loader.plan(0)] == [4, 4, 3]

    class Count(Reporter):
        images: list[int] = []

        def turn(self, *, images: int, **values) -> None:
            self.images.append(images)

    pictures = toys.Pictures(11, 4)
    loop = make_loop(loader=pictures, epochs=2, reporter=Count())
    loop.run()
    assert loop.at.turn == 2 * -(-11 // 4) == 6  # u = 0 .. U - 1 of the text's loop; its "0 .. U" is one too many
    assert Count.images == [4, 4, 3] * 2


def scripted(scores: list[float]):
    """A validation that measures what it is told."""
    told = iter(scores)
    return lambda model: {"val_accuracy": next(told), "val_loss": 1.0}


def test_patience(make_loop) -> None:
    class Notes(Reporter):
        said: list[str] = []

        def note(self, text: str) -> None:
            self.said.append(text)

    scores = [0.2, 0.5, 0.4, 0.5, 0.3, 0.9]
    loop = make_loop(epochs=6, lr=0.02, validate=scripted(scores), patience=3, reporter=Notes())
    loop.run()
    assert (loop.at.epoch, loop.at.best_epoch, loop.at.bad) == (5, 2, 3)
    assert [best for _, best in loop.keeper.epochs] == [True, True, False, False, False]
    assert "stopped early: 3 validations were no better than that of epoch 2" in Notes.said[0]
    assert "overfitting" in Notes.said[0]  # the training loss went on falling
    assert "and the validation's from 1 to 1 meanwhile" in Notes.said[0]
    state = deepcopy(loop.keeper.states[-1])
    again = make_loop(epochs=6, validate=scripted(scores[5:]), patience=3)
    again.load_state_dict(state)
    again.run()
    assert again.at.epoch == 5  # it is over
    longer = make_loop(epochs=6, validate=scripted(scores[5:]), patience=4)
    longer.load_state_dict(state)
    longer.run()
    assert (longer.at.epoch, longer.at.best_epoch) == (6, 6)
    resumed = make_loop(epochs=6, validate=scripted(scores), patience=3)
    resumed.load_state_dict(deepcopy(loop.keeper.states[2]))  # the counter goes on where it stood
    resumed.validate = scripted(scores[3:])
    resumed.run()
    assert (resumed.at.epoch, resumed.at.bad) == (5, 3)
    forever = make_loop(epochs=6, validate=scripted(scores))
    forever.run()
    assert forever.at.epoch == 6


@pytest.mark.parametrize(
    ("scores", "losses", "because"),
    [
        ([1.0, 1.0, 1.0], [0.9, 0.5, 0.2], "nothing more to be had by this measure"),  # all is right already, and surer each time
        ([0.9, 0.9, 0.9], [0.2, 0.5, 0.9], "overfitting"),
        ([0.9, 0.8, 0.7], [0.9, 0.5, 0.2], "overfitting"),
    ],
)
def test_overfitting_is_said_where_the_validation_gets_worse(make_loop, scores, losses, because) -> None:
    said: list[str] = []

    class Notes(Reporter):
        def note(self, text: str) -> None:
            said.append(text)

    told = iter([{"val_accuracy": s, "val_loss": v} for s, v in zip(scores, losses, strict=True)])
    loop = make_loop(epochs=6, lr=0.02, validate=lambda model: next(told), patience=2, reporter=Notes())
    loop.run()
    assert f"from {losses[0]:g} to {losses[-1]:g} meanwhile ({because})" in said[0]


def test_a_validation_that_measures_nothing_is_not_better(make_loop) -> None:
    loop = make_loop(epochs=5, validate=lambda model: {"val_loss": float("nan")}, patience=2)
    loop.run()
    assert (loop.at.epoch, loop.at.best) == (2, None)


class Halving:
    """A schedule with a state: half the rate after each validation that was no better."""

    def __init__(self) -> None:
        self.factor, self.best = 1.0, 0.0

    def __call__(self, turn: int) -> float:
        return self.factor

    def observe(self, values) -> None:
        self.factor, self.best = (1.0, values["val_accuracy"]) if values["val_accuracy"] > self.best else (self.factor / 2, self.best)

    def state_dict(self):
        return {"factor": self.factor, "best": self.best}

    def load_state_dict(self, state) -> None:
        self.factor, self.best = state["factor"], state["best"]


def test_a_schedule_that_observes(make_loop) -> None:
    scores = [0.5, 0.4, 0.3, 0.6]
    whole = make_loop(epochs=4, validate=scripted(scores), schedule=Halving())
    whole.run()
    assert [line["lr"] for line in lines(whole) if line["kind"] == "epoch"] == pytest.approx([0.1, 0.1, 0.05, 0.025])
    second = make_loop(epochs=4, validate=scripted(scores[2:]), schedule=Halving())
    second.load_state_dict(deepcopy(whole.keeper.states[1]))
    assert second.schedule.factor == 0.5
    second.run()
    assert same(second.step.model, whole.step.model)


class Deep(nn.Module):
    """Three layers; `where` breaks one of them at its third call."""

    def __init__(self, where: str = "", size: float = float("nan")) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 3)
        self.inner = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
        self.where, self.size, self.calls = where, size, 0

    def losses(self, batch):
        self.calls += 1
        if self.calls >= 3 and self.where:
            with torch.no_grad():
                self.get_parameter(self.where)[0] = self.size
        x = self.last(self.inner(self.act(self.first(batch.images.flatten(1)))))
        labels = torch.stack([target.labels[0] for target in batch.targets])
        return {"class": nn.functional.cross_entropy(x, labels)}


@pytest.mark.parametrize(
    ("where", "layer"), [("first.weight", "first (Linear"), ("inner.0.bias", "inner.0 (Linear"), ("last.weight", "last (Linear")]
)
def test_a_loss_that_is_not_finite_names_the_layer_and_the_batch(make_loop, toys, where: str, layer: str) -> None:
    loop = make_loop(model=lambda: Deep(where))
    with pytest.raises(CvtoolError) as error:
        loop.run()
    said = str(error.value)
    assert f"it began in {layer}" in said
    assert where.rpartition(".")[2] in said
    assert "epoch 1, turn 3" in said
    assert all(name in said for name in [item.names for item in toys.Pictures().epoch(0)][2])


def test_a_layer_that_overflows_is_named_with_the_extent_of_its_input(make_loop) -> None:
    class Steep(Deep):
        def losses(self, batch):
            found = super().losses(batch)
            return {"class": found["class"] + self.act(self.last.weight.sum() * 1e38 * 1e38).mean()}

    with pytest.raises(CvtoolError, match="not finite") as error:
        make_loop(model=Steep).run()
    assert "act (ReLU, whose input is not finite)" in str(error.value)


def test_a_gradient_that_is_not_finite_names_the_layer(make_loop, toys) -> None:
    class Edge(Deep):
        def losses(self, batch):
            x = self.inner(self.act(self.first(batch.images.flatten(1))))
            return {"class": self.last(x).square().mean() + (x * 0).square().sum().sqrt()}  # the slope of sqrt at 0 times 0 is NaN

    with pytest.raises(CvtoolError) as error:
        make_loop(model=Edge, clip=0.0).run()
    assert "the gradient is not finite, though the loss is: class; it began in inner.1 (Tanh)" in str(error.value)

    class Alone(toys.Toy):
        def losses(self, batch):
            return super().losses(batch) | {"edge": (self.linear.weight * 0).square().sum().sqrt()}  # no layer's output is to blame

    with pytest.raises(CvtoolError) as error:
        make_loop(model=Alone).run()
    assert "it began in linear.weight" in str(error.value)


def test_a_rate_at_which_it_diverges_stops_and_keeps_the_last_good_state(make_loop) -> None:
    loop = make_loop(epochs=60, lr=3e3, clip=0.0, log_every=3)
    with pytest.raises(CvtoolError) as error:
        loop.run()
    assert error.value.exit_code == 1
    assert "diverges" in str(error.value) or "not finite" in str(error.value)
    assert "--lr" in str(error.value)
    for state in loop.keeper.states:
        assert all(value.isfinite().all() for value in state["step"]["model"].values())


def test_noise_is_drawn_by_turn_and_leaves_padding_alone(toys) -> None:
    from cvtool.train.noise import InputNoise

    batch = toys.Pictures(4, 4).item([0, 1, 2, 3]).batch
    batch.padding[:, :, 3] = True
    batch.images[..., 3] = 0
    noise = InputNoise(0.5, seed=3)
    one, again, other = noise(batch, 7), noise(batch, 7), noise(batch, 8)
    assert torch.equal(one.images, again.images)
    assert not torch.equal(one.images, other.images)
    assert not torch.equal(one.images, InputNoise(0.5, seed=4)(batch, 7).images)
    assert not torch.equal(one.images, noise(batch, 7, 1).images)
    assert (one.images[..., 3] == 0).all()
    wide = type(batch)(torch.zeros(1, 3, 200, 200), torch.zeros(1, 200, 200, dtype=torch.bool), batch.places[:1])
    assert noise(wide, 0).images.std().item() == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("stop", [2, 7])
def test_all_that_has_a_state_goes_on_to_the_bit(make_loop, toys, stop: int) -> None:
    """Noise, accumulation, a moving average, a schedule with a state, patience and a gradient scaler, cut at any turn."""
    from cvtool.train.noise import InputNoise

    def make(**given):
        loop = make_loop(
            model=lambda: toys.Toy(norm=True, noisy=True), epochs=6, ema=0.9, optimizer="adamw", lr=0.01, accumulate=2, loader=toys.Pictures(20, 4),
            schedule=Halving(), patience=4, change=InputNoise(0.1), log_every=2,
            validate=lambda model: {"val_accuracy": [0.5, 0.4, 0.6, 0.3, 0.2, 0.1][epoch(loop)]}, **given,
        )  # fmt: skip
        loop.scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=3)  # as of fp16 on a GPU
        return loop

    def epoch(loop) -> int:
        return loop.at.epoch

    class Stop(Reporter):
        def turn(self, *, turn: int, **values) -> None:
            if turn == stop:
                os.kill(os.getpid(), signal.SIGTERM)

    whole = make()
    whole.run()
    first = make(reporter=Stop())
    with pytest.raises(Terminated):
        first.run()
    torch.rand(5)
    second = make()
    second.load_state_dict(deepcopy(first.keeper.states[-1]))
    second.run()
    parts = [{k: v for k, v in line.items() if k not in TIMES} for line in lines(first) + lines(second)]
    assert parts == [{k: v for k, v in line.items() if k not in TIMES} for line in lines(whole)]
    assert second.scaler.get_scale() == whole.scaler.get_scale() > 256
    for a, b in ((whole.step.model, second.step.model), (whole.step.evaluated, second.step.evaluated)):
        assert all(torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items())


def test_penalties_are_losses_of_their_own(make_loop, toys) -> None:
    from cvtool.train import recipe
    from cvtool.train.steps import supervised

    model = toys.Toy()
    step = supervised.make(model, recipe.resolve({"l1": 0.1, "optimizer": "sgd", "lr": 0.0}))
    loop = make_loop(step=step, epochs=1, accumulate=3)
    loop.run()
    epoch = lines(loop)[-1]
    assert epoch["l1"] == pytest.approx(0.1 * model.linear.weight.abs().sum().item(), rel=1e-5)  # once a turn, however many batches
    assert epoch["loss"] == pytest.approx(epoch["class"] + epoch["size"] + epoch["l1"], rel=1e-5)


def test_newton_is_shown_the_loss(make_loop, toys) -> None:
    class Line(toys.Toy):
        """A quadratic of its few weights, whose bottom one turn of Newton's reaches."""

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 1)

        def losses(self, batch):
            return {"square": (self.linear(batch.images.mean((2, 3))) - 1).square().mean()}

    loop = make_loop(model=Line, optimizer="newton", lr=1.0, epochs=2, loader=toys.Pictures(12, 6), accumulate=2, clip=0.0, log_every=1)
    loop.run()
    first, second = (line["square"] for line in lines(loop) if line["kind"] == "tick")
    x = torch.cat([torch.ones(12, 1), toys.Pictures(12, 6).images.mean((2, 3))], 1)
    best = (x @ torch.linalg.lstsq(x, torch.ones(12, 1)).solution - 1).square().mean().item()
    assert second == pytest.approx(best, abs=1e-6)
    assert first > 0.1
