"""Statistics of the training pictures, as `--preprocess` asks for them: measured once, on the training split alone, and kept with the weights.

    mean[:channel|image|scalar]          x - mean: of each colour, of each value at each place ("mean image"), or of all
    standardize[:image|channel|scalar]   (x - mean) / deviation: mean 0 and deviation 1, with no bound; a value that never changes becomes 0
    minmax[:scalar|channel|image]        (x - min) / (max - min): [0, 1] on the training pictures, without bound on others; constants become 0
    pca:K                                what the K first principal components say of a picture, the rest left out
    pca-whiten:K                         the same with every component's deviation made 1, turned back into a picture

The first of the words is meant where none is given. x is a colour in [0, 1] after resizing, before any augmentation. Statistics of each value (image,
and PCA) need pictures of one size, that is resize "stretch" or "crop". Everything is summed in float64 as the pictures pass by: memory is bounded by
a picture, for PCA by the square of its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvtool import calls
from cvtool.batch import Prepare, Table
from cvtool.errors import InputError, UsageError, did_you_mean
from cvtool.ops.pca import EPS, Streaming

ARGUMENTS: dict[str, dict[str, Any]] = {
    "mean": {"of": "channel"},
    "minmax": {"of": "scalar"},
    "pca": {"count": 0},
    "pca-whiten": {"count": 0, "eps": EPS},
    "standardize": {"of": "image"},
}
NAMES = tuple(ARGUMENTS)
SCOPES = ("channel", "image", "scalar")
WIDEST = 4096  # values of a picture for PCA: a covariance of 128 MiB
CONSTANT = 1e-6  # a deviation or range below it is none
CHUNK = 1 << 21  # values that are summed together, about

Pixels = Tensor | np.ndarray


def check(text: str) -> calls.Call:
    """The call, with its arguments named. Raises UsageError with the right names for a wrong one."""
    call = calls.one(text, "preprocess")
    call = replace(call, name=call.name.lower().replace("_", "-"))
    if call.name not in ARGUMENTS:
        raise UsageError(f"unknown preprocessing '{call.name}'", hint=did_you_mean(call.name, NAMES) or "preprocessings: " + ", ".join(NAMES))
    options = calls.bind(call, ARGUMENTS[call.name], "preprocess")
    if options.get("of", "image") not in SCOPES:
        raise UsageError(f"preprocess: {call.name} is of each {', '.join(SCOPES)}, not of {options['of']}", hint=f"such as {call.name}:channel")
    if options.get("count", 1) < 1 or options.get("eps", 0.0) < 0:
        raise UsageError(f"preprocess: {call.name} takes how many components to keep", hint=f"such as {call.name}:64")
    return calls.Call(call.name, (), options)


def fit(text: str, prepare: Prepare, pictures: Callable[[], Iterable[Pixels]]) -> Prepare:
    """`prepare` with the statistics of these pictures (H W 3 uint8) in the place of its mean and deviation.

    pictures: called once, for an iterator over the training split. Raises UsageError where the pictures would differ in size, and InputError where
    there are fewer than the statistics need.
    """
    call = check(text)
    if prepare.table is not None:
        prepare = replace(prepare, table=None)
    options: dict[str, Any] = dict(call.kwargs)
    whole = options.get("of", "image") == "image"
    if whole and (prepare.resize not in ("stretch", "crop") or not prepare.antialias):
        here = f"this model resizes by '{prepare.resize}'" if prepare.resize else "this model takes pictures of any size"
        hint = f"{call.name}:channel is of each colour" if "of" in options else "mean:channel and standardize:channel are of each colour"
        raise UsageError(f"preprocess: {call} needs pictures of one size, and {here}", hint=hint)
    bare = replace(prepare, mean=(0.0,) * 3, std=(1.0,) * 3, antialias=True)
    chunks = _chunks(bare, pictures())
    if "count" in options:
        return _components(call, bare, chunks, **options)
    one = _Range() if call.name == "minmax" else _Moments()
    for chunk in chunks:
        one.add(chunk, whole=whole)
    if not one.count:
        raise InputError("there is no training picture to take statistics of")
    shift, scale = one.result(options["of"])
    if call.name == "mean":
        scale = torch.ones_like(shift)
    scale = torch.where(scale > CONSTANT, scale, torch.ones_like(scale))
    if whole:
        return replace(bare, table=Table(shift, None if call.name == "mean" else scale))
    colours = [tuple(value.float().expand(3).tolist()) for value in (shift, scale)]
    return replace(prepare, mean=colours[0], std=colours[1])


def _components(call: calls.Call, bare: Prepare, chunks: Iterator[Tensor], *, count: int, eps: float = EPS) -> Prepare:
    found: Streaming | None = None
    shape: torch.Size = torch.Size()
    for chunk in chunks:
        if found is None:
            shape = chunk.shape[1:]
            if (width := shape.numel()) > WIDEST:
                hint = f"--img-size {int((WIDEST / 3) ** 0.5)} or less, or PCA of a network's features"
                raise UsageError(
                    f"preprocess: {call.name} of {shape[2]} x {shape[1]} pictures: {width:,} values, and {WIDEST:,} is the limit", hint=hint
                )
            found = Streaming(width)
        found.add(chunk.flatten(1))
    try:
        if found is None:
            raise ValueError("there is no picture")
        pca = found.fit(count, whiten=call.name == "pca-whiten", eps=eps)
    except ValueError as error:
        raise InputError(f"preprocess: {call.name}:{count} cannot be had: {error}") from error
    return replace(bare, table=Table(pca.mean.float().view(shape), None, pca.components.float(), pca.gain.float()))


class _Moments:
    """Mean and deviation."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, x: Tensor, *, whole: bool) -> None:
        """x: B 3 H W. whole: of each value, 3 H W; else of each colour, 3."""
        axes = (0,) if whole else (0, 2, 3)
        self.count += len(x) if whole else x.numel() // x.shape[1]
        x = x.double()
        self.sum, self.squares = self.sum + x.sum(axes), self.squares + x.square().sum(axes)

    def result(self, of: str) -> tuple[Tensor, Tensor]:
        mean, square = self.sum / self.count, self.squares / self.count
        if of == "scalar":
            mean, square = mean.mean(0, keepdim=True), square.mean(0, keepdim=True)
        return mean.float(), (square - mean.square()).clamp(min=0).sqrt().float()


class _Range:
    """Least value, and the largest less the least."""

    def __init__(self) -> None:
        self.count, self.low, self.high = 0, torch.tensor(torch.inf), torch.tensor(-torch.inf)

    def add(self, x: Tensor, *, whole: bool) -> None:
        self.count += len(x)
        axes = (0,) if whole else (0, 2, 3)
        self.low, self.high = torch.minimum(self.low, x.amin(axes)), torch.maximum(self.high, x.amax(axes))

    def result(self, of: str) -> tuple[Tensor, Tensor]:
        low, high = (self.low.amin(0, keepdim=True), self.high.amax(0, keepdim=True)) if of == "scalar" else (self.low, self.high)
        return low, high - low  # in float32, as the network's input is computed: the largest becomes 1 exactly


def _chunks(bare: Prepare, pictures: Iterable[Pixels]) -> Iterator[Tensor]:
    """The pictures as `bare` prepares them, B 3 H W in [0, 1], those of one size together; padding is left out."""
    held: list[Any] = []
    size: tuple[int, int] | None = None
    for picture in pictures:
        inner, _ = bare.inner(picture)
        if held and (tuple(inner.shape[:2]) != size or len(held) * inner.numel() >= CHUNK):
            yield bare.normalise_(torch.stack(held).permute(0, 3, 1, 2).float())
            held = []
        size = (int(inner.shape[0]), int(inner.shape[1]))
        held.append(inner)
    if held:
        yield bare.normalise_(torch.stack(held).permute(0, 3, 1, 2).float())
