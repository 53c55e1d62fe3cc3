"""Partial convolution by its equation, window by window, and against an ordinary convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cvtool.layers.partial_conv import PartialConv


def layer(inputs=3, outputs=4, kernel=3, stride=1):
    torch.manual_seed(0)
    made = PartialConv(inputs, outputs, kernel, stride)
    torch.nn.init.normal_(made.bias)
    return made


@pytest.mark.system("partial-conv")
@pytest.mark.parametrize(("kernel", "stride", "channels"), [(3, 1, 1), (5, 2, 1), (3, 2, 3)])
def test_each_window_is_w_x_m_times_sum_1_over_sum_m_plus_b(kernel, stride, channels):
    conv = layer(kernel=kernel, stride=stride)
    x, mask = torch.randn(2, 3, 9, 7), (torch.rand(2, channels, 9, 7) < 0.25).float()
    mask[0, :, :6, :6] = 0  # windows in which nothing is known
    with torch.no_grad():
        out, new = conv(x, mask)
    pad = kernel // 2
    ones = F.pad(torch.ones(3, 9, 7), (pad,) * 4)  # the zeros around the picture are no holes: a full mask has them too
    wide, known = F.pad(x, (pad,) * 4), F.pad(mask.expand(-1, 3, -1, -1), (pad,) * 4)
    empty = 0
    for b in range(2):
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                window = slice(i * stride, i * stride + kernel), slice(j * stride, j * stride + kernel)
                m = known[b][(slice(None), *window)]
                if not m.sum():
                    expected, empty = torch.zeros(4), empty + 1
                else:
                    seen = (conv.conv.weight * (wide[b][(slice(None), *window)] * m)).sum((1, 2, 3)).detach()
                    expected = seen * ones[(slice(None), *window)].sum() / m.sum() + conv.bias.detach()
                torch.testing.assert_close(out[b, :, i, j], expected, atol=1e-5, rtol=1e-5)
                assert new[b, 0, i, j] == float(m.sum() > 0)
    assert empty


@pytest.mark.system("partial-conv")
def test_where_all_is_known_it_is_a_convolution():
    conv = layer(kernel=5, stride=2)
    x = torch.randn(2, 3, 12, 10)
    with torch.no_grad():
        out, new = conv(x, torch.ones(2, 1, 12, 10))
        plain = F.conv2d(x, conv.conv.weight, conv.bias, 2, 2)
    torch.testing.assert_close(out, plain)
    assert torch.equal(new, torch.ones(2, 1, 6, 5))


@pytest.mark.system("partial-conv")
def test_what_lies_in_the_hole_is_never_seen():
    conv = layer()
    mask = (torch.rand(1, 1, 8, 8) < 0.5).float()
    x = torch.randn(1, 3, 8, 8)
    other = torch.where(mask > 0, x, 1e3 * torch.randn(1, 3, 8, 8))
    with torch.no_grad():
        assert torch.equal(conv(x, mask)[0], conv(other, mask)[0])


@pytest.mark.system("partial-conv")
def test_the_mask_is_updated_by_a_convolution_of_ones():
    """And is full after enough of them: each closes a hole by the kernel's half from all sides."""
    conv = layer(inputs=3, outputs=3)
    mask = torch.ones(1, 1, 15, 15)
    mask[:, :, 3:12, 4:13] = 0
    x, left = torch.randn(1, 3, 15, 15), []
    with torch.no_grad():
        for _ in range(5):
            by_ones = (F.conv2d(mask, torch.ones(1, 1, 3, 3), padding=1) > 0).float()
            x, mask = conv(x, mask)
            assert torch.equal(mask, by_ones)
            left.append(int((mask == 0).sum()))
    assert left == [49, 25, 9, 1, 0]


def test_counts_are_exact_in_any_precision():
    """bfloat16 has 8 bits, and a window of 64 x 49 numbers more than that."""
    conv = layer(inputs=64, outputs=2, kernel=7)
    x = torch.randn(1, 64, 9, 9)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        out, _ = conv(x, torch.ones(1, 64, 9, 9))
        plain = F.conv2d(x, conv.conv.weight, None, 1, 3)
    torch.testing.assert_close(out, plain.float() + conv.bias[:, None, None], atol=1e-6, rtol=1e-6)
