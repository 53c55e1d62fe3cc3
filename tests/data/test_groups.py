"""Batches of m classes by k pictures."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtool.data import groups
from cvtool.data.groups import Groups
from cvtool.errors import UsageError


@given(st.integers(2, 9), st.integers(1, 4), st.integers(2, 4), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_every_batch_has_so_many_classes_and_pictures(classes, per_class, wanted, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(classes), 7))
    drawn = Groups(labels, per_class, per_class * wanted, seed)
    order = drawn(3)
    assert len(order) == len(labels)
    for begin in range(0, len(order) - drawn.batch + 1, drawn.batch):
        counts = Counter(labels[order[begin : begin + drawn.batch]].tolist())
        if classes >= wanted:
            assert sorted(counts.values()) == [per_class] * wanted
        else:
            assert len(counts) == classes
    assert order.tolist() == drawn(3).tolist()
    assert classes < 3 or order.tolist() != drawn(4).tolist()


def test_pictures_take_turns_and_what_cannot_be_read_stays_away():
    labels = np.array([0] * 8 + [1] * 8 + [2] * 2 + [-1] * 3)
    order = Groups(labels, 2, 6, 0)(0)
    seen = Counter(order.tolist())
    assert not [index for index in seen if labels[index] < 0]
    assert max(seen[i] for i in range(16)) == 1
    assert [seen[16], seen[17]] in ([3, 4], [4, 3], [4, 4])  # of a class of two both come, again and again


@pytest.mark.parametrize(("per_class", "batch"), [(3, 8), (8, 8), (-1, 8)])
def test_numbers_that_do_not_go_together(per_class, batch):
    with pytest.raises(UsageError, match="is not at least two classes"):
        groups.check(per_class, batch)
