"""`models cost`: every model of the catalogue, other worlds' models, time, and what it refuses."""

import json

import pytest

from cvtool import registry
from cvtool.errors import ModelError
from cvtool.tasks.cost import cost, latency

NAMES = list(registry.catalogue())


@pytest.mark.parametrize("name", NAMES)
def test_every_model_of_the_catalogue_has_a_cost(name):
    found = cost(f"{name}.tiny")
    json.dumps(found)
    if found["macs"] is None:  # no network
        assert found["parts"] == []
        return
    assert found["macs"] >= 0
    assert found["flops"] == 2 * found["macs"]
    assert found["parameters"] == sum(part["parameters"] for part in found["parts"])
    assert found["macs"] == sum(part["macs"] for part in found["parts"])
    assert found["peak_bytes"] > found["weight_bytes"] >= 4 * found["parameters"]


@pytest.mark.parametrize(
    ("reference", "parameters", "gmacs"),
    [
        ("torchvision:resnet18", 11_689_512, 1.814),
        ("torchvision:regnet_y_400mf", 4_344_144, 0.402),  # reads values while it is built
        ("timm:efficientnet_b0", 5_288_548, 0.386),
        ("timm:convnext_tiny", 28_589_128, 4.456),
        ("resnet.50", 25_557_032, 4.089),
    ],
)
def test_models_of_other_worlds_cost_without_weights(reference, parameters, gmacs):
    found = cost(reference)
    assert found["parameters"] == parameters
    assert round(found["macs"] / 1e9, 3) == gmacs
    assert found["counted_on"] == "meta"
    assert found["image"] == [224, 224]


def test_a_checkpoint_costs_what_its_model_does(tmp_path):
    from cvtool import categories, weights

    model = weights.build("resnet.tiny", categories=categories.numbered(7), se_ratio=4)
    info = weights.Info(reference="resnet.tiny", arguments={"se_ratio": 4}, categories=model.categories, prepare=model.prepare)
    path = weights.save(model, tmp_path / "model.safetensors", info)
    assert cost(str(path))["parameters"] == sum(p.numel() for p in model.parameters())


def test_a_larger_picture_costs_more():
    small, large = cost("resnet.18", img_size=64), cost("resnet.18", img_size=128)
    assert small["image"] == [64, 64]
    assert 3.9 < (large["macs"] - 512_000) / (small["macs"] - 512_000) < 4.1  # 512 000: the last layer
    assert large["parameters"] == small["parameters"]


def test_a_detector_is_run():
    found = cost("faster-rcnn.tiny")
    assert found["counted_on"] == "cpu"
    assert {part["name"].partition(".")[0] for part in found["parts"]} >= {"backbone", "rpn", "roi_heads"}


def test_time_is_measured():
    found = latency("resnet.tiny", device="cpu", batch_size=2)
    assert found["runs"] >= 3
    assert found["device"] == "cpu"
    assert found["pictures_per_second"] == pytest.approx(2000 / found["milliseconds"])


def test_what_cannot_be_counted():
    with pytest.raises(ModelError, match="unknown model"):
        cost("resnett")
    with pytest.raises(ModelError, match="does not run at"):
        cost("inception-resnet.tiny", img_size=16)
