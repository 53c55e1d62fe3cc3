"""A classifier that a generator is guided by: what it says of pictures that are being made, with its gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool.batch import Prepare
from cvtool.errors import ModelError, UsageError
from cvtool.runtime.pool import Loaded, pool


class Guide:
    """categories: the classes as labels count them: the generator's own where it is told classes, else the classifier's.

    Raises UsageError for a model that tells no classes with a gradient, or lacks one of the generator's.
    """

    def __init__(self, loaded: Loaded, generator: Loaded) -> None:
        if not (isinstance(loaded.model, torch.nn.Module) and hasattr(loaded.model, "logits")):
            raise UsageError(f"--classifier {loaded.reference} is no classifier with a gradient", hint="such as a run of `cvtool train -m resnet.20`")
        self.loaded, known = loaded, loaded.info.categories
        self.categories: list[Any] = list(known)
        count = int(getattr(generator.model, "conditional", 0))
        self._columns: list[int] | None = None
        if count:
            self.categories = list(generator.info.categories)[:count]
            places = {category["name"]: i for i, category in enumerate(known) if category is not None}
            names = [category["name"] for category in self.categories if category is not None]
            if missing := [name for name in names if name not in places]:
                raise UsageError(f"--classifier {loaded.reference} does not know {', '.join(missing)}", hint=f"it knows {', '.join(places)}")
            self._columns = [places[name] for name in names]

    def __call__(self, pictures: Tensor) -> Tensor:
        """Pictures B 3 H W in [0, 1] -> ln p of each class, B K float32."""
        logits = self.loaded.model.logits(_prepared(self.loaded.model.prepare, pictures)).float()
        found = logits.log_softmax(1)
        return found if self._columns is None else found[:, self._columns]


def _prepared(prepare: Prepare, pictures: Tensor) -> Tensor:
    """B 3 H W in [0, 1] as the classifier takes them: what `Prepare` does to files, with its gradient."""
    height, width = pictures.shape[2:]
    rows, columns = prepare.target_size(height, width)
    if (rows, columns) != (height, width):
        pictures = F.interpolate(pictures, size=(rows, columns), mode=prepare.interpolation, align_corners=False, antialias=prepare.antialias)
    if prepare.resize == "crop":
        side = int(prepare.size)  # type: ignore[arg-type]
        top, left = round((rows - side) / 2), round((columns - side) / 2)
        pictures = pictures[:, :, top : top + side, left : left + side]
    mean, std = (pictures.new_tensor(values).view(1, 3, 1, 1) for values in (prepare.mean, prepare.std))
    pictures = (pictures - mean) / std
    if prepare.table is not None:
        pictures = prepare.table.apply_(pictures)
    down, right = (-side % prepare.multiple_of for side in pictures.shape[2:])
    return F.pad(pictures, (0, right, 0, down))


@contextmanager
def guide(reference: str | None, generator: Loaded, *, offline: bool = False, sha256: str | None = None) -> Iterator[Guide | None]:
    """The classifier, on the generator's device, while pictures are made; None for None. sha256: of the weights that it must have, if any.

    Raises what `Guide` raises, ModelError for other weights.
    """
    if reference is None:
        yield None
        return
    with pool.lease(reference, device=generator.device, precision=generator.precision, offline=offline) as loaded:
        if sha256 is not None and loaded.info.sha256 != sha256:
            raise ModelError(f"the picture was guided by the weights {sha256[:12]}, and {reference} has {(loaded.info.sha256 or 'none')[:12]}")
        yield Guide(loaded, generator)
