"""Windows cover the picture, and what is seen through them is what is there."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtool.results import Boxes, Instances, SemanticMap
from cvtool.tasks._tiling import Part, Pasted, Window, inside, merge, same_object, starts, windows


@given(st.integers(1, 400), st.integers(1, 400), st.integers(32, 200), st.floats(0, 0.9))
@settings(max_examples=150, deadline=None)
def test_windows_cover_every_pixel_and_stay_inside(width: int, height: int, tile: int, overlap: float) -> None:
    seen = np.zeros((height, width), dtype=int)
    for window in windows(width, height, tile, overlap):
        part = window.cut(seen)
        assert part.shape == (window.height, window.width) == (min(tile, height), min(tile, width))
        part += 1
    assert seen.min() >= 1


@given(st.integers(33, 2000), st.integers(32, 300), st.floats(0, 0.9))
@settings(max_examples=150, deadline=None)
def test_neighbours_overlap_at_least_as_asked_and_the_last_is_flush(side: int, tile: int, overlap: float) -> None:
    found = starts(side, tile, overlap)
    assert found[0] == 0
    assert found[-1] == max(0, side - tile)
    assert all(b - a <= round(tile * (1 - overlap)) or b - a == 1 for a, b in pairwise(found))
    assert len(set(found)) == len(found)


def test_a_picture_within_one_tile_is_one_window() -> None:
    assert windows(100, 60, 100, 0.2) == windows(100, 60, None) == [Window(0, 0, 100, 60)]


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 60), st.sampled_from([1, 4, 16]), st.integers(0, 60))
@settings(max_examples=150, deadline=None)
def test_insides_part_the_picture_and_each_is_seen_with_its_context(width: int, height: int, context: int, step: int, more: int) -> None:
    context = -(-context // step) * step
    tile = 2 * context + step + more
    whole = np.zeros((height, width), dtype=int)
    for seen, kept in inside(width, height, tile, context, step):
        kept.cut(whole)[...] += 1
        assert max(seen.width, seen.height) <= tile
        assert all(value % step == 0 for value in (seen.left, seen.top, kept.left, kept.top))
        for first, size, own, length, end in (
            (seen.left, seen.width, kept.left, kept.width, width),
            (seen.top, seen.height, kept.top, kept.height, height),
        ):
            assert first == 0 or first == own - context
            assert first + size == end or first + size >= own + length + context
    assert (whole == 1).all()


def test_a_tile_without_an_inside_has_no_windows() -> None:
    assert inside(500, 400, 80, 32, 32) == []
    assert len(inside(500, 400, 96, 32, 32)) == 16 * 13


def test_only_a_part_of_a_map_is_kept() -> None:
    values = np.arange(48).reshape(6, 8)
    part = Part.of(Window(10, 20, 8, 6), SemanticMap(values, values / 48)).only(Window(12, 23, 5, 2))
    assert part.window == Window(12, 23, 5, 2)
    assert (part.result.labels == values[3:5, 2:7]).all()
    assert (part.result.scores == values[3:5, 2:7] / 48).all()


def part_of(window: Window, boxes: list[list[float]], scores: list[float], labels: list[int] | None = None, **more: np.ndarray) -> Part:
    """A window's answer, boxes given in the picture's pixels."""
    shifted = np.array(boxes, dtype=np.float32).reshape(-1, 4) - np.array([window.left, window.top] * 2, dtype=np.float32)
    kind = Instances if more else Boxes
    return Part.of(window, kind(shifted, np.array(labels or [0] * len(boxes)), np.array(scores, dtype=np.float32), **more))


LEFT, RIGHT = Window(0, 0, 100, 100), Window(80, 0, 100, 100)


def test_an_object_seen_twice_is_one_and_the_best_stays() -> None:
    merged, _ = merge([part_of(LEFT, [[82, 10, 98, 30]], [0.6]), part_of(RIGHT, [[82.5, 10, 98, 31]], [0.9])], 180, 100)
    assert merged.boxes.round(1).tolist() == [[82.5, 10, 98, 31]]
    assert merged.scores.tolist() == pytest.approx([0.9])


def test_a_piece_cut_by_its_window_gives_way_to_the_whole() -> None:
    """The left window sees only a strip of the object, and is surer of it."""
    merged, _ = merge([part_of(LEFT, [[85, 10, 100, 60]], [0.99]), part_of(RIGHT, [[85, 10, 150, 60]], [0.5])], 180, 100)
    assert merged.boxes.tolist() == [[85, 10, 150, 60]]


def test_a_small_object_inside_a_large_one_stays_where_nothing_is_cut() -> None:
    inner, outer = [84, 20, 96, 30], [82, 5, 170, 95]
    merged, _ = merge([part_of(LEFT, [inner], [0.9]), part_of(RIGHT, [outer, inner], [0.8, 0.85])], 180, 100)
    assert sorted(merged.boxes.tolist()) == sorted([outer, inner])


def test_classes_and_objects_of_one_window_are_never_merged() -> None:
    box = [82, 10, 98, 30]
    merged, _ = merge([part_of(LEFT, [box, box], [0.6, 0.5]), part_of(RIGHT, [box], [0.9], [1])], 180, 100)
    assert len(merged) == 3
    assert merged.scores.tolist() == pytest.approx([0.9, 0.6, 0.5])


def test_max_det_counts_after_joining() -> None:
    merged, _ = merge([part_of(LEFT, [[1, 1, 9, 9], [20, 20, 30, 30]], [0.3, 0.9]), part_of(RIGHT, [[120, 9, 130, 19]], [0.5])], 180, 100, max_det=2)
    assert merged.scores.tolist() == pytest.approx([0.9, 0.5])


def test_masks_and_keypoints_come_back_to_their_place() -> None:
    mask = np.zeros((1, 100, 100), dtype=bool)
    mask[0, 10:30, 40:60] = True
    points = np.array([[[45, 15, 2], [50, 20, 1]]], dtype=np.float32)
    right = part_of(RIGHT, [[120, 10, 140, 30]], [0.9], masks=mask, keypoints=points)
    left = part_of(LEFT, [], [], masks=np.zeros((0, 100, 100), bool), keypoints=np.zeros((0, 2, 3), np.float32))
    merged, masks = merge([left, right], 180, 100)
    assert masks is not None
    assert merged.keypoints.tolist() == [[[125, 15, 2], [130, 20, 1]]]
    whole = masks[0].full(180, 100)
    expected = np.zeros((100, 180), bool)
    expected[10:30, 120:140] = True
    assert (whole == expected).all()
    assert masks[0].mask.shape == (20, 20)  # only the part that is not empty is kept


def test_an_empty_mask_is_an_empty_mask() -> None:
    assert not Pasted.of(np.zeros((10, 10), bool), LEFT).full(180, 100).any()


def test_no_objects_anywhere() -> None:
    merged, masks = merge([part_of(LEFT, [], []), part_of(RIGHT, [], [])], 180, 100)
    assert len(merged) == 0
    assert masks is None


def test_semantic_maps_take_the_surer_window() -> None:
    left = Part(LEFT, SemanticMap(np.ones((100, 100), np.int64), np.full((100, 100), 0.6, np.float32)))
    right = Part(RIGHT, SemanticMap(np.full((100, 100), 2), np.full((100, 100), 0.9, np.float32)))
    merged, _ = merge([left, right], 180, 100)
    assert (merged.labels[:, :80] == 1).all()
    assert (merged.labels[:, 80:] == 2).all()


def test_semantic_maps_without_scores_meet_in_the_middle() -> None:
    merged, _ = merge([Part(w, SemanticMap(np.full((100, 100), i), None)) for i, w in enumerate((LEFT, RIGHT), 1)], 180, 100)
    middle = merged.labels[50]
    assert (middle[:90] == 1).all()
    assert (middle[91:] == 2).all()


def slow_same_object(boxes, labels, scores, origin, cut, iou):
    """The module's rule in plain loops."""
    order = sorted(range(len(boxes)), key=lambda i: (cut[i], -scores[i]))
    kept: list[int] = []
    for i in order:
        for j in kept:
            if labels[i] != labels[j] or origin[i] == origin[j]:
                continue
            (a, b, c, d), (e, f, g, h) = boxes[i], boxes[j]
            common = max(0, min(c, g) - max(a, e)) * max(0, min(d, h) - max(b, f))
            first, second = (c - a) * (d - b), (g - e) * (h - f)
            small, small_cut = (first, cut[i]) if first <= second else (second, cut[j])
            if common > iou * (first + second - common) or (small_cut and common >= 0.7 * small and small > 0):
                break
        else:
            kept.append(i)
    return kept


@given(st.integers(0, 2**32 - 1), st.integers(0, 25), st.sampled_from([0.3, 0.5, 0.7]))
@settings(max_examples=60, deadline=None)
def test_the_rule_equals_plain_loops(seed: int, count: int, iou: float) -> None:
    draw = np.random.default_rng(seed)
    corner = draw.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + draw.uniform(1, 40, (count, 2))], axis=1)
    labels, origin, cut, scores = draw.integers(0, 2, count), draw.integers(0, 3, count), draw.random(count) < 0.4, draw.permutation(count) / 25.0
    assert same_object(boxes, labels, scores, origin, cut, iou).tolist() == slow_same_object(boxes, labels, scores, origin, cut, iou)
