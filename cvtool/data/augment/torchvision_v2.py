"""Any transform of torchvision v2 by its class name: `v2:RandomPerspective:0.3`, `v2:RandomAffine:15,translate=0.1/0.2`.

It gets the picture and its truth as tv_tensors, so that boxes, masks, keypoints and maps move along as torchvision moves them, and it draws its
random numbers from the sample's generator: torchvision itself knows only torch's global one, which other threads and the model's losses draw from.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cvtool.batch import IGNORE
from cvtool.calls import Call, Value, plain
from cvtool.data.augment.geometry import FILL, Pair, clipped
from cvtool.errors import UsageError, did_you_mean
from cvtool.results import Boxes, Instances, Result, SemanticMap
from cvtool.runtime.torchvision import cheap_import

# what needs several pictures, functions or other kinds of data, or is the model's own affair
NOT_HERE = frozenset((
    "Transform", "Compose", "RandomApply", "RandomChoice", "RandomOrder", "Lambda", "CutMix", "MixUp", "FiveCrop", "TenCrop", "Identity",
    "Normalize", "LinearTransformation", "ToDtype", "ToTensor", "ToImage", "ToPILImage", "PILToTensor", "ToPureTensor", "ConvertImageDtype", "RGB",
    "ConvertBoundingBoxFormat", "SetClampingMode", "ClampBoundingBoxes", "ClampKeyPoints", "SanitizeBoundingBoxes", "SanitizeKeyPoints",
    "UniformTemporalSubsample",
))  # fmt: skip

FLIPS = ("RandomHorizontalFlip", "RandomVerticalFlip")  # of keypoints they name pixels, where all others name places; and left would become right


@cache
def library() -> tuple[ModuleType, ModuleType]:
    """torchvision's transforms.v2 and tv_tensors."""
    with cheap_import():
        from torchvision import tv_tensors
        from torchvision.transforms import v2
    return v2, tv_tensors


def names() -> list[str]:
    """Those that change one picture."""
    v2, _ = library()
    found = (name for name, value in vars(v2).items() if isinstance(value, type) and issubclass(value, v2.Transform))
    return sorted(name for name in found if name not in NOT_HERE)


class Seeded(TorchFunctionMode):
    """While it is on, random functions of torch in this thread draw from a generator of their own."""

    DRAWING = frozenset((
        torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal, torch.bernoulli, torch.multinomial,
        torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.bernoulli_, torch.Tensor.random_, torch.Tensor.multinomial,
    ))  # fmt: skip
    LIKE = {torch.rand_like: torch.rand, torch.randn_like: torch.randn}

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.LIKE:
            return self.LIKE[func](args[0].shape, generator=self.generator, dtype=kwargs.get("dtype") or args[0].dtype)
        if func in self.DRAWING and kwargs.get("generator") is None:
            kwargs = {**kwargs, "generator": self.generator}
        return func(*args, **kwargs)


class V2:
    """One transform of `names()` with its arguments. What comes in from outside is grey, without label.

    Boxes are clipped to the picture; where there are masks that moved, they are the masks' own. An object without area, or without a pixel of its
    mask, is left out. Raises UsageError for a wrong name or arguments, and at the first picture whose truth torchvision cannot move along.
    """

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        v2, tv = library()
        if name not in (known := names()):
            hint = did_you_mean(name, known) or "there are " + ", ".join(known)
            raise UsageError(f"augment: torchvision has no v2:{name} for one picture", hint=hint)
        self.name = name
        takes = inspect.signature(getattr(v2, name)).parameters
        filled = "fill" in takes and "fill" not in kwargs
        try:
            self.transforms = [  # one for masks of objects, one for maps of classes
                getattr(v2, name)(*args, **kwargs, **({"fill": {tv.Image: FILL, tv.Mask: outside, "others": 0}} if filled else {}))
                for outside in (0, IGNORE)
            ]
        except (TypeError, ValueError, KeyError) as error:
            raise UsageError(f"augment: v2:{name}: {_first(error)}", hint=f"it takes {', '.join(takes) or 'nothing'}") from None

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        _, tv = library()
        given: dict[str, Any] = {"image": tv.Image(torch.from_numpy(np.array(pixels)).permute(2, 0, 1))}
        if isinstance(target, SemanticMap):
            given["labels"] = tv.Mask(target.labels.to(torch.uint8))
            if target.weights is not None:
                raise UsageError(f"augment: v2:{self.name} does not move weights of pixels along")
        elif isinstance(target, Boxes):
            given["boxes"] = tv.BoundingBoxes(target.boxes, format="XYXY", canvas_size=pixels.shape[:2])
            if isinstance(target, Instances):
                given |= self._parts(target, pixels)
        with Seeded(int(rng.integers(1 << 62))):
            try:
                done = self.transforms[isinstance(target, SemanticMap)](given)
            except (TypeError, ValueError, RuntimeError) as error:
                raise UsageError(f"augment: v2:{self.name} cannot be used on this data: {_first(error)}") from error
        image = done["image"].as_subclass(Tensor)
        if image.dtype != torch.uint8 or image.shape[0] != 3:
            raise UsageError(f"augment: v2:{self.name} leaves no picture of 3 x 8 bits", hint="the model's own prepare does the rest")
        return np.ascontiguousarray(image.permute(1, 2, 0).numpy()), _back(target, done, image.shape[1], image.shape[2])

    def _parts(self, target: Instances, pixels: np.ndarray) -> dict[str, Any]:
        _, tv = library()
        found: dict[str, Any] = {}
        if target.masks is not None:
            found["masks"] = tv.Mask(target.masks.to(torch.uint8))
        if target.keypoints is not None:
            if not hasattr(tv, "KeyPoints") or self.name in FLIPS:
                raise UsageError(f"augment: v2:{self.name} cannot move keypoints", hint="flip, rotate, shear, crop, translate and others can")
            found["keypoints"] = tv.KeyPoints(target.keypoints[..., :2] + 0.5, canvas_size=pixels.shape[:2])
        return found


def _back(target: Result, done: dict[str, Any], height: int, width: int) -> Result:
    """The truth out of torchvision's hands."""
    if isinstance(target, SemanticMap):
        return replace(target, labels=done["labels"].as_subclass(Tensor).long())
    if not isinstance(target, Boxes):
        return target
    boxes = clipped(done["boxes"].as_subclass(Tensor).float(), width, height)
    changes: dict[str, Any] = {}
    if isinstance(target, Instances):
        if target.masks is not None:
            changes["masks"] = masks = done["masks"].as_subclass(Tensor).bool()
            boxes = boxes if torch.equal(masks, target.masks) else tight(masks)
        if target.keypoints is not None:
            places = done["keypoints"].as_subclass(Tensor)
            inside = ((places >= 0) & (places < places.new_tensor([width, height]))).all(-1, keepdim=True) & (target.keypoints[..., 2:] > 0)
            changes["keypoints"] = torch.cat([places - 0.5, target.keypoints[..., 2:]], -1) * inside
    return replace(target, boxes=boxes, **changes)[(boxes[:, 2:] > boxes[:, :2]).all(1)]


def tight(masks: Tensor) -> Tensor:
    """N H W bool -> N 4 xyxy, zeros for a mask without a pixel."""
    boxes = torch.zeros(len(masks), 4)
    for box, mask in zip(boxes, masks, strict=True):
        rows, cols = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        if len(rows):
            box.copy_(torch.stack([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1]))
    return boxes


def made(call: Call) -> V2:
    """The transform of a call `v2:NAME:ARGUMENT,...`; `0.1/0.3` is a pair, and words for interpolation and policy are torchvision's."""
    return V2(call.name.partition(":")[2], *map(_value, call.args), **{key: _value(value, key) for key, value in call.kwargs.items()})


def _value(value: Value, key: str = "") -> Any:
    v2, _ = library()
    if not isinstance(value, str):
        return value
    if "/" in value:
        return tuple(plain(part) for part in value.split("/"))
    kinds = {"interpolation": v2.InterpolationMode, "policy": v2.AutoAugmentPolicy}
    if key in kinds:
        try:
            return kinds[key](value.lower())
        except ValueError:
            raise UsageError(f"augment: {key} is one of {', '.join(kind.value for kind in kinds[key])}, not {value}") from None
    return value


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
