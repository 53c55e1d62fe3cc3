"""What the HTML report shows beyond the numbers: the worst units with their pictures, and data for charts."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cvtool.errors import CvtoolError, InputError

if TYPE_CHECKING:
    from PIL import Image

    from cvtool.tasks.evaluation._measured import Measured

MOST = 60  # units shown
WIDTH, HEIGHT = 320, 480  # pixels of a thumbnail at most
BYTES = 6 * 1024**2  # of all thumbnails together, as the page holds them
BINS = 20


@dataclass(frozen=True)
class Page:
    """What a kind adds. unit: number of a unit -> a card's parts (below); charts: see `cvtool.render.report.html`.

    truth, found: marks (`label`, `score`, `box` xywh or `polygons`, in pixels; `state` met, missed, right, wrong or spared). size: (width, height).
    pair: `truth` and `found`, pictures or paths of such. text: (same, gone or new, characters) in order. line: what is to be said in words. own:
    False where units are no pictures. first: figures that rank units of equal value, larger ones first. values: of each unit, where they are others
    than `Measured.per_unit`.
    """

    unit: Callable[[int], dict[str, Any]] | None = None
    charts: Callable[[], dict[str, Any]] | None = None
    own: bool = True
    first: np.ndarray | None = None
    values: Callable[[], Mapping[str, np.ndarray] | None] | None = None


def write(path: Path, measured: Measured, report: Mapping[str, Any], gt: Any, images: str | os.PathLike | None) -> None:
    """`html` into a file, which appears under its name only when it is whole."""
    from cvtool.data.formats._files import output_text

    name = os.fspath(getattr(gt, "where", gt))
    page = html(measured, report, gt, images, f"{report['task'].capitalize()} against {'stdin' if name == '-' else Path(name).name}")
    with output_text(path) as stream:
        stream.write(page)


def html(measured: Measured, report: Mapping[str, Any], gt: Any, images: str | os.PathLike | None, title: str) -> str:
    """The page of a report. images: the folder of the pictures; without it they are looked for around the ground truth. Raises InputError."""
    from cvtool.render.report import html as render
    from cvtool.tasks.evaluation._measured import plain

    cards, rule, spread = worst(measured, gt, images)
    charts = dict(measured.page.charts()) if measured.page is not None and measured.page.charts is not None else {}
    charts |= {"distribution": spread} if spread else {}
    return render({**report, "charts": plain(charts), "worst": {"rule": rule}}, gallery=plain(cards), title=title)


def worst(measured: Measured, gt: Any, images: str | os.PathLike | None) -> tuple[list[dict[str, Any]], str, dict[str, Any] | None]:
    """(cards, worst first; by what rule; how all units are spread)."""
    page = measured.page or Page(own=False)
    given = page.values() if page.values is not None else None
    values = measured.per_unit if given is None else given
    if not len(values) or not measured.units:
        return [], "", None
    key = measured.primary if measured.primary is not None and measured.primary in values else next(iter(values))
    lower = key in measured.lower
    column = np.asarray(values[key], np.float64)
    there = np.flatnonzero(~np.isnan(column))
    ties = _ties(measured, {other: one for other, one in values.items() if other != key})
    badness = -column if not lower else column
    order = there[np.lexsort((there, -ties[there], -badness[there]))]
    best = _perfect(column[there], lower)
    chosen = [int(n) for n in order if column[n] != best][:MOST]
    finder = _Pictures(gt, images) if page.own else None
    whole = {name for name, one in values.items() if name not in measured.metrics and np.array_equal(one, np.round(one))}  # counts
    cards = []
    for n in chosen:
        shown = {name: int(one[n]) if name in whole else float(one[n]) for name, one in values.items() if not np.isnan(one[n])}
        card: dict[str, Any] = {"name": measured.units[n], "values": shown}
        card |= page.unit(n) if page.unit is not None else {}
        if "pair" in card:
            card["pair"] = {side: _uri(source) for side, source in card["pair"].items() if source is not None}
        elif finder is not None:
            card |= finder.card(measured, n, card.get("size"))
        cards.append(card)
    rule = _rule(measured, key, lower, len(chosen), int((column[there] != best).sum()))
    if finder is not None and finder.missing:
        missing = f"Pictures not at hand: {finder.missing:,}; --images says where they lie."
        rule = f"{rule} {missing}"
    return _capped(cards), rule, _spread(key, column[there])


def _ties(measured: Measured, others: Mapping[str, np.ndarray]) -> np.ndarray:
    """What ranks units of equal value, larger ones first: what the kind says, else the next figures together."""
    if measured.page is not None and measured.page.first is not None:
        return measured.page.first
    sums = np.zeros(len(measured.units))
    for other, one in others.items():
        column = np.nan_to_num(np.asarray(one, np.float64), posinf=0, neginf=0)
        sums += column if other in measured.lower or other in ("missed", "false_positives") else -column
    return sums


def _perfect(column: np.ndarray, lower: bool) -> float:
    """The value with which nothing is wrong: such units are not shown. nan where there is none."""
    if lower:
        return 0.0
    return 1.0 if len(column) and column.max() <= 1 and column.min() >= 0 else np.nan


def _rule(measured: Measured, key: str, lower: bool, shown: int, wrong: int) -> str:
    what = f"The {shown} {'highest' if lower else 'lowest'} by {key}" if shown > 1 else f"By {key}"
    rest = f" of {wrong:,} that are not perfect" if wrong > shown else ""
    return (
        f"{what}{rest}, of {len(measured.units):,} in all. Pictures at most {WIDTH} pixels wide, {MOST} of them and {BYTES // 1024**2} MB together."
    )


def _spread(key: str, column: np.ndarray) -> dict[str, Any] | None:
    """Counts of the units' values in bins."""
    finite = column[np.isfinite(column)]
    if len(finite) < 2 or np.ptp(finite) == 0:
        return None
    low, high = (0.0, 1.0) if finite.min() >= 0 and finite.max() <= 1 else (float(finite.min()), float(finite.max()))
    counts, edges = np.histogram(finite, BINS, (low, high))
    return {"key": key, "edges": edges, "count": counts}


def _capped(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pictures beyond the size of the page give way to a word."""
    size = 0
    for card in cards:
        size += len(card.get("picture") or "") + sum(map(len, card.get("pair", {}).values()))
        if size > BYTES:
            card.pop("picture", None)
            if "pair" in card:
                card["pair"] = {}
            card["why"] = "left out: the page would grow too large"
    return cards


class _Pictures:
    """Pictures of units, looked for in `images` or around the ground truth."""

    def __init__(self, gt: Any, images: str | os.PathLike | None) -> None:
        from cvtool.data.roots import Roots

        source = getattr(gt, "where", gt)
        file = Path(".") if os.fspath(source) in ("-", "stdin") or not Path(source).exists() else Path(source)
        self.roots = Roots(file, None if images is None else os.fspath(images))
        self.missing = 0

    def card(self, measured: Measured, number: int, size: tuple[int, int] | None) -> dict[str, Any]:
        """`picture` and `size`, or `why` there is none."""
        from cvtool import images

        given = measured.attributes[number] if number < len(measured.attributes) else {}
        name = str(given.get("file_name") or measured.units[number])
        try:
            place = self._find(name)
            if place is None:
                self.missing += 1
                return {"picture": None, "why": "the picture is not at hand"}
            pixels = images.decode(place)
        except CvtoolError as error:
            self.missing += 1
            return {"picture": None, "why": error.what}
        from PIL import Image

        return {"picture": uri(Image.fromarray(pixels)), "size": size or (pixels.shape[1], pixels.shape[0])}

    def _find(self, name: str) -> str | None:
        """The picture of that name, or of that stem where the name is a text file's or has no suffix."""
        from cvtool import images

        stem, suffix = os.path.splitext(name)
        names = (
            [name] if suffix.lower() in images.SUFFIXES else [(stem if suffix == ".txt" else name) + end for end in (".jpg", ".png", ".jpeg", ".tif")]
        )
        for one in names:
            for place in (self.roots.find(one, where=name), one):
                if os.path.isfile(place):
                    return place
        return None


def _uri(source: Any) -> str:
    """A picture or the path of one; an empty text where it cannot be read."""
    from PIL import Image

    from cvtool import images

    try:
        return uri(Image.fromarray(images.decode(source)) if isinstance(source, (str, os.PathLike)) else source)
    except InputError:
        return ""


def uri(picture: Image.Image) -> str:
    """A thumbnail as a data URI: JPEG, or PNG of a picture with a palette, whose edges JPEG would blur."""
    from PIL import Image

    scale = min(1.0, WIDTH / picture.width, HEIGHT / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    out = io.BytesIO()
    if picture.mode == "P":
        picture.resize(size, Image.Resampling.NEAREST).save(out, "PNG", optimize=True)
        return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
    picture.convert("RGB").resize(size, Image.Resampling.BOX if scale < 0.5 else Image.Resampling.LANCZOS).save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def labelled(labels: np.ndarray, names: Sequence[str]) -> Image.Image:
    """H W labels as a picture in the classes' colours; what is none of them (void, nothing found) is black. Beyond 255 classes colours repeat."""
    from PIL import Image

    from cvtool.render.palette import colour

    shown = [colour(name) for name in names[:255]]
    picture = Image.fromarray(np.where(labels < len(names), labels % 255, 255).astype(np.uint8), "L")
    picture.putpalette([value for one in [*shown, *[(0, 0, 0)] * (256 - len(shown))] for value in one])
    return picture


def calibration(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> dict[str, Any] | None:
    """Of bins (a, b] of equal width the mean confidence, the share right and how many; `ece` as of the metric. None without scores in [0, 1]."""
    known = ~np.isnan(confidence)
    confidence, right = confidence[known], right[known].astype(float)
    if not len(confidence) or confidence.min() < 0 or confidence.max() > 1:
        return None
    place = np.maximum(0, np.ceil(confidence * bins).astype(int) - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean, share = np.bincount(place, confidence, bins) / count, np.bincount(place, right, bins) / count
    gap = np.nansum(np.abs(mean - share) * count) / count.sum()
    return {"confidence": mean, "accuracy": share, "count": count, "ece": float(gap)}


def scores(values: np.ndarray, right: np.ndarray) -> dict[str, Any] | None:
    """How many right and wrong ones there are by score; None without scores."""
    known = np.isfinite(values)
    values, right = values[known], right[known]
    if not len(values):
        return None
    low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))
    edges = np.linspace(low, high, BINS + 1)
    return {"edges": edges, "right": np.histogram(values[right], edges)[0], "wrong": np.histogram(values[~right], edges)[0]}
