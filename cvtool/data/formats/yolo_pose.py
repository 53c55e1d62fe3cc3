"""YOLO with keypoints: what `yolo` reads by itself, written with keypoints in the label lines."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cvtool.data.formats import yolo
from cvtool.data.formats.yolo import HOLDS as HOLDS
from cvtool.data.formats.yolo import HOLDS_OF_CATEGORIES as HOLDS_OF_CATEGORIES
from cvtool.data.formats.yolo import HOLDS_OF_OBJECTS as HOLDS_OF_OBJECTS
from cvtool.data.formats.yolo import categories as categories
from cvtool.data.formats.yolo import read as read
from cvtool.data.formats.yolo import splits as splits
from cvtool.records import Record

DESCRIPTION = "YOLO with keypoints (to write; `yolo` reads it)"
SUFFIX = None
ORDER = 21


def recognises(path: Path) -> bool:
    """Never: `yolo` knows what a label line holds."""
    return False


def write(records: Iterable[Record], out: Path, *, split: str = "train", copy_images: bool = False, **options: object) -> list[str]:
    """As `yolo.write`."""
    return yolo.write(records, out, split=split, copy_images=copy_images, task="pose")
