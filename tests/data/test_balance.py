"""Rare classes more often or weightier: equal counts, LVIS's repeat factors, class weights; the same for a seed."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight

from cvtool.batch import Prepare
from cvtool.data import balance, source, synth
from cvtool.data.dataset import Dataset
from cvtool.data.loader import Loader
from cvtool.errors import UsageError
from cvtool.records import Record

CATEGORIES = [{"id": i, "name": f"c{i}"} for i in range(3)]


def of_classes(*counts: int) -> Dataset:
    records = [Record(file_name=f"{k}-{i}.png", labels=[{"category_id": k}]) for k, n in enumerate(counts) for i in range(n)]
    return Dataset(records, CATEGORIES, needs=("labels",))


def of_objects(kinds: list[tuple[int, ...]]) -> Dataset:
    return Dataset(
        [Record(file_name=f"{i}.png", annotations=[{"category_id": k, "bbox": [1, 1, 4, 4]} for k in some]) for i, some in enumerate(kinds)],
        CATEGORIES,
    )


def test_every_class_as_often_and_every_picture_of_a_class_as_often() -> None:
    dataset = of_classes(3, 50, 17)
    draw = balance.sampler("classes", dataset, seed=4)
    assert draw is not None
    labels = [0] * 3 + [1] * 50 + [2] * 17
    total = np.zeros(70, int)
    for epoch in range(30):
        order = draw(epoch)
        assert len(order) == 70
        counts = np.bincount(np.array(labels)[order], minlength=3)
        assert counts.max() - counts.min() <= 1
        assert np.array_equal(order, draw(epoch))
        total += np.bincount(order, minlength=70)
    for label in range(3):
        own = total[np.array(labels) == label]
        assert own.max() - own.min() <= 1
    assert not np.array_equal(draw(0), draw(1))
    assert not np.array_equal(draw(0), balance.sampler("classes", dataset, seed=5)(0))  # type: ignore[misc]


def test_repeat_factors_are_lviss() -> None:
    """max over the categories of max(1, sqrt(t / f)), f counted in pictures (Gupta 2019, appendix B.2)."""
    kinds = [(0,)] * 80 + [(0, 1)] * 16 + [(1, 2)] * 3 + [(2, 2, 2)]
    dataset = of_objects(kinds)
    shares = {0: 0.96, 1: 0.19, 2: 0.04}
    assert balance.frequencies(dataset) == shares
    for threshold in (0.1, 0.5, 1.0):
        expected = [max(1.0, *(math.sqrt(threshold / shares[k]) for k in some)) for some in kinds]
        assert balance.repeat_factors(dataset, threshold).tolist() == pytest.approx(expected)
    draw = balance.sampler("repeat:0.5", dataset, seed=0)
    assert isinstance(draw, balance.ByRepeats)
    total = np.zeros(100)
    for epoch in range(400):
        order = draw(epoch)
        assert len(order) == round(draw.factors.sum())
        times = np.bincount(order, minlength=100)
        assert (times >= np.floor(draw.factors * 0.99)).all()
        assert (times <= np.ceil(draw.factors * 1.01)).all()
        total += times
    assert np.abs(total / 400 - draw.factors).max() < 0.1
    commonest = balance.sampler("classes", dataset, seed=0)
    assert isinstance(commonest, balance.ByRepeats)
    assert commonest.factors[0] == 1
    assert commonest.factors[99] == pytest.approx(math.sqrt(0.96 / 0.04))


def test_copies_of_a_picture_are_augmented_each_in_its_way(picture) -> None:
    records = [Record(file_name=f"{i}.png", labels=[{"category_id": int(i > 0)}]) for i in range(8)]
    dataset = Dataset(records, CATEGORIES, needs=("labels",))
    dataset.pixels = lambda index: picture(8, 8, seed=index)  # type: ignore[method-assign]
    loader = Loader(
        dataset, Prepare(), batch_size=3, seed=1, sampler=balance.sampler("classes", dataset, 1), augment=lambda p, t, rng: (p + rng.integers(90), t)
    )
    assert len(loader) == 3
    entries = [entry for batch in loader.plan(0) for entry in batch]
    assert len(set(entries)) == 8
    counts = Counter(entry % 8 for entry in entries)
    assert counts[0] == 4
    pictures = torch.cat([item.batch.images for item in loader.epoch(0)])
    mine = [pictures[i] for i, entry in enumerate(entries) if entry % 8 == 0]
    assert not any(torch.equal(mine[0], other) for other in mine[1:])


def test_weights_of_classes_are_scikit_learns() -> None:
    labels = [0] * 3 + [1] * 50 + [2] * 17
    assert balance.class_weights(of_classes(3, 50, 17)) == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=labels))
    assert balance.class_weights(of_classes(3, 0, 17))[1] == 0
    assert balance.sampler("loss", of_classes(1, 2, 3), 0) is balance.sampler("none", of_classes(1, 2, 3), 0) is None


def test_weights_of_pixels_are_by_median_frequency(tmp_path: Path) -> None:
    """Class 2 is in one picture only, and counts its share of that one alone."""
    for name in ("images", "masks"):
        (tmp_path / "set" / name).mkdir(parents=True)
    maps = [np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)]
    maps[0][:4], maps[1][:2], maps[1][9] = 1, 2, 255
    for i, labels in enumerate(maps):
        Image.new("RGB", (10, 10)).save(tmp_path / "set" / "images" / f"{i}.png")
        Image.fromarray(labels).save(tmp_path / "set" / "masks" / f"{i}.png")
    records, _, categories = source.read({"data": str(tmp_path / "set")})
    found = balance.class_weights(Dataset(records, categories, needs=("semantic",)))
    shares = [(60 + 70) / (100 + 90), 40 / 100, 20 / 90]
    assert found == pytest.approx([sorted(shares)[1] / share for share in shares])


@pytest.mark.parametrize(
    ("text", "said"),
    [("classs", "unknown balance 'classs'"), ("repeat:0", "above 0 and up to 1"), ("repeat:2", "above 0"), ("loss:3", "takes no argument")],
)
def test_wrong_words(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        balance.check(text)


def test_what_would_have_no_effect_is_refused() -> None:
    objects = Dataset(synth.shapes(6, 40), synth.CATEGORIES)
    with pytest.raises(UsageError, match="has no effect: no picture would be repeated"):
        balance.sampler("repeat:0.001", objects, 0)
    with pytest.raises(UsageError, match="every class has 4 pictures"):
        balance.sampler("classes", of_classes(4, 4, 4), 0)
    with pytest.raises(UsageError, match="is for pictures of objects"):
        balance.sampler("repeat:0.5", of_classes(1, 2, 3), 0)
    with pytest.raises(UsageError, match="classes of pictures or pixels"):
        balance.class_weights(objects)
    with pytest.raises(UsageError, match="balance=loss weighs the classes of pixels"):
        balance.sampler("classes", Dataset([Record(file_name="a.png", segmentation_map="a.png")], CATEGORIES, needs=("semantic",)), 0)
