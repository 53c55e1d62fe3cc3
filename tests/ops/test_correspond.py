"""Mutual neighbours, the motion most of them agree on, and descriptors of points that no rotation changes."""

import numpy as np
import pytest

from cvtool.ops.correspond import kabsch, mutual, rigid, shift
from cvtool.ops.point_features import fpfh, neighbours, normals


def turned(seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def test_mutual_neighbours_against_a_loop():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(15, 4)), draw.normal(size=(11, 4))
    likeness = (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
    pairs = [(i, j) for i in range(15) for j in range(11) if likeness[i].argmax() == j and likeness[:, j].argmax() == i]
    rows, columns, scores = mutual(a, b)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == pairs
    assert scores == pytest.approx(likeness[rows, columns], abs=1e-6)


def test_the_shift_is_that_of_the_majority():
    draw = np.random.default_rng(0)
    a = draw.uniform(0, 100, (40, 2))
    b = a + np.array([7, -3])
    b[:15] = draw.uniform(0, 100, (15, 2))
    move, agree = shift(a, b, 0.5)
    assert move == pytest.approx([7, -3], abs=1e-9)
    assert agree.sum() == 25
    assert shift(a[:0], b[:0], 1)[0].tolist() == [0, 0]


def test_a_rotation_is_found_among_wrong_pairs():
    draw = np.random.default_rng(0)
    a, rotation = draw.normal(size=(60, 3)), turned(1)
    b = a @ rotation.T + [1, 2, 3]
    found, move = kabsch(a, b)
    assert found == pytest.approx(rotation, abs=1e-9)
    assert move == pytest.approx([1, 2, 3], abs=1e-9)
    flat = a * [1, 1, 0]  # a mirror image fits a plane as well, and is no rotation
    assert np.linalg.det(kabsch(flat, flat @ rotation.T)[0]) == pytest.approx(1)
    b[:25] = draw.normal(size=(25, 3))
    found, move, agree = rigid(a, b, 1e-3)
    assert found == pytest.approx(rotation, abs=1e-6)
    assert agree.sum() == 35
    assert not rigid(a[:2], b[:2], 1)[2].any()


def test_fpfh_is_that_of_a_loop_and_the_same_after_a_rotation():
    points = np.random.default_rng(0).normal(size=(80, 3))
    mine = fpfh(points, count=9)
    assert fpfh(points @ turned(3).T + 5, count=9) == pytest.approx(mine, abs=1e-6)
    assert mine.sum(1) == pytest.approx(6)  # three histograms, and those of the neighbours
    near, far = neighbours(points, 9)
    n = normals(points, near)
    simple = np.zeros((80, 33))
    for i in range(80):
        for j in near[i]:
            line = (points[j] - points[i]) / np.linalg.norm(points[j] - points[i])
            v = np.cross(n[i], line)
            v /= np.linalg.norm(v)
            w = np.cross(n[i], v)
            for number, angle in enumerate((v @ n[j], n[i] @ line, np.arctan2(w @ n[j], n[i] @ n[j]) / np.pi)):
                simple[i, 11 * number + min(10, int((angle + 1) / 2 * 11))] += 1 / 9
    whole = [simple[i] + (simple[near[i]] / far[i][:, None]).sum(0) / (1 / far[i]).sum() for i in range(80)]
    assert mine == pytest.approx(np.array(whole), abs=1e-6)
