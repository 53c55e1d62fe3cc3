"""Activations and their derivatives, where they saturate, and the units that a ReLU loses.

The functions are those that networks are built of (`layers/activation.py`), their derivatives those that training takes. A stretch where the
derivative is below a hundredth of its peak is marked: what lands there learns next to nothing.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from cvtool.errors import UsageError
from cvtool.render.figures._page import Panel, page
from cvtool.render.figures._plot import Plot
from cvtool.render.palette import Colour

PICTURE = False
OPTIONS = {
    "functions": {
        "default": "relu,leaky-relu,elu,gelu,sigmoid,softmax,tanh,maxout",
        "metavar": "NAME,...",
        "help": "as models take them, such as leaky-relu:0.2",
    },
}
VALUE: Colour = (94, 176, 255)
SLOPE: Colour = (255, 163, 72)
FLAT: Colour = (214, 66, 66)
REACH = 8.0
WIDTH, HEIGHT = 380, 270
PIECES = ((-0.6, -1.0), (0.3, 0.0), (1.2, -1.5))  # slope and shift of maxout's linear pieces, where three are drawn
TOO_HIGH, TURNS = 2.0, 60  # learning rate and length of the experiment with ReLUs


def figure(*, functions: str) -> Image.Image:
    """A chart for each function. Raises UsageError for a name that is none."""
    from cvtool import calls

    named = [str(call) for call in calls.read(functions, "functions")]
    if not 1 <= len(named) <= 16:
        raise UsageError(f"--functions names one to sixteen of them, not {len(named)}")
    panels = [_panel(name) for name in named]
    subtitle = "blue: the function, orange: its derivative, red: where the derivative is below a hundredth of its peak"
    return page("Activations", subtitle, panels, columns=4)


def curve(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value and derivative at each x, N float64. softmax: of the first of three, the others at 0; maxout: of linear pieces, as many as it has."""
    import torch

    from cvtool.layers.activation import activation, pieces

    part = activation(name)
    at = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    count = pieces(name)
    if name.partition(":")[0] == "maxout":
        slopes = (
            PIECES
            if count == 3
            else ((1.0, 0.0), (0.0, 0.0))
            if count == 2
            else [(i - (count - 1) / 2, -abs(i - (count - 1) / 2)) for i in range(count)]
        )
        given = torch.stack([slope * at + shift for slope, shift in slopes], 1)
    elif name.partition(":")[0] == "softmax":
        given = torch.stack([at, torch.zeros_like(at), torch.zeros_like(at)], 1)
    else:
        given = at[:, None]
    y = part(given)[:, 0]
    slope = torch.autograd.grad(y.sum(), at)[0]
    return y.detach().numpy(), slope.numpy()


def saturated(slope: np.ndarray) -> list[tuple[int, int]]:
    """The stretches at either end where the derivative is below a hundredth of its peak, as first and last index."""
    steep = np.flatnonzero(np.abs(slope) >= 0.01 * np.abs(slope).max())
    found = [(0, int(steep[0]) - 1), (int(steep[-1]) + 1, len(slope) - 1)]
    return [(start, end) for start, end in found if start <= end]


def dead_units(bias: float, *, turns: int = 0, rate: float = TOO_HIGH, seed: int = 0) -> float:
    """The share of 128 ReLUs in two layers that are zero for all of 256 inputs: begun with biases of `bias`, after `turns` at a learning rate."""
    import torch
    from torch import nn

    from cvtool.ops.activations import dead_share
    from cvtool.train import initialize, optim

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x = torch.rand(256, 16)
        y = torch.sin(4 * x[:, :1]) + x[:, 1:2] * x[:, 2:3]
        first, second = nn.Linear(16, 64), nn.Linear(64, 64)
        model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(64, 1))
        initialize.apply(model, "he")
        if bias:
            initialize.init_bias(model, bias)
        optimizer = optim.make("sgd", lr=rate, momentum=0.0)(model.parameters())
        for _ in range(turns):
            optimizer.zero_grad()
            (model(x) - y).square().mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # else some runs leave the numbers altogether
            optimizer.step()
        hidden = model[:2](x)
        return (dead_share(hidden) + dead_share(model[2:4](hidden))) / 2


def _panel(name: str) -> Panel:
    x = np.linspace(-REACH, REACH, 601)
    y, slope = curve(name, x)
    low, high = min(y.min(), slope.min(), -0.3), max(min(y.max(), 3.0), slope.max(), 1.1)
    plot = Plot(WIDTH, HEIGHT, (-REACH, REACH), (float(low) - 0.1, float(high) + 0.1))
    flat = saturated(slope)
    for start, end in flat:
        plot.band(x[start], x[end], FLAT)
    inside = y <= high + 0.1
    plot.line(x[inside].tolist(), y[inside].tolist(), VALUE, width=3.2)
    plot.line(x.tolist(), slope.tolist(), SLOPE, width=2.2)
    return Panel(plot.image, name, _lines(name.partition(":")[0], x, y, slope, flat))


def _lines(name: str, x: np.ndarray, y: np.ndarray, slope: np.ndarray, flat: list[tuple[int, int]]) -> list[tuple[str, Colour | None]]:
    lines: list[tuple[str, Colour | None]] = [(f"from {y.min():.3g} to {y.max():.3g} on [-{REACH:g}, {REACH:g}]", VALUE)]
    lines.append((f"from {slope.min():.3g} to {slope.max():.3g}, at 0: {slope[len(x) // 2]:.3g}", SLOPE))
    if flat:
        edges = [f"{'up to' if start == 0 else 'from'} {x[end if start == 0 else start]:.2f}" for start, end in flat]
        lines.append((f"saturated {', '.join(edges)}", FLAT))
    if name == "relu":
        plain, helped, driven = (
            np.mean([dead_units(bias, turns=turns, seed=s) for s in range(4)]) for bias, turns in ((0, 0), (0.01, 0), (0, TURNS))
        )
        lines.append((f"dead of 512 at first: {plain:.1%}, biases of 0.01: {helped:.1%}", None))
        lines.append((f"after {TURNS} turns at too high a rate ({TOO_HIGH:g}): {driven:.1%}", None))
    return lines
