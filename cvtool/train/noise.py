"""Noise on what the network sees: a Gaussian on the normalised pixels of training pictures (Bishop 1995: to first order, a Tikhonov penalty)."""

from __future__ import annotations

from dataclasses import replace

import torch

from cvtool.batch import Batch


class InputNoise:
    """`deviation`: in units of the normalised pixels. The draw depends on (seed, turn, number of the batch in its turn) alone, so that a resumed
    run draws the same; padding stays zero."""

    def __init__(self, deviation: float, *, seed: int = 0) -> None:
        self.deviation, self.seed = deviation, seed

    def __call__(self, batch: Batch, turn: int, number: int = 0) -> Batch:
        draw = torch.Generator(batch.images.device).manual_seed(hash((self.seed, turn, number)) & (1 << 63) - 1)  # of numbers alone: never salted
        noise = torch.randn(batch.images.shape, generator=draw, device=batch.images.device, dtype=batch.images.dtype)
        noise.masked_fill_(batch.padding[:, None], 0)
        return replace(batch, images=batch.images.add(noise, alpha=self.deviation))
