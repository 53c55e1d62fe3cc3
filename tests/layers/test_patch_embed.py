"""Patches and words as tokens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtool.layers.patch_embed import PatchEmbed, TokenEmbed


@pytest.mark.system("patch-embed")
@settings(max_examples=25)
@given(st.sampled_from([2, 4, 5]), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_a_convolution_of_stride_p_is_flattening_times_a_matrix(patch, rows, columns, inputs):
    layer = PatchEmbed(patch, 7, inputs=inputs)
    torch.nn.init.normal_(layer.proj.bias)
    x = torch.randn(2, inputs, rows * patch, columns * patch)
    tokens, grid = layer(x)
    assert grid == (rows, columns)
    flat = x.unflatten(3, (columns, patch)).unflatten(2, (rows, patch)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # B N C*P*P
    assert flat.shape == (2, rows * columns, inputs * patch * patch)
    matrix = layer.proj.weight.flatten(1).t()  # W_E: P^2 C x D
    torch.testing.assert_close(tokens, flat @ matrix + layer.proj.bias, atol=1e-4, rtol=1e-4)


@pytest.mark.system("patch-embed")
def test_224_in_patches_of_16_are_196_tokens():
    tokens, grid = PatchEmbed(16, 8)(torch.zeros(1, 3, 224, 224))
    assert tokens.shape == (1, 196, 8)
    assert grid == (14, 14)


@pytest.mark.system("patch-embed")
def test_words_are_rows_of_a_table():
    layer = TokenEmbed(10, 16)
    made = layer(torch.tensor([[1, 7, 1]]))
    assert made.shape == (1, 3, 16)
    assert torch.equal(made[0, 0], made[0, 2])
    torch.testing.assert_close(made[0, 1], layer.table.weight[7] * 4)
    assert 0.5 < float(TokenEmbed(2000, 64).table.weight.std()) * 8 < 1.5
