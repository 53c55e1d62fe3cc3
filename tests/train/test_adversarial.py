"""The step adversarial on a small module from pictures to pictures: two networks in turns, each term in the log, and weight 0 is no adversary."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
import torch
from torch import nn

from cvtool import losses, weights
from cvtool.batch import Batch
from cvtool.categories import numbered
from cvtool.errors import UsageError
from cvtool.losses.adversarial import adversarial
from cvtool.runtime.device import seed_everything
from cvtool.tasks import train as task
from cvtool.train import recipe as recipes
from cvtool.train.steps import adversarial as step_module
from cvtool.train.steps import supervised


class Painter(nn.Module):
    """Pictures as they are from pictures in noise; with a norm and a dropout, which move and draw at each look."""

    criterion_kind = "pictures"

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 6, 3, 1, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout2d(0.2), nn.Conv2d(6, 3, 1), nn.Sigmoid())
        self.criterion = None

    def forward(self, batch):
        return self.net(batch.images + 0.1 * torch.randn_like(batch.images))

    def losses(self, batch):
        return (self.criterion or losses.compose("l1", "pictures"))(self.forward(batch), batch.images)


class Loader:
    """Twelve pictures of 12 x 12 in batches of four."""

    def __init__(self, item):
        self.images = torch.rand(12, 3, 12, 12, generator=torch.Generator().manual_seed(0))
        self.item = item

    def __len__(self):
        return 3

    def epoch(self, epoch, start=0):
        for i in range(start, 3):
            images = self.images[4 * i : 4 * i + 4]
            yield self.item(Batch(images, torch.zeros(4, 12, 12, dtype=torch.bool), [None] * 4, None), [f"{j}.png" for j in range(4 * i, 4 * i + 4)])


def step_of(text, kind=step_module, **changes):
    seed_everything(0)
    model = Painter()
    model.criterion = losses.compose(text, "pictures")
    own = {"discriminator_width": 8, "discriminator_layers": 1}
    return kind.make(model, recipes.DEFAULTS | step_module.SETTINGS | {"optimizer": "adamw", "lr": 2e-3} | own | changes)


@pytest.fixture
def run(make_loop, toys):
    def go(step, *, state=None, **given):
        seed_everything(1)
        loop = make_loop(step=step, loader=Loader(toys.Item), log_every=1, **given)
        seed_everything(2)
        if state is not None:
            loop.load_state_dict(state)
        loop.run()
        return loop, [json.loads(line) for line in loop.log.path.read_text().splitlines()]

    return go


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.system("rec-adv")
@pytest.mark.parametrize("accumulate", [1, 3])
def test_weight_zero_is_the_plain_loss_to_the_bit(run, accumulate):
    plain, lines = run(step_of("l1", supervised, ema=0.9), epochs=2, accumulate=accumulate)
    mixed, more = run(step_of("l1:1,adv:0", ema=0.9), epochs=2, accumulate=accumulate)
    assert equal(plain.step.model, mixed.step.model)
    assert equal(plain.step.evaluated, mixed.step.evaluated)
    assert [line["l1"] for line in lines] == [line["l1"] for line in more]
    other, _ = run(step_of("l1:1,adv:0.1", ema=0.9), epochs=2, accumulate=accumulate)
    assert not equal(plain.step.model, other.step.model)


@pytest.mark.system("rec-adv")
@pytest.mark.parametrize("text", ["l1:1,adv:0.01", "l2+0.05*adv"])
def test_each_term_is_logged_and_the_two_take_turns(run, text):
    step = step_of(text)
    asked = []
    first, second = step.phases()
    mine, theirs = ({id(p) for p in phase.params} for phase in (first, second))
    assert not mine & theirs
    assert theirs == {id(p) for p in step.discriminator.parameters()}
    for name in ("deceiving", "telling"):
        plain = getattr(step, name)

        def watched(batch, name=name, plain=plain):
            asked.append((name, any(p.requires_grad for p in step.model.parameters()), any(p.requires_grad for p in step.discriminator.parameters())))
            return plain(batch)

        setattr(step, name, watched)
    before = deepcopy(step.discriminator)
    _, lines = run(step, epochs=1)
    assert asked == [("deceiving", True, False), ("telling", False, True)] * 3
    assert not equal(before, step.discriminator)
    term = "l1" if "l1" in text else "l2"
    ticks = [line for line in lines if line["kind"] == "tick"]
    assert len(ticks) == 3
    for line in ticks:
        assert line[term] > 0
        assert line["adversarial"] > 0
        assert line["d_real"] > 0
        assert line["d_made"] > 0
        assert line["loss"] == pytest.approx(line[term] + line["adversarial"] + line["d_real"] + line["d_made"])


@pytest.mark.system("rec-adv")
def test_each_side_minimises_its_own_part_on_the_same_pictures(toys):
    step = step_of("l1:1,adv:0.25")
    (item,) = list(Loader(toys.Item).epoch(0))[:1]
    first, second = step.phases()
    step.model.losses(Batch(torch.zeros(1, 3, 12, 12), torch.zeros(1, 12, 12, dtype=torch.bool), [None], None))  # somebody else looks
    torch.manual_seed(3)
    told = first.losses(item.batch)
    torch.manual_seed(3)
    made = step.model(item.batch)
    torch.testing.assert_close(told["l1"], (made - item.batch.images).abs().mean())
    torch.testing.assert_close(told["adversarial"], 0.25 * adversarial(step.discriminator(made), True))
    judged = second.losses(item.batch)
    torch.testing.assert_close(judged["d_real"], adversarial(step.discriminator(item.batch.images), True))
    torch.testing.assert_close(judged["d_made"], adversarial(step.discriminator(made.detach()), False))
    step.model.zero_grad()
    sum(judged.values()).backward()
    assert all(p.grad is None for p in step.model.parameters())


@pytest.mark.system("rec-adv")
def test_the_adversary_learns_to_tell_and_the_model_to_deceive():
    scores = torch.tensor([-3.0, 0.0, 3.0], requires_grad=True)
    assert adversarial(scores, True).item() == pytest.approx(sum(torch.nn.functional.softplus(-scores)).item() / 3)
    assert adversarial(scores, False).item() == pytest.approx(sum(torch.nn.functional.softplus(scores)).item() / 3)
    (slope,) = torch.autograd.grad(3 * adversarial(scores, True), scores)
    assert slope[0] == pytest.approx(-1, abs=0.05)  # where D is sure that it is made, -ln D still pulls
    (vanishing,) = torch.autograd.grad(-3 * adversarial(scores, False), scores)
    assert vanishing[0] == pytest.approx(0, abs=0.05)


def test_a_run_goes_on_to_the_bit(run):
    whole, _ = run(step_of("l1:1,adv:0.1"), epochs=2)
    half, _ = run(step_of("l1:1,adv:0.1"), epochs=1)
    kept = deepcopy(half.state_dict())
    again, _ = run(step_of("l1:1,adv:0.1"), state=kept, epochs=2)
    for one in ("model", "discriminator"):
        assert equal(getattr(again.step, one), getattr(whole.step, one))
        assert not equal(getattr(half.step, one), getattr(whole.step, one))


@pytest.mark.system("rec-adv")
def test_with_a_texture_term_beside(run, tmp_path):
    model = weights.build("vgg.tiny", categories=numbered(4))
    path = weights.save(model, tmp_path / "vgg.safetensors", weights.Info(reference="vgg.tiny", categories=model.categories, prepare=model.prepare))
    _, lines = run(step_of(f"l2+0.01*adv+10*style:net={path},layer=relu1_1/relu2_1"), epochs=1)
    assert all(lines[0][name] > 0 for name in ("l2", "gram_style", "adversarial", "d_real", "d_made"))


@pytest.mark.system("rec-adv")
def test_the_term_alone_chooses_the_step():
    planned = task.plan("fcn.tiny", None, layers=[{"loss": "l1:1,adv:0.01", "discriminator_width": 16}])
    assert planned.recipe["step"] == "adversarial"
    assert planned.recipe["discriminator_width"] == 16
    with pytest.raises(UsageError, match="adversarial"):
        task.plan("fcn.tiny", None, layers=[{"loss": "l1:1,adv:0.01", "step": "supervised"}])
    assert task.plan("fcn.tiny", None, layers=[{"loss": "dice"}]).recipe["step"] == "supervised"


def test_without_an_adversarial_term_it_has_nothing_to_do():
    with pytest.raises(UsageError, match="nothing to do"):
        step_of("l1")
