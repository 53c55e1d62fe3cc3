"""Free-form masks: what a stroke is, what can be told of it, and the files of the verb."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.cli import command
from cvtool.errors import UsageError
from cvtool.ops.freeform import Freeform


class Pen:
    """Writes down what is drawn."""

    def __init__(self):
        self.lines, self.circles = [], []

    def line(self, points, fill, width):
        self.lines.append((points, width))

    def ellipse(self, box, fill):
        self.circles.append(box)


@pytest.mark.system("freeform-mask")
def test_strokes_have_circles_at_their_joints_and_vertices_width_and_angle_as_told():
    form = Freeform(vertices=5, stroke=0.2, length=0.1, angle=60, spread=10)
    counts, turned = set(), []
    for seed in range(60):
        pen = Pen()
        form._stroke(pen, 900, 600, np.random.default_rng(seed))
        ((points, width),) = pen.lines
        assert 40 <= width <= 120  # a third of 0.2 * 600, to all of it
        counts.add(len(points) - 1)
        assert len(pen.circles) == len(points)
        for (x, y), (x0, y0, x1, y1) in zip(points, pen.circles, strict=True):
            assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((x, y))
            assert (x1 - x0, y1 - y0) == pytest.approx((width, width))
        inside = [0 < x < 900 and 0 < y < 600 for x, y in points]
        headings = [math.atan2(d - b, c - a) for (a, b), (c, d) in pairwise(points)]
        for i in range(len(headings) - 1):
            if all(inside[i : i + 3]):
                turned.append(math.degrees((headings[i + 1] - headings[i] + math.pi) % (2 * math.pi) - math.pi))
    assert counts == {1, 2, 3, 4, 5}
    assert len(turned) > 50
    assert all(40 <= abs(turn) <= 80 for turn in turned)  # the angle, by its spread and by that of the stroke
    assert min(turned) < 0 < max(turned)


@pytest.mark.system("freeform-mask")
def test_masks_are_seeded_and_hold_the_share_that_is_told():
    model = weights.build("freeform-mask", categories=[])
    masks = model.sample(4, 7, size="40x30")
    assert masks.shape == (4, 3, 30, 40)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(model.sample(1, 7, start=2, size="40x30")[0], masks[2])
    assert not torch.equal(model.sample(1, 8, size="40x30")[0], masks[0])
    assert model.sample(1, 0).shape == (1, 3, 256, 256)
    means = [float(model.sample(12, 1, size=64, share=share, stroke=0.08).mean((1, 2, 3)).min()) for share in (0.1, 0.3, 0.5)]
    assert all(found >= share for found, share in zip(means, (0.1, 0.3, 0.5), strict=True))
    assert means[0] < 0.25 < means[1] < 0.45
    thin, thick = (float(model.sample(30, 1, size=64, strokes=1, stroke=width).mean()) for width in (0.04, 0.3))
    assert thin < thick / 2


@pytest.mark.system("freeform-mask")
def test_the_verb_writes_masks_of_zero_and_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(verb, words):
        command(verb).main(words.split(), standalone_mode=False)

    run("generate", "-m freeform-mask --n 100 --seed 2 --set size=32x24 --set vertices=3 -o masks/")
    files = sorted((tmp_path / "masks").iterdir())
    assert len(files) == 100
    values, shares = set(), []
    for file in files:
        with Image.open(file) as image:
            assert (image.mode, image.size) == ("1", (32, 24))
            pixels = np.asarray(image).astype(int)
        values |= set(np.unique(pixels).tolist())
        shares.append(pixels.mean())
    assert values == {0, 1}
    assert 0.02 < np.mean(shares) < 0.6
    run("repro", "masks/0042.png -o again.png")
    assert (np.asarray(Image.open("again.png").convert("1")) == np.asarray(Image.open("masks/0042.png"))).all()
    with pytest.raises(UsageError, match="no effect") as caught:
        run("generate", "-m freeform-mask --set corners=3 -o no.png")
    assert "--set vertices=" in caught.value.hint
    for wrong in ("share=2", "vertices=0", "size=4x0", "stroke=wide", "strokes=1.5"):
        with pytest.raises(UsageError):
            run("generate", f"-m freeform-mask --set {wrong} -o no.png")
