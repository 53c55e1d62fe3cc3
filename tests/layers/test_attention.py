"""Attention: the equations, torch's own modules with copied weights, and what follows from its form."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cvtool.layers.attention import MultiHeadAttention, dot_product_attention, scaled_dot_product_attention
from cvtool.ops.attention import attention_weights, causal_mask, entries, watched


def copied(theirs):
    """Ours with torch's weights, key for key."""
    memory = None if theirs._qkv_same_embed_dim else theirs.kdim
    ours = MultiHeadAttention(theirs.embed_dim, theirs.num_heads, memory_channels=memory, bias=theirs.in_proj_bias is not None)
    ours.load_state_dict(theirs.state_dict())
    return ours.eval()


@pytest.mark.system("attention")
def test_dot_product_attention_is_softmax_x_yt_times_y():
    x, y = torch.randn(3, 5, 8), torch.randn(3, 7, 8)
    made = dot_product_attention(x, y)
    for b in range(3):
        for i in range(5):
            scores = [float(x[b, i] @ y[b, j]) for j in range(7)]
            most = max(scores)
            total = sum(math.exp(s - most) for s in scores)
            expected = sum(math.exp(s - most) / total * y[b, j] for j, s in enumerate(scores))
            torch.testing.assert_close(made[b, i], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.system("attention")
@settings(max_examples=25)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 16), st.integers(0, 100))
def test_scaled_attention_is_torchs_and_its_rows_sum_to_1(queries, keys, width, seed):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(2, queries, width, generator=generator), *(torch.randn(2, keys, width, generator=generator) for _ in range(2))
    torch.testing.assert_close(scaled_dot_product_attention(q, k, v), F.scaled_dot_product_attention(q, k, v), atol=1e-5, rtol=1e-4)
    weights = attention_weights(q, k)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, queries))
    torch.testing.assert_close(weights, (q @ k.transpose(1, 2) / math.sqrt(width)).softmax(-1))


@pytest.mark.system("attention")
def test_the_scale_keeps_the_scores_deviation_at_one():
    q, k = torch.randn(200, 512), torch.randn(200, 512)
    assert 0.9 < float((q @ k.t() / math.sqrt(512)).std()) < 1.1
    assert attention_weights(q, k).max() < 0.3 < attention_weights(q, k, scale=1.0).max()  # unscaled, the softmax is all but one key


@pytest.mark.system("attention")
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_multi_head_self_attention_is_torchs_with_copied_weights(heads, bias):
    torch.manual_seed(heads)
    theirs = nn.MultiheadAttention(16, heads, bias=bias, batch_first=True).eval()
    if bias:
        nn.init.normal_(theirs.in_proj_bias), nn.init.normal_(theirs.out_proj.bias)
    ours, x = copied(theirs), torch.randn(2, 9, 16)
    expected, weights = theirs(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(ours(x), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours.weights(x), weights, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours.weights(x).sum(-1), torch.ones(2, heads, 9))


@pytest.mark.system("attention")
@pytest.mark.parametrize("width", [16, 10])
def test_cross_attention_is_torchs_with_copied_weights(width):
    theirs = nn.MultiheadAttention(16, 4, batch_first=True, kdim=width, vdim=width).eval()
    ours, x, memory = copied(theirs), torch.randn(2, 5, 16), torch.randn(2, 7, width)
    expected, weights = theirs(x, memory, memory, average_attn_weights=False)
    torch.testing.assert_close(ours(x, memory), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours.weights(x, memory), weights, atol=1e-6, rtol=1e-5)


@pytest.mark.system("attention")
def test_heads_are_concatenated_then_multiplied_by_w_o():
    layer, x = MultiHeadAttention(12, 3), torch.randn(1, 5, 12)
    q, k, v = (x @ w.t() + b for w, b in zip(layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3), strict=True))  # Q = X W_Q, V = X W_V
    heads = [scaled_dot_product_attention(q[..., i : i + 4], k[..., i : i + 4], v[..., i : i + 4]) for i in (0, 4, 8)]
    torch.testing.assert_close(layer(x), layer.out_proj(torch.cat(heads, -1)), atol=1e-6, rtol=1e-5)


@pytest.mark.system("attention")
@settings(max_examples=25)
@given(st.permutations(range(7)))
def test_it_is_permutation_equivariant(order):
    layer, x = MultiHeadAttention(8, 2), torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x[:, list(order)]), layer(x)[:, list(order)], atol=1e-5, rtol=1e-4)
    memory = torch.randn(2, 5, 8)
    torch.testing.assert_close(layer(x, memory.flip(1)), layer(x, memory), atol=1e-5, rtol=1e-4)  # keys in any order


@pytest.mark.system("attention")
def test_masks_are_torchs():
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    ours, x = copied(theirs), torch.randn(2, 6, 8)
    allowed = causal_mask(6)
    expected, weights = theirs(x, x, x, attn_mask=~allowed, average_attn_weights=False)
    torch.testing.assert_close(ours(x, mask=allowed), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours(x, causal=True), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours.weights(x, causal=True), weights, atol=1e-6, rtol=1e-5)
    assert not ours.weights(x, causal=True)[..., ~allowed].any()


@pytest.mark.system("attention")
@pytest.mark.parametrize("kind", ["ours", "torch", "timm"])
def test_the_weights_of_any_network_can_be_watched(kind):
    x = torch.randn(2, 6, 16)
    if kind == "ours":
        layer = MultiHeadAttention(16, 4).eval()
        expected = layer.weights(x)
    elif kind == "torch":
        layer = nn.MultiheadAttention(16, 4, batch_first=True).eval()
        _, expected = layer(x, x, x, average_attn_weights=False)
    else:
        from timm.layers import Attention

        layer = Attention(16, num_heads=4, qkv_bias=True).eval()
        q, k, _ = layer.qkv(x).reshape(2, 6, 3, 4, 4).permute(2, 0, 3, 1, 4)
        expected = attention_weights(q, k)
    with watched() as seen, torch.no_grad():
        answer = layer(x, x, x, need_weights=False)[0] if kind == "torch" else layer(x)
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], expected, atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, x, x, need_weights=False)[0] if kind == "torch" else layer(x), answer)  # and nothing is changed


def test_watching_understands_masks():
    q, k, v = torch.randn(3, 1, 2, 5, 4)
    with watched() as seen:
        F.scaled_dot_product_attention(q, k, v, is_causal=True)
        F.scaled_dot_product_attention(q, k, v, attn_mask=causal_mask(5))
        F.scaled_dot_product_attention(q, k, v, attn_mask=torch.zeros(5, 5).masked_fill(~causal_mask(5), -math.inf), scale=0.5)
    assert torch.equal(seen[0], seen[1])
    assert not seen[2][..., ~causal_mask(5)].any()


@pytest.mark.system("patch-embed")
def test_entries_of_attention_over_pixels():
    assert entries(224 * 224) == 2_517_630_976
    assert entries(224 * 224) * 2 == pytest.approx(5.04e9, rel=1e-3)  # bytes in fp16
    assert entries(224 * 224, heads=8, layers=12) * 2 == pytest.approx(483.4e9, rel=1e-4)
    assert entries(196) == 38_416


def test_channels_that_heads_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="shared out"):
        MultiHeadAttention(10, 3)
