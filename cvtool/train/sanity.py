"""Checks that a network can learn at all, before it is given weeks (after Karpathy 2019, "A recipe for training neural networks").

The ladder: look at what goes in and at the first loss (`report`, with -v); learn one picture, then a few, by heart (`--overfit N`); train a small
variant; change one thing at a time (`cvtool train --diff`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from cvtool.errors import CvtoolError, UsageError
from cvtool.render import curves
from cvtool.runtime.device import autocast
from cvtool.train.loop import Loop
from cvtool.train.state import rng_state, set_rng_state

GUESS = ("cross_entropy", "pixels")  # losses whose value is ln K where all K classes are as likely
TURNS = 500  # that --overfit takes at most, unless told
SMALL, SHARE = 0.05, 0.05  # the loss is about 0 below this, or below this share of the first one
CORRECT = {  # borders of maps come out of a coarser grid; of pictures alone there is nothing but the loss
    "labels": ("val_accuracy", 1.0),
    "boxes": ("AP50", 1.0),
    "semantic": ("val_mIoU", 0.95),
    "vectors": ("", 0.0),  # a class of a single picture has no neighbour of its own
    "pictures": ("", 0.0),
    "text": ("val_word_accuracy", 1.0),
    "quads": ("val_hmean", 0.9),
}
_VOID = {"augment": "none", "balance": "none", "early_stop": 0, "input_noise": 0.0}  # what --overfit leaves no room for
_OFF = {"accumulate": 1, "ema": 0.0, "l1": 0.0, "label_smoothing": 0.0}  # what would keep the loss up, unless it is asked for


# ---- learning by heart ---------------------------------------------------------------------------------------------


def overfitting(recipe: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with all off that keeps a network from learning `overfit` pictures by heart, and time enough for it.

    typed: what was asked for on the command line and stays. Raises UsageError where that can have no effect.
    """
    for key, off in _VOID.items():
        if typed.get(key, off) != off:
            option = f"--{key.replace('_', '-')}"
            raise UsageError(f"{option} has no effect with --overfit, which learns pictures as they are", hint=f"leave {option} out")
    found = {**recipe, **_VOID, **{key: off for key, off in _OFF.items() if key not in typed}}
    if "batch_size" not in typed:
        found["batch_size"] = min(recipe["batch_size"], max(2, recipe["overfit"]))
    turns = -(-recipe["overfit"] // found["batch_size"])  # an epoch
    if not {"epochs", "steps"} & set(typed):
        found |= {"epochs": -(-TURNS // turns), "steps": 0}
    if "val_every" not in typed:
        found["val_every"] = max(1, 10 // turns)
    return found | {"save_every": max(found["val_every"], recipe["save_every"])}


def chosen(records: Sequence[Any], count: int, seed: int) -> list[Any]:
    """`count` of the records, by seed, in their order. A single one is given twice, because normalisation over a batch cannot use one alone.

    Raises UsageError where there are fewer.
    """
    if count > len(records):
        raise UsageError(f"--overfit {count}: there are {len(records)} pictures to learn from", hint="the fewer the quicker: 1, then 8")
    found = [records[index] for index in sorted(np.random.default_rng(seed).permutation(len(records))[:count].tolist())]
    return found * 2 if len(found) == 1 else found


class Overfit:
    """Ends a loop as soon as it knows its pictures, and says how it ended."""

    def __init__(self, loop: Loop, kind: str) -> None:
        self.loop, self.kind = loop, kind
        loop.enough = self.reached

    @property
    def least(self) -> float:
        """What the loss can be at best, where the model says that it is not 0."""
        told, loader = getattr(self.loop.step.model, "lowest", None), cast(Any, self.loop.loader)
        return 0.0 if told is None else told(min(len(loader.dataset), loader.batch_size))

    def about_0(self, loss: float) -> bool:
        """Whether a loss is as low as it can be, or nearly."""
        return loss - self.least <= max(SMALL, SHARE * ((self.loop.at.first or 0.0) - self.least))

    def reached(self, values: Mapping[str, Any]) -> bool:
        """The loss about 0 and all correct, both on the pictures learned from, as they will be seen."""
        name, least = CORRECT[self.kind]
        return self.about_0(values["val_loss"]) and values.get(name, 0.0) >= least - 1e-6

    def verdict(self, folder: Path) -> str:
        """A line for a person. Raises CvtoolError where the pictures were not learned."""
        done = [line for line in curves.read(folder / "log.jsonl") if line.get("kind") == "epoch" and "val_loss" in line]
        values = {key: value for key, value in done[-1].items() if value is not None}
        name, least = CORRECT[self.kind]
        first, loss, got = self.loop.at.first or 0.0, values.get("val_loss", math.nan), values.get(name, 0.0)
        share = f", {name.removeprefix('val_')} {100 * got:.1f} %" if name else ""
        of = f"from {first:.3g}" + (f"; {self.least:.3g} is the least there can be" if self.least else "")
        said = f"loss {loss:.3g} ({of}){share} after {values['iteration']} turns"
        if self.reached({"val_loss": math.inf} | values):
            return f"learned by heart: {said}"
        if not loss - self.least < 0.5 * (first - self.least):
            hint = "the loss hardly falls: look at the data (`cvtool data check`, -v), the loss, and the rate (--find-lr)"
        elif got < least - 1e-6 and self.about_0(loss):
            hint = "the loss is low and the answers are wrong: look at the labels and at how the model's output is read (`predict`)"
        else:
            hint = "it is on its way: --steps or --epochs for longer, or another --lr (--find-lr)"
        raise CvtoolError(f"not learned by heart: {said}", where=folder, hint=hint)


# ---- what a run starts with ----------------------------------------------------------------------------------------


def report(model: Any, loader: Any, *, kind: str, device: torch.device, precision: str = "fp32") -> Iterator[str]:
    """Lines on the first batch, the parameters and the first loss. No random number is spent, no weight or running statistic moves."""
    item = loader.make(0, loader.plan(0)[0])
    batch = item.batch.to(device)
    yield _pictures(batch)
    yield _truth(batch, loader.dataset.categories)
    yield _parameters(model)
    before, buffers = rng_state(), [(buffer, buffer.clone()) for buffer in model.buffers()]
    was = model.training
    try:
        model.train()
        with torch.no_grad(), autocast(device, precision):
            losses = {name: float(value) for name, value in model.losses(batch).items()}
    finally:
        model.train(was)
        set_rng_state(before)
        for buffer, old in buffers:
            buffer.copy_(old)
    if losses:  # else they are all the training step's
        yield _first_loss(losses, len(loader.dataset.categories), kind, len(batch))


def _pictures(batch: Any) -> str:
    seen = batch.images.float().permute(1, 0, 2, 3)[:, ~batch.padding]  # 3 pixels
    channels = ", ".join(f"{mean:.2f} +- {std:.2f}" for mean, std in zip(seen.mean(1).tolist(), seen.std(1).tolist(), strict=True))
    shape = " x ".join(map(str, batch.images.shape))
    padded = f", {100 * batch.padding.float().mean():.0f} % padding" if batch.padding.any() else ""
    return f"first batch: {shape}{padded}; channels {channels}; from {seen.min():.2f} to {seen.max():.2f}"


def _truth(batch: Any, categories: Sequence[Any]) -> str:
    counts: Counter[int] = Counter()
    for target in batch.targets or ():
        if not hasattr(target, "labels"):
            continue
        numbers, times = target.labels.unique(return_counts=True)
        counts.update(dict(zip(numbers.tolist(), times.tolist(), strict=True)))
    void = counts.pop(255, 0)
    table = dict(enumerate(category["name"] if category else "background" for category in categories))
    names = [f"{table.get(label, label)} {count:,}" for label, count in counts.most_common(8)]
    more = f", {len(counts) - 8} classes more" if len(counts) > 8 else ""
    return "its truth: " + (", ".join(names) or "nothing") + more + (f"; not labelled: {void:,}" if void else "")


def _parameters(model: Any) -> str:
    inside, parts = model, list[str]()
    while len(children := list(inside.children())) == 1 and not any(True for _ in inside.parameters(recurse=False)):
        inside = children[0]
    for name, module in inside.named_children():
        count = sum(p.numel() for p in module.parameters())
        frozen = count - sum(p.numel() for p in module.parameters() if p.requires_grad)
        if count:
            parts.append(f"{name} {count:,}" + (" (frozen)" if frozen == count else f" ({frozen:,} frozen)" if frozen else ""))
    if own := sum(p.numel() for p in inside.parameters(recurse=False)):
        parts.append(f"its own {own:,}")
    return f"parameters: {sum(p.numel() for p in model.parameters()):,}: {', '.join(parts)}"


def _first_loss(losses: Mapping[str, float], classes: int, kind: str, pictures: int) -> str:
    said = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    guessed = next((name for name in GUESS if name in losses), None)
    if kind not in ("labels", "semantic") or guessed is None or classes < 2:
        return f"first loss: {said}"
    expected = math.log(classes)
    text = f"first loss: {said}; guessing among {classes} classes costs ln {classes} = {expected:.4g}"
    if losses[guessed] > 1.5 * expected and pictures >= 8:  # of fewer, the mean is chance
        text += ": it starts worse than a guess, so look at the last layer's initial weights and at the pictures' scale"
    return text
