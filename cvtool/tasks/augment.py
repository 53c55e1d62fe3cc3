"""What an augmentation makes of pictures and their annotations: `augmented(records, "randaugment:2,9", samples=8)`, records in, records out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cvtool import images
from cvtool.annotations import rle
from cvtool.batch import Batch, Place
from cvtool.categories import COCO_KEYPOINTS
from cvtool.data import augment
from cvtool.data.augment.geometry import resized
from cvtool.data.dataset import mask_of
from cvtool.errors import InputError, UsageError
from cvtool.records import Record
from cvtool.results import Instances, Labels, SemanticMap

TOGETHER = 16  # pictures that a mixture is made of, at most
_SAMPLES, _MIX = 0, 1  # streams of random numbers


class Varied(Record):
    """A record whose picture is not in a file: `array` (H W 3 uint8) holds it, `origin` names the picture that it was made of."""

    array: Any = None
    origin: str | None = None

    def pixels(self) -> Any:
        return self.array


def augmented(records: Iterable[Record], text: str, *, samples: int = 8, seed: int = 0) -> Iterator[Record]:
    """Each picture `samples` times, augmented as in training, with its boxes, masks, keypoints or map moved along; `a.jpg` gives `a-1.jpg` ...

    mixup and cutmix mix up to TOGETHER pictures that follow each other, brought to the size of the first; annotations cannot follow there, class
    labels are weighted, and a picture without any is called by its file's name. Random numbers depend on (seed, picture, sample) alone. Raises
    UsageError.
    """
    parsed = augment.parse(text)
    if parsed.repeats > 1:
        raise UsageError("augment: repeated has no effect on pictures: it says what a batch in training consists of", hint="leave it out")
    if not parsed.sample.parts and not parsed.mixtures:
        raise UsageError("--augment none has no effect", hint="such as --augment randaugment:2,9")
    return _mixed(records, parsed, samples, seed) if parsed.mixtures else _varied(records, text, samples, seed)


def _varied(records: Iterable[Record], text: str, samples: int, seed: int) -> Iterator[Record]:
    for number, record in enumerate(records):
        try:
            pixels, target, back = _opened(record)
        except InputError as error:
            yield record if record.failed else record.with_error(error)
            continue
        sample = augment.parse(text, swap=_swap(record, target)).sample
        for k in range(samples):
            out, moved = sample(pixels, target, np.random.default_rng((seed, _SAMPLES, number, k)))
            yield _made(record, k + 1, out, back(moved))


def _opened(record: Record) -> tuple[np.ndarray, Any, Callable[[Any], dict[str, Any]]]:
    """The pixels, the truth to move along, and how the moved truth becomes keys of a record."""
    pixels = record.pixels()
    annotations = [a for a in record.get("annotations") or () if a.get("bbox") or a.get("segmentation")]
    if not annotations and isinstance(path := record.get("segmentation_map"), str):
        values, labels = np.unique(images.labels(path), return_inverse=True)
        if labels.size != pixels.shape[0] * pixels.shape[1] or len(values) > augment.IGNORE:
            raise InputError("the label map is of another size than its picture, or has too many classes", where=path)
        return pixels, SemanticMap(torch.from_numpy(labels.reshape(pixels.shape[:2]).astype(np.int64))), lambda moved: _classes(moved, values)
    if not annotations:
        return pixels, Labels(torch.zeros(0, dtype=torch.int64)), lambda moved: {}
    try:
        target = _instances(annotations, *pixels.shape[:2])
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise InputError(f"an annotation cannot be read: {error}", where=record.name) from error
    return pixels, target, lambda moved: {"annotations": _annotations(moved, annotations)}


def _instances(annotations: Sequence[dict[str, Any]], height: int, width: int) -> Instances:
    """Labels count the annotations. Where one has a mask, all have; that of an object without is its box."""
    masks = np.zeros((len(annotations), height, width), bool)
    boxes = np.zeros((len(annotations), 4), np.float32)
    count = max(len(a.get("keypoints") or ()) // 3 for a in annotations)
    points = np.zeros((len(annotations), count, 3), np.float32)
    for i, a in enumerate(annotations):
        if a.get("segmentation"):
            masks[i] = mask_of(a["segmentation"], height, width)
        if a.get("bbox"):
            x, y, w, h = a["bbox"]
            boxes[i] = x, y, x + w, y + h
        else:
            rows, cols = np.flatnonzero(masks[i].any(1)), np.flatnonzero(masks[i].any(0))
            boxes[i] = (cols[0], rows[0], cols[-1] + 1, rows[-1] + 1) if len(rows) else 0
        if not a.get("segmentation"):
            left, top, right, bottom = boxes[i].round().astype(int).clip(0)
            masks[i, top:bottom, left:right] = True
        if known := a.get("keypoints"):
            points[i, : len(known) // 3] = np.reshape(known, (-1, 3))
    return Instances(
        torch.from_numpy(boxes), torch.arange(len(annotations)),
        masks=torch.from_numpy(masks) if any(a.get("segmentation") for a in annotations) else None,
        keypoints=torch.from_numpy(points) if count else None,
    )  # fmt: skip


def _annotations(moved: Instances, annotations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The annotations of the objects that are left, where they are now."""
    found = []
    for i, number in enumerate(moved.labels.tolist()):
        old = annotations[number]
        left, top, right, bottom = moved.boxes[i].tolist()
        new = old | {"bbox": [round(v, 3) for v in (left, top, right - left, bottom - top)], "area": round((right - left) * (bottom - top), 3)}
        if old.get("segmentation"):
            new["segmentation"], new["area"] = rle(moved.masks[i])
        if old.get("keypoints"):
            points = moved.keypoints[i, : len(old["keypoints"]) // 3].tolist()
            new["keypoints"] = [value for x, y, v in points for value in (round(x, 3), round(y, 3), int(v))]
            new["num_keypoints"] = sum(v > 0 for _, _, v in points)
        found.append(new)
    return found


def _classes(moved: SemanticMap, values: np.ndarray) -> dict[str, Any]:
    """A map as annotations, one a class present."""
    labels = moved.labels.numpy()
    found = []
    for index, value in enumerate(values.tolist()):
        if value != augment.IGNORE and (labels == index).any():
            encoded, area = rle(labels == index)
            found.append({"category_id": value, "segmentation": encoded, "area": area, "iscrowd": 0})
    return {"annotations": found, "segmentation_map": None}


def _swap(record: Record, target: Any) -> list[int] | None:
    """Which keypoint is which in a mirror: by the names of the data set, or of COCO's persons."""
    if not isinstance(target, Instances) or target.keypoints is None:
        return None
    count = target.keypoints.shape[1]
    tables = [c.get("keypoints") for c in (record.dataset or {}).get("categories") or () if isinstance(c, dict)]
    names = next((names for names in [*tables, COCO_KEYPOINTS] if names and len(names) == count), None)
    return augment.swapped(names) if names else None


def _mixed(records: Iterable[Record], parsed: augment.Augmentation, samples: int, seed: int) -> Iterator[Record]:
    """Mixtures of the pictures that follow each other."""
    for chunk, group in enumerate(_groups(records)):
        good: list[tuple[Record, np.ndarray]] = []
        for record in group:
            try:
                good.append((record, record.pixels()))
            except InputError as error:
                yield record if record.failed else record.with_error(error)
        if len(good) == 1:
            raise UsageError("mixup and cutmix mix pictures, and there is only one", hint="give several, or a folder")
        names = list(dict.fromkeys(name for record, _ in good for name, _, _ in _labels(record)))
        for k in range(samples if good else 0):
            rng = np.random.default_rng((seed, _MIX, chunk, k))
            pixels, targets = [], []
            for i, (record, image) in enumerate(good):
                known = _labels(record)
                target = Labels(torch.tensor([names.index(n) for n, _, _ in known]), torch.tensor([s for _, _, s in known]))
                image, _ = parsed.sample(image, target, np.random.default_rng((seed, _SAMPLES, chunk, k, i)))
                pixels.append(torch.from_numpy(np.array(resized(image, target, *good[0][1].shape[:2])[0])).permute(2, 0, 1).float())
                targets.append(target)
            height, width = pixels[0].shape[-2:]
            padding = torch.zeros(len(good), height, width, dtype=torch.bool)
            batch = Batch(torch.stack(pixels), padding, [Place(height, width, height, width)] * len(good), list(targets))
            for part in parsed.batch:
                batch = part(batch, rng)
            ids = {name: number for record, _ in good for name, number, _ in _labels(record)}
            for (record, _), image, target in zip(good, batch.images, batch.targets or (), strict=True):
                out = np.ascontiguousarray(image.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())
                yield _made(record, k + 1, out, {"annotations": None, "segmentation_map": None, "labels": _weighted(target, names, ids)})


def _groups(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Up to TOGETHER and one more, so that none is left alone."""
    group: list[Record] = []
    for record in records:
        if len(group) > TOGETHER:
            yield group[:TOGETHER]
            group = group[TOGETHER:]
        group.append(record)
    if group:
        yield group


def _labels(record: Record) -> list[tuple[str, Any, float]]:
    """(name, id, weight) of a picture's classes; weights sum to 1."""
    known = record.get("labels") or ()
    found = [(str(entry.get("category", entry.get("category_id"))), entry.get("category_id")) for entry in known]
    return [(name, number, 1 / len(found)) for name, number in found] or [(Path(record.name).stem, None, 1.0)]


def _weighted(target: Labels, names: Sequence[str], ids: dict[str, Any]) -> list[dict[str, Any]]:
    """Labels for people, the heaviest first, each class once."""
    weights = torch.zeros(len(names)).index_add_(0, target.labels, target.scores)
    order = [i for i in weights.argsort(descending=True).tolist() if weights[i] > 0]
    return [
        {"category": names[i], "score": round(weights[i].item(), 4)} | ({"category_id": ids[names[i]]} if ids[names[i]] is not None else {})
        for i in order
    ]


def _made(record: Record, number: int, pixels: np.ndarray, changes: dict[str, Any]) -> Varied:
    """The record of a picture made of another's."""
    old = Path(str(record.get("file_name") or f"{record.get('id', 'image')}.png"))
    name = str(old.with_name(f"{'stdin' if str(old) == '-' else old.stem}-{number}{old.suffix or '.png'}"))
    other = Varied(record.changed(**changes, id=None, page=None, file_name=name, width=pixels.shape[1], height=pixels.shape[0]))
    other.__dict__.update(record.__dict__)
    other.array, other.origin, other.data = pixels, record.get("file_name"), None
    return other
