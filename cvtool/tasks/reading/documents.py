"""Pages of print: brought upright, their words found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from cvtool.ops import ink
from cvtool.tasks.reading.skew import Turned, quarter, skew, straightened, unturned

LARGEST = 24_000_000  # pixels of a page at which words are looked for; more are averaged, for letters are then large
SAMPLE = 24  # words that tell which way up a page is
SURE = 0.9  # mean probability of those words from which on no other way is tried: on its head print is read at up to 0.76, upright from 0.97 on
BETTER = 0.12  # by which another way must be surer
LEAST = 0.6  # that it must be: what is no print at all is read a little better one way than another, too

Find = Callable[[np.ndarray], np.ndarray]  # a picture -> N 4 2 corners of its words
Judge = Callable[[Sequence[np.ndarray]], float]  # crops of words -> how surely they can be read, in [0, 1]


@dataclass(frozen=True)
class Upright:
    """A page as it can be read. quads: N 4 2 corners of words in its pixels. orientation: degrees, clockwise, by which it was turned for that, in
    quarters; slant: degrees by which its lines fell then."""

    turned: Turned
    quads: np.ndarray
    orientation: int = 0
    slant: float = 0.0


def upright(pixels: np.ndarray, find: Find, judge: Judge | None) -> Upright:
    """The page as it can be read. judge: None takes the page as it comes, but for its slant."""
    first = _level(unturned(pixels), find, 0)
    if judge is None or not len(first.quads):
        return first
    sure = judge(sample(first))
    if sure >= SURE:
        return first
    tried = [(sure, first), *((judge(sample(other)), other) for other in _others(pixels, first, find))]
    most, best = max(tried, key=lambda pair: pair[0])
    if most <= sure + BETTER or most < LEAST:
        return first
    return replace(best, quads=_found(best.turned.pixels, find))  # on its head a page has words at other gaps


def _others(pixels: np.ndarray, first: Upright, find: Find) -> list[Upright]:
    """The three other ways up. What stands on its head has its words where it had them."""
    found = [_over(first)]
    side = _level(quarter(unturned(pixels), 1), find, 270)
    if len(side.quads):
        found += [side, _over(side)]
    return found


def _over(page: Upright) -> Upright:
    turned = quarter(page.turned, 2)
    height, width = turned.pixels.shape[:2]
    quads = np.roll(np.array([width, height]) - page.quads, 2, axis=1)
    return Upright(turned, quads, (page.orientation + 180) % 360, page.slant)


def _level(turned: Turned, find: Find, orientation: int) -> Upright:
    slant = slant_of(turned.pixels)
    level = straightened(turned, slant)
    return Upright(level, _found(level.pixels, find), orientation, slant)


def slant_of(pixels: np.ndarray) -> float:
    """Degrees by which the lines of a page fall to the right."""
    small = _reduced(pixels)[0]
    gray = ink.luminance(small)
    pieces = ink.pieces(ink.ink(gray if ink.paper_is_light(gray) else 255 - gray), least=4)
    if not len(pieces):
        return 0.0
    like = (pieces.heights >= 5) & (pieces.heights < 0.1 * small.shape[0]) & (pieces.widths < 4 * pieces.heights)
    return skew(pieces, float(np.median(pieces.heights[like]))) if like.any() else 0.0


def _found(pixels: np.ndarray, find: Find) -> np.ndarray:
    small, factor = _reduced(pixels)
    return find(small).astype(np.float64) * factor


def _reduced(pixels: np.ndarray) -> tuple[np.ndarray, int]:
    """A page of `LARGEST` pixels or less, and the whole number by which it is smaller."""
    factor = int(np.ceil(np.sqrt(pixels.shape[0] * pixels.shape[1] / LARGEST)))
    return (pixels, 1) if factor <= 1 else (np.asarray(Image.fromarray(pixels).reduce(factor)), factor)


def sample(page: Upright) -> list[np.ndarray]:
    """Crops of some words: of the longer ones, from all over the page."""
    from cvtool.ops.quads import crops, sides

    wide, high = sides(page.quads)
    long = np.flatnonzero((wide > 1.5 * high) & (wide < 9 * high))
    chosen = long if len(long) >= 4 else np.arange(len(page.quads))
    if len(chosen) > SAMPLE:
        chosen = chosen[np.linspace(0, len(chosen) - 1, SAMPLE).round().astype(int)]
    return crops(page.turned.pixels, page.quads[chosen])
