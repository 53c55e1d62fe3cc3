"""Optimal discriminator: what the best one would say of real and made, and lose, so how far apart they are (Goodfellow 2014, arXiv:1406.2661)."""

from __future__ import annotations

import numpy as np

from cvtool.metrics.js import js

KIND = "distributions"
ALIASES = ("gan-optimal",)
KEYS = {
    "D_loss": "what the best discriminator loses, ln 4 - 2 JS in nats: ln 4 where made is as real, 0 where they do not overlap",
    "D_real": "what it says of real outcomes on average, D*: 0.5 where made is as real, 1 where they do not overlap",
    "D_made": "what it says of made outcomes on average: 0.5, and 0",
}
LOWER = ("D_real",)


def optimal(real: np.ndarray, made: np.ndarray) -> np.ndarray:
    """D* = p_real / (p_real + p_made), of any shape (proposition 1): where a ln y + b ln(1 - y) is largest, y = a / (a + b).

    0.5 where neither has any mass. (A seed text prints a / (a - b).)
    """
    p, q = np.asarray(real, np.float64), np.asarray(made, np.float64)
    both = p + q
    return np.where(both > 0, p / np.where(both > 0, both, 1), 0.5)


def loss(real: np.ndarray, made: np.ndarray, told: np.ndarray) -> np.ndarray:
    """-E_real ln D - E_made ln(1 - D), in nats, of a discriminator that says `told`: ... K each -> ... ; infinite where it is surely wrong.

    At D* it is ln 4 - 2 JS(real || made), which the generator maximises (theorem 1).
    """
    p, q, d = (np.asarray(one, np.float64) for one in (real, made, told))
    with np.errstate(divide="ignore", invalid="ignore"):
        return -np.where(p > 0, p * np.log(d), 0).sum(-1) - np.where(q > 0, q * np.log1p(-d), 0).sum(-1)


def compute(true: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """N K shares of real outcomes and N K of made ones -> N values a key."""
    told = optimal(true, found)
    return {"D_loss": np.log(4) - 2 * js(true, found), "D_real": (true * told).sum(-1), "D_made": (found * told).sum(-1)}
