"""Transfer: what is frozen stays to the bit, what was learned before moves slowly, and the head is found whatever the model."""

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.categories import numbered
from cvtool.errors import UsageError
from cvtool.registry import parse
from cvtool.tasks.train import train
from cvtool.train import recipe as recipes
from cvtool.train import transfer


def built(reference, classes=3):
    torch.manual_seed(0)
    return weights.build(parse(reference), categories=numbered(classes))


@pytest.fixture
def folder(tmp_path):
    """Class folders of dark and light pictures."""
    rng = np.random.default_rng(0)
    for label, level in (("dark", 60), ("light", 180)):
        for i in range(8):
            path = tmp_path / "data" / ("val" if i > 5 else "train") / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.normal(level, 20, (32, 32, 3)).clip(0, 255).astype(np.uint8)).save(path)
    return tmp_path / "data"


def saved(tmp_path, reference="resnet.tiny"):
    model = built(reference, 5)
    path = tmp_path / "old.safetensors"
    weights.save(model, path, weights.Info(reference=reference, categories=model.categories, prepare=model.prepare))
    return path, model.state_dict()


@pytest.mark.parametrize(
    ("reference", "head", "count"),
    [
        ("resnet.tiny", "net.fc.", 4),
        ("vgg.tiny", "net.classifier.6.", 8),
        ("unet.tiny", "classifier.out.", None),
        ("faster-rcnn.tiny", "roi_heads.box_predictor.", None),
    ],
)
def test_the_head_is_what_depends_on_the_classes(reference, head, count):
    model = built(reference)
    found = transfer.head_of(model, reference, {})
    assert found
    assert all(name.startswith(head) for name in found)
    parts = transfer.stages(model, found)
    assert count is None or len(parts) == count
    together = [name for part in parts for name in part] + found
    assert sorted(together) == sorted(name for name, _ in model.named_parameters())


@pytest.mark.system("transfer-learning")
def test_all_but_the_head_stays_to_the_bit(folder, tmp_path):
    path, before = saved(tmp_path)
    run = train(str(path), folder, output=tmp_path / "runs", layers=[{"freeze": "all-but-head", "epochs": 2, "batch_size": 4}])
    after = weights.load(str(run))[0].state_dict()
    for key, value in before.items():
        if key.startswith("net.fc."):
            assert after[key].shape[0] == 2
        else:
            assert torch.equal(after[key], value), key  # running statistics of norms too
    assert not torch.equal(after["net.fc.weight"], built("resnet.tiny", 2).state_dict()["net.fc.weight"])


@pytest.mark.system("transfer-learning")
def test_the_last_two_stages_learn_at_a_tenth_of_the_rate(folder, tmp_path):
    path, before = saved(tmp_path)
    settings = {"unfreeze": 2, "lr_scale": 0.1, "epochs": 1, "batch_size": 4, "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr": 0.1}
    run = train(str(path), folder, output=tmp_path / "runs", layers=[settings])
    after = weights.load(str(run))[0].state_dict()
    moved = {key.split(".")[1] for key, value in before.items() if after[key].shape == value.shape and not torch.equal(after[key], value)}
    assert moved == {"layer2", "layer3"}

    model = built("resnet.tiny")
    head = transfer.head_of(model, "resnet.tiny", {})
    recipe = recipes.resolve(recipes.DEFAULTS, {"unfreeze": 2, "lr_scale": 0.1, "lr": 0.1})
    transfer.freeze(model, recipe, head)
    groups = transfer.groups(model, recipe, head, [name for name, _ in model.named_parameters() if name not in head])
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        expected = 0.1 if name in head else pytest.approx(0.01) if name.startswith(("net.layer2", "net.layer3")) else None
        assert rates.get(id(parameter)) == expected, name


def test_rates_fall_with_depth():
    model = built("resnet.tiny")
    head = transfer.head_of(model, "resnet.tiny", {})
    recipe = recipes.resolve(recipes.DEFAULTS, {"layer_decay": 0.5, "lr": 1.0})
    rates = {id(p): group["lr"] for group in transfer.groups(model, recipe, head) for p in group["params"]}
    names = dict(model.named_parameters())
    assert [rates[id(names[name])] for name in ("net.fc.weight", "net.layer3.0.conv1.weight", "net.layer1.0.conv1.weight", "net.conv1.weight")] == [
        1.0, 0.5, 0.125, 0.0625,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "settings", [{"freeze": "net.layer9*"}, {"freeze": "stages:9"}, {"unfreeze": 9}, {"unfreeze": 1, "freeze": "stages:1"}, {"lr_scale": 0.1}]
)
def test_what_fits_nothing_is_refused(folder, tmp_path, settings):
    with pytest.raises(UsageError):
        train("resnet.tiny", folder, output=tmp_path / "runs", layers=[settings | {"epochs": 1}])
    assert not (tmp_path / "runs").exists()
