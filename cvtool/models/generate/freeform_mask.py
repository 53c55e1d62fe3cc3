"""Free-form masks: holes of random strokes, to train and measure inpainting with, white on black (Yu 2019, arXiv:1806.03589).

The strokes are `ops/freeform.py`'s. Nothing is learned; `--set` says what they are like.

    cvtool generate -m freeform-mask -n 100 --set share=0.2 --set size=512 -o masks/
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cvtool.batch import Prepare
from cvtool.errors import UsageError
from cvtool.ops.freeform import Freeform
from cvtool.results import Picture

VARIANTS = {"base": {"image_size": 256}, "tiny": {"image_size": 32}}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
CATEGORIES: list = []
RECIPE: dict[str, object] = {}
LARGEST = 16384


class FreeformMask:
    """image_size: side of the masks, where `sample` is told no other."""

    result = Picture
    conditional = 0
    two_tone = True  # its pictures are black and white and nothing between
    settings = ("size", "vertices", "stroke", "length", "angle", "spread", "strokes", "share")  # of `sample`, for --set

    def __init__(self, *, image_size: int) -> None:
        self.size = image_size
        self.prepare = Prepare(resize="stretch", size=image_size, mean=(0.0,) * 3, std=(1.0,) * 3)

    def sample(
        self,
        n: int,
        seed: int,
        classes: Sequence[int] | None = None,
        *,
        start: int = 0,
        size: int | str | None = None,
        **strokes: float,
    ) -> Tensor:
        """n 3 H W of 0 and 1 (hole). Mask i depends on (seed, start + i), the size and the strokes alone. size: a side, or "WIDTHxHEIGHT".

        strokes: fields of `Freeform`. Raises UsageError.
        """
        width, height = _sides(self.size if size is None else size)
        try:
            pen = Freeform(**strokes)  # type: ignore[arg-type]
        except TypeError as error:
            raise UsageError(f"the strokes cannot be drawn: {error}") from error
        masks = [pen.draw(width, height, np.random.default_rng((seed, start + i))) for i in range(n)]
        return torch.from_numpy(np.stack(masks)).float()[:, None].expand(-1, 3, -1, -1)


def _sides(size: int | str) -> tuple[int, int]:
    """(width, height). Raises UsageError."""
    words = str(size).lower().split("x")
    if not 1 <= len(words) <= 2 or not all(word.isdecimal() and 1 <= int(word) <= LARGEST for word in words):
        raise UsageError(f"size={size} is no side of 1 to {LARGEST} pixels, nor two such as 640x480")
    return int(words[0]), int(words[-1])


def build(*, classes: int = 0, image_size: int = 256) -> FreeformMask:
    """Raises UsageError."""
    return FreeformMask(image_size=_sides(image_size)[0])
