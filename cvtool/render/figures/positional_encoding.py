"""The trigonometric code of positions: each pair of channels turns at a speed of its own, and near positions have like codes.

Vaswani 2017 (arXiv:1706.03762), section 3.5: pe[p, 2i] = sin(p / 10000^(2i/d)), pe[p, 2i+1] = cos of the same.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from cvtool.ops.sinusoid import sinusoid
from cvtool.render.figures._heat import cells, heat, signed
from cvtool.render.figures._page import Panel, page, positive
from cvtool.render.palette import Colour

PICTURE = False
OPTIONS = {
    "length": {"default": 64, "metavar": "N", "help": "positions"},
    "channels": {"default": 128, "metavar": "N", "help": "numbers a position"},
}
SIDE = 640


def figure(*, length: int, channels: int) -> Image.Image:
    """The code as a map of positions and channels, and how alike any two positions are."""
    positive(length, "length", 512), positive(channels, "channels", 512)
    code = sinusoid(length, channels)
    alike = code @ code.T / max(1, channels / 2)
    first = " ".join(f"{value:.0f}" for value in code[0, :6]) + (" ..." if channels > 6 else "")
    fast, slow = 2 * np.pi, 2 * np.pi * 10_000 ** (((channels - 1) // 2 * 2) / channels)
    left: list[tuple[str, Colour | None]] = [
        ("a row a position, a column a channel; orange +1, blue -1", None),
        (f"position 0 is {first}", None),
        (f"the first pair repeats after {fast:.1f} positions, the last after {slow:,.0f}", None),
    ]
    right: list[tuple[str, Colour | None]] = [
        ("the product of two positions' codes over that of one with itself", None),
        ("it depends on their distance alone" if channels % 2 == 0 else "with an odd number of channels, nearly on their distance alone", None),
        (f"neighbours: {alike[0, 1]:.2f}" if length > 1 else "", None),
    ]
    panels = [
        Panel(_sized(cells(signed(code, 1.0), max(channels, SIDE))), "the code", left),
        Panel(_sized(cells(heat(alike, alike.min(), 1.0), max(length, SIDE))), "who is like whom", right),
    ]
    return page("Positional encoding", f"{length} positions, {channels} channels", panels)


def _sized(image: Image.Image) -> Image.Image:
    """Exactly as high as its neighbour."""
    return image.resize((round(image.width * SIDE / image.height) if image.width < 2 * image.height else SIDE, SIDE), Image.Resampling.NEAREST)
