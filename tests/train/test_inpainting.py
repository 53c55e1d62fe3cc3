"""The step inpainting: who learns when, from which holes, and to the bit again."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch

from cvtool import weights
from cvtool.batch import Batch
from cvtool.categories import numbered
from cvtool.data import augment, synth
from cvtool.data.dataset import Dataset
from cvtool.data.loader import Loader
from cvtool.errors import UsageError
from cvtool.ops.freeform import Freeform
from cvtool.results import Picture
from cvtool.runtime.device import seed_everything
from cvtool.train import recipe as recipes
from cvtool.train.steps import inpainting


def step_of(name="context-encoder", **changes):
    seed_everything(0)
    model = weights.build(f"{name}.tiny", categories=numbered(1))
    recipe = recipes.DEFAULTS | inpainting.SETTINGS | {"optimizer": "adam:beta1=0.5", "lr": 2e-4} | changes
    return inpainting.make(model, recipe)


class Pictures:
    """Four pictures of 32 x 32 in batches of two, each with a hole."""

    def __init__(self, item):
        self.images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.holes = torch.zeros(4, 32, 32, dtype=torch.bool)
        for i in range(4):
            self.holes[i, 4 + i : 14, 6 : 20 + i] = True
        self.item = item

    def __len__(self):
        return 2

    def epoch(self, epoch, start=0):
        for i in range(start, 2):
            part = slice(2 * i, 2 * i + 2)
            targets = [Picture(hole=hole) for hole in self.holes[part]]
            yield self.item(Batch(self.images[part], torch.zeros(2, 32, 32, dtype=torch.bool), [None] * 2, targets), ["a.png", "b.png"])


def first(toys):
    return next(iter(Pictures(toys.Item).epoch(0))).batch


def equal(one, other):
    return all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.system("context-encoder")
def test_generator_and_rival_learn_in_their_turns(toys):
    step = step_of("deepfill-v2", discriminator_lr=1e-3)
    generator, discriminator = step.phases()
    assert (generator.name, discriminator.name) == ("generator", "discriminator")
    assert [phase.optimizer.param_groups[0]["lr"] for phase in (generator, discriminator)] == [2e-4, 1e-3]
    assert not {id(p) for p in generator.params} & {id(p) for p in discriminator.params}
    assert len(generator.params) + len(discriminator.params) == len(list(step.model.parameters()))
    batch = first(toys)
    assert set(generator.losses(batch)) == {"l1_coarse", "l1", "adversarial"}
    losses = discriminator.losses(batch)
    assert set(losses) == {"d_real", "d_made"}
    sum(losses.values()).backward()
    assert all(p.grad is None for p in generator.params)
    assert all(p.grad is not None for p in discriminator.params)


def test_the_rival_judges_the_very_pictures_of_the_generators_turn(toys):
    """Complete ones: true outside of the hole. What is drawn at random for the generator is not drawn anew."""
    step, batch, seen = step_of(gan_loss="lsgan"), first(toys), []
    step.model.discriminator.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    step.filling(batch)
    step.telling(batch)
    made, real, again = seen
    hole = step.model.condition(batch) == 1
    assert torch.equal(torch.where(hole, batch.images, made), batch.images)
    assert not torch.equal(made, batch.images)
    assert torch.equal(real, batch.images)
    assert torch.equal(again, made)


def test_its_settings_count(toys):
    """Without a share for the rival the generator's gradient is that of its own losses."""
    alone, batch = step_of(adversarial=0.0), first(toys)
    losses = alone.filling(batch)
    assert losses["adversarial"].item() == 0
    half, whole = (step_of(adversarial=share).filling(batch)["adversarial"].item() for share in (0.5, 1.0))
    assert half == pytest.approx(whole / 2)
    told = {name: step_of(gan_loss=name).filling(batch)["adversarial"].item() for name in ("hinge", "non-saturating", "lsgan")}
    assert len(set(told.values())) == 3


def test_a_run_goes_on_to_the_bit(make_loop, toys):
    def run(epochs, state=None):
        step = step_of("deepfill-v2", ema=0.9)
        seed_everything(1)
        loop = make_loop(step=step, loader=Pictures(toys.Item), epochs=epochs)
        if state is not None:
            loop.load_state_dict(state)
        loop.run()
        return loop

    start = deepcopy(step_of("deepfill-v2").model.state_dict())
    whole, half = run(2), run(1)
    again = run(2, deepcopy(half.state_dict()))
    end = whole.step.model.state_dict()
    assert equal(again.step.model.state_dict(), end)
    assert equal(again.step.evaluated.state_dict(), whole.step.evaluated.state_dict())
    for player in ("generator", "discriminator"):
        assert any(not torch.equal(value, start[key]) for key, value in end.items() if key.startswith(player))


@pytest.mark.parametrize(
    ("name", "changes", "what"),
    [
        ("dcgan", {}, "fills? holes"),
        ("partial-conv", {"gan_loss": "lsgan"}, "gan_loss has no effect"),
        ("partial-conv", {"discriminator_lr": 0.1}, "discriminator_lr has no effect"),
        ("deepfill-v2", {"gan_loss": "hing"}, "unknown gan_loss"),
        ("deepfill-v2", {"adversarial": -1.0}, "adversarial is at least 0"),
    ],
)
def test_what_it_refuses(name, changes, what):
    with pytest.raises(UsageError, match=what):
        step_of(name, **changes)


def test_pictures_of_another_size_are_refused_where_the_model_has_one():
    model = weights.build("context-encoder.tiny", categories=numbered(1))
    model.prepare = model.prepare.sized(64)
    with pytest.raises(UsageError, match="32 pixels"):
        inpainting.make(model, recipes.DEFAULTS | inpainting.SETTINGS)


@pytest.mark.parametrize("name", ["context-encoder", "partial-conv", "deepfill-v2"])
def test_models_can_be_built_without_memory_for_their_values(name):
    """As training from a checkpoint does, to see which tensors belong to the head."""
    with torch.device("meta"):
        model = weights.build(f"{name}.tiny", categories=numbered(1))
    assert all(p.is_meta for p in model.parameters())


# ---- the holes ----------------------------------------------------------------------------------------------------


def loader_of(**more):
    model = weights.build("partial-conv.tiny", categories=numbered(1))
    given = {"batch_size": 3, "seed": 5, "augment": augment.pipeline("flip"), "holes": model.holes} | more
    return Loader(Dataset(synth.shapes(6, 40, seed=3), synth.CATEGORIES, needs=model.needs), model.prepare, **given)


def holes(loader, epoch=0, start=0):
    return {name: t.hole for item in loader.epoch(epoch, start) for name, t in zip(item.names, item.batch.targets, strict=True)}


def test_each_picture_gets_a_hole_of_its_own_that_depends_on_seed_epoch_and_picture():
    whole = holes(loader_of())
    assert len(whole) == 6
    assert all(hole.shape == (32, 32) and hole.dtype == torch.bool for hole in whole.values())  # as `prepare` makes the pictures
    assert len({hole.numpy().tobytes() for hole in whole.values()}) == 6
    assert equal(holes(loader_of(batch_size=2)), whole)
    assert equal(holes(loader_of(), start=1), whole)
    assert equal(holes(loader_of(workers=1)), whole)
    assert not equal(holes(loader_of(), epoch=1), whole)
    assert not equal(holes(loader_of(seed=6)), whole)


def test_holes_are_those_of_the_free_form_generator():
    wide = holes(loader_of(holes=Freeform(share=0.5)))
    assert min(float(hole.float().mean()) for hole in wide.values()) >= 0.5
    first_of = next(iter(loader_of(shuffle=False).epoch(0))).batch.targets[0].hole
    drawn = Freeform().draw(32, 32, np.random.default_rng((5, 4, 0, 0)))
    assert np.array_equal(first_of.numpy(), drawn)


def test_other_models_get_none():
    batch = next(iter(loader_of(holes=None).epoch(0))).batch
    assert all(target.hole is None for target in batch.targets)
