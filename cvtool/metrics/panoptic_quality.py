"""Panoptic quality: how well segments are found times how well they fit, over all classes, things and stuff (Kirillov 2019, arXiv:1801.00868).

A segment is found if one of its class overlaps it by more than 0.5, which one alone can. SQ is the mean overlap of the pairs, RQ pairs / (pairs +
half of what is left on either side), PQ their product; each is a mean over the classes that occur or were found. As in panopticapi: pixels that are
void in the truth leave the union; a found segment that lies by more than half in void or in its class's crowd is no mistake; crowds need not be
found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

KIND = "panoptic"
ALIASES = ("pq",)
KEYS = {
    "PQ": "panoptic quality, mean over classes",
    "SQ": "segmentation quality: overlap of the segments found",
    "RQ": "recognition quality: F1 of the segments",
    "PQ_things": "panoptic quality of things",
    "SQ_things": "segmentation quality of things",
    "RQ_things": "recognition quality of things",
    "PQ_stuff": "panoptic quality of stuff",
    "SQ_stuff": "segmentation quality of stuff",
    "RQ_stuff": "recognition quality of stuff",
}
VOID = 0
SHIFT = 24  # bits of a segment's id


@dataclass(frozen=True)
class Segment:
    """One of an image's segments. label: 0..K-1; area: in pixels, as its file states it (None: counted)."""

    label: int
    crowd: bool = False
    area: float | None = None


def counts(
    true: np.ndarray, found: np.ndarray, true_segments: Mapping[int, Segment], found_segments: Mapping[int, Segment], classes: int
) -> np.ndarray:
    """4 K float64 of one image: sum of overlaps of the pairs, pairs, found segments without one, true segments without one. They add up.

    true, found: H W ids below 2^24, 0 where nothing is; every other id that occurs is one of the segments.
    """
    out = np.zeros((4, classes))
    shared = joint(true, found)
    areas: dict[int, int] = {}
    own: dict[int, int] = {}
    for (one, other), pixels in shared.items():
        own[one] = own.get(one, 0) + pixels
        areas[other] = areas.get(other, 0) + pixels
    pairs_true, pairs_found = set(), set()
    for (one, other), pixels in shared.items():
        here, there = true_segments.get(one), found_segments.get(other)
        if here is None or there is None or here.crowd or here.label != there.label:
            continue
        size = own[one] if here.area is None else here.area
        overlap = pixels / (areas[other] + size - pixels - shared.get((VOID, other), 0))
        if overlap > 0.5:
            out[:2, here.label] += overlap, 1
            pairs_true.add(one)
            pairs_found.add(other)
    crowds: dict[int, int] = {}
    for key, segment in true_segments.items():
        if segment.crowd:
            crowds[segment.label] = key  # the last one of a class, as in panopticapi
        elif key not in pairs_true:
            out[3, segment.label] += 1
    for key, segment in found_segments.items():
        if key in pairs_found or key not in areas:
            continue
        excused = shared.get((VOID, key), 0) + shared.get((crowds.get(segment.label, -1), key), 0)
        if excused / areas[key] <= 0.5:
            out[2, segment.label] += 1
    return out


def joint(true: np.ndarray, found: np.ndarray) -> dict[tuple[int, int], int]:
    """(id in the one map, id in the other) -> pixels. Runs of equal pixels are counted at once: a picture has some thousands of them."""
    codes = (true.astype(np.uint64) << SHIFT | found.astype(np.uint64)).ravel()
    starts = np.flatnonzero(np.diff(codes, prepend=~codes[:1]))
    values, places = np.unique(codes[starts], return_inverse=True)
    pixels = np.bincount(places, np.diff(starts, append=len(codes)), len(values)).astype(int)
    return {(int(code) >> SHIFT, int(code) & ((1 << SHIFT) - 1)): int(n) for code, n in zip(values, pixels, strict=True)}


def figures(counted: np.ndarray, things: np.ndarray, chosen: np.ndarray | None = None) -> dict[str, float]:
    """The metrics of such counts; things: K bool; chosen: K bool, the classes to average over. nan where no class of a group occurs."""
    pq, sq, rq = _of_classes(counted)
    there = counted[1:].sum(0) > 0
    there &= True if chosen is None else chosen
    out: dict[str, float] = {}
    for suffix, group in (("", there), ("_things", there & things), ("_stuff", there & ~things)):
        out |= {f"{name}{suffix}": float(values[group].mean()) if group.any() else np.nan for name, values in (("PQ", pq), ("SQ", sq), ("RQ", rq))}
    return out


def rows(counted: np.ndarray) -> list[dict[str, Any]]:
    """Of each class `PQ`, `SQ`, `RQ` (None where it neither occurs nor was found) and its counts."""
    there = counted[1:].sum(0) > 0
    found = []
    for k, values in enumerate(np.stack(_of_classes(counted)).T):
        row: dict[str, Any] = {name: float(value) if there[k] else None for name, value in zip(("PQ", "SQ", "RQ"), values, strict=True)}
        found.append(row | {name: int(count) for name, count in zip(("found", "wrong", "missed"), counted[1:, k], strict=True)})
    return found


def _of_classes(counted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    overlap, pairs, wrong, missed = counted
    below = pairs + 0.5 * wrong + 0.5 * missed

    def share(one: np.ndarray, of: np.ndarray) -> np.ndarray:
        return np.divide(one, of, out=np.zeros(len(of)), where=of > 0)

    return share(overlap, below), share(overlap, pairs), share(pairs, below)
