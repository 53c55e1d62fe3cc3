"""What a model says of one image, typed. The same types serve as training targets.

Conventions inside the program: boxes are xyxy, absolute pixels, float32; labels are indices 0..K-1 into the model's
`categories`; scores lie in [0, 1]. Array fields hold torch tensors or numpy arrays; nothing here imports either, so the
types can be used without torch. A field that does not apply is None. `records.py` turns results into COCO annotations.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

Array = Any  # a torch.Tensor or a numpy.ndarray of the shape given beside the field


@dataclass(frozen=True)
class Result:
    """One image's result. `per_object` names the fields whose first axis runs over the objects found."""

    per_object: ClassVar[tuple[str, ...]] = ()

    def map(self, change) -> Self:
        """The same result with `change` applied to every array that is present."""
        return replace(self, **{f.name: change(v) for f in fields(self) if hasattr(v := getattr(self, f.name), "shape")})

    def to(self, device) -> Self:
        """The same result with its tensors on `device`."""
        return self.map(lambda a: a.to(device, non_blocking=True) if hasattr(a, "to") else a)

    def numpy(self) -> Self:
        """The same result with every tensor as a numpy array on the CPU."""
        return self.map(lambda a: a.detach().cpu().numpy() if hasattr(a, "detach") else a)

    def __getitem__(self, keep) -> Self:
        """The objects selected by a boolean mask, an index array or a slice."""
        return replace(self, **{n: v[keep] for n in self.per_object if (v := getattr(self, n)) is not None})


@dataclass(frozen=True)
class Labels(Result):
    """Classes of a whole image, best first."""

    labels: Array  # K int64
    scores: Array = None  # K float32; None in a target

    per_object: ClassVar[tuple[str, ...]] = ("labels", "scores")


@dataclass(frozen=True)
class Boxes(Result):
    """Axis-aligned boxes."""

    boxes: Array  # N 4 float32, xyxy, absolute pixels
    labels: Array  # N int64
    scores: Array = None  # N float32; None in a target
    crowd: Array = None  # N bool, targets only: a region of many objects, ignored by losses and metrics

    per_object: ClassVar[tuple[str, ...]] = ("boxes", "labels", "scores", "crowd")

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Instances(Boxes):
    """Boxes with the object's pixels and/or its keypoints."""

    masks: Array = None  # N H W bool
    keypoints: Array = None  # N K 3 float32: x, y, visibility (targets: 0 not labelled, 1 hidden, 2 visible)
    keypoint_scores: Array = None  # N K float32

    per_object: ClassVar[tuple[str, ...]] = (*Boxes.per_object, "masks", "keypoints", "keypoint_scores")


@dataclass(frozen=True)
class SemanticMap(Result):
    """One class per pixel. In targets, 255 marks pixels that no loss or metric looks at."""

    labels: Array  # H W int64
    scores: Array = None  # H W float32: probability of the chosen class
    weights: Array = None  # H W float32, targets only: how much each pixel counts in a loss that asks for it


@dataclass(frozen=True)
class Picture(Result):
    """A picture that was made. As a target it has no pixels: what is learned from is the picture that it stands beside."""

    pixels: Array = None  # H W 3 uint8 RGB; None in a target
    hole: Array = None  # H W bool, targets only: which of its pixels are to be filled, for a model that learns that


@dataclass(frozen=True)
class Embedding(Result):
    """One vector for a whole image."""

    vector: Array  # D float32


@dataclass(frozen=True)
class Text(Result):
    """What stands in a picture of one word or line. As a target it has the text alone."""

    text: str
    score: float | None = None  # probability of the whole text, in [0, 1]
    characters: Array = None  # L float32: the probability of each character
    places: Array = None  # L float32: about where the middle of each stands along the picture's width, in [0, 1]
    attention: Array = None  # L h w float32: where the model looked for each, over the whole batch image
    rectified: Array = None  # H W 3 uint8: the picture as a rectifying part has straightened it


@dataclass(frozen=True)
class Quads(Result):
    """Regions of text, four corners each: clockwise, from the one at which reading begins (upper left of upright text)."""

    quads: Array  # N 4 2 float32: x, y in absolute pixels
    scores: Array = None  # N float32; None in a target
    texts: tuple[str | None, ...] | None = None  # N: what stands in them, where it is known
    spared: Array = None  # N bool, targets only: need not be found (`###`), ignored by losses and metrics

    per_object: ClassVar[tuple[str, ...]] = ("quads", "scores", "spared")

    def __len__(self) -> int:
        return len(self.quads)

    def __getitem__(self, keep) -> Self:
        found = super().__getitem__(keep)
        if self.texts is None:
            return found
        kept = range(len(self.texts))[keep] if isinstance(keep, slice) else keep.tolist() if hasattr(keep, "tolist") else list(keep)
        if len(kept) and isinstance(kept[0], bool):
            kept = [i for i, stays in enumerate(kept) if stays]
        return replace(found, texts=tuple(self.texts[i] for i in kept))
