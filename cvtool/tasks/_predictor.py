"""A loaded model with the options of one run, safe against running out of memory."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cvtool.errors import InputError, UsageError
from cvtool.results import Embedding, Result
from cvtool.runtime.pool import Loaded
from cvtool.tasks import _views
from cvtool.tasks._tta import Together
from cvtool.tasks.embedding._encode import Features, encoder

Report = Callable[[str], None]
GPU_BATCH = 8
EMBEDDED = 8  # pictures of one size that a CPU is shown at a time: a third faster than one by one, and the same bits (measured on resnet.18)


@dataclass(frozen=True)
class Settings:
    """How to run; the words of the command line. None leaves it to the model (or to the runner: batch_size, workers)."""

    conf: float | None = None
    iou: float | None = None
    max_det: int | None = None
    classes: Sequence[str | int] | None = None
    top: int | None = None
    batch_size: int | None = None
    workers: int | None = None
    img_size: int | None = None
    tile: int | None = None
    overlap: float | None = None
    save_crops: Path | None = None
    tta: str | None = None
    features: Features | None = None


class Predictor:
    """A model with the options that were given, safe against running out of memory. Calling it with pictures (H W 3 uint8 arrays) gives
    each one's result, or the error that it met."""

    def __init__(self, loaded: Loaded, settings: Settings, report: Report, *, verb: str = "detect") -> None:
        """verb: "embed" asks for features, not for answers. Raises UsageError where the model has none, or an option means nothing to it."""
        self.loaded, self.report, self.embeds = loaded, report, verb == "embed"
        self.prepare = loaded.model.prepare
        features = settings.features or Features()
        if self.embeds:
            self.encode = encoder(loaded, features)
        self.options = {} if self.embeds else accepted(loaded, conf=settings.conf, iou=settings.iou, max_det=settings.max_det)
        if verb == "classify" and "max_det" in inspect.signature(loaded.model.predict).parameters:  # else it tells five
            every = settings.top is None or settings.classes is not None
            self.options["max_det"] = max(1, len(loaded.info.categories)) if every else settings.top
        if settings.img_size is not None:
            if not hasattr(self.prepare, "sized"):
                raise UsageError(f"--img-size has no effect on {loaded.reference}", hint="it sees pictures in one size only")
            self.prepare = self.prepare.sized(settings.img_size)
        self.made: dict[str, Any] = {}  # more of `made_by`
        if self.embeds and hasattr(self.prepare, "to_dict"):
            self.made = features.facts() | {"img_size": settings.img_size, "prepare": self.prepare.to_dict()}
        self.together = None if settings.tta is None else Together(loaded, _views.parse(settings.tta), self.prepare, self.options, verb)
        scaled = self.together is not None and any(view.scale != 1 for view in self.together.views)
        self.resized = "--img-size" if settings.img_size is not None else "the scale of --tta" if scaled else ""
        module = loaded.model if isinstance(loaded.model, torch.nn.Module) else torch.nn.Module()
        network = next(module.parameters(), None) is not None  # what has no weights gains nothing, and its sums may round otherwise
        alike = self.embeds and network and getattr(self.prepare, "resize", None) in ("crop", "stretch")
        self.batch_size = settings.batch_size or (GPU_BATCH if loaded.device.type != "cpu" else EMBEDDED if alike else 1)
        self._told = False

    def shape(self, height: int, width: int) -> Any:
        """What pictures must share to be shown together: the batch's height and width, in each view."""
        return tuple(_shape(prepare, height, width) for prepare in (self.together.prepares if self.together else [self.prepare]))

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[Result | Exception]:
        done: list[Result | Exception] = []
        while len(done) < len(pictures):
            some = pictures[len(done) : len(done) + self.batch_size]
            answers = self._try(some)
            if answers is None and len(some) > 1:
                self._halve(len(some))
            else:
                done += answers or [InputError("out of memory, even for this picture alone: give a smaller --img-size, or --tile N")]
        return done

    def _try(self, pictures: Sequence[np.ndarray]) -> list[Result | Exception] | None:
        """Each picture's result, or the InputError that the model raised for it; None where memory ran out. No error is kept with its
        frames, for they hold the tensors that must go."""
        try:
            return self._forward(pictures)
        except InputError as error:
            if len(pictures) == 1:
                return [error.with_traceback(None)]
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                if self.resized and isinstance(error, RuntimeError):
                    what = f"{self.loaded.reference} cannot see pictures at this size: {(str(error).splitlines() or [''])[0]}"
                    raise UsageError(what, hint=f"leave {self.resized} out, or take another size") from error
                raise
            if self.loaded.device.type == "cuda":
                error.with_traceback(None)
                torch.cuda.empty_cache()
            return None
        return [answer for picture in pictures for answer in self([picture])]

    def _forward(self, pictures: Sequence[np.ndarray]) -> list[Result | Exception]:
        if self.together is not None:
            with torch.inference_mode(), self.loaded.autocast():
                return list(self.together(pictures))
        batch = self.prepare(pictures)
        if hasattr(batch, "to"):
            batch = batch.to(self.loaded.device)
        with torch.inference_mode(), self.loaded.autocast():
            if self.embeds:
                results = [Embedding(vector) for vector in self.encode(batch).cpu()]
            else:
                results = self.loaded.model.predict(batch, **self.options)
        return [result.to("cpu") for result in results]

    def _halve(self, size: int) -> None:
        self.batch_size = max(1, size // 2)
        if not self._told:
            self.report(f"out of memory with {size} pictures at a time; going on with {self.batch_size} (results are the same)")
            self._told = True


def _shape(prepare: Any, height: int, width: int) -> Any:
    """The height and width of the batch that a picture of this size fills alone."""
    if not hasattr(prepare, "target_size"):
        return height, width
    if prepare.resize == "crop":
        return "crop"
    step = prepare.multiple_of
    return tuple(-(-side // step) * step for side in prepare.target_size(height, width))


def accepted(loaded: Loaded, **options: Any) -> dict[str, Any]:
    """Those options that were given; UsageError for one that the model's `predict` does not take."""
    parameters = inspect.signature(loaded.model.predict).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return {name: value for name, value in options.items() if value is not None}
    for name, value in options.items():
        if value is not None and name not in parameters:
            takes = [f"--{other.replace('_', '-')}" for other in options if other in parameters]
            hint = f"it takes {', '.join(takes)}" if takes else "it takes none of that kind"
            raise UsageError(f"--{name.replace('_', '-')} has no effect on {loaded.reference}", hint=hint)
    return {name: value for name, value in options.items() if value is not None}


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    text = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and any(sign in text for sign in signs))
