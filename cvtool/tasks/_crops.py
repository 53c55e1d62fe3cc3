"""A picture of each object found."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvtool.data.names import Names
from cvtool.images import encoded
from cvtool.records import Record


class Crops:
    """A picture of each object: FOLDER/CATEGORY/NAME_N.jpg, N counting from 1 in the record's order."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.names = folder, Names()

    def save(self, record: Record, pixels: np.ndarray) -> None:
        """Write the objects of one record. An object without a pixel inside the picture has none."""
        from PIL import Image

        name = self.names.take(record, suffix="")
        height, width = pixels.shape[:2]
        for number, entry in enumerate(record.get("annotations") or (), 1):
            x, y, w, h = entry["bbox"]
            left, top = max(0, int(np.floor(x))), max(0, int(np.floor(y)))
            right, bottom = min(width, int(np.ceil(x + w))), min(height, int(np.ceil(y + h)))
            if right <= left or bottom <= top:
                continue
            folder = self.folder / plain_name(str(entry.get("category", entry.get("category_id", "object"))))
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{name}_{number}.jpg"
            temporary = path.with_name(f".{path.name}.tmp")
            try:
                temporary.write_bytes(encoded(Image.fromarray(pixels[top:bottom, left:right]), "JPEG", {"quality": 95}))
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise


def plain_name(text: str) -> str:
    """A category's name as the name of a folder: no separators, no leading dot."""
    return "".join("_" if c in '/\\:*?"<>|' or ord(c) < 32 else c for c in text).strip(". ") or "object"
