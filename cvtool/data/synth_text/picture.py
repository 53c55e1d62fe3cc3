"""A made-up picture of many words and what is known of it, as a record says it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from cvtool.data.formats._words import SPARED, word

LOWEST = 7.5  # pixels: words that are less high cannot be read


@dataclass(frozen=True)
class Picture:
    """pixels: H W 3 uint8. annotations: COCO's, one a word. text: all of it in reading order, where it has one. quality: of its JPEG."""

    pixels: np.ndarray
    annotations: list[dict[str, Any]] = field(default_factory=list)
    text: str | None = None
    quality: int = 90

    def record(self) -> dict[str, Any]:
        """The keys of a record."""
        height, width = self.pixels.shape[:2]
        found: dict[str, Any] = {"width": width, "height": height, "annotations": self.annotations}
        return found if self.text is None else found | {"text": self.text}

    def jpeg(self) -> bytes:
        image = Image.fromarray(self.pixels)
        if (self.pixels[..., :1] == self.pixels[..., 1:]).all():
            image = image.convert("L")
        file = io.BytesIO()
        image.save(file, format="JPEG", quality=self.quality)
        return file.getvalue()


def annotation(quad: np.ndarray, text: str, **more: int) -> dict[str, Any]:
    """A word. quad: 4 2, pixels, clockwise from where reading begins. A word too low to read is `###` and a crowd: it need not be found."""
    lowest = min(float(np.hypot(*(quad[0] - quad[3]))), float(np.hypot(*(quad[1] - quad[2]))))
    spared = lowest < LOWEST
    return word([round(v, 2) for v in quad.ravel().tolist()], SPARED if spared else text, spared=spared, **more)


def corners(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """4 2: a box's corners, clockwise from the upper left."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)
