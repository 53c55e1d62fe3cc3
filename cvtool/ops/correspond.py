"""Which point of one is which of the other: mutual nearest neighbours of descriptors, and the motion on which most of them agree."""

from __future__ import annotations

import numpy as np

from cvtool.ops.nearest import nearest, unit


def mutual(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """N D and M D -> K rows of a, K rows of b that are each other's nearest by cosine, and the cosine, in the order of a."""
    there, found = nearest(unit(a), unit(b), 1, unit_rows=True)
    back, _ = nearest(unit(b), unit(a), 1, unit_rows=True)
    rows = np.flatnonzero(back[there[:, 0], 0] == np.arange(len(a)))
    return rows, there[rows, 0], found[rows, 0]


def shift(a: np.ndarray, b: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """(dx, dy) from points K 2 to points K 2 on which most pairs agree within `tolerance`, their mean; and which agree, K bool."""
    moves = b - a
    if not len(moves):
        return np.zeros(2), np.zeros(0, bool)
    best = np.zeros(len(moves), bool)
    for start in range(0, len(moves), 512):
        near = np.abs(moves[start : start + 512, None] - moves[None]).max(-1) <= tolerance
        row = near[near.sum(1).argmax()]
        best = row if row.sum() > best.sum() else best
    return moves[best].mean(0), best


def kabsch(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation 3 3 and translation 3 that bring points K 3 nearest to points K 3: b = R a + t (Kabsch 1976, doi:10.1107/S0567739476001873)."""
    middle_a, middle_b = a.mean(0), b.mean(0)
    u, _, vt = np.linalg.svd((a - middle_a).T @ (b - middle_b))
    mirror = np.diag([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T)) or 1.0])
    rotation = vt.T @ mirror @ u.T
    return rotation, middle_b - rotation @ middle_a


def rigid(a: np.ndarray, b: np.ndarray, tolerance: float, *, rounds: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(R, t, which pairs agree) of paired points K 3 of which some are wrong: RANSAC over triples (Fischler 1981), then a fit to all that agree."""
    best = np.zeros(len(a), bool)
    draw = np.random.default_rng(seed)
    for _ in range(rounds if len(a) >= 3 else 0):
        three = draw.choice(len(a), 3, replace=False)
        rotation, move = kabsch(a[three], b[three])
        agree = np.linalg.norm(a @ rotation.T + move - b, axis=1) <= tolerance
        if agree.sum() > best.sum():
            best = agree
            if best.mean() > 0.9:
                break
    if best.sum() < 3:
        return np.eye(3), np.zeros(3), np.zeros(len(a), bool)
    rotation, move = kabsch(a[best], b[best])
    return rotation, move, np.linalg.norm(a @ rotation.T + move - b, axis=1) <= tolerance
