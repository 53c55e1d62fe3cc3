"""`cvtool visualize RUN...`: the curves of runs, as typed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from cvtool.__main__ import main


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The program takes SIGTERM; the tests want it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run(root: Path, number: int, *, epochs: int = 3) -> Path:
    """A folder as `cvtool train` leaves it, as far as curves look at it."""
    folder = root / f"000{number}"
    folder.mkdir()
    (folder / "recipe.toml").write_text('model = "m"\n')
    lines = []
    for epoch in range(1, epochs + 1):
        lines += [{"kind": "tick", "epoch": epoch, "iteration": 5 * epoch, "loss": number / epoch, "lr": 0.1 / epoch}]
        lines += [{"kind": "epoch", "epoch": epoch, "iteration": 5 * epoch, "loss": number / epoch, "val_loss": 1.0, "val_accuracy": 0.2 * epoch}]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.system("ema")
def test_two_runs_in_one_picture(capsys, tmp_path: Path) -> None:
    one, two, out = run(tmp_path, 1), run(tmp_path, 2), tmp_path / "curves.png"
    assert main(["visualize", str(one), str(two), "-o", str(out)]) == 0
    plain = out.read_bytes()
    assert Image.open(out).width > 1500
    assert main(["visualize", str(one), str(two), "--smooth", "ema:0.9,window:20", "-o", str(out), "--overwrite"]) == 0
    assert out.read_bytes() != plain
    capsys.readouterr()
    assert main(["visualize", str(one), "-o", str(out)]) == 2  # it is there
    assert "--overwrite" in capsys.readouterr().err


def test_what_cannot_be(capsys, tmp_path: Path) -> None:
    one, out = str(run(tmp_path, 1)), str(tmp_path / "c.png")
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for words, said, code in (
        ([one, str(tmp_path / "pictures")], "is a run and", 2),
        ([one, "--smooth", "emma:3"], "unknown average 'emma'", 2),
        ([one, "--conf", "0.3"], "--conf has no effect on the curves of runs", 2),
        ([str(tmp_path / "a.png"), "--smooth", "ema"], "--smooth has no effect without run folders", 2),
        ([str(run(tmp_path, 2, epochs=0))], "no losses to draw yet", 3),
    ):
        assert main(["visualize", *words, "-o", out]) == code
        assert said in capsys.readouterr().err
    assert main(["visualize", one, "-o", f"{tmp_path}/folder/"]) == 2
    assert "one picture" in capsys.readouterr().err
