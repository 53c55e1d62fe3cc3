"""The stable regions of a picture (MSER), those of dark and those of light: in clean print, one a letter.

Matas 2002 (doi:10.1016/j.imavis.2004.02.006): parts of a thresholded picture whose outline hardly moves while the threshold does.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from cvtool.errors import UsageError
from cvtool.ops.mser import Regions, mser
from cvtool.render import masks
from cvtool.render.canvas import Canvas
from cvtool.render.figures._page import Panel, page, positive
from cvtool.render.palette import Colour, instance

OPTIONS = {
    "delta": {"default": 5, "metavar": "N", "help": "grey levels over which a region must hardly grow"},
    "growth": {"default": "0.25", "metavar": "SHARE", "help": "by this share at most"},
    "min_area": {"default": 30, "metavar": "N", "help": "pixels of the smallest region"},
    "diversity": {"default": "0.9", "metavar": "SHARE", "help": "of two nested regions the smaller lacks so much of the larger"},
    "polarity": {"default": "both", "metavar": "WHICH", "help": "dark, bright or both"},
}
SIDE = 760  # pixels of a panel's longer side, about


def figure(picture: np.ndarray, *, delta: int, growth: str, min_area: int, diversity: str, polarity: str) -> Image.Image:
    """A panel for each polarity: the picture, paler, and over it each region in a colour of its own."""
    if polarity not in ("both", "dark", "bright"):
        raise UsageError(f"--polarity is dark, bright or both, not '{polarity}'")
    positive(delta, "delta", 255), positive(min_area, "min-area", 10**6)
    shares = [_share(growth, "growth"), _share(diversity, "diversity")]
    grey = np.asarray(Image.fromarray(picture).convert("L"))
    found = mser(grey, delta=delta, min_area=min_area, max_growth=shares[0], min_diversity=shares[1], polarity=polarity)  # type: ignore[arg-type]
    panels = []
    for name, wanted in (("dark", True), ("bright", False)):
        if polarity in ("both", name):
            some = found[found.dark == wanted]
            lines: list[tuple[str, Colour | None]] = [(_told(some), None)]
            panels.append(Panel(_draw(picture, some), f"{name}: {len(some)} region{'s' * (len(some) != 1)}", lines))
    subtitle = f"that grow by at most {shares[0]:.0%} over {delta} grey levels, of {min_area} pixels or more"
    return page("Maximally stable extremal regions", subtitle, panels)


def _share(text: str, option: str) -> float:
    """A number of at least 0 and below 1. Raises UsageError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise UsageError(f"--{option} is a share from 0 to below 1, not '{text}'")
    return value


def _told(regions: Regions) -> str:
    if not len(regions):
        return "none"
    sizes = np.sort(regions.areas)
    return f"areas from {sizes[0]} to {sizes[-1]} pixels, half of them below {sizes[len(sizes) // 2] + 1}"


def _draw(picture: np.ndarray, regions: Regions) -> Image.Image:
    height, width = picture.shape[:2]
    zoom = min(4, max(1, round(SIDE / max(height, width))))
    pale = (picture * 0.45 + 130).astype(np.uint8)
    canvas = Canvas(Image.fromarray(pale).resize((width * zoom, height * zoom), Image.Resampling.NEAREST))
    for i in np.argsort(-regions.areas, kind="stable"):  # what lies within comes on top
        x0, y0 = (int(v) * zoom for v in regions.boxes[i, :2])
        mask = np.kron(regions.mask(int(i)), np.ones((zoom, zoom), bool))
        masks.tint(canvas, masks.Region(mask, x0, y0), instance(int(i)), 0.85)
    return canvas.image
