"""A picture's style as numbers: which features of a network occur together, wherever in the picture they occur.

Gatys 2015 (arXiv:1508.06576), eq. 3: G = F F^T of a layer's maps. The same picture with its tiles in disorder has nearly the same matrices; the
little that differs is what the network sees across the tiles' edges.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from cvtool.errors import UsageError
from cvtool.render.figures._heat import cells, heat, signed
from cvtool.render.figures._page import GROUND, Panel, page, positive
from cvtool.render.palette import Colour

OPTIONS = {
    "features": {
        "default": "vgg.tiny@none",
        "metavar": "REF",
        "help": "the network that looks; the default is untrained, so that nothing is downloaded",
    },
    "layers": {"default": "relu1_1,relu2_1,relu3_1", "metavar": "NAME,...", "help": "its layers, four at most"},
    "tiles": {"default": 6, "metavar": "N", "help": "tiles a side of the disordered picture"},
}
LONGEST = 288  # pixels of the longer side that the network sees
SIDE = 330


def figure(picture: np.ndarray, *, features: str, layers: str, tiles: int) -> Image.Image:
    """The picture over the same in disorder, and the Gram matrices of both."""
    names = [name.strip() for name in layers.split(",") if name.strip()]
    if not 1 <= len(names) <= 4:
        raise UsageError("--layers takes one to four names with commas between")
    positive(tiles, "tiles", 32)
    seen = shrunk(picture, tiles)
    other = disordered(seen, tiles)
    one, two = matrices(seen, features, names), matrices(other, features, names)
    untrained = features.endswith("@none")
    subtitle = f"{features}{', untrained: random filters tell styles apart too' if untrained else ''}"
    left: list[tuple[str, Colour | None]] = [
        (f"{seen.shape[1]} x {seen.shape[0]} pixels", None),
        (f"below: its {tiles} x {tiles} tiles in disorder", None),
    ]
    panels = [Panel(_stacked(_fitted(Image.fromarray(seen)), _fitted(Image.fromarray(other))), "picture", left)]
    for name, g, a in zip(names, one, two, strict=True):
        most = max(float(np.abs(g).max()), float(np.abs(a).max())) or 1.0
        drawn = [cells(heat(m, 0.0, most) if min(g.min(), a.min()) >= 0 else signed(m, most), SIDE) for m in (g, a)]
        apart = float(np.linalg.norm(g - a) / (np.linalg.norm(g) or 1.0))
        lines: list[tuple[str, Colour | None]] = [(f"{len(g)} features, inner products of each two", None), (f"the two differ by {apart:.1%}", None)]
        panels.append(Panel(_stacked(*(_fitted(image, nearest=True) for image in drawn)), name, lines))
    return page("Gram matrices", subtitle, panels)


def matrices(picture: np.ndarray, network: str, layers: list[str]) -> list[np.ndarray]:
    """The Gram matrix of each layer, C C, over the number of its places. Raises UsageError, ModelError for an unknown layer or network."""
    import torch

    from cvtool.layers.features import shared
    from cvtool.losses.gram_style import gram

    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        return [(gram(maps)[0] / maps[0, 0].numel()).numpy() for maps in shared(network)(pixels, layers)]


def shrunk(picture: np.ndarray, tiles: int) -> np.ndarray:
    """The picture with its longer side at `LONGEST` at most, its sides multiples of `tiles`."""
    image = Image.fromarray(picture)
    zoom = min(1.0, LONGEST / max(image.size))
    width, height = (max(1, round(side * zoom / tiles)) * tiles for side in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def disordered(picture: np.ndarray, tiles: int) -> np.ndarray:
    """Its tiles, `tiles` a side, in another order, always the same one."""
    height, width = picture.shape[0] // tiles, picture.shape[1] // tiles
    parts = picture.reshape(tiles, height, tiles, width, 3).swapaxes(1, 2).reshape(tiles * tiles, height, width, 3)
    parts = parts[np.random.default_rng(0).permutation(tiles * tiles)]
    return np.ascontiguousarray(parts.reshape(tiles, tiles, height, width, 3).swapaxes(1, 2).reshape(picture.shape))


def _fitted(image: Image.Image, *, nearest: bool = False) -> Image.Image:
    """In a square of `SIDE` pixels, whole."""
    zoom = SIDE / max(image.size)
    size = max(1, round(image.width * zoom)), max(1, round(image.height * zoom))
    return image.resize(size, Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS)


def _stacked(upper: Image.Image, lower: Image.Image) -> Image.Image:
    out = Image.new("RGB", (SIDE, upper.height + 10 + lower.height), GROUND)
    for image, y in ((upper, 0), (lower, upper.height + 10)):
        out.paste(image, ((SIDE - image.width) // 2, y))
    return out
