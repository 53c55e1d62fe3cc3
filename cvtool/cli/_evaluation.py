"""The report of an evaluation for people: each number with its name in words, intervals, comparison, slices; and the list of metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

THINGS = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints", "boundary": "masks and their boundaries"}
SIZES = {"s": "small objects, under 32 x 32 pixels", "m": "medium objects, 32 x 32 to 96 x 96", "l": "large objects, over 96 x 96"}
HEADS = {"classification": "classes of", "segmentation": "label maps of"}


def text(report: dict[str, Any]) -> str:
    """The report as one JSON object, a line a key."""
    rows = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}" for key, value in report.items())
    return "{" + ",\n ".join(rows) + "}"


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines."""
    metrics = {key: value for key, value in report["metrics"].items() if not key.startswith("per_class.")}
    words = _all_words(report)
    width = max((len(key) for key in metrics), default=0) + (2 if report["task"] == "detection" else 1)
    lines = [_head(report), ""]
    for key, value in metrics.items():
        span = report.get("intervals", {}).get(key)
        shown = f"{_number(value)} {_span(span):18}" if span else _number(value)
        lines.append(f"  {key:{max(6, width)}} {shown}   {words.get(key, '')}".rstrip())
    if rows := report.get("per_class"):
        keys = list(dict.fromkeys(key for row in rows.values() for key in row))
        width, cell = max(len("class"), *map(len, rows)), max(6, *map(len, keys))
        lines += ["", f"  {'class':{width}}  " + "  ".join(f"{key:>{cell}}" for key in keys)]
        lines += [f"  {name:{width}}  " + "  ".join(f"{_cell(row.get(key)):>{cell}}" for key in keys) for name, row in rows.items()]
    for key, groups in report.get("slices", {}).items():
        keys = list(next(iter(groups.values())))
        width, cell = max(len(key), *map(len, groups)), max(6, *map(len, keys))
        lines += ["", f"  {key:{width}}  " + "  ".join(f"{name:>{cell}}" for name in keys)]
        lines += [f"  {name:{width}}  " + "  ".join(f"{_cell(row[k]):>{cell}}" for k in keys) for name, row in groups.items()]
    if comparison := report.get("comparison"):
        lines += ["", *_compared(comparison["metrics"])]
    return lines


def _head(report: dict[str, Any]) -> str:
    counts = report["counts"]
    classes = count(counts.get("categories", 0), "class", "classes")
    if report["task"] == "detection":
        images, found, objects = (
            count(counts[key], word) for key, word in (("images", "image"), ("detections", "detection"), ("annotations", "object"))
        )
        return f"{THINGS[report['iou_type']]} in {images}: {found} against {objects} of {classes}"
    if report["task"] in HEADS:
        return f"{HEADS[report['task']]} {count(counts['images'], 'picture')}: {classes}"
    return f"{report['task']}: {report['matching']}" if report["matching"] else str(report["task"])


def _compared(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Old, new and difference of each metric, and how sure the difference is."""
    width = max(len("metric"), *map(len, rows))
    lines = [f"  {'metric':{width}}  {'old':>7}  {'new':>7}  {'change':>8}"]
    for key, row in rows.items():
        change = "       -" if row["difference"] is None else f"{row['difference']:+8.4f}"
        sure = ""
        if "interval" in row and row["difference"] is not None and row["p"] is not None:
            sure = f"  {_span(row['interval'])}  p = {row['p']:.3f}, {'significant' if row['significant'] else 'not significant'}"
        lines.append(f"  {key:{width}}  {_number(row['old']):>7}  {_number(row['new']):>7}  {change}{sure}")
    return lines


def _all_words(report: dict[str, Any]) -> dict[str, str]:
    from cvtool.metrics import words

    own = words(list(report["metrics"]))
    if report["task"] == "detection" and "max_dets" in report["params"]:
        coco = (key for key in report["metrics"] if key[:2] in ("AP", "AR") and (key[2:] in ("", *SIZES) or key[2:].isdigit()))
        own |= {key: _words(key, report["params"]["max_dets"]) for key in coco}
    return own


def listing() -> Iterator[str]:
    """Every metric: its name, what it is and what it reports, by kind. Nothing is imported for it."""
    from cvtool.metrics import catalogue
    from cvtool.tasks.evaluation import kinds

    known = catalogue().values()
    width = max(len(metric.name) for metric in known)
    for kind in kinds().values():
        own = [metric for metric in known if metric.kind == kind.name]
        if not own:
            continue
        yield f"{kind.name}: {kind.summary}"
        for metric in own:
            names = f" (also {', '.join(metric.aliases)})" if metric.aliases else ""
            yield f"  {metric.name:{width}}  {metric.summary}{names}"
            yield f"  {'':{width}}  reports {', '.join(f'{key} (less is better)' if key in metric.lower else key for key in metric.keys)}"
        yield ""


def listed() -> list[dict[str, Any]]:
    """The same for programs."""
    from cvtool.metrics import catalogue

    return [
        {"name": m.name, "kind": m.kind, "summary": m.summary, "aliases": list(m.aliases), "keys": m.keys, "lower": list(m.lower)}
        for m in catalogue().values()
    ]


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 image`, `3 images`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _number(value: float | None) -> str:
    return "     -" if value is None else f"{value:6.4f}"


def _cell(value: float | int | None) -> str:
    return f"{value:,}" if isinstance(value, int) else _number(value)


def _span(bounds: list[float | None]) -> str:
    low, high = (f"{value:.4f}" if value is not None else "-" for value in bounds)
    return f"[{low}, {high}]"


def _words(key: str, limits: list[int]) -> str:
    kind, rest = ("average precision" if key.startswith("AP") else "average recall"), key[2:]
    if rest in SIZES:
        return f"{kind}, {SIZES[rest]}"
    if kind == "average recall" and rest.isdigit() and int(rest) in limits:
        return f"{kind}, {'the best detection' if rest == '1' else f'the best {rest} detections'} of an image and class"
    return f"{kind}, overlap {f'of 0.{rest} or more' if rest else '0.50 to 0.95'}"
