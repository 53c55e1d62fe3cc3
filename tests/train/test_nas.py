"""The architecture controller: its probabilities, its gradient, and that it finds the one best cell."""

import itertools

import pytest
import torch

from cvtool.errors import UsageError
from cvtool.tasks.search import space_of
from cvtool.train.nas import Controller, Search

SPACE = {"kernel": [1, 3, 5], "width": [8, 16], "norm": ["batch", "none"]}


def cells():
    return [dict(zip(SPACE, values, strict=True)) for values in itertools.product(*SPACE.values())]


@pytest.mark.system("nas")
def test_probabilities_of_all_architectures_sum_to_one():
    torch.manual_seed(0)
    controller = Controller(SPACE)
    shares = [controller.probability(cell) for cell in cells()]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert max(shares) / min(shares) < 1.5  # at first it has no opinion


@pytest.mark.system("nas")
def test_the_gradient_is_reinforce_with_a_baseline():
    """Its mean over all architectures, weighted by their probability, is the gradient of the expected reward, whatever the baseline."""
    torch.manual_seed(0)
    controller = Controller(SPACE).double()
    chosen = torch.cartesian_prod(*(torch.arange(len(values)) for values in SPACE.values()))
    rewards = torch.arange(len(chosen), dtype=torch.float64)
    log_p = controller(chosen)[1]
    exact = torch.autograd.grad((log_p.exp() * rewards).sum(), controller.heads[0].weight, retain_graph=True)[0]
    for baseline in (0.0, 5.0):
        score = torch.autograd.grad((log_p.exp().detach() * log_p * (rewards - baseline)).sum(), controller.heads[0].weight, retain_graph=True)[0]
        assert torch.allclose(score, exact, atol=1e-12)


@pytest.mark.system("nas")
def test_the_best_cell_becomes_likely():
    best = {"kernel": 3, "width": 16, "norm": "batch"}
    search = Search(SPACE, seed=1, batch=8)
    before = search.controller.probability(best)
    for _ in range(150):
        search.turn(lambda cell: 1.0 if cell == best else 0.2 * sum(cell[name] == best[name] for name in best) / 3)
    assert before < 0.2
    assert search.controller.probability(best) > 0.9
    assert search.controller.likeliest() == best


def test_a_space_as_it_is_typed():
    assert space_of("depth=2|3; width=16|32;norm=batch|none") == {"depth": [2, 3], "width": [16, 32], "norm": ["batch", "none"]}
    for wrong in ("", "depth", "depth=2", "=1|2;"):
        with pytest.raises(UsageError):
            space_of(wrong)
