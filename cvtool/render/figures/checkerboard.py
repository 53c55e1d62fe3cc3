"""The checkerboard of a transposed convolution: where its kernels overlap unevenly, some pixels get more than others.

Each input adds a whole kernel to the output, `stride` pixels from its neighbour's. Odena 2016 (distill.pub/2016/deconv-checkerboard).
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from cvtool.errors import UsageError
from cvtool.render.figures._heat import cells, heat
from cvtool.render.figures._page import Panel, page, positive
from cvtool.render.palette import Colour

PICTURE = False
OPTIONS = {
    "kernel": {"default": 3, "metavar": "N", "help": "side of the kernel"},
    "stride": {"default": 2, "metavar": "N", "help": "pixels between two inputs' kernels"},
    "count": {"default": 8, "metavar": "N", "help": "inputs a side"},
}
SIDE = 520


def overlaps(inputs: int, kernel: int, stride: int) -> np.ndarray:
    """How many inputs write on each output: n n, n = (inputs - 1) stride + kernel."""
    line = np.zeros((inputs - 1) * stride + kernel, int)
    for i in range(inputs):
        line[i * stride : i * stride + kernel] += 1
    return np.outer(line, line)


def figure(*, kernel: int, stride: int, count: int) -> Image.Image:
    """The counts for that kernel, and for the nearest one that the stride divides."""
    positive(kernel, "kernel", 16), positive(stride, "stride", 8), positive(count, "count", 24)
    if kernel < stride:
        raise UsageError(f"--kernel {kernel}: at a stride of {stride} it leaves pixels that nothing writes on")
    even = -(-kernel // stride) * stride
    panels = [_panel(kernel, stride, count)]
    if even != kernel:
        panels.append(_panel(even, stride, count))
    subtitle = f"{count} x {count} ones through kernels of ones: every output is the number of inputs that write on it"
    return page("Transposed convolution and its checkerboard", subtitle, panels)


def _panel(kernel: int, stride: int, inputs: int) -> Panel:
    counts = overlaps(inputs, kernel, stride)
    words = [[str(value) for value in row] for row in counts] if len(counts) <= 26 else None
    border = kernel - 1
    middle = counts[border : len(counts) - border, border : len(counts) - border] if len(counts) > 2 * border else counts
    found = sorted({int(v) for v in middle.ravel()})
    lines: list[tuple[str, Colour | None]] = [
        (f"output {len(counts)} x {len(counts)} = ({inputs} - 1) x {stride} + {kernel} a side", None),
        (f"away from the border a pixel gets {', '.join(map(str, found))} contribution{'s' * (found != [1])}", None),
        (f"{stride} does not divide {kernel}: uneven" if kernel % stride else f"{stride} divides {kernel}: even", None),
    ]
    return Panel(cells(heat(counts, 0), SIDE, words, gap=1), f"kernel {kernel}, stride {stride}", lines)
