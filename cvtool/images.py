"""Pictures in: any file that Pillow reads becomes H W 3 uint8 RGB, by one rule for every oddity.

| case | rule |
| --- | --- |
| EXIF orientation (all 8, also in PNG, WebP, TIFF, XMP) | applied once, here; sizes, boxes and masks are those of the upright picture |
| JPEG in CMYK or YCCK (Adobe writes it inverted) | RGB by the plain ink formula; colour profiles (ICC) are ignored everywhere |
| 16 bits a channel | the full range 0..65535 is scaled by 1/257 to 0..255, never clipped, never stretched |
| 32-bit integers | as 16 bits; a value outside 0..65535 is an error |
| floats | all in [0, 1]: times 255; all in [0, 255]: rounded; anything else, or NaN, is an error |
| palette, 1-bit, gray, LA, YCbCr, HSV, Lab | RGB |
| alpha, and a palette's transparent entries | composited on white, as a viewer shows them |
| animated GIF, WebP, APNG | the first frame |
| TIFF of several pages | the page asked for (`page`, from 0); reduced-resolution copies are no pages |
| PDF | the page asked for, rendered at 300 dots per inch (needs the extra `pdf`) |
| truncated file, text renamed .jpg, empty file | InputError, never half a picture |
| more than 300 million pixels | InputError; CVTOOL_MAX_PIXELS sets another limit |

Pillow's own warnings (EXIF, TIFF tags, size) are silenced or turned into an InputError; only libtiff may itself put a line about a damaged TIFF
on stderr.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from cvtool import archives
from cvtool.errors import InputError

_SUFFIXES = ".jpg .jpeg .jpe .jfif .png .apng .gif .webp .avif .tif .tiff .bmp .dib .ppm .pgm .pbm .pnm .jp2 .j2k .tga .ico .pcx .sgi .qoi"
SUFFIXES = frozenset(_SUFFIXES.split())
DEFAULT_MAX_PIXELS = 300_000_000
MAX_PAGES = 10_000
_MAGIC = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"qoif"),
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"%PDF-"),
)
_COMMON = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM")  # loaded by Pillow at once; the rest costs an import of every plugin
# no EPS (Pillow would run Ghostscript on it) and nothing else that starts a program or needs a second file
_RARE = ("WEBP", "TIFF", "MPO", "AVIF", "JPEG2000", "TGA", "ICO", "PCX", "SGI", "QOI")
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError, TypeError, ArithmeticError, MemoryError, RuntimeError)
_FOREIGN = {
    ".heic": "HEIC is not supported; convert it to JPEG or PNG",
    ".heif": "HEIC is not supported; convert it to JPEG or PNG",
    ".svg": "SVG is a drawing, not a picture; render it to PNG",
    ".npy": "arrays are not pictures; save it as PNG",
    ".mp4": "videos are not pictures; extract frames first",
    ".mov": "videos are not pictures; extract frames first",
    ".avi": "videos are not pictures; extract frames first",
}
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Source = str | os.PathLike | bytes
warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python itself prints what Pillow logs of damaged files


def max_pixels() -> int:
    """The largest picture that is read, in pixels: CVTOOL_MAX_PIXELS, else 300 million (900 MB of RGB)."""
    text = os.environ.get("CVTOOL_MAX_PIXELS", "")
    if not text:
        return DEFAULT_MAX_PIXELS
    try:
        limit = int(float(text))
    except (ValueError, OverflowError) as error:
        raise InputError(f"CVTOOL_MAX_PIXELS is not a number: {text!r}") from error
    if limit <= 0:
        raise InputError(f"CVTOOL_MAX_PIXELS must be positive: {text}")
    return limit


def is_pdf(source: Source) -> bool:
    """Whether it is a PDF, by its name or, of bytes, by how they begin."""
    return source.startswith(b"%PDF-") if isinstance(source, bytes) else os.fspath(source).lower().endswith(".pdf")


def decode(source: Source, *, page: int = 0) -> np.ndarray:
    """The picture of a file (or of its bytes) as H W 3 uint8 RGB: upright, C-contiguous and writable, by the rules above.

    page: of a TIFF, counted as `pages` lists them.  Raises InputError, naming the file, for anything that is not a whole picture.
    """
    if is_pdf(source):
        from cvtool import pdf

        return pdf.decode(source, page, max_pixels())
    with opened(source) as image:
        turn_to(image, page)
        upright, _ = turned(image)
        if upright.mode == "RGB" and "transparency" not in upright.info:
            return np.array(upright)
        return _rgb(upright)


def labels(source: Source) -> np.ndarray:
    """A label map as it is stored: H W uint8 or uint16 of palette indices or gray values, one class (or instance) number a pixel.

    Raises InputError for a picture in colour, whose pixels are no class numbers.
    """
    with opened(source) as image:
        image.load()
        if image.mode in ("1", "L", "P"):
            return np.array(image, dtype=np.uint8)
        if image.mode.startswith("I"):
            values = np.array(image)
            if values.size and (values.min() < 0 or values.max() > 65535):
                raise InputError("a label map holds class numbers 0..65535")
            return values.astype(np.uint16)
        raise InputError(f"not a label map: its pixels are {image.mode}", hint="use a gray or palette PNG whose pixel values are the class numbers")


def size(source: Source, *, page: int = 0) -> tuple[int, int]:
    """(width, height) of the upright picture, read from the header alone. Raises InputError like `decode`, but does not see a truncated end."""
    if is_pdf(source):
        from cvtool import pdf

        return pdf.size(source, page, max_pixels())
    with opened(source) as image:
        turn_to(image, page)
        width, height = image.size
        return (height, width) if image.format != "TIFF" and _orientation(image) >= 5 else (width, height)


def pages(source: Source) -> list[int]:
    """The pages of a file as numbers for `decode(page=...)`: [0] for all but PDF and TIFF, where reduced-resolution copies and masks are left out."""
    if is_pdf(source):
        from cvtool import pdf

        return pdf.pages(source)
    with opened(source) as image:
        if image.format != "TIFF" or getattr(image, "n_frames", 1) == 1:
            return [0]
        found = []
        for number in range(min(image.n_frames, MAX_PAGES)):  # type: ignore[attr-defined]
            image.seek(number)
            kind = image.tag_v2.get(254, 0)  # type: ignore[attr-defined]
            if not (isinstance(kind, int) and kind & 0b101):
                found.append(number)
        return found or [0]


def encoded(image: Image.Image, kind: str, how: dict[str, Any]) -> bytes:
    """A picture as a file's bytes; `kind` and `how` as Pillow has them. Never save to a file directly: Pillow's encoders write to its descriptor and
    take a full disk for success."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def looks_like_image(head: bytes) -> bool:
    """Whether the first 16 bytes of a stream are those of a picture (JPEG, PNG, GIF, TIFF, BMP, WebP, AVIF, PNM, JPEG 2000, QOI) or of a PDF."""
    if head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return True
    return head[4:12] in (b"ftypavif", b"ftypavis", b"ftypheic", b"ftypmif1") or (head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace())


@contextlib.contextmanager
def opened(source: Source) -> Iterator[Image.Image]:
    """The picture with only its header read; whatever goes wrong until it is closed becomes an InputError that names the source."""
    limit = max_pixels()
    # Pillow keeps a limit of its own for the whole process; lifting it to ours leaves one rule
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, limit)
    with contextlib.ExitStack() as stack:
        empty = False
        try:
            file: IO[bytes] = stack.enter_context(io.BytesIO(source) if isinstance(source, bytes) else archives.opened(source))
            empty = not file.read(1)
            file.seek(0)
            try:
                image = Image.open(file, formats=_COMMON)
            except Image.UnidentifiedImageError:
                file.seek(0)
                Image.init()
                image = Image.open(file, formats=[name for name in _RARE if name in Image.OPEN])
            stack.enter_context(image)
            if image.width * image.height > limit:
                raise _too_large(limit, image.size)
            yield image
        except InputError as error:
            error.where = error.where or _name(source)
            raise
        except Image.DecompressionBombError as error:
            raise _too_large(limit, where=_name(source)) from error
        except _BROKEN as error:
            raise _unreadable(source, error, empty=empty) from error


def turned(image: Image.Image) -> tuple[Image.Image, int]:
    """The picture loaded and upright, and the EXIF orientation by which its pixels had to be turned for that, 1 for none."""
    image.load()
    turn = 1 if image.format == "TIFF" else _orientation(image)  # Pillow turns TIFF while loading
    return (image, 1) if turn == 1 else (image.transpose(_TURNS[turn]), turn)


def turn_to(image: Image.Image, page: int) -> None:
    """Go to a page, counted as the file has them. Raises InputError."""
    if page == 0:
        return
    count = getattr(image, "n_frames", 1)
    if not 0 < page < count:
        raise InputError(f"there is no page {page}: the file has {count}")
    image.seek(page)
    if image.width * image.height > max_pixels():
        raise _too_large(max_pixels(), image.size)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _BROKEN:  # a broken EXIF block does not make the picture unreadable
        return 1
    return value if value in _TURNS else 1


def _rgb(image: Image.Image) -> np.ndarray:
    """Any Pillow mode -> H W 3 uint8."""
    mode = image.mode
    if mode.startswith("I;16") or mode == "I":
        values = np.asarray(image).astype(np.int64)
        if mode == "I" and values.size and (values.min() < 0 or values.max() > 65535):
            raise InputError(f"its integers span {values.min()}..{values.max()}; a picture's lie in 0..65535")
        return _gray(((values * 2 + 257) // 514).astype(np.uint8))
    if mode == "F":
        floats = np.asarray(image)
        if not np.isfinite(floats).all():
            raise InputError("its pixels hold NaN or infinity")
        low, high = (float(floats.min()), float(floats.max())) if floats.size else (0.0, 0.0)
        if low < 0 or high > 255:
            raise InputError(f"its floats span {low:g}..{high:g}; a picture's lie in [0, 1] or [0, 255]")
        return _gray(np.rint(floats * 255 if high <= 1 else floats).astype(np.uint8))
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        return np.array(converted)
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return np.array(Image.alpha_composite(white, image).convert("RGB"))
    return np.array(image.convert("RGB"))


def _gray(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


def _name(source: Source) -> str | None:
    return None if isinstance(source, bytes) else os.fspath(source) or None


def _too_large(limit: int, shape: tuple[int, int] | None = None, *, where: str | None = None) -> InputError:
    of = f" ({shape[0]} x {shape[1]})" if shape else ""
    return InputError(f"the picture{of} has more than {limit:,} pixels", where=where, hint="CVTOOL_MAX_PIXELS=N allows more")


def _unreadable(source: Source, error: BaseException, *, empty: bool = False) -> InputError:
    """Pillow's and the system's many ways to fail, in words for a person."""
    where = _name(source)
    suffix = Path(where).suffix.lower() if where else ""
    hint = None
    if isinstance(error, FileNotFoundError):
        what = "no such file"
    elif isinstance(error, IsADirectoryError):
        what = "a folder, not a picture"
    elif isinstance(error, PermissionError):
        what = "no permission to read it"
    elif empty:
        what = "the file is empty"
    elif isinstance(error, Image.UnidentifiedImageError):
        what, hint = "not a picture in any known format", _FOREIGN.get(suffix)
    elif isinstance(error, MemoryError):
        what = "not enough memory for this picture"
    elif isinstance(error, OSError) and error.errno:
        what = error.strerror or str(error)
    elif "truncated" in str(error).lower() or isinstance(error, EOFError) or "broken data stream" in str(error).lower():
        what = "the picture is truncated or damaged"
    else:
        what = f"damaged picture: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    return InputError(what, where=where, hint=hint)
