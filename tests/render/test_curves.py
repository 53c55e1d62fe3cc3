"""The curves of a run: what is drawn, and that any log gives a picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvtool.render import curves


def lines(epochs: int = 4, validated: bool = True) -> list[dict]:
    found: list[dict] = []
    for epoch in range(1, epochs + 1):
        both = {
            "epoch": epoch,
            "iteration": epoch * 10,
            "loss": 2 / epoch,
            "box": 1 / epoch,
            "lr": 1e-3 / epoch,
            "images_per_second": 3.0,
            "seconds": 1.0,
        }
        found.append({"kind": "tick"} | both)
        more = {"val_loss": 2.5 / epoch, "val_box": 1.0, "AP": 0.1 * epoch, "AP50": 0.2 * epoch, "AR1": None} if validated else {}
        found.append({"kind": "epoch"} | both | more)
    return found


def test_series() -> None:
    log = lines()
    assert curves.losses(log) == {"train": [(e, 2 / e) for e in range(1, 5)], "validation": [(e, 2.5 / e) for e in range(1, 5)]}
    assert list(curves.metrics(log)) == ["AP", "AP50"]
    assert curves.metrics(log)["AP"] == [(e, pytest.approx(0.1 * e)) for e in range(1, 5)]
    assert curves.metrics(lines(validated=False)) == {}
    assert len(curves.rates(log)["learning rate"]) == 4


@pytest.mark.parametrize(
    "log", [[], lines(1), lines(), lines(80), lines(3, validated=False), [{"kind": "tick", "iteration": 3, "loss": None, "lr": 0.0}]]
)
def test_any_log_is_drawn(log: list[dict]) -> None:
    picture = curves.draw(log, title="runs/0001")
    assert picture.height == curves.HEIGHT
    assert picture.width % curves.WIDTH == 0
    if len(log) > 1:
        assert np.asarray(picture).min() < 100
    if any("AP" in line for line in log):
        assert picture.width == 3 * curves.WIDTH


def test_ticks() -> None:
    assert curves._ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert curves._ticks(0, 37)[-1] == 40
    assert curves._log_ticks(0.3, 3) == pytest.approx([0.2, 0.5, 1, 2, 5])
    assert len(curves._log_ticks(1, 1)) >= 2


def test_saved_beside_the_log(tmp_path: Path) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines()) + '{"kind": "tick", "cut'
    (tmp_path / "log.jsonl").write_text(text)
    assert Image.open(curves.save(tmp_path)).format == "PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "log.jsonl"]
