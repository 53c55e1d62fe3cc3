"""The six losses for filled holes, by plain loops."""

from __future__ import annotations

import pytest
import torch

from cvtool.layers.features import shared
from cvtool.losses.irregular_holes import LAYERS, irregular_holes

H = 16


@pytest.fixture
def example():
    torch.manual_seed(0)
    made, target = torch.rand(2, 3, H, H), torch.rand(2, 3, H, H)
    hole = torch.zeros(2, 1, H, H, dtype=torch.bool)
    hole[0, :, 2:7, 3:9] = True
    hole[1, :, 10:16, 0:4] = True
    return made.requires_grad_(), target, hole


@pytest.fixture
def features():
    return shared("vgg.tiny@none")


@pytest.mark.system("partial-conv")
def test_each_term_by_its_equation_times_its_weight(example, features):
    made, target, hole = example
    terms = irregular_holes(made, target, hole, features=features)
    made = made.detach()
    comp = torch.where(hole, made, target)
    count = target.numel()
    assert list(terms) == ["valid", "hole", "perceptual", "style_out", "style_comp", "tv"]
    assert terms["valid"].item() == pytest.approx(float(((made - target) * ~hole).abs().sum()) / count, rel=1e-5)
    assert terms["hole"].item() == pytest.approx(6 * float(((made - target) * hole).abs().sum()) / count, rel=1e-5)
    seen, styles = 0.0, {}
    for name, picture in (("style_out", made), ("style_comp", comp)):
        styles[name] = 0.0
        for own, theirs in zip(features(picture, LAYERS), features(target, LAYERS), strict=True):
            seen += float((own - theirs).abs().sum()) / theirs.numel()
            for a, b in zip(own, theirs, strict=True):
                channels, size = len(a), a.numel()
                difference = a.flatten(1) @ a.flatten(1).T - b.flatten(1) @ b.flatten(1).T
                styles[name] += float(difference.abs().sum()) / size / channels**2 / 2
    assert terms["perceptual"].item() == pytest.approx(0.05 * seen, rel=1e-4)
    for name, value in styles.items():
        assert terms[name].item() == pytest.approx(120 * value, rel=1e-3)
    seams = 0.0
    for b in range(2):
        region = {(y + i, x + j) for y, x in hole[b, 0].nonzero().tolist() for i in (-1, 0, 1) for j in (-1, 0, 1)}
        for y in range(H):
            for x in range(H):
                for down, right in ((1, 0), (0, 1)):
                    if {(y, x), (y + down, x + right)} <= region and y + down < H and x + right < H:
                        seams += float((comp[b, :, y + down, x + right] - comp[b, :, y, x]).abs().sum())
    assert terms["tv"].item() == pytest.approx(0.1 * seams / count, rel=1e-4)


@pytest.mark.system("partial-conv")
def test_losses_look_at_out_and_at_comp(example, features):
    """A change outside of the hole is in out alone, one in the hole in both."""
    made, target, hole = example
    with torch.no_grad():
        outside = torch.where(hole, target, made)
        inside = torch.where(hole, made, target)
        for picture, zero in (
            (outside, {"hole", "style_comp"}),
            (inside, {"valid"}),
            (target, {"valid", "hole", "perceptual", "style_out", "style_comp"}),
        ):
            terms = irregular_holes(picture, target, hole, features=features)
            assert {name for name, value in terms.items() if value == 0} == zero


def test_the_gradient_reaches_what_was_made_and_nothing_else(example, features):
    made, target, hole = example
    torch.stack(list(irregular_holes(made, target, hole, features=features).values())).sum().backward()
    assert (made.grad != 0).any(1).all()
    assert all(p.grad is None for p in features.model.parameters())
