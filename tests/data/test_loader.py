"""Batches: the same for a seed, whoever makes them and wherever an epoch starts."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch

from cvtool.batch import Prepare
from cvtool.data import augment, synth
from cvtool.data.dataset import Dataset
from cvtool.data.loader import Loader
from cvtool.errors import InputError
from cvtool.records import Record


def make(count: int = 10, **more) -> Loader:
    dataset = Dataset(synth.shapes(count, 40, seed=3), synth.CATEGORIES, needs=("boxes", "masks"))
    given = {"batch_size": 4, "seed": 5, "augment": augment.pipeline("flips,crop,scale,color")} | more
    return Loader(dataset, Prepare(resize="longest", size=32, multiple_of=8), **given)


def equal(a, b) -> bool:
    same = a.names == b.names and torch.equal(a.batch.images, b.batch.images) and a.batch.places == b.batch.places
    return same and all(
        torch.equal(x.boxes, y.boxes) and torch.equal(x.labels, y.labels) and torch.equal(x.masks, y.masks)
        for x, y in zip(a.batch.targets, b.batch.targets, strict=True)
    )


def test_every_picture_once_in_an_order_of_the_epoch() -> None:
    loader = make()
    orders = [[name for item in loader.epoch(epoch) for name in item.names] for epoch in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == [f"{i:05d}.png" for i in range(10)]
    assert orders[0] != orders[1]
    assert len(loader) == 3
    assert [len(item.batch) for item in loader.epoch(0)] == [4, 4, 2]
    still = make(shuffle=False, augment=None)
    assert [name for item in still.epoch(7) for name in item.names] == [f"{i:05d}.png" for i in range(10)]


def test_one_picture_alone_is_left_out_where_norms_train() -> None:
    assert [len(b) for b in make(9, single=False).plan(0)] == [4, 4]
    assert [len(b) for b in make(9, single=True).plan(0)] == [4, 4, 1]
    assert [len(b) for b in make(1, single=False).plan(0)] == [1]
    with pytest.raises(ValueError, match="at least one"):
        make(batch_size=0)


@pytest.mark.parametrize("more", [{}, {"ahead": 2}, {"workers": 2}])
def test_the_same_batches_however_they_are_made(more: dict) -> None:
    before = torch.get_rng_state()
    plain, other = make(), make(**more)
    for epoch in (0, 1):
        whole = list(plain.epoch(epoch))
        assert all(equal(a, b) for a, b in zip(whole, other.epoch(epoch), strict=True))
        assert all(equal(a, b) for a, b in zip(whole[2:], other.epoch(epoch, start=2), strict=True))
    assert not list(other.epoch(0, start=3))
    assert torch.equal(before, torch.get_rng_state())  # nothing global was drawn
    other.close()
    assert not multiprocessing.active_children()


def test_epochs_draw_anew() -> None:
    loader = make(4, shuffle=False)
    first, second = (next(iter(loader.epoch(epoch))).batch.images for epoch in (0, 1))
    assert first.shape != second.shape or not torch.equal(first, second)


@pytest.mark.parametrize("more", [{}, {"ahead": 2}])
def test_an_unreadable_picture_is_an_input_error(more: dict) -> None:
    records = [*synth.shapes(3, 40), Record(file_name="none.png", annotations=[])]
    loader = Loader(Dataset(records, synth.CATEGORIES), Prepare(), batch_size=2, shuffle=False, **more)
    with pytest.raises(InputError, match=r"none\.png"):
        list(loader.epoch(0))


def test_a_thread_ahead_can_be_left() -> None:
    loader = make(ahead=1)
    batches = loader.epoch(0)
    next(batches)
    batches.close()


def test_cached_pictures_are_not_changed() -> None:
    dataset = Dataset(synth.shapes(4, 40), synth.CATEGORIES, cache_bytes=1 << 20)
    dataset.fill()
    before = [dataset.pixels(i).copy() for i in range(4)]
    loader = Loader(dataset, Prepare(), batch_size=2, augment=augment.pipeline("color,scale"))
    for epoch in range(4):
        list(loader.epoch(epoch))
    assert all(np.array_equal(a, dataset.pixels(i)) for i, a in enumerate(before))
