"""The decoder token by token: the same numbers as all at once."""

import pytest
import torch

from cvtool.layers.incremental import Incremental
from cvtool.layers.transformer import Decoder
from cvtool.ops.attention import watched


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("memory_channels", [16, 24])
def test_equals_the_causal_decoder_on_all_tokens_at_once(norm_first, memory_channels):
    torch.manual_seed(0)
    decoder = Decoder(2, 16, 4, norm_first=norm_first, memory_channels=memory_channels, dropout=0.3).eval()
    memory, x = torch.randn(3, 7, memory_channels), torch.randn(3, 5, 16)
    with torch.no_grad(), watched() as seen:
        whole = decoder(x, memory)
    with torch.no_grad():
        step = Incremental(decoder, memory, 5)
        for i in range(5):
            torch.testing.assert_close(step(x[:, i : i + 1])[:, 0], whole[:, i])
            torch.testing.assert_close(step.looked, seen[-1].mean(1)[:, i])


def test_goes_on_with_those_that_are_selected():
    torch.manual_seed(0)
    decoder = Decoder(2, 16, 4).eval()
    memory, x = torch.randn(3, 7, 16), torch.randn(3, 4, 16)
    order = torch.tensor([2, 0, 0])
    with torch.no_grad():
        whole = decoder(torch.cat([x[order, :2], x[:, 2:]], 1), memory[order])
        step = Incremental(decoder, memory, 4)
        step(x[:, :1]), step(x[:, 1:2])
        step.select(order)
        step(x[:, 2:3])
        torch.testing.assert_close(step(x[:, 3:])[:, 0], whole[:, 3])
