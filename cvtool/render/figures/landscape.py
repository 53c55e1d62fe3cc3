"""Optimisers at work: their ways over a surface of two weights, and how fast they come down.

The optimisers are those of training. Each starts at the same place with a learning rate that suits its kind; the gradient is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from cvtool.errors import UsageError, did_you_mean
from cvtool.render.canvas import Canvas
from cvtool.render.figures._page import Panel, numbers, page, positive
from cvtool.render.figures._plot import ABOVE, BELOW, LEFT, RIGHT, Plot, contours
from cvtool.render.palette import INK, WHITE, Colour, instance

PICTURE = False
OPTIONS = {
    "surface": {"default": "canyon", "metavar": "NAME", "help": "sphere, quadratic, canyon, axis-aligned or local-minimum"},
    "optimizers": {"default": "sgd:momentum=0,momentum,nesterov,adagrad,rmsprop,adam", "metavar": "NAME,...", "help": "as --optimizer takes them"},
    "turns": {"default": 200, "metavar": "N", "help": "steps of each"},
    "rate": {"default": "auto", "metavar": "F,...", "help": "learning rates: one for all or one each"},
}
WIDTH, HEIGHT = 760, 640
FAR = 1e3  # a way that leads farther is not drawn on
NEAR = 1e-3  # of the height at the start: this far down counts as arrived


@dataclass(frozen=True)
class Surface:
    """height: (x, y) -> the loss, of numbers, arrays or tensors. steep: its largest curvature. lowest: where it is least."""

    height: Callable[[Any, Any], Any]
    start: tuple[float, float]
    across: tuple[float, float]
    up: tuple[float, float]
    steep: float
    lowest: tuple[float, float] = (0.0, 0.0)
    momentum: float = 0.9


def _turned(flat: float, steep: float, angle: float) -> Callable[[Any, Any], Any]:
    """A paraboloid of two curvatures, its flat axis at `angle` to the first weight's."""
    c, s = math.cos(angle), math.sin(angle)
    return lambda x, y: 0.5 * flat * (c * x + s * y) ** 2 + 0.5 * steep * (-s * x + c * y) ** 2


def _two_wells(x: Any, y: Any) -> Any:
    """A bowl with a shallow dent on the way to a deep one."""
    shallow, deep = ((x + 1.4) ** 2 + (y - 0.6) ** 2) / 0.32, ((x - 1.2) ** 2 + (y + 0.3) ** 2) / 0.9
    return 0.12 * (x * x + y * y) - 0.35 * math.e**-shallow - 1.2 * math.e**-deep + 1.06


SURFACES = {
    "sphere": Surface(_turned(1, 1, 0), (-2.4, 1.4), (-3, 3), (-2.4, 2.4), 1),
    "quadratic": Surface(_turned(0.3, 2, 0.5), (-2.4, 1.4), (-3, 3), (-2.4, 2.4), 2),
    "canyon": Surface(_turned(0.01, 2, 0.25), (-2.6, 0.9), (-3, 1), (-1.5, 1.5), 2),
    "axis-aligned": Surface(_turned(0.04, 2, 0), (-2.6, 1.2), (-3, 1), (-1.5, 1.5), 2),
    "local-minimum": Surface(_two_wells, (-2.4, 1.6), (-3, 3), (-2.4, 2.4), 2.4, (1.09984, -0.27496), 0.93),
}


@dataclass
class Way:
    """An optimiser's places, T+1 2, with the start; their heights; and the turn from which on it stays within `NEAR`, or None."""

    places: np.ndarray
    heights: np.ndarray
    arrived: int | None


def rate_for(text: str, surface: Surface) -> float:
    """A learning rate that suits the optimiser: half of what a steepest descent can bear, a step of a size of its own where the step is bounded."""
    name = text.partition(":")[0]
    return {"newton": 1.0, "adagrad": 0.12, "rmsprop": 0.02, "adam": 0.08, "adamw": 0.08}.get(name, (0.5 if name == "sgd" else 0.32) / surface.steep)


def walk(text: str, surface: Surface, *, turns: int, rate: float) -> Way:
    """The way of an optimiser. Raises UsageError for a name that is none."""
    import torch

    from cvtool.train import optim

    p = torch.nn.Parameter(torch.tensor(surface.start, dtype=torch.float64))
    optimizer = optim.make(text, lr=rate, momentum=surface.momentum)([p])
    places = [p.detach().numpy().copy()]
    for _ in range(turns):
        optimizer.zero_grad()
        loss = surface.height(p[0], p[1])
        if getattr(optimizer, "needs_loss", False):
            optimizer.curvature(loss)  # type: ignore[attr-defined]
        loss.backward()
        optimizer.step()
        places.append(p.detach().numpy().copy())
    found = np.array(places)
    with np.errstate(over="ignore", invalid="ignore"):  # too high a rate leads out of the numbers
        heights = surface.height(found[:, 0], found[:, 1]) - surface.height(*surface.lowest)
    above = np.flatnonzero(~(heights <= NEAR * heights[0]))
    last = int(above[-1]) + 1 if len(above) else 0
    return Way(found, heights, last if last <= turns else None)


def figure(*, surface: str, optimizers: str, turns: int, rate: str) -> Image.Image:
    """The ways on the left, the heights on the right. Raises UsageError for a name that is none."""
    from cvtool import calls

    if surface not in SURFACES:
        hint = did_you_mean(surface, SURFACES) or "surfaces: " + ", ".join(SURFACES)
        raise UsageError(f"unknown surface '{surface}'", hint=hint)
    ground = SURFACES[surface]
    named = [str(call) for call in calls.read(optimizers, "optimizers")]
    if not 1 <= len(named) <= 10:
        raise UsageError(f"--optimizers names one to ten of them, not {len(named)}")
    positive(turns, "turns", 5000)
    rates = [rate_for(name, ground) for name in named] if rate == "auto" else numbers(rate, "rate")
    if len(rates) == 1:
        rates *= len(named)
    if len(rates) != len(named):
        raise UsageError(f"--rate is one for all or one for each of the {len(named)}, not {len(rates)}")
    ways = [walk(name, ground, turns=turns, rate=own) for name, own in zip(named, rates, strict=True)]
    lines: list[tuple[str, Colour | None]] = []
    for i, (name, own, way) in enumerate(zip(named, rates, ways, strict=True)):
        end = f"not down in {turns} turns, {way.heights[-1] / way.heights[0]:.1%} of the way up"
        if way.arrived is not None:
            end = f"down after {way.arrived} turn{'s' * (way.arrived != 1)}"
        lines.append((f"{name}, rate {own:.3g}: {end}", instance(i)))
    half = (len(lines) + 1) // 2
    panels = [
        Panel(_map(ground, ways), f"the way over the {surface}", lines[:half]),
        Panel(_heights(ways), "height above the lowest point", lines[half:]),
    ]
    subtitle = f"{turns} turns; down: within a thousandth of the height at the start, for good"
    return page("Optimisers on a landscape", subtitle, panels)


def _map(surface: Surface, ways: list[Way]) -> Image.Image:
    plot = Plot(WIDTH, HEIGHT, surface.across, surface.up)
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - ABOVE - BELOW
    x = np.linspace(*surface.across, wide)[None, :]
    y = np.linspace(surface.up[1], surface.up[0], high)[:, None]
    field = Canvas(Image.fromarray(contours(np.broadcast_to(surface.height(x, y), (high, wide)))))
    inner = Plot(WIDTH, HEIGHT, surface.across, surface.up)

    def at(place: np.ndarray) -> tuple[float, float]:
        return inner.x(float(place[0])) - LEFT, inner.y(float(place[1])) - ABOVE

    for i, way in enumerate(ways):
        points = [at(place) for place in way.places if np.abs(place).max() < FAR]
        field.line(points, 2.4, instance(i))
        for point in points[1:]:
            field.disc(*point, 2.6, instance(i))
    for place, colour in ((surface.lowest, WHITE), (surface.start, INK)):
        field.circle(*at(np.array(place)), 8, 2.5, WHITE)
        field.disc(*at(np.array(place)), 3, colour)
    plot.canvas.image.paste(field.image, (LEFT, ABOVE))
    return plot.image


def _heights(ways: list[Way]) -> Image.Image:
    turns = len(ways[0].heights) - 1
    first = float(ways[0].heights[0])
    plot = Plot(WIDTH, HEIGHT, (0, turns), (first * 1e-6, first * 10), logarithmic=True)
    plot.line([0, turns], [NEAR * first] * 2, WHITE, width=1, opacity=0.5)
    for i, way in enumerate(ways):
        plot.line(list(range(turns + 1)), [max(float(height), 1e-300) for height in way.heights], instance(i))
    plot.label("turns")
    return plot.image
