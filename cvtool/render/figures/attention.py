"""Where a transformer looks: the attention of one token over the patches of a picture, for each head of a layer.

Any network whose tokens are all patches of the picture (and class tokens in front of them), ours and timm's. The weights of a row sum to 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cvtool.errors import ModelError, UsageError
from cvtool.render.canvas import Canvas
from cvtool.render.figures._heat import fitted, heat
from cvtool.render.figures._page import GROUND, Panel, numbers, page
from cvtool.render.palette import INK, Colour

if TYPE_CHECKING:
    from torch import Tensor

OPTIONS = {
    "model": {"default": None, "metavar": "vit", "help": "a transformer, such as vit, timm:deit_tiny_patch16_224 or a run"},
    "layer": {"default": -1, "metavar": "N", "help": "which attention, from 0, or from the end: -1 is the last"},
    "query": {"default": "class", "metavar": "class|mean|X,Y", "help": "who looks: the class token, all tokens, or the patch at a pixel"},
}
SIDE, EXTRA = 460, 8  # pixels of a panel; class and register tokens at most
MARK: Colour = (120, 240, 170)


def grid_of(tokens: int, height: int, width: int) -> tuple[int, int, int]:
    """(tokens in front, rows, columns) of a picture of height x width cut into square patches. Raises ModelError where nothing fits."""
    for front in range(EXTRA + 1):
        rows = round(math.sqrt((tokens - front) * height / width))
        if rows >= 1 and (tokens - front) % rows == 0 and abs((tokens - front) // rows - rows * width / height) < 0.5:
            return front, rows, (tokens - front) // rows
    raise ModelError(f"the {tokens} tokens of this attention are no grid of patches of {height} x {width} pixels")


def looked(model: Any, batch: Any) -> list[Tensor]:
    """The weights of every attention in a prediction of one picture, h N N each. Raises ModelError for a network without any."""
    import torch

    from cvtool.ops.attention import watched

    with watched() as seen, torch.no_grad():
        model(batch.images)
    whole = [weights[0] for weights in seen if weights.ndim == 4 and len(weights) == 1 and weights.shape[-2] == weights.shape[-1]]
    if not whole:
        raise ModelError("the network has no attention over all of the picture's patches", hint="a plain vision transformer has, such as vit")
    return whole


def figure(picture: np.ndarray, *, model: str, layer: int, query: str) -> Image.Image:
    """The picture as the network sees it, the mean of the heads, and each head."""
    from cvtool import weights

    network, info = weights.load(model)
    if not callable(getattr(network, "forward", None)) or not hasattr(network, "prepare"):
        raise ModelError(f"{model} is no network that looks at a picture")
    batch = network.prepare([picture])
    every = looked(network, batch)
    if not -len(every) <= layer < len(every):
        raise UsageError(f"--layer {layer}: there are {len(every)} attentions, 0 to {len(every) - 1}")
    rows = every[layer].float().numpy()  # h N N
    height, width = batch.images.shape[-2:]
    front, down, across = grid_of(rows.shape[-1], height, width)
    index, mark, who = _asked(query, front, (down, across), (height, width), batch.places[0])
    maps = (rows.mean(1) if index is None else rows[:, index])[:, front:].reshape(-1, down, across)
    view = _seen(batch.images[0].numpy(), network.prepare)
    number = layer % len(every)
    lines: list[tuple[str, Colour | None]] = [
        (f"{down} x {across} patches" + (f" and {front} token{'s' * (front > 1)} in front" if front else ""), None)
    ]
    first = Panel(_marked(view, mark), "what it sees", lines + ([("who looks", MARK)] if mark else []))
    shares: list[tuple[str, Colour | None]] = [(f"{1 - maps.mean(0).sum():.0%} goes to the tokens in front", None)]
    mean = Panel(_over(view, maps.mean(0), SIDE), f"mean of {len(maps)} heads", shares if front else [])
    heads = Panel(_sheet(view, maps), "each head", [(f"each up to its own largest weight, {maps.max():.3f} at most", None)])
    subtitle = f"{info.reference or model}, attention {number} of 0 to {len(every) - 1}, {who}"
    return page("Where it looks", subtitle, [first, mean, heads])


def _asked(
    query: str, front: int, grid: tuple[int, int], size: tuple[int, int], place: Any
) -> tuple[int | None, tuple[float, float, float, float] | None, str]:
    """The row of the token that looks (None: all), its patch as shares of the view, and words for it. Raises UsageError."""
    if query == "mean":
        return None, None, "the mean over all tokens"
    if query == "class":
        if not front:
            raise UsageError("this network has no class token", hint="--query mean, or --query X,Y")
        return 0, None, "seen from the class token"
    x, y = numbers(query, "query", 2, above=-1)
    sx, sy = place.scale
    u, v = (x * sx + place.left) / size[1], (y * sy + place.top) / size[0]
    if not (0 <= u < 1 and 0 <= v < 1):
        raise UsageError(f"--query {query}: the network does not see that pixel")
    row, column = int(v * grid[0]), int(u * grid[1])
    mark = (column / grid[1], row / grid[0], (column + 1) / grid[1], (row + 1) / grid[0])
    return front + row * grid[1] + column, mark, f"seen from the patch in row {row}, column {column}"


def _seen(image: np.ndarray, prepare: Any) -> np.ndarray:
    """3 H W normalised -> H W 3 uint8."""
    mean, std = (np.asarray(v).reshape(3, 1, 1) for v in (prepare.mean, prepare.std))
    return np.clip((image * std + mean) * 255, 0, 255).round().astype(np.uint8).transpose(1, 2, 0)


def _marked(view: np.ndarray, mark: tuple[float, float, float, float] | None) -> Image.Image:
    canvas = Canvas(Image.fromarray(fitted(view, SIDE)))
    if mark is not None:
        width, height = canvas.size
        x0, y0, x1, y1 = round(mark[0] * width), round(mark[1] * height), round(mark[2] * width), round(mark[3] * height)
        canvas.ring(x0 - 3, y0 - 3, x1 + 3, y1 + 3, 3, INK)
        canvas.ring(x0 - 1, y0 - 1, x1 + 1, y1 + 1, 3, MARK)
    return canvas.image


def _over(view: np.ndarray, weights: np.ndarray, side: int) -> Image.Image:
    """Weights as colours, a patch a cell, with the picture's light in them."""
    ground = fitted(view, side)
    light = ground.astype(float).mean(2, keepdims=True) / 255
    colours = Image.fromarray(heat(weights, 0)).resize((ground.shape[1], ground.shape[0]), Image.Resampling.NEAREST)
    return Image.fromarray(np.round(np.asarray(colours) * (0.62 + 0.38 * light) + 26 * light).clip(0, 255).astype(np.uint8))


def _sheet(view: np.ndarray, maps: np.ndarray) -> Image.Image:
    columns = math.ceil(math.sqrt(len(maps)))
    side = max(96, (SIDE - 6 * (columns - 1)) // columns) if columns <= 3 else 150
    tiles = [_over(view, one, side) for one in maps]
    width, height = tiles[0].size
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + 6) - 6, rows * (height + 6) - 6), GROUND)
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % columns * (width + 6), i // columns * (height + 6)))
    return sheet
