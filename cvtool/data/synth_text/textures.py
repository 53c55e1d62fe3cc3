"""What text is painted on and with: pieces of photographs, grain, shades. Everything is made once and cut out at places drawn by chance."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageFilter

from cvtool import images
from cvtool.errors import InputError

PHOTOGRAPHS = (  # of scikit-image, none of which shows text
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png", "ihc.png", "moon.png",
    "motorcycle_left.png", "retina.jpg", "rocket.jpg", "hubble_deep_field.jpg",
)  # fmt: skip
LARGEST = 640  # pixels of a photograph's longer side that are kept
MOST = 400  # photographs of a folder that are kept
TILE = 1024


class Textures:
    """Photographs and tiles of noise. folder: photographs to take instead of scikit-image's. Raises InputError for a folder without any."""

    def __init__(self, folder: Path | None = None) -> None:
        self.photographs = _of_folder(folder) if folder is not None else _of_skimage()
        noise = np.random.default_rng(20140609)
        self._grain = noise.standard_normal((TILE, TILE), np.float32)
        self._spots = []
        for radius in (1.2, 4.0, 16.0, 50.0):
            image = Image.fromarray((self._grain * 40 + 128).clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
            values = np.asarray(image, np.float32)
            self._spots.append((values - values.mean()) / max(values.std(), 1e-3))
        if not self.photographs:
            self.photographs = [Image.fromarray(self._invented(noise)) for _ in range(12)]

    def grain(self, rng: Random, height: int, width: int) -> np.ndarray:
        """H W float32: white noise of mean 0 and deviation 1."""
        return _cut(self._grain, rng, height, width)

    def spots(self, rng: Random, height: int, width: int, size: int) -> np.ndarray:
        """H W float32: noise of mean about 0 and deviation about 1 that is alike over some pixels. size: 0 (two pixels) to 3 (a hundred)."""
        return _cut(self._spots[size], rng, height, width)

    def photograph(self, rng: Random, height: int, width: int) -> np.ndarray:
        """H W 3 float32 in 0..255: a part of a photograph, turned and scaled."""
        image = rng.choice(self.photographs)
        longest = min(image.width / width, image.height / height)
        part = longest * rng.uniform(0.15, 1.0) if longest < 2 else rng.uniform(0.4, min(longest, 4.0))
        w, h = width * part, height * part
        x, y = rng.uniform(0, image.width - w), rng.uniform(0, image.height - h)
        cut = image.resize((width, height), Image.Resampling.BILINEAR, box=(x, y, x + w, y + h), reducing_gap=2.0)
        pixels = np.asarray(cut, np.float32)
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        if rng.random() < 0.3:
            pixels = pixels[:, :, [2, 0, 1]]
        return pixels

    def _invented(self, noise: np.random.Generator) -> np.ndarray:
        """480 640 3 uint8: coloured clouds, where there is no photograph."""
        rng = Random(int(noise.integers(1 << 30)))
        pixels = np.full((480, 640, 3), noise.uniform(50, 200, 3), np.float32)
        for size, strength in ((3, 45.0), (2, 25.0), (1, 14.0), (0, 8.0)):
            for channel in range(3):
                pixels[..., channel] += strength * self.spots(rng, 480, 640, size)
        return pixels.clip(0, 255).astype(np.uint8)


def ramp(rng: Random, height: int, width: int) -> np.ndarray:
    """H W float32 from -1 to 1: a shade that grows in one direction."""
    x, y = rng.uniform(-1, 1), rng.uniform(-1, 1)
    total = max(abs(x) + abs(y), 1e-3)
    columns, rows = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    return (rows[:, None] * (y / total) + columns[None, :] * (x / total)).astype(np.float32)


def _cut(tile: np.ndarray, rng: Random, height: int, width: int) -> np.ndarray:
    if height > TILE or width > TILE:
        tile = np.tile(tile, (-(-height // TILE) + 1, -(-width // TILE) + 1))
    y, x = rng.randrange(tile.shape[0] - height + 1), rng.randrange(tile.shape[1] - width + 1)
    cut = tile[y : y + height, x : x + width]
    return cut[:, ::-1] if rng.random() < 0.5 else cut


def _of_folder(folder: Path) -> list[Image.Image]:
    if not folder.is_dir():
        raise InputError("no such folder of backgrounds", where=folder)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in images.SUFFIXES and not path.name.startswith("."))
    found = []
    for path in files[:: -(-len(files) // MOST) or 1]:
        try:
            with images.opened(path) as image:
                found.append(_small(image))
        except InputError:
            continue
    if not found:
        raise InputError("no picture that can be read", where=folder)
    return found


def _of_skimage() -> list[Image.Image]:
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent / "data"
    return [_small(Image.open(folder / name)) for name in PHOTOGRAPHS if (folder / name).is_file()]


def _small(image: Image.Image) -> Image.Image:
    image = image.convert("RGB")
    scale = LARGEST / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BILINEAR) if scale < 1 else image
