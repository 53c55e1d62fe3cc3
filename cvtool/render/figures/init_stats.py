"""What comes through a deep network at its start, forwards and backwards, for each way to begin its weights.

The standard deviation of every layer's output and of the loss's gradient there, and how many of its units let a gradient through to their weights
(the activation's derivative is a hundredth of its peak or more), in a network of equal linear layers on Gaussian inputs, before any training. The
initialisers are those of training. Large weights show why the last is drawn too: almost all units are closed, and the few that are open get a
gradient that grows from layer to layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from cvtool.errors import UsageError
from cvtool.render.figures._page import Panel, page, positive
from cvtool.render.figures._plot import Plot
from cvtool.render.palette import Colour, instance

PICTURE = False
OPTIONS = {
    "initializers": {"default": "zeros,small:0.01,large:1,xavier,he", "metavar": "NAME,...", "help": "as --initializer takes them"},
    "activation": {"default": "tanh", "metavar": "NAME", "help": "behind every layer"},
    "depth": {"default": 10, "metavar": "N", "help": "linear layers"},
    "units": {"default": 256, "metavar": "N", "help": "units of each"},
}
WIDTH, HEIGHT = 520, 400
INPUTS = 256
FLOOR = 1e-15  # what is smaller is drawn here


@dataclass
class Begun:
    """One start: deviations of the outputs and of their gradients and the share of open units, layer by layer, and whether no two units differ."""

    outputs: list[float]
    gradients: list[float]
    open: list[float]
    alike: bool  # all rows of each layer's gradient are equal


def measure(initializer: str, activation: str, *, layers: int, units: int, seed: int = 0) -> Begun:
    """The same inputs and targets for every start. Raises UsageError for a name that is none."""
    import torch
    from torch import nn

    from cvtool.layers.activation import activation as made
    from cvtool.layers.activation import pieces
    from cvtool.train import initialize

    if pieces(activation) > 1:
        raise UsageError(f"--activation {activation} takes more channels than it gives, which these layers do not have")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x, target = torch.randn(INPUTS, units), torch.randn(INPUTS, units)
        linear = [nn.Linear(units, units) for _ in range(layers)]
        initialize.apply(nn.Sequential(*linear), initializer)
    part = made(activation)

    def steepness(at: Any) -> Any:
        at = at.detach().requires_grad_()
        return torch.autograd.grad(part(at).sum(), at)[0].abs()

    threshold = 0.01 * steepness(torch.linspace(-8, 8, 801)[:, None]).max()
    outputs, open_ = [], []
    for layer in linear:
        before = layer(x)
        open_.append(float((steepness(before) >= threshold).float().mean()))
        x = part(before)
        x.retain_grad()
        outputs.append(x)
    (x - target).square().mean().backward()
    weights = [layer.weight.grad for layer in linear if layer.weight.grad is not None]
    deviations = [float(y.detach().std()) for y in outputs]
    return Begun(deviations, [float(y.grad.std()) for y in outputs if y.grad is not None], open_, all(bool((w == w[:1]).all()) for w in weights))


def symptom(found: Begun) -> str:
    """What is wrong, in words; "" where nothing is."""
    said = []
    if found.alike:
        said.append("all units of a layer get the same gradient")
    first, last = found.outputs[0], found.outputs[-1]
    if last < 0.1 * first:
        said.append(f"outputs shrink by {(last / first) ** (1 / max(1, len(found.outputs) - 1)):.2g} a layer")
    elif last > 10 * first:
        said.append(f"outputs grow by {(last / first) ** (1 / max(1, len(found.outputs) - 1)):.2g} a layer")
    if found.open[-1] < 0.4:
        said.append(f"{1 - found.open[-1]:.0%} of the units saturated")
    elif found.gradients[0] < 1e-2 * found.gradients[-1] and not found.alike:
        said.append("so do gradients")
    return ", ".join(said)


def figure(*, initializers: str, activation: str, depth: int, units: int) -> Image.Image:
    """Outputs, gradients (both with logarithmic heights) and open units. Raises UsageError for a name that is none."""
    from cvtool import calls

    named = [str(call) for call in calls.read(initializers, "initializers")]
    if not 1 <= len(named) <= 10:
        raise UsageError(f"--initializers names one to ten of them, not {len(named)}")
    positive(depth, "depth", 100), positive(units, "units", 1024)
    starts = {name: measure(name, activation, layers=depth, units=units) for name in named}
    forth: list[tuple[str, Colour | None]] = []
    back: list[tuple[str, Colour | None]] = []
    through: list[tuple[str, Colour | None]] = []
    for i, (name, found) in enumerate(starts.items()):
        forth.append((f"{name}: {found.outputs[0]:.2g} to {found.outputs[-1]:.2g}", instance(i)))
        back.append((f"{name}: {found.gradients[-1]:.2g} to {found.gradients[0]:.2g} at the first", instance(i)))
        through.append((f"{name}: {symptom(found) or 'passes on what it gets'}", instance(i)))
    subtitle = f"{depth} layers of {units} units with {activation}, {INPUTS} Gaussian inputs; zero is drawn at the lower border"
    panels = [
        Panel(_chart([found.outputs for found in starts.values()]), "deviation of each layer's output", forth),
        Panel(_chart([found.gradients for found in starts.values()]), "deviation of the gradient there", back),
        Panel(_chart([found.open for found in starts.values()], share=True), "units open to a gradient", through),
    ]
    return page("How a network begins", subtitle, panels)


def _chart(series: list[list[float]], *, share: bool = False) -> Image.Image:
    count = len(series[0])
    places = [float(number) for number in range(1, count + 1)]
    if share:
        plot = Plot(WIDTH, HEIGHT, (1, max(2, count)), (0, 1.03))
    else:
        series = [[min(max(value, FLOOR), 1 / FLOOR) for value in values] for values in series]
        every = [value for values in series for value in values]
        plot = Plot(WIDTH, HEIGHT, (1, max(2, count)), (min(every) / 3, max(every) * 3), logarithmic=True)
    for i, values in enumerate(series):
        plot.line(places, values, instance(i), width=3, dots=True)
    plot.label("layer")
    return plot.image
