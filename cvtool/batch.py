"""What a model is fed: `Prepare` (a picture's pixels in, and the way back) and `Batch`.

A model owns its pixels: its `prepare` says how large a picture enters, with which mean and deviation, and it is saved with the
weights. `Place` remembers where each original lies inside its batch image, so that every result can be stated in the original's pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool.errors import UsageError
from cvtool.results import Boxes, Instances, Quads, Result, SemanticMap

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IGNORE = 255  # the label of pixels that no loss or metric looks at


@dataclass(frozen=True)
class Place:
    """Where an original of `height` x `width` lies in its batch image: scaled to `inner_height` x `inner_width`, then shifted."""

    height: int
    width: int
    inner_height: int
    inner_width: int
    top: int = 0
    left: int = 0

    @property
    def scale(self) -> tuple[float, float]:
        """(x, y) factors from the original's pixels to the batch's."""
        return self.inner_width / self.width, self.inner_height / self.height

    def boxes_in(self, boxes: Tensor) -> Tensor:
        """N 4 xyxy in the original's pixels -> the batch's."""
        sx, sy = self.scale
        return boxes * boxes.new_tensor([sx, sy, sx, sy]) + boxes.new_tensor([self.left, self.top] * 2)

    def boxes_back(self, boxes: Tensor) -> Tensor:
        """N 4 xyxy in the batch's pixels -> the original's, clipped to it."""
        sx, sy = self.scale
        boxes = (boxes - boxes.new_tensor([self.left, self.top] * 2)) / boxes.new_tensor([sx, sy, sx, sy])
        return boxes.clamp(min=0).minimum(boxes.new_tensor([self.width, self.height] * 2))

    def keypoints_in(self, keypoints: Tensor) -> Tensor:
        """N K 3 (x, y, visibility) in the original's pixels -> the batch's."""
        sx, sy = self.scale
        return keypoints * keypoints.new_tensor([sx, sy, 1]) + keypoints.new_tensor([self.left, self.top, 0])

    def keypoints_back(self, keypoints: Tensor) -> Tensor:
        """N K 3 in the batch's pixels -> the original's."""
        sx, sy = self.scale
        return (keypoints - keypoints.new_tensor([self.left, self.top, 0])) / keypoints.new_tensor([sx, sy, 1])

    def points_in(self, points: Tensor) -> Tensor:
        """... 2 (x, y) in the original's pixels -> the batch's."""
        return points * points.new_tensor(self.scale) + points.new_tensor([self.left, self.top])

    def points_back(self, points: Tensor) -> Tensor:
        """... 2 (x, y) in the batch's pixels -> the original's, not clipped: a slanted region may have a corner outside."""
        return (points - points.new_tensor([self.left, self.top])) / points.new_tensor(self.scale)

    def map_back(self, values: Tensor, mode: str = "bilinear") -> Tensor:
        """C h w dense values over the whole batch image (any stride) -> C H W over the original, bilinear unless `mode` says nearest."""
        rows, cols = values.shape[-2:]
        if not values.is_floating_point():
            raise ValueError("map_back interpolates; give it float values (probabilities or logits), not labels")
        inner = values[..., self.top : min(rows, self.top + self.inner_height), self.left : min(cols, self.left + self.inner_width)]
        corners = {"align_corners": False} if mode == "bilinear" else {}
        return F.interpolate(inner[None], size=(self.height, self.width), mode=mode, **corners)[0]


@dataclass
class Batch:
    """Pictures ready for a network.

    images:  B 3 H W float, normalised, zero where padded.
    padding: B H W bool, True on pixels that belong to no picture.
    places:  where each original lies in its image.
    targets: one result an image in the batch's own pixels, labels 0..K-1; None at prediction.
    """

    images: Tensor
    padding: Tensor
    places: list[Place]
    targets: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def to(self, device: torch.device | str, memory_format: torch.memory_format = torch.preserve_format) -> Batch:
        images = self.images.to(device, non_blocking=True, memory_format=memory_format)
        if self.images.device == images.device:
            return replace(self, images=images)
        return replace(self, images=images, padding=self.padding.to(device, non_blocking=True), targets=moved_together(self.targets, device))

    def pin_memory(self) -> Batch:
        """Images in memory from which a GPU copies on its own."""
        return replace(self, images=self.images.pin_memory(), padding=self.padding.pin_memory())


def moved_together(targets: list[Any] | None, device: torch.device | str) -> list[Any] | None:
    """Targets on another device: what they have in common goes over in one copy a field, not in one a picture."""
    if not targets or len({type(target) for target in targets}) > 1 or not is_dataclass(targets[0]):
        return targets and [target.to(device) for target in targets]
    changes: list[dict[str, Any]] = [{} for _ in targets]
    for name in (field.name for field in fields(targets[0])):
        values = [getattr(target, name) for target in targets]
        if not all(isinstance(value, Tensor) and value.dim() and value.shape[1:] == values[0].shape[1:] for value in values):
            for change, value in zip(changes, values, strict=True):
                change[name] = value.to(device, non_blocking=True) if hasattr(value, "to") else value
            continue
        joined = torch.cat(values)
        joined = (joined.pin_memory() if torch.device(device).type == "cuda" else joined).to(device, non_blocking=True)
        for change, part in zip(changes, joined.split([len(value) for value in values]), strict=True):
            change[name] = part
    return [replace(target, **change) for target, change in zip(targets, changes, strict=True)]


@dataclass(frozen=True, eq=False)
class Table:
    """Statistics of every single value of a picture, x of 3 H W: x -> (x - mean) / scale; with `axes`, x -> A^T (gain A (x - mean)), which keeps what
    lies along K of the 3HW directions, each times its gain.

    mean, scale: 3 H W. axes: A, K 3HW, rows of length 1 and square to each other. gain: K.
    """

    mean: Tensor
    scale: Tensor | None = None
    axes: Tensor | None = None
    gain: Tensor | None = None

    def arrays(self) -> dict[str, Tensor]:
        """Those that there are."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    def apply_(self, pixels: Tensor) -> Tensor:
        """B 3 H W, in place. Raises ValueError for pictures of another size."""
        if pixels.shape[1:] != self.mean.shape:
            (height, width), (rows, columns) = self.mean.shape[1:], pixels.shape[2:]
            raise ValueError(f"the statistics are those of pictures of {width} x {height}, not of {columns} x {rows}")
        pixels.sub_(self.mean)
        if self.scale is not None:
            pixels.div_(self.scale)
        if self.axes is not None and self.gain is not None:
            pixels.copy_((((pixels.flatten(1) @ self.axes.T) * self.gain) @ self.axes).view_as(pixels))
        return pixels

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Table) or (mine := self.arrays()).keys() != (theirs := other.arrays()).keys():
            return False
        return all(torch.equal(value, theirs[name]) for name, value in mine.items())

    def __hash__(self) -> int:
        return hash(tuple(self.mean.shape))


@dataclass(frozen=True)
class Prepare:
    """How pictures become a batch.

    resize: None keeps the size; "height" makes it `size` high and as wide as that asks for, at most `max_size` (longer lines are squeezed);
      "shortest" scales the shorter edge to `size` unless the longer would exceed `max_size`; "longest" scales the
      longer edge to `size`; "stretch" makes exactly `size`; "crop" scales the shorter edge to `size / crop_fraction` and takes the centre
      (classification). `size` is an int, or (height, width) for "stretch".
    multiple_of: height and width of the batch are padded (right and bottom, with zeros) up to a multiple of it.
    mean, std: of RGB in [0, 1].
    antialias: filter when shrinking (Pillow's and timm's way); False is torchvision's detectors' way.
    table: what is done after mean and std, where every value has statistics of its own; for "stretch" and "crop", which give one size.
    """

    resize: Literal["shortest", "longest", "stretch", "crop", "height"] | None = None
    size: int | tuple[int, int] = 0
    max_size: int | None = None
    crop_fraction: float = 1.0
    multiple_of: int = 1
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    antialias: bool = True
    table: Table | None = None

    def __call__(
        self, images: Sequence[Any], targets: Sequence[Result] | None = None, *, memory_format: torch.memory_format = torch.contiguous_format
    ) -> Batch:
        """Pictures (H W 3 uint8 numpy arrays or tensors, RGB) and, in training, their targets in each picture's own pixels, into a batch."""
        done = [self.inner(image) for image in images]
        height, width = (max(x.shape[axis] for x, _ in done) for axis in (0, 1))
        height, width = (-(-side // self.multiple_of) * self.multiple_of for side in (height, width))
        places = [place for _, place in done]
        size = (len(done), 3, height, width)
        if all(x.shape[:2] == (height, width) for x, _ in done):  # nothing to pad: all pictures in one pass
            pixels = torch.empty(size, memory_format=memory_format).copy_(torch.stack([x for x, _ in done]).permute(0, 3, 1, 2))
            padding = torch.zeros(len(done), height, width, dtype=torch.bool)
            if self.antialias:
                self.normalise_(pixels)
        else:
            pixels = torch.zeros(size).contiguous(memory_format=memory_format)
            padding = torch.ones(len(done), height, width, dtype=torch.bool)
            for i, (x, _) in enumerate(done):
                inside = pixels[i : i + 1, :, : x.shape[0], : x.shape[1]].copy_(x.permute(2, 0, 1))
                padding[i, : x.shape[0], : x.shape[1]] = False
                if self.antialias:
                    self.normalise_(inside)
        moved = None if targets is None else [move_in(t, p, (height, width)) for t, p in zip(targets, places, strict=True)]
        return Batch(pixels, padding, places, moved)

    def inner(self, image: Any) -> tuple[Tensor, Place]:
        """One picture, resized (and cropped), and its place (batch padding aside): h w 3 uint8, without `antialias` float32, normalised."""
        x = tensor_of(image)  # H W 3 uint8
        height, width = x.shape[:2]
        rows, cols = self.target_size(height, width)
        place = Place(height, width, rows, cols)
        if not self.antialias:
            x = self.normalise_(x.permute(2, 0, 1)[None].float())[0].permute(1, 2, 0)
        if (rows, cols) != (height, width):  # torch resizes uint8 directly, eight times faster than floats
            x = x.permute(2, 0, 1)[None]
            x = F.interpolate(x, size=(rows, cols), mode=self.interpolation, align_corners=False, antialias=self.antialias)[0].permute(1, 2, 0)
        if self.resize == "crop":
            side = int(self.size)  # type: ignore[arg-type]
            top, left = round((rows - side) / 2), round((cols - side) / 2)  # halves to even, as torchvision's centre crop
            x = x[top : top + side, left : left + side]
            place = replace(place, top=-top, left=-left)
        return x, place

    def normalise_(self, pixels: Tensor) -> Tensor:
        """B 3 H W float of 0..255, in place, to what the network takes."""
        mean, std = (torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (self.mean, self.std))
        pixels.div_(255).sub_(mean).div_(std)
        return pixels if self.table is None else self.table.apply_(pixels)

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after resizing, before cropping and padding."""
        if self.resize is None:
            return height, width
        if self.resize == "stretch":
            return (self.size, self.size) if isinstance(self.size, int) else self.size
        size = int(self.size)  # type: ignore[arg-type]
        if self.resize == "crop":
            short, edge = round(size / self.crop_fraction), min(height, width)
            return short * height // edge, short * width // edge  # rounded down, as torchvision's and timm's transforms do
        if self.resize == "height":
            return size, min(max(1, round(width * size / height)), self.max_size or width * size)
        if self.resize == "longest":
            scale = size / max(height, width)
            return max(1, round(height * scale)), max(1, round(width * scale))
        scale = size / min(height, width)
        if self.max_size:
            scale = min(scale, self.max_size / max(height, width))
        # floor, as torch's `recompute_scale_factor` does, so that published detectors see the very pixels they were trained on
        return max(1, int(height * scale)), max(1, int(width * scale))

    def sized(self, size: int) -> Prepare:
        """The same with another size (`--img-size`). Raises UsageError where there are statistics of every pixel."""
        if self.table is not None:
            height, width = self.table.mean.shape[1:]
            raise UsageError(f"the model has statistics of every pixel of {width} x {height}: it takes no other size", hint="leave --img-size out")
        longest = None if self.max_size is None or not self.size else round(self.max_size * size / int(self.size))  # type: ignore[arg-type]
        return replace(self, resize=self.resize or "longest", size=size, max_size=longest)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: of the table its size alone; its arrays lie beside (`Table.arrays`)."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "table"}
        return values if self.table is None else values | {"table": list(self.table.mean.shape)}

    @classmethod
    def from_dict(cls, values: dict[str, Any], arrays: dict[str, Tensor] | None = None) -> Prepare:
        """arrays: those of the table, where it has one."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "table"}
        return cls(**plain, table=Table(**arrays) if arrays else None)


warnings.filterwarnings("ignore", message="The given NumPy array is not writ")  # Pillow's and cached ones are read-only, and we only read them


def tensor_of(image: Any) -> Tensor:
    """A picture's pixels as a tensor that shares their memory."""
    return image if isinstance(image, Tensor) else torch.from_numpy(image)


def move_in(target: Result, place: Place, size: tuple[int, int]) -> Result:
    """A target in its picture's own pixels -> the pixels of a batch of `size` (H, W)."""
    if isinstance(target, Boxes):
        changes: dict[str, Any] = {"boxes": place.boxes_in(target.boxes.float())}
        if isinstance(target, Instances):
            if target.masks is not None:
                changes["masks"] = _dense_in(target.masks.to(torch.uint8), place, size, fill=0).bool()
            if target.keypoints is not None:
                changes["keypoints"] = place.keypoints_in(target.keypoints.float())
        return replace(target, **changes)
    if isinstance(target, Quads):
        return replace(target, quads=place.points_in(target.quads.float()))
    if isinstance(target, SemanticMap):
        changes = {"labels": _dense_in(target.labels[None].to(torch.uint8), place, size, fill=IGNORE)[0].long()}
        if target.weights is not None:
            changes["weights"] = _dense_in(target.weights[None].float(), place, size, fill=0)[0]
        return replace(target, **changes)
    return target


def _dense_in(maps: Tensor, place: Place, size: tuple[int, int], fill: int) -> Tensor:
    """N H W uint8 label maps or masks, or float maps, by nearest neighbour (labels do not mix), cropped or padded with `fill` to `size`."""
    if (place.inner_height, place.inner_width) != tuple(maps.shape[-2:]) and len(maps):
        maps = F.interpolate(maps[None], size=(place.inner_height, place.inner_width), mode="nearest-exact")[0]
    maps = maps[..., max(0, -place.top) :, max(0, -place.left) :]
    out = maps.new_full((len(maps), *size), fill)
    if len(maps):
        top, left = max(0, place.top), max(0, place.left)
        rows, cols = min(size[0] - top, maps.shape[1]), min(size[1] - left, maps.shape[2])
        out[:, top : top + rows, left : left + cols] = maps[:, :rows, :cols]
    return out
