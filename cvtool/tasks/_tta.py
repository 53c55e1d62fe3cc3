"""Test-time augmentation: a model's answers to several views of a picture, made into one.

Classes of a picture: the mean of the probabilities. A class a pixel: the same over the original's pixels, each view's map brought back first.
Objects: boxes mapped back and joined by weighted boxes fusion (`ops/box_fusion.py`); keypoints are those of a cluster's surest box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvtool.batch import Prepare
from cvtool.data.augment import swapped
from cvtool.errors import UsageError
from cvtool.ops import box_fusion
from cvtool.results import Boxes, Instances, Labels, Result, SemanticMap
from cvtool.runtime.pool import Loaded
from cvtool.tasks._views import View

LEAST = 0.05  # a box below this in a view need not be looked at to know whether the mean reaches --conf


@dataclass(frozen=True, eq=False)
class Scaled(Prepare):
    """A preparation after which pictures are `factor` times as large."""

    factor: float = 1.0

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        rows, columns = super().target_size(height, width)
        return max(1, round(rows * self.factor)), max(1, round(columns * self.factor))


def scaled(prepare: Any, factor: float, name: str) -> Any:
    """What prepares pictures for a model at `factor` times the size it usually sees. Raises UsageError where there is one size only."""
    if factor == 1:
        return prepare
    if not isinstance(prepare, Prepare) or prepare.table is not None:
        raise UsageError(f"--tta scale has no effect on {name}", hint="it sees pictures in one size only; hflip and vflip it takes")
    if prepare.resize == "crop":  # the window grows with the picture: the same part of it, at another size
        return replace(prepare, size=max(1, round(int(prepare.size) * factor)))  # type: ignore[arg-type]
    own = {name: getattr(prepare, name) for name in Prepare.__dataclass_fields__}
    return Scaled(**own, factor=factor)


class Together:
    """Shows pictures to a model in each view. `prepares` holds what prepares them, a view each."""

    def __init__(self, loaded: Loaded, views: Sequence[View], prepare: Any, options: dict[str, Any], verb: str) -> None:
        """options: of the model's `predict`. Raises UsageError for views that the model cannot be shown."""
        self.loaded, self.views, self.verb, self.options = loaded, views, verb, options
        self.prepares = [scaled(prepare, view.scale, str(loaded.reference)) for view in views]
        names = next((c["keypoints"] for c in loaded.info.categories if c and c.get("keypoints")), None)
        self.swap = swapped(names) if names else None

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[Result]:
        """Each picture's one result, in its own pixels, on the CPU."""
        model: Any = self.loaded.model
        if hasattr(model, "probabilities") and getattr(model, "result", None) is SemanticMap:
            return self._maps(pictures)
        options = dict(self.options)
        if self.verb == "classify":
            options = {"max_det": max(1, len(self.loaded.info.categories))} if "max_det" in options else {}
        elif options.get("conf") is not None:
            options["conf"] = min(LEAST, options["conf"] / len(self.views))  # what one view is unsure of counts in the mean
        found: list[list[Result]] = [[] for _ in pictures]  # of each picture, a view each
        for view, prepare in zip(self.views, self.prepares, strict=True):
            results = model.predict(self._batch(view, prepare, pictures), **options)
            for some, result, picture in zip(found, results, pictures, strict=True):
                self._check(result)
                some.append(view.back(result.numpy(), picture.shape[1], picture.shape[0], swap=self.swap))
        return [self._fused(some) if isinstance(some[0], Boxes) else self._mean(some) for some in found]

    def _batch(self, view: View, prepare: Any, pictures: Sequence[np.ndarray]) -> Any:
        return prepare([view.pixels(picture) for picture in pictures]).to(self.loaded.device)

    def _check(self, result: Result) -> None:
        """Raises UsageError for what cannot be put together."""
        if isinstance(result, Labels) or (isinstance(result, Boxes) and self.verb == "detect"):
            return
        told: dict[type, str] = {Instances: "a mask for each object", SemanticMap: "no probabilities of a pixel's classes"}
        what = told.get(type(result), type(result).__name__)
        hint = "leave --tta out" + ("; `cvtool detect` fuses its boxes" if isinstance(result, Instances) else "")
        raise UsageError(f"--tta has no effect on {self.loaded.reference}: it gives {what}, of which no mean is taken", hint=hint)

    def _mean(self, results: Sequence[Any]) -> Labels:
        total = np.zeros(max(1, len(self.loaded.info.categories)))
        for result in results:
            total[np.asarray(result.labels)] += np.asarray(result.scores, dtype=np.float64)
        scores = torch.from_numpy((total / len(results)).astype(np.float32))
        best, labels = scores.sort(descending=True, stable=True)
        most, conf = self.options.get("max_det"), self.options.get("conf")
        answer = Labels(labels[:most], best[:most])
        return answer if conf is None else answer[answer.scores >= conf]

    def _fused(self, results: Sequence[Any]) -> Boxes:
        parts = [[np.asarray(getattr(result, name)) for result in results] for name in ("boxes", "scores", "labels")]
        fused = box_fusion.fuse(*parts)
        keep = slice(None) if (conf := self.options.get("conf")) is None else fused.scores >= conf
        boxes, scores, labels, best = (value[keep][: self.options.get("max_det")] for value in vars(fused).values())
        fields: dict[str, Any] = {"boxes": boxes.astype(np.float32), "labels": labels, "scores": scores.astype(np.float32)}
        if isinstance(results[0], Instances):
            for name in ("keypoints", "keypoint_scores"):
                if all(getattr(result, name) is not None for result in results):
                    fields[name] = np.concatenate([getattr(result, name) for result in results])[best]
        kind = Instances if "keypoints" in fields else Boxes
        return kind(**{name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in fields.items()})

    def _maps(self, pictures: Sequence[np.ndarray]) -> list[Result]:
        model: Any = self.loaded.model
        totals: list[Tensor | None] = [None] * len(pictures)
        for view, prepare in zip(self.views, self.prepares, strict=True):
            for i, shares in enumerate(model.probabilities(self._batch(view, prepare, pictures))):  # K H W
                shares = view.flipped(shares.float())
                totals[i] = shares.clone() if (total := totals[i]) is None else total.add_(shares)
        found: list[Result] = []
        for total in totals:
            assert total is not None
            scores, labels = (total / len(self.views)).max(0)
            found.append(SemanticMap(labels, scores).to("cpu"))
        return found
