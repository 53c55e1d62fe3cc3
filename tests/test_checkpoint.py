"""Foreign files are read, never run: wrappers and prefixes come off, code is refused, damage is said."""

from __future__ import annotations

import json
import os
import pickle
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cvtool import weights
from cvtool.batch import Prepare
from cvtool.errors import ModelError

TENSORS = {"a.weight": torch.arange(4.0), "b": torch.ones(2, dtype=torch.float16)}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: OrderedDict(s),
        lambda s: {"state_dict": s, "epoch": 3, "args": "x"},
        lambda s: {"model": s, "optimizer": {"state": {}}},
        lambda s: {"model_state_dict": s},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {"params_ema": s, "params": {k: v * 0 for k, v in s.items()}},
        lambda s: {"net": {f"module.{k}": v for k, v in s.items()}, "acc": 93.1},
        lambda s: {"state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()}},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_foreign_files_are_unwrapped(tmp_path: Path, wrap: Any, zipped: bool) -> None:
    path = tmp_path / "x.pth"
    torch.save(wrap(TENSORS), path, _use_new_zipfile_serialization=zipped)
    state = weights.read_foreign(path)
    assert set(state) == set(TENSORS)
    assert torch.equal(state["a.weight"], TENSORS["a.weight"])
    assert state["b"].dtype == torch.float32


def test_foreign_safetensors(tmp_path: Path) -> None:
    save_file({f"module.{k}": v for k, v in TENSORS.items()}, tmp_path / "x.safetensors")
    assert set(weights.read_foreign(tmp_path / "x.safetensors")) == set(TENSORS)
    with pytest.raises(ModelError, match="does not say which model") as caught:
        weights.load(str(tmp_path / "x.safetensors"))
    assert "models import" in str(caught.value)
    torch.save(TENSORS, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="does not say which model"):
        weights.load(str(tmp_path / "x.pth"))


class Evil:
    def __reduce__(self) -> Any:
        return (os.system, ("touch /tmp/cvtool-was-here",))


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_with_code_are_refused_and_not_run(tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    torch.save({"state_dict": TENSORS, "callback": Evil()}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    monkeypatch.setattr(os, "system", ran.append)
    with pytest.raises(ModelError, match="refused: the pickle holds code") as caught:
        weights.read_foreign(tmp_path / "x.pth")
    assert caught.value.exit_code == 4
    assert "system" in str(caught.value)
    assert ran == []


def test_what_training_scripts_leave_beside_the_tensors(tmp_path: Path) -> None:
    import argparse

    import numpy as np

    beside = {"args": argparse.Namespace(lr=0.1), "best": np.float64(0.5), "step": np.int64(3)}
    torch.save({"model": TENSORS, **beside}, tmp_path / "x.pth")
    assert set(weights.read_foreign(tmp_path / "x.pth")) == set(TENSORS)


def test_bare_pickles_too(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match=r"refused|corrupt"):
        weights.read_foreign(tmp_path / "x.pth")


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"<html>not found</html>", b"PK\x03\x04 broken zip"])
def test_files_that_are_no_weights(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ModelError, match="corrupt checkpoint"):
        weights.read_foreign(tmp_path / "x.pth")


def test_truncated_foreign_file(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(10000)}, tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes((tmp_path / "x.pth").read_bytes()[:20000])
    with pytest.raises(ModelError, match="corrupt checkpoint"):
        weights.read_foreign(tmp_path / "x.pth")


def test_file_without_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="no tensors"):
        weights.read_foreign(tmp_path / "x.pth")


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_umask_decides_who_may_read_a_checkpoint(tmp_path: Path, mask: int, mode: int) -> None:
    old = os.umask(mask)
    try:
        path = weights.save(torch.nn.Linear(2, 2), tmp_path / "x.safetensors", weights.Info(reference="faster-rcnn.tiny"))
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == mode


def test_info_survives_json() -> None:
    info = weights.Info(reference="blob", prepare=Prepare(size=3), metrics={"a": float("inf")}, data=("x", Path("y")))
    written = json.loads(json.dumps(info.to_dict(), allow_nan=False))
    assert written["prepare"]["size"] == 3
    assert written["data"] == ["x", "y"]
    assert written["metrics"] == {"a": None}
    assert "path" not in replace(info, path=Path("x"), sha256="0").to_dict()


def test_real_files_of_many_projects_are_read(data: Path) -> None:
    """Published checkpoints of a dozen repositories, wrapped and prefixed in their ways."""
    files = [path for path in sorted((data / "checkpoints").rglob("*")) if path.suffix in (".pth", ".pt", ".th")]
    assert len(files) > 10
    for path in files:
        state = weights.read_foreign(path)
        assert len(state) >= 5
        assert not [key for key in state if key.startswith(("module.", "state_dict"))], path


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        "{}",
        '{"reference": 3}',
        '{"reference": "../../x.safetensors"}',
        '{"reference": "faster-rcnn.tiny", "arguments": 3}',
        '{"reference": "faster-rcnn.tiny", "categories": 7}',
        '{"reference": "faster-rcnn.tiny", "categories": ["cell"]}',
        '{"reference": "faster-rcnn.tiny", "prepare": [1]}',
    ],
)
def test_nonsense_in_the_metadata(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"cvtool": content})
    for reader in (weights.load, weights.read_info):
        with pytest.raises(ModelError, match="corrupt checkpoint"):
            reader(str(path))
