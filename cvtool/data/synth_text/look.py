"""How a picture of text looks: colours, ground, ink with borders and shadows, and what cameras, scanners and JPEG make of it.

Arrays of pixels are H W 3 float32 in 0..255, masks H W float32 in [0, 1]. The steps are those of Jaderberg 2014 (arXiv:1406.2227, section 3.1), in
their order: flat letters are `dressed` with border, shadow and colours, then distorted (`geometry`), `blended` with a picture, `photographed` with
noise.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from cvtool.data.synth_text.textures import Textures, ramp

Colour = tuple[float, float, float]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def _f32(of: Any) -> np.ndarray:
    return np.asarray(of, np.float32)


def colour(rng: Random) -> Colour:
    """White, black, a paint or a dull tone, in 0..255."""
    chance = rng.random()
    if chance < 0.22:
        hsv = rng.random(), rng.uniform(0, 0.12), rng.uniform(0.82, 1.0)
    elif chance < 0.44:
        hsv = rng.random(), rng.uniform(0, 0.4), rng.uniform(0.02, 0.22)
    elif chance < 0.72:
        hsv = (
            rng.choice((0.0, 0.02, 0.08, 0.14, 0.16, 0.33, 0.4, 0.58, 0.6, 0.65, 0.98)) + rng.gauss(0, 0.015),
            rng.uniform(0.5, 1),
            rng.uniform(0.3, 1),
        )
    else:
        hsv = rng.random(), rng.uniform(0, 0.5), rng.uniform(0.15, 0.95)
    r, g, b = colorsys.hsv_to_rgb(hsv[0] % 1, hsv[1], hsv[2])
    return r * 255, g * 255, b * 255


def luma(of: Colour | np.ndarray) -> float:
    return float(0.299 * of[0] + 0.587 * of[1] + 0.114 * of[2])


def against(rng: Random, ground: Colour, busy: float = 0.0) -> Colour:
    """A colour that can be told from the ground: by a little as often as by much. busy: deviation of the ground's own light and dark."""
    least = min(150.0, rng.choice((28, 45, 60, 80, 100, 120)) + 1.2 * busy)
    for _ in range(12):
        found = colour(rng)
        if abs(luma(found) - luma(ground)) >= least:
            return found
    shade = 255.0 if luma(ground) < 128 else 0.0
    return shade, shade, shade


def ground(rng: Random, textures: Textures, height: int, width: int) -> tuple[np.ndarray, Colour]:
    """What text is painted on (H W 3) and its mean colour: paint, a shade, clouds, or a photograph whose contrast is lowered or not."""
    chance = rng.random()
    base = colour(rng)
    if chance < 0.38:
        return np.tile(_f32(base), (height, width, 1)), base
    if chance < 0.58:
        other = colour(rng)
        part = rng.uniform(0.1, 0.6)
        share = (ramp(rng, height, width) * 0.5 + 0.5)[..., None]
        end = _f32(base) + (_f32(other) - _f32(base)) * _f32(part)
        pixels = _f32(base) * (1 - share) + end * share
        return _f32(pixels), _mean(pixels)
    if chance < 0.72:
        kind = rng.randrange(4)
        spots = textures.spots(rng, height, width, kind)[..., None]
        pixels = _f32(base) + spots * _f32([rng.uniform(2, (9, 14, 25, 30)[kind])] * 3)
        return pixels, base
    pixels = textures.photograph(rng, height, width)
    mean = _mean(pixels)
    pixels = _f32(mean) + (pixels - _f32(mean)) * _f32(rng.choice((0.1, 0.2, 0.35, 0.6, 1.0)))
    if rng.random() < 0.5:
        pixels += _f32(base) - _f32(mean)
        mean = base
    return pixels, mean


def _mean(pixels: np.ndarray) -> Colour:
    r, g, b = pixels.reshape(-1, 3).mean(0).tolist()
    return r, g, b


def panel(rng: Random, pixels: np.ndarray, clear: tuple[float, float, float, float]) -> None:
    """The end of a sign in the margin, in place: beyond a line outside of the box `clear` (x0, y0, x1, y1) another colour begins."""
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = clear
    side = rng.choice("tblr")
    room = {"t": y0, "b": height - y1, "l": x0, "r": width - x1}[side]
    if room < 2:
        return
    at = rng.uniform(0.15, 0.9) * room
    slope = rng.gauss(0, 0.03)
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
    if side in "tb":
        distance = (at - rows if side == "t" else rows - (height - at)) + slope * (columns - width / 2)
    else:
        distance = (at - columns if side == "l" else columns - (width - at)) + slope * (rows - height / 2)
    if rng.random() < 0.35:  # a line alone
        share = (1 - np.abs(distance) / max(1.0, 0.03 * height)).clip(0, 1)
    else:
        share = (distance + 0.5).clip(0, 1)
    pixels += share[..., None] * (_f32(colour(rng)) - pixels)


@dataclass(frozen=True)
class Layer:
    """One coat. mask: an L image, where it is. body: the letters themselves, which may have a pattern and stand out."""

    mask: Image.Image
    colour: Colour
    opacity: float = 1.0
    body: bool = False


def dressed(rng: Random, flat: Image.Image, ink: Colour, high: float) -> list[Layer]:
    """Letters (an L image, flat) as coats, the lowest first: at times a shadow or a glow, at times a border, and the ink. high: of a line, pixels."""
    layers = []
    chance = rng.random()
    if chance < 0.16:
        layers.append(_shadow(rng, flat, high))
    elif chance < 0.20:
        gain = rng.uniform(1.0, 2.0)
        glow = flat.filter(ImageFilter.GaussianBlur(high * rng.uniform(0.06, 0.2))).point(lambda v: min(230, v * gain))
        layers.append(Layer(glow, against(rng, ink)))
    body = flat
    chance = rng.random()
    if chance < 0.15:
        layers.append(Layer(flat.filter(ImageFilter.MaxFilter(rng.choice((3, 3, 5)))), against(rng, ink)))
    elif chance < 0.19:  # the border alone
        body = ImageChops.subtract(flat.filter(ImageFilter.MaxFilter(3)), flat.filter(ImageFilter.MinFilter(3)))
    return [*layers, Layer(body, ink, rng.uniform(0.8, 1.0) if rng.random() < 0.4 else 1.0, body=True)]


def _shadow(rng: Random, flat: Image.Image, high: float) -> Layer:
    """A shadow that is soft or hard, or a row of them: the sides of letters that stand out."""
    right, down = (round(rng.choice((-1, 1)) * high * rng.uniform(0.02, 0.09)) for _ in range(2))
    tone: Colour = (0.0, 0.0, 0.0) if rng.random() < 0.6 else colour(rng)
    if rng.random() < 0.3:
        steps = max(abs(right), abs(down), 1)
        moved = (ImageChops.offset(flat, round(right * i / steps), round(down * i / steps)) for i in range(1, steps + 1))
        return Layer(reduce(ImageChops.lighter, moved), tone)
    soft = flat.filter(ImageFilter.GaussianBlur(high * rng.uniform(0, 0.06))) if rng.random() < 0.7 else flat
    return Layer(ImageChops.offset(soft, right, down), tone, rng.uniform(0.35, 0.95))


def blended(rng: Random, textures: Textures, pixels: np.ndarray, layers: Sequence[Layer], size: float) -> np.ndarray:
    """Coats laid over a picture of the masks' size; what is beneath shows through edges and worn places. size: height of a line."""
    for layer in layers:
        alpha = np.asarray(layer.mask, np.float32) * _f32(layer.opacity / 255)
        cover: np.ndarray | Colour = layer.colour
        if layer.body:
            pixels, alpha, cover = _worked(rng, textures, pixels, alpha, layer.colour, size)
        pixels = _over(pixels, alpha, cover)
    return pixels


def _worked(
    rng: Random, textures: Textures, pixels: np.ndarray, alpha: np.ndarray, ink: Colour, size: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray | Colour]:
    """Letters in relief, in a shade, with a pattern or worn, or plain: the picture, the mask, the cover."""
    height, width = alpha.shape
    if rng.random() < 0.05:
        depth = max(1, round(size * rng.uniform(0.02, 0.05)))
        edges = alpha - np.roll(alpha, (depth, depth), (0, 1))
        pixels = pixels + edges[..., None] * _f32(rng.choice((-1, 1)) * rng.uniform(30, 110))
        if rng.random() < 0.4:
            alpha = alpha * rng.uniform(0.15, 0.5)
    cover: np.ndarray | Colour = ink
    chance = rng.random()
    if chance < 0.10:
        cover = _f32(ink) + (ramp(rng, height, width) * rng.uniform(15, 80))[..., None]
    elif chance < 0.18:
        cover = _f32(ink) + (textures.spots(rng, height, width, rng.randrange(3)) * rng.uniform(5, 35))[..., None]
    elif chance < 0.21:
        picture = textures.photograph(rng, height, width)
        cover = _f32(ink) + (picture - _f32(_mean(picture))) * 0.5
    if rng.random() < 0.08:
        worn = textures.spots(rng, height, width, rng.choice((0, 1)))
        alpha = alpha * (0.9 + worn * rng.uniform(0.1, 0.35)).clip(0.25, 1)
    return pixels, alpha, cover


def _over(pixels: np.ndarray, alpha: np.ndarray, cover: np.ndarray | Colour) -> np.ndarray:
    return pixels + alpha[..., None] * (np.asarray(cover, np.float32) - pixels)


def photographed(rng: Random, textures: Textures, pixels: np.ndarray, size: float) -> np.ndarray:
    """H W 3 uint8: what a camera makes of it: light, focus, movement, few pixels, grain, exposure. size: height of a line."""
    height, width = pixels.shape[:2]
    if rng.random() < 0.3:
        pixels = pixels * (1 + ramp(rng, height, width) * rng.uniform(0.1, 0.45))[..., None]
    if rng.random() < 0.06:
        y, x, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0.3, 1.5) * height
        rows, columns = np.arange(height, dtype=np.float32)[:, None] - y, np.arange(width, dtype=np.float32)[None, :] - x
        pixels = pixels + (np.exp(-(rows**2 + columns**2) / radius**2) * rng.uniform(30, 160))[..., None]
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    chance = rng.random()
    if chance < 0.42:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.7) + size * rng.uniform(0, 0.035)))
    elif chance < 0.50:
        along = size * rng.uniform(0.03, 0.14)
        image = image.filter(ImageFilter.BoxBlur((along, 0.3) if rng.random() < 0.7 else (0.3, along)))
    if rng.random() < 0.22 and size > 16:
        few = rng.uniform(9, 18) / size
        image = image.resize((max(2, round(width * few)), max(2, round(height * few))), Image.Resampling.BILINEAR)
        image = image.resize((width, height), Image.Resampling.BICUBIC if rng.random() < 0.5 else Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32)
    if rng.random() < 0.45:
        pixels = pixels + _noise(rng, textures, height, width)
    if rng.random() < 0.55:
        gain, middle = rng.choice((rng.uniform(0.35, 1.0), rng.uniform(0.8, 1.5))), rng.uniform(60, 190)
        pixels = (pixels - 128) * gain + middle
    if rng.random() < 0.2:
        pixels = pixels * _f32([rng.uniform(0.75, 1.15) for _ in range(3)])
    if rng.random() < 0.05:
        pixels = (pixels @ LUMA)[..., None].repeat(3, 2)
    return pixels.clip(0, 255).astype(np.uint8)


def _noise(rng: Random, textures: Textures, height: int, width: int) -> np.ndarray:
    strength = rng.choice((1, 2, 3, 4, 6, 9, 14)) * rng.uniform(0.6, 1.2)
    if rng.random() < 0.3:
        return textures.spots(rng, height, width, 0)[..., None] * _f32(strength)
    if rng.random() < 0.5:
        return textures.grain(rng, height, width)[..., None] * _f32(strength)
    return np.stack([textures.grain(rng, height, width) for _ in range(3)], -1) * _f32(strength)


def printed(rng: Random, textures: Textures, mask: Image.Image, size: float) -> np.ndarray:
    """H W 3 uint8: ink on paper (mask: an L image), scanned in gray, scanned in black and white, or photographed. size: height of a line."""
    width, height = mask.size
    soft = mask.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.5) + size * rng.uniform(0, 0.02)))
    alpha = np.asarray(soft, np.float32) * _f32(1 / 255)
    chance = rng.random()
    if chance < 0.35:  # black and white: the threshold makes print thin or thick, noise frays it
        ragged = alpha + textures.spots(rng, height, width, 0) * rng.uniform(0, 0.12)
        black = ragged > rng.uniform(0.3, 0.65)
        if black.sum() < 0.7 * alpha.sum():  # a hairline font would fall to pieces
            black = ragged > 0.25
        if rng.random() < 0.3:
            black ^= textures.grain(rng, height, width) > rng.uniform(2.2, 3.4)
        gray = np.where(black, 0, 255).astype(np.float32)
        if rng.random() < 0.5:
            image = Image.fromarray(gray.astype(np.uint8)).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
            gray = np.asarray(image, np.float32)
        if rng.random() < 0.1:
            gray = 255 - gray
        return gray[..., None].repeat(3, 2).astype(np.uint8)
    paper = rng.uniform(175, 255)
    tint = _f32([paper, paper - abs(rng.gauss(0, 4)), paper - abs(rng.gauss(0, 12))]) if rng.random() < 0.5 else _f32([paper] * 3)
    dark = rng.uniform(0, 100)
    ink: Colour = (dark, dark, dark) if rng.random() < 0.85 else (dark * 0.4, dark * 0.5, dark + 70)
    pixels = np.tile(tint, (height, width, 1))
    if rng.random() < 0.5:
        pixels += (textures.spots(rng, height, width, rng.randrange(4)) * rng.uniform(1, 7))[..., None]
    if rng.random() < 0.3:
        alpha = alpha * (0.85 + textures.spots(rng, height, width, rng.choice((0, 1))) * rng.uniform(0.05, 0.3)).clip(0.2, 1)
    pixels = _over(pixels, alpha ** rng.uniform(0.7, 1.5), ink)
    if rng.random() < 0.06:
        pixels = 255 - pixels
    if chance < 0.55:
        return photographed(rng, textures, pixels, size)
    if rng.random() < 0.6:
        pixels = pixels + textures.grain(rng, height, width)[..., None] * _f32(rng.uniform(1, 10))
    return pixels.clip(0, 255).astype(np.uint8)
