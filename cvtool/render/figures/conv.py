"""What fixed kernels make of a picture: edges, blur, relief: convolutions that have learned nothing.

A convolution multiplies the pixels under its kernel with the kernel's numbers and adds them up; a network's first layer learns kernels like these.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from cvtool.errors import UsageError
from cvtool.ops.kernels import MAGNITUDES, filtered, kernel
from cvtool.render.figures._heat import fitted, gray, heat, signed
from cvtool.render.figures._page import Panel, page
from cvtool.render.palette import Colour

OPTIONS = {
    "filter": {"default": "sobel-x,sobel-y,sobel", "metavar": "NAME,...", "help": "sobel, scharr, prewitt (also -x, -y), gaussian, laplacian ..."},
}
SIDE = 440


def figure(picture: np.ndarray, *, filter: str) -> Image.Image:
    """The picture and, side by side, its map under each kernel. Raises UsageError for an unknown one."""
    names = [name.strip() for name in filter.split(",") if name.strip()]
    if not 1 <= len(names) <= 6:
        raise UsageError("--filter takes one to six kernels with commas between")
    small = fitted(picture, SIDE)
    light = gray(small)
    height, width = small.shape[:2]
    panels = [Panel(Image.fromarray(small), "the picture", [(f"{width} x {height} pixels, drawn and filtered at this size", None)])]
    for name in names:
        out = filtered(light, name)
        panels.append(Panel(Image.fromarray(_shown(name, out)), name, _lines(name, out)))
    return page("Convolution with fixed kernels", "the sum of the pixels under the kernel, each times the kernel's number, at every place", panels)


def _shown(name: str, out: np.ndarray) -> np.ndarray:
    if name in MAGNITUDES:
        return heat(out, 0)
    if kernel(name).sum() > 0.5:  # it keeps the brightness
        return np.repeat(np.clip(out, 0, 255).round().astype(np.uint8)[..., None], 3, 2)
    return signed(out)


def _lines(name: str, out: np.ndarray) -> list[tuple[str, Colour | None]]:
    if name in MAGNITUDES:
        return [(f"sqrt(x^2 + y^2) of {name}-x and {name}-y", None), (f"from 0 to {out.max():.0f}", None)]
    weights = kernel(name)
    scale = next((s for s in (1, 9, 256) if np.allclose(weights * s, np.round(weights * s))), 1)
    rows = [" ".join(f"{value:3.0f}" for value in row) for row in weights * scale]
    rows[-1] += f"   / {scale}" if scale > 1 else ""
    return [*((row, None) for row in rows), (f"from {out.min():.0f} to {out.max():.0f}", None)]
