"""Erasing, mixup, cutmix and repeated augmentation: what stands in the pixels is what the labels say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from cvtool.batch import Batch, Place, Prepare
from cvtool.data import augment, synth
from cvtool.data.augment import repeated
from cvtool.data.augment.mixing import OneOf
from cvtool.data.dataset import Dataset
from cvtool.data.loader import Loader
from cvtool.errors import InputError, UsageError
from cvtool.layers.classifier import Classifier
from cvtool.results import Boxes, Labels, SemanticMap


def erased(pixels: np.ndarray, out: np.ndarray) -> tuple[int, int, int, int]:
    """left, top, right, bottom of what changed."""
    ys, xs = np.nonzero((pixels != out).any(-1))
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


@pytest.mark.system("random-erasing")
@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 100_000),
    size=st.tuples(st.integers(24, 90), st.integers(24, 90)),
    area=st.tuples(st.floats(0.02, 0.4), st.floats(0.02, 0.3)),
    fill=st.sampled_from(["black", "grey", "noise"]),
)
def test_the_erased_area_lies_in_the_asked_range(seed: int, size: tuple[int, int], area: tuple[float, float], fill: str) -> None:
    low, high = round(area[0], 4), round(area[0] + area[1], 4)
    pixels = np.full((*size, 3), 1, np.uint8)
    pipeline = augment.pipeline(f"erasing:1,fill={fill},low={low},high={high}")
    target = Labels(torch.tensor([2]))
    out, same = pipeline(pixels, target, np.random.default_rng(seed))
    assert same is target
    assert (pixels == 1).all()  # the cached picture
    left, top, right, bottom = erased(pixels, out)
    changed = (out != 1).any(-1)
    inside = changed[top:bottom, left:right]
    assert inside.mean() > 0.99  # a rectangle; three noise values can all be 1
    assert changed.sum() == inside.sum()
    assert low <= (right - left) * (bottom - top) / (size[0] * size[1]) <= high
    values = out[top:bottom, left:right]
    if fill != "noise":
        assert np.unique(values).tolist() == [0 if fill == "black" else 114]
    again, _ = pipeline(pixels, target, np.random.default_rng(seed))
    assert np.array_equal(out, again)
    assert any(not np.array_equal(out, pipeline(pixels, target, np.random.default_rng(seed + k))[0]) for k in (1, 2))


@pytest.mark.system("random-erasing")
def test_noise_is_gaussian_and_the_probability_holds() -> None:
    pixels = np.zeros((300, 300, 3), np.uint8)
    target = Labels(torch.tensor([0]))
    out, _ = augment.pipeline("erasing:1,fill=noise,low=0.3,high=0.33")(pixels, target, np.random.default_rng(1))
    left, top, right, bottom = erased(pixels, out)
    values = out[top:bottom, left:right].astype(float).ravel()
    assert abs(values.mean() - 114) < 1.5
    assert abs(values.std() - 57) < 2  # clipped at 0 and 255, two and two and a half deviations away
    inner = values[(values > 0) & (values < 255)]
    assert stats.kstest(inner, stats.truncnorm(-2.0088, 2.4649, 114, 57).cdf).statistic < 0.01
    hits = [not np.array_equal(augment.pipeline("erasing:0.3")(pixels, target, np.random.default_rng(s))[0], pixels) for s in range(400)]
    assert 0.24 < np.mean(hits) < 0.36
    boxes = Boxes(torch.tensor([[0.0, 0, 5, 5]]), torch.tensor([0]))
    assert augment.pipeline("erasing:1")(pixels, boxes, np.random.default_rng(0))[1] is boxes  # hidden objects are to be found all the same


@pytest.mark.system("random-erasing")
def test_cutout_is_a_square_that_the_border_cuts() -> None:
    pixels = np.full((20, 30, 3), 9, np.uint8)
    target = Labels(torch.tensor([0]))
    sizes = set()
    for seed in range(200):
        out, _ = augment.pipeline("cutout:8,fill=black")(pixels, target, np.random.default_rng(seed))
        left, top, right, bottom = erased(pixels, out)
        assert (out[top:bottom, left:right] == 0).all()
        width, height = right - left, bottom - top
        assert width == 8 or left == 0 or right == 30
        assert height == 8 or top == 0 or bottom == 20
        assert min(width, height) >= 4
        sizes.add((width, height))
    assert (8, 8) in sizes
    assert len(sizes) > 6


def batch(count: int, seed: int = 0, height: int = 12, width: int = 17) -> Batch:
    """Picture i is the number i + 1 everywhere, class i."""
    images = torch.arange(1, count + 1).float()[:, None, None, None].expand(count, 3, height, width).clone()
    places = [Place(height, width, height, width)] * count
    targets = [Labels(torch.tensor([i])) for i in range(count)]
    return Batch(images, torch.zeros(count, height, width, dtype=torch.bool), places, targets)


def rows(targets: list[Labels], classes: int) -> torch.Tensor:
    """B K weights."""
    out = torch.zeros(len(targets), classes)
    for row, target in zip(out, targets, strict=True):
        row.index_add_(0, target.labels, target.scores)
    return out


@pytest.mark.system("mixup")
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 100_000), count=st.integers(2, 9), alpha=st.floats(0.1, 4))
def test_mixup_mixes_pictures_and_labels_by_the_same_weight(seed: int, count: int, alpha: float) -> None:
    part = augment.parse(f"mixup:{alpha:.3f}").batch[0]
    plain = batch(count)
    mixed = part(batch(count), np.random.default_rng(seed))
    weights = rows(mixed.targets, count)  # B K
    assert torch.allclose(weights.sum(1), torch.ones(count), atol=1e-6)
    # x = l x1 + (1 - l) x2 with the very weights of the labels
    assert torch.allclose(mixed.images, torch.einsum("bk,kchw->bchw", weights, plain.images), atol=1e-4)
    first = weights.diagonal()
    others = weights - torch.diag(first)
    assert ((others > 1e-6).sum(1) <= 1).all()
    moved = others.sum(1) > 1e-6
    assert len({round(v, 4) for v in first[moved].tolist()}) <= 1  # one l a batch
    again = part(batch(count), np.random.default_rng(seed))
    assert torch.equal(again.images, mixed.images)


@pytest.mark.system("mixup")
@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_draws_its_weight_of_a_beta(alpha: float) -> None:
    part = augment.parse(f"mixup:{alpha}").batch[0]
    drawn = []
    for seed in range(600):
        weights = rows(part(batch(3, height=1, width=1), np.random.default_rng(seed)).targets, 3)
        drawn += [w for w in weights.diagonal().tolist() if w < 1][:1]
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 0.001
    assert stats.kstest(drawn, stats.beta(3, 3).cdf).pvalue < 1e-6


@pytest.mark.system("mixup")
def test_the_loss_of_a_mixture_is_the_mixture_of_losses() -> None:
    """Zhang 2018, section 2: cross-entropy is linear in the labels, so that l H(y1) + (1 - l) H(y2) is what a classifier minimises."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5))
    model = Classifier(net, features=lambda net, x: x.flatten(1), prepare=Prepare(), categories=[{"id": i, "name": str(i)} for i in range(5)])
    mixed = augment.parse("mixup:1").batch[0](batch(5, height=4, width=4), np.random.default_rng(3))
    loss = sum(model.losses(mixed).values())
    logits = model(mixed.images)
    expected = 0.0
    for row, target in zip(logits, mixed.targets, strict=True):
        (a, b), (weight, rest) = target.labels.tolist(), target.scores.tolist()
        one, other = (F.cross_entropy(row[None], torch.tensor([k])) for k in (a, b))
        assert rest == pytest.approx(1 - weight)
        expected += (weight * one + (1 - weight) * other) / 5
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.system("cutmix")
@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 100_000), count=st.integers(2, 6), alpha=st.floats(0.3, 3), size=st.tuples(st.integers(1, 20), st.integers(1, 25)))
def test_cutmix_weighs_labels_by_the_true_pixels(seed: int, count: int, alpha: float, size: tuple[int, int]) -> None:
    mixed = augment.parse(f"cutmix:{alpha:.3f}").batch[0](batch(count, height=size[0], width=size[1]), np.random.default_rng(seed))
    weights = rows(mixed.targets, count)
    pixels = size[0] * size[1]
    for i, (image, row) in enumerate(zip(mixed.images, weights, strict=True)):
        assert torch.equal(image[0], image[2])
        shares = torch.tensor([(image[0] == k + 1).sum().item() / pixels for k in range(count)])
        assert torch.allclose(row, shares, atol=1e-6)  # exact, whatever the border took
        foreign = (image[0] != i + 1).numpy()
        if foreign.any():  # a rectangle of one other picture
            ys, xs = np.nonzero(foreign)
            assert foreign[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].all()
            assert len(image[0][foreign].unique()) == 1
    assert torch.allclose(weights.sum(1), torch.ones(count), atol=1e-6)


@pytest.mark.system("cutmix")
def test_the_border_clips_the_rectangle_and_the_weight_follows() -> None:
    """Before clipping the rectangle has the picture's shape and 1 - l of its area; many are clipped, and then 1 - l would be wrong."""
    part = augment.parse("cutmix:1").batch[0]
    clipped = 0
    for seed in range(150):
        weight = np.random.default_rng(seed).beta(1.0, 1.0)
        mixed = part(batch(2, height=40, width=60), np.random.default_rng(seed))
        row = rows(mixed.targets, 2).diagonal()[0].item()
        foreign = (mixed.images[0, 0] != 1).numpy()
        if not foreign.any():
            continue
        ys, xs = np.nonzero(foreign)
        rows_, cols = ys.max() + 1 - ys.min(), xs.max() + 1 - xs.min()
        assert row == pytest.approx(1 - rows_ * cols / 2400, abs=1e-6)
        assert rows_ <= int(40 * (1 - weight) ** 0.5)
        assert cols <= int(60 * (1 - weight) ** 0.5)
        clipped += row - weight > 0.05
    assert clipped > 15


@pytest.mark.system("cutmix")
def test_maps_of_classes_are_pasted_along() -> None:
    plain = batch(4)
    labels = [SemanticMap(torch.full((12, 17), i), weights=torch.full((12, 17), float(i))) for i in range(4)]
    plain.targets = labels
    mixed = augment.parse("cutmix:1").batch[0](plain, np.random.default_rng(4))
    assert any((image[0] != i + 1).any() for i, image in enumerate(mixed.images))
    for image, target in zip(mixed.images, mixed.targets, strict=True):
        assert torch.equal(image[0].long() - 1, target.labels)
        assert torch.equal(target.labels.float(), target.weights)
    assert all((t.labels == i).all() for i, t in enumerate(labels))  # what was given stays


@pytest.mark.system("mixup")
@pytest.mark.system("cutmix")
def test_mixtures_are_refused_where_they_mean_nothing() -> None:
    both = augment.parse("flip,mixup:0.2,cutmix:1")
    both.check("labels")
    for kind in ("boxes", "semantic"):
        with pytest.raises(UsageError, match="mixup mixes class labels of pictures, and this model learns from"):
            both.check(kind)
    augment.parse("cutmix").check("semantic")
    with pytest.raises(UsageError, match=r"cutmix mixes .* boxes"):
        augment.parse("cutmix").check("boxes")
    padded = batch(3)
    padded.padding[1, 8:] = True
    for name in ("mixup", "cutmix"):
        with pytest.raises(InputError, match=f"{name} mixes pictures of one size, and a batch has 17 x 8 and 17 x 12"):
            augment.parse(name).batch[0](padded, np.random.default_rng(0))
    same = batch(3)
    same.padding[:, 8:] = True  # up to a multiple, the same for all
    mixed = augment.parse("cutmix").batch[0](same, np.random.default_rng(2))
    assert all((image[:, 8:] == i + 1).all() for i, image in enumerate(mixed.images))
    weights, shares = rows(mixed.targets, 3).diagonal(), [(image[0, :8] == i + 1).float().mean() for i, image in enumerate(mixed.images)]
    assert torch.allclose(weights, torch.stack(shares), atol=1e-6)
    several = batch(2)
    several.targets[0] = Labels(torch.tensor([0, 1]))
    with pytest.raises(InputError, match="several labels"):
        augment.parse("mixup").batch[0](several, np.random.default_rng(0))


def test_of_two_mixtures_a_batch_gets_one() -> None:
    (part,) = augment.parse("mixup:1,cutmix:1").batch
    assert isinstance(part, OneOf)
    kinds = Counter()
    for seed in range(80):
        images = part(batch(6), np.random.default_rng(seed)).images
        kinds["cutmix" if torch.equal(images, images.round()) else "mixup"] += 1
    assert min(kinds.values()) > 20
    rare = augment.parse("mixup:1,p=0.3").batch[0]
    touched = [any(t.scores is not None for t in rare(batch(2), np.random.default_rng(s)).targets) for s in range(200)]
    assert 0.2 < np.mean(touched) < 0.4


@pytest.mark.system("repeated-aug")
@settings(max_examples=100, deadline=None)
@given(count=st.integers(1, 60), size=st.integers(1, 20), repeats=st.integers(2, 7))
def test_a_batch_holds_so_many_pictures_so_often(count: int, size: int, repeats: int) -> None:
    order = np.random.default_rng(count).permutation(count).tolist()
    batches = repeated.batches(order, size, repeats, count)
    assert [len(b) for b in batches] == [len(b) for b in repeated.batches(order, size, 1, count)]  # an epoch costs what it did
    seen: list[int] = []
    for entries in batches:
        copies = Counter(entry % count for entry in entries)
        assert len(copies) == -(-len(entries) // repeats)  # ceil(B / m)
        assert max(copies.values()) <= repeats
        assert len(set(entries)) == len(entries)  # each copy has random numbers of its own
        assert sorted(copies.values())[1:] == [repeats] * (len(copies) - 1)
        seen += copies
    assert len(set(seen)) == len(seen)  # no picture in two batches
    assert repeated.batches(order, size, 1, count) == [order[i : i + size] for i in range(0, count, size)]


@pytest.mark.system("repeated-aug")
def test_copies_of_a_picture_are_augmented_in_different_ways() -> None:
    dataset = Dataset(synth.shapes(10, 40, seed=3), synth.CATEGORIES)
    given = augment.parse("color:0.5,1,repeated:3")
    prepare = Prepare(resize="stretch", size=32)

    def make(**more) -> Loader:
        return Loader(dataset, prepare, batch_size=7, seed=1, augment=given.sample, repeats=given.repeats, **more)

    items = [list(make().epoch(epoch)) for epoch in (0, 0, 1)]
    assert [len(item.names) for item in items[0]] == [7, 3]
    for item in items[0]:
        assert len(set(item.names)) == -(-len(item.names) // 3)
        images = [image.numpy().tobytes() for image in item.batch.images]
        assert len(set(images)) == len(images)
    for one, other in zip(items[0], items[1], strict=True):
        assert one.names == other.names
        assert torch.equal(one.batch.images, other.batch.images)
    assert [i.names for i in items[0]] != [i.names for i in items[2]]
    assert torch.equal(next(make().epoch(0, start=1)).batch.images, items[0][1].batch.images)  # wherever it is resumed


def test_batch_parts_run_in_the_loader_and_are_reproducible() -> None:
    dataset = Dataset(synth.shapes(9, 40, seed=3), synth.CATEGORIES)
    given = augment.parse("flip,cutmix:1")
    prepare = Prepare(resize="stretch", size=16)

    class Pictures(Dataset):
        def target(self, record, height, width):
            return Labels(torch.tensor([self.records.index(record)]))

    dataset = Pictures(dataset.records, synth.CATEGORIES)
    loaders = [Loader(dataset, prepare, batch_size=4, seed=2, augment=given.sample, batch_augment=given.batch, ahead=ahead) for ahead in (0, 2)]
    first, second = (list(loader.epoch(3)) for loader in loaders)
    assert any(len(t.labels) == 2 for t in first[0].batch.targets)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.batch.images, other.batch.images)
        assert all(torch.equal(a.scores, b.scores) for a, b in zip(one.batch.targets, other.batch.targets, strict=True))
    assert not torch.equal(first[0].batch.images, next(loaders[0].epoch(4)).batch.images)
