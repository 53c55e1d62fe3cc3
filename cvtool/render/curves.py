"""The curves of training runs as a picture, drawn with Pillow: losses on a logarithmic axis, metrics in [0, 1], the learning rate; of one run or of
several side by side, and as they are or smoothed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from cvtool import calls
from cvtool.errors import UsageError

Points = list[tuple[float, float]]
Series = dict[str, Points]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 430, 64, 18, 44, 40
COLOURS = ("#1f6feb", "#e8590c", "#2b8a3e", "#9c36b5", "#c92a2a", "#0b7285", "#846358", "#5f3dc4", "#a61e4d", "#495057")
SCALE = 2  # drawn twice as large and shrunk, for smooth lines


def save(run: Path) -> Path:
    """RUN/curves.png from RUN/log.jsonl, all or nothing."""
    path, draft = run / "curves.png", run / ".curves.png"
    try:
        draw(read(run / "log.jsonl"), title=str(run)).save(draft, format="PNG")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a log that are whole, without those of a chain's earlier trainings, which count turns of their own."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if not (isinstance(values, dict) and "stage" in values):
            lines.append(values)
    return lines


def draw(lines: Sequence[Mapping[str, Any]], *, title: str = "") -> Image.Image:
    """Panels side by side: losses, metrics if there are any, learning rate, statistics if there are any; the horizontal axis counts epochs."""
    panels: list[tuple[str, Series, bool]] = [
        ("loss", losses(lines), True), ("validation", metrics(lines), False), ("learning rate", rates(lines), False),
        ("gradients and updates", gradients(lines), True),
    ]  # fmt: skip
    drawn: list[Image.Image] = []
    for name, series, logarithmic in panels:
        if series:
            curves = [Line(*item, colour) for item, colour in zip(series.items(), COLOURS, strict=False)]
            drawn.append(_panel(f"{name}   {title}" if title and not drawn else name, curves, logarithmic))
    return _row(drawn)


def compare(runs: Mapping[str, Sequence[Mapping[str, Any]]], smooth: str = "") -> Image.Image:
    """The logs of several runs in one picture, each in its colour: training loss, validation loss, the metric that all have, learning rate.

    smooth: averages of the training loss, joined by commas: `ema:0.9` (`averaged`), `window:20` (`windowed`); the values themselves are then drawn
    thin. The first is drawn whole, the second dashed. Raises UsageError for another name or a number out of range.
    """
    ways = smoothers(smooth)
    tables = {name: (losses(lines), metrics(lines), rates(lines)) for name, lines in runs.items()}
    shared = next((name for table in tables.values() for name in table[1] if all(name in other[1] for other in tables.values() if other[1])), None)
    panels: list[list[Line]] = [[], [], [], []]
    for (name, (loss, metric, rate)), colour in zip(tables.items(), (COLOURS[i % len(COLOURS)] for i in range(len(tables))), strict=True):
        raw = loss.get("train", [])
        panels[0] += [Line("" if ways else name, raw, colour, faint=bool(ways))] if raw else []
        panels[0] += [Line(name if not i else "", way(raw), colour, dashed=bool(i)) for i, way in enumerate(ways) if raw]
        panels[1] += [Line(name, points, colour) for points in [loss.get("validation")] if points]
        panels[2] += [Line(name, points, colour) for points in [metric.get(shared or "")] if points]
        panels[3] += [Line(name, points, colour) for points in [rate.get("learning rate")] if points]
    titles = [f"training loss   {smooth}".rstrip(), "validation loss", shared or "", "learning rate"]
    return _row([_panel(title, lines, at < 2) for at, (title, lines) in enumerate(zip(titles, panels, strict=True)) if lines])


def smoothers(text: str) -> list[Callable[[Points], Points]]:
    """`ema:0.9,window:20` -> what turns points into smoother ones. Raises UsageError."""
    found: list[Callable[[Points], Points]] = []
    for call in calls.read(text, "--smooth"):
        if call.name == "ema":
            decay = calls.bind(call, {"decay": 0.9}, "--smooth")["decay"]
            if not 0 <= decay < 1:
                raise UsageError(f"--smooth: the decay of ema is at least 0 and below 1, not {decay}", hint="it is the weight of the old average")
            found.append(partial(averaged, decay=decay))
        elif call.name == "window":
            width = calls.bind(call, {"width": 20}, "--smooth")["width"]
            if width < 1:
                raise UsageError(f"--smooth: a window holds at least one value, not {width}")
            found.append(partial(windowed, width=width))
        else:
            raise UsageError(f"--smooth: unknown average '{call.name}'", hint="ema:0.9 or window:20, or both joined by a comma")
    return found


def averaged(points: Points, *, decay: float) -> Points:
    """The exponential moving average: each value's share falls by `decay` with every newer one, (1 - d) d^k for the k-th before the last; freed of
    its start at 0. (A seed text calls the share of the NEWEST value 0.9; that is decay 0.1 here.)"""
    mean, share, found = 0.0, 0.0, []
    for x, y in points:
        mean, share = decay * mean + (1 - decay) * y, decay * share + (1 - decay)
        found.append((x, mean / share))
    return found


def windowed(points: Points, *, width: int) -> Points:
    """The mean of the last `width` values, of fewer at the start."""
    found = []
    for at, (x, _) in enumerate(points):
        seen = [y for _, y in points[max(0, at + 1 - width) : at + 1]]
        found.append((x, sum(seen) / len(seen)))
    return found


def save_finding(path: Path, rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggestion: float) -> Path:
    """The curve of a learning-rate range test: loss over the rate, the suggested one marked."""
    low, high = min(smoothed), max(smoothed[0], 1.1 * min(smoothed))
    top = high + 0.5 * (high - low)
    lines = [
        Line("loss", [(math.log10(r), min(v, top)) for r, v in zip(rates, losses, strict=True)], COLOURS[0], faint=True),
        Line("smoothed", [(math.log10(r), min(v, top)) for r, v in zip(rates, smoothed, strict=True)], COLOURS[0]),
        Line(f"suggested {suggestion:.2g}", [(math.log10(suggestion), low), (math.log10(suggestion), top)], COLOURS[1], dashed=True, value=False),
    ]
    picture = _panel("loss over the learning rate", lines, False, floor=min(low, *losses), across=("learning rate", True))
    draft = path.with_name(f".{path.name}")
    picture.save(draft, format="PNG")
    draft.replace(path)
    return path


def _row(panels: Sequence[Image.Image]) -> Image.Image:
    out = Image.new("RGB", (WIDTH * max(1, len(panels)), HEIGHT), "white")
    for number, panel in enumerate(panels):
        out.paste(panel, (number * WIDTH, 0))
    return out


def _epochs(lines: Sequence[Mapping[str, Any]]) -> float:
    """Turns an epoch, from the last finished epoch, else 1 turn = 1."""
    done = [line for line in lines if line.get("kind") == "epoch"]
    return done[-1]["iteration"] / done[-1]["epoch"] if done else 1.0


def losses(lines: Sequence[Mapping[str, Any]]) -> Series:
    """The total a tick, and each epoch's validation loss."""
    per = _epochs(lines)
    found: Series = {"train": [], "validation": []}
    for line in lines:
        name, key = ("train", "loss") if line.get("kind") == "tick" else ("validation", "val_loss")
        if isinstance(value := line.get(key), (int, float)) and value > 0:
            found[name].append((line["iteration"] / per, value))
    return {name: points for name, points in found.items() if points}


def metrics(lines: Sequence[Mapping[str, Any]]) -> Series:
    """The first few validated fractions of each epoch."""
    done = [line for line in lines if line.get("kind") == "epoch"]
    others = {key for line in lines if line.get("kind") == "tick" for key in line}  # losses, rates, times
    found: Series = {}
    for line in done:
        for name, value in line.items():
            plain = name.removeprefix("val_")  # losses have it too
            if plain not in others and not plain.startswith("AR") and isinstance(value, (int, float)) and 0 <= value <= 1:
                found.setdefault(plain, []).append((line["epoch"], value))
    return dict(list(found.items())[:6])


def rates(lines: Sequence[Mapping[str, Any]]) -> Series:
    per = _epochs(lines)
    points = [(line["iteration"] / per, line["lr"]) for line in lines if isinstance(line.get("lr"), (int, float)) and line.get("kind") == "tick"]
    return {"learning rate": points} if points else {}


def gradients(lines: Sequence[Mapping[str, Any]]) -> Series:
    """Of each look at the network: the whole gradient's norm, and the least, middle and largest update of a layer over its weights."""
    per = _epochs(lines)
    found: Series = {"gradient": [], "least update": [], "median update": [], "largest update": []}
    for line in lines:
        if line.get("kind") != "statistics":
            continue
        x = line["iteration"] / per
        updates = sorted(figures["update"] for figures in line.get("layers", {}).values() if (figures.get("update") or 0) > 0)
        if (line.get("gradient") or 0) > 0:
            found["gradient"].append((x, line["gradient"]))
        for name, value in zip(list(found)[1:], (updates[0], updates[len(updates) // 2], updates[-1]) if updates else (), strict=False):
            found[name].append((x, value))
    return {name: points for name, points in found.items() if points}


@dataclass(frozen=True)
class Line:
    """One curve. name: in the legend, with the last value where `value`; "" for none."""

    name: str
    points: Points
    colour: str
    faint: bool = False
    dashed: bool = False
    value: bool = True


def _panel(title: str, lines: Sequence[Line], logarithmic: bool, *, floor: float = 0.0, across: tuple[str, bool] = ("epoch", False)) -> Image.Image:
    """One diagram. floor: where a plain vertical axis begins at the latest. across: the name of the horizontal axis, and whether its numbers are
    powers of ten."""
    out = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), "white")
    pen, font, small = ImageDraw.Draw(out), ImageFont.load_default(15 * SCALE), ImageFont.load_default(12 * SCALE)
    every = [point for line in lines for point in line.points]
    x0 = min(x for x, _ in every) if across[1] else 0.0
    x1 = max(max(x for x, _ in every), x0 + 1e-9)
    low, high = min(y for _, y in every), max(y for _, y in every)
    logarithmic = logarithmic and low > 0
    ticks = _log_ticks(low, high) if logarithmic else _ticks(min(low, floor), high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        a, b, c = (math.log(v) for v in (y, low, high)) if logarithmic else (y, low, high)
        way = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        return way * SCALE, (HEIGHT - BOTTOM - (a - b) / ((c - b) or 1) * (HEIGHT - TOP - BOTTOM)) * SCALE

    pen.text((LEFT * SCALE, 12 * SCALE), title, fill="#212529", font=font)
    for tick in ticks:
        y = place(x0, tick)[1]
        pen.line([(LEFT * SCALE, y), ((WIDTH - RIGHT) * SCALE, y)], fill="#e9ecef", width=SCALE)
        pen.text(((LEFT - 8) * SCALE, y), f"{tick:.4g}", fill="#495057", font=small, anchor="rm")
    for tick in range(math.ceil(x0), math.floor(x1) + 1) if across[1] else _ticks(x0, x1):
        x = place(tick, low)[0]
        if x <= (WIDTH - RIGHT + 1) * SCALE:
            pen.text((x, (HEIGHT - BOTTOM + 8) * SCALE), f"1e{tick}" if across[1] else f"{tick:g}", fill="#495057", font=small, anchor="mt")
    pen.text(((WIDTH - RIGHT) * SCALE, (HEIGHT - 16) * SCALE), across[0], fill="#495057", font=small, anchor="rm")
    right = float((WIDTH - RIGHT) * SCALE)
    for line in reversed(lines):
        colour = _pale(line.colour) if line.faint else line.colour
        placed = [place(x, y) for x, y in line.points]
        if len(placed) > 1:
            for part in _dashes(placed) if line.dashed else [placed]:
                pen.line(part, fill=colour, width=(1 if line.faint else 2) * SCALE, joint="curve")
        if not (line.faint or line.dashed):
            for x, y in placed if len(placed) < 60 else placed[-1:]:
                pen.ellipse([x - 2.5 * SCALE, y - 2.5 * SCALE, x + 2.5 * SCALE, y + 2.5 * SCALE], fill=colour)
        if line.name and not line.faint:
            label = f"{line.name} {line.points[-1][1]:.4g}" if line.value else line.name
            right -= pen.textlength(label, font=small)
            pen.text((right, 34 * SCALE), label, fill=colour, font=small, anchor="ls")
            right -= 14 * SCALE
    return out.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def _pale(colour: str) -> tuple[int, int, int]:
    """Two thirds of the way to white."""
    red, green, blue = ((int(colour[i : i + 2], 16) + 2 * 255) // 3 for i in (1, 3, 5))
    return red, green, blue


def _dashes(points: Sequence[tuple[float, float]], on: float = 9.0 * SCALE) -> list[list[tuple[float, float]]]:
    """The line in pieces of length `on`, every second one left out."""
    found: list[list[tuple[float, float]]] = [[points[0]]]
    left, drawing = on, True
    for (x0, y0), (x1, y1) in pairwise(points):
        whole = math.hypot(x1 - x0, y1 - y0)
        done = 0.0
        while whole - done > left:
            done += left
            corner = x0 + (x1 - x0) * done / whole, y0 + (y1 - y0) * done / whole
            if drawing:
                found[-1].append(corner)
            else:
                found.append([corner])
            left, drawing = on, not drawing
        left -= whole - done
        if drawing:
            found[-1].append((x1, y1))
    return [piece for piece in found if len(piece) > 1]


def _ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    size = next(power * m for m in (1, 2, 5, 10) if power * m * count >= span)
    first, last = math.floor(low / size), math.ceil(high / size - 1e-9)
    return [i * size for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten around [low, high]."""
    every = [m * 10.0**e for e in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2) for m in (1, 2, 5)]
    first = max(i for i, v in enumerate(every) if v <= low * (1 + 1e-9))
    last = min(i for i, v in enumerate(every) if v >= high * (1 - 1e-9))
    return every[first : max(last, first + 1) + 1]
