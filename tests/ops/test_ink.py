"""Ink: what is print, and its pieces."""

from __future__ import annotations

import numpy as np
import pytest

from cvtool.ops import ink


def sauvola(gray: np.ndarray, size: int, most: float) -> np.ndarray:
    """T = m (1 + k (s / R - 1)), pixel by pixel."""
    padded = np.pad(gray.astype(float), size // 2, mode="symmetric")
    out = np.zeros(gray.shape, bool)
    for y, x in np.ndindex(*gray.shape):
        part = padded[y : y + size, x : x + size]
        out[y, x] = gray[y, x] < part.mean() * (1 + ink.K * (part.std() / most - 1))
    return out


def test_the_rule_of_sauvola():
    chance = np.random.default_rng(0)
    gray = np.clip(200 + chance.normal(0, 8, (40, 50)), 0, 255).astype(np.uint8)
    gray[10:14, 5:40] = 30
    found = ink.ink(gray, window=15)
    spread = max(np.pad(gray.astype(float), 7, mode="symmetric")[y : y + 15, x : x + 15].std() for y in range(0, 40, 4) for x in range(0, 50, 4))
    assert (found == sauvola(gray, 15, min(ink.RANGE, spread))).mean() > 0.999
    assert found[10:14, 5:40].all()


def test_print_is_found_on_an_uneven_ground():
    ramp = np.linspace(90, 255, 300)[None].repeat(120, 0)
    gray = ramp.copy()
    gray[50:60, ::20] *= 0.4
    found = ink.ink(gray.astype(np.uint8))
    assert found[50:60, 20::20].all()
    assert not found[:30].any()
    assert not found[80:].any()


def test_two_values_are_taken_as_they_are_and_one_is_blank():
    gray = np.full((20, 20), 255, np.uint8)
    assert not ink.ink(gray).any()
    gray[3, 4] = 0
    assert np.argwhere(ink.ink(gray)).tolist() == [[3, 4]]


def test_pieces_touch_by_sides_or_corners():
    mask = np.zeros((6, 8), bool)
    mask[0, 0] = mask[1, 1] = mask[2, 2] = mask[4, 5:8] = True
    found = ink.pieces(mask)
    assert found.boxes.tolist() == [[0, 0, 3, 3], [5, 4, 8, 5]]
    assert found.areas.tolist() == [3, 3]
    assert (found.widths.tolist(), found.heights.tolist(), len(found)) == ([3, 3], [3, 1], 2)
    assert len(ink.pieces(mask, least=4)) == 0
    assert ink.pieces(np.zeros((3, 3), bool)).boxes.shape == (0, 4)


@pytest.mark.parametrize(("ground", "light"), [(230, True), (30, False)])
def test_the_ground_is_what_there_is_more_of(ground, light):
    gray = np.full((50, 50), ground, np.uint8)
    gray[10:20, 10:40] = 255 - ground
    assert ink.paper_is_light(gray) is light
