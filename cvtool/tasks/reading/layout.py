"""Whether a picture is a page of print or a scene."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cvtool.ops import ink

SIDE = 768  # pixels of the longer side at which it is looked at
BLOCK = 16
ALIKE = 28  # gray levels around the usual paper within which a block's brightest part is paper, too
PAPER = 0.72  # share of blocks of paper from which on a picture is a page


def is_page(pixels: np.ndarray) -> bool:
    """H W 3 uint8 -> whether it is print on an even ground: wherever one looks, the ground is about as bright as elsewhere, light on dark or dark on
    light, and there is little between ground and print."""
    image = Image.fromarray(pixels).convert("L")
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    gray = np.asarray(image)
    if not ink.paper_is_light(gray):
        gray = 255 - gray
    height, width = (side // BLOCK * BLOCK for side in gray.shape)
    if not height or not width:
        return True
    blocks = gray[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(0, 2, 1, 3).reshape(-1, BLOCK * BLOCK)
    ground = np.percentile(blocks, 85, axis=1)
    usual = float(np.median(ground))
    return bool(usual > 110 and (np.abs(ground - usual) < ALIKE).mean() >= PAPER)
