"""The k anchors that a region proposal network keeps at one place of its feature map.

Ren 2015 (arXiv:1506.01497), section 3.1.1: three sizes and three shapes, k = 9, at every place of a map of stride 16.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from cvtool.errors import UsageError
from cvtool.render import text
from cvtool.render.canvas import Canvas
from cvtool.render.figures._page import Panel, numbers, page, positive
from cvtool.render.palette import INK, WHITE, Colour, instance

OPTIONS = {
    "stride": {"default": 16, "metavar": "N", "help": "pixels between places"},
    "scales": {"default": "128,256,512", "metavar": "N,N,...", "help": "side of the square of the same area, in pixels"},
    "ratios": {"default": "0.5,1,2", "metavar": "R,R,...", "help": "height / width"},
    "cell": {"default": "middle", "metavar": "X,Y", "help": "the place, counted from 0"},
}
SIDE = 1000  # pixels of the longer side, about


def shapes(scales: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """The anchors of one place, centred on (0, 0): k 4 xyxy, ratio by ratio, corners rounded. Area scale^2, height / width = ratio."""
    s, r = np.asarray(scales, np.float32), np.sqrt(np.asarray(ratios, np.float32))
    widths, heights = (np.float32(1) / r[:, None] * s).ravel(), (r[:, None] * s).ravel()
    return np.round(np.stack([-widths, -heights, widths, heights], axis=1) / 2)


def figure(picture: np.ndarray, *, stride: int, scales: str, ratios: str, cell: str) -> Image.Image:
    """The anchors over the picture, which is set in a margin where they leave it, and a table of their sizes."""
    sizes, forms = numbers(scales, "scales"), numbers(ratios, "ratios")
    if len(sizes) * len(forms) > 60 or max(sizes) > 10_000 or not 0.01 <= min(forms) <= max(forms) <= 100:
        raise UsageError("at most 60 anchors can be drawn, of scales to 10000 and ratios from 0.01 to 100")
    positive(stride, "stride", 4096)
    height, width = picture.shape[:2]
    columns, rows = -(-width // stride), -(-height // stride)
    column, row = (columns // 2, rows // 2) if cell == "middle" else (int(v) for v in numbers(cell, "cell", 2, above=-1))
    if column >= columns or row >= rows:
        raise UsageError(f"--cell {cell}: the map has {columns} x {rows} places")
    centre = np.array([column * stride, row * stride] * 2, np.float32)
    anchors = shapes(sizes, forms)
    drawn = _draw(picture, anchors + centre, sizes, stride, centre)
    title = f"{len(anchors)} anchors a place"
    subtitle = f"at ({column}, {row}) of {columns} x {rows} places of stride {stride}: {columns * rows * len(anchors):,} anchors in all"
    lines: list[tuple[str, Colour | None]] = []
    for i, size in enumerate(sizes):
        each = [anchors[j * len(sizes) + i] for j in range(len(forms))]
        words = ", ".join(f"{box[2] - box[0]:.0f} x {box[3] - box[1]:.0f}" for box in each)
        lines.append((f"scale {size:g}: {words}", instance(i)))
    lines.append((f"width x height of the ratios {', '.join(f'{form:g}' for form in forms)}", None))
    return page(title, subtitle, [Panel(drawn, "", lines)])


def _draw(picture: np.ndarray, boxes: np.ndarray, sizes: Sequence[float], stride: int, centre: np.ndarray) -> Image.Image:
    height, width = picture.shape[:2]
    low = np.minimum(np.floor(boxes[:, :2].min(0)) - 6, 0)
    high = np.maximum(np.ceil(boxes[:, 2:].max(0)) + 6, (width, height))
    zoom = SIDE / float((high - low).max())
    shape = [max(1, round(float(v) * zoom)) for v in high - low]
    canvas = Canvas(Image.new("RGB", (shape[0], shape[1]), (32, 34, 39)))
    ground = Image.fromarray(picture).resize((max(1, round(width * zoom)), max(1, round(height * zoom))), Image.Resampling.LANCZOS)
    x0, y0 = (round(float(-v) * zoom) for v in low)
    canvas.image.paste(ground.point(lambda v: round(v * 0.8)), (x0, y0))
    if stride * zoom >= 5:
        for x in range(0, width, stride):
            canvas.fill(x0 + round(x * zoom), y0, x0 + round(x * zoom) + 1, y0 + ground.height, WHITE, 0.13)
        for y in range(0, height, stride):
            canvas.fill(x0, y0 + round(y * zoom), x0 + ground.width, y0 + round(y * zoom) + 1, WHITE, 0.13)
    placed = np.round((boxes - np.concatenate([low, low])) * zoom).astype(int)
    tags = []
    for i in np.argsort(-(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), kind="stable"):
        colour = instance(int(i) % len(sizes))
        left, top, right, bottom = (int(v) for v in placed[i])
        canvas.ring(left - 1, top - 1, right + 1, bottom + 1, 5, INK, opacity=0.4)
        canvas.ring(left, top, right, bottom, 3, colour)
        words = f"{boxes[i, 2] - boxes[i, 0]:.0f} x {boxes[i, 3] - boxes[i, 1]:.0f}"
        tags.append(text.Tag(words, colour, (left, top, right, bottom), 14))
    text.place(tags, canvas.size)
    for tag in tags:
        text.draw_tag(canvas, tag)
    middle = [float(v) * zoom for v in centre[:2] - low]
    canvas.disc(middle[0], middle[1], 6, INK)
    canvas.disc(middle[0], middle[1], 4.5, WHITE)
    return canvas.image
