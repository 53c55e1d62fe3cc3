"""What was read in a picture: words outlined where they stand, and beside it the same page set anew from what was read.

Tags on dozens of words would hide what they are of. Words that were read surely are dark, others turn red.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from cvtool.render import palette
from cvtool.render.text import clean, font_for

MANY = 12  # words from which on tags would hide them
SURE = (24, 24, 24)
UNSURE = (200, 0, 0)
LEAST = 6  # pixels: letters under it are not set


def is_reading(annotations: Sequence[dict[str, Any]]) -> bool:
    """Whether these are the words of a page: many, each with its text and its corners."""
    return len(annotations) >= MANY and all(isinstance(a.get("text"), str) and _corners(a) is not None for a in annotations)


def draw(picture: Image.Image, annotations: Sequence[dict[str, Any]], scale: float) -> Image.Image:
    """picture: as large as the drawing; it lies at the left top. scale: pixels of it to one of the annotations'."""
    gap = max(4, picture.width // 120)
    sheet = Image.new("RGB", (2 * picture.width + gap, picture.height), "white")
    sheet.paste(picture, (0, 0))
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((picture.width, 0, picture.width + gap - 1, picture.height), fill=palette.INK)
    width = max(1, round(math.sqrt(picture.width * picture.height) / 900))
    for annotation in annotations:
        corners = [(x * scale, y * scale) for x, y in _corners(annotation) or ()]
        text = clean(annotation["text"])
        colour = palette.colour(str(annotation.get("category", "text")))
        pen.line([*corners, corners[0]], fill=colour, width=width, joint="curve")
        if text:
            _set(sheet, text, [(x + picture.width + gap, y) for x, y in corners], _ink(annotation.get("score")))
    return sheet


def _corners(annotation: dict[str, Any]) -> list[tuple[float, float]] | None:
    shape, box = annotation.get("segmentation"), annotation.get("bbox")
    if isinstance(shape, list) and len(shape) == 1 and len(shape[0]) == 8:
        return list(zip(map(float, shape[0][::2]), map(float, shape[0][1::2]), strict=True))
    if isinstance(box, list) and len(box) == 4:
        x, y, w, h = map(float, box)
        return [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
    return None


def _ink(score: Any) -> tuple[int, int, int]:
    """Dark for sure, red for unsure; half as sure as can be is red already."""
    share = 0.0 if not isinstance(score, int | float) else min(max(2 * (1 - float(score)), 0.0), 1.0)
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(SURE, UNSURE, strict=True))
    return red, green, blue


def _set(sheet: Image.Image, text: str, corners: Sequence[tuple[float, float]], ink: tuple[int, int, int]) -> None:
    """The text between four corners, turned as they are, as large as fits."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = corners
    wide, high = (math.dist(*pair) for pair in (((ax, ay), (bx, by)), ((ax, ay), (dx, dy))))
    left, top, right, bottom = font_for(text, 100).getbbox(text)
    size = int(min(82 * high / max(bottom - top, 1), 95 * wide / max(right - left, 1), high))
    if size < LEAST:
        return
    font = font_for(text, size)
    left, top, right, bottom = font.getbbox(text)
    mask = Image.new("L", (max(1, int(right - left) + 2), max(1, int(bottom - top) + 2)))
    ImageDraw.Draw(mask).text((1 - left, 1 - top), text, fill=255, font=font)
    turn = math.degrees(math.atan2(by - ay, bx - ax))
    if turn:
        mask = mask.rotate(-turn, expand=True, resample=Image.Resampling.BICUBIC)
    middle = (ax + bx + cx + dx) / 4, (ay + by + cy + dy) / 4
    sheet.paste(ink, (round(middle[0] - mask.width / 2), round(middle[1] - mask.height / 2)), mask)
