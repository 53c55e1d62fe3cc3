"""Where the characters of a word stand in its picture, and how high: pieces of ink, each matched with the character that was read there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvtool.ops import ink

LEAST = 24  # gray levels between print and ground
ONE = 0.5  # share of the narrower piece's width over which two pieces stand above each other, as an i and its dot do
EDGE = 0.3  # of the picture's height: lower pieces at its upper or lower edge belong to the lines above or below
SHIFTS = 0.0, 0.05, -0.05, 0.1, -0.1  # of the picture's height: how far what was read may lie from its ink, all of it
NEAR = 0.25  # of the picture's height: a character lies no farther than this beside its ink


@dataclass(frozen=True)
class Glyphs:
    """Of each of a text's characters the first row of its ink and the first one under it, and its width, L float64 each, pixels; NaN for one that
    touches others or is not of one piece. middles: L, the column of each. unread: N 4 xyxy, ink for which no character was read, inside the picture.
    """

    tops: np.ndarray
    bottoms: np.ndarray
    widths: np.ndarray
    middles: np.ndarray
    unread: np.ndarray

    @property
    def heights(self) -> np.ndarray:
        return self.bottoms - self.tops


def glyphs(crop: np.ndarray, text: str, places: np.ndarray) -> Glyphs:
    """crop: h w 3 uint8. places: L, about where each of the text's characters has its middle, in shares of the width."""
    tops, bottoms, widths = (np.full(len(text), np.nan) for _ in range(3))
    boxes, single = _columns(_ink(ink.luminance(np.ascontiguousarray(crop))))
    middles = _shifted(np.asarray(places, np.float64) * crop.shape[1], (boxes[:, 0] + boxes[:, 2]) / 2, crop.shape[0])
    seen = [i for i, character in enumerate(text) if not character.isspace()]
    owners = _owners(boxes, {i: float(middles[i]) for i in seen}, NEAR * crop.shape[0])
    count = np.bincount(list(owners.values()), minlength=len(boxes))
    for i, owner in owners.items():
        if count[owner] == 1 and single[owner]:
            tops[i], bottoms[i], widths[i] = boxes[owner, 1], boxes[owner, 3], boxes[owner, 2] - boxes[owner, 0]
            middles[i] = (boxes[owner, 0] + boxes[owner, 2]) / 2
    inside = (boxes[:, 0] > 0) & (boxes[:, 2] < crop.shape[1])
    return Glyphs(tops, bottoms, widths, middles, boxes[(count == 0) & single & inside])


def _shifted(middles: np.ndarray, columns: np.ndarray, height: int) -> np.ndarray:
    """The characters' columns, moved to where they lie nearest to the middles of the ink: they are read a little before it or after."""
    if not len(columns) or not len(middles):
        return middles
    moved = middles[None] - height * np.array(SHIFTS)[:, None]  # S L
    away = np.abs(moved[:, :, None] - columns).min(2).sum(1)
    return moved[int(np.argmin(away))]


def _owners(boxes: np.ndarray, middles: dict[int, float], near: float) -> dict[int, int]:
    """The piece that each character lies in, or beside; none where all are far."""
    if not len(boxes):
        return {}
    found = {}
    for i, x in middles.items():
        away = np.maximum(np.maximum(boxes[:, 0] - x, x - boxes[:, 2]), 0)
        best = int(np.argmin(away + 1e-3 * np.abs((boxes[:, 0] + boxes[:, 2]) / 2 - x)))
        if away[best] <= near:
            found[i] = best
    return found


def _ink(gray: np.ndarray) -> np.ndarray:
    """h w bool: what differs from the ground, which there is more of at the edges, by more than half of what print does (Otsu 1979,
    doi:10.1109/TSMC.1979.4310076)."""
    counts = np.bincount(gray.ravel(), minlength=256).astype(float)
    below = np.cumsum(counts)
    sums = np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = sums / below, (sums[-1] - sums) / above
        apart = np.nan_to_num(below * above * (high - low) ** 2)
    cut = int(np.argmax(apart))
    if not apart[cut] or high[cut] - low[cut] < LEAST:
        return np.zeros(gray.shape, bool)
    dark = gray <= (low[cut] + high[cut]) / 2
    edge = np.concatenate([dark[0], dark[-1], dark[:, 0], dark[:, -1]])
    return dark if edge.mean() < 0.5 else ~dark


def _columns(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pieces of ink, those above each other as one: N 4 xyxy, from the left; and N bool, which are of one piece."""
    found = ink.pieces(mask, least=3)
    height = mask.shape[0]
    boxes = found.boxes
    at_edge = (boxes[:, 1] == 0) | (boxes[:, 3] == height)
    boxes = boxes[~(at_edge & (found.heights < EDGE * height))].astype(float)
    joined: list[np.ndarray] = []
    single: list[bool] = []
    for box in boxes[np.argsort(boxes[:, 0], kind="stable")]:
        last = joined[-1] if joined else None
        if last is not None and min(last[2], box[2]) - box[0] > ONE * min(last[2] - last[0], box[2] - box[0]):
            joined[-1] = np.array([last[0], min(last[1], box[1]), max(last[2], box[2]), max(last[3], box[3])])
            single[-1] = False
        else:
            joined.append(box)
            single.append(True)
    return np.array(joined).reshape(-1, 4), np.array(single, bool)
