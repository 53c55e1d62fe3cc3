"""Ensembles: averaged probabilities, whatever the members are."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import registry, weights
from cvtool.errors import ModelError, UsageError
from cvtool.records import Record
from cvtool.registry import parse
from cvtool.tasks.classify import classify


@pytest.fixture
def members(tmp_path):
    """Two untrained networks of different sizes that share two of their classes."""
    paths = []
    for i, (name, classes) in enumerate((("resnet.tiny", "cat dog bird"), ("simple-cnn.tiny", "dog cow cat"))):
        torch.manual_seed(i)
        model = weights.build(parse(name), categories=[{"id": j, "name": word} for j, word in enumerate(classes.split(), 10 * i)])
        torch.nn.init.normal_(model.net.fc.weight, 0, 3)
        paths.append(tmp_path / f"{i}.safetensors")
        weights.save(model, paths[-1], weights.Info(reference=name, categories=model.categories, prepare=model.prepare))
    return [str(path) for path in paths]


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    return str(tmp_path / "p.png")


def shares(reference, picture):
    record = next(iter(classify([Record(file_name=picture)], reference, top=None)))
    return {entry["category"]: entry["score"] for entry in record["labels"]}


@pytest.mark.system("ensembling")
@pytest.mark.system("update-strategies")
def test_probabilities_are_averaged_by_the_names_of_classes(members, picture):
    one, two = (shares(member, picture) for member in members)
    both = shares("ensemble:" + ",".join(members), picture)
    assert set(both) == {"cat", "dog", "bird", "cow"}
    for name, score in both.items():
        assert score == pytest.approx((one.get(name, 0) + two.get(name, 0)) / 2, abs=1e-6)
    assert list(both.values()) == sorted(both.values(), reverse=True)


@pytest.mark.system("ensembling")
def test_a_model_twice_is_itself(members, picture):
    assert shares(f"ensemble:{members[0]},{members[0]}", picture) == pytest.approx(shares(members[0], picture), abs=1e-6)


def test_what_is_no_ensemble(members, picture):
    assert registry.parse("ensemble:resnet.18@imagenet,runs/0001").name == "resnet.18@imagenet,runs/0001"
    assert "resnet.18@imagenet" in json.dumps(weights.facts_of(parse("ensemble:resnet18,vgg16")))
    with pytest.raises(ModelError, match="nothing"):
        weights.load("ensemble:,")
    with pytest.raises(UsageError, match="does not classify"):
        weights.load("ensemble:handcrafted")
