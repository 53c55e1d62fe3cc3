"""Words drawn with Pillow's own font, for tests: dark on light, in a row or one letter below the other, at a random place and shade."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def word(text, rng, *, size=(32, 32), vertical=False, letter=13):
    """H W 3 uint8 of `size`."""
    font = ImageFont.load_default(size=letter)
    wide = max(font.getlength(c) for c in text) if vertical else font.getlength(text)
    high = (letter - 3) * len(text) + 2 if vertical else letter
    picture = Image.new("L", (size[1], size[0]), int(rng.integers(170, 256)))
    x, y = (int(rng.integers(0, max(1, int(side - need)))) for side, need in ((size[1], wide), (size[0], high)))
    pen, ink = ImageDraw.Draw(picture), int(rng.integers(0, 90))
    for i, c in enumerate(text):
        at = (x, y - 2 + i * (letter - 3)) if vertical else (x + font.getlength(text[:i]), y - 2)
        pen.text(at, c, fill=ink, font=font)
    noisy = np.asarray(picture, np.float32) + rng.normal(0, 6, size)
    return np.repeat(noisy.clip(0, 255).astype(np.uint8)[..., None], 3, 2)
