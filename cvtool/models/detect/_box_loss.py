"""The loss of predicted boxes by name: of the numbers that the head gives, or of the boxes that they stand for."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from cvtool import calls, losses

KINDS = ("smooth-l1", "l1", "iou", "giou")  # the first two compare deltas, which differ in scale from coder to coder; the others boxes


class BoxLoss:
    """`BoxLoss("giou")`, `BoxLoss("iou:log")`, `BoxLoss("l1+2*giou")`: called with what a head predicts and the truth, it gives their sum.

    beta: of the smooth L1, unless the text says one. Raises UsageError for another name or option.
    """

    def __init__(self, text: str, *, beta: float = 1.0) -> None:
        self.text = text
        terms = []
        for weight, call in calls.weighted(text, "box_loss"):
            name, options = losses.canonical(call.name), losses.options(call, KINDS, what="box_loss")
            if name == "smooth-l1" and "beta" not in call.kwargs:
                options["beta"] = beta
            function = getattr(losses.get(name), name.replace("-", "_"))
            terms.append((weight, function, options | {"reduction": "sum"}, name in KINDS[:2]))
        self.terms = terms

    def __call__(self, deltas: Tensor, boxes: Tensor, *, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]) -> Tensor:
        """deltas, boxes: N 4, predicted and true; encode: boxes -> the deltas a head should give, decode: deltas -> boxes. Zero of none."""
        total = deltas.sum() * 0
        for weight, function, options, of_deltas in self.terms:
            prediction, target = (deltas, encode(boxes)) if of_deltas else (decode(deltas), boxes)
            total = total + weight * function(prediction, target, **options)
        return total
