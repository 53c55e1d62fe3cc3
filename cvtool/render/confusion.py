"""A confusion matrix as a picture: rows are the true classes, columns what was found, each cell the share of its row."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from cvtool.render.text import clean

SCALE = 2  # drawn twice as large and shrunk, for smooth letters
MOST = 1800  # pixels of the matrix's side
INK, FAINT, DEEP = (33, 37, 41), (134, 142, 150), (16, 74, 158)


def draw(
    names: Sequence[str],
    matrix: Sequence[Sequence[int]],
    *,
    none: Sequence[int] | None = None,
    background: Sequence[int] | None = None,
    title: str = "",
) -> Image.Image:
    """names: of the K classes; matrix: K x K counts; none: of each row what was found to be no class, a last column if there is any;
    background: of each column what was found where no class is, a last row if there is any.

    Cells name their share in percent where they are large enough.
    """
    columns = [clean(name) for name in names]
    rows = [[*row] for row in matrix]
    if none is not None and any(none):
        columns.append("none")
        rows = [[*row, other] for row, other in zip(rows, none, strict=True)]
    lines = columns[: len(rows)]
    if background is not None and any(background):
        lines.append("background")
        rows.append([*background, *[0] * (len(columns) - len(background))])
    cell = max(4, min(56, MOST // len(columns)))
    size = max(7, min(15, round(cell * 0.45)))
    font, small, large = (ImageFont.load_default(points * SCALE) for points in (size, max(7, size - 2), 17))
    labels = cell >= 9
    width = max(font.getlength(name) for name in (*columns, *lines)) / SCALE if labels else 0
    left, top = round(min(width, 220)) + 34, round(min(width, 220)) + 62
    out = Image.new("RGB", ((left + cell * len(columns) + 24) * SCALE, (top + cell * len(rows) + 24) * SCALE), "white")
    pen = ImageDraw.Draw(out)
    pen.text((16 * SCALE, 12 * SCALE), title, fill=INK, font=large)
    pen.text((16 * SCALE, 36 * SCALE), "rows: true, columns: found; per cent of the row", fill=FAINT, font=ImageFont.load_default(12 * SCALE))
    for i, row in enumerate(rows):
        total = sum(row)
        for j, count in enumerate(row):
            share = count / total if total else 0.0
            x, y = (left + j * cell) * SCALE, (top + i * cell) * SCALE
            pen.rectangle([x, y, x + cell * SCALE - SCALE, y + cell * SCALE - SCALE], fill=_between((244, 246, 248), DEEP, share**0.7))
            if cell >= 26 and count:
                text = f"{100 * share:.0f}" if share >= 0.005 else "·"
                fill = (255, 255, 255) if share > 0.45 else INK
                pen.text((x + cell * SCALE / 2, y + cell * SCALE / 2), text, fill=fill, font=small, anchor="mm")
        if labels:
            pen.text(((left - 8) * SCALE, (top + (i + 0.5) * cell) * SCALE), _short(lines[i], font, 220), fill=INK, font=font, anchor="rm")
    for j, name in enumerate(columns) if labels else ():
        _upright(out, _short(name, font, 220), font, round((left + (j + 0.5) * cell) * SCALE), (top - 8) * SCALE)
    return out.resize((out.width // SCALE, out.height // SCALE), Image.Resampling.LANCZOS)


def _between(one: tuple[int, ...], other: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(round(a + (b - a) * share) for a, b in zip(one, other, strict=True))


def _short(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, room: int) -> str:
    while len(text) > 1 and font.getlength(text) > room * SCALE:
        text = text[:-2] + "…"
    return text


def _upright(out: Image.Image, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, x: int, bottom: int) -> None:
    """Text that reads upwards, centred on x, ending above `bottom`."""
    strip = Image.new("L", (round(font.getlength(text)) + 4, round(getattr(font, "size", 10) * 1.4)))
    ImageDraw.Draw(strip).text((0, strip.height // 2), text, fill=255, font=font, anchor="lm")
    turned = strip.rotate(90, expand=True)
    out.paste(INK, (x - turned.width // 2, bottom - turned.height), turned)
