"""Which detector of text looks at a picture, and what it finds: one for pages, which needs no weights, and one for scenes, where one ships."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np

from cvtool import registry
from cvtool.registry import Reference
from cvtool.runtime.pool import pool
from cvtool.tasks._predictor import Report, Settings
from cvtool.tasks.reading import layout
from cvtool.tasks.reading.regions import Finder


def reads(key: str) -> bool:
    """Whether what ships under this key is a recogniser: those have a character set."""
    entry = registry.find(key.partition(".")[0])
    return entry.verb == "ocr" and "charset" in entry.arguments


def scene_detector() -> Reference | None:
    """The finder of text in scenes that ships."""
    found = [key for key in registry.shipped() if not reads(key) and registry.find(key.partition(".")[0]).verb == "ocr"]
    return registry.parse(found[0]) if found else None


def page_detector() -> Reference:
    """The finder of words on pages, which needs no weights."""
    return next(registry.parse(name) for name, entry in registry.catalogue().items() if entry.verb == "ocr" and entry.role == "documents")


def fitting(pixels: np.ndarray) -> Reference:
    """The detector for a picture, H W 3 uint8, by what it looks like."""
    own = page_detector()
    return own if layout.is_page(pixels) else scene_detector() or own


class TextFinder:
    """Where text stands, whatever it says: call it with pictures. To be used as a context; detectors are loaded when the first picture needs them.

    detector: a reference, or "auto" for the one that fits the picture.
    """

    def __init__(self, detector: str, *, device: str = "auto", precision: str = "fp32", offline: bool = False, report: Report | None = None) -> None:
        self.named = None if detector == "auto" else registry.parse(detector)
        self.options = {"device": device, "precision": precision, "offline": offline}
        self.report = report or (lambda text: None)
        self._held = ExitStack()
        self._finders: dict[Reference, Finder] = {}

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """H W 3 uint8 -> N 4 2, the corners of each region. Raises UsageError for a model that finds no text, InputError."""
        reference = self.named or fitting(pixels)
        if reference not in self._finders:
            loaded = self._held.enter_context(pool.lease(reference, **self.options))  # type: ignore[arg-type]
            self._finders[reference] = Finder(loaded, Settings(), self.report)
        return np.asarray(self._finders[reference](pixels).quads, np.float64).reshape(-1, 4, 2)

    def __enter__(self) -> TextFinder:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()
