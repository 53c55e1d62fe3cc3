"""Distillation: a classifier learns from the truth and from a trained teacher (Hinton 2015, arXiv:1503.02531; Touvron 2020, arXiv:2012.12877).

    cvtool train -m squeezenet --data flowers/ --set step=distill --set teacher=runs/0007

The teacher, any classifier of the same classes, sees the very pictures of the student, augmented and mixed as they are, but normalised and resized
as it was trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool import losses, weights
from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError
from cvtool.losses.distillation import FORMS, soft
from cvtool.losses.label_smoothing import smooth
from cvtool.train.step import Phase, Step
from cvtool.train.steps import supervised
from cvtool.train.steps._watched import Watched

SETTINGS = {"teacher": "", "distillation": "soft", "temperature": 3.0, "distill_weight": 0.5}


class Distill:
    """`base` trains the student on the truth, its criterion `watched` and weighed by 1 - `weight`; `distillation` is what the teacher adds.

    teacher: B 3 H W, normalised as `prepare` says -> logits B K. order: for each of the student's classes the teacher's number of it.
    """

    def __init__(self, base: Step, watched: Watched, teacher: nn.Module, *, order: Tensor, form: str, temperature: float, weight: float) -> None:
        self.base, self.watched, self.teacher, self.order = base, watched, teacher, order
        self.form, self.temperature, self.weight = form, temperature, weight
        self._own = base.phases()

    @property
    def model(self) -> nn.Module:
        return self.base.model

    @property
    def evaluated(self) -> nn.Module:
        return self.base.evaluated

    def phases(self) -> list[Phase]:
        first, *rest = self._own
        return [replace(first, losses=self.losses), *rest]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The student's own, times 1 - weight, and `distillation`."""
        own, student, _ = self.watched.of(lambda: self._own[0].losses(batch))
        teacher = self.told(batch.images)
        if self.form == "soft":
            return own | {"distillation": self.weight * soft(student, teacher, temperature=self.temperature)}
        labels = teacher.argmax(dim=-1)
        eps = getattr(self.model, "label_smoothing", 0.0)  # what softens the truth softens the teacher's word
        return own | {"distillation": self.weight * F.cross_entropy(student, smooth(labels, student.shape[-1], eps) if eps else labels)}

    @torch.no_grad()
    def told(self, images: Tensor) -> Tensor:
        """The teacher's logits B K of the student's images, classes in the student's order."""
        theirs: Prepare = self.teacher.prepare  # type: ignore[assignment]
        return self.teacher.logits(reprepared(images, self.model.prepare, theirs)).float()[:, self.order]  # type: ignore[operator, arg-type]

    def after(self, batch: Batch) -> None:
        self.base.after(batch)

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.base.load_state_dict(state)


def reprepared(images: Tensor, own: Prepare, other: Prepare) -> Tensor:
    """B 3 H W as one model takes them -> as another does: its mean and deviation, and its size where it has one."""
    if (own.mean, own.std) != (other.mean, other.std):
        mean, std, mean_of, std_of = (images.new_tensor(v).view(1, -1, 1, 1) for v in (own.mean, own.std, other.mean, other.std))
        images = (images * std + mean - mean_of) / std_of
    if other.resize is None or not other.size:
        return images
    size = other.size if isinstance(other.size, tuple) else (other.size, other.size)
    if size == tuple(images.shape[-2:]):
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def make(model: nn.Module, recipe: Mapping[str, Any], *, offline: bool = False) -> Distill:
    """Around the supervised step (its keys, and teacher, distillation, temperature, distill_weight). Raises UsageError, ModelError."""
    form, weight = recipe["distillation"], recipe["distill_weight"]
    if getattr(model, "criterion_kind", "") != "labels":
        raise UsageError("distillation is for classifiers of whole pictures")
    if not recipe["teacher"]:
        raise UsageError("distillation needs a teacher", hint="--set teacher=REF, a trained classifier of the same classes")
    if form not in FORMS or not 0 <= weight <= 1 or recipe["temperature"] <= 0:
        raise UsageError("distillation is soft or hard, distill_weight lies in [0, 1], and temperature above 0")
    teacher, _ = weights.load(recipe["teacher"], device=next(model.parameters()).device, offline=offline)
    if not hasattr(teacher, "logits"):
        raise UsageError(f"{recipe['teacher']} is no classifier", hint="a teacher gives logits of the same classes")
    watched = Watched(model.criterion or losses.compose("cross-entropy", "labels"), factor=1 - weight)  # type: ignore[arg-type]
    model.criterion = watched  # type: ignore[assignment]
    order = ordered(model.categories, teacher.categories, recipe["teacher"]).to(next(model.parameters()).device)  # type: ignore[arg-type]
    return Distill(
        supervised.make(model, recipe), watched, teacher.eval().requires_grad_(False), order=order,
        form=form, temperature=recipe["temperature"], weight=weight,
    )  # fmt: skip


def ordered(own: Any, theirs: Any, name: str) -> Tensor:
    """For each of the student's classes the teacher's number of it, by name. Raises UsageError."""
    known = {category["name"]: i for i, category in enumerate(theirs) if category}
    if all(category and category["name"] in known for category in own):
        return torch.tensor([known[category["name"]] for category in own])
    missing = [category["name"] for category in own if category and category["name"] not in known]
    raise UsageError(f"the teacher {name} does not know the classes {', '.join(missing[:5])}", hint="train it on the same data set")
