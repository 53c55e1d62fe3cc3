"""Pictures of how words were seen: straightened, and where a recogniser looked for each character."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cvtool import images
from cvtool.data.names import Names
from cvtool.errors import UsageError
from cvtool.records import Record
from cvtool.results import Text

ROW = 48  # pixels: the height of one look in a picture of attention
WARM = np.array([255, 80, 0], np.float32)


class Traces:
    """Two folders, either of which may be None: STEM.png for a picture of one word, STEM_0001.png ... for the words of a page."""

    def __init__(self, rectified: Path | None, attention: Path | None) -> None:
        """Raises UsageError for a folder that is not empty."""
        self.rectified, self.attention = rectified, attention
        for option, folder in (("--save-rectified", rectified), ("--save-attention", attention)):
            if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise UsageError(f"{option} {folder}: not an empty folder", hint="name a new one")
        self._names = Names()

    def save(self, record: Record, crops: Sequence[np.ndarray], texts: Sequence[Text], *, alone: bool) -> None:
        if self.rectified is None and self.attention is None:
            return
        stem = self._names.take(record, suffix="")
        for number, (crop, text) in enumerate(zip(crops, texts, strict=False), 1):
            name = f"{stem}.png" if alone else f"{stem}_{number:04d}.png"
            if self.rectified is not None and text.rectified is not None:
                _save(np.asarray(text.rectified), self.rectified / name)
            if self.attention is not None and text.attention is not None and len(text.attention):
                _save(looks(crop, np.asarray(text.attention, np.float32)), self.attention / name)


def looks(crop: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """H W 3 uint8 and L h w -> one below the other, the crop once for each of the L characters, warm where the model looked for it."""
    width = max(1, round(crop.shape[1] * ROW / crop.shape[0]))
    small = np.asarray(Image.fromarray(crop).resize((width, ROW), Image.Resampling.BILINEAR), np.float32)
    rows = []
    for look in attention:
        heat = Image.fromarray(look / max(float(look.max()), 1e-12)).resize((width, ROW), Image.Resampling.BILINEAR)
        share = 0.75 * np.clip(np.asarray(heat, np.float32), 0, 1)[..., None]
        rows.append(np.rint(small * (1 - share) + WARM * share).astype(np.uint8))
    return np.concatenate(rows)


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.encoded(Image.fromarray(np.ascontiguousarray(pixels)), "PNG", {}))
