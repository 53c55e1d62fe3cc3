"""What a training method is to the loop: phases, each one optimiser's turn, and what happens after them.

A method that has a say in which pictures come together has `begin_epoch(loader, epoch, batch)` too: called before the batches of an epoch from number
`batch` on are made, it may set `loader.sampler`, by its own state alone where `batch` > 0, for then the epoch is gone on with.
One with something to tell has `news()`, lines that are told after an epoch.

Supervised training is one phase; a GAN is two (discriminator, generator); a penalty that is due every 16th turn is a third with `every=16`.
Moving averages, queues and momentum teachers live in `after`. The loop owns time, the step owns the mathematics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from cvtool.batch import Batch


@dataclass(frozen=True)
class Phase:
    """One optimiser's turn.

    params: what this phase trains; all other parameters of the step's phases have requires_grad off meanwhile.
    losses: a batch -> scalars by name; the names are the log's keys, the sum is minimised.
    every: the phase is due on turns 0, every, 2 every, ...
    when: or where this says so of the turn's number; asked once a turn, before its first phase, and the same in all processes.
    """

    name: str
    params: list[nn.Parameter]
    losses: Callable[[Batch], dict[str, Tensor]]
    optimizer: Optimizer
    every: int = 1
    when: Callable[[int], bool] | None = None

    def due(self, turn: int) -> bool:
        return turn % self.every == 0 if self.when is None else self.when(turn)


class Step(Protocol):
    """A training method. `model` is what is trained and resumed, `evaluated` what is validated and saved (its moving average, or itself)."""

    @property
    def model(self) -> nn.Module: ...

    @property
    def evaluated(self) -> nn.Module: ...

    def phases(self) -> list[Phase]:
        """In the order of their turns; called once."""
        ...

    def after(self, batch: Batch) -> None:
        """Called after each turn with its last batch."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next turn depends on: weights, averages, optimisers."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
