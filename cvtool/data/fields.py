"""Depth maps and motion fields from the files that the field uses, as arrays.

| file | depth | flow |
| --- | --- | --- |
| .npy | H W numbers, as they are | H W 2 numbers (u, v) in pixels; NaN: unknown |
| .png | 16-bit (or 8-bit) gray: value / scale; 0: unknown | KITTI's 16-bit RGB: (R - 2^15) / 64, (G - 2^15) / 64, B: whether known |
| .flo | | Middlebury's: float32 202021.25, width, height, u and v by turns; above 1e9: unknown |
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvtool import images
from cvtool.errors import InputError

DEPTHS = frozenset((".npy", ".png"))
FLOWS = frozenset((".npy", ".png", ".flo"))
FLO, UNKNOWN = 202021.25, 1e9


def depth(path: str | Path, *, scale: float = 1000.0) -> np.ndarray:
    """H W float64; unknown depths are 0. scale: what a PNG's values are divided by (1000: millimetres into metres). Raises InputError."""
    if Path(path).suffix.lower() == ".npy":
        values = _array(path)
        if values.ndim == 3 and 1 in (values.shape[0], values.shape[-1]):
            values = values.reshape(max(values.shape[:2], values.shape[1:], key=lambda shape: shape[0] * shape[1]))
        if values.ndim != 2:
            raise InputError(f"a depth map is H W, not of shape {values.shape}", where=path)
        return values
    return images.labels(path).astype(np.float64) / scale


def flow(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """(motion H W 2 float64, in pixels; H W bool, where it is known). Raises InputError."""
    suffix = Path(path).suffix.lower()
    if suffix == ".npy":
        values = _array(path)
        if values.ndim != 3 or values.shape[2] != 2:
            raise InputError(f"a motion field is H W 2, not of shape {values.shape}", where=path)
        return values, np.isfinite(values).all(-1)
    if suffix == ".flo":
        return _flo(Path(path))
    words = _rgb16(path).astype(np.float64)
    return (words[..., :2] - 32768) / 64, words[..., 2] > 0


def _array(path: str | Path) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError("not a NumPy file of a plain array", where=path) from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise InputError("not a NumPy file of numbers", where=path)
    return values.astype(np.float64)


def _flo(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError((error.strerror or str(error)).lower(), where=path) from error
    if len(data) < 12 or np.frombuffer(data[:4], "<f4")[0] != np.float32(FLO):
        raise InputError("not a .flo file: it does not begin with PIEH", where=path)
    width, height = (int(side) for side in np.frombuffer(data[4:12], "<i4"))
    if width <= 0 or height <= 0 or len(data) != 12 + 8 * width * height:
        raise InputError(f"{width} x {height} motions are {8 * width * height} bytes, and the file has {len(data) - 12} of them", where=path)
    values = np.frombuffer(data[12:], "<f4").reshape(height, width, 2).astype(np.float64)
    return values, np.all(np.abs(values) <= UNKNOWN, axis=-1).reshape(height, width)  # NaN is not


def _rgb16(path: str | Path) -> np.ndarray:
    """H W 3 uint16 of a 16-bit RGB PNG.

    Pillow unpacks the first byte of each word into its 8-bit RGB; told that the words are little-endian, it takes the second. Both together are
    the words.
    """
    from PIL import Image

    try:
        halves = []
        for order in ("RGB;16B", "RGB;16L"):
            with Image.open(path, formats=["PNG"]) as image:
                if image.mode != "RGB" or not image.tile or image.tile[0][3] != "RGB;16B":
                    raise InputError("not KITTI's 16-bit RGB", where=path, hint="flow is .flo, .npy (H W 2) or a 16-bit RGB PNG")
                if image.width * image.height > images.max_pixels():
                    raise InputError(f"more than {images.max_pixels():,} pixels", where=path)
                image.tile = [(*tile[:3], order) for tile in image.tile]  # type: ignore[misc]
                halves.append(np.array(image, dtype=np.uint16))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError("damaged or no PNG", where=path) from error
    return halves[0] << 8 | halves[1]


def write_flo(path: Path, motion: np.ndarray) -> None:
    """H W 2 as Middlebury's .flo; NaN becomes its mark for unknown."""
    height, width = motion.shape[:2]
    known = np.where(np.isfinite(motion), motion, 1.6666668e9).astype("<f4")
    path.write_bytes(np.array(FLO, "<f4").tobytes() + np.array([width, height], "<i4").tobytes() + known.tobytes())
