"""Augmentations of a picture and its truth by name: `parse("flip,shift:4,randaugment:2,9,cutmix:1,repeated:3")`.

Made for the training loop of a busy CPU: pixels stay uint8, flips and crops are views, colour is one 3 x 4 matrix, and what can be left to `Prepare`
is resized there, once. A part of the pipeline is drawn once for the picture and its truth, boxes, masks, keypoints and maps alike. Randomness comes
from the generator that is passed in, never from global state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from cvtool import calls
from cvtool.batch import IGNORE, Batch, Prepare
from cvtool.data.augment.affine import Rotate, Shear, Translate
from cvtool.data.augment.color import Brightness, Color, Contrast, Grayscale, Saturation, recolour
from cvtool.data.augment.crops import Crop, ResizedCrop, Scale, ScaleCropFlip, Shift
from cvtool.data.augment.cutmix import CutMix
from cvtool.data.augment.erasing import Cutout, Erasing
from cvtool.data.augment.flips import Flip, Flips, VerticalFlip, swapped
from cvtool.data.augment.geometry import FILL, Pair, canvas, contiguous, mirror, turn_over, warp, window
from cvtool.data.augment.mixing import OneOf
from cvtool.data.augment.mixup import MixUp
from cvtool.data.augment.noise import Jpeg, Noise
from cvtool.data.augment.randaugment import RandAugment
from cvtool.data.augment.repeated import Repeated
from cvtool.data.augment.sharpness import Blur, Sharpness
from cvtool.data.augment.text_crop import TextCrop
from cvtool.data.augment.tones import AutoContrast, Equalize, Invert, Posterize, Solarize
from cvtool.errors import UsageError, did_you_mean
from cvtool.results import Result

__all__ = [
    "AUGMENTATIONS", "FILL", "IGNORE", "Augmentation", "BatchPart", "Pair", "Pipeline", "canvas", "mirror", "parse", "pipeline", "recolour",
    "swapped", "turn_over", "warp", "window",
]  # fmt: skip

Pipeline = Callable[[np.ndarray, Result, np.random.Generator], Pair]
BatchPart = Callable[[Batch, np.random.Generator], Batch]

# name -> its class: a frozen dataclass whose fields are the arguments, with their defaults
AUGMENTATIONS: dict[str, Any] = {
    "flip": Flip,
    "flips": Flips,
    "vflip": VerticalFlip,
    "crop": Crop,
    "scale": Scale,
    "shift": Shift,
    "resized-crop": ResizedCrop,
    "scale-crop-flip": ScaleCropFlip,
    "text-crop": TextCrop,
    "rotate": Rotate,
    "translate": Translate,
    "shear": Shear,
    "color": Color,
    "brightness": Brightness,
    "contrast": Contrast,
    "saturation": Saturation,
    "sharpness": Sharpness,
    "grayscale": Grayscale,
    "solarize": Solarize,
    "posterize": Posterize,
    "equalize": Equalize,
    "autocontrast": AutoContrast,
    "invert": Invert,
    "blur": Blur,
    "noise": Noise,
    "jpeg": Jpeg,
    "erasing": Erasing,
    "cutout": Cutout,
    "randaugment": RandAugment,
    "mixup": MixUp,
    "cutmix": CutMix,
    "repeated": Repeated,
}
OWN = ("swap", "shape")  # fields that are set by the data and the model, not typed


@dataclass(frozen=True)
class Chain:
    """Per-sample parts, one after the other. The pixels that come out are contiguous."""

    parts: tuple[Pipeline, ...] = ()

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        for part in self.parts:
            pixels, target = part(pixels, target, rng)
        return contiguous(pixels), target


@dataclass(frozen=True)
class Augmentation:
    """sample: (pixels, target, rng) -> pair.  mixtures: (batch, rng) -> batch, run after `Prepare`.  repeats: copies of a picture in a batch.
    prepare: what brings the pictures to a batch in training, None for the model's own."""

    sample: Chain = Chain()
    mixtures: tuple[Any, ...] = ()
    repeats: int = 1
    prepare: Prepare | None = None

    @property
    def batch(self) -> tuple[BatchPart, ...]:
        """What each batch goes through: of several mixtures, one."""
        return (OneOf(self.mixtures),) if len(self.mixtures) > 1 else self.mixtures

    def check(self, kind: str) -> None:
        """Whether the batch parts can mix what a model learns from: "labels" of pictures, "semantic" maps, or "boxes". Raises UsageError."""
        for part in self.mixtures:
            if kind not in (mixes := part.mixes):
                said = {"labels": "class labels of pictures", "semantic": "maps of classes", "pictures": "pictures alone"}
                name = next(name for name, known in AUGMENTATIONS.items() if isinstance(part, known))
                what = f"augment: {name} mixes {' and '.join(said[k] for k in mixes)}, and this model learns from {said.get(kind, 'boxes')}"
                raise UsageError(what, hint=f"leave {name} out")


def parse(text: str, *, swap: Sequence[int] | None = None, prepare: Prepare | None = None) -> Augmentation:
    """Names joined by commas, with arguments as `cvtool.calls` reads them; per-sample parts are applied in that order.

    swap: the keypoints' new order after a left-right flip (see `swapped`). prepare: the model's own. Raises UsageError with the right names for a
    wrong one, and for arguments out of range.
    """
    parts: list[Any] = []
    own = {"swap": swap, "shape": _shape(prepare)}
    for call in calls.read(text, "augment"):
        name = call.name.lower().replace("_", "-")
        if name.startswith(("v2:", "torchvision:")):
            from cvtool.data.augment.torchvision_v2 import made  # costs torchvision's import

            parts.append(made(call))
        elif name in AUGMENTATIONS:
            parts.append(_made(call, AUGMENTATIONS[name], own))
        elif name != "none" or call.args or call.kwargs:
            known = ["none", *AUGMENTATIONS]
            hint = did_you_mean(name, known) or "augmentations: " + ", ".join(known) + ", v2:NAME of torchvision"
            raise UsageError(f"unknown augmentation '{call.name}'" if name != "none" else "augment: none takes no argument", hint=hint)
    mixtures = [part for part in parts if hasattr(part, "mixes")]
    repeats = [part.repeats for part in parts if isinstance(part, Repeated)]
    if len(repeats) > 1:
        raise UsageError("augment: repeated is given twice")
    sample = tuple(part for part in parts if not isinstance(part, Repeated) and not hasattr(part, "mixes"))
    stretched = replace(prepare, resize="stretch") if prepare and any(getattr(part, "shape", 0) for part in sample) else None
    return Augmentation(Chain(sample), tuple(mixtures), repeats[0] if repeats else 1, stretched)


def _made(call: calls.Call, kind: Any, own: dict[str, Any]) -> Any:
    takes = {f.name: f.default for f in fields(kind) if f.name not in OWN}
    given = calls.bind(call, takes, "augment")
    try:
        return kind(**given, **{f.name: own[f.name] for f in fields(kind) if f.name in OWN})
    except UsageError as error:
        raise UsageError(f"augment: {call.name}: {error.what}", hint=error.hint) from None


def _shape(prepare: Prepare | None) -> float:
    """Width to height of what `prepare` makes of every picture, 0 where it leaves them different shapes."""
    if prepare is None or prepare.resize not in ("crop", "stretch"):
        return 0.0
    height, width = (prepare.size, prepare.size) if isinstance(prepare.size, int) else prepare.size
    return width / height


def pipeline(text: str, *, swap: Sequence[int] | None = None) -> Pipeline:
    """The per-sample part of `parse` alone. Raises UsageError where there is more."""
    found = parse(text, swap=swap)
    if found.batch or found.repeats > 1:
        raise UsageError("only augmentations of single pictures go here")
    return found.sample
