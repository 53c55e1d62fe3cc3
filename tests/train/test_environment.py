"""environment.json: what it says, what it keeps to itself, and what a resumed run is told."""

from __future__ import annotations

import getpass
import json
import socket
from pathlib import Path

import pytest
import torch

from cvtool.errors import CvtoolError
from cvtool.train import environment


def test_what_it_says(tmp_path: Path) -> None:
    assert environment.keep(tmp_path, torch.device("cpu")) == []
    text = (tmp_path / "environment.json").read_text()
    found = json.loads(text)
    assert found["torch"] == torch.__version__.partition("+")[0] or found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["device"] == "cpu"
    assert found["cuda"] is None
    assert found["device_memory"] > 1 << 28
    assert {"cvtool", "python", "system", "numpy", "processor", "cores", "processes"} <= set(found)
    for private in (socket.gethostname(), str(Path.home()), str(Path.cwd())):
        assert len(private) < 5 or private not in text
    assert getpass.getuser() not in found.values()
    assert [path.name for path in tmp_path.iterdir()] == ["environment.json"]


def test_what_has_changed(tmp_path: Path) -> None:
    environment.keep(tmp_path, torch.device("cpu"))
    path = tmp_path / "environment.json"
    threads = torch.get_num_threads()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"threads": 99, "pillow": "0.1"}))
    assert environment.keep(tmp_path, torch.device("cpu")) == [f"threads was 99, now {threads}"]
    assert json.loads(path.read_text())["threads"] == threads
    path.write_text('{"threads": 9')
    assert environment.keep(tmp_path, torch.device("cpu")) == []
    with pytest.raises(CvtoolError, match="cannot be written to"):
        environment.keep(tmp_path / "none", torch.device("cpu"))
