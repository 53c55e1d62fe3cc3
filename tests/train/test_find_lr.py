"""The learning-rate range test: its rates, its average, where it ends, and what it finds on a problem whose highest rate is known."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from PIL import Image

from cvtool.errors import CvtoolError
from cvtool.render import curves
from cvtool.train import find_lr


def test_rates_grow_by_a_factor() -> None:
    tried = find_lr.rates(turns=9)
    assert tried[0] == pytest.approx(1e-7)
    assert tried[-1] == pytest.approx(10)
    assert [b / a for a, b in pairwise(tried)] == pytest.approx([10.0] * 8)
    with pytest.raises(ValueError, match="two turns"):
        find_lr.rates(turns=1)


def test_the_average_is_free_of_its_start() -> None:
    found = find_lr.Finding()
    losses = [3.0, 2.0, 5.0, 1.0]
    for loss in losses:
        found.add(0.1, loss)
    d = find_lr.SMOOTH
    for n, value in enumerate(found.smoothed, 1):
        shares = [(1 - d) * d**k for k in range(n)][::-1]
        assert value == pytest.approx(sum(s * loss for s, loss in zip(shares, losses, strict=False)) / sum(shares))


def test_it_ends_at_four_times_the_least() -> None:
    losses = iter([4.0, 3.0, 2.0, 1.0, 2.0, 50.0, 60.0, 70.0])
    found = find_lr.search(lambda rate, item: next(losses), iter(range(8)), find_lr.rates(turns=8))
    assert found.smoothed[-1] > 4 * min(found.smoothed)
    assert all(value <= 4 * min(found.smoothed) for value in found.smoothed[:-1])
    assert list(losses) == [60.0, 70.0]  # these turns were not taken

    def overflow(rate: float, item: int) -> float:
        if item == 3:
            raise CvtoolError("the loss is not finite")
        return 1.0 / (1 + item)

    assert len(find_lr.search(overflow, iter(range(8)), find_lr.rates(turns=8)).losses) == 3
    with pytest.raises(CvtoolError, match="not finite"):
        find_lr.search(lambda rate, item: overflow(rate, 3), iter(range(8)), find_lr.rates(turns=8))


@pytest.mark.system("data-split")
@pytest.mark.parametrize("curvature", [5.0, 50.0])
def test_it_finds_the_rate_of_a_paraboloid(curvature: float, tmp_path) -> None:
    """Gradient descent on c/2 |w|^2 diverges from the rate 2 / c on, and is quickest at 1 / c."""
    draw = torch.Generator().manual_seed(0)
    w = torch.randn(20, generator=draw).double()

    def turn(rate: float, item: int) -> float:
        nonlocal w
        noise = 1 + 0.02 * torch.randn((), generator=draw).item()
        loss = (0.5 * curvature * w.square().sum()).item() * noise
        w = w - rate * curvature * w
        return loss

    found = find_lr.search(turn, iter(range(120)), find_lr.rates(turns=120))
    assert 0.01 / curvature < found.steepest < 2 / curvature
    assert found.steepest < found.least < 20 / curvature  # the average lags behind
    assert found.rates[-1] < 10  # it had diverged before
    path = curves.save_finding(tmp_path / "lr-finder.png", found.rates, found.losses, found.smoothed, found.steepest)
    assert Image.open(path).size == (curves.WIDTH, curves.HEIGHT)
    assert [p.name for p in tmp_path.iterdir()] == ["lr-finder.png"]


def test_a_loss_that_never_falls() -> None:
    found = find_lr.search(lambda rate, item: 1.0 + math.sqrt(rate), iter(range(50)), find_lr.rates(turns=50))
    with pytest.raises(CvtoolError, match="falls at no learning rate"):
        _ = found.steepest
