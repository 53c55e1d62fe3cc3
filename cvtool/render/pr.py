"""Precision over recall of each class as a picture, the best F1 of each marked on its curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from cvtool.render.curves import COLOURS
from cvtool.render.text import clean

SCALE = 2  # drawn twice as large and shrunk, for smooth lines
SIDE, LEFT, TOP, BOTTOM, LEGEND = 460, 64, 80, 48, 330
INK, FAINT, GRID, PALE = (33, 37, 41), (134, 142, 150), (233, 236, 239), (206, 212, 218)


def draw(classes: Mapping[str, Mapping[str, Any]], *, title: str = "", note: str = "") -> Image.Image:
    """classes: name -> `recall`, `precision` and `score` (equally long, recall rising), `objects`, `area`, `best_F1`, `best_score` (or None).

    The classes with the most objects have colours and stand in the legend; the others are gray.
    """
    out = Image.new("RGB", ((LEFT + SIDE + LEGEND) * SCALE, (TOP + SIDE + BOTTOM) * SCALE), "white")
    pen = ImageDraw.Draw(out)
    large, font, small = (ImageFont.load_default(points * SCALE) for points in (17, 13, 12))
    pen.text((16 * SCALE, 12 * SCALE), clean(title), fill=INK, font=large)
    pen.text((16 * SCALE, 36 * SCALE), clean(note), fill=FAINT, font=small)
    for step in range(11):
        x, y = _place(step / 10, step / 10)
        pen.line([(LEFT * SCALE, y), ((LEFT + SIDE) * SCALE, y)], fill=GRID, width=SCALE)
        pen.line([(x, TOP * SCALE), (x, (TOP + SIDE) * SCALE)], fill=GRID, width=SCALE)
        if step % 2 == 0:
            pen.text(((LEFT - 8) * SCALE, y), f"{step / 10:.1f}", fill=FAINT, font=small, anchor="rm")
            pen.text((x, (TOP + SIDE + 7) * SCALE), f"{step / 10:.1f}", fill=FAINT, font=small, anchor="mt")
    pen.text(((LEFT + SIDE) * SCALE, (TOP + SIDE + 26) * SCALE), "recall", fill=INK, font=small, anchor="rt")
    pen.text((16 * SCALE, (TOP - 8) * SCALE), "precision", fill=INK, font=small, anchor="lb")
    shown = [name for name in classes if classes[name]["objects"]]
    first = sorted(shown, key=lambda name: -classes[name]["objects"])[: len(COLOURS)]
    colours: dict[str, Any] = dict(zip(first, COLOURS, strict=False))
    for name in sorted(shown, key=lambda name: name in colours):  # coloured ones above gray ones
        _curve(pen, classes[name], colours.get(name, PALE), 2 if name in colours else 1)
    left, top = (LEFT + SIDE + 22) * SCALE, TOP * SCALE
    for name in first:
        row = classes[name]
        pen.line([(left, top + 8 * SCALE), (left + 18 * SCALE, top + 8 * SCALE)], fill=colours[name], width=3 * SCALE)
        pen.text((left + 26 * SCALE, top), _short(clean(name), font), fill=INK, font=font)
        words = f"area {row['area']:.3f}" if row.get("area") is not None else ""
        if row.get("best_F1") is not None:
            words += f"{', ' if words else ''}best F1 {row['best_F1']:.3f} from {row['best_score']:.2f}"
        pen.text((left + 26 * SCALE, top + 17 * SCALE), words or "nothing found", fill=FAINT, font=small)
        top += 42 * SCALE
    if len(shown) > len(first):
        more = len(shown) - len(first)
        pen.text((left, top), f"{more} more {'class' if more == 1 else 'classes'} in gray", fill=FAINT, font=small)
    return out.resize((out.width // SCALE, out.height // SCALE), Image.Resampling.LANCZOS)


def _curve(pen: ImageDraw.ImageDraw, row: Mapping[str, Any], colour: Any, width: int) -> None:
    points = [_place(x, y) for x, y in zip(row["recall"], row["precision"], strict=True)]
    if not points:
        return
    points = [_place(0.0, row["precision"][0]), *points]
    pen.line(points, fill=colour, width=width * SCALE, joint="curve")
    if row.get("best_score") is None or width == 1:
        return
    best = min(range(len(row["score"])), key=lambda i: abs(row["score"][i] - row["best_score"]))
    x, y = _place(row["recall"][best], row["precision"][best])
    pen.ellipse([x - 4 * SCALE, y - 4 * SCALE, x + 4 * SCALE, y + 4 * SCALE], fill=colour, outline="white", width=SCALE)


def _place(recall: float, precision: float) -> tuple[float, float]:
    return (LEFT + recall * SIDE) * SCALE, (TOP + (1 - precision) * SIDE) * SCALE


def _short(text: str, font: Any) -> str:
    while len(text) > 1 and font.getlength(text) > (LEGEND - 60) * SCALE:
        text = text[:-2] + "…"
    return text
