"""Whether a model's gradients are the slopes of its losses: `gradcheck("resnet.tiny")` -> a row for each parameter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from cvtool import registry, weights
from cvtool.batch import Batch
from cvtool.categories import COCO_KEYPOINTS, numbered
from cvtool.data import synth
from cvtool.data.dataset import Dataset
from cvtool.errors import ModelError
from cvtool.metrics.gradcheck import gradcheck as compared
from cvtool.metrics.gradcheck import in_double
from cvtool.results import Instances, Labels, Quads, Text
from cvtool.tasks._sets import needs_of

PICTURES, SIDE = 2, 96


def gradcheck(model: str, *, img_size: int | None = None, samples: int = 4, seed: int = 0) -> list[dict[str, Any]]:
    """Each parameter of an untrained model of three classes (or of a checkpoint) and the largest relative error of its gradient.

    In float64 and training mode, on two made-up pictures; dicts of name, shape, error, in the model's order.

    A weight that a loss takes for a constant by design (the boxes that a first stage proposes to a second) has a slope there that no gradient
    follows. Raises ModelError for what is not trained by gradient, or refuses the size.
    """
    reference = registry.parse(model)
    table = [category | {"keypoints": COCO_KEYPOINTS} for category in numbered(3)]
    made: Any = weights.load(reference)[0] if reference.path is not None else weights.build(replace(reference, weights=None), categories=table)
    if not isinstance(made, nn.Module) or not hasattr(made, "losses"):
        raise ModelError(f"{model} is not trained by gradient: there is none to check", hint="it goes with networks, such as resnet.tiny")
    if img_size is not None:
        made.prepare = made.prepare.sized(img_size)  # type: ignore[operator, union-attr]
    batch = made_up(made, seed=seed)
    batch = replace(batch, images=batch.images.double())
    made = made.double().train()

    def function() -> Tensor:
        torch.manual_seed(seed)  # dropout and samplers draw the same each time
        with in_double():
            return torch.stack([value.double() for value in made.losses(batch).values()]).sum()

    try:
        with torch.random.fork_rng(devices=[]):
            errors = compared(function, dict(made.named_parameters()), samples=samples, seed=seed)
    except (RuntimeError, ValueError, IndexError) as error:
        size = " x ".join(map(str, batch.images.shape[2:]))
        raise ModelError(f"{model} does not run on {size} pixels in float64: {str(error).splitlines()[0]}", hint="another --img-size?") from error
    shapes = {name: list(p.shape) for name, p in made.named_parameters()}
    return [{"name": name, "shape": shapes[name], "error": error} for name, error in errors.items()]


def made_up(model: Any, *, seed: int = 0) -> Batch:
    """Two pictures of shapes with the truth that the model's losses read, as many kinds as it knows."""
    needs, classes = needs_of(model), max(1, len(model.categories))
    records = synth.shapes(PICTURES, SIDE, seed)
    data = Dataset(records, synth.CATEGORIES, needs=[need for need in needs if need not in ("keypoints", "labels", "text", "quads")] or ("boxes",))
    pictures, targets = [], []
    for number in range(PICTURES):
        sample = data[number]
        target: Any = sample.target
        if "text" in needs:
            target = Text(model.charset[number : number + 3])
        elif "quads" in needs:
            target = Quads(target.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2), spared=torch.zeros(len(target.boxes), dtype=torch.bool))
        elif "labels" in needs:
            target = Labels(torch.tensor([number % classes]))
        elif "pictures" in needs:
            pass
        elif "keypoints" in needs:
            corners = target.boxes
            share = torch.linspace(0.1, 0.9, len(COCO_KEYPOINTS))[:, None]
            places = corners[:, None, :2] + share * (corners[:, None, 2:] - corners[:, None, :2])  # N K 2
            points = torch.cat([places, torch.full_like(places[..., :1], 2)], 2)
            target = Instances(corners, target.labels, masks=getattr(target, "masks", None), keypoints=points)
        else:
            labels = target.labels
            target = replace(target, labels=torch.where(labels == 255, labels, labels % classes) if "semantic" in needs else labels % classes)
        pictures.append(sample.pixels)
        targets.append(target)
    return model.prepare(pictures, targets)
