"""Batches: the same for a seed, whoever makes them and wherever an epoch starts."""

from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest
import torch

from cvtool.batch import Prepare, moved_together
from cvtool.data import augment, synth
from cvtool.data.dataset import Dataset
from cvtool.data.loader import Loader
from cvtool.errors import InputError
from cvtool.records import Record
from cvtool.results import Labels


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
    before = [dataset.pixels(i).copy() for i in range(4)]
    loader = Loader(dataset, Prepare(), batch_size=2, augment=augment.pipeline("color,scale"))
    for epoch in range(4):
        list(loader.epoch(epoch))
    assert all(np.array_equal(a, dataset.pixels(i)) for i, a in enumerate(before))


# --- how a batch is put together -------------------------------------------------------------------------------------------------------------


def one_by_one(prepare: Prepare, pictures: list[np.ndarray]) -> torch.Tensor:
    """Each picture by itself: bytes to floats, resized, over 255, less the mean, over the deviation; side by side on zeros."""
    mean, std = (torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (prepare.mean, prepare.std))
    done = []
    for picture in pictures:
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None]
        rows, cols = prepare.target_size(*picture.shape[:2])
        if prepare.antialias:
            if (rows, cols) != picture.shape[:2]:
                x = torch.nn.functional.interpolate(x, size=(rows, cols), mode="bilinear", align_corners=False, antialias=True)
            x = (x.float() / 255 - mean) / std
        else:
            x = torch.nn.functional.interpolate((x.float() / 255 - mean) / std, size=(rows, cols), mode="bilinear", align_corners=False)
        done.append(x[0])
    height, width = (-(-max(x.shape[axis] for x in done) // prepare.multiple_of) * prepare.multiple_of for axis in (1, 2))
    out = torch.zeros(len(done), 3, height, width)
    for i, x in enumerate(done):
        out[i, :, : x.shape[1], : x.shape[2]] = x
    return out


PREPARED = [
    Prepare(),
    Prepare(resize="longest", size=32, multiple_of=8),
    Prepare(resize="stretch", size=24),
    Prepare(resize="longest", size=40, antialias=False),
]


@pytest.mark.parametrize("prepare", PREPARED)
@pytest.mark.parametrize("sizes", [[(32, 32)] * 3, [(20, 30), (30, 20), (25, 25)]])
def test_a_batch_in_one_pass_is_that_of_one_by_one(prepare: Prepare, sizes: list[tuple[int, int]], picture) -> None:
    pictures = [picture(w, h, seed=i) for i, (h, w) in enumerate(sizes)]
    for image in pictures:
        image.flags.writeable = False  # as those of the cache
    plain, last = prepare(pictures), prepare(pictures, memory_format=torch.channels_last)
    assert torch.equal(plain.images, one_by_one(prepare, pictures))
    assert torch.equal(plain.images, last.images)
    assert last.images.is_contiguous(memory_format=torch.channels_last)
    assert plain.images.is_contiguous()
    inside = torch.ones_like(plain.padding)
    for i, place in enumerate(plain.places):
        inside[i, : place.inner_height, : place.inner_width] = False
    assert torch.equal(plain.padding, inside)


def test_targets_move_together_as_they_would_alone() -> None:
    batch = next(iter(make(4).epoch(0))).batch
    moved = moved_together(batch.targets, "cpu")
    for one, other in zip(batch.targets, moved, strict=True):
        assert type(one) is type(other)
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.masks, other.masks)
        assert other.keypoints is None
    assert moved_together(None, "cpu") is None
    assert moved_together([], "cpu") == []
    on_meta = batch.to("meta")
    assert {t.boxes.device.type for t in on_meta.targets} == {on_meta.images.device.type} == {"meta"}
    assert [t.boxes.shape for t in on_meta.targets] == [t.boxes.shape for t in batch.targets]
    labels = [Labels(torch.tensor([i])) for i in range(3)] + [Labels(torch.tensor([1, 2]), torch.tensor([0.5, 0.5]))]  # one of them mixed
    assert [t.labels.tolist() for t in moved_together(labels, "cpu")] == [[0], [1], [2], [1, 2]]
    assert batch.to("cpu").targets is batch.targets


# --- the cache -------------------------------------------------------------------------------------------------------------------------------


class Counted(Record):
    """Counts its decodings over all processes."""

    count = multiprocessing.Value("i", 0)

    def pixels(self) -> np.ndarray:
        with self.count:
            self.count.value += 1
        return super().pixels()


def counted(count: int) -> list[Record]:
    records = []
    for record in synth.shapes(count, 40, seed=3):
        other = Counted(record)
        other.data, other.dataset = record.data, record.dataset
        records.append(other)
    Counted.count.value = 0
    return records


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="processes share what they were forked with")
def test_a_picture_is_decoded_once_for_all_workers() -> None:
    dataset = Dataset(counted(12), synth.CATEGORIES, cache_bytes=12 * 40 * 40 * 3)
    loader = Loader(dataset, Prepare(resize="longest", size=32), batch_size=3, workers=2)
    for epoch in range(3):
        assert sum(len(item.batch) for item in loader.epoch(epoch)) == 12
    assert Counted.count.value == 12  # of 36 looks
    assert len(dataset.kept) == 12
    assert np.array_equal(dataset.pixels(5), synth.shapes(12, 40, seed=3)[5].pixels())  # and this process has them too
    assert Counted.count.value == 12
    loader.close()


def test_what_does_not_fit_is_decoded_each_time() -> None:
    dataset = Dataset(counted(6), synth.CATEGORIES, cache_bytes=4 * 40 * 40 * 3 + 17)
    loader = Loader(dataset, Prepare(), batch_size=3, shuffle=False)
    for epoch in range(3):
        list(loader.epoch(epoch))
    assert Counted.count.value == 4 + 3 * 2
    assert len(dataset.kept) == 4


def test_without_semaphores_every_process_keeps_its_own(monkeypatch) -> None:
    def refuse() -> None:
        raise OSError

    monkeypatch.setattr(multiprocessing, "Lock", refuse)
    dataset = Dataset(counted(6), synth.CATEGORIES, cache_bytes=1 << 20)
    monkeypatch.undo()
    plain = Loader(Dataset(synth.shapes(6, 40, seed=3), synth.CATEGORIES), Prepare(), batch_size=3)
    loader = Loader(dataset, Prepare(), batch_size=3, workers=2)
    for epoch in range(2):
        assert all(torch.equal(a.batch.images, b.batch.images) for a, b in zip(plain.epoch(epoch), loader.epoch(epoch), strict=True))
    assert len(dataset.kept) == 0
    loader.close()


def test_a_pickled_cache_keeps_nothing_and_works() -> None:
    dataset = Dataset(synth.shapes(3, 40), synth.CATEGORIES, cache_bytes=1 << 20)
    before = dataset.pixels(0)
    other = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(other.pixels(0), before)
    assert len(other.kept) == 0
    assert len(dataset.kept) == 1


def test_an_epoch_has_as_many_batches_however_often_it_is_asked() -> None:
    loader = make(10)
    assert len(loader) == len(loader) == len(loader.plan(3)) == 3
