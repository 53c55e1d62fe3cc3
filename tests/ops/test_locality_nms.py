"""Locality-aware suppression: the paper's algorithm on worked cases, and equal to a plain loop over it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvtool.ops.locality_nms import locality_nms, merged, standard_nms, touching
from cvtool.ops.quads import iou, of_boxes

pytestmark = pytest.mark.system("locality-nms")


def plain(quads, scores, overlap, merge):
    """Algorithm 1 as it is printed."""
    done, last = [], None
    for quad, score in zip(np.asarray(quads, float), scores, strict=True):
        if last is not None and iou(quad[None], last[0][None])[0] > merge:
            total = score + last[1]
            last = (score * quad + last[1] * last[0]) / total, total
        else:
            if last is not None:
                done.append(last)
            last = quad, score
    if last is not None:
        done.append(last)
    kept = []
    for quad, score in sorted(done, key=lambda pair: -pair[1]):
        if all(iou(quad[None], other[None])[0] <= overlap for other, _ in kept):
            kept.append((quad, score))
    return done, kept


def test_two_equal_boxes_are_one_at_the_same_place():
    box = of_boxes([[10, 20, 60, 40]])
    found, sums = locality_nms(np.concatenate([box, box]), np.array([0.9, 0.6]))
    np.testing.assert_allclose(found, box)
    np.testing.assert_allclose(sums, [1.5])


def test_corners_are_weighted_by_scores_and_scores_are_summed():
    """(0.6 * 0 + 0.2 * 4) / 0.8 = 1: three times as sure counts three times as much."""
    found, sums = locality_nms(of_boxes([[0, 0, 40, 10], [4, 0, 44, 10]]), np.array([0.6, 0.2]))
    np.testing.assert_allclose(found, of_boxes([[1, 0, 41, 10]]))
    np.testing.assert_allclose(sums, [0.8])


def test_what_overlaps_only_the_one_before_joins_where_it_overlaps_the_mean():
    """Each box overlaps the one before it by 1/3, but the third the mean of both by 1/4 only."""
    boxes = of_boxes([[0, 0, 4, 1], [2, 0, 6, 1], [4, 0, 8, 1]])
    found, sums = merged(boxes, np.ones(3), 0.3)  # the mean of the first two is (1, 0, 5, 1)
    np.testing.assert_allclose(found, of_boxes([[1, 0, 5, 1], [4, 0, 8, 1]]))
    np.testing.assert_allclose(sums, [2, 1])


def test_only_consecutive_boxes_are_merged_and_the_rest_is_suppressed():
    """Two words side by side are told in turn in each row: rows cannot be merged across them, suppression drops the lesser."""
    left, right = [0, 0, 20, 10], [40, 0, 60, 10]
    boxes = of_boxes([left, right, [0, 1, 20, 11], [40, 1, 60, 11]])
    found, sums = merged(boxes, np.array([0.5, 0.6, 0.7, 0.8]), 0.2)
    np.testing.assert_allclose(found, boxes)
    kept, sums = locality_nms(boxes, np.array([0.5, 0.6, 0.7, 0.8]))
    np.testing.assert_allclose(kept, boxes[[3, 2]])
    np.testing.assert_allclose(sums, [0.8, 0.7])
    np.testing.assert_allclose(locality_nms(boxes, np.array([0.5, 0.6, 0.7, 0.8]), most=1)[0], boxes[[3]])


@given(st.integers(0, 10_000), st.integers(0, 60), st.sampled_from([0.1, 0.3, 0.6]), st.sampled_from([0.1, 0.5]))
def test_it_equals_the_plain_loop(seed, count, merge, overlap):
    """Chains of boxes that drift, jump and come back."""
    rng = np.random.default_rng(seed)
    drift = np.cumsum(rng.normal(0, 3, (count, 1, 2)) + 30 * (rng.random((count, 1, 1)) < 0.1), 0) % 90
    turn = rng.uniform(-0.3, 0.3, count)
    c, s = np.cos(turn), np.sin(turn)
    matrix = np.stack([np.stack([c, s], 1), np.stack([-s, c], 1)], 1)
    boxes = of_boxes(np.tile([-15, -5, 15, 5], (count, 1))) @ matrix + drift if count else np.zeros((0, 4, 2))
    scores = rng.uniform(0.1, 1, count)
    done, kept = plain(boxes, scores, overlap, merge)
    found, sums = merged(boxes, scores, merge)
    assert len(found) == len(done)
    if count:
        np.testing.assert_allclose(found, [quad for quad, _ in done], atol=1e-9)
        np.testing.assert_allclose(sums, [score for _, score in done])
        found, sums = locality_nms(boxes, scores, overlap=overlap, merge=merge)
        np.testing.assert_allclose(found, [quad for quad, _ in kept], atol=1e-9)
        np.testing.assert_allclose(sums, [score for _, score in kept])


@given(st.integers(0, 10_000))
def test_boxes_that_touch_are_found_in_blocks_as_at_once(seed):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 30, (25, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 9, (25, 2))], 1)
    a, b = boxes[:, None], boxes[None]
    near = (np.minimum(a[..., 2:], b[..., 2:]) > np.maximum(a[..., :2], b[..., :2])).all(-1)
    wanted = np.argwhere(np.triu(near, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cvtool.ops.locality_nms.BLOCK", 75)
        np.testing.assert_array_equal(np.stack(touching(boxes), 1), wanted)


def test_standard_suppression_keeps_the_first_of_equal_scores_and_exact_overlaps():
    boxes = of_boxes([[0, 0, 3, 1], [1, 0, 4, 1], [0, 0, 3, 1]])
    assert standard_nms(boxes, np.array([0.5, 0.5, 0.5]), 0.49).tolist() == [0]  # the first two share 2 of 4
    assert standard_nms(boxes, np.array([0.5, 0.9, 0.5]), 0.5).tolist() == [1, 0]
    assert standard_nms(np.zeros((0, 4, 2)), np.zeros(0), 0.5).tolist() == []
