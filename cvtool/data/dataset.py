"""Records as training samples: pixels, and the truth as one typed result with labels 0..K-1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from cvtool.categories import Categories
from cvtool.data.augment import IGNORE
from cvtool.errors import InputError
from cvtool.records import Record
from cvtool.results import Boxes, Instances, Labels, Result, SemanticMap

HAIR = 0.01  # pixels; a box not wider than this has no width in float32 once it is resized
NEEDS = ("boxes", "masks", "keypoints", "semantic", "labels")


class Sample(NamedTuple):
    pixels: np.ndarray  # H W 3 uint8 RGB
    target: Result  # in the picture's own pixels
    record: Record


class Dataset:
    """A list of records, addressed by index.

    categories: the label table; a record's `category_id` is looked up among its ids, so ids keep their meaning however they are numbered.
    needs: what the model's losses read of the truth: any of "boxes", "masks", "keypoints", or "semantic" or "labels" alone.
    merged: all categories count as the one of `categories`, so that every label is 0. keypoints: how many an object has, for "keypoints".
    cache_bytes: decoded pictures are kept up to this many bytes, first come first kept.
    """

    def __init__(
        self,
        records: Iterable[Record],
        categories: Categories,
        *,
        needs: Sequence[str] = ("boxes",),
        merged: bool = False,
        keypoints: int = 0,
        cache_bytes: int = 0,
    ) -> None:
        self.records = list(records)
        self.categories = categories
        self.needs = tuple(needs)
        self.merged, self.keypoints = merged, keypoints or max((len(c.get("keypoints") or ()) for c in categories if c), default=0)
        if unknown := set(needs) - set(NEEDS):
            raise ValueError(f"a model cannot need {sorted(unknown)}; it needs some of {NEEDS}")
        self.index = {c["id"]: label for label, c in enumerate(categories) if c is not None}
        self._names = {c["name"]: label for label, c in enumerate(categories) if c is not None}
        self._cache: dict[int, np.ndarray] = {}
        self._free = cache_bytes

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        record, pixels = self.records[index], self.pixels(index)
        return Sample(pixels, self.target(record, pixels.shape[0], pixels.shape[1]), record)

    def pixels(self, index: int) -> np.ndarray:
        """H W 3 uint8, decoded or from the cache. Raises InputError."""
        kept = self._cache.get(index)
        if kept is None:
            kept = self.records[index].pixels()
            if kept.nbytes <= self._free:
                kept.flags.writeable = False  # what is shared must not be painted on
                self._free -= kept.nbytes
                self._cache[index] = kept
        return kept

    def fill(self) -> None:
        """Decode ahead what fits in the cache, so that worker processes share it."""
        for index in range(len(self)):
            if self._free <= 0:
                break
            self.pixels(index)

    def label(self, annotation: dict[str, Any], record: Record) -> int:
        """0..K-1. By name where there is one, for another data set may number the same names differently; else by id. Raises InputError."""
        if self.merged:
            return 0
        name, number = annotation.get("category"), annotation.get("category_id")
        label = self.index.get(number)
        if name is not None and (label is None or self.categories[label]["name"] != name):
            label = self._names.get(name)
        if label is None:
            known = ", ".join(list(self._names)[:20])
            raise InputError(f"category {name or number} is not one of those trained on", where=record.get("file_name"), hint=f"they are: {known}")
        return label

    def target(self, record: Record, height: int, width: int) -> Result:
        """The record's truth. Boxes are clipped to the picture; crowds and boxes without area teach nothing and are left out."""
        if "semantic" in self.needs:
            return SemanticMap(self._semantic(record, height, width))
        if "labels" in self.needs:
            labels = [self.label(a, record) for a in record.get("labels") or ()]
            if not labels:
                raise InputError("the picture has no class label", where=record.get("file_name"))
            return Labels(torch.tensor(labels, dtype=torch.int64))
        boxes, kept = [], []
        for a in record.get("annotations") or ():
            if "bbox" not in a or a.get("iscrowd"):
                continue
            x, y, w, h = a["bbox"]
            box = max(0.0, x), max(0.0, y), min(float(width), x + w), min(float(height), y + h)
            if box[2] - box[0] > HAIR and box[3] - box[1] > HAIR:
                boxes.append(box)
                kept.append(a)
        values = {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([self.label(a, record) for a in kept], dtype=torch.int64),
        }
        if not {"masks", "keypoints"} & set(self.needs):
            return Boxes(**values)
        if "masks" in self.needs:
            values["masks"] = _masks(kept, height, width, record)
        if "keypoints" in self.needs:
            values["keypoints"] = _keypoints(kept, self.keypoints, record)
        return Instances(**values)

    def check(self) -> None:
        """Whether there is anything to learn from, and every object is of a known category. Raises InputError; opens no picture."""
        counts = {kind: sum(bool(has(record)) for record in self.records) for kind, (has, _) in TRUTHS.items()}
        wanted = [kind for kind in TRUTHS if kind in self.needs or (kind == "boxes" and not {"semantic", "labels"} & set(self.needs))]
        for kind in wanted:
            if not counts[kind]:
                have = ", ".join(words for other, (_, words) in TRUTHS.items() if counts[other])
                what = f"this model learns from {TRUTHS[kind][1]}, and the training data have {have or 'none'}"
                raise InputError(what, hint="`cvtool models list` shows others" if have else "crowds and boxes without area do not count")
        for record in self.records:
            for a in _objects(record) if "boxes" in wanted else record.get("labels") or () if "labels" in wanted else ():
                self.label(a, record)
                if "masks" in wanted and not a.get("segmentation"):
                    raise InputError("this model learns from masks, and an object has none", where=record.get("file_name"))

    def _semantic(self, record: Record, height: int, width: int) -> torch.Tensor:
        """H W int64; from a label picture, else from the annotations' masks, later ones on top. What has no label is IGNORE."""
        if (name := record.get("segmentation_map")) is not None:
            from PIL import Image

            try:
                with Image.open(name) as file:
                    ids = np.asarray(file)
            except OSError as error:
                raise InputError(f"the label picture cannot be read: {error}", where=name) from error
            ids = ids[..., 0] if ids.ndim == 3 else ids
            if ids.shape != (height, width):
                raise InputError(f"the label picture is {ids.shape[1]} x {ids.shape[0]}, its picture {width} x {height}", where=name)
            table = np.full(65536, IGNORE, np.int64)
            for number, label in self.index.items():
                table[number] = label
            return torch.from_numpy(table[ids.astype(np.int64)])
        out = torch.full((height, width), IGNORE, dtype=torch.int64)
        annotations = [a for a in record.get("annotations") or () if a.get("segmentation") and not a.get("iscrowd")]
        for a, mask in zip(annotations, _masks(annotations, height, width, record), strict=True):
            out[mask] = self.label(a, record)
        return out


def _objects(record: Record) -> list[dict[str, Any]]:
    """Those that training looks at."""
    return [a for a in record.get("annotations") or () if "bbox" in a and not a.get("iscrowd") and min(a["bbox"][2:]) > HAIR]


TRUTHS: dict[str, tuple[Callable[[Record], Any], str]] = {  # kind -> whether a record has it, and what to call it
    "boxes": (_objects, "boxes"),
    "masks": (lambda r: any(a.get("segmentation") for a in _objects(r)), "masks"),
    "keypoints": (lambda r: any(any(a.get("keypoints") or ()) for a in _objects(r)), "keypoints"),
    "semantic": (lambda r: r.get("segmentation_map") or any(a.get("segmentation") and not a.get("iscrowd") for a in r.get("annotations") or ()),
                 "a class for each pixel"),
    "labels": (lambda r: r.get("labels"), "a class for each picture"),
}  # fmt: skip


def decoded_bytes(records: Sequence[Record], *, looks: int = 16) -> int:
    """What all these pictures take decoded; those that do not state their size are judged by the headers of the first few of them."""
    stated = [r["width"] * r["height"] for r in records if r.get("width") and r.get("height")]
    silent = [r for r in records if not (r.get("width") and r.get("height"))]
    seen = [width * height for width, height in (r.size() for r in silent[:looks])]
    return 3 * (sum(stated) + (sum(seen) * len(silent) // len(seen) if seen else 0))


def _masks(annotations: Sequence[dict[str, Any]], height: int, width: int, record: Record) -> torch.Tensor:
    """N H W bool, from polygons or run lengths."""
    out = np.zeros((len(annotations), height, width), bool)
    for i, a in enumerate(annotations):
        try:
            out[i] = mask_of(a["segmentation"], height, width)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise InputError("this model trains on masks, and an object has no readable segmentation", where=record.get("file_name")) from error
    return torch.from_numpy(out)


def mask_of(segmentation: Any, height: int, width: int) -> np.ndarray:
    """H W bool of a COCO segmentation: a list of polygons, an uncompressed or a compressed run-length encoding."""
    from pycocotools import mask as coco

    if isinstance(segmentation, list):
        rle = coco.merge(coco.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        rle = coco.frPyObjects(segmentation, height, width)
    else:
        rle = segmentation
    if tuple(rle["size"]) != (height, width):
        raise ValueError(f"the mask is of another size: {rle['size']}")
    return coco.decode(rle).astype(bool)


def _keypoints(annotations: Sequence[dict[str, Any]], count: int, record: Record) -> torch.Tensor:
    """N K 3: x, y, visibility; zeros where an object has none."""
    out = torch.zeros(len(annotations), count, 3)
    for i, a in enumerate(annotations):
        if points := a.get("keypoints"):
            if len(points) != 3 * count:
                raise InputError(f"an object has {len(points)} keypoint numbers, not 3 x {count}", where=record.get("file_name"))
            out[i] = torch.tensor(points, dtype=torch.float32).reshape(-1, 3)
    return out
