"""Made pictures of earlier turns, which a discriminator is shown beside the new ones (Shrivastava 2017, arXiv:1612.07828, section 2.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class History:
    """At most `size` made pictures, with their classes where they have any. Without it a discriminator forgets what it has learned to see through.

    Draws from torch's global generator. Of several processes each has a pool of its own; after a resumption they begin with the first one's.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.pictures: Tensor | None = None
        self.classes: Tensor | None = None

    def mixed(self, made: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """made B ... (and classes B) -> as many, half of them from the pool (all new while it is empty; fewer where it holds fewer).

        Then as many of the new ones go into it, in the place of random others once it is full. With size 0 what comes in goes out.
        """
        half = len(made) // 2
        if not self.size or not half:
            return made, classes
        shown, told = made, classes
        if self.pictures is not None:
            order = torch.randperm(len(self.pictures))[:half].to(made.device)
            kept = len(made) - len(order)
            shown = torch.cat([made[:kept], self.pictures[order]])
            if classes is not None and self.classes is not None:
                told = torch.cat([classes[:kept], self.classes[order]])
        self._keep(made[:half], None if classes is None else classes[:half])
        return shown, told

    def _keep(self, made: Tensor, classes: Tensor | None) -> None:
        if self.pictures is None:
            self.pictures, self.classes = made[:0].detach().clone(), None if classes is None else classes[:0].clone()
        free = min(self.size - len(self.pictures), len(made))
        rest = made[free : free + self.size]
        places = torch.randperm(len(self.pictures))[: len(rest)].to(made.device)
        rest = rest[: len(places)]
        self.pictures[places] = rest.detach().to(self.pictures)
        self.pictures = torch.cat([self.pictures, made[:free].detach().to(self.pictures)])
        if classes is not None and self.classes is not None:
            self.classes[places] = classes[free : free + len(places)]
            self.classes = torch.cat([self.classes, classes[:free]])

    def state_dict(self) -> dict[str, Any]:
        return {"pictures": self.pictures, "classes": self.classes}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        for name in ("pictures", "classes"):
            setattr(self, name, None if state[name] is None else state[name].to(device))
