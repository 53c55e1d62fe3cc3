"""What one output of a stack of convolutions reads: how the field grows when each layer is dilated more than the one before.

Yu 2015 (arXiv:1511.07122), section 2: rates 1, 2, 4, .. double it with every layer, and no cell is lost; the map keeps its size.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from cvtool.errors import UsageError
from cvtool.render.canvas import Canvas
from cvtool.render.figures._heat import cells, heat
from cvtool.render.figures._page import Panel, numbers, page
from cvtool.render.palette import Colour

PICTURE = False
OPTIONS = {"rates": {"default": "1,2,4", "metavar": "R,R,...", "help": "dilation of each 3 x 3 layer, the first first"}}
SIDE, MOST = 400, 127  # pixels of a panel, cells that can be drawn
FRAME: Colour = (120, 210, 255)


def paths(rates: list[int]) -> np.ndarray:
    """Along one axis: by how many ways each input cell reaches the middle output; as long as the field. It is the gradient of kernels of ones."""
    line = np.ones(1)
    for rate in reversed(rates):
        kernel = np.zeros(2 * rate + 1)
        kernel[[0, rate, 2 * rate]] = 1
        line = np.convolve(line, kernel)
    return line


def figure(*, rates: str) -> Image.Image:
    """The field of each layer's output, and that of as many layers without dilation."""
    found = numbers(rates, "rates")
    if any(rate != int(rate) for rate in found) or len(found) > 6:
        raise UsageError("--rates takes up to six whole numbers, such as 1,2,4")
    steps = [int(rate) for rate in found]
    side = len(paths(steps))
    if side > MOST:
        raise UsageError(f"--rates {rates}: a field of {side} x {side} cells; {MOST} can be drawn", hint="smaller or fewer rates")
    chosen = [steps[: i + 1] for i in range(len(steps))]
    panels = [_panel(some, side, f"behind layer {len(some)}") for some in chosen[-3:]]
    plain = [1] * len(steps)
    if plain != steps:
        panels.append(_panel(plain, side, "without dilation"))
    subtitle = f"3 x 3 layers at rates {', '.join(map(str, steps))}: 9 weights each at every rate; the colour counts the ways to the output"
    return page("Receptive field", subtitle, panels)


def _panel(rates: list[int], side: int, title: str) -> Panel:
    line = paths(rates)
    field = len(line)
    counts = np.zeros((side, side))
    first = (side - field) // 2
    counts[first : first + field, first : first + field] = np.outer(line, line)
    image = cells(heat(np.log1p(counts), 0), SIDE, gap=1)
    zoom = image.width // side
    canvas = Canvas(image)
    canvas.ring(first * zoom, first * zoom, (first + field) * zoom, (first + field) * zoom, 2, FRAME)
    read = int((line > 0).sum())
    holes = "every cell of it is read" if read == field else f"only {read * read} of its {field * field} cells are read"
    lines: list[tuple[str, Colour | None]] = [
        (f"rates {', '.join(map(str, rates))}: {field} x {field} cells", FRAME),
        (f"{len(rates)} x 9 = {9 * len(rates)} weights; {holes}", None),
        (f"at most {counts.max():.0f} ways", None),
    ]
    return Panel(image, title, lines)
