"""Principal components: the directions along which data vary most, and whitening, which makes them vary alike (Pearson 1901; Hotelling 1933)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

EPS = 1e-8  # added to a variance before its root: a direction without any stays near zero


@dataclass(frozen=True)
class PCA:
    """mean: D. components: K D, rows of length 1, the most variance first. variances: K, of the data along them. All float64.

    whiten: `transform` divides by sqrt(variance + eps), so that the covariance becomes the identity. (A text has it "scaled by the eigenvalues";
    it is divided by their roots.)
    """

    mean: Tensor
    components: Tensor
    variances: Tensor
    whiten: bool = False
    eps: float = EPS

    @property
    def gain(self) -> Tensor:
        """K: what a coordinate is multiplied by."""
        return (self.variances + self.eps).rsqrt() if self.whiten else torch.ones_like(self.variances)

    def transform(self, data: Any) -> Tensor:
        """N D -> N K float64."""
        return (_double(data) - self.mean) @ self.components.T * self.gain

    def inverse(self, coordinates: Any) -> Tensor:
        """N K -> N D float64: exact if all components are kept, else the nearest that they can say."""
        return _double(coordinates) / self.gain @ self.components + self.mean


def fit(data: Any, count: int, *, whiten: bool = False, eps: float = EPS) -> PCA:
    """N D (any array) -> its first `count` components: centred, then the covariance's eigenvectors by singular values, where no square is lost.

    count: from 1 to min(N, D). A component's largest entry is positive, so that signs are the same everywhere. Raises ValueError.
    """
    x = _double(data)
    if x.ndim != 2 or not 1 <= count <= min(x.shape):
        raise ValueError(f"of {len(x)} rows of {x[0].numel() if len(x) else 0} values there are no {count} components")
    mean = x.mean(0)
    _, singular, rows = torch.linalg.svd(x - mean, full_matrices=False)
    variances = singular.square() / max(1, len(x) - 1)
    return PCA(mean, _signed(rows[:count]), variances[:count], whiten=whiten, eps=eps)


class Streaming:
    """The same in bounded memory, D x D: rows are added as they come."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self.shift: Tensor | None = None  # the first rows' mean, subtracted before squaring, so that no digits are lost
        self.sum = torch.zeros(width, dtype=torch.float64)
        self.products = torch.zeros(width, width, dtype=torch.float64)

    def add(self, data: Any) -> None:
        """N D."""
        x = _double(data)
        if self.shift is None:
            self.shift = x.mean(0)
        x = x - self.shift
        self.count += len(x)
        self.sum += x.sum(0)
        self.products.addmm_(x.T, x)

    def fit(self, count: int, *, whiten: bool = False, eps: float = EPS) -> PCA:
        """Raises ValueError as `fit` does."""
        width = len(self.sum)
        if self.shift is None or not 1 <= count <= min(self.count, width):
            raise ValueError(f"of {self.count} rows of {width} values there are no {count} components")
        mean = self.sum / self.count
        covariance = (self.products - self.count * torch.outer(mean, mean)) / max(1, self.count - 1)
        variances, columns = torch.linalg.eigh(covariance)  # growing
        order = torch.arange(width - 1, width - 1 - count, -1)
        return PCA(mean + self.shift, _signed(columns.T[order]), variances[order].clamp(min=0), whiten=whiten, eps=eps)


def _signed(rows: Tensor) -> Tensor:
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return rows * torch.where(largest < 0, -1.0, 1.0)


def _double(data: Any) -> Tensor:
    return torch.as_tensor(data).to(torch.float64)
