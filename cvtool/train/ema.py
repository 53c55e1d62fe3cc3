"""An exponential moving average of a model's weights, which is what gets validated and saved (Polyak 1992; warm-up as in TensorFlow's)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn


class Ema:
    """average <- d average + (1 - d) weights after every turn n = 0, 1, ..., with d = min(decay, (1 + n) / (10 + n)); buffers are copied.

    decay: in (0, 1). The warm-up lets the average forget the random start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"an average's decay lies between 0 and 1, not {decay}")
        self.decay, self.turns = decay, 0
        self.model = deepcopy(model).eval().requires_grad_(False)
        self._pairs = [(mine, theirs) for mine, theirs in zip(self.model.parameters(), model.parameters(), strict=True)]
        self._buffers = [(mine, theirs) for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True)]

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.turns) / (10 + self.turns))
        self.turns += 1
        if self._pairs:
            mine, theirs = zip(*self._pairs, strict=True)
            torch._foreach_lerp_(list(mine), [t.detach() for t in theirs], 1 - decay)
        for kept, new in self._buffers:
            kept.copy_(new)

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "turns": self.turns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.turns = state["turns"]
