"""The step neural-augment: two pictures of a class become one, and both networks learn in one step."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from cvtool import weights
from cvtool.batch import Batch
from cvtool.categories import numbered
from cvtool.errors import UsageError
from cvtool.results import Labels
from cvtool.runtime.device import seed_everything
from cvtool.tasks import train as task
from cvtool.train import recipe as recipes
from cvtool.train.steps import neural_augment

LABELS = [0, 1, 0, 2, 1, 0]  # class 2 comes once


def step_of(model="simple-cnn.tiny", **changes):
    seed_everything(0)
    built = weights.build(model, categories=numbered(3))
    recipe = recipes.DEFAULTS | neural_augment.SETTINGS | {"optimizer": "adamw", "lr": 1e-3, "augment_width": 4} | changes
    return neural_augment.make(built, recipe)


def batch_of(labels=LABELS, seed=0):
    images = torch.randn(len(labels), 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    targets = [Labels(torch.tensor([label])) for label in labels]
    return Batch(images, torch.zeros(len(labels), 16, 16, dtype=torch.bool), [None] * len(labels), targets)


class Loader:
    def __init__(self, item):
        self.item = item

    def __len__(self):
        return 2

    def epoch(self, epoch, start=0):
        for i in range(start, 2):
            yield self.item(batch_of(seed=i), [f"{j}.png" for j in range(6)])


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


@pytest.mark.system("neural-aug")
def test_two_random_pictures_of_a_class_go_in():
    torch.manual_seed(0)
    labels = torch.tensor(LABELS)
    seen = set()
    for _ in range(20):
        chosen, second, third = neural_augment.partners(labels)
        assert chosen.tolist() == [0, 1, 2, 4, 5]  # all but the one that is alone
        assert (labels[chosen] == labels[second]).all()
        assert (labels[chosen] == labels[third]).all()
        assert (chosen != second).all()
        assert (chosen != third).all()
        assert (second != third)[labels[chosen] == 0].all()  # where there are three
        seen.add(int(second[0]))
    assert seen == {2, 5}
    augmenter = neural_augment.Augmenter(16)
    assert augmenter(torch.zeros(2, 6, 9, 7)).shape == (2, 3, 9, 7)
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in augmenter) == 5


@pytest.mark.system("neural-aug")
@pytest.mark.parametrize("form", ["content", "style", "none"])
def test_the_classifier_compares_originals_and_what_was_made(form):
    step = step_of(augment_loss=form, augment_weight=0.2)
    step.model.eval(), step.augmenter.eval()
    batch = batch_of()
    torch.manual_seed(3)
    found = step.losses(batch)
    torch.manual_seed(3)
    labels = torch.tensor(LABELS)
    chosen, second, third = neural_augment.partners(labels)
    made = step.augmenter(torch.cat([batch.images[chosen], batch.images[second]], 1))
    logits = step.model(torch.cat([batch.images, made]))
    torch.testing.assert_close(found["cross_entropy"], 0.8 * F.cross_entropy(logits, torch.cat([labels, labels[chosen]])))
    if form == "none":
        assert set(found) == {"cross_entropy"}
        return
    one, other = made, batch.images[third]
    if form == "style":
        one, other = (torch.einsum("bchw,bdhw->bcd", x, x) / x[0].numel() for x in (made, other))
        expected = (one - other).square().sum((1, 2)).mean()
    else:
        expected = (one - other).square().mean()
    torch.testing.assert_close(found["augmentation"], 0.2 * expected)


@pytest.mark.system("neural-aug")
@pytest.mark.parametrize("form", ["content", "none"])
def test_both_networks_change_in_one_step(run, form):
    step = step_of(augment_loss=form)
    before = deepcopy(step.state_dict())
    (phase,) = step.phases()
    loop = run(step, epochs=1, turns=1)
    assert loop.at.turn == 1
    after = step.state_dict()
    for network, module in (("model", step.model), ("augmenter", step.augmenter)):
        same = [key for key, _ in module.named_parameters() if torch.equal(before[network][key], after[network][key])]
        assert not same, network
    trained = {id(p) for group in phase.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for module in (step.model, step.augmenter) for p in module.parameters()}


def test_a_run_goes_on_to_the_bit(run):
    whole, half = run(step_of(), epochs=2), run(step_of(), epochs=1)
    kept = deepcopy(half.state_dict())  # with the random numbers of here and now
    again = run(step_of(), state=kept, epochs=2)
    for one, other in ((whole.step.model, again.step.model), (whole.step.augmenter, again.step.augmenter)):
        assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def test_alone_of_its_class_a_picture_is_left_as_it_is():
    step = step_of()
    step.model.eval()
    batch = batch_of([0, 1, 2])
    found = step.losses(batch)
    torch.testing.assert_close(found, {"cross_entropy": 0.75 * F.cross_entropy(step.model(batch.images), torch.tensor([0, 1, 2]))})


@pytest.mark.system("neural-aug")
def test_by_the_command_on_real_faces(data, tmp_path):
    for name in ("s1", "s2", "s3"):
        (tmp_path / "faces").mkdir(exist_ok=True)
        (tmp_path / "faces" / name).symlink_to(data / "faces_orl" / name)
    settings = {"step": "neural-augment", "augment_width": 4, "epochs": 3, "batch_size": 15, "augment": "none"}
    run = task.train("simple-cnn.tiny", tmp_path / "faces", output=tmp_path / "runs", device="cpu", layers=[settings])
    metrics = weights.read_info(run).metrics
    assert metrics["augmentation"] > 0
    assert not any("augmenter" in key for key in weights.load(str(run))[0].state_dict())


def test_what_it_refuses():
    with pytest.raises(UsageError, match="classifiers"):
        step_of("fcn.tiny")
    with pytest.raises(UsageError, match="augment_loss is content, style or none"):
        step_of(augment_loss="contents")
