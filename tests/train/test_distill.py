"""The step distill: any student and teacher, a teacher that does not move, and a real run by name."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from cvtool import losses, weights
from cvtool.batch import Prepare
from cvtool.errors import UsageError
from cvtool.losses.distillation import distillation
from cvtool.losses.label_smoothing import smooth
from cvtool.results import Labels
from cvtool.train import recipe as recipes
from cvtool.train.steps import distill

NAMES = [{"id": i, "name": name} for i, name in enumerate(("cat", "dog", "frog"))]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    """A small VGG that knows the classes in another order and takes other pixels."""
    model = weights.build("vgg.tiny", categories=NAMES[::-1])
    model.prepare = Prepare(resize="stretch", size=48, mean=(0.5,) * 3, std=(0.25,) * 3)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    return str(weights.save(model, path, weights.Info(reference="vgg.tiny", categories=NAMES[::-1], prepare=model.prepare)))


@pytest.fixture
def student():
    torch.manual_seed(1)
    return weights.build("resnet.tiny", categories=NAMES)


@pytest.fixture
def batch(student):
    pictures = [torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8) for _ in range(4)]
    return student.prepare(pictures, [Labels(torch.tensor([i % 3])) for i in range(4)])


def step_of(student, teacher, **changes):
    recipe = recipes.DEFAULTS | distill.SETTINGS | {"step": "distill", "teacher": teacher} | changes
    return distill.make(student, recipe)


@pytest.mark.system("distillation")
@pytest.mark.parametrize("form", ["soft", "hard"])
def test_the_losses_are_those_of_the_equation_and_the_teacher_does_not_move(student, batch, teacher, form):
    step = step_of(student, teacher, distillation=form, temperature=2.0, distill_weight=0.3)
    before = deepcopy(step.teacher.state_dict())
    (phase,) = step.phases()
    student.train()
    torch.manual_seed(0)
    found = phase.losses(batch)
    assert list(found) == ["cross_entropy", "distillation"]
    sum(found.values()).backward()
    for key, value in step.teacher.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(p.grad is None and not p.requires_grad for p in step.teacher.parameters())
    assert {id(p) for p in phase.params} == {id(p) for p in student.parameters()}
    torch.manual_seed(0)
    own, theirs = student(batch.images), step.told(batch.images)
    expected = distillation(own, theirs, student.truth(batch), form=form, weight=0.3, temperature=2.0)
    torch.testing.assert_close(sum(found.values()), expected)


@pytest.mark.system("distillation")
def test_the_teacher_sees_its_own_pixels_and_answers_in_the_students_classes(student, batch, teacher):
    step = step_of(student, teacher)
    loaded, _ = weights.load(teacher)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (student.prepare.mean, student.prepare.std))
    pictures = torch.nn.functional.interpolate(batch.images * std + mean, size=(48, 48), mode="bilinear", antialias=True)
    with torch.no_grad():
        answered = loaded((pictures - 0.5) / 0.25)
    torch.testing.assert_close(step.told(batch.images), answered.flip(1))
    assert distill.reprepared(batch.images, student.prepare, student.prepare).shape == batch.images.shape


def test_validation_knows_no_teacher(student, batch, teacher):
    plain = student.eval().losses(batch)
    step = step_of(student, teacher, distill_weight=0.9)
    with torch.no_grad():
        assert {key: value.item() for key, value in step.evaluated.eval().losses(batch).items()} == {k: v.item() for k, v in plain.items()}


def test_what_softens_the_truth_softens_the_teachers_word(student, batch, teacher):
    student.label_smoothing = 0.2
    step = step_of(student, teacher, distillation="hard", distill_weight=1.0)
    torch.manual_seed(0)
    told = step.phases()[0].losses(batch)["distillation"]
    torch.manual_seed(0)
    labels = step.told(batch.images).argmax(1)
    torch.testing.assert_close(told, torch.nn.functional.cross_entropy(student(batch.images), smooth(labels, 3, 0.2)))


def test_another_loss_and_mixed_labels_go_along(student, batch, teacher):
    student.criterion = losses.compose("bce+0.1*hinge", "labels")
    batch.targets[0] = Labels(torch.tensor([0, 2]), torch.tensor([0.4, 0.6]))
    assert list(step_of(student, teacher).phases()[0].losses(batch)) == ["bce", "hinge", "distillation"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"teacher": ""}, "needs a teacher"),
        ({"distillation": "warm"}, "soft or hard"),
        ({"distill_weight": 1.5}, "lies in"),
        ({"temperature": 0.0}, "above 0"),
    ],
)
def test_wrong_settings_are_told(student, teacher, changes, says):
    with pytest.raises(UsageError, match=says):
        step_of(student, changes.pop("teacher", teacher), **changes)


def test_a_teacher_of_other_classes_is_refused(teacher):
    with pytest.raises(UsageError, match="does not know the classes horse"):
        step_of(weights.build("resnet.tiny", categories=[*NAMES, {"id": 9, "name": "horse"}]), teacher)
    with pytest.raises(UsageError, match="classifiers"):
        step_of(weights.build("fcn.tiny", categories=NAMES), teacher)
