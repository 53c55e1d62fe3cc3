"""Recurrent layers: the equations, what an LSTM remembers and a plain RNN does not, and decoders of sequences."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvtool.errors import UsageError
from cvtool.layers import decoder as decoders
from cvtool.layers.decoder import decoder, shifted, write
from cvtool.layers.rnn import KINDS, recurrent

LENGTH, ALPHABET, HIDDEN = 50, 4, 16


def sequences(count, generator):
    """Random tokens; the answer to each sequence is its first."""
    return torch.randint(ALPHABET, (count, LENGTH), generator=generator)


def remembered(name, turns, **options):
    """Learn to say the first of 50 tokens, for so many turns or until it is known: (share of right answers, turns)."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    layer, say = recurrent(name, ALPHABET, HIDDEN, **options), nn.Linear(HIDDEN, ALPHABET)
    optimizer = torch.optim.Adam([*layer.parameters(), *say.parameters()], 0.03)
    turn, known = 0, False
    while turn < turns and not known:
        turn += 1
        x = sequences(64, generator)
        states, _ = layer(F.one_hot(x, ALPHABET).float())
        loss = F.cross_entropy(say(states[:, -1]), x[:, 0])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        optimizer.step()
        known = bool(loss < 0.02)
    x = sequences(500, generator)
    with torch.no_grad():
        states, _ = layer(F.one_hot(x, ALPHABET).float())
        return float((say(states[:, -1]).argmax(-1) == x[:, 0]).float().mean()), turn


@pytest.mark.system("rnn-lstm")
def test_an_lstm_says_the_first_of_fifty_tokens_and_a_plain_rnn_fails_at_it():
    right, turns = remembered("lstm", 800, memory=200)
    assert right > 0.9
    right, _ = remembered("rnn", turns)
    assert right < 0.7  # 1 of 4 is chance


@pytest.mark.system("rnn-lstm")
def test_why_the_gradient_of_the_first_token_fades():
    """After 50 steps, next to that of the last token."""
    torch.manual_seed(0)
    share = {}
    for name, options in (("rnn", {}), ("lstm", {"memory": 200})):
        layer = recurrent(name, 8, 32, **options)
        x = torch.randn(1, LENGTH, 8, requires_grad=True)
        layer(x)[0][:, -1].sum().backward()
        share[name] = float(x.grad[0, 0].norm() / x.grad[0, -1].norm())
    assert share["rnn"] < 1e-6 < 1e-3 < share["lstm"]


@pytest.mark.system("rnn-lstm")
def test_the_layers_are_their_equations():
    torch.manual_seed(0)
    x = torch.randn(1, 4, 3)
    layer = recurrent("lstm", 3, 5)
    w, u, b = layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0 + layer.bias_hh_l0
    h = c = torch.zeros(5)
    for t in range(4):
        i, f, g, o = (w @ x[0, t] + u @ h + b).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        torch.testing.assert_close(layer(x)[0][0, t], h)
    layer = recurrent("rnn", 3, 5)
    h = torch.zeros(5)
    for t in range(4):
        h = (layer.weight_ih_l0 @ x[0, t] + layer.weight_hh_l0 @ h + layer.bias_ih_l0 + layer.bias_hh_l0).tanh()
        torch.testing.assert_close(layer(x)[0][0, t], h)


@pytest.mark.system("rnn-lstm")
@pytest.mark.parametrize("name", decoders.NAMES)
def test_each_decoder_learns_to_write_what_the_features_say(name):
    """Four tokens, a feature vector each, in order: written one after the other and ended."""
    torch.manual_seed(0)
    words, end, start, count = 5, 5, 6, 4
    model = decoder(name, 7, 12, 32, layers=1, heads=4)
    table, places = torch.randn(words, 12), torch.randn(count, 12)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    said = torch.randint(words, (24, count))
    features = table[said] + places
    target = torch.cat([said, torch.full((24, 1), end)], 1)
    for _ in range(60):
        logits = model(features, shifted(target, start))
        assert logits.shape == (24, count + 1, 7)
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    written = write(model, features, start=start, end=end, longest=10)
    assert (written[:, : count + 1] == target).float().mean() > 0.9


@pytest.mark.system("rnn-lstm")
@pytest.mark.parametrize("name", decoders.NAMES)
def test_a_decoders_token_depends_on_those_before_it_alone(name):
    model = decoder(name, 7, 12, 16, heads=4).eval()
    features, tokens = torch.randn(2, 3, 12), torch.randint(7, (2, 6))
    other = tokens.clone()
    other[:, 4:] = (other[:, 4:] + 1) % 7
    torch.testing.assert_close(model(features, tokens)[:, :4], model(features, other)[:, :4])
    assert not torch.allclose(model(features, tokens), model(features + 1, tokens))


def test_writing_stops_at_the_end():
    class Says(nn.Module):
        def forward(self, features, tokens):
            logits = torch.zeros(len(tokens), tokens.shape[1], 4)
            logits[0, :, 2 if tokens.shape[1] >= 2 else 1] = 1  # the first: 1, then 2 = END
            logits[1, :, 1] = 1
            return logits

    assert write(Says(), torch.zeros(2, 1, 1), start=0, end=2, longest=4).tolist() == [[1, 2, 2, 2], [1, 1, 1, 1]]
    assert shifted(torch.tensor([[5, 6, 7]]), 0).tolist() == [[0, 5, 6]]


def test_names_and_options():
    assert recurrent("gru", 3, 4, both_ways=True)(torch.zeros(1, 2, 3))[0].shape == (1, 2, 8)
    assert set(KINDS) == {"rnn", "lstm", "gru"}
    plain = recurrent("lstm", 3, 4)
    assert plain.bias_ih_l0[4:8].tolist() == [1] * 4
    assert plain.bias_hh_l0.abs().sum() == 0
    for wrong, match in ((lambda: recurrent("ltsm", 1, 1), "lstm"), (lambda: decoder("transformr", 1, 1), "transformer")):
        with pytest.raises(UsageError) as caught:
            wrong()
        assert match in caught.value.hint
    with pytest.raises(UsageError, match="memory"):
        recurrent("rnn", 1, 1, memory=10)
