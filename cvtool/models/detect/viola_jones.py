"""Viola-Jones: rectangle sums from an integral image, asked by a cascade of boosted trees (Viola & Jones, CVPR 2001).

Inference in numpy from OpenCV's cascade files, with Haar (Lienhart & Maydt 2002, tilted ones too) and LBP (Liao 2007) features. The default is
the face cascade that scikit-image installs; `viola-jones@eye.xml` runs any other. The pyramid of window sizes is walked in one of two ways:

filters: as in the paper, the filters grow and the picture stays. One integral image is read at the corners of the scaled filters; between
    pixels it is interpolated, so a filter sums exactly its own area and rounding biases nothing.
picture: as OpenCV runs its files, the picture shrinks (bilinear, in the same fixed point) and the filters stay. Boxes and counts equal
    those of OpenCV's detectMultiScale.

Weights own their preprocessing: the installed cascade runs with scaled filters, as its publisher runs it, and a file as OpenCV does; the
variants `filters` and `picture` ask for one of the two.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cvtool.batch import Batch, Prepare
from cvtool.errors import MissingDependency, ModelError
from cvtool.models.detect._cascade_xml import Cascade, Stage, read_cascade
from cvtool.ops.integral import corner_table, integral, rectangle_sum, tilted_integral
from cvtool.results import Boxes

VARIANTS = {
    "cascade": {},
    "filters": {"pyramid": "filters"},
    "picture": {"pyramid": "picture"},
    "tiny": {"scale_factor": 1.3, "min_size": 32},
}
WEIGHTS: dict[str, dict[str, Any]] = {
    "cascade@frontalface": {
        "package": "skimage",
        "file": "data/lbpcascade_frontalface_opencv.xml",
        "licence": "BSD-3-Clause",
        "data": "3000 faces, 1500 pictures without (the file's own words)",
        "categories": ["face"],
        "metrics": {},
    },
    "filters@frontalface": {
        "package": "skimage",
        "file": "data/lbpcascade_frontalface_opencv.xml",
        "licence": "BSD-3-Clause",
        "data": "3000 faces, 1500 pictures without (the file's own words)",
        "categories": ["face"],
        "metrics": {},
    },
    "picture@frontalface": {
        "package": "skimage",
        "file": "data/lbpcascade_frontalface_opencv.xml",
        "licence": "BSD-3-Clause",
        "data": "3000 faces, 1500 pictures without (the file's own words)",
        "categories": ["face"],
        "metrics": {},
    },
    "tiny@frontalface": {
        "package": "skimage",
        "file": "data/lbpcascade_frontalface_opencv.xml",
        "licence": "BSD-3-Clause",
        "data": "3000 faces, 1500 pictures without (the file's own words)",
        "categories": ["face"],
        "metrics": {},
    },
}
RECIPE: dict[str, Any] = {}  # a cascade is not trained by gradient

INSTALLED = WEIGHTS["cascade@frontalface"]
Pyramid = Literal["filters", "picture"]
EPS = 0.2  # windows belong to one group if their sides differ by less than this share of their size
FINE = 16  # grey levels are held in sixteenths where corners fall between pixels
HALF_SCORE = 3  # a group of this many windows scores 1/2
AT_ONCE = 1 << 18  # look-ups held in memory at a time
_RING = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))  # an LBP's neighbours, clockwise, bit 7 first


@dataclass(frozen=True)
class Level:
    """Everything that windows of one size read. Windows stand at every `step`-th cell; a cell is `scale` pixels wide."""

    scale: np.float32
    step: int
    unit: int  # the value of one grey level in the tables
    sums: NDArray[np.int32]  # rows+1 cols+1 integral of the cells' grey levels; may wrap around, rectangle sums do not
    stride: int  # entries of one row of the tables
    flat: NDArray[np.int32]  # `sums`, then the tilted table, in one row
    tilt: int  # where the tilted table begins in `flat`


class ViolaJones:
    """The detector of one cascade.

    pyramid: "filters" or "picture", see above; None leaves it to the cascade. scale_factor: > 1, ratio of successive window sizes.
    min_neighbors: an object needs more windows than that in its group. min_size: pixels, the smallest window looked at.
    """

    result = Boxes
    prepare = Prepare(mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)  # grey levels 0..255, the size as it is

    def __init__(self, *, pyramid: Pyramid | None = None, scale_factor: float = 1.1, min_neighbors: int = 3, min_size: int = 0) -> None:
        if scale_factor <= 1 or pyramid not in (None, "filters", "picture"):
            raise ValueError(f"scale_factor must exceed 1 and pyramid be filters or picture, not {scale_factor} and {pyramid}")
        self.asked, self.scale_factor, self.min_neighbors, self.min_size = pyramid, scale_factor, min_neighbors, min_size
        self.categories: list[dict[str, Any]] = [{"id": 1, "name": "face"}]
        self.path: Path | None = None

    def read_weights(self, path: str | Path) -> None:
        """Run the cascade of an OpenCV XML file from now on. Raises ModelError for anything else."""
        path = Path(path)
        if path.suffix.lower() != ".xml":
            raise ModelError("viola-jones takes OpenCV cascades, files that end in .xml", where=path)
        self.cascade, self.path = read_cascade(path), path
        self.categories = [{"id": 1, "name": category(path)}]

    @cached_property
    def cascade(self) -> Cascade:
        """The installed one, unless `read_weights` has set another."""
        return read_cascade(installed_cascade())

    @property
    def pyramid(self) -> Pyramid:
        """What grows from window size to window size: the filters, or (shrinking) the picture."""
        return self.asked or ("filters" if self.path is None or self.path.name == Path(INSTALLED["file"]).name else "picture")

    def predict(self, batch: Batch, *, conf: float | None = None, max_det: int | None = None) -> list[Boxes]:
        """Groups of accepted windows, best first. The score of a group of n windows is n / (n + 3): in (0, 1), one half at OpenCV's usual three.

        Without `conf` a group needs more than `min_neighbors` windows; with it, a score above `conf`, so 0.5 is OpenCV's default again.
        """
        found = []
        for image, place in zip(batch.images, batch.places, strict=True):
            pixels = image[:, : place.inner_height, : place.inner_width].round().clamp(0, 255).to(torch.uint8).cpu().numpy()
            boxes, counts = group(self.windows(grey(pixels)), self.min_neighbors if conf is None else HALF_SCORE * conf / max(1 - conf, 1e-9))
            order = np.argsort(-counts, kind="stable")[:max_det]
            scores = counts[order] / (counts[order] + HALF_SCORE)
            corners = place.boxes_back(torch.from_numpy(boxes[order].astype(np.float32)))
            found.append(Boxes(corners, torch.zeros(len(order), dtype=torch.int64), torch.from_numpy(scores.astype(np.float32))))
        return found

    def windows(self, image: NDArray[np.uint8]) -> NDArray[np.int64]:
        """H W grey levels -> N 4 xyxy: every window that passes all stages, before grouping."""
        found = [np.zeros((0, 4), np.int64)]
        for level in self.levels(image):
            xy = np.rint(self.accepted(level).astype(np.float32) * level.scale).astype(np.int64)
            size = np.rint(np.array([self.cascade.width, self.cascade.height], np.float32) * level.scale).astype(np.int64)
            found.append(np.concatenate([xy, xy + size], axis=1))
        return np.concatenate(found)

    def levels(self, image: NDArray[np.uint8]) -> Iterator[Level]:
        """The tables of every window size that fits, the smallest first. With scaled filters the picture is summed up once, here."""
        height, width = image.shape
        once = integral(image) if self.pyramid == "filters" else None
        for scale in self.scales(height, width):
            rows, cols = round(float(height / scale)), round(float(width / scale))
            if once is None:
                unit, sums = 1, integral(shrunk(image, rows, cols), dtype=np.int32)
            else:  # a cell's mean grey level, whatever its size: the area of the grown filters is normalised away
                unit, area = FINE, (height / rows) * (width / cols)
                sums = np.rint(corner_table(once, rows, cols) * (FINE / area)).astype(np.int64).astype(np.int32)
            flat = sums.ravel()
            if self.cascade.tilted:
                flat = np.concatenate([flat, tilted_integral(cells(sums), dtype=np.int32).ravel()])
            yield Level(scale, 1 if scale >= 2 else 2, unit, sums, cols + 1, flat, sums.size)

    def scales(self, height: int, width: int) -> Iterator[np.float32]:
        """Window sizes that fit, in units of the cascade's own."""
        factor = 1.0
        while round(self.cascade.width * factor) <= width and round(self.cascade.height * factor) <= height:
            if min(self.cascade.width, self.cascade.height) * factor >= self.min_size:
                yield np.float32(factor)
            factor *= self.scale_factor

    def accepted(self, level: Level) -> NDArray[np.int64]:
        """N 2 (x, y), in cells, of the windows that pass every stage.

        As in OpenCV, the window after one that fails the first stage is not looked at, and one without contrast is none.
        """
        rows, cols = (level.sums.shape[0] - self.cascade.height, level.sums.shape[1] - self.cascade.width)
        y, x = np.arange(0, rows, level.step), np.arange(0, cols, level.step)
        if not (y.size and x.size):
            return np.zeros((0, 2), np.int64)
        starts = y[:, None] * level.stride + x
        contrast = self.contrast(level, y, x) if self.cascade.kind == "HAAR" else np.ones(starts.shape, np.float32)
        seen = contrast > 0
        passed = np.zeros(starts.shape, bool)
        passed[seen] = self.passes(self.cascade.stages[0], level, starts[seen], contrast[seen])
        passed &= visited(seen & ~passed)
        left, factors = starts[passed], contrast[passed]
        for stage in self.cascade.stages[1:]:
            if not left.size:
                break
            kept = self.passes(stage, level, left, factors)
            left, factors = left[kept], factors[kept]
        return np.stack([left % level.stride, left // level.stride], axis=1)

    def contrast(self, level: Level, y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.float32]:
        """len(y) len(x): what a window's features are multiplied with, 1 / (area * standard deviation); zero where the deviation is below ten levels.

        Mean and mean square are read over the window less a rim of one cell, as in OpenCV and in the cascades' training.
        """
        width, height = self.cascade.width - 2, self.cascade.height - 2
        area = width * height
        y, x = y[:, None] + 1, x[None] + 1
        grey_levels = cells(level.sums).astype(np.int64)
        squares = rectangle_sum(integral(grey_levels * grey_levels), x, y, width, height)
        total = rectangle_sum(level.sums, x, y, width, height).astype(np.float64)
        spread = np.sqrt(np.maximum(area * squares.astype(np.float64) - total * total, 0))  # area * deviation * unit
        factor = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0).astype(np.float32)
        return np.where(area * level.unit * factor < np.float32(0.1), factor, np.float32(0))

    def passes(self, stage: Stage, level: Level, starts: NDArray[np.intp], contrast: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of the windows that begin at `starts` of the level's tables pass one stage."""
        offsets = stage.rows * level.stride + stage.cols
        if stage.tilted is not None:
            offsets = offsets + level.tilt * stage.tilted[:, None]
        several = max(1, AT_ONCE // offsets.size)
        parts = [slice(i, i + several) for i in range(0, len(starts), several)]
        return np.concatenate([np.zeros(0, bool), *(sums_of(stage, level, offsets, starts[p], contrast[p]) >= stage.threshold for p in parts)])


def sums_of(stage: Stage, level: Level, offsets: NDArray[np.intp], starts: NDArray[np.intp], contrast: NDArray[np.float32]) -> NDArray[np.float64]:
    """One stage's sum of leaves for each window, all its features at once."""
    corners = level.flat.take(offsets.reshape(-1, 1) + starts, mode="clip").reshape(len(offsets), -1, 4, len(starts))  # nodes, R or 4, 4, N
    if stage.subsets is not None:
        yes = stage.subsets[np.arange(len(offsets))[:, None], patterns(stage, level, corners)]
    else:
        sums = corners[:, :, 0] - corners[:, :, 1] - corners[:, :, 2] + corners[:, :, 3]  # nodes R N
        values = np.einsum("frn,fr->fn", sums, stage.weights, dtype=np.float32, casting="unsafe")
        yes = values * contrast < stage.limits[:, None]  # type: ignore[index]
    ends = np.where(yes, stage.yes[:, None], stage.no[:, None])  # nodes N: where each node would send the window
    at = ends[stage.roots]  # trees N
    for _ in range(stage.depth - 1):
        at = np.where(at > 0, np.take_along_axis(ends, stage.roots[:, None] + np.maximum(at, 0), axis=0), at)
    return stage.leaves.take(stage.first_leaf[:, None] - at).sum(axis=0, dtype=np.float64)


def patterns(stage: Stage, level: Level, corners: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Local binary patterns: one bit for each of the eight blocks around the middle one, set where it is not darker.

    Where grey levels have fractions, mean levels that differ by less than a half count as equal, as they did in the 8-bit pictures of the training.
    """
    across = corners[:, :, 1:] - corners[:, :, :-1]  # nodes 4 3 N
    blocks = across[:, 1:] - across[:, :-1]  # nodes 3 3 N
    area = (stage.rows[:, 4] - stage.rows[:, 0]) * (stage.cols[:, 1] - stage.cols[:, 0])
    middle = blocks[:, 1, 1] - (area * (level.unit // 2)).astype(np.int32)[:, None]
    found = np.zeros(middle.shape, np.uint8)
    for bit, (i, j) in enumerate(_RING):
        found |= (blocks[:, i, j] >= middle).view(np.uint8) << np.uint8(7 - bit)
    return found


def visited(failed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which windows of each row a walk from left to right looks at, if it leaves out the one after each that failed."""
    looked = np.ones_like(failed)
    for x in range(1, failed.shape[1]):
        looked[:, x] = ~(looked[:, x - 1] & failed[:, x - 1])
    return looked


def cells(sums: NDArray[np.int32]) -> NDArray[np.int32]:
    """The grey levels of which `sums` is the integral."""
    return np.diff(np.diff(sums, axis=0), axis=1)


def grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """3 H W RGB -> H W luma (BT.601) in OpenCV's fixed point, so that the cascades see the very grey levels they see there."""
    r, g, b = pixels.astype(np.int32)
    return ((r * 9798 + g * 19235 + b * 3735 + 16384) >> 15).astype(np.uint8)


def shrunk(image: NDArray[np.uint8], rows: int, cols: int) -> NDArray[np.uint8]:
    """H W -> rows cols, bilinear without a filter, in the fixed point of OpenCV's INTER_LINEAR_EXACT: equal to it in every pixel."""
    if image.shape == (rows, cols):
        return image

    def taps(size: int, into: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        at = (np.arange(into) + 0.5) * (1 / (into / size)) - 0.5
        first = np.clip(np.floor(at), 0, size - 1).astype(np.intp)
        return first, np.where(first < size - 1, np.rint(np.clip(at - first, 0, 1) * 256), 0).astype(np.int64)

    (y, v), (x, u) = taps(image.shape[0], rows), taps(image.shape[1], cols)
    wide = image.astype(np.int64)
    lines = wide[:, x] * (256 - u) + wide[:, np.minimum(x + 1, image.shape[1] - 1)] * u
    out = lines[y] * (256 - v)[:, None] + lines[np.minimum(y + 1, image.shape[0] - 1)] * v[:, None]
    return ((out + (1 << 15)) >> 16).astype(np.uint8)


def group(windows: NDArray[np.int64], least: float, eps: float = EPS) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Windows that overlap much, N 4 xyxy, become their mean: (M 4 boxes, M counts) of the groups of more than `least` windows.

    Two windows are alike if no side differs by more than `eps` times half the sum of the smaller width and height; alikeness is passed on (as in
    OpenCV's groupRectangles). A group inside a stronger one (grown by `eps`) is dropped.
    """
    owner = np.full(len(windows), -1)
    sides = windows[:, 2:] - windows[:, :2]
    groups = 0
    for seed in range(len(windows)):
        if owner[seed] >= 0:
            continue
        owner[seed] = groups
        waiting = [seed]
        while waiting:
            one = waiting.pop()
            free = np.flatnonzero(owner < 0)
            reach = eps * 0.5 * np.minimum(sides[free], sides[one]).sum(axis=1)
            alike = free[(np.abs(windows[free] - windows[one]) <= reach[:, None]).all(axis=1)]
            owner[alike] = groups
            waiting.extend(alike.tolist())
        groups += 1
    counts = np.bincount(owner, minlength=groups)
    xywh = np.concatenate([windows[:, :2], sides], axis=1)
    sums = np.stack([np.bincount(owner, xywh[:, k], groups) for k in range(4)], axis=1)
    means = np.rint(sums.astype(np.float32) * (np.float32(1) / counts.astype(np.float32))[:, None]).astype(np.int64)
    means[:, 2:] += means[:, :2]
    means, counts = means[counts > least], counts[counts > least]
    alone = ~_inside_stronger(means, counts, eps)
    return means[alone], counts[alone]


def _inside_stronger(boxes: NDArray[np.int64], counts: NDArray[np.int64], eps: float) -> Any:
    """M bool: which boxes lie inside another, grown by `eps`, that has more windows."""
    slack = np.rint((boxes[:, 2:] - boxes[:, :2]) * eps)
    grown = np.concatenate([boxes[:, :2] - slack, boxes[:, 2:] + slack], axis=1)
    inside = (boxes[:, None, :2] >= grown[None, :, :2]).all(axis=2) & (boxes[:, None, 2:] <= grown[None, :, 2:]).all(axis=2)
    stronger = (counts[None] > np.maximum(3, counts[:, None])) | (counts[:, None] < 3)
    return (inside & stronger & ~np.eye(len(boxes), dtype=bool)).any(axis=1)


def installed_cascade() -> Path:
    """The face cascade that scikit-image carries, found without importing scikit-image."""
    spec = importlib.util.find_spec(INSTALLED["package"])
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency("viola-jones reads its default cascade from scikit-image, which is not installed", hint="pip install scikit-image")
    return Path(spec.submodule_search_locations[0], INSTALLED["file"])


def category(path: Path) -> str:
    """What a cascade finds, from its file name: haarcascade_frontalface_alt2.xml -> face, haarcascade_eye.xml -> eye."""
    name = path.stem.removeprefix("haarcascade_").removeprefix("lbpcascade_")
    return "face" if "face" in name and "cat" not in name else name


def build(*, classes: int = 1, **variant: Any) -> ViolaJones:
    """The detector of the installed cascade. What a cascade finds is its own affair, so `classes` changes nothing."""
    return ViolaJones(**variant)
