"""FPFH: how the surface bends around each point of a cloud, as 33 numbers that no rotation changes (Rusu 2009, doi:10.1109/ROBOT.2009.5152473)."""

from __future__ import annotations

import numpy as np

BINS = 11


def neighbours(points: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """N 3 -> the `count` nearest others of each, N count, and their distances."""
    from scipy.spatial import cKDTree

    far, near = cKDTree(points).query(points, k=min(count + 1, len(points)))
    return near[:, 1:], far[:, 1:]


def normals(points: np.ndarray, near: np.ndarray) -> np.ndarray:
    """N 3 of length 1: the direction in which a point and its neighbours vary least, away from the middle of the cloud."""
    around = np.concatenate([points[:, None], points[near]], 1)
    centred = around - around.mean(1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", centred, centred))
    found = axes[:, :, 0]
    return found * np.where(np.einsum("nd,nd->n", found, points - points.mean(0)) < 0, -1.0, 1.0)[:, None]


def fpfh(points: np.ndarray, *, count: int = 24) -> np.ndarray:
    """N 3 -> N 33: histograms of the three angles between a point's normal and its neighbours' (equations 1 and 2), smoothed over these."""
    near, far = neighbours(points, count)
    n = normals(points, near)
    line = (points[near] - points[:, None]) / np.maximum(far, 1e-12)[..., None]
    u = np.broadcast_to(n[:, None], line.shape)  # Darboux frame u, v, w
    v = np.cross(u, line)
    v = v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)
    w = np.cross(u, v)
    alpha = (v * n[near]).sum(-1)
    phi = (u * line).sum(-1)
    theta = np.arctan2((w * n[near]).sum(-1), (u * n[near]).sum(-1)) / np.pi
    simple = np.concatenate([_histogram(angle) for angle in (alpha, phi, theta)], 1)
    weight = 1 / np.maximum(far, 1e-12)
    weight /= weight.sum(1, keepdims=True)
    return simple + np.einsum("nk,nkb->nb", weight, simple[near])


def _histogram(values: np.ndarray) -> np.ndarray:
    """N K in [-1, 1] -> N BINS shares."""
    bins = np.clip(((values + 1) / 2 * BINS).astype(int), 0, BINS - 1)
    flat = np.bincount((np.arange(len(values))[:, None] * BINS + bins).ravel(), minlength=len(values) * BINS)
    return flat.reshape(len(values), BINS) / values.shape[1]
