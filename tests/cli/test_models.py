"""`cvtool models` as a user has it: lists, shows, fetches, checks and imports; exit codes; no torch where none is needed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from publisher import Publisher, publisher

from cvtool import cli, registry, weights
from cvtool.categories import numbered

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
SMALL = "faster-rcnn.tiny"


@pytest.fixture
def server() -> Iterator[Publisher]:
    with publisher() as state:
        yield state


@pytest.fixture
def run(cvtool: Run, tmp_path: Path) -> Run:
    """`cvtool models ...`, every cache the test's own and no network."""
    own = {"CVTOOL_CACHE": "cache", "TORCH_HOME": "torch", "HF_HOME": "hf", "CVTOOL_MIRROR": "http://127.0.0.1:9"}
    caches = {name: str(tmp_path / value) if "//" not in value else value for name, value in own.items()}

    def run(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return cvtool("models", *words, env=caches | (env or {}))

    return run


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A checkpoint as a training run leaves it."""
    model = weights.build(SMALL, categories=[{"id": 3, "name": "cell"}, {"id": 5, "name": "platelet"}])
    told = weights.Info(reference=SMALL, metrics={"AP50": 0.91}, data={"train": "bccd/"}, seed=4, command="cvtool train -m faster-rcnn.tiny")
    weights.save(model, tmp_path / "runs" / "0001" / "last.safetensors", told)
    return tmp_path / "runs" / "0001"


def lines(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


# ---- list ----------------------------------------------------------------------------------------------------------


def test_list_names_every_model(run: Run) -> None:
    rows = lines(run("list"))
    assert [row[0] for row in rows] == list(registry.catalogue())
    for row, entry in zip(rows, registry.catalogue().values(), strict=True):
        assert row[1:] == [",".join(entry.verbs), ",".join(entry.variants), ",".join(registry.weights_of(entry)), entry.summary]


def test_list_as_json_lines(run: Run) -> None:
    rows = [json.loads(line[0]) for line in lines(run("list", "--json", "--verb", "segment"))]
    assert {row["name"] for row in rows} == {name for name, entry in registry.catalogue().items() if "segment" in entry.verbs}
    assert all(isinstance(row["variants"], list) for row in rows)


def test_list_of_a_source(run: Run) -> None:
    rows = lines(run("list", "timm"))
    assert len(rows) > 1000
    assert ["timm:resnet50.a1_in1k", "classify,embed"] in rows


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [(("list", "tim"), 4, "did you mean timm"), (("list", "--verb", "detekt"), 2, "did you mean detect"), (("lst",), 2, "list"), ((), 2, "")],
)
def test_list_errors(run: Run, words: tuple[str, ...], code: int, said: str) -> None:
    done = run(*words)
    assert done.returncode == code
    assert said in done.stderr


def test_names_for_completion(run: Run) -> None:
    assert {row[0] for row in lines(run("names"))} >= set(registry.names())
    assert lines(run("names", "faster-rcnn.resnet50@")) == [["faster-rcnn.resnet50@coco"]]
    assert ["timm:"] in lines(run("names", "t"))
    assert "names" not in run("--help").stdout.split()


@pytest.mark.parametrize("words", [("list",), ("list", "timm"), ("show", "faster-rcnn"), ("show", "timm:resnet18"), ("verify",), ("names", "f")])
def test_without_torch(words: tuple[str, ...], tmp_path: Path) -> None:
    code = (
        "import sys, cvtool.__main__ as program\n"
        f"program_code = program.main({['models', *words]!r})\n"
        "print(program_code, sorted({'torch', 'numpy', 'PIL', 'torchvision', 'timm'} & set(sys.modules)), file=sys.stderr)"
    )
    same = {"PYTHONPATH": str(ROOT), "CVTOOL_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **same}, capture_output=True, text=True, timeout=120)
    assert done.stderr.strip() == "0 []"


# ---- show ----------------------------------------------------------------------------------------------------------


def test_show_a_model(run: Run) -> None:
    done = run("show", "faster-rcnn", "--json")
    shown = json.loads(done.stdout)
    entry = registry.catalogue()["faster-rcnn"]
    assert shown["summary"] == entry.summary
    assert shown["paper"] == "https://arxiv.org/abs/1506.01497"
    assert shown["file"] == str(entry.path)
    assert list(shown["variants"]) == list(entry.variants)
    published = shown["weights"]["faster-rcnn.resnet50@coco"]
    assert published["licence"] == "BSD-3-Clause"
    assert published["path"] is None
    for word in ("Faster R-CNN", "resnet50", "licence: BSD-3-Clause", "url: https://", "sha256: 258fb6c6", "recipe:", "not on this machine"):
        assert word in run("show", "faster-rcnn").stdout


def test_show_one_variant_or_alias(run: Run) -> None:
    shown = json.loads(run("show", "fasterrcnn_resnet50_fpn", "--json").stdout)
    assert shown["reference"] == "faster-rcnn.resnet50@coco"
    assert list(shown["variants"]) == ["resnet50"]
    assert list(shown["weights"]) == ["faster-rcnn.resnet50@coco"]


def test_show_a_source_model(run: Run) -> None:
    shown = json.loads(run("show", "timm:resnet50", "--json").stdout)
    assert (shown["reference"], shown["hf"], shown["licence"]) == ("timm:resnet50.a1_in1k", "timm/resnet50.a1_in1k", "apache-2.0")
    assert run("show", "torchvision:resnet50@IMAGENET1K_V1").stdout.count("resnet50-0676ba61.pth") == 1


def test_show_a_checkpoint(run: Run, trained: Path) -> None:
    shown = json.loads(run("show", trained, "--json").stdout)
    assert shown["path"] == str(trained / "last.safetensors")
    assert shown["command"] == "cvtool train -m faster-rcnn.tiny"
    assert shown["metrics"] == {"AP50": 0.91}
    assert shown["categories"] == [{"id": 3, "name": "cell"}, {"id": 5, "name": "platelet"}]
    assert shown["sha256"] == hashlib.sha256((trained / "last.safetensors").read_bytes()).hexdigest()
    text = run("show", trained / "last.safetensors").stdout
    for word in ("reference: faster-rcnn.tiny", "categories: cell, platelet", "AP50: 0.91", "train: bccd/", "seed: 4", "command: cvtool train"):
        assert word in text


@pytest.mark.parametrize(
    ("what", "said"),
    [("fastr-rcnn", "faster-rcnn"), ("faster-rcnn.resnet5", "resnet50"), ("runs/", "no such checkpoint"), ("x.safetensors", "no such checkpoint")],
)
def test_show_errors(run: Run, what: str, said: str) -> None:
    done = run("show", what)
    assert done.returncode == 4
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 3


def test_show_a_corrupt_checkpoint(run: Run, trained: Path) -> None:
    path = trained / "last.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    done = run("show", path)
    assert done.returncode == 4
    assert "corrupt checkpoint" in done.stderr


# ---- pull and verify -----------------------------------------------------------------------------------------------


@pytest.fixture
def published(server: Publisher, tmp_path: Path) -> tuple[Publisher, dict[str, str]]:
    """A hub that has timm:resnet18's weights, or at least bytes that pass for them."""
    body = b"weights" * 10000
    server.files["/cdn"] = body
    tag = {"X-Linked-ETag": f'"{hashlib.sha256(body).hexdigest()}"'}
    server.redirect["/timm/resnet18.a1_in1k/resolve/main/model.safetensors"] = (f"{server.url}/cdn", tag)
    return server, {"HF_ENDPOINT": server.url, "CVTOOL_MIRROR": ""}


def test_pull_and_verify(run: Run, published: tuple[Publisher, dict[str, str]], tmp_path: Path) -> None:
    server, env = published
    target = tmp_path / "cache" / "weights" / "timm--resnet18.a1_in1k--model.safetensors"
    assert lines(run("pull", "timm:resnet18", env=env)) == [["timm:resnet18.a1_in1k", str(target), "apache-2.0"]]
    assert lines(run("pull", "timm:resnet18", "--offline", env=env))[0][1] == str(target)
    assert len(server.asked) == 2
    assert ["ok", str(target)] in lines(run("verify"))
    assert ["ok", str(target), "timm:resnet18"] in lines(run("verify", "timm:resnet18"))

    target.write_bytes(target.read_bytes()[:-1] + b"!")
    done = run("verify")
    assert done.returncode == 4
    assert f"damaged\t{target}" in done.stdout
    assert str(target) in done.stderr
    assert json.loads(run("verify", "--json").stdout.splitlines()[-1])["state"] == "damaged"


def test_verify_what_is_not_here(run: Run) -> None:
    done = run("verify", "timm:resnet18")
    assert done.returncode == 4
    assert done.stdout == "missing\t\ttimm:resnet18\n"


def test_verify_a_checkpoint(run: Run, trained: Path) -> None:
    assert lines(run("verify", trained))[0][:2] == ["unknown", str(trained / "last.safetensors")]


def test_verify_torchs_cache(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "torch" / "hub" / "checkpoints" / "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not those weights")
    done = run("verify")
    assert done.returncode == 4
    assert f"damaged\t{path}\tfaster-rcnn.resnet50@coco" in done.stdout


def test_pull_without_a_network(run: Run) -> None:
    done = run("pull", "viola-jones", "faster-rcnn", "ssd")
    assert done.returncode == 4
    assert done.stdout.startswith("viola-jones.")  # what can be had is there all the same
    assert "no network" in done.stderr
    assert "faster-rcnn.resnet50@coco" in done.stderr
    assert "ssd.vgg16@coco" in done.stderr
    done = run("pull", "faster-rcnn", "--offline")
    assert done.returncode == 4
    assert "--offline" in done.stderr


def test_pull_refuses_unknown_names_before_it_starts(run: Run) -> None:
    done = run("pull", "viola-jones", "no-such-model")
    assert done.returncode == 4
    assert done.stdout == ""


# ---- import --------------------------------------------------------------------------------------------------------


def foreign(path: Path, classes: int, change: Callable[[str], str] = lambda key: key) -> dict[str, Any]:
    model = weights.build(SMALL, categories=numbered(classes))
    torch.save({"model": {f"module.{change(key)}": value for key, value in model.state_dict().items()}, "epoch": 1}, path)
    return model.state_dict()


def test_import_with_names(run: Run, tmp_path: Path) -> None:
    state = foreign(tmp_path / "old.pth", 2)
    (tmp_path / "names.txt").write_text("red cell\nwhite cell\n\n")
    done = run("import", "old.pth", "--as", SMALL, "--categories", "names.txt", "--licence", "MIT", "-o", "new.safetensors")
    assert (done.returncode, done.stdout) == (0, "new.safetensors\n"), done.stderr
    assert f"{len(state)} tensors" in done.stderr
    model, info = weights.load(str(tmp_path / "new.safetensors"))
    assert [c["name"] for c in info.categories] == ["red cell", "white cell"]
    assert (info.reference, info.licence) == (SMALL, "MIT")
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert "models import old.pth" in json.loads(run("show", "new.safetensors", "--json").stdout)["command"]


def test_import_with_coco_categories_keeps_their_ids(run: Run, tmp_path: Path) -> None:
    foreign(tmp_path / "old.pth", 2)
    (tmp_path / "coco.json").write_text(json.dumps({"categories": [{"id": 9, "name": "b"}, {"id": 4, "name": "a"}]}))
    assert run("import", "old.pth", "--as", SMALL, "--categories", "coco.json", "--half", "-o", "x.safetensors").returncode == 0
    assert weights.read_info(tmp_path / "x.safetensors").categories == [{"id": 4, "name": "a"}, {"id": 9, "name": "b"}]


def test_import_says_what_it_renamed(run: Run, tmp_path: Path) -> None:
    foreign(tmp_path / "old.pth", 2, lambda key: key.replace("rpn.head.conv.0.0.", "rpn.head.conv."))
    done = run("import", "old.pth", "--as", SMALL, "--categories", "names.txt", "-o", "x.safetensors")
    assert done.returncode == 2  # names.txt is not there
    (tmp_path / "names.txt").write_text("a\nb\n")
    done = run("import", "old.pth", "--as", SMALL, "--categories", "names.txt", "-o", "x.safetensors")
    assert done.returncode == 0, done.stderr
    assert "renamed rpn.head.conv.weight -> rpn.head.conv.0.0.weight" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--as", SMALL, "-o", "x.safetensors"), 4, "the model has 90 classes, the file 2"),
        (("--as", "ssd.tiny", "--categories", "n.txt", "-o", "x.safetensors"), 4, "do not fit ssd.tiny"),
        (("--as", "faster-rcn", "-o", "x.safetensors"), 4, "did you mean"),
        (("--as", "other.pth", "-o", "x.safetensors"), 2, "--as takes a model's name"),
        (("--as", "viola-jones", "-o", "x.safetensors"), 2, "-m viola-jones@old.pth"),
        (("--as", SMALL), 2, "-o is missing"),
        (("--as", SMALL, "-o", "x.pth"), 2, "ends in .safetensors"),
        (("--as", SMALL, "-o", "there.safetensors"), 2, "--overwrite"),
        (("--as", SMALL, "--categories", "cocoo", "-o", "x.safetensors"), 2, "did you mean coco"),
        (("--as", SMALL, "--categories", "bad.json", "-o", "x.safetensors"), 3, "no COCO categories"),
    ],
)
def test_import_errors(run: Run, tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    foreign(tmp_path / "old.pth", 2)
    (tmp_path / "n.txt").write_text("a\nb\n")
    (tmp_path / "bad.json").write_text('{"categories": 3}')
    (tmp_path / "there.safetensors").write_bytes(b"mine")
    done = run("import", "old.pth", *words)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3
    assert (tmp_path / "there.safetensors").read_bytes() == b"mine"
    assert not (tmp_path / "x.safetensors").exists()


def test_import_of_a_run_keeps_what_it_says_of_itself(run: Run, trained: Path, tmp_path: Path) -> None:
    before = weights.read_info(trained).to_dict()
    done = run("import", trained, "--as", SMALL, "--licence", "MIT", "--half", "-o", "release.safetensors")
    assert (done.returncode, done.stdout) == (0, "release.safetensors\n"), done.stderr
    assert weights.read_info(tmp_path / "release.safetensors").to_dict() == before | {"licence": "MIT"}
    ours, theirs = (weights.load(str(path))[0].state_dict() for path in (tmp_path / "release.safetensors", trained))
    assert all(torch.allclose(ours[key], theirs[key], rtol=1e-3, atol=1e-4) for key in theirs)
    assert (tmp_path / "release.safetensors").stat().st_size < 0.6 * (trained / "last.safetensors").stat().st_size


def test_import_of_a_checkpoint_under_another_variant(run: Run, trained: Path, tmp_path: Path) -> None:
    done = run("import", trained, "--as", "faster-rcnn.small", "-o", "x.safetensors")
    assert done.returncode == 0, done.stderr
    info = weights.read_info(tmp_path / "x.safetensors")
    assert (info.reference, info.seed, bool(info.arguments)) == ("faster-rcnn.small", 4, True)
    ours, theirs = (weights.load(str(path))[0].state_dict() for path in (tmp_path / "x.safetensors", trained))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    done = run("import", trained, "--as", "ssd.tiny", "-o", "y.safetensors")
    assert done.returncode == 4
    assert "belongs to faster-rcnn.tiny, not to ssd.tiny" in done.stderr
    odd = weights.Info(reference=SMALL, arguments={"unheard_of": 1}, categories=numbered(2))
    weights.save(weights.build(SMALL, categories=numbered(2)), tmp_path / "odd.safetensors", odd)
    done = run("import", "odd.safetensors", "--as", SMALL, "-o", "y.safetensors")
    assert (done.returncode, "as the checkpoint says" in done.stderr) == (4, True)


def test_import_refuses_code(run: Run, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "was-here"),))

    torch.save({"model": {"a": torch.zeros(1)}, "x": Evil()}, tmp_path / "old.pth")
    done = run("import", "old.pth", "--as", SMALL, "-o", "x.safetensors")
    assert done.returncode == 4
    assert "refused" in done.stderr
    assert not (tmp_path / "was-here").exists()


def test_help_fits(run: Run) -> None:
    for name in ("list", "show", "pull", "verify", "import"):
        done = run(name, "--help")
        assert done.returncode == 0
        assert name in run("--help").stdout
    assert "models" in cli.verbs()
