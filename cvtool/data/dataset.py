"""Records as training samples: pixels, and the truth as one typed result with labels 0..K-1."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch

from cvtool import images
from cvtool.categories import Categories
from cvtool.data.augment import IGNORE
from cvtool.data.cache import Pictures
from cvtool.data.formats import masks
from cvtool.errors import InputError
from cvtool.losses.weighted_ce import border_weights
from cvtool.ops.quads import smallest_rectangle
from cvtool.records import Record
from cvtool.results import Boxes, Instances, Labels, Picture, Quads, Result, SemanticMap, Text

HAIR = 0.01  # pixels; a box not wider than this has no width in float32 once it is resized
EDGE = 0.5  # pixels that rounding may put a box over the edge
NEEDS = ("boxes", "masks", "keypoints", "semantic", "labels", "pictures", "text", "quads")
APART = {"semantic", "labels", "pictures", "text", "quads"}  # those that are learned without boxes
SPARED = "###"  # the text of a region that need not be found


class Sample(NamedTuple):
    pixels: np.ndarray  # H W 3 uint8 RGB
    target: Result  # in the picture's own pixels
    record: Record


class Dataset:
    """A list of records, addressed by index.

    categories: the label table; a record's `category_id` is looked up among its ids, so ids keep their meaning however they are numbered.
    needs: what the model's losses read of the truth: any of "boxes", "masks", "keypoints"; or "semantic", "labels", "text" (a picture's string) or
      "quads" (regions of text) alone; "pictures": nothing but the pictures, with "labels" beside it their classes too.
    merged: all categories count as the one of `categories`, so that every label is 0. keypoints: how many an object has, for "keypoints".
    weighted: maps come with `weights`, high where objects nearly touch (`losses/weighted_ce.py`).
    cache_bytes: decoded pictures are kept up to this many bytes, first come first kept, for worker processes as well.

    bad: what cannot be read, index -> why; such a picture is an InputError each time that it is asked for.
    """

    def __init__(
        self,
        records: Iterable[Record],
        categories: Categories,
        *,
        needs: Sequence[str] = ("boxes",),
        merged: bool = False,
        keypoints: int = 0,
        weighted: bool = False,
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
        self.background, self.weighted = background(categories), weighted
        self.kept = Pictures(len(self.records), cache_bytes)
        self.bad: dict[int, InputError] = {}
        self._tables: dict[tuple[int, ...] | None, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        if (known := self.bad.get(index)) is not None:
            raise _again(known)
        record = self.records[index]
        try:
            pixels = self.pixels(index)
            return Sample(pixels, self.target(record, pixels.shape[0], pixels.shape[1]), record)
        except InputError as error:
            self.bad[index] = _again(error, record.name)
            raise _again(self.bad[index]) from error

    def pixels(self, index: int) -> np.ndarray:
        """H W 3 uint8, decoded or from the cache. Raises InputError."""
        found = self.kept.get(index)
        return self.kept.put(index, self.records[index].pixels()) if found is None else found

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
            return SemanticMap(self._semantic(record, height, width), weights=self._weights(record, height, width))
        if "labels" in self.needs:
            labels = [self.label(a, record) for a in record.get("labels") or ()]
            if not labels:
                raise InputError("the picture has no class label", where=record.get("file_name"))
            return Labels(torch.tensor(labels, dtype=torch.int64))
        if "pictures" in self.needs:
            return Picture()
        if "text" in self.needs:
            return Text(text_of(record))
        if "quads" in self.needs:
            return quads_of(record)
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

    def check(self) -> list[str]:
        """Whether there is anything to learn from, and every object is of a known category. Raises InputError; opens no picture.

        Returns what training goes on with and the user should know, a line each: boxes over the edge, classes without a picture.
        """
        counts = {kind: sum(bool(has(record)) for record in self.records) for kind, (has, _) in TRUTHS.items()}
        wanted = [kind for kind in TRUTHS if kind in self.needs or (kind == "boxes" and not APART & set(self.needs))]
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
        return self._classes() if "labels" in wanted else _edges(self.records) if "boxes" in wanted else []

    def check_categories(self) -> None:
        """Raises InputError for an object or a picture of a category that is none of `categories`, where the model looks at those."""
        key = "labels" if "labels" in self.needs else "annotations" if not APART & set(self.needs) else None
        for record in self.records if key else ():
            for a in record.get(key) or ():
                if key == "labels" or "bbox" in a:
                    self.label(a, record)

    def _classes(self) -> list[str]:
        """Raises InputError for a picture of several classes and for pictures of one class only; notes classes without a picture."""
        numbers: Counter[int] = Counter()
        for record in self.records:
            labels = record.get("labels") or ()
            if len(labels) > 1:
                names = ", ".join(str(a.get("category", a.get("category_id"))) for a in labels)
                hint = "a classifier learns one class a picture; a picture of several is data for a detector"
                raise InputError(f"the picture has {len(labels)} class labels: {names}", where=record.get("file_name"), hint=hint)
            numbers.update(self.label(a, record) for a in labels)
        if len(numbers) == 1 and "pictures" not in self.needs:
            label, count = next(iter(numbers.items()))
            category = self.categories[label]
            hint = "a classifier tells classes apart: give pictures of another class too, in a folder of their own (other/)"
            raise InputError(f"all {count:,} pictures to learn from are of one class, '{category and category['name']}'", hint=hint)
        empty = [category["name"] for label, category in enumerate(self.categories) if category is not None and label not in numbers]
        if not empty:
            return []
        listed = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        return [f"warning: {len(empty)} of {len(self.categories)} classes without a picture to learn from, which will not be found: {listed}"]

    def _semantic(self, record: Record, height: int, width: int) -> torch.Tensor:
        """H W int64; from a label picture, else from the annotations' masks, later ones on top. What has no label is IGNORE, and so are crowds;
        outside of all masks it is the background, where there is one (see `with_background`)."""
        if (name := record.get("segmentation_map")) is not None:
            ids = images.labels(name)  # H W uint8 or uint16
            if ids.shape != (height, width):
                raise InputError(f"the label picture is {ids.shape[1]} x {ids.shape[0]}, its picture {width} x {height}", where=name)
            labels = self._table((record.dataset or {}).get("void"))[ids]
            if labels.min() < 0:
                hint = "name it there, as 'void' where no loss should look at it"
                raise InputError(f"the label {ids[labels < 0].min()} is none of those in classes.txt", where=name, hint=hint)
            return torch.from_numpy(labels)
        out = torch.full((height, width), IGNORE if self.background is None else self.background, dtype=torch.int64)
        for a, mask in _painted(record, height, width):
            out[mask] = IGNORE if a.get("iscrowd") else self.label(a, record)
        return out

    def _table(self, void: Sequence[int] | None) -> np.ndarray:
        """Pixel value -> label, as `masks.table` has it."""
        key = None if void is None else tuple(void)
        if key not in self._tables:
            self._tables[key] = masks.table(self.index, key)
        return self._tables[key]

    def _weights(self, record: Record, height: int, width: int) -> torch.Tensor | None:
        """H W float32: what each pixel counts, by its distance to two objects; None where the truth knows no objects."""
        if not self.weighted or record.get("segmentation_map") is not None:
            return None
        numbers = np.zeros((height, width), np.int32)
        for number, (a, mask) in enumerate(_painted(record, height, width), 1):
            numbers[mask.numpy()] = 0 if a.get("iscrowd") else number
        return torch.from_numpy(border_weights(numbers))


def _again(error: InputError, where: str | None = None) -> InputError:
    """The same error anew: one that was raised would hold on to the pictures of the batch at hand."""
    return InputError(error.what, where=error.where or where, hint=error.hint)


def _edges(records: Sequence[Record]) -> list[str]:
    """What `target` does with boxes that leave their pictures, counted where records state the size."""
    over, outside = list[str](), list[str]()
    for record in records:
        width, height = record.get("width"), record.get("height")
        for a in record.get("annotations") or ():
            if width and height and "bbox" in a and not a.get("iscrowd"):
                x, y, w, h = a["bbox"]
                if min(w, h, x + w, y + h, width - x, height - y) <= HAIR:
                    outside.append(record.name)
                elif min(x, y, width - x - w, height - y - h) < -EDGE:
                    over.append(record.name)
    said = (
        (over, "reach over the edge of their picture and are clipped", "reaches over the edge of its picture and is clipped"),
        (outside, "have no area in their picture and are left out", "has no area in its picture and is left out"),
    )
    found = [(f"{len(names):,} boxes {what}" if len(names) > 1 else f"1 box {one}", names[0]) for names, what, one in said if names]
    return [f"{what}, the first in {name}" if "boxes" in what else f"{what}, in {name}" for what, name in found]


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
    "text": (lambda r: isinstance(r.get("text"), str) and r["text"], "the text of each picture"),
    "quads": (lambda r: any(_outline(a) is not None for a in r.get("annotations") or ()), "regions of text"),
}  # fmt: skip


def decoded_bytes(records: Sequence[Record], *, looks: int = 16) -> int:
    """What all these pictures take decoded; those that do not state their size are judged by the headers of the first few of them."""
    stated = [r["width"] * r["height"] for r in records if r.get("width") and r.get("height")]
    silent = [r for r in records if not (r.get("width") and r.get("height"))]
    seen = []
    for record in silent[:looks]:
        with suppress(InputError):  # one that cannot be read takes nothing
            width, height = record.size()
            seen.append(width * height)
    return 3 * (sum(stated) + (sum(seen) * len(silent) // len(seen) if seen else 0))


def background(categories: Categories) -> int | None:
    """The label of what belongs to no object: that of the category called so, else of a hole in front; None where there is neither."""
    named = (label for label, c in enumerate(categories) if c is not None and str(c["name"]).lower() == "background")
    return next(named, 0 if categories and categories[0] is None else None)


def with_background(categories: Categories, records: Sequence[Record]) -> Categories:
    """The table of a model that gives every pixel a class: where the truth is objects alone, what lies outside of them is a class too, label 0.

    It is a hole in the table, as VOC's background is (`categories.py`): learned, but no object that is told of. Unchanged where records have label
    maps, in which what is unlabelled is unknown, and where a category is called background.
    """
    if background(categories) is not None or any(record.get("segmentation_map") for record in records):
        return categories
    return [None, *categories]


def _painted(record: Record, height: int, width: int) -> Iterator[tuple[dict[str, Any], torch.Tensor]]:
    """Each annotation that has a mask with it, H W bool, in the order in which they cover each other: crowds lie below all others."""
    found = [a for a in record.get("annotations") or () if a.get("segmentation")]
    for a in sorted(found, key=lambda a: not a.get("iscrowd")):
        yield a, _masks([a], height, width, record)[0]


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


def text_of(record: Record) -> str:
    """The picture's string, as one character each what is a letter and its accent. Raises InputError where it has none."""
    text = record.get("text")
    if not isinstance(text, str):
        raise InputError("the picture has no text", where=record.get("file_name"))
    return unicodedata.normalize("NFC", text)


def quads_of(record: Record) -> Quads:
    """The picture's regions of text: a ring of four corners is taken as it is, another polygon as the smallest rectangle around it, else the box."""
    quads, texts, spared = [], list[str | None](), []
    for a in record.get("annotations") or ():
        if (outline := _outline(a)) is not None:
            quads.append(outline)
            texts.append(a.get("text"))
            spared.append(bool(a.get("iscrowd")) or a.get("text") == SPARED)
    corners = torch.tensor(np.array(quads, np.float32).reshape(-1, 4, 2))
    return Quads(corners, texts=tuple(texts), spared=torch.tensor(spared, dtype=torch.bool))


def _outline(a: dict[str, Any]) -> np.ndarray | None:
    """4 2: an annotation's corners; None where it has no place."""
    rings = a.get("segmentation")
    if isinstance(rings, list) and len(rings) == 1 and len(rings[0]) >= 8:
        ring = np.array(rings[0], np.float64).reshape(-1, 2)
        return ring if len(ring) == 4 else smallest_rectangle(ring)
    if "bbox" in a:
        x, y, w, h = a["bbox"]
        return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float64)
    return None


def _keypoints(annotations: Sequence[dict[str, Any]], count: int, record: Record) -> torch.Tensor:
    """N K 3: x, y, visibility; zeros where an object has none."""
    out = torch.zeros(len(annotations), count, 3)
    for i, a in enumerate(annotations):
        if points := a.get("keypoints"):
            if len(points) != 3 * count:
                raise InputError(f"an object has {len(points)} keypoint numbers, not 3 x {count}", where=record.get("file_name"))
            out[i] = torch.tensor(points, dtype=torch.float32).reshape(-1, 3)
    return out
