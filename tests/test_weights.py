"""Checkpoints rebuild their model alone; foreign files are read, never run; what does not fit is named."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cvtool import checkpoint, registry, weights
from cvtool.batch import Prepare
from cvtool.categories import coco, numbered
from cvtool.errors import CvtoolError, ModelError, UsageError
from cvtool.registry import Entry

SOURCE = '''"""Blob: a model for the tests (Nobody 1900)."""
import torch
from torch import nn
from cvtool.batch import Prepare

VARIANTS = {"wide": {"width": 8}, "tiny": {"width": 2}}
WEIGHTS = {"wide@toy": {"url": "https://example.org/blob-00000000.pth", "categories": ["cat", "dog"], "licence": "MIT", "arguments": {"bias": False}}}
ALIASES = {"blobnet": "wide"}


class Blob(nn.Module):
    prepare = Prepare(resize="stretch", size=32)

    def __init__(self, classes, width, bias):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, bias=bias), nn.BatchNorm2d(width))
        self.head = nn.Linear(width, classes + 1)  # with a background
        self.tied = self.head

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def rename(state):
    return {key.replace("old_head.", "head."): value for key, value in state.items()}


def build(*, classes, width, bias=True):
    return Blob(classes, width, bias)
'''


@pytest.fixture(autouse=True)
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A catalogue with one model of our own in it."""
    path = tmp_path / "blob_for_tests.py"
    path.write_text(SOURCE)
    module = ModuleType("blob_for_tests")
    exec(compile(SOURCE, str(path), "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "blob_for_tests", module)
    entry = Entry("blob", "blob_for_tests", path, "classify")
    registry.catalogue.cache_clear()
    registry.aliases.cache_clear()
    monkeypatch.setitem(registry.catalogue(), "blob", entry)
    yield entry
    registry.catalogue.cache_clear()
    registry.aliases.cache_clear()


def blob(**changes: Any) -> nn.Module:
    return weights.build("blob.wide", categories=numbered(2), **changes)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return weights.save(blob(), tmp_path / "run" / "a.safetensors", weights.Info(reference="blob.wide"))


# ---- our own checkpoints -------------------------------------------------------------------------------------------


def test_a_checkpoint_rebuilds_its_model(tmp_path: Path) -> None:
    model = blob(bias=False)
    model.prepare = Prepare(resize="shortest", size=48, max_size=96)
    model.body[1].running_mean += 3
    told = weights.Info(
        reference="blob.wide", arguments={"bias": False}, categories=[None, {"id": 7, "name": "Zebra", "keypoints": ["nose"]}], seed=3,
        metrics={"AP": 0.5, "bad": float("nan"), "one": torch.tensor(2.0)}, data={"train": Path("x")}, command="cvtool train", recipe={"lr": 1e-3},
    )  # fmt: skip
    path = weights.save(model, tmp_path / "a.safetensors", told)
    again, info = weights.load(str(path))
    x = torch.randn(2, 3, 32, 32)
    model.eval()
    assert torch.equal(model(x), again(x))
    assert not again.training
    assert again.prepare == model.prepare
    assert again.categories == told.categories
    assert info.metrics == {"AP": 0.5, "bad": None, "one": 2.0}
    assert (info.seed, info.command, info.recipe, info.data) == (3, "cvtool train", {"lr": 1e-3}, {"train": "x"})
    assert info.versions["torch"] == torch.__version__
    assert info.path == path
    assert info.sha256 == weights.sha256(path)
    assert info.fresh == []


def test_categories_and_pixels_come_from_the_model(saved: Path) -> None:
    info = weights.read_info(saved)
    assert info.categories == numbered(2)
    assert info.prepare["size"] == 32


def test_info_is_read_without_torch(saved: Path) -> None:
    code = f"import sys; from cvtool.weights import read_info; print(read_info({str(saved)!r}).reference); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(Path.cwd())}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "blob.wide"), done.stderr


def test_safetensors_agrees(saved: Path) -> None:
    metadata, header = checkpoint.read_header(saved)
    assert set(header) == set(load_file(saved))
    assert metadata["format"] == "pt"
    assert json.loads(metadata["cvtool"])["reference"] == "blob.wide"


def test_half_is_float32_again_and_vectors_keep_their_range(tmp_path: Path) -> None:
    model = blob()
    model.body[1].running_var.fill_(1e6)
    with torch.no_grad():
        model.head.weight[0, 0] = 1e6
    path = weights.save(model, tmp_path / "h.safetensors", weights.Info(reference="blob.wide"), half=True)
    stored = load_file(path)
    assert stored["body.0.weight"].dtype == torch.float16
    assert stored["body.1.running_var"].dtype == stored["head.weight"].dtype == torch.float32
    again, _ = weights.load(path.as_posix())
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    assert torch.allclose(again.body[0].weight, model.body[0].weight, rtol=1e-3, atol=1e-4)
    assert again.body[1].running_var[0] == 1e6


def test_saving_is_all_or_nothing(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="space"):
        weights.save(blob(), saved, weights.Info(reference="blob.wide"))
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["a.safetensors"]


def test_disk_full_inside_safetensors(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    def fail(*_: Any, **__: Any) -> None:
        raise checkpoint_error("I/O error: No space left on device (os error 28)")

    from safetensors import SafetensorError as checkpoint_error

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(CvtoolError, match="No space left") as caught:
        weights.save(blob(), saved, weights.Info(reference="blob.wide"))
    assert caught.value.exit_code == 1


def test_compiled_and_wrapped_models_are_saved_under_their_own_names(tmp_path: Path) -> None:
    model = blob()
    wrapped = nn.Module()
    wrapped._orig_mod = model
    path = weights.save(wrapped, tmp_path / "c.safetensors", weights.Info(reference="blob.wide", categories=numbered(2), prepare=model.prepare))
    assert set(load_file(path)) == set(model.state_dict())


def test_run_folder_stands_for_its_best_checkpoint(tmp_path: Path, saved: Path) -> None:
    run = tmp_path / "runs" / "0001"
    weights.save(blob(), run / "last.safetensors", weights.Info(reference="blob.wide", seed=1))
    assert weights.locate(f"{run}/") == run / "last.safetensors"
    weights.save(blob(), run / "best.safetensors", weights.Info(reference="blob.wide", seed=2))
    assert weights.load(str(run))[1].seed == 2
    with pytest.raises(ModelError, match="did you mean") as caught:
        weights.read_info(run.parent)
    assert str(run) in str(caught.value)


def test_missing_file_offers_a_near_name(saved: Path) -> None:
    with pytest.raises(ModelError, match="no such checkpoint") as caught:
        weights.load(str(saved.with_name("b.safetensors")))
    assert "a.safetensors" in str(caught.value)
    assert caught.value.exit_code == 4


def cut(content: bytes) -> bytes:
    return content[:-5]


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b"",
        lambda b: b[:7],
        lambda b: b[:20],
        cut,
        lambda b: b + b"x",
        lambda b: b"hello, I am a text file, not weights",
        lambda b: struct.pack("<Q", 1 << 62) + b[8:],
        lambda b: struct.pack("<Q", 90_000_000) + b[8:],
        lambda b: b[:8] + b"[" * (struct.unpack("<Q", b[:8])[0]) + b[8 + struct.unpack("<Q", b[:8])[0] :],
        lambda b: b[:8] + b"\xff\xfe" + b[10:],
    ],
)
def test_corrupt_checkpoints_are_said_to_be(saved: Path, damage: Any) -> None:
    saved.write_bytes(damage(saved.read_bytes()))
    for read in (weights.read_info, lambda path: weights.load(str(path))):
        with pytest.raises(ModelError, match="corrupt checkpoint") as caught:
            read(saved)
        assert caught.value.exit_code == 4
        assert str(saved) in str(caught.value)
        assert len(caught.value.lines()) <= 3


def test_checkpoint_of_a_model_that_is_not_installed(tmp_path: Path) -> None:
    path = weights.save(blob(), tmp_path / "x.safetensors", weights.Info(reference="blub.wide"))
    with pytest.raises(ModelError, match="unknown model 'blub'"):
        weights.load(str(path))


# ---- references ----------------------------------------------------------------------------------------------------


def test_untrained_is_the_same_each_time_and_moves_no_generator() -> None:
    state = torch.get_rng_state()
    first, info = weights.load("blob@none")
    second, _ = weights.load("blob@none")
    assert torch.equal(first.head.weight, second.head.weight)
    assert torch.equal(state, torch.get_rng_state())
    assert info.sha256 is None
    assert [c["name"] for c in info.categories] == ["cat", "dog"]
    assert len(weights.load("blob@none", classes=5)[0].categories) == 5


def test_variant_without_weights_must_be_asked_for_as_untrained() -> None:
    with pytest.raises(ModelError, match="no trained weights") as caught:
        weights.load("blob.tiny")
    assert "blob.tiny@none" in str(caught.value)
    assert "blob.wide@toy" in str(caught.value)


def test_unknown_constructor_argument() -> None:
    with pytest.raises(UsageError, match="did you mean width"):
        blob(widht=3)


def test_foreign_file_into_a_model(tmp_path: Path) -> None:
    model = blob()
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}, "epoch": 3}, tmp_path / "old.pth")
    again, info = weights.load(f"blob@{tmp_path}/old.pth")
    assert torch.equal(again.head.weight, model.head.weight)
    assert [c["name"] for c in info.categories] == ["cat", "dog"]
    assert info.reference.startswith("blob.wide@")


def test_model_file_may_rename(tmp_path: Path) -> None:
    model = blob()
    torch.save({k.replace("head.", "old_head."): v for k, v in model.state_dict().items()}, tmp_path / "old.pth")
    assert torch.equal(weights.load(f"blob@{tmp_path}/old.pth")[0].head.weight, model.head.weight)


def test_own_checkpoint_by_name_and_file_brings_its_own_categories(tmp_path: Path) -> None:
    model = weights.build("blob", categories=[{"id": 4, "name": "owl"}])
    weights.save(model, tmp_path / "owl.safetensors", weights.Info(reference="blob.wide"))
    assert weights.load(f"blob@{tmp_path}/owl.safetensors")[0].categories == [{"id": 4, "name": "owl"}]
    with pytest.raises(ModelError, match=r"belongs to blob\.wide, not to blob\.tiny"):
        weights.load(f"blob.tiny@{tmp_path}/owl.safetensors")


def test_published_weights_with_changed_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    facts = registry.catalogue()["blob"].weights["wide@toy"]
    published = blob(bias=False)
    path = tmp_path / "hub" / "checkpoints" / "blob-00000000.pth"
    path.parent.mkdir(parents=True)
    torch.save(published.state_dict(), path)
    monkeypatch.setitem(facts, "sha256", weights.sha256(path)[:8])
    model, info = weights.load("blob", offline=True)
    assert model.body[0].bias is None
    assert torch.equal(model.head.weight, published.head.weight)
    assert (info.reference, info.licence, info.arguments, info.path) == ("blob.wide@toy", "MIT", {"bias": False}, path)


def test_other_classes_are_refused_with_both_counts(tmp_path: Path) -> None:
    torch.save(weights.build("blob", categories=numbered(20)).state_dict(), tmp_path / "x.pth")
    with pytest.raises(ModelError) as caught:
        weights.load(f"blob@{tmp_path}/x.pth")
    text = str(caught.value)
    assert "head.weight (21x8, not 3x8)" in text
    assert "the model has 2 classes, the file 20" in text
    assert "--categories" in text
    assert caught.value.exit_code == 4


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    torch.save({"backbone.weight": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="do not fit") as caught:
        weights.load(f"blob@{tmp_path}/x.pth")
    assert "body.0.weight" in str(caught.value)
    assert "backbone.weight" in str(caught.value)


def test_other_classes_on_purpose_leave_the_head_fresh(saved: Path) -> None:
    old, _ = weights.load(str(saved))
    model, info = weights.load(str(saved), classes=5)
    assert sorted(info.fresh) == ["head.bias", "head.weight", "tied.bias", "tied.weight"]
    assert torch.equal(model.body[0].weight, old.body[0].weight)
    assert len(model.categories) == 5
    assert model.head.weight.std() > 0  # drawn, not left as it came from memory
    assert weights.load(str(saved), classes=2)[1].fresh == []


@pytest.mark.parametrize("arguments", [{"depth": 3}, {"width": "wide"}, {"width": -1}])
def test_arguments_that_do_not_build(tmp_path: Path, arguments: dict[str, Any]) -> None:
    path = weights.save(blob(), tmp_path / "x.safetensors", weights.Info(reference="blob.wide", arguments=arguments))
    with pytest.raises(ModelError, match=r"cannot be rebuilt|do not fit") as caught:
        weights.load(str(path))
    assert str(path) in str(caught.value)


def test_build_from_a_checkpoint_keeps_its_arguments(tmp_path: Path) -> None:
    path = weights.save(blob(bias=False), tmp_path / "x.safetensors", weights.Info(reference="blob.wide", arguments={"bias": False}))
    assert weights.build(str(path), categories=coco()).body[0].bias is None


def test_loading_draws_nothing(saved: Path) -> None:
    """Parameters that are about to be overwritten are not drawn at random first, and the global generator stays."""
    state = torch.get_rng_state()
    weights.load(str(saved))
    assert torch.equal(state, torch.get_rng_state())


def test_named_categories() -> None:
    assert weights.named_categories("coco") == coco()
    assert weights.named_categories(2) == numbered(2)
    assert weights.named_categories(["a"]) == [{"id": 1, "name": "a"}]
    assert weights.named_categories(None) == []
    with pytest.raises(ModelError, match="unknown categories 'cocoo'"):
        weights.named_categories("cocoo")


# ---- whose names and forms differ -------------------------------------------------------------------------------------


def test_counters_of_norms_may_be_missing(tmp_path: Path) -> None:
    """Files from before torch 0.4.1 have none; nothing reads them."""
    state = {k: v for k, v in blob().state_dict().items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "x.pth")
    assert torch.equal(weights.load(f"blob@{tmp_path}/x.pth")[0].head.weight, state["head.weight"])


def test_versions_of_modules_survive(tmp_path: Path) -> None:
    """torch's modules rename their old tensors by the version that the file states: torchvision's detectors need it."""

    class Renamed(nn.Module):
        _version = 2

        def __init__(self) -> None:
            super().__init__()
            self.new = nn.Parameter(torch.zeros(2))
            self.categories: list[Any] = []

        def _load_from_state_dict(self, state: Any, prefix: str, local: Any, *rest: Any) -> None:
            if (local.get("version") or 1) < 2:
                state[prefix + "new"] = state.pop(prefix + "old")
            super()._load_from_state_dict(state, prefix, local, *rest)

    old = OrderedDict({"module.old": torch.ones(2)})
    old._metadata = {"": {"version": 1}, "module": {"version": 1}}  # type: ignore[attr-defined]
    torch.save(old, tmp_path / "x.pth")
    model = Renamed()
    weights.fill(model, weights.read_foreign(tmp_path / "x.pth"), tmp_path / "x.pth", "renamed", strict=True)
    assert model.new.tolist() == [1, 1]


def test_objects_that_are_no_networks(tmp_path: Path) -> None:
    """Anything with state_dict and load_state_dict can be saved and filled, arrays too."""
    import numpy as np

    class Trees:
        def __init__(self) -> None:
            self.nodes = np.zeros((2, 3), np.float32)
            self.categories = numbered(1)

        def state_dict(self) -> dict[str, Any]:
            return {"nodes": self.nodes}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.nodes = np.asarray(state["nodes"])

    trees = Trees()
    trees.nodes += 5
    path = weights.save(trees, tmp_path / "t.safetensors", weights.Info(reference="trees"))
    again = Trees()
    weights.fill(again, checkpoint.read_tensors(path), path, "trees", strict=True)
    assert (again.nodes == 5).all()
    with pytest.raises(ModelError, match="do not fit"):
        weights.fill(again, {"other": torch.zeros(1)}, path, "trees", strict=True)
