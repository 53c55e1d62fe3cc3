"""Setting type: the characters of a line side by side, with the places they have."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cvtool.data.synth_text.fonts import Face


class Line(NamedTuple):
    pixels: np.ndarray  # H W uint8: ink, over the line's full height (ascent and descent) and beyond where a character goes beyond
    boxes: np.ndarray  # N 4 float32: x0, y0, x1, y1 of each character's ink; blanks have none (zero wide)
    ascent: float  # row of the upper edge of the line's own height ...
    height: float  # ... and that height

    @property
    def ink(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 around all ink."""
        boxes = self.boxes[self.boxes[:, 2] > self.boxes[:, 0]]
        return int(boxes[:, 0].min()), int(boxes[:, 1].min()), int(boxes[:, 2].max()), int(boxes[:, 3].max())


def typeset(face: Face, text: str, *, spacing: float = 0.0, kerning: bool = True) -> Line:
    """A line of text. spacing: pixels more between two characters. Raises ValueError for a character that the font lacks, and for none but blanks."""
    pen = 0.0
    places: list[tuple[int, int, np.ndarray | None]] = []
    for i, character in enumerate(text):
        if character == " ":
            places.append((round(pen), 0, None))
            pen += face.space + spacing
            continue
        glyph = face.glyph(character)
        if glyph is None:
            raise ValueError(f"{face.path} has no {character!r}")
        if kerning and i and text[i - 1] != " ":
            pen += face.kern(text[i - 1 : i + 1])
        places.append((round(pen) + glyph.left, glyph.top, glyph.pixels))
        pen += glyph.advance + spacing
    inked = [(x, y, p) for x, y, p in places if p is not None]
    if not inked:
        raise ValueError("a line of blanks")
    left, top = min(x for x, _, _ in inked), min(0, *(y for _, y, _ in inked))
    right = max(x + p.shape[1] for x, _, p in inked)
    bottom = max(face.ascent + face.descent, *(y + p.shape[0] for _, y, p in inked))
    canvas = np.zeros((bottom - top, right - left), np.uint8)
    boxes = np.zeros((len(places), 4), np.float32)
    for n, (x, y, pixels) in enumerate(places):
        x, y = x - left, y - top
        if pixels is None:
            boxes[n] = x, y, x, y
            continue
        height, width = pixels.shape
        part = canvas[y : y + height, x : x + width]
        np.maximum(part, pixels, out=part)
        boxes[n] = x, y, x + width, y + height
    return Line(canvas, boxes, float(-top), float(face.ascent + face.descent))
