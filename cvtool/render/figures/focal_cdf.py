"""Which examples the focal loss hears: the share of the whole loss that the easier ones make up, for foreground and background.

Lin 2017 (arXiv:1708.02002), figure 4: examples are sorted by their loss, the losses added up and divided by their sum. The more gamma, the more the
many easy places of the background fall silent, while the few of the foreground hardly change.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cvtool.errors import UsageError
from cvtool.render.figures._chart import Curve, chart
from cvtool.render.figures._page import Panel, numbers, page, positive
from cvtool.render.palette import Colour, instance

PICTURE = False
OPTIONS = {
    "gammas": {"default": "0,0.5,1,2", "metavar": "N,N,...", "help": "exponents, one curve each"},
    "detector": {"default": "", "metavar": "REF", "help": "scores of this detector (retinanet.small@bccd), else made-up ones"},
    "truth": {"default": "", "metavar": "DATA", "help": "the data set that it is asked about"},
    "pictures": {"default": 16, "metavar": "N", "help": "pictures of it"},
}
POINTS = 201


def contributions(p_t: np.ndarray, gamma: float) -> np.ndarray:
    """The shares 0, 1/200 .. 1 of the examples with the smallest losses -> their part of the sum of (1 - p_t)^gamma -ln p_t, from 0 to 1."""
    p_t = np.clip(np.asarray(p_t, float), 1e-12, 1)
    losses = np.sort(-((1 - p_t) ** gamma) * np.log(p_t))
    total = np.concatenate([[0.0], np.cumsum(losses)])
    at = np.linspace(0, len(losses), POINTS)
    return np.interp(at, np.arange(len(total)), total) / (total[-1] or 1.0)


def made_up() -> tuple[np.ndarray, np.ndarray]:
    """p_t of 1 000 places of the foreground and 200 000 of the background, of a detector that is trained: mostly sure, and rarely wrong."""
    rng = np.random.default_rng(0)
    foreground, background = rng.normal(0.5, 1.5, 1000), rng.normal(-4.0, 1.5, 200_000)
    return 1 / (1 + np.exp(-foreground)), 1 / (1 + np.exp(background))


def measured(detector: str, truth: str, pictures: int) -> tuple[np.ndarray, np.ndarray]:
    """p_t of all decided places and classes of a detector on the pictures to validate on (else to learn from) of a data set."""
    import torch

    from cvtool import weights
    from cvtool.data import source
    from cvtool.data.dataset import Dataset

    model, _ = weights.load(detector)
    if not hasattr(model, "examples"):
        raise UsageError(f"{detector} does not ask a yes or no of every place", hint="such as retinanet.small@bccd")
    train, validation, _ = source.read({"data": str(Path(truth).expanduser())})
    samples = Dataset((validation or train)[:pictures], model.categories)
    found: list[list[np.ndarray]] = [[], []]
    for i in range(len(samples)):
        with torch.inference_mode():
            logits, wanted = model.examples(model.prepare([samples[i].pixels], [samples[i].target]))
        for kept, told, of in zip(found, (logits, -logits), (wanted == 1, wanted == 0), strict=True):
            kept.append(told[of].sigmoid().cpu().numpy())
    return np.concatenate(found[0]), np.concatenate(found[1])


def figure(*, gammas: str, detector: str, truth: str, pictures: int) -> Image.Image:
    """Two panels of cumulative shares, foreground and background."""
    exponents = numbers(gammas, "gammas", above=-1e-9)
    if len(exponents) > 8:
        raise UsageError("--gammas takes eight numbers at most")
    if bool(detector) != bool(truth):
        raise UsageError("--detector and --truth go together", hint="the detector is asked about the pictures of the data set")
    positive(pictures, "pictures", 100_000)
    foreground, background = measured(detector, truth, pictures) if detector else made_up()
    if not len(foreground):
        raise UsageError("there is no object in these pictures", hint="--pictures says how many are looked at")
    subtitle = f"{detector} on {truth}" if detector else "made-up scores of a trained detector; --detector and --truth draw real ones"
    panels = [_panel(name, values, exponents) for name, values in (("foreground", foreground), ("background", background))]
    return page("What the focal loss hears", subtitle, panels)


def _panel(name: str, p_t: np.ndarray, gammas: Sequence[float]) -> Panel:
    share = np.linspace(0, 1, POINTS)
    curves: list[Curve] = [(share, contributions(p_t, gamma), instance(i)) for i, gamma in enumerate(gammas)]
    drawn = chart(curves, across=(0, 1), up=(0, 1), x=f"share of the {len(p_t):,} examples, easiest first", y="share of the loss")
    lines: list[tuple[str, Colour | None]] = []
    for (_, ys, colour), gamma in zip(curves, gammas, strict=True):
        lines.append((f"gamma {gamma:g}: the hardest tenth makes up {1 - ys[round(0.9 * (POINTS - 1))]:.1%}", colour))
    return Panel(drawn, name, lines)
