"""The curves of a run: what is drawn, and that any log gives a picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvtool.errors import UsageError
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


def noisy(count: int = 40) -> list[tuple[float, float]]:
    draw = np.random.default_rng(0)
    return [(float(i), float(2 + draw.normal())) for i in range(count)]


@pytest.mark.system("ema")
def test_two_averages() -> None:
    points = noisy()
    values = np.array([y for _, y in points])
    averaged, windowed = curves.averaged(points, decay=0.9), curves.windowed(points, width=7)
    for n in range(len(points)):
        shares = 0.1 * 0.9 ** np.arange(n, -1, -1)
        assert averaged[n] == (n, pytest.approx((shares * values[: n + 1]).sum() / shares.sum()))
        assert windowed[n] == (n, pytest.approx(values[max(0, n - 6) : n + 1].mean()))
    impulse = [(0.0, 0.0)] * 60 + [(1.0, 1.0), (2.0, 0.0), (3.0, 0.0)]
    assert [y for _, y in curves.averaged(impulse, decay=0.1)[-3:]] == pytest.approx([0.9, 0.09, 0.009])  # 90 %, 9 %, 0.9 %
    assert [y for _, y in curves.windowed(impulse, width=2)[-3:]] == [0.5, 0.5, 0.0]
    assert curves.averaged(points, decay=0.0) == points
    assert curves.windowed(points, width=1) == points


@pytest.mark.parametrize("text", ["ema:1", "ema:-0.1", "window:0", "mean:3", "ema:a", "window:2.5"])
def test_no_such_average(text: str) -> None:
    with pytest.raises(UsageError, match="--smooth"):
        curves.smoothers(text)


@pytest.mark.system("ema")
def test_runs_side_by_side() -> None:
    runs = {"runs/0001": lines(6), "runs/0002": lines(3), "runs/0003": lines(3, validated=False)}
    for times, log in enumerate(runs.values(), 1):
        for line in log:
            line |= {key: line[key] * times for key in ("loss", "val_loss", "lr") if key in line}
    plain = curves.compare(runs)
    assert plain.size == (4 * curves.WIDTH, curves.HEIGHT)
    both = curves.compare(runs, "ema:0.9,window:20")
    assert both.size == plain.size
    assert np.asarray(both).tobytes() != np.asarray(plain).tobytes()
    pixels = np.asarray(plain).reshape(-1, 3).astype(int)
    for colour in curves.COLOURS[:3]:  # one a run
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert (np.abs(pixels - wanted).max(1) < 12).sum() > 50
    assert curves.compare({"a": lines(3, validated=False)}).width == 2 * curves.WIDTH
    assert curves.compare({str(i): lines(2) for i in range(12)}).height == curves.HEIGHT  # more runs than colours


def test_statistics_have_a_panel() -> None:
    log = lines(3)
    looked = [
        {"kind": "statistics", "iteration": i, "gradient": 1.0 / i, "layers": {"a": {"update": 1e-3}, "b": {"update": 2e-3}, "c": {"mean": 0.0}}}
        for i in (1, 11, 21)
    ]
    found = curves.gradients([*log, *looked])
    assert found["least update"] == [(pytest.approx(i / 10), 1e-3) for i in (1, 11, 21)]
    assert [y for _, y in found["largest update"]] == [2e-3] * 3
    assert curves.draw([*log, *looked]).width == 4 * curves.WIDTH
    assert curves.gradients(log) == {}
    assert curves.draw([*log, {"kind": "statistics", "iteration": 4, "gradient": None, "layers": {}}]).width == 3 * curves.WIDTH
