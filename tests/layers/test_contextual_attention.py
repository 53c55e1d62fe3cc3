"""Contextual attention: shares by a plain loop, and an exact repeat copied into its hole."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cvtool.layers.contextual_attention import ContextualAttention


def test_shares_by_a_plain_loop():
    """cos of 3 x 3 windows, summed along three neighbours in columns and in rows, softmax over the known."""
    torch.manual_seed(0)
    maps, hole = torch.randn(1, 4, 5, 6), torch.zeros(1, 1, 5, 6)
    hole[0, 0, 1, 1] = 1
    layer = ContextualAttention(rate=1, scale=3.0)
    found, any_source = layer.shares(maps, hole)
    wide = F.pad(maps[0], (1, 1, 1, 1))

    def window(y, x):
        patch = wide[:, y : y + 3, x : x + 3].flatten()
        return patch / patch.norm()

    def inside(y, x):
        return 0 <= y < 5 and 0 <= x < 6

    def likeness(y, x, v, u):
        total = 0.0
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                if inside(y + i, x + j) and inside(v + i, u + j):
                    total += float(window(y + i, x + j) @ window(v + i, u + j))
        return total

    known = torch.tensor([[y > 2 or x > 2 for x in range(6)] for y in range(5)]).flatten()
    assert any_source.tolist() == [True]
    for y, x in ((0, 0), (1, 1), (4, 5)):
        row = torch.tensor([likeness(y, x, v, u) for v in range(5) for u in range(6)])
        wanted = (3 * row).masked_fill(~known, -torch.inf).softmax(0)
        torch.testing.assert_close(found[0, y * 6 + x], wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.system("deepfill-v2")
def test_a_hole_gets_the_patches_that_are_like_its_own():
    """Maps that repeat every 8 columns, and a hole that is blurred a little: it comes back as its exact repeat."""
    torch.manual_seed(0)
    true = torch.randn(1, 6, 16, 8).repeat(1, 1, 1, 4)
    hole = torch.zeros(1, 1, 16, 32)
    hole[:, :, 4:10, 8:12] = 1
    maps = true + 0.2 * hole * torch.randn_like(true)
    out = ContextualAttention(scale=200.0)(maps, hole)
    torch.testing.assert_close(out, true, atol=1e-3, rtol=1e-3)


def test_nothing_is_taken_from_the_hole():
    torch.manual_seed(0)
    layer, maps = ContextualAttention(), torch.randn(2, 3, 16, 16)
    hole = torch.zeros(2, 1, 16, 16)
    hole[0, :, 5:8, 6:9] = 1
    hole[1] = 1  # no source at all
    shares, any_source = layer.shares(maps, hole)
    taken = shares[0].sum(0).view(8, 8)
    assert torch.equal(taken[1:5, 2:6], torch.zeros(4, 4))  # places 2 to 3, 3 to 4 at half the size hold hole, and their neighbours see it
    assert any_source.tolist() == [True, False]
    out = layer(maps, hole)
    assert torch.equal(out[1], maps[1])
    torch.testing.assert_close(shares.sum(2), torch.ones(2, 64))
