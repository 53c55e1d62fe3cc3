"""A page's picture as a PDF holds it: the JPEG file itself where it can be, else bits, grays or colours."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cvtool import archives, images, pdf
from cvtool.records import Record

QUALITY = 85  # of pictures that are no JPEG files yet
LEAST, MOST = 60, 1300  # dots per inch that are believed of a file
USUAL = 200.0  # where a file does not say


@dataclass(frozen=True)
class Scan:
    """data: the image stream; space: DeviceGray or DeviceRGB; bits: of a value; filter: DCTDecode or FlateDecode. dpi: dots per inch."""

    data: bytes
    width: int
    height: int
    space: str
    bits: int
    filter: str
    dpi: float


def scan(record: Record) -> Scan:
    """Raises InputError."""
    source = record.source()
    page = record.get("page", 0)
    if not images.is_pdf(source):
        with images.opened(source) as image:
            images.turn_to(image, page if isinstance(page, int) else 0)
            dpi = _dpi(image)
            plain = image.format == "JPEG" and image.mode in ("L", "RGB") and image.getexif().get(0x0112, 1) == 1
            width, height, mode = image.width, image.height, image.mode
        if plain:
            data = source if isinstance(source, bytes) else _bytes(source)
            return Scan(data, width, height, "DeviceGray" if mode == "L" else "DeviceRGB", 8, "DCTDecode", dpi)
    else:
        dpi = pdf.DPI
    pixels = record.pixels()
    height, width = pixels.shape[:2]
    gray = bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all())
    if gray and not ((pixels[..., 0] > 0) & (pixels[..., 0] < 255)).any():
        bits = np.packbits(pixels[..., 0] > 127, axis=1)
        return Scan(zlib.compress(bits.tobytes(), 9), width, height, "DeviceGray", 1, "FlateDecode", dpi)
    image = Image.fromarray(pixels[..., 0] if gray else pixels)
    data = images.encoded(image, "JPEG", {"quality": QUALITY})
    return Scan(data, width, height, "DeviceGray" if gray else "DeviceRGB", 8, "DCTDecode", dpi)


def _bytes(source: str) -> bytes:
    with archives.opened(source) as file:
        return file.read()


def _dpi(image: Image.Image) -> float:
    """Dots per inch along x, where the file says something that can be."""
    value = image.info.get("dpi", (0, 0))
    first = float(value[0]) if isinstance(value, tuple) and value else 0.0
    return first if LEAST <= first <= MOST else USUAL
