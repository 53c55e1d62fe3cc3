"""Panoptic quality against a plain transcript of panopticapi's rules, and worked examples of void and crowds."""

from __future__ import annotations

import numpy as np
import pytest

from cvtool.metrics import panoptic_quality
from cvtool.metrics.panoptic_quality import Segment


def reference(true: np.ndarray, found: np.ndarray, mine: dict[int, Segment], theirs: dict[int, Segment], classes: int) -> list[list[float]]:
    """Sums of overlaps, pairs, wrong, missed of each class."""
    rows = [[0.0] * classes for _ in range(4)]
    area = {key: int((found == key).sum()) for key in theirs}
    taken_true, taken_found = set(), set()
    for one, segment in mine.items():
        for other, guess in theirs.items():
            both = int(((true == one) & (found == other)).sum())
            if not both or segment.crowd or segment.label != guess.label:
                continue
            size = segment.area if segment.area is not None else int((true == one).sum())
            iou = both / (area[other] + size - both - int(((true == 0) & (found == other)).sum()))
            if iou > 0.5:
                rows[0][segment.label] += iou
                rows[1][segment.label] += 1
                taken_true.add(one)
                taken_found.add(other)
    crowds = {}
    for one, segment in mine.items():
        if one in taken_true:
            continue
        if segment.crowd:
            crowds[segment.label] = one
        else:
            rows[3][segment.label] += 1
    for other, guess in theirs.items():
        if other in taken_found:
            continue
        excused = int(((true == 0) & (found == other)).sum())
        if guess.label in crowds:
            excused += int(((true == crowds[guess.label]) & (found == other)).sum())
        if excused / area[other] <= 0.5:
            rows[2][guess.label] += 1
    return rows


def made(seed: int) -> tuple[np.ndarray, np.ndarray, dict[int, Segment], dict[int, Segment]]:
    """Maps of blocks; ids up to 2^24 - 1, void, crowds, and a found map that is the true one disturbed."""
    draw = np.random.default_rng(seed)
    keys = draw.choice(2**24 - 1, 12, replace=False) + 1
    keys[0] = 2**24 - 1
    true = np.kron(keys[draw.integers(0, 12, (6, 8))], np.ones((5, 5), int))
    true[draw.random(true.shape) < 0.1] = 0
    found = np.roll(true, int(draw.integers(1, 3)), 1)
    found[draw.random(found.shape) < 0.1] = 0
    found[found == keys[1]] = keys[2]
    mine = {int(key): Segment(int(draw.integers(0, 3)), bool(draw.random() < 0.25)) for key in np.unique(true) if key}
    guess = {
        int(key): mine[int(key)].label if int(key) in mine and draw.random() < 0.8 else int(draw.integers(0, 3)) for key in np.unique(found) if key
    }
    return true, found, mine, {key: Segment(label) for key, label in guess.items()}


@pytest.mark.parametrize("seed", range(8))
def test_counts_are_those_of_a_plain_loop(seed: int) -> None:
    true, found, mine, theirs = made(seed)
    if seed % 2:  # areas as a file states them, which need not be the map's
        mine = {key: Segment(one.label, one.crowd, float((true == key).sum() + 3)) for key, one in mine.items()}
    counted = panoptic_quality.counts(true, found, mine, theirs, 4)
    np.testing.assert_allclose(counted, reference(true, found, mine, theirs, 4), rtol=0, atol=1e-12)
    iou, tp, fp, fn = counted
    there = tp + fp + fn > 0
    pq = np.divide(iou, tp + fp / 2 + fn / 2, where=there, out=np.zeros(4))
    sq = np.divide(iou, tp, where=tp > 0, out=np.zeros(4))
    rq = np.divide(tp, tp + fp / 2 + fn / 2, where=there, out=np.zeros(4))
    things = np.array([True, False, True, True])
    values = panoptic_quality.figures(counted, things)
    assert values["PQ"] == pytest.approx(pq[there].mean())
    assert values["SQ_things"] == pytest.approx(sq[there & things].mean())
    assert values["RQ_stuff"] == pytest.approx(rq[there & ~things].mean())
    rows = panoptic_quality.rows(counted)
    assert rows[3] == {"PQ": None, "SQ": None, "RQ": None, "found": 0, "wrong": 0, "missed": 0}
    assert [row["wrong"] for row in rows] == fp.tolist()


def count(true: list, found: list, mine: dict[int, Segment], theirs: dict[int, Segment]) -> list[float]:
    return panoptic_quality.counts(np.array([true]), np.array([found]), mine, theirs, 1)[:, 0].tolist()


def test_half_is_no_match_and_void_leaves_the_union() -> None:
    thing = {1: Segment(0)}
    assert count([1, 1, 1, 1], [1, 1, 0, 0], thing, thing) == [0, 0, 1, 1]  # an overlap of 0.5 is not above it
    assert count([1, 1, 1, 9], [1, 1, 0, 0], {**thing, 9: Segment(0, crowd=True)}, thing) == [pytest.approx(2 / 3), 1, 0, 0]
    assert count([1, 1, 0, 0], [1, 1, 1, 1], thing, thing) == [1.0, 1, 0, 0]  # void does not count against it


def test_what_lies_in_void_or_in_the_crowd_of_its_class_is_no_mistake() -> None:
    found = {5: Segment(0)}
    assert count([0, 0, 0, 2], [5, 5, 5, 5], {2: Segment(0)}, found) == [1.0, 1, 0, 0]
    assert count([0, 0, 0, 0], [5, 5, 5, 5], {}, found) == [0, 0, 0, 0]
    crowd = {2: Segment(0, crowd=True), 3: Segment(0)}
    assert count([2, 2, 2, 3], [5, 5, 5, 5], crowd, found) == [0, 0, 0, 1]
    assert count([2, 2, 3, 3], [5, 5, 5, 5], crowd, found) == [0, 0, 1, 1]  # half is not more than half
    assert count([2, 2, 2, 3], [5, 5, 5, 5], {2: Segment(0), 3: Segment(0)}, found) == [0.75, 1, 0, 1]


def test_a_group_without_classes_has_no_number() -> None:
    values = panoptic_quality.figures(np.array([[1.0], [1.0], [0.0], [0.0]]), np.array([True]))
    assert values["PQ"] == values["PQ_things"] == 1.0
    assert np.isnan(values["PQ_stuff"])
    assert np.isnan(panoptic_quality.figures(np.zeros((4, 1)), np.array([True]))["PQ"])


def test_shared_pixels_are_counted_exactly() -> None:
    draw = np.random.default_rng(0)
    true, found = draw.integers(0, 5, (20, 30)) * 3_000_000, draw.integers(0, 4, (20, 30)) * 4_000_000
    shared = panoptic_quality.joint(true, found)
    assert sum(shared.values()) == 600
    assert all(int(((true == a) & (found == b)).sum()) == n for (a, b), n in shared.items())
