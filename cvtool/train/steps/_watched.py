"""A criterion that remembers what it compared, for methods that go on with a model's answer and would not ask it twice."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from cvtool.losses import Criterion


class Watched(Criterion):
    """The same sum, times `factor`; `of` tells what it compared. Without gradient it is the plain sum, unwatched."""

    def __init__(self, criterion: Criterion, *, factor: float = 1.0) -> None:
        super().__init__(criterion.text, criterion.kind, criterion.terms)
        self._made = criterion._made
        self.factor = factor
        self._seen: tuple[Tensor, Tensor] | None = None

    def __call__(self, prediction: Tensor, target: Tensor, **beside: Tensor | None) -> dict[str, Tensor]:
        values = super().__call__(prediction, target, **beside)
        if not prediction.requires_grad:
            return values
        if self._seen is None:
            self._seen = (prediction, target)
        return values if self.factor == 1 else {key: self.factor * value for key, value in values.items()}

    def of(self, ask: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The losses that `ask` gives, and the (prediction, target) that were compared first on the way. Raises RuntimeError where nothing was."""
        self._seen = None  # others may have looked in between
        losses = ask()
        if self._seen is None:
            raise RuntimeError("the model's losses do not ask its criterion")
        (prediction, target), self._seen = self._seen, None
        return losses, prediction, target
