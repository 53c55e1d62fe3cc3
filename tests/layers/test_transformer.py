"""The transformer's layers against torch's own with copied weights, its masks, and that it learns."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvtool.layers.attention import scaled_dot_product_attention
from cvtool.layers.transformer import Decoder, DecoderLayer, Encoder, EncoderLayer, FeedForward, Transformer
from cvtool.ops.attention import causal_mask

NAMES = {"self_attn": "attention", "multihead_attn": "cross", "linear1": "ffn.linear1", "linear2": "ffn.linear2"}


def renamed(state):
    """torch's names -> ours."""
    out = {}
    for key, value in state.items():
        for theirs, ours in NAMES.items():
            key = key.replace(f"{theirs}.", f"{ours}.")
        out[key] = value
    return out


def shaken(module, seed=0):
    torch.manual_seed(seed)
    for p in module.parameters():
        nn.init.normal_(p, std=0.3)
    return module.eval()


@pytest.mark.system("transformer")
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [True, False], ids=["pre", "post"])
def test_an_encoder_layer_is_torchs(activation, norm_first):
    theirs = shaken(nn.TransformerEncoderLayer(16, 4, 64, 0.1, activation, batch_first=True, norm_first=norm_first))
    ours = EncoderLayer(16, 4, activation=activation, norm_first=norm_first, eps=1e-5).eval()
    ours.load_state_dict(renamed(theirs.state_dict()))
    x = torch.randn(2, 7, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)
        allowed = causal_mask(7)
        torch.testing.assert_close(ours(x, causal=True), theirs(x, src_mask=~allowed), atol=1e-5, rtol=1e-5)


@pytest.mark.system("transformer")
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [True, False], ids=["pre", "post"])
def test_a_decoder_layer_is_torchs(activation, norm_first):
    theirs = shaken(nn.TransformerDecoderLayer(16, 4, 64, 0.1, activation, batch_first=True, norm_first=norm_first))
    ours = DecoderLayer(16, 4, activation=activation, norm_first=norm_first, eps=1e-5).eval()
    ours.load_state_dict(renamed(theirs.state_dict()))
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 9, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, memory, causal=False), theirs(x, memory), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours(x, memory), theirs(x, memory, tgt_mask=~causal_mask(5)), atol=1e-5, rtol=1e-5)


@pytest.mark.system("transformer")
@pytest.mark.parametrize("norm_first", [True, False], ids=["pre", "post"])
def test_the_whole_is_torchs(norm_first):
    theirs = shaken(nn.Transformer(16, 2, 2, 2, 64, 0.0, batch_first=True, norm_first=norm_first))
    ours = Transformer(16, 2, encoder_layers=2, decoder_layers=2, activation="relu", norm_first=norm_first, eps=1e-5).eval()
    if not norm_first:  # torch normalises once more behind a post-norm stack
        theirs.encoder.norm = theirs.decoder.norm = None
    ours.load_state_dict(renamed(theirs.state_dict()))
    source, target = torch.randn(2, 9, 16), torch.randn(2, 5, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours(source, target), theirs(source, target, tgt_mask=~causal_mask(5)), atol=1e-5, rtol=1e-5)


@pytest.mark.system("transformer")
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_feed_forward_network_is_two_kernel_1_convolutions(activation):
    linear, conv = FeedForward(8, activation=activation), FeedForward(8, activation=activation, form="conv")
    assert linear.linear1.weight.shape == (32, 8)  # D -> 4 D
    assert linear.linear2.weight.shape == (8, 32)
    conv.load_state_dict({key: value[..., None] if key.endswith("weight") else value for key, value in linear.state_dict().items()})
    x = torch.randn(2, 6, 8)
    torch.testing.assert_close(conv(x), linear(x))
    function = F.gelu if activation == "gelu" else F.relu
    expected = function(x @ linear.linear1.weight.t() + linear.linear1.bias) @ linear.linear2.weight.t() + linear.linear2.bias
    torch.testing.assert_close(linear(x), expected)


@pytest.mark.system("transformer")
@pytest.mark.parametrize("norm_first", [True, False], ids=["pre", "post"])
def test_layers_are_their_equations(norm_first):
    x, memory = torch.randn(1, 4, 8), torch.randn(1, 6, 8)
    layer = shaken(DecoderLayer(8, 2, norm_first=norm_first))
    n1, n2, n3 = layer.norm1, layer.norm2, layer.norm3
    if norm_first:
        h = x + layer.attention(n1(x), causal=True)
        h = h + layer.cross(n2(h), memory)
        h = h + layer.ffn(n3(h))
    else:
        h = n1(x + layer.attention(x, causal=True))
        h = n2(h + layer.cross(h, memory))
        h = n3(h + layer.ffn(h))
    torch.testing.assert_close(layer(x, memory), h)


@pytest.mark.system("transformer")
@pytest.mark.parametrize("place", range(6))
def test_output_i_does_not_depend_on_later_tokens(place):
    decoder = shaken(Decoder(2, 8, 2))
    x, memory = torch.randn(1, 6, 8), torch.randn(1, 3, 8)
    other = x.clone()
    other[:, place + 1 :] = torch.randn(1, 5 - place, 8)
    made, changed = decoder(x, memory), decoder(other, memory)
    torch.testing.assert_close(made[:, : place + 1], changed[:, : place + 1])
    if place < 5:
        assert not torch.allclose(made[:, place + 1 :], changed[:, place + 1 :])
        assert not torch.allclose(decoder(x, memory, causal=False)[:, 0], decoder(other, memory, causal=False)[:, 0])  # the full mask sees them


@pytest.mark.system("transformer")
def test_both_forms_of_the_causal_mask_agree_after_renormalising():
    q, k, v = torch.randn(3, 2, 7, 16, dtype=torch.float64)
    allowed = causal_mask(7)
    assert torch.equal(allowed, torch.tensor([[j <= i for j in range(7)] for i in range(7)]))
    infinite = scaled_dot_product_attention(q, k, v, mask=allowed, form="-inf")
    zero = scaled_dot_product_attention(q, k, v, mask=allowed, form="zero")
    torch.testing.assert_close(infinite, zero)
    torch.testing.assert_close(infinite, F.scaled_dot_product_attention(q, k, v, is_causal=True))
    torch.testing.assert_close(infinite[:, 0], v[:, 0])  # the first token sees itself alone


@pytest.mark.system("transformer")
def test_encoder_and_decoder_learn_to_reverse_a_sequence():
    from cvtool.layers.decoder import shifted
    from cvtool.layers.patch_embed import TokenEmbed
    from cvtool.layers.positional import Sinusoidal

    torch.manual_seed(0)
    words, start = 6, 6
    embed, positions, net, out = (
        TokenEmbed(words + 1, 32),
        Sinusoidal(32),
        Transformer(32, 4, encoder_layers=1, decoder_layers=1),
        nn.Linear(32, words),
    )
    parameters = [p for m in (embed, net, out) for p in m.parameters()]
    optimizer = torch.optim.Adam(parameters, 5e-3)

    def logits(said):
        target = said.flip(1)
        return out(net(positions(embed(said)), positions(embed(shifted(target, start))))), target

    for _ in range(120):
        found, target = logits(torch.randint(words, (24, 5)))
        loss = F.cross_entropy(found.flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found, target = logits(torch.randint(words, (100, 5)))
    assert (found.argmax(-1) == target).float().mean() > 0.95


def test_stochastic_depth_grows_with_depth_and_sleeps_at_evaluation():
    encoder = Encoder(4, 8, 2, drop_path=0.4)
    assert [layer.drop_path.rate for layer in encoder.layers] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    x = torch.randn(3, 5, 8)
    assert torch.equal(encoder.eval()(x), encoder(x))
    assert not torch.equal(encoder.train()(x), encoder(x))
