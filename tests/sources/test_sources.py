"""timm and torchvision by name: listed without importing them, loaded with their own weights and pixels, in our contract."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from publisher import Publisher, publisher
from safetensors.torch import save

from cvtool import weights
from cvtool.batch import Batch
from cvtool.errors import ModelError
from cvtool.results import Labels
from cvtool.runtime.torchvision import cheap_import
from cvtool.sources import timm as timm_source
from cvtool.sources import torchvision as torchvision_source

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def library() -> Any:
    with cheap_import():
        import timm
    return timm


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Publisher]:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("CVTOOL_CACHE", str(tmp_path / "own"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with publisher() as state:
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        yield state


# ---- names and facts -----------------------------------------------------------------------------------------------


def test_names_are_read_without_the_libraries() -> None:
    code = (
        "import sys; from cvtool import registry\n"
        "for name in ('timm', 'torchvision'):\n"
        "    module = registry.source(name); assert len(module.names()) > 100; module.describe('resnet50')\n"
        "assert not {'torch', 'timm', 'torchvision', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_timm_names_are_timms(library: Any) -> None:
    theirs = {*library.list_models(), *library.list_pretrained()}
    ours = set(timm_source.names())
    assert len(theirs & ours) / len(theirs) >= 0.99
    assert len(theirs & ours) / len(ours) >= 0.99


def test_timm_facts_are_timms(library: Any) -> None:
    """Where the weights are, under which licence, for how many classes: as timm's own registry has it."""
    from timm.models._registry import _model_pretrained_cfgs as configs

    wrong = []
    for name in timm_source.names():
        if (config := configs.get(name)) is not None:
            facts = timm_source.describe(name)
            same = (facts.get("hf"), facts.get("licence"), facts["classes"]) == (config.hf_hub_id or None, config.license, config.num_classes)
            if not same or (not config.hf_hub_id and facts.get("url") != (config.url or None)):
                wrong.append(name)
    assert len(wrong) / len(configs) <= 0.01, wrong[:10]


def test_torchvision_names_and_facts_are_torchvisions() -> None:
    with cheap_import():
        from torchvision import models
    assert set(torchvision_source._models()) == set(models.list_models(module=models))
    for name in models.list_models(module=models):
        published = models.get_model_weights(name)
        assert set(torchvision_source._models()[name]) == {weight.name for weight in published}
        assert torchvision_source.describe(name)["url"] == published.DEFAULT.url
        for weight in published:
            full, transforms = f"{name}@{weight.name}", weight.transforms()
            facts, own = torchvision_source.describe(full), torchvision_source._prepare(torchvision_source._facts(full)[2])
            assert facts["url"] == weight.url
            assert facts["sha256"] in weight.url
            stated = next(iter(weight.meta["_metrics"].values()))["acc@1"]
            assert facts.get("metrics", {}).get("top1", float("nan")) == pytest.approx(stated / 100, nan_ok=True)
            assert [own.size] == transforms.crop_size
            assert round(own.size / own.crop_fraction) == transforms.resize_size[0]
            assert (list(own.mean), list(own.std), own.interpolation) == (transforms.mean, transforms.std, transforms.interpolation.value)


def test_default_tag_is_timms(library: Any) -> None:
    for name in ("resnet50", "vit_base_patch16_224", "convnext_tiny", "efficientnet_b0", "resnet18"):
        assert timm_source.describe(name)["hf"] == library.get_pretrained_cfg(name).hf_hub_id


def test_index_is_kept_for_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cvtool.sources import _tables

    monkeypatch.setenv("CVTOOL_CACHE", str(tmp_path))
    first = timm_source._models()
    (kept,) = (tmp_path / "index").iterdir()
    assert importlib.util.find_spec("timm").submodule_search_locations[0] == json.loads(kept.read_text())["//"]
    _tables._index.cache_clear()
    monkeypatch.setattr(timm_source, "_scan", lambda: pytest.fail("scanned again"))
    assert timm_source._models() == first
    kept.write_text("{ damaged")
    _tables._index.cache_clear()
    monkeypatch.setattr(timm_source, "_scan", lambda: {"scanned": {}})
    assert timm_source._models() == {"scanned": {}}
    _tables._index.cache_clear()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm:resnet5O", "resnet50"),
        ("timm:resnet50.a9_in1k", "resnet50.a"),
        ("torchvision:resnet500", "resnet50"),
        ("torchvision:resnet50@IMAGENET1K_V9", "IMAGENET1K_V2"),
        ("tim:resnet50", "timm"),
    ],
)
def test_unknown_names_are_answered_with_near_ones(name: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        weights.load(name, offline=True)
    assert words in str(caught.value)


# ---- the contract --------------------------------------------------------------------------------------------------


def batch_of(model: Any, *sizes: tuple[int, int], labels: list[int] | None = None) -> Batch:
    draw = np.random.default_rng(0)
    targets = None if labels is None else [Labels(labels=torch.tensor([label])) for label in labels]
    return model.prepare([draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes], targets)


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:vit_tiny_patch16_224", "torchvision:squeezenet1_1", "torchvision:mnasnet0_5"])
def test_a_source_model_keeps_the_contract(name: str, tmp_path: Path) -> None:
    model, info = weights.load(f"{name}@none")
    batch = batch_of(model, (60, 80), (90, 70), labels=[3, 7])
    first, _ = model.predict(batch)
    assert len(first.labels) == 5
    assert (first.scores[:-1] >= first.scores[1:]).all()
    assert len(model.predict(batch, max_det=3)[0].labels) == 3
    assert len(model.predict(batch, conf=1.0)[0].labels) == 0
    assert sum(model.predict(batch, max_det=2000)[0].scores).item() == pytest.approx(1, abs=1e-4)
    alone = model.predict(batch_of(model, (60, 80)))[0]
    assert torch.allclose(alone.scores, first.scores, atol=1e-5)
    loss = model.losses(batch)["cross_entropy"]
    expected = -torch.log_softmax(model(batch.images), -1)[[0, 1], [3, 7]].mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    embedding = model.embed(batch)
    assert embedding.shape[0] == 2
    assert embedding.ndim == 2
    assert len(model.categories) == 1000
    assert model.categories[0]["name"] == "tench"
    assert [c["id"] for c in model.categories] == list(range(1000))

    path = weights.save(model, tmp_path / "x.safetensors", weights.Info(reference=info.reference))
    again, _ = weights.load(str(path))
    assert torch.equal(again(batch.images), model(batch.images))
    assert (again.categories, again.prepare) == (model.categories, model.prepare)


def test_embedding_is_what_the_last_layer_is_fed() -> None:
    for name in ("timm:resnet18@none", "torchvision:resnet18@none"):
        model, _ = weights.load(name)
        batch = batch_of(model, (40, 50))
        assert torch.allclose(model.net.fc(model.embed(batch)), model(batch.images), atol=1e-5)


def test_both_sources_name_the_classes_alike() -> None:
    ours, theirs = (weights.load(f"{source}:resnet18@none")[0].categories for source in ("timm", "torchvision"))
    assert [c["name"] for c in ours] == [c["name"] for c in theirs]
    assert len({c["name"] for c in ours}) == 1000
    assert ours[1]["synset"] == "n01443537"


def test_other_classes() -> None:
    model = weights.build("timm:resnet18", categories=[{"id": 5, "name": "a"}, {"id": 9, "name": "b"}])
    assert [r.labels.max() < 2 for r in model.predict(batch_of(model, (40, 40)))]
    assert model.categories[1] == {"id": 9, "name": "b"}
    assert model.net.fc.out_features == 2


def test_features_without_classes_say_so() -> None:
    model, _ = weights.load("timm:vit_small_patch14_dinov2@none")
    batch = batch_of(model, (40, 40))
    assert model.embed(batch).shape == (1, 384)
    with pytest.raises(ModelError, match="knows no classes"):
        model.predict(batch)


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:vit_tiny_patch16_224", "timm:tf_efficientnet_b0.ns_jft_in1k", "torchvision:resnet50"])
@pytest.mark.parametrize("size", [(96, 96), (60, 91), (100, 71), (57, 250)])
def test_pixels_are_the_librarys_own(name: str, size: tuple[int, int], picture: Callable[..., Any]) -> None:
    """timm's and torchvision's transforms on the same picture: not a pixel's shift, rounding alone."""
    from PIL import Image

    pixels = picture(size[1], size[0], seed=1)
    if name.startswith("timm"):
        with cheap_import():
            from timm.data import create_transform, resolve_model_data_config
        model, _ = weights.load(f"{name}@none")
        prepare, transform = model.prepare, create_transform(**resolve_model_data_config(model.net), is_training=False)
    else:
        with cheap_import():
            from torchvision import models
        prepare = torchvision_source._prepare(torchvision_source._facts("resnet50")[2])
        transform = models.get_model_weights("resnet50").DEFAULT.transforms()
    theirs, ours = transform(Image.fromarray(pixels)), prepare([pixels]).images[0]
    difference = (theirs - ours).abs() * torch.tensor(prepare.std).view(3, 1, 1) * 255  # grey levels
    assert difference.mean() < 0.3
    assert difference.max() < 12


# ---- weights -------------------------------------------------------------------------------------------------------


def test_timm_weights_from_the_hub(server: Publisher, library: Any) -> None:
    torch.manual_seed(3)
    theirs = library.create_model("resnet18", pretrained=False).eval()
    body = save(theirs.state_dict())
    path = "/timm/resnet18.a1_in1k/resolve/main/model.safetensors"
    server.files["/cdn"] = body
    server.redirect[path] = (f"{server.url}/cdn", {"X-Linked-ETag": f'"{hashlib.sha256(body).hexdigest()}"'})
    model, info = weights.load("timm:resnet18")
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(x), theirs(x))
    assert info.reference == "timm:resnet18.a1_in1k"
    assert info.sha256 == hashlib.sha256(body).hexdigest()
    assert info.licence == "apache-2.0"
    assert "state_dict" not in model.net.pretrained_cfg
    weights.load("timm:resnet18.a1_in1k", offline=True)
    assert len(server.asked) == 2  # the hub, and where it sends us

    other, info = weights.load("timm:resnet18", classes=4, offline=True)
    assert info.fresh == ["net.fc.weight", "net.fc.bias"]
    assert torch.equal(other.net.conv1.weight, theirs.conv1.weight)
    assert len(other.categories) == 4


def test_torchvision_weights(server: Publisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with cheap_import():
        from torchvision.models import get_model
    theirs = get_model("squeezenet1_1", weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    body = (tmp_path / "x.pth").read_bytes()
    name = f"/models/squeezenet1_1-{hashlib.sha256(body).hexdigest()[:8]}.pth"
    server.files[name] = body
    monkeypatch.setenv("CVTOOL_MIRROR", server.url)
    monkeypatch.setitem(torchvision_source._models()["squeezenet1_1"]["IMAGENET1K_V1"], "url", f"https://download.pytorch.org{name}")
    model, info = weights.load("torchvision:squeezenet1_1")
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(x), theirs(x))
    assert info.reference == "torchvision:squeezenet1_1@IMAGENET1K_V1"
    assert info.metrics["top1"] > 0.5
    assert weights.load("torchvision:squeezenet1_1", classes=3)[1].fresh == ["net.classifier.1.weight", "net.classifier.1.bias"]


def test_densenets_old_names_are_understood(tmp_path: Path) -> None:
    """The published files spell `norm.1` where today's module says `norm1`."""
    model = weights.build("torchvision:densenet121", categories=[{"id": 1, "name": "a"}])
    old = {k.removeprefix("net."): v for k, v in model.state_dict().items() if "num_batches" not in k}
    for layer in ("norm", "conv"):
        old = {k.replace(f".{layer}1.", f".{layer}.1.").replace(f".{layer}2.", f".{layer}.2.") if "denselayer" in k else k: v for k, v in old.items()}
    assert any(".norm.1." in key for key in old)
    torch.save(old, tmp_path / "x.pth")
    weights.fill(model, torchvision_source.rename(weights.read_foreign(tmp_path / "x.pth")), tmp_path / "x.pth", "densenet121", strict=True)


def test_file_of_ones_own(tmp_path: Path, library: Any) -> None:
    theirs = library.create_model("resnet18", pretrained=False).eval()
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "mine.pth")
    model, _ = weights.load(f"timm:resnet18@{tmp_path}/mine.pth")
    assert torch.equal(model.net.fc.weight, theirs.fc.weight)


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
def test_offline_without_weights(name: str, server: Publisher) -> None:
    with pytest.raises(ModelError, match="--offline") as caught:
        weights.load(name, offline=True)
    assert caught.value.exit_code == 4
    assert "models pull" in str(caught.value)
    assert server.asked == []


def test_architecture_without_weights(server: Publisher) -> None:
    bare = [name for name in timm_source.names() if not {"hf", "url"} & set(timm_source.describe(name))]
    name = bare[0]
    with pytest.raises(ModelError, match="publishes no weights") as caught:
        weights.load(f"timm:{name}")
    assert "@none" in str(caught.value)


def test_published_weights_on_a_real_picture(data: Path) -> None:
    """SqueezeNet's published ImageNet weights, in torchvision's network, see what is on scikit-image's picture of a cat."""
    from cvtool import images

    file = data / "checkpoints" / "classification" / "squeezenet1_0_deepcompression_tvnorm.pth"
    model, info = weights.load(f"torchvision:squeezenet1_0@{file}")
    pixels = images.decode(data / "images_misc_skimage" / "chelsea.png")
    best = model.predict(model.prepare([pixels]))[0]
    assert model.categories[best.labels[0]]["name"] == "Egyptian cat"
    assert best.scores[0] > 0.6
    assert info.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
