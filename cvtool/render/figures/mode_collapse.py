"""Mode collapse, made to happen: a GAN on points around a few centres, with either player's problem as the inner one, and with a frozen generator.

Where the discriminator is trained to its best between the generator's turns (min_G max_D) the modes are found; where the generator is (max_D min_G),
it puts all it makes into one mode and goes on to the next when that is found out. Against a generator that does not learn the discriminator is
almost never wrong. Numbers under a panel: share of the modes hit, share of good points, and JS split into what is missing and what is too much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cvtool.errors import UsageError
from cvtool.render.canvas import Canvas
from cvtool.render.figures._chart import Curve, chart
from cvtool.render.figures._page import FAINT, Panel, numbers, page, positive
from cvtool.render.palette import Colour, instance

if TYPE_CHECKING:
    from cvtool.train.modes import Outcome

PICTURE = False
OPTIONS = {
    "layout": {"default": "ring", "metavar": "NAME", "help": "ring or grid, of Gaussians"},
    "modes": {"default": "8", "metavar": "N,...", "help": "how many; several are compared"},
    "latent": {"default": "2", "metavar": "N,...", "help": "numbers of z; several are compared"},
    "inner": {
        "default": "d,g,frozen",
        "metavar": "WHO,...",
        "help": "whose problem is the inner one: d, g, or frozen (G never learns)",
    },
    "turns": {"default": 1500, "metavar": "N", "help": "turns of training"},
}
SIDE, SHOWN, REACH = 360, 500, 0.6  # pixels, points of each kind, room around the outermost centre
WORDS = {"d": "min G max D", "g": "max D min G", "frozen": "G frozen"}


def figure(*, layout: str, modes: str, latent: str, inner: str, turns: int) -> Image.Image:
    """A row of clouds for each number of modes and of z, and the modes hit over time. Raises UsageError."""
    counts, sizes = ([_whole(v, option) for v in numbers(text, option)] for text, option in ((modes, "modes"), (latent, "latent")))
    orders = [word.strip().lower() for word in inner.split(",")]
    if layout not in ("ring", "grid"):
        raise UsageError(f"--layout {layout} is neither ring nor grid")
    if wrong := [word for word in orders if word not in WORDS]:
        raise UsageError(f"--inner {wrong[0]} is none of {', '.join(WORDS)}")
    if len(counts) * len(sizes) * len(orders) > 24:
        raise UsageError("more than 24 experiments", hint="fewer --modes, --latent or --inner")
    positive(turns, "turns", 1_000_000)
    from cvtool.train.modes import World, experiment

    panels = []
    for count in counts:
        for size in sizes:
            world = World(layout, count)
            curves: list[Curve] = []
            for i, order in enumerate(orders):
                found = experiment(world, inner=order, turns=turns, latent=size)
                panels.append(Panel(_cloud(found, instance(i)), f"{WORDS[order]}, {count} modes, z of {size}", _lines(found, instance(i))))
                curves.append(([t for t, _ in found.history], [h for _, h in found.history], instance(i)))
            drawn = chart(curves, across=(0, max(turns, 1)), up=(0, 1.05), x="turns", y="share of the modes hit", size=(SIDE, SIDE))
            panels.append(Panel(drawn, "on the way", [(WORDS[order], instance(i)) for i, order in enumerate(orders)]))
    return page("Mode collapse", f"a GAN on a {layout} of Gaussians; gray: real points, colour: made ones", panels, columns=len(orders) + 1)


def _whole(value: float, option: str) -> int:
    if value != int(value) or value > 400:
        raise UsageError(f"--{option}: {value:g} is no whole number up to 400")
    return int(value)


def _lines(found: Outcome, colour: Colour) -> list[tuple[str, Colour | None]]:
    return [
        (f"{found.hit:.0%} of the modes, {found.quality:.0%} of the points good", colour),
        (f"JS {found.coverage + found.excess:.3f} = missing {found.coverage:.3f} + too much {found.excess:.3f}", None),
        (f"D is right on {found.accuracy:.1%}", None),
    ]


def _cloud(found: Outcome, colour: Colour) -> Image.Image:
    """Real and made points; what is far off is drawn on the border."""
    canvas = Canvas(Image.new("RGB", (SIDE, SIDE), (32, 34, 39)))
    reach = float(np.abs(found.real).max()) + REACH
    for points, tint, opacity in ((found.real, FAINT, 0.35), (found.made, colour, 0.8)):
        for x, y in np.clip((points[:SHOWN] / reach + 1) / 2, 0.01, 0.99):
            canvas.disc(x * SIDE, (1 - y) * SIDE, 2.0, tint, opacity=opacity)
    return canvas.image
