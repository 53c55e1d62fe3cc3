"""Statistics of the training pictures: what they make of them, that they come from there alone, and that they stay with the weights."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from cvtool import weights
from cvtool.batch import IMAGENET_STD, Prepare
from cvtool.data import preprocess
from cvtool.errors import InputError, ModelError, UsageError

ALIKE = Prepare(resize="stretch", size=(6, 8))


def pictures(count=40, seed=0, size=(6, 8)):
    """Colours of different brightness and contrast; one value of each is constant."""
    rng = np.random.default_rng(seed)
    made = (rng.normal([90, 130, 200], [30, 20, 10], (count, *size, 3)) + rng.normal(0, 20, (1, *size, 1))).clip(3, 251).astype(np.uint8)
    made[:, 0, 0] = 77
    return list(made)


def prepared(text, train, other=None, prepare=ALIKE):
    """What the network gets of the training pictures, or of others, B 3 H W float64."""
    made = preprocess.fit(text, prepare, lambda: iter(train))
    return made(other if other is not None else train).images.double()


@pytest.mark.system("mean-subtract")
def test_the_three_means():
    train = pictures()
    x = torch.from_numpy(np.stack(train)).permute(0, 3, 1, 2).double() / 255
    image, channel, scalar = (prepared(f"mean:{of}", train) for of in ("image", "channel", "scalar"))
    assert torch.allclose(image, x - x.mean(0), atol=1e-6)
    assert torch.allclose(channel, x - x.mean((0, 2, 3))[:, None, None], atol=1e-6)
    assert torch.allclose(scalar, x - x.mean(), atol=1e-6)
    assert image.mean(0).abs().max() < 1e-5
    assert channel.mean((0, 2, 3)).abs().max() < 1e-5
    assert scalar.mean().abs() < 1e-5
    assert channel.mean(0).abs().max() > 0.01
    assert scalar.mean((0, 2, 3)).abs().max() > 0.1
    assert torch.equal(prepared("mean", train), channel)


@pytest.mark.system("mean-subtract")
@pytest.mark.system("standardize")
def test_other_pictures_get_the_training_pictures_statistics():
    train, other = pictures(), [255 - p for p in pictures(seed=1)]
    x, y = (torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2).double() / 255 for some in (train, other))
    assert torch.allclose(prepared("mean:image", train, other), y - x.mean(0), atol=1e-6)
    deviation = x.std(0, correction=0)
    expected = (y - x.mean(0)) / torch.where(deviation > 1e-6, deviation, 1.0)
    assert torch.allclose(prepared("standardize", train, other), expected, atol=1e-4)


@pytest.mark.system("standardize")
def test_standardised_values_have_mean_zero_and_deviation_one():
    train = pictures()
    y = prepared("standardize", train)
    assert y.mean(0).abs().max() < 1e-5
    deviation = y.std(0, correction=0)
    assert not deviation[:, 0, 0].any()  # the constant one: zero, and no NaN
    deviation[:, 0, 0] = 1
    assert torch.allclose(deviation, torch.ones_like(deviation), atol=1e-5)
    assert y.abs().max() > 1.5  # not bounded to [-1, 1]
    y = prepared("standardize:channel", train)
    assert torch.allclose(y.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-5)
    assert torch.allclose(y.std((0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-5)


@pytest.mark.system("minmax")
@pytest.mark.parametrize("of", ["scalar", "channel", "image"])
def test_minmax_is_exactly_zero_to_one(of):
    train = pictures()
    made = preprocess.fit(f"minmax:{of}", ALIKE, lambda: iter(train))(train).images
    axes = {"scalar": (0, 1, 2, 3), "channel": (0, 2, 3), "image": (0,)}[of]
    low, high = made.amin(axes), made.amax(axes)
    assert not low.any()
    if of == "image":
        assert not high[:, 0, 0].any()  # the constant value
        high[:, 0, 0] = 1
    assert torch.equal(high, torch.ones_like(high))
    x = torch.from_numpy(np.stack(train)).permute(0, 3, 1, 2).float()
    if of == "scalar":
        assert torch.allclose(made, (x - x.min()) / (x.max() - x.min()), atol=1e-6)


@pytest.mark.system("minmax")
@pytest.mark.parametrize("text", ["minmax", "minmax:image", "standardize", "standardize:scalar", "mean:image", "pca-whiten:2"])
def test_constant_pictures_become_zero(text):
    flat = [np.full((6, 8, 3), 140, np.uint8)] * 4
    made = prepared(text, flat)
    assert made.isfinite().all()
    assert made.abs().max() < 1e-6


@pytest.mark.system("pca")
@pytest.mark.system("pca-whiten")
def test_principal_components_of_pixels():
    train, small = pictures(80, size=(4, 4)), Prepare(resize="crop", size=4)
    x = torch.from_numpy(np.stack(train)).permute(0, 3, 1, 2).double() / 255
    flat = (x - x.mean(0)).flatten(1)
    few = prepared("pca:5", train, prepare=small).flatten(1)
    _, _, rows = np.linalg.svd(flat.numpy(), full_matrices=False)
    assert torch.allclose(few, flat @ torch.from_numpy(rows[:5].T @ rows[:5]), atol=1e-6)
    assert torch.allclose(prepared("pca:48", train, prepare=small).flatten(1), flat, atol=1e-5)
    y = prepared("pca-whiten:5", train, prepare=small).flatten(1) @ torch.from_numpy(rows[:5].T)
    assert (torch.cov(y.T) - torch.eye(5)).abs().max() < 1e-3
    y = prepared("pca-whiten:45", train, prepare=small).flatten(1)  # all that vary: three values are constant
    varying = torch.tensor([i for i in range(48) if i % 16])
    assert (torch.cov(y[:, varying].T) - torch.eye(45)).abs().max() < 1e-3


def test_colours_can_be_measured_on_pictures_of_any_size():
    train = [p for size in ((6, 8), (9, 5), (6, 8), (30, 20)) for p in pictures(2, size=size)]
    made = preprocess.fit("standardize:channel", Prepare(resize=None, multiple_of=4), lambda: iter(train))
    every = np.concatenate([p.reshape(-1, 3) for p in train]) / 255
    assert np.allclose(made.mean, every.mean(0), atol=1e-6)
    assert np.allclose(made.std, every.std(0), atol=1e-6)
    assert made(train[:3]).images.shape[2:] == (12, 8)


def test_what_cannot_be_had():
    train = pictures()
    for text, said in (
        ("mena", "mean"),
        ("xyz", "mean, minmax, pca, pca-whiten, standardize"),
        ("mean:rows", "channel, image, scalar"),
        ("pca", "pca:64"),
        ("pca:-3", "pca:64"),
        ("mean:of=image,b=3", "no argument 'b'"),
    ):
        with pytest.raises(UsageError) as error:
            preprocess.fit(text, ALIKE, lambda: iter(train))
        assert said in str(error.value)
    for prepare, said in (
        (Prepare(), "any size"),
        (Prepare(resize="shortest", size=8), "'shortest'"),
        (Prepare(resize="stretch", size=8, antialias=False), "one size"),
    ):
        with pytest.raises(UsageError, match="pictures of one size") as error:
            preprocess.fit("mean:image", prepare, lambda: iter(train))
        assert said in str(error.value)
        assert "mean:channel" in str(error.value)
    with pytest.raises(UsageError, match=r"12,288 values, and 4,096 is the limit"):
        preprocess.fit("pca:3", Prepare(resize="stretch", size=64), lambda: iter(train))
    with pytest.raises(InputError, match="no 41 components"):
        preprocess.fit("pca:41", ALIKE, lambda: iter(train))
    with pytest.raises(InputError, match="no training picture"):
        preprocess.fit("mean", ALIKE, lambda: iter(()))


@pytest.mark.system("mean-subtract")
@pytest.mark.system("standardize")
@pytest.mark.parametrize("text", ["mean:image", "standardize", "pca-whiten:7", "standardize:channel"])
def test_the_statistics_stay_with_the_weights(text, tmp_path):
    train = pictures(size=(40, 50))
    table = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    model = weights.build("resnet.tiny", categories=table).eval()
    before = replace(model.prepare, size=16)
    model.prepare = preprocess.fit(text, before, lambda: iter(train))
    assert model.prepare != before
    path = weights.save(model, tmp_path / "model.safetensors", weights.Info(reference="resnet.tiny", categories=table, prepare=model.prepare))
    loaded, info = weights.load(str(path))
    assert loaded.prepare == model.prepare
    assert torch.equal(loaded.prepare(train[:3]).images, model.prepare(train[:3]).images)
    assert [r.labels.tolist() for r in loaded.predict(loaded.prepare(train[:3]))] == [
        r.labels.tolist() for r in model.predict(model.prepare(train[:3]))
    ]
    again = weights.save(loaded, tmp_path / "again.safetensors", info)  # an Info that was read holds no arrays
    assert weights.load(str(again))[0].prepare == model.prepare
    if model.prepare.table is not None:
        with pytest.raises(UsageError, match="takes no other size"):
            loaded.prepare.sized(64)
        with pytest.raises(ValueError, match="not of 20 x 10"):
            loaded.prepare.table.apply_(torch.zeros(1, 3, 10, 20))
        from safetensors.torch import load_file, save_file

        tensors = {key: value for key, value in load_file(path).items() if not key.startswith("prepare.")}
        header = {"format": "pt", "cvtool": json.dumps(info.to_dict())}
        save_file(tensors, tmp_path / "broken.safetensors", metadata=header)
        with pytest.raises(ModelError, match="statistics of the pixels are missing"):
            weights.load(str(tmp_path / "broken.safetensors"))


def test_the_deviation_of_the_model_is_replaced_and_its_resizing_kept():
    before = Prepare(resize="longest", size=64, multiple_of=32, std=IMAGENET_STD)
    made = preprocess.fit("mean:scalar", before, lambda: iter(pictures()))
    assert (made.resize, made.size, made.multiple_of, made.std) == ("longest", 64, 32, (1.0, 1.0, 1.0))
    assert len(set(made.mean)) == 1
