"""A training run's curves as a picture, drawn with Pillow: losses on a logarithmic axis, metrics in [0, 1], the learning rate."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

Series = dict[str, list[tuple[float, float]]]
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
    """The lines of a log that are whole."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def draw(lines: Sequence[Mapping[str, Any]], *, title: str = "") -> Image.Image:
    """Panels side by side: losses, metrics if there are any, learning rate; the horizontal axis counts epochs."""
    panels = [("loss", losses(lines), True), ("validation", metrics(lines), False), ("learning rate", rates(lines), False)]
    panels = [panel for panel in panels if panel[1]]
    out = Image.new("RGB", (WIDTH * max(1, len(panels)), HEIGHT), "white")
    for number, (name, series, logarithmic) in enumerate(panels):
        out.paste(_panel(f"{name}   {title}" if not number and title else name, series, logarithmic), (number * WIDTH, 0))
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


def _panel(title: str, series: Series, logarithmic: bool) -> Image.Image:
    out = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), "white")
    pen, font, small = ImageDraw.Draw(out), ImageFont.load_default(15 * SCALE), ImageFont.load_default(12 * SCALE)
    every = [point for points in series.values() for point in points]
    x0, x1 = 0.0, max(max(x for x, _ in every), 1e-9)
    low, high = min(y for _, y in every), max(y for _, y in every)
    logarithmic = logarithmic and low > 0
    ticks = _log_ticks(low, high) if logarithmic else _ticks(min(low, 0.0), high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        a, b, c = (math.log(v) for v in (y, low, high)) if logarithmic else (y, low, high)
        across = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        return across * SCALE, (HEIGHT - BOTTOM - (a - b) / ((c - b) or 1) * (HEIGHT - TOP - BOTTOM)) * SCALE

    pen.text((LEFT * SCALE, 12 * SCALE), title, fill="#212529", font=font)
    for tick in ticks:
        y = place(x0, tick)[1]
        pen.line([(LEFT * SCALE, y), ((WIDTH - RIGHT) * SCALE, y)], fill="#e9ecef", width=SCALE)
        pen.text(((LEFT - 8) * SCALE, y), f"{tick:.4g}", fill="#495057", font=small, anchor="rm")
    for tick in _ticks(x0, x1):
        x = place(tick, low)[0]
        pen.text((x, (HEIGHT - BOTTOM + 8) * SCALE), f"{tick:g}", fill="#495057", font=small, anchor="mt")
    pen.text(((WIDTH - RIGHT) * SCALE, (HEIGHT - 16) * SCALE), "epoch", fill="#495057", font=small, anchor="rm")
    across = float((WIDTH - RIGHT) * SCALE)
    for (name, points), colour in reversed(list(zip(series.items(), COLOURS, strict=False))):
        placed = [place(x, y) for x, y in points]
        if len(placed) > 1:
            pen.line(placed, fill=colour, width=2 * SCALE, joint="curve")
        for x, y in placed if len(placed) < 60 else placed[-1:]:
            pen.ellipse([x - 2.5 * SCALE, y - 2.5 * SCALE, x + 2.5 * SCALE, y + 2.5 * SCALE], fill=colour)
        label = f"{name} {points[-1][1]:.4g}"
        across -= pen.textlength(label, font=small)
        pen.text((across, 34 * SCALE), label, fill=colour, font=small, anchor="ls")
        across -= 14 * SCALE
    return out.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


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
