"""What the best discriminator of a GAN says, and what it loses as the generator comes nearer.

Goodfellow 2014 (arXiv:1406.2661), proposition 1 and theorem 1: D* = p_real / (p_real + p_made); its loss is ln 4 - 2 JS, which the generator
maximises: ln 4 and D* = 0.5 everywhere, where both distributions are one. A distribution is normal:MEAN,DEVIATION, uniform:LOW,HIGH or the samples
in a .npy file, of which a histogram is taken.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cvtool.errors import InputError, UsageError
from cvtool.metrics.js import js
from cvtool.metrics.optimal_discriminator import loss, optimal
from cvtool.render.figures._chart import chart
from cvtool.render.figures._page import Panel, page
from cvtool.render.palette import instance

PICTURE = False
OPTIONS = {
    "p": {"default": "normal:0,1", "metavar": "DIST", "help": "the real distribution"},
    "q": {"default": "normal:2,0.7", "metavar": "DIST", "help": "that of the generator"},
}
CELLS = 400
STEPS = 60  # of q's way to p


def density(text: str, at: np.ndarray, option: str) -> np.ndarray:
    """The shares of equal cells around `at` (K), which sum to 1. Raises UsageError, InputError."""
    samples = values(text, option)
    if isinstance(samples, np.ndarray):
        half = (at[1] - at[0]) / 2
        counts = np.histogram(samples, bins=np.concatenate([at - half, at[-1:] + half]))[0].astype(float)
        width = max(1, len(at) // 40)
        found = np.convolve(counts, np.ones(width) / width, "same")
    else:
        name, a, b = samples
        found = np.exp(-0.5 * ((at - a) / b) ** 2) if name == "normal" else ((at >= a) & (at <= b)).astype(float)
    if found.sum() <= 0:
        raise UsageError(f"--{option} {text}: there is nothing of it in the range")
    return found / found.sum()


def values(text: str, option: str) -> np.ndarray | tuple[str, float, float]:
    """Samples, or (name, two numbers)."""
    if text.lower().endswith(".npy"):
        try:
            found = np.load(Path(text).expanduser(), allow_pickle=False).astype(float).ravel()
        except (OSError, ValueError) as error:
            raise InputError("not a file of numbers", where=text, hint="samples as numpy.save writes them") from error
        if len(found) < 2 or not np.isfinite(found).all() or found.min() == found.max():
            raise InputError("it holds no samples of a distribution", where=text)
        return found
    name, _, rest = text.partition(":")
    try:
        a, b = (float(word) for word in rest.split(","))
        if name not in ("normal", "uniform") or not np.isfinite([a, b]).all() or (b <= 0 if name == "normal" else b <= a):
            raise ValueError(text)
    except ValueError as error:
        raise UsageError(f"--{option} takes normal:MEAN,DEVIATION, uniform:LOW,HIGH or FILE.npy, not '{text}'") from error
    return name, a, b


def extent(*sides: np.ndarray | tuple[str, float, float]) -> tuple[float, float]:
    """Where both have their mass."""
    ends: list[tuple[float, float]] = []
    for side in sides:
        if isinstance(side, np.ndarray):
            ends.append((float(side.min()), float(side.max())))
        else:
            name, a, b = side
            ends.append((a - 4 * b, a + 4 * b) if name == "normal" else (a, b))
    low, high = min(a for a, _ in ends), max(b for _, b in ends)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def figure(*, p: str, q: str) -> Image.Image:
    """Both distributions with D*, and its loss on the way from q to p. Raises UsageError, InputError."""
    low, high = extent(values(p, "p"), values(q, "q"))
    at = np.linspace(low, high, CELLS)
    real, made = density(p, at, "p"), density(q, at, "q")
    told, apart = optimal(real, made), float(js(real, made))
    cell = at[1] - at[0]
    top = 1.15 * max(real.max(), made.max(), 1.0 * cell) / cell
    drawn = chart(
        [(at, told, instance(2)), (at, real / cell, instance(0)), (at, made / cell, instance(1))], across=(low, high), up=(0, max(top, 1.08)), x="x"
    )
    mixed = [(1 - t) * made + t * real for t in np.linspace(0, 1, STEPS)]
    way = np.linspace(0, 1, STEPS)
    losses = np.array([float(loss(real, one, optimal(real, one))) for one in mixed])
    fair = np.array([float(loss(real, one, np.full(CELLS, 0.5))) for one in mixed])
    lost = chart([(way, losses, instance(2)), (way, fair, instance(4))], across=(0, 1), up=(0, 1.5), x="share of p in what is made", y="nats")
    panels = [
        Panel(drawn, "what it says", [
            (f"real, p = {p}", instance(0)),
            (f"made, q = {q}", instance(1)),
            (f"D* = p / (p + q), from {told.min():.3f} to {told.max():.3f}", instance(2)),
        ]),
        Panel(lost, "what it loses", [
            (f"at D*: ln 4 - 2 JS = {np.log(4):.4f} - 2 x {apart:.4f} = {losses[0]:.4f} for q", instance(2)),
            (f"where q is p: D* = 0.5 and ln 4 = {losses[-1]:.4f}, the generator's aim", instance(2)),
            ("always 0.5: ln 4, more than D* loses, whatever is made", instance(4)),
        ]),
    ]  # fmt: skip
    return page("The best discriminator", "Goodfellow 2014: the generator's aim is to make it lose most", panels)
