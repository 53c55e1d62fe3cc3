"""Names become files, without importing any: aliases, variants, weights, sources, paths, and suggestions for the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvtool import registry
from cvtool.errors import CvtoolError, ModelError
from cvtool.registry import Entry, parse

ROOT = Path(__file__).resolve().parents[1]
NET = '''"""Net: a model for the tests (Nobody 1900)."""
VARIANTS: dict = {"base": {"width": 8}, "tiny": {"width": 2}}
WEIGHTS = {"base@first": {"url": "x"}, "base@second": {"url": "y"}}
ALIASES = {"oldnet": "", "oldnet_tiny": "tiny", "oldnet_second": "base@second"}
RECIPE = {"lr": 1e-3}
VERBS = ("segment", "detect")
import torch_is_not_imported
'''


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Entry]:
    """A model of the tests' own in the catalogue, and weights for it that ship."""
    path = tmp_path / "net.py"
    path.write_text(NET)
    entry = Entry("net", "net_of_the_tests", path, "segment")
    for cached in (registry.catalogue, registry.aliases, registry.shipped):
        cached.cache_clear()
    monkeypatch.setitem(registry.catalogue(), "net", entry)
    monkeypatch.setattr(registry, "shipped", lambda: {"net.tiny@own": {"licence": "MIT"}})
    yield entry
    monkeypatch.undo()
    for cached in (registry.catalogue, registry.aliases):
        cached.cache_clear()


def test_the_directory_is_the_catalogue() -> None:
    files = {path.stem.replace("_", "-"): path for path in (ROOT / "cvtool" / "models").glob("*/[!_]*.py")}
    built_in = {name: entry for name, entry in registry.catalogue().items() if entry.folder is not None}
    assert {name: entry.path for name, entry in built_in.items()} == files
    for entry in built_in.values():
        assert entry.verb == entry.path.parent.name
        assert entry.verb in entry.verbs


def test_literals_are_read_from_the_text(net: Entry) -> None:
    assert net.summary == "Net: a model for the tests (Nobody 1900)."
    assert list(net.variants) == ["base", "tiny"]
    assert net.recipe == {"lr": 1e-3}
    assert net.verbs == ("segment", "detect")
    assert list(registry.weights_of(net)) == ["base@first", "base@second", "tiny@own"]


def test_what_is_no_literal_is_said_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text('"""X."""\n\nVARIANTS = {"a": f()}\n')
    with pytest.raises(ModelError, match="VARIANTS is not a plain literal") as caught:
        _ = Entry("x", "x", tmp_path / "x.py", "detect").variants
    assert "x.py:3" in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("net", "net.base@first"),
        ("Net", "net.base@first"),
        ("net.base", "net.base@first"),
        ("net.tiny", "net.tiny@own"),  # nothing published: what ships
        ("net.TINY", "net.tiny@own"),
        ("net@second", "net.base@second"),
        ("net@none", "net.base@none"),
        ("net.tiny@none", "net.tiny@none"),
        ("oldnet", "net.base@first"),
        ("oldnet_tiny", "net.tiny@own"),
        ("oldnet_second", "net.base@second"),
        ("oldnet_second@first", "net.base@first"),
        ("net@./old.pth", "net.base@./old.pth"),
        ("net@old.pth", "net.base@old.pth"),
        ("timm:resnet50.a1_in1k", "timm:resnet50.a1_in1k"),
        ("timm:resnet18@none", "timm:resnet18@none"),
        ("timm:beit3_base_patch16_224.pt", "timm:beit3_base_patch16_224.pt"),
        ("torchvision:resnet50@IMAGENET1K_V1", "torchvision:resnet50@IMAGENET1K_V1"),
    ],
)
def test_references(net: Entry, typed: str, canonical: str) -> None:
    reference = parse(typed)
    assert str(reference) == canonical
    assert str(parse(canonical)) == canonical
    assert (reference.entry is net) == canonical.startswith("net")


@pytest.mark.parametrize("text", ["runs/0001", "./net", "a.safetensors", "a.pth", "B.PT", "model.onnx", ".", "..", "/abs/file", "a:b/c.pt"])
def test_paths(text: str) -> None:
    reference = parse(text)
    assert reference.path == Path(text)
    assert reference.entry is None
    assert str(reference) == text


def test_a_file_for_a_model(net: Entry) -> None:
    assert parse("net@~/old.pth").weights_path == Path.home() / "old.pth"
    assert parse("net@first").weights_path is None


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("nett", "did you mean net"),
        ("faster-rcn", "faster-rcnn"),
        ("net.huge", "its variants: base, tiny"),
        ("net.tny", "did you mean tiny"),
        ("net@third", "net.base has: first, second, none"),
        ("net.tiny@first", "net.tiny has: own, none"),
        ("tim:resnet50", "did you mean timm"),
        ("zzzzz", "models list"),
        ("", "models list"),
    ],
)
def test_suggestions(net: Entry, typed: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse(typed)
    assert words in str(caught.value)
    assert caught.value.exit_code == 4
    assert len(caught.value.lines()) <= 3


def test_weights_name_the_variant_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "shipped", lambda: {"resnet.tiny@toys": {}, "resnet.34@toys": {}})
    assert str(registry.parse("resnet@toys")) == "resnet.tiny@toys"
    assert str(registry.parse("resnet.34@toys")) == "resnet.34@toys"
    with pytest.raises(ModelError, match=r"unknown weights '@toys' for resnet\.18"):
        registry.parse("resnet.18@toys")


def test_an_alias_may_not_hide_a_model(net: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.py"
    path.write_text('"""Other."""\nALIASES = {"net": ""}\n')
    monkeypatch.setitem(registry.catalogue(), "other", Entry("other", "other", path, "detect"))
    registry.aliases.cache_clear()
    with pytest.raises(ModelError, match="taken twice"):
        registry.aliases()


def test_names_are_unique_over_all_models() -> None:
    names = registry.names()
    assert len(names) == len(set(names))


@given(st.text(max_size=30))
def test_any_text_is_a_reference_or_a_plain_error(text: str) -> None:
    error = None
    try:
        reference = parse(text)
    except CvtoolError as caught:
        error = caught
    if error is None:
        again = parse(str(reference))
        assert again.path == reference.path if reference.path is not None else again == reference
    else:
        assert error.exit_code == 4
        assert len(error.lines()) <= 3


def test_listing_imports_nothing() -> None:
    code = (
        "import sys; from cvtool import registry\n"
        "for entry in registry.catalogue().values(): entry.summary, entry.variants, registry.weights_of(entry)\n"
        "registry.names(); registry.sources()\n"
        "print(sorted(m for m in sys.modules if m in ('torch', 'numpy', 'PIL') or m.startswith(('cvtool.models.', 'cvtool.sources.'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
