"""FID: Frechet distance between the features of two sets of pictures (Heusel 2017, arXiv:1706.08500, eq. 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KIND = "sets"
ALIASES = ("frechet-inception-distance", "frechet-distance")
KEYS = {"FID": "Frechet distance between two Gaussians fitted to the features of both sets"}
LOWER = ("FID",)
EXTRACTOR = "fid-inception"  # the network whose features the field means by this name


@dataclass(frozen=True)
class Gaussian:
    """mean: D float64. covariance: D D, unbiased. root: rows R D with root^T root = covariance, where there are fewer samples than dimensions."""

    mean: np.ndarray
    covariance: np.ndarray
    root: np.ndarray | None = None

    @classmethod
    def of(cls, features: np.ndarray) -> Gaussian:
        """Features N D, N at least 2. Raises ValueError."""
        x = np.asarray(features, np.float64)
        if len(x) < 2:
            raise ValueError("a covariance needs two samples at least")
        mean = x.mean(0)
        root = (x - mean) / np.sqrt(len(x) - 1)
        return cls(mean, root.T @ root, root if len(x) <= x.shape[1] else None)


def frechet(a: Gaussian, b: Gaussian) -> float:
    """||mu_a - mu_b||^2 + tr(S_a + S_b - 2 sqrt(S_a S_b)), never below 0: 0 for the same set, ||d||^2 for a shift by d."""
    apart = a.mean - b.mean
    return max(0.0, float(apart @ apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * trace_of_root(a, b)))


def trace_of_root(a: Gaussian, b: Gaussian) -> float:
    """tr sqrt(S_a S_b) without a matrix square root, and without its complex rounding.

    With S_a = A^T A the product has the eigenvalues of the symmetric A S_b A^T, whose roots are summed; with S_b = B^T B as well they are the
    singular values of A B^T, which for few samples is a small matrix. A is the Cholesky factor, or where S_a is singular that of its
    eigenvectors.
    """
    if a.root is not None and b.root is not None:
        return float(np.linalg.svd(a.root @ b.root.T, compute_uv=False).sum())
    if a.root is None and b.root is not None:
        a, b = b, a
    root = a.root if a.root is not None else _factor(a.covariance)
    return float(np.sqrt(np.clip(np.linalg.eigvalsh(root @ b.covariance @ root.T), 0, None)).sum())


def _factor(covariance: np.ndarray) -> np.ndarray:
    """R D with its transpose times itself the covariance D D."""
    try:
        upper = np.linalg.cholesky(covariance).T
        scale = np.abs(np.diag(upper))
        if scale.min() > 1e-6 * scale.max():  # nearer to singular, rounding would be blown up
            return upper
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(covariance)
    return np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T


def compute(true: Gaussian, found: Gaussian) -> dict[str, float]:
    """Of both sets' Gaussians."""
    return {"FID": frechet(true, found)}
