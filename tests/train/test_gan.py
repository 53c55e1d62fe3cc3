"""The step gan: who learns when, from what, and to the bit again."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from cvtool import weights
from cvtool.batch import Batch
from cvtool.categories import numbered
from cvtool.errors import UsageError
from cvtool.losses.adversarial import adversarial
from cvtool.results import Labels
from cvtool.runtime.device import seed_everything
from cvtool.train import recipe as recipes
from cvtool.train.steps import gan


def step_of(*, conditional=False, **changes):
    seed_everything(0)
    model = weights.build("dcgan.tiny", categories=numbered(3), conditional=conditional)
    recipe = recipes.DEFAULTS | gan.SETTINGS | {"optimizer": "adam:beta1=0.5", "lr": 2e-4} | changes
    return gan.make(model, recipe)


class Loader:
    """Eight pictures of 16 x 16 in batches of four."""

    def __init__(self, item):
        self.images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.item = item

    def __len__(self):
        return 2

    def epoch(self, epoch, start=0):
        for i in range(start, 2):
            targets = [Labels(torch.tensor([j % 3])) for j in range(4)]
            images = self.images[4 * i : 4 * i + 4]
            yield self.item(Batch(images, torch.zeros(4, 16, 16, dtype=torch.bool), [None] * 4, targets), [f"{j}.png" for j in range(4)])


@pytest.fixture
def run(make_loop, toys):
    def go(step, *, state=None, **given):
        seed_everything(1)
        loop = make_loop(step=step, loader=Loader(toys.Item), **given)
        seed_everything(2)
        if state is not None:
            loop.load_state_dict(state)
        loop.run()
        return loop

    return go


def equal(one, other):
    return all(torch.equal(value, other[key]) for key, value in one.items())


def test_each_player_learns_in_its_turn(toys):
    step = step_of(discriminator_lr=1e-3)
    first, second = step.phases()
    assert (first.name, second.name) == ("discriminator", "generator")
    assert [phase.optimizer.param_groups[0]["lr"] for phase in (first, second)] == [1e-3, 2e-4]
    (item,) = list(Loader(toys.Item).epoch(0))[:1]
    sum(first.losses(item.batch).values()).backward()
    assert all(p.grad is None for p in step.model.generator.parameters())
    assert all(p.grad is not None for p in step.model.discriminator.parameters())
    sum(second.losses(item.batch).values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in step.model.generator.parameters())


def test_the_generator_minimises_minus_ln_d(toys):
    step = step_of(conditional=True)
    step.model.eval()
    (item,) = list(Loader(toys.Item).epoch(0))[:1]
    classes = torch.tensor([0, 1, 2, 0])
    assert torch.equal(step.model.classes_of(item.batch), classes)
    torch.manual_seed(3)
    told = step.deceiving(item.batch)["adversarial"]
    torch.manual_seed(3)
    scores = step.model.judge(step.model.generate(step.model.drawn(4), classes), classes)
    torch.testing.assert_close(told, -scores.sigmoid().log().mean())
    torch.manual_seed(3)
    judged = step.telling(item.batch)
    torch.testing.assert_close(judged["d_made"], -(1 - scores.sigmoid()).log().mean())
    torch.testing.assert_close(judged["d_real"], adversarial(step.model.judge(item.batch.images, classes), True))


def test_both_change_and_a_run_goes_on_to_the_bit(run):
    start = deepcopy(step_of().model.state_dict())
    whole = run(step_of(ema=0.9), epochs=2)
    half = run(step_of(ema=0.9), epochs=1)
    kept = deepcopy(half.state_dict())  # with the random numbers of here and now
    again = run(step_of(ema=0.9), state=kept, epochs=2)
    end = whole.step.model.state_dict()
    for player in ("generator", "discriminator"):
        assert any(not torch.equal(value, start[key]) for key, value in end.items() if key.startswith(player) and key.endswith("weight"))
    assert equal(again.step.model.state_dict(), end)
    assert equal(again.step.evaluated.state_dict(), whole.step.evaluated.state_dict())
    assert not equal(whole.step.evaluated.state_dict(), end)


def test_it_is_for_models_of_two_players():
    with pytest.raises(UsageError, match="discriminator"):
        gan.make(weights.build("autoencoder.tiny", categories=[]), recipes.DEFAULTS | gan.SETTINGS)
