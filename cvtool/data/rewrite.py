"""A picture file and its successor: the same format, size, values and metadata, except where something was painted.

Inside, pixels stay what the file has (gray, RGB, CMYK, with alpha, 1, 8 or, for gray, 16 bits); only what is painted is converted. So a lossless file
is bit-identical elsewhere. A JPEG is written with its own quantisation tables and subsampling, which changes the rest by rounding only.

| what | rule |
| --- | --- |
| orientation | the successor is upright: EXIF and XMP say 1; a JPEG's tables are turned with it |
| EXIF, ICC profile, resolution, XMP, a JPEG's comment | kept; the preview inside EXIF goes, because it shows the old picture |
| palette | written as RGB or RGBA: new colours need not be in it |
| CMYK where the successor cannot hold it | RGB by the plain ink formula, without the profile |
| animations, 16 bits in colour, floats, Lab | InputError: they would not come out as they went in |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin

from cvtool import images
from cvtool.errors import InputError

NATIVE = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "I;16")
ALPHA = ("LA", "RGBA")
_TO_NATIVE = {"P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "YCbCr": "RGB", "RGBX": "RGB", "I;16B": "I;16", "I;16L": "I;16", "I;16N": "I;16"}
_HELD = {  # what a file of the kind can hold
    "JPEG": ("L", "RGB", "CMYK"), "PNG": ("1", "L", "LA", "RGB", "RGBA", "I;16"), "WEBP": ("RGB", "RGBA"), "BMP": ("1", "L", "RGB", "RGBA"),
    "TIFF": NATIVE,
}  # fmt: skip
_LOSSLESS_TIFF = ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "group3", "group4", "tiff_ccitt", "zstd", "lzma")
_ORIENTATION, _EXIF_IFD, _GPS_IFD, _WIDTH, _HEIGHT = 0x0112, 0x8769, 0x8825, 0xA002, 0xA003
_PREVIEW = (0x0201, 0x0202)
_DESCRIBING = (270, 271, 272, 282, 283, 296, 305, 306, 315, 33432, _EXIF_IFD, _GPS_IFD)  # TIFF tags that say nothing of how the file is laid out
_IN_XMP = re.compile(rb"""(tiff:Orientation\s*=\s*["']|<tiff:Orientation>\s*)[1-8]""")


@dataclass
class Original:
    """kind: as Pillow calls the format. values: H W or H W C, upright. seen: H W 3 uint8, what is shown to a model; black ink is black, what is
    wholly transparent is white. tables, sampling: of a JPEG. lossless: whether the format loses nothing as this file uses it."""

    kind: str
    mode: str
    values: np.ndarray
    seen: np.ndarray
    info: dict[str, Any]
    exif: Image.Exif
    xmp: bytes | None
    tables: list[list[int]] | None = None
    sampling: int = 0
    lossless: bool = True

    def painted(self, picture: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The values with `picture` (H W 3 uint8) painted over them by `weights` (H W in [0, 1]); where the weight is 0 they are what they were.

        Alpha stays. A picture of 1 bit takes the nearer of the two.
        """
        values, where = self.values.copy(), weights > 0
        fresh = self._native(picture)
        if self.mode in ALPHA:
            fresh[..., -1] = values[..., -1]
        share = weights[where].astype(np.float64).reshape(-1, *(1,) * (values.ndim - 2))
        mixed = values[where] * (1 - share) + fresh[where] * share
        values[where] = mixed > 0.5 if self.mode == "1" else np.rint(mixed).astype(values.dtype)
        return values

    def _native(self, picture: np.ndarray) -> np.ndarray:
        """H W 3 uint8 as values of this picture's mode."""
        image = Image.fromarray(picture)
        if self.mode == "I;16":
            return np.array(image.convert("L"), np.uint16) * 257
        if self.mode == "1":
            return np.asarray(image.convert("L")) > 127
        return np.array(image.convert(self.mode))

    def encoded(self, values: np.ndarray, kind: str, how: dict[str, Any]) -> bytes:
        """The successor's file. kind, how: its format and Pillow's options for one that was something else before.

        Raises InputError where the format cannot hold transparency or 16 bits that the picture has; ValueError and OSError as Pillow does.
        """
        image = Image.fromarray(values) if self.mode != "CMYK" else Image.frombytes("CMYK", values.shape[1::-1], values.tobytes())
        inks = self.mode == "CMYK"
        image = _held(image, kind)
        options = dict(how)
        if kind == self.kind == "JPEG" and self.tables is not None:
            options = {"qtables": self.tables, "subsampling": self.sampling, "progressive": bool(self.info.get("progressive"))}
            options |= {"keep_rgb": True} if image.mode == "RGB" and self.info.get("adobe_transform") == 0 else {}
        if kind == "WEBP" and self.lossless:
            options = {"lossless": True, "exact": True, "method": 4}
        if kind == self.kind == "TIFF":
            known = self.info.get("compression")
            options = {"compression": known} if known in _LOSSLESS_TIFF else {} if known == "raw" else how
        if not inks or image.mode == "CMYK":
            options |= {"icc_profile": profile} if (profile := self.info.get("icc_profile")) else {}
        options |= {"dpi": dpi} if kind != "WEBP" and isinstance(dpi := self.info.get("dpi"), tuple) and all(0 < v < 1e6 for v in dpi) else {}
        options |= {"comment": text} if kind == "JPEG" and (text := self.info.get("comment")) else {}
        return images.encoded(image, kind, options | self._notes(kind))

    def _notes(self, kind: str) -> dict[str, Any]:
        """EXIF and XMP as the format takes them."""
        found: dict[str, Any] = {}
        if len(self.exif) and kind in ("JPEG", "PNG", "WEBP", "TIFF"):
            found["exif"] = self.exif.tobytes()
        if self.xmp is not None and kind in ("JPEG", "WEBP"):
            found["xmp"] = self.xmp
        if self.xmp is not None and kind == "PNG":
            text = PngImagePlugin.PngInfo()
            text.add_itxt("XML:com.adobe.xmp", self.xmp.decode("utf-8", "replace"))
            found["pnginfo"] = text
        return found


def keeps(original: Original, kind: str) -> bool:
    """Whether a successor of this kind is bit-identical where nothing was painted."""
    return kind in ("PNG", "TIFF", "BMP") or (kind == "WEBP" and original.lossless)


def change(original: Original, data: bytes, outside: np.ndarray) -> int:
    """The largest difference, of 255, between the old picture and the new file where `outside` (H W bool)."""
    new = read(data)
    old = original.seen if new.mode != original.mode else original.values
    values = new.seen if new.mode != original.mode else new.values
    return int(np.abs(values[outside].astype(int) - old[outside].astype(int)).max(initial=0))


def read(source: images.Source, *, page: int = 0) -> Original:
    """A file (or its bytes) as it stands, upright. page: of a TIFF. Raises InputError."""
    with images.opened(source) as image:
        images.turn_to(image, page)
        if getattr(image, "n_frames", 1) > 1 and image.format not in ("TIFF", "MPO"):
            raise InputError("an animation, of which one frame would be left", hint="save the frame that is meant as a picture of its own")
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        if image.mode != "I;16" and any(";16" in str(tile) for tile in getattr(image, "tile", ())) and not image.mode.startswith("I"):
            raise InputError("16 bits a channel in colour, of which 8 would be left", hint="convert it to 8 bits first")
        info: dict[str, Any] = {
            key: image.info[key] for key in ("icc_profile", "dpi", "comment", "progressive", "adobe_transform", "compression") if key in image.info
        }
        tables = sampling = None
        if kind == "JPEG":
            tables = [list(table) for _, table in sorted(image.quantization.items())]  # type: ignore[attr-defined]
            sampling = JpegImagePlugin.get_sampling(image)
        lossless = kind not in ("JPEG", "JPEG2000", "AVIF") and (kind != "WEBP" or _lossless_webp(source))
        upright, turn = images.turned(image)
        exif, xmp = _exif(image, upright.size), _xmp(image)
        mode = "RGBA" if "transparency" in upright.info else _TO_NATIVE.get(upright.mode, upright.mode)
        if mode not in NATIVE:
            raise InputError(f"pixels of the kind {upright.mode} would not come out as they went in", hint="convert it to 8-bit RGB first")
        native = upright if mode == upright.mode or mode == "I;16" else upright.convert(mode)
        values = np.array(native)
        if mode == "I;16":
            values = values.astype(np.uint16)
        if turn >= 5 and tables is not None:
            tables = [np.asarray(table).reshape(8, 8).T.reshape(-1).tolist() for table in tables]
            sampling = 2 if sampling == 2 else 0  # what was halved across would be halved down, which Pillow does not write
        sampling = 0 if sampling is None or sampling < 0 else sampling
        return Original(kind, mode, values, _seen(native, values, mode), info, exif, xmp, tables, sampling, lossless)


def _seen(image: Image.Image, values: np.ndarray, mode: str) -> np.ndarray:
    """H W 3 uint8."""
    if mode == "I;16":
        gray = ((values.astype(np.int64) * 2 + 257) // 514).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    pixels = np.array(image.convert("RGB"))
    if mode in ALPHA:
        pixels[values[..., -1] == 0] = 255
    return pixels


def _held(image: Image.Image, kind: str) -> Image.Image:
    """The picture in a mode that the format can hold. Raises InputError where that would lose transparency or depth."""
    held = _HELD.get(kind, NATIVE)
    if image.mode in held or (image.mode.startswith("I;16") and "I;16" in held):
        return image
    if image.mode.startswith("I;16"):
        raise InputError(f"{kind} does not hold 16 bits", hint="use a name in .png or .tif")
    if image.mode in ALPHA and not {"RGBA", image.mode} & set(held):
        if image.getchannel("A").getextrema() != (255, 255):
            raise InputError(f"{kind} does not hold transparency", hint="use a name in .png, .webp or .tif")
        image = image.convert("L" if image.mode == "LA" else "RGB")
    if image.mode in held:
        return image
    wished = {"1": "L", "LA": "RGBA"}.get(image.mode, "RGB")
    return image.convert(wished if wished in held else "RGB")


def _exif(image: Image.Image, size: tuple[int, int]) -> Image.Exif:
    """What EXIF says, with orientation 1 and this size; without the preview and without the tags of a TIFF's layout. A broken block is no block."""
    kept = Image.Exif()
    try:
        found = image.getexif()
        for tag, value in found.items():
            if tag in (_EXIF_IFD, _GPS_IFD):
                kept[tag] = dict(found.get_ifd(tag))
            elif tag in _DESCRIBING or (image.format != "TIFF" and tag not in _PREVIEW):
                kept[tag] = value
        if _WIDTH in (inner := kept.get(_EXIF_IFD, {})):
            inner[_WIDTH], inner[_HEIGHT] = size
        if _ORIENTATION in kept:
            kept[_ORIENTATION] = 1
        kept.tobytes()
    except Exception:  # whatever a damaged block may raise: the picture itself is whole
        return Image.Exif()
    return kept


def _xmp(image: Image.Image) -> bytes | None:
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(found, str):
        found = found.encode("utf-8")
    return _IN_XMP.sub(rb"\g<1>1", found) if isinstance(found, bytes) else None


def _lossless_webp(source: images.Source) -> bool:
    """Whether a WebP file holds a VP8L chunk: RIFF chunks are walked, each a name and a length of even bytes."""
    from cvtool import archives

    if isinstance(source, bytes):
        data = source
    else:
        with archives.opened(source) as file:
            data = file.read()
    place = 12
    while place + 8 <= len(data):
        name, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if name in (b"VP8L", b"VP8 "):
            return name == b"VP8L"
        place += 8 + length + length % 2
    return False
