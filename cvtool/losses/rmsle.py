"""Root mean squared logarithmic error: ratios count, not differences, as for depths (Eigen 2014, arXiv:1406.2283, section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from cvtool.losses._reduce import within

KINDS = ("pictures",)


def rmsle(prediction: Tensor, target: Tensor, *, root: bool = True, least: float = 1e-6) -> Tensor:
    """sqrt(mean((ln x - ln y)^2)), natural logarithms and nothing added: the depth metric "RMSE (log)". root=False: the mean itself, MSLE.

    prediction, target: any shape, positive; what lies under `least` counts as `least`, so that a black pixel has a logarithm. (A seed text
    names the mean and prints its root; elsewhere 1 is added to both.)
    """
    mean = (prediction.clamp(min=least).log() - target.clamp(min=least).log()).square().mean()
    if not root:
        return mean
    tiny = torch.finfo(mean.dtype).tiny
    return torch.where(mean > 0, mean.clamp(min=tiny).sqrt(), mean)  # the root's slope at 0 is infinite: there it is 0


def check(*, least: float, **others: object) -> None:
    """Raises UsageError for a least value without a logarithm."""
    within("rmsle", "least", least, 0, open_low=True)
