"""Synthetic text: words drawn from fonts as they look on signs and on paper, to learn reading from (Jaderberg 2014, arXiv:1406.2227).

The steps, in the paper's order: a font draws a word, a border or shadow and colours are added, it is distorted projectively, blended with a
natural picture, and noise is added (`cvtool/data/synth_text`). Nothing is learned; records say the `text`; `--set` says from what it is drawn.

    cvtool generate -m synth-text -n 100 --seed 1 -o words/ > labels.jsonl
    cvtool data synth words -n 1e6 -o shards/          # many, fast, each in its own size; and whole scenes and pages
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cvtool.batch import Prepare
from cvtool.charsets import charset as characters_of
from cvtool.errors import UsageError
from cvtool.results import Picture

VARIANTS = {"base": {"size": "200x64"}, "tiny": {"size": "64x24", "most_fonts": 40}}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {"synthtext": "base"}
CATEGORIES: list = []
RECIPE: dict[str, object] = {}
LARGEST = 4096


class SynthText:
    """size: "WIDTHxHEIGHT" of the pictures, in which a word stands as large as it can, on the mean colour of its edge.

    most_fonts: font files that are looked at; None for all.
    """

    result = Picture
    conditional = 0
    settings = ("size", "fonts", "lexicon", "backgrounds", "charset", "max_length")  # of `sample`, for --set

    def __init__(self, *, size: str, most_fonts: int | None = None) -> None:
        self.size, self.most_fonts = size, most_fonts
        width, height = _sides(size)
        self.prepare = Prepare(resize="stretch", size=(height, width), mean=(0.0,) * 3, std=(1.0,) * 3)

    @cached_property
    def _drawing(self) -> Any:
        from cvtool.data.synth_text.engine import artist  # what draws data sets, which takes a while to look at its fonts

        return lru_cache(maxsize=2)(lambda **options: lru_cache(maxsize=64)(artist("words", **options).draw))

    def _draw(self, seed: int, number: int, fonts: str | None, lexicon: str | None, backgrounds: str | None, charset: str, max_length: int) -> Any:
        paths = {"fonts": fonts, "backgrounds": backgrounds}
        options: dict[str, Any] = {key: Path(path).expanduser() for key, path in paths.items() if path is not None}
        if lexicon is not None:
            options["lexicon"] = ((Path(lexicon).expanduser(), 1.0),)
        return self._drawing(**options, characters=charset, max_length=max_length, most_fonts=self.most_fonts)(seed, number)

    def sample(
        self,
        n: int,
        seed: int,
        classes: Sequence[str] | None = None,
        *,
        start: int = 0,
        size: str | None = None,
        fonts: str | None = None,
        lexicon: str | None = None,
        backgrounds: str | None = None,
        charset: str = "latin",
        max_length: int = 25,
    ) -> Tensor:
        """n 3 H W in [0, 1]. Picture i depends on (seed, start + i), the fonts, the words and the options alone.

        fonts, backgrounds: folders. lexicon: a list of words. charset: a set of `cvtool.charsets`, or the characters. Raises UsageError, InputError.
        """
        width, height = _sides(self.size if size is None else str(size))
        options = _checked(fonts, lexicon, backgrounds, charset, max_length)
        words = [_fitted(self._draw(seed, start + i, *options).pixels, width, height) for i in range(n)]
        return torch.from_numpy(np.stack(words)).permute(0, 3, 1, 2).float() / 255

    def texts(
        self, n: int, seed: int, *, start: int = 0, size: str | None = None, fonts: str | None = None, lexicon: str | None = None,
        backgrounds: str | None = None, charset: str = "latin", max_length: int = 25,
    ) -> list[str]:  # fmt: skip
        """What stands in the pictures that `sample` draws of the same arguments."""
        options = _checked(fonts, lexicon, backgrounds, charset, max_length)
        return [self._draw(seed, start + i, *options).text for i in range(n)]


def _checked(fonts: Any, lexicon: Any, backgrounds: Any, charset: Any, max_length: Any) -> tuple[Any, ...]:
    """Raises UsageError."""
    if type(max_length) is not int or not 1 <= max_length <= 200:
        raise UsageError(f"max_length={max_length} is no length of 1 to 200 characters")
    characters_of(str(charset))
    return (*(None if one is None else str(one) for one in (fonts, lexicon, backgrounds)), str(charset), max_length)


def _fitted(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """H W 3 uint8: a picture as large as it can be in the middle of another."""
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    across, down = max(1, min(width, round(pixels.shape[1] * scale))), max(1, min(height, round(pixels.shape[0] * scale)))
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).mean(0)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = edge.round().astype(np.uint8)
    top, left = (height - down) // 2, (width - across) // 2
    canvas[top : top + down, left : left + across] = np.asarray(
        Image.fromarray(pixels).resize((across, down), Image.Resampling.BICUBIC, reducing_gap=2)
    )
    return canvas


def _sides(size: str) -> tuple[int, int]:
    """(width, height). Raises UsageError."""
    words = size.lower().split("x")
    if len(words) != 2 or not all(word.isdecimal() and 8 <= int(word) <= LARGEST for word in words):
        raise UsageError(f"size={size} is no WIDTHxHEIGHT of 8 to {LARGEST} pixels", hint="such as 200x64")
    return int(words[0]), int(words[1])


def build(*, classes: int = 0, size: str = "200x64", most_fonts: int | None = None) -> SynthText:
    """Raises UsageError."""
    return SynthText(size=str(size), most_fonts=most_fonts)
