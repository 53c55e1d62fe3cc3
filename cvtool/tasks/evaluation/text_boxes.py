"""Regions of text against true ones, by the protocol of ICDAR 2015: found, and found and read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.data.pairing import first, match_images, plural
from cvtool.data.sides import Side, image_name, read_found, read_truth
from cvtool.errors import InputError, UsageError
from cvtool.metrics import _polygons
from cvtool.metrics.icdar import Regions
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._measured import Measured
from cvtool.tasks.evaluation._page import Page
from cvtool.tasks.evaluation._text_files import decoded

OPTIONS: dict[str, str] = {}
FITS = ("folder",)
SPARED = "###"  # the text of a region that need not be found
_NUMBER = r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*"
_LINE = re.compile(rf"({_NUMBER}(?:,{_NUMBER}){{7}})(?:,(.*))?")
_SCORE = re.compile(r"\s*(0?\.\d+|[01]\.\d*)\s*(?:,(.*))?")


@dataclass
class _Read:
    """One side. regions: of each of `side.images`. scored: whether its regions carry scores; twisted: how many had crossing sides."""

    side: Side
    regions: list[Regions]
    scored: bool = False
    twisted: int = 0
    facts: list[dict] = field(default_factory=list)


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """Folders of gt_img_N.txt and res_img_N.txt, or records whose annotations have polygons (or `quad`, or boxes) and texts.

    Raises InputError and UsageError.
    """
    if (gt.where if isinstance(gt, Side) else os.fspath(gt)) == os.fspath(dt) == "-":
        raise UsageError("stdin can be read only once: either the ground truth or the other side comes from it")
    calls = metrics or [Call("icdar")]
    if len(calls) > 1:
        raise UsageError(f"--metric {calls[1]}: one metric of text regions at a time")
    module = registered.find(calls[0].name).load()
    more = arguments(calls[0], module.counts)
    truth, found = _side(gt, options.stdin, truth=True), _side(dt, options.stdin, truth=False)
    pairing = match_images(truth.side, found.side)
    warnings = [line.replace("detected image", "picture") for line in pairing.warnings]
    answers = {position: number for number, position in enumerate(pairing.positions) if position is not None}
    for what, side in (("ground-truth", truth), ("found", found)):
        if side.twisted:
            warnings.append(f"{plural(side.twisted, f'{what} region')} whose sides crossed: the corners were taken in order around the middle")
    if more["min_score"] > 0 and not found.scored:
        raise UsageError("--metric icdar: min_score has no effect: the regions found have no scores")
    silent = [image_name(image) for n, image in enumerate(truth.side.images) if n not in answers]
    if silent:
        warnings.append(f"nothing was found in {len(silent):,} of {plural(len(truth.regions), 'ground-truth picture')}: {first(silent)}")
    read = any(text is not None for one in found.regions for text in one.texts)
    if not read:
        warnings.append("the regions found have no texts: only finding is measured, not reading")
    both = [(one, found.regions[answers[n]] if n in answers else Regions()) for n, one in enumerate(truth.regions)]
    counted = np.stack([module.counts(one, other, **more)[0] for one, other in both])  # N 4

    def many(weights: np.ndarray) -> dict[str, np.ndarray]:
        return module.figures(np.asarray(weights, np.float64) @ counted, read=read)

    def statistic(weights: np.ndarray) -> dict[str, float]:
        return {key: float(value[0]) for key, value in many(np.asarray(weights)[None]).items()}

    values = statistic(np.ones(len(counted)))
    sums = counted.sum(0).astype(int)
    if not sums[0]:
        warnings.append("the ground truth has no region that must be found: there is nothing to measure")
    return Measured(
        task="text-boxes",
        metrics=dict(values),
        units=[image_name(image) for image in truth.side.images],
        statistic=statistic,
        many=many,
        per_unit=dict(module.figures(counted, read=read)),
        attributes=truth.facts,
        params=dict(more) | {"covered": module.COVERED, "spared": SPARED},
        counts={
            "images": len(counted),
            "images_matched": len(answers),
            "annotations": int(sums[0]),
            "spared": sum(sum(one.spared) for one in truth.regions),
            "detections": int(sums[1]),
            "paired": int(sums[2]),
            "matched_by": pairing.how,
        },
        matching=pairing.account.replace("detected image", "picture").replace("without detections", "in which nothing was found"),
        warnings=warnings,
        primary="hmean",
        page=Page(unit=lambda number: _shown(*both[number], *module.counts(*both[number], **more)[1:])),
    )


def _shown(true: Regions, found: Regions, pairs: list[tuple[int, int]], out: set[int]) -> dict[str, Any]:
    """Regions of both sides as marks of the report."""
    met, right = ({pair[side] for pair in pairs} for side in (0, 1))

    def mark(regions: Regions, i: int, state: str) -> dict[str, Any]:
        score = {} if np.isnan(regions.scores[i]) else {"score": regions.scores[i]}
        return {"label": regions.texts[i] or "", "state": state, "polygons": [regions.corners[i].ravel().tolist()]} | score

    return {
        "truth": [mark(true, i, "spared" if true.spared[i] else "met" if i in met else "missed") for i in range(len(true.corners))],
        "found": [mark(found, i, "spared" if i in out else "right" if i in right else "wrong") for i in range(len(found.corners))],
    }


def _side(source: Any, stdin: IO[bytes] | None, *, truth: bool) -> _Read:
    if not isinstance(source, Side) and os.fspath(source) != "-" and Path(source).is_dir() and any(Path(source).glob("*.txt")):
        return _folder(Path(source), truth)
    if isinstance(source, Side):
        return _records(source)
    return _records(read_truth(source, stdin=stdin) if truth else read_found(source, stdin=stdin))


def _folder(path: Path, truth: bool) -> _Read:
    """x1,y1,...,x4,y4[,score][,text] a line; a number between 0 and 1 with a point on every line of the folder is a score."""
    from cvtool.data.inputs import natural

    files = sorted(path.glob("*.txt"), key=lambda file: natural(file.name))
    images, rows = [], []
    for file in files:
        images.append({"file_name": re.sub(r"^(gt|res)_", "", file.name)})
        lines = enumerate(re.split(r"\r\n|\n|\r", decoded(file)), 1)
        rows.append([_line(line, f"{file}, line {number}") for number, line in lines if line.strip()])
    rest = [text for one in rows for _, text in one]
    scored = not truth and bool(rest) and all(text is not None and _SCORE.fullmatch(text) for text in rest)
    out = _Read(Side(str(path), "records", images=images), [], scored)
    for one in rows:
        regions = Regions()
        for corners, text in one:
            value = float("nan")
            if scored and text is not None and (match := _SCORE.fullmatch(text)):
                value, text = float(match[1]), match[2]
            out.twisted += _add(regions, corners, text, text == SPARED, value)
        out.regions.append(regions)
    out.facts = images
    return out


def _line(line: str, where: str) -> tuple[np.ndarray, str | None]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise InputError(f"no region of text: {line[:60]!r}", where=where, hint="x1,y1,x2,y2,x3,y3,x4,y4,text; ### for what need not be read")
    return np.array([float(number) for number in match[1].split(",")]).reshape(4, 2), match[2]


def _records(side: Side) -> _Read:
    """Annotations: `quad` (eight numbers), else a polygon of `segmentation`, else `bbox`; crowds, `ignore` and ### need not be found."""
    out = _Read(side, [Regions() for _ in side.images], scored=bool(side.entries) and all("score" in entry for entry in side.entries))
    for i, (owner, entry) in enumerate(zip(side.owners, side.entries, strict=True)):
        if owner < 0:
            continue
        text = entry.get("text")
        spared = bool(entry.get("iscrowd") or entry.get("ignore")) or text == SPARED
        corners = _corners(entry)
        if corners is None:
            raise InputError("neither a quad, nor one polygon, nor a box", where=side.name(i), hint='`"quad": [x1, y1, ..., x4, y4]`')
        out.twisted += _add(out.regions[owner], corners, text if isinstance(text, str) else None, spared, float(entry.get("score", "nan")))
    out.facts = list(side.given)
    return out


def _corners(entry: dict) -> np.ndarray | None:
    shape = entry.get("segmentation")
    points: Iterable[Any] | None = entry.get("quad")
    if points is None and isinstance(shape, list) and len(shape) == 1:
        points = shape[0]
    if points is None and (box := entry.get("bbox")) is not None:
        x, y, w, h = box
        points = (x, y, x + w, y, x + w, y + h, x, y + h)
    try:
        flat = np.array(points, np.float64).ravel()
    except (TypeError, ValueError):
        return None
    return flat.reshape(-1, 2) if len(flat) >= 6 and len(flat) % 2 == 0 and np.isfinite(flat).all() else None


def _add(regions: Regions, corners: np.ndarray, text: str | None, spared: bool, score: float) -> bool:
    """Whether its sides had crossed."""
    ordered = _polygons.simple(corners) if len(corners) == 4 else corners
    regions.corners.append(ordered)
    regions.texts.append(text)
    regions.spared.append(spared)
    regions.scores.append(score)
    return ordered is not corners
