"""What generators with a code share: codes that depend on seed and number alone, and pictures made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CHUNK = 64  # pictures that are made at a time


def gaussian(shape: Sequence[int], n: int, seed: int, start: int = 0) -> Tensor:
    """n *shape of N(0, 1) in float32; the i-th depends on (seed, start + i) alone, not on torch's version or the device."""
    drawn = [np.random.default_rng((seed, start + i)).standard_normal(tuple(shape), np.float32) for i in range(n)]
    return torch.from_numpy(np.stack(drawn)) if drawn else torch.empty(0, *shape)


class Latents(nn.Module):
    """A generator of codes z ~ N(0, 1): it has `latent_shape`, `conditional` (how many classes it is told of, 0 for none) and
    `decoded(z, classes)` -> pictures in [0, 1]."""

    latent_shape: tuple[int, ...]
    conditional: int = 0

    def decoded(self, z: Tensor, classes: Tensor | None) -> Tensor:
        """B *latent_shape on the model's device (and classes B int64) -> B 3 H W in [0, 1]."""
        raise TypeError(f"{type(self).__name__} decodes nothing")

    def latents(self, n: int, seed: int, start: int = 0) -> Tensor:
        """The codes of the samples start, start + 1 ...: n *latent_shape, float32 on the CPU."""
        return gaussian(self.latent_shape, n, seed, start)

    @torch.no_grad()
    def decode_latents(self, z: Tensor, classes: Sequence[int] | None = None) -> Tensor:
        """Codes n *latent_shape -> pictures n 3 H W in [0, 1], float32. classes: that of each, for a conditional model. Raises ValueError."""
        if z.shape[1:] != self.latent_shape:
            raise ValueError(f"a code is {' x '.join(map(str, self.latent_shape))}, not {' x '.join(map(str, z.shape[1:]))}")
        if (classes is not None) != bool(self.conditional) or (classes is not None and len(classes) != len(z)):
            raise ValueError("a conditional generator is told the class of each picture, another is told none")
        device = next(self.parameters()).device
        wanted: Any = [None] * len(z) if classes is None else torch.as_tensor(classes, device=device)
        starts = range(0, len(z), CHUNK)
        parts = [self.decoded(z[i : i + CHUNK].to(device), None if classes is None else wanted[i : i + CHUNK]) for i in starts]
        return torch.cat(parts).float()

    def sample(self, n: int, seed: int, classes: Sequence[int] | None = None, *, start: int = 0) -> Tensor:
        """n 3 H W in [0, 1]; the i-th picture depends on (seed, start + i) and its class alone, in eval mode. Raises ValueError."""
        return self.decode_latents(self.latents(n, seed, start), classes)
