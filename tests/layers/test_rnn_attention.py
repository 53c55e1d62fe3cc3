"""Attention computed by a network over a sequence: soft, and hard with its sampled gradient."""

import pytest
import torch
import torch.nn.functional as F

from cvtool.layers.rnn_attention import AdditiveAttention
from cvtool.losses.reinforce import reinforce


@pytest.mark.system("rnn-attention")
def test_a_small_network_computes_the_weights_and_they_sum_to_1():
    layer, query, memory = AdditiveAttention(6, 4, 8), torch.randn(3, 6), torch.randn(3, 5, 4)
    context, weights = layer(query, memory)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3))
    for b in range(3):
        e = torch.stack(
            [layer.score.weight[0] @ (layer.of_query.weight @ query[b] + layer.of_query.bias + layer.of_memory.weight @ m).tanh() for m in memory[b]]
        )
        torch.testing.assert_close(weights[b], e.softmax(0))
        torch.testing.assert_close(context[b], sum(w * m for w, m in zip(weights[b], memory[b], strict=True)))
    many, rows = layer(query[:, None].expand(-1, 2, -1), memory)  # one sequence against another
    torch.testing.assert_close(many, context[:, None].expand(-1, 2, -1))
    assert rows.shape == (3, 2, 5)


@pytest.mark.system("rnn-attention")
def test_what_is_masked_gets_no_weight():
    layer = AdditiveAttention(6, 4)
    mask = torch.tensor([[True, True, False, False, True]])
    _, weights = layer(torch.randn(1, 6), torch.randn(1, 5, 4), mask)
    assert weights[0, 2:4].tolist() == [0, 0]
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0))


@pytest.mark.system("rnn-attention")
def test_hard_attention_looks_at_one_position_with_the_soft_ones_probabilities():
    torch.manual_seed(0)
    layer, query, memory = AdditiveAttention(6, 4), torch.randn(1, 6), torch.randn(1, 5, 4)
    weights = layer.weights(query, memory)[0]
    drawn = layer.hard(query.expand(4000, -1), memory.expand(4000, -1, -1))
    assert torch.equal(drawn.context, memory[0, drawn.place])  # one of them, not a mixture
    torch.testing.assert_close(drawn.log_probability, weights.log()[drawn.place])
    share = F.one_hot(drawn.place, 5).float().mean(0)
    assert ((share - weights).abs() < 4 * (weights * (1 - weights) / 4000).sqrt()).all()
    layer.eval()
    assert int(layer.hard(query, memory).place) == int(weights.argmax())


@pytest.mark.system("rnn-attention")
@pytest.mark.parametrize("baseline", [0.0, "mean"])
def test_the_sampled_gradients_mean_is_the_exact_one(baseline):
    """A toy case whose expectation can be written down: the cost of each of five places is known, E = sum_i p_i cost_i."""
    torch.manual_seed(1)
    layer, query, memory = AdditiveAttention(3, 2, 4), torch.randn(1, 3), torch.randn(1, 5, 2)
    cost = torch.tensor([3.0, 1.0, 4.0, 1.5, 9.0])
    (layer.weights(query, memory)[0] * cost).sum().backward()
    exact = layer.of_query.weight.grad.clone()
    count, repeats = 1000, 40
    base = float((layer.weights(query, memory)[0] * cost).sum()) if baseline == "mean" else 0.0
    samples = []
    for _ in range(repeats):
        layer.zero_grad()
        drawn = layer.hard(query.expand(count, -1), memory.expand(count, -1, -1))
        reinforce(drawn.log_probability, cost[drawn.place], baseline=base).backward()
        samples.append(layer.of_query.weight.grad.clone())
    sampled = torch.stack(samples)
    error = sampled.std(0) / repeats**0.5
    assert ((sampled.mean(0) - exact).abs() < 4.5 * error + 1e-6).all()
    assert (error < 0.05 * exact.abs().max()).all()  # and that says something


@pytest.mark.system("rnn-attention")
def test_a_baseline_takes_noise_away():
    torch.manual_seed(0)
    scores = torch.zeros(4, requires_grad=True)
    cost = torch.tensor([10.0, 11.0, 12.0, 13.0])

    def noise(baseline):
        found = []
        for _ in range(200):
            log = scores.log_softmax(0)
            place = log.exp().multinomial(16, replacement=True)
            (gradient,) = torch.autograd.grad(reinforce(log[place], cost[place], baseline=baseline), scores)
            found.append(gradient)
        return float(torch.stack(found).var(0).sum())

    assert noise(11.5) < 0.1 * noise(0.0)


@pytest.mark.system("rnn-attention")
@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_both_learn_to_read_a_sequence_backwards(hard):
    from cvtool.render.figures.rnn_attention import learned

    weights, right, drawn = learned(5, 120, hard=hard)
    assert right > 0.9
    assert [int(row.argmax()) for row in weights] == [4, 3, 2, 1, 0]
    assert weights.sum(1) == pytest.approx(1)
    if hard:
        assert drawn.sum(1) == pytest.approx(1)
        assert [int(row.argmax()) for row in drawn] == [4, 3, 2, 1, 0]
