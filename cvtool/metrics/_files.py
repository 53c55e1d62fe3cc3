"""A pair of clean COCO files scored without one Python object an annotation: hotcoco's own parser reads them.

"Clean" is proved, not hoped for: every annotation has the keys that scoring needs (counted in the bytes of the file), no value is null, all
ids are known, annotation ids are unique and not 0. hotcoco's parser itself refuses NaN, ids that are no whole numbers and boxes that are
not four numbers. Whatever fails a test goes the long way, through `cvtool.metrics._entries`, which repairs it or names the entry.
"""

from __future__ import annotations

import mmap
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvtool.metrics.coco import pick_backend

GROWTH = 7  # times its size, the memory of a file in the engine; measured of COCO results of boxes
_CHUNK = 1 << 18  # bytes; small enough to stay in a core's cache while every key is counted in it
_IDS = re.compile(rb'"image_id"\s*:\s*(\d+)')
_CATEGORIES = re.compile(rb'"category_id"\s*:\s*(\d+)')
_NEGATIVE = re.compile(rb'"score"\s*:\s*-|"bbox"\s*:\s*\[[^,\]]*,[^,\]]*,\s*(?:-|[^,\]]*,\s*-)')  # a score, a width or a height
_SIZES = re.compile(rb'"size"\s*:\s*\[\s*(\d+)\s*,\s*(\d+)\s*\]')


@dataclass
class Clean:
    """Two files that may be scored as they stand: hotcoco's objects, and what a report says of them."""

    truth: Any
    found: Any
    categories: list[dict]
    images: int
    annotations: int
    detections: int
    images_with_detections: int
    per_image: int  # the most detections of one image
    path: Path

    def within(self, category_ids: Sequence[int] | None) -> tuple[int, int]:
        """(annotations, detections) of these categories, of all without any."""
        if category_ids is None:
            return self.annotations, self.detections
        return len(self.truth.get_ann_ids(cat_ids=list(category_ids))), len(self.found.get_ann_ids(cat_ids=list(category_ids)))

    def dropped(self, limit: int, category_ids: Sequence[int] | None) -> int:
        """Detections beyond the best `limit` of their image and category."""
        if self.per_image <= limit:
            return 0
        data = self.path.read_bytes()
        pairs = Counter(zip(_IDS.findall(data), _CATEGORIES.findall(data), strict=True))
        wanted = None if category_ids is None else {str(i).encode() for i in category_ids}
        return sum(count - limit for (_, category), count in pairs.items() if count > limit and (wanted is None or category in wanted))


def open_clean(gt: Path, dt: Path, iou_type: str, backend: str) -> Clean | None:
    """The two files, or None where something about them needs a closer look, or another engine was asked for."""
    if iou_type == "keypoints" or pick_backend(backend) != "hotcoco" or _start(gt)[:1] != b"{" or _start(dt)[:1] != b"[":
        return None
    if (size := max(gt.stat().st_size, dt.stat().st_size)) > 64 * 1024**2:
        from cvtool.data.sides import room

        if size > room(GROWTH):  # the long way, which needs more, refuses it and says so
            return None
    # results: masks come without boxes, for with a box the areas would be the boxes'
    if b'"category"' in _start(dt):  # names, which outrank the ids
        return None
    shape, boxed = (b'"bbox"', ()) if iou_type == "bbox" else (b'"segmentation"', (b'"bbox"',))
    counts = _count(dt, b'"score"', shape, b"-", *boxed)
    if counts is None or counts[0] != counts[1] or counts[0] == 0 or any(counts[3:]):  # a mask beside a box would get the box's area
        return None
    if (counts[2] and _NEGATIVE.search(dt.read_bytes())) or _repeats(dt):
        return None
    listed = _count(gt, b'"file_name"', b'"ignore"', b'"area"', b'"bbox"', b'"iscrowd"', *([] if iou_type == "bbox" else [b'"segmentation"']))
    if listed is None or listed[1] or len(set(listed[2:])) > 1:
        return None
    import hotcoco

    try:
        with _muted():
            truth = hotcoco.COCO(str(gt))
            ids = truth.get_ann_ids()
            if len(ids) != listed[2] or 0 in ids or truth.load_warnings:
                return None
            found = truth.load_res(str(dt))
    except (ValueError, TypeError, KeyError, OSError):
        return None
    clean = _proved(truth, found, counts[0], len(ids), listed[0], dt)
    return None if clean is not None and iou_type == "segm" and not _sizes_fit(dt, truth, counts[0]) else clean


def _proved(truth: Any, found: Any, detections: int, annotations: int, names: int, dt: Path) -> Clean | None:
    """What the parser has read, if every id in it is known; `names` is how many file names the ground truth holds."""
    images, table = truth.get_img_ids(), truth.cats
    known = len(truth.get_ann_ids(img_ids=images)) == annotations == len(truth.get_ann_ids(cat_ids=list(table)))
    if not known or len(set(images)) < len(images) or names not in (0, len(images)) or not table or found.load_warnings:
        return None
    each = [len(found.get_ann_ids(img_ids=[image])) for image in images]
    if sum(each) != detections:
        return None
    return Clean(
        truth=truth,
        found=found,
        categories=[table[i] for i in sorted(table)],
        images=len(images),
        annotations=annotations,
        detections=detections,
        images_with_detections=sum(count > 0 for count in each),
        per_image=max(each, default=0),
        path=dt,
    )


def _sizes_fit(dt: Path, truth: Any, detections: int) -> bool:
    """Whether every mask has its image's size; against another size hotcoco and pycocotools find no overlap and say nothing."""
    data = dt.read_bytes()
    owners, sizes = _IDS.findall(data), _SIZES.findall(data)
    if not len(owners) == len(sizes) == detections:
        return False
    images = truth.imgs
    return all((int(h), int(w)) == (images[int(i)].get("height"), images[int(i)].get("width")) for i, (h, w) in set(zip(owners, sizes, strict=True)))


def _repeats(path: Path) -> bool:
    """Whether some entry stands twice: of three of them, which is what tells two copies of one run joined. From one `"image_id"` to the next."""
    key = b'"image_id"'
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for near in (0, len(data) // 3, len(data) // 3 * 2):
            first = data.find(key, near)
            end = data.find(key, first + 1) if first >= 0 else -1
            if end > 0 and data.find(data[first:end], end) >= 0:
                return True
    return False


def _start(path: Path) -> bytes:
    """The first 64 KB without leading white space; nothing where there is no such file."""
    try:
        with path.open("rb") as file:
            return file.read(1 << 16).lstrip()
    except OSError:
        return b""


def _count(path: Path, *keys: bytes) -> list[int] | None:
    """How often each key occurs in the file, in constant memory; None where a value is null."""
    counts, overlap, tail = [0] * len(keys), max(map(len, (*keys, b"null"))) - 1, b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            chunk = tail + chunk
            tail = chunk[-overlap:]
            if b"n" in chunk and b"null" in chunk:  # one letter is found ten times faster, and boxes have none
                return None
            for i, key in enumerate(keys):  # what lies wholly in the tail is counted with the next chunk
                counts[i] += chunk.count(key) - tail.count(key)
    return [count + tail.count(key) for count, key in zip(counts, keys, strict=True)]


@contextmanager
def _muted() -> Iterator[None]:
    """Keeps what hotcoco's native code writes straight to file descriptor 2 off the terminal; other lines are passed on afterwards."""
    with tempfile.TemporaryFile() as kept:
        own = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(own, 2)
            os.close(own)
            kept.seek(0)
            for line in _not_hotcocos(kept.read().splitlines(keepends=True)):
                os.write(2, line)


def _not_hotcocos(lines: Sequence[bytes]) -> list[bytes]:
    return [line for line in lines if not line.startswith(b"hotcoco:")]
