"""Triples that teach, against a filter and a sort over all of them."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtool.ops import mining


def drawn(seed, count):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, generator=draw), torch.randint(0, 4, (count,), generator=draw)


def plain(z, labels):
    """Every triple with its two squared distances."""
    for a, p, n in permutations(range(len(labels)), 3):
        if labels[a] == labels[p] != labels[n]:
            yield (a, p, n), float((z[a] - z[p]).square().sum()), float((z[a] - z[n]).square().sum())


@given(st.integers(0, 10_000), st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_all_triples_and_pairs(seed, count):
    z, labels = drawn(seed, count)
    assert mining.triples(labels).tolist() == [list(t) for t, _, _ in plain(z, labels)]
    same, other = mining.pairs(labels)
    assert len(same) + len(other) == count * (count - 1) // 2
    assert all(labels[i] == labels[j] for i, j in same)
    assert all(labels[i] != labels[j] for i, j in other)


@pytest.mark.system("semi-hard-mining")
@given(st.integers(0, 10_000), st.sampled_from([0.1, 1.0, 5.0]))
@settings(max_examples=20, deadline=None)
def test_semi_hard_is_a_filter(seed, margin):
    z, labels = drawn(seed, 9)
    wanted = [list(t) for t, ap, an in plain(z, labels) if ap < an < ap + margin]
    assert mining.semi_hard(mining.squared_distances(z), labels, margin).tolist() == wanted


@pytest.mark.system("hard-mining")
@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_hard_and_as_far_are_what_a_sort_finds(seed):
    z, labels = drawn(seed, 9)
    hard, near = [], []
    for a, p in permutations(range(9), 2):
        found = [(an, ap, t[2]) for t, ap, an in plain(z, labels) if t[:2] == (a, p)]
        if found:
            an, ap, n = sorted(found)[0]
            hard += [[a, p, n]] if an < ap else []
            near.append([a, p, sorted((abs(an**0.5 - ap**0.5), n) for an, ap, n in found)[0][1]])
    far = mining.squared_distances(z)
    assert mining.hard(far, labels).tolist() == hard
    assert mining.as_far(far.sqrt(), labels).tolist() == near


def test_a_batch_of_one_class_has_no_triples():
    z, labels = torch.randn(4, 2), torch.zeros(4, dtype=torch.int64)
    far = mining.squared_distances(z)
    for found in (mining.triples(labels), mining.semi_hard(far, labels, 1.0), mining.hard(far, labels), mining.as_far(far, labels)):
        assert found.shape == (0, 3)
