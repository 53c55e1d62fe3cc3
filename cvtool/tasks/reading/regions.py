"""Regions of text found by a detector: words, or lines that are then cut into words; large pictures through windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cvtool.errors import UsageError
from cvtool.ops import quads as geometry
from cvtool.ops.locality_nms import standard_nms
from cvtool.results import Quads
from cvtool.runtime.pool import Loaded
from cvtool.tasks._predictor import Predictor, Report, Settings
from cvtool.tasks._tiling import windows

LONG = 7.0  # times as long as high: a region that may hold more than one word
CUT = 0.5  # share of a region's own area that lies in another of another window, for both to be one


class Finder:
    """A detector with the options of one run."""

    def __init__(self, loaded: Loaded, settings: Settings, report: Report) -> None:
        """Raises UsageError for a model that finds no regions of text, or does not take an option that was given."""
        if getattr(loaded.model, "result", None) is not Quads:
            raise UsageError(f"{loaded.reference} finds no text", hint="--detector takes a detector, such as east; recognisers go to -m")
        self.predict = Predictor(loaded, settings, report, verb="ocr")
        self.tile, self.overlap = settings.tile, 0.2 if settings.overlap is None else settings.overlap
        self.loaded = loaded

    def __call__(self, pixels: np.ndarray) -> Quads:
        """What is found in one picture, in its pixels, as numpy arrays. Raises what the model raises for it."""
        parts = []
        for window in windows(pixels.shape[1], pixels.shape[0], self.tile, self.overlap):
            (answer,) = self.predict([np.ascontiguousarray(window.cut(pixels))])
            if isinstance(answer, Exception):
                raise answer
            found = answer.numpy()
            assert isinstance(found, Quads)
            moved = np.asarray(found.quads, np.float64).reshape(-1, 4, 2) + np.array([window.left, window.top])
            scores = np.ones(len(moved)) if found.scores is None else np.asarray(found.scores, np.float64)
            parts.append((moved, scores, found.texts))
        quads, scores = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        texts = tuple(text for part in parts for text in (part[2] or (None,) * len(part[0])))
        if len(parts) > 1 and len(quads):
            keep = _once(quads, scores)
            quads, scores, texts = quads[keep], scores[keep], tuple(texts[i] for i in keep.tolist())
        return Quads(quads, scores, texts if any(text is not None for text in texts) else None)


def _once(quads: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Which regions of several windows stay: of those that are one the largest, then the surest. A word that an edge cuts lies in the whole one."""
    sizes = np.abs(geometry.area(quads))
    order = np.argsort(-sizes, kind="stable")
    kept: list[int] = []
    for i in order.tolist():
        near = np.array(kept, int)
        if len(near):
            shared = geometry.overlap(np.repeat(quads[i][None], len(near), 0), quads[near])
            if (shared > CUT * max(sizes[i], 1e-6)).any():
                continue
        kept.append(i)
    keep = np.array(sorted(kept), int)
    return keep[standard_nms(quads[keep], scores[keep], 0.5)]


def words(pixels: np.ndarray, quads: np.ndarray, find: Finder | None) -> tuple[np.ndarray, np.ndarray]:
    """Regions -> words, N 4 2, and the number of the region that each is of. What is too long for a word is looked at by `find`, a finder of words
    on pages; None leaves regions as they are."""
    wide, high = geometry.sides(quads)
    out: list[np.ndarray] = []
    owner: list[int] = []
    for i, quad in enumerate(quads):
        parts: Sequence[np.ndarray] = [quad]
        if find is not None and wide[i] > LONG * high[i]:
            parts = _parted(geometry.crop(pixels, quad), quad, find) or [quad]
        out += parts
        owner += [i] * len(parts)
    return np.array(out).reshape(-1, 4, 2), np.array(owner, int)


def _parted(crop: np.ndarray, quad: np.ndarray, find: Finder) -> list[np.ndarray]:
    """The words of a long region: between the gaps of the words that are found in it, as high as it is."""
    height, width = crop.shape[:2]
    boxes = geometry.bounds(np.asarray(find(crop).quads, np.float64).reshape(-1, 4, 2))
    boxes = boxes[(boxes[:, 3] - boxes[:, 1]) > 0.3 * height]
    if len(boxes) < 2:
        return []
    spans: list[list[float]] = []
    for x0, _, x1, _ in boxes[np.argsort(boxes[:, 0])].tolist():
        if spans and x0 < spans[-1][1] - 0.1 * height:
            spans[-1][1] = max(spans[-1][1], x1)
        else:
            spans.append([x0, x1])
    back = geometry.perspective(geometry.of_boxes(np.array([[0, 0, width, height]]))[0], quad)
    return [_mapped(geometry.of_boxes(np.array([[x0, 0, x1, height]]))[0], back) for x0, x1 in spans]


def _mapped(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    moved = np.concatenate([points, np.ones((len(points), 1))], 1) @ matrix.T
    return moved[:, :2] / moved[:, 2:]
