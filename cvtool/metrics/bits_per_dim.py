"""Bits per dimension: -log2 of the probability that a generator gives to pictures, over the number of values (Theis 2016, arXiv:1511.01844)."""

from __future__ import annotations

import numpy as np

KIND = "likelihood"
ALIASES = ("bpd", "bits-per-dimension", "likelihood")
KEYS = {"bits_per_dim": "what a value of a true picture costs by the generator, mean over the pictures; 8 for knowing nothing of bytes"}
LOWER = ("bits_per_dim",)


def compute(bits: np.ndarray) -> dict[str, float]:
    """N, of each picture -> their mean."""
    return {"bits_per_dim": float(np.mean(bits))}
