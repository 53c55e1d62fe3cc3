"""The tree of classes, against loops over pictures and an example by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cvtool.ops.class_tree import Tree, class_distances


@pytest.mark.system("hierarchical-triplet")
def test_class_distances_are_means_over_pairs():
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(14, 3)), np.array([0, 1, 0, 2, 1, 2, 0, 4, 1, 2, 0, -1, 1, -1])
    found = class_distances(vectors, labels, 5)
    for p in (0, 1, 2, 4):
        for q in (0, 1, 2, 4):
            pairs = [np.square(vectors[i] - vectors[j]).sum() for i in range(14) for j in range(14) if labels[i] == p and labels[j] == q and i != j]
            assert found[p, q] == pytest.approx(np.mean(pairs) if pairs else 0)
    assert np.isnan(found[3]).all()


@pytest.mark.system("hierarchical-triplet")
def test_the_tree_of_four_classes():
    """Two near ones, a third not far, a fourth opposite; within each 0.4: d_l = 0.4 + 0.9 l with four levels."""
    distances = np.array([[0.4, 1.0, 2.0, 3.9], [1.0, 0.2, 2.1, 3.9], [2.0, 2.1, 0.6, 3.9], [3.9, 3.9, 3.9, 0.4]])
    tree = Tree.of(distances, 4)
    np.testing.assert_allclose(tree.levels, [0.4, 1.3, 2.2, 3.1, 4.0])
    assert tree.meet.tolist() == [[0, 1, 2, 4], [1, 0, 2, 4], [2, 2, 0, 4], [4, 4, 4, 0]]
    assert [tree.nodes(level) for level in (0, 1, 2, 4)] == [[[0], [1], [2], [3]], [[0, 1], [2], [3]], [[0, 1, 2], [3]], [[0, 1, 2, 3]]]
    margins = tree.margins(0.1)
    assert margins[0, 1] == pytest.approx(0.1 + 1.3 - 0.4)
    assert margins[1, 0] == pytest.approx(0.1 + 1.3 - 0.2)  # the anchor's own spread
    assert margins[2, 3] == pytest.approx(0.1 + 4.0 - 0.6)
    assert (margins[0, [1, 2, 3]] == np.sort(margins[0, [1, 2, 3]])).all()  # dynamic: the further up they meet, the wider


def test_a_class_without_pictures_meets_the_others_at_the_top():
    distances = np.full((3, 3), np.nan)
    distances[:2, :2] = [[0.2, 0.3], [0.3, 0.2]]
    assert Tree.of(distances, 8).meet.tolist() == [[0, 1, 8], [1, 0, 8], [8, 8, 0]]
