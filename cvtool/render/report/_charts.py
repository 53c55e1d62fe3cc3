"""The curves of the report page as SVG: precision over recall, scores, calibration, how the units are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from cvtool.render.report._text import escape, number

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 24, 40
COLOURS = 8
POINTS = 160  # of a curve; more cannot be seen


def section(report: Mapping[str, Any], charts: Mapping[str, Any]) -> str:
    """All charts that there is something for."""
    parts = []
    if lines := charts.get("curves"):
        parts.append(_figure(_lines(lines, "recall", "precision"), "Precision over recall, mean over classes", _legend(lines)))
    if found := (report.get("pr_curve") or charts.get("classes")):
        parts.append(_classes(found))
    if scores := charts.get("scores"):
        names = ("right", "wrong") if any(scores["wrong"]) else ("right",)
        bars = _bars(scores["edges"], [scores[name] for name in names], "score", "how many")
        parts.append(_figure(bars, "Scores of what is right and wrong", _names(names, ("fill1", "fill2"))))
    if bins := charts.get("calibration"):
        note = f"Calibration: the line is a score that means what it says (ECE {number(bins['ece'])})"
        parts.append(_figure(_reliability(bins), note, ""))
    if spread := charts.get("distribution"):
        bars = _bars(spread["edges"], [spread["count"]], spread["key"], "units")
        parts.append(_figure(bars, f"{spread['key']} of single units", ""))
    return f'<div class="charts">{"".join(parts)}</div>' if parts else ""


def _classes(found: Mapping[str, Any]) -> str:
    """Curves of the classes with the most objects."""
    classes = {name: row for name, row in found["classes"].items() if row["objects"] and row["recall"]}
    first = sorted(classes, key=lambda name: -classes[name]["objects"])[:COLOURS]
    if not first:
        return ""
    lines = []
    for name in first:
        row = classes[name]
        words = f"{name}, area {number(row.get('area'))}"
        lines.append({"name": words, "x": [0.0, *row["recall"]], "y": [row["precision"][0], *row["precision"]]})
    rest = f"; the {len(first)} of {len(classes)} classes with the most objects" if len(classes) > len(first) else ""
    return _figure(_lines(lines, "recall", "precision"), f"Precision over recall at overlaps above {found['iou']:g}{rest}", _legend(lines))


def _figure(svg: str, caption: str, legend: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption>{legend}</figure>"


def _legend(lines: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f'<li><svg viewBox="0 0 18 8" aria-hidden="true"><path class="line{i + 1}" d="M0 4H18"/></svg>{escape(line["name"])}</li>'
        for i, line in enumerate(lines)
    )
    return f'<ul class="legend">{rows}</ul>'


def _names(names: Sequence[str], kinds: Sequence[str]) -> str:
    rows = "".join(
        f'<li><svg viewBox="0 0 10 10" aria-hidden="true"><rect class="{kind}" width="10" height="10"/></svg>{escape(name)}</li>'
        for name, kind in zip(names, kinds, strict=False)
    )
    return f'<ul class="legend">{rows}</ul>'


def _x(value: float, low: float = 0.0, high: float = 1.0) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)


def _y(value: float, high: float = 1.0) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / high


def _frame(inside: str, told: str, x_name: str, y_name: str, x_range: tuple[float, float], y_high: float, whole: bool = False) -> str:
    """Grid, ticks and names of the axes around what is drawn."""
    low, high = x_range
    marks = []
    for step in range(6):
        x, y = low + (high - low) * step / 5, y_high * step / 5
        marks.append(f'<path class="grid" d="M{_x(x, low, high):.1f} {TOP}V{HEIGHT - BOTTOM}M{LEFT} {_y(y, y_high):.1f}H{WIDTH - RIGHT}"/>')
        marks.append(f'<text x="{_x(x, low, high):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{_tick(x)}</text>')
        marks.append(f'<text x="{LEFT - 6}" y="{_y(y, y_high) + 4:.1f}" text-anchor="end">{f"{y:,.0f}" if whole else _tick(y)}</text>')
    marks.append(f'<text class="name" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_name)}</text>')
    marks.append(f'<text class="name" x="4" y="12">{escape(y_name)}</text>')
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(told)}">{"".join(marks)}{inside}</svg>'


def _tick(value: float) -> str:
    return f"{value:.1f}" if 0 < abs(value) < 10 else f"{value:,.0f}"


def _lines(lines: Sequence[Mapping[str, Any]], x_name: str, y_name: str) -> str:
    """Curves in the unit square."""
    paths = []
    for i, line in enumerate(lines):
        points = [(x, y) for x, y in zip(line["x"], line["y"], strict=True) if x is not None and y is not None]
        if len(points) > POINTS:
            points = [points[round(k * (len(points) - 1) / (POINTS - 1))] for k in range(POINTS)]
        d = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
        paths.append(f'<polyline class="line{i % COLOURS + 1}" points="{d}"><title>{escape(line["name"])}</title></polyline>')
    told = f"{y_name} over {x_name}: " + "; ".join(str(line["name"]) for line in lines)
    return _frame("".join(paths), told, x_name, y_name, (0.0, 1.0), 1.0)


def _bars(edges: Sequence[float], stacks: Sequence[Sequence[float]], x_name: str, y_name: str) -> str:
    """Counts in bins, one stack upon the other."""
    totals = [sum(column) for column in zip(*stacks, strict=True)]
    high = _round_up(max(totals, default=0))
    low, top = edges[0], edges[-1]
    marks = []
    for i, (left, right) in enumerate(pairwise(edges)):
        base = 0.0
        for k, stack in enumerate(stacks):
            if not stack[i]:
                continue
            x, width = _x(left, low, top), _x(right, low, top) - _x(left, low, top)
            y = _y(base + stack[i], high)
            marks.append(
                f'<rect class="fill{k + 1}" x="{x + 0.5:.1f}" y="{y:.1f}" width="{max(0.5, width - 1):.1f}" height="{_y(base, high) - y:.1f}">'
                f"<title>{left:.3g} to {right:.3g}: {stack[i]:,.0f}</title></rect>"
            )
            base += stack[i]
    return _frame("".join(marks), f"{y_name} by {x_name}: {sum(totals):,.0f} in all", x_name, y_name, (low, top), high, whole=True)


def _round_up(value: float) -> float:
    """The next number that five steps divide well."""
    step = 1.0
    while step * 10 <= value / 5:
        step *= 10
    return next(5 * step * times for times in (1, 2, 3, 4, 5, 6, 8, 10, 20) if 5 * step * times >= value)


def _reliability(bins: Mapping[str, Any]) -> str:
    """Of each bin how often it was right, over its mean score; the larger the dot, the more answers."""
    most = max(bins["count"], default=0) or 1
    marks = [f'<path class="diagonal" d="M{_x(0):.1f} {_y(0):.1f}L{_x(1):.1f} {_y(1):.1f}"/>']
    points = [(x, y, n) for x, y, n in zip(bins["confidence"], bins["accuracy"], bins["count"], strict=True) if n]
    line = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y, _ in points)
    marks.append(f'<polyline class="line1" points="{line}"/>')
    for x, y, n in points:
        told = f"score {x:.2f}, right {y:.0%} of {n:,.0f}"
        radius = 2.5 + 5 * (n / most) ** 0.5
        marks.append(f'<circle class="fill1" cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="{radius:.1f}"><title>{told}</title></circle>')
    return _frame("".join(marks), "How often answers of each score are right", "mean score", "share right", (0.0, 1.0), 1.0)
