"""Learned augmentation: a small network makes a third picture of two of one class, and learns with the classifier (Perez 2017, arXiv:1712.04621).

    cvtool train -m resnet18 --data flowers/ --set step=neural-augment

For each picture of a batch another one of its class is drawn; the augmentation network, five convolutions on their 6 channels (section 3.2), makes
one picture of the two. The classifier answers for the originals and for what was made, and the loss is

    alpha * classification of both + beta * augmentation,  alpha = 1 - beta

where the second term keeps what is made near a third picture of the class: "content", the mean squared difference, "style", that of their Gram
matrices, or "none". One turn of one optimiser changes both networks; only the classifier is validated and saved. A picture whose class comes only
once in its batch is not augmented, so batches should hold several of each class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from cvtool import losses
from cvtool.batch import Batch
from cvtool.errors import UsageError
from cvtool.layers.norm import norm
from cvtool.losses.gram_style import layer_loss
from cvtool.train.step import Phase, Step
from cvtool.train.steps import supervised
from cvtool.train.steps._watched import Watched

SETTINGS = {"augment_loss": "content", "augment_weight": 0.25, "augment_width": 16}
FORMS = ("content", "style", "none")


class Augmenter(nn.Sequential):
    """Two pictures as B 6 H W, normalised -> one, B 3 H W: four convolutions to `width` maps with norm and ReLU, and one to three."""

    def __init__(self, width: int) -> None:
        layers: list[nn.Module] = []
        for a, b in pairwise([6, *[width] * 4]):
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), norm("batch", b), nn.ReLU()]
        super().__init__(*layers, nn.Conv2d(width, 3, 3, padding=1))


class NeuralAugment:
    """`base` trains the classifier, its criterion `watched` and weighed by 1 - `weight`; its optimiser gets the augmenter's weights too."""

    def __init__(self, base: Step, watched: Watched, augmenter: Augmenter, *, form: str, weight: float) -> None:
        self.base, self.watched, self.augmenter, self.form, self.weight = base, watched, augmenter, form, weight
        (self._own,) = base.phases()
        rate = max(group["lr"] for group in self._own.optimizer.param_groups)  # old layers may have less
        self._own.optimizer.add_param_group({"params": list(augmenter.parameters()), "lr": rate})

    @property
    def model(self) -> nn.Module:
        return self.base.model

    @property
    def evaluated(self) -> nn.Module:
        return self.base.evaluated

    def phases(self) -> list[Phase]:
        return [replace(self._own, params=[*self._own.params, *self.augmenter.parameters()], losses=self.losses)]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The classifier's on originals and made pictures, times 1 - weight, and `augmentation`."""
        chosen, second, third = partners(labels_of(batch))
        if not len(chosen):
            return self.watched.of(lambda: self._own.losses(batch))[0]
        images = batch.images
        made = self.augmenter(torch.cat([images[chosen], images[second]], 1)).to(images.dtype)
        targets = batch.targets or []
        both = replace(
            batch, images=torch.cat([images, made]), padding=torch.cat([batch.padding, batch.padding[chosen]]),
            places=[*batch.places, *(batch.places[i] for i in chosen.tolist())], targets=[*targets, *(targets[i] for i in chosen.tolist())],
        )  # fmt: skip
        found, _, _ = self.watched.of(lambda: self._own.losses(both))
        return found if self.form == "none" else found | {"augmentation": self.weight * self.distance(made, images[third])}

    def distance(self, made: Tensor, real: Tensor) -> Tensor:
        """B 3 H W each: content or style."""
        if self.form == "style":
            return layer_loss(made, real, form="johnson")
        return (made - real).square().mean()

    def after(self, batch: Batch) -> None:
        self.base.after(batch)

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict() | {"augmenter": self.augmenter.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.base.load_state_dict(state)
        self.augmenter.load_state_dict(state["augmenter"])


def labels_of(batch: Batch) -> Tensor:
    """B int64: the class of each picture; of a mixture, the one with the largest share."""
    targets = batch.targets or []
    return torch.stack([t.labels[0] if t.scores is None else t.labels[t.scores.argmax()] for t in targets])


def partners(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of labels B: which pictures have others of their class, for each of them another one, and a third (if there are but two, one of them).

    Drawn from torch's global generator.
    """
    chosen, second, third = [], [], []
    numbers = labels.tolist()
    for i, label in enumerate(numbers):
        others = [j for j, other in enumerate(numbers) if other == label and j != i]
        if others:
            order = torch.randperm(len(others)).tolist()
            chosen.append(i)
            second.append(others[order[0]])
            third.append(others[order[-1]])
    return tuple(torch.tensor(one, dtype=torch.int64, device=labels.device) for one in (chosen, second, third))  # type: ignore[return-value]


def make(model: nn.Module, recipe: Mapping[str, Any], *, offline: bool = False) -> NeuralAugment:
    """Around the supervised step (its keys, and augment_loss, augment_weight, augment_width). Raises UsageError."""
    form, weight = recipe["augment_loss"], recipe["augment_weight"]
    if getattr(model, "criterion_kind", "") != "labels":
        raise UsageError("the step neural-augment is for classifiers of whole pictures")
    if form not in FORMS or not 0 <= weight < 1 or recipe["augment_width"] < 1:
        raise UsageError(f"augment_loss is {', '.join(FORMS[:-1])} or {FORMS[-1]}, augment_weight lies in [0, 1), and augment_width is 1 or more")
    watched = Watched(model.criterion or losses.compose("cross-entropy", "labels"), factor=1 - weight)  # type: ignore[arg-type]
    model.criterion = watched  # type: ignore[assignment]
    base = supervised.make(model, recipe)
    with torch.random.fork_rng(devices=[]):  # the classifier's own random numbers are as they would be without it
        torch.manual_seed(recipe["seed"])
        augmenter = Augmenter(recipe["augment_width"])
    return NeuralAugment(base, watched, augmenter.to(next(model.parameters()).device), form=form, weight=weight)
