"""Each optimiser against the printed formula in plain numbers, and against torch's own where it is the same."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from cvtool.errors import UsageError
from cvtool.train import optim, optimizers
from cvtool.train.optimizers.newton import Newton

START = (2.0, -1.5)
SCALES = torch.tensor([1.0, 25.0])  # curvatures of a canyon


def canyon(p: torch.Tensor) -> torch.Tensor:
    return 0.5 * (SCALES.to(p) * p.square()).sum()


def slope(th: np.ndarray) -> np.ndarray:
    return SCALES.double().numpy() * th


def walk(optimizer, p: nn.Parameter, turns: int, *, rates=None, loss=canyon) -> np.ndarray:
    """The places after each turn, T D."""
    places = []
    for turn in range(turns):
        for group in optimizer.param_groups:
            group["lr"] = rates[turn] if rates is not None else group["lr"]
        optimizer.zero_grad()
        value = loss(p)
        if getattr(optimizer, "needs_loss", False):
            optimizer.curvature(value)
        value.backward()
        optimizer.step()
        places.append(p.detach().double().numpy().copy())
    return np.array(places)


def path(text: str, turns: int = 40, *, lr: float = 0.02, rates=None, loss=canyon, **options) -> np.ndarray:
    p = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    return walk(optim.make(text, lr=lr, **options)([p]), p, turns, rates=rates, loss=loss)


def torchs(cls, turns: int = 40, *, lr: float = 0.02, rates=None, loss=canyon, **options) -> np.ndarray:
    p = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    return walk(cls([p], lr=lr, **options), p, turns, rates=rates, loss=loss)


def plain(update, turns: int = 40) -> np.ndarray:
    """The printed formula: `update(th, t, memory) -> th` with a memory of its own."""
    th, memory, places = np.array(START), {}, []
    for turn in range(turns):
        th = update(th, turn, memory)
        places.append(th)
    return np.array(places)


RATES = [0.02 / (1 + turn) for turn in range(40)]


# ---- sgd, momentum, nesterov ---------------------------------------------------------------------------------------


@pytest.mark.system("sgd")
def test_sgd_is_a_step_down_the_gradient():
    assert np.allclose(path("sgd", momentum=0.0), plain(lambda th, t, m: th - 0.02 * slope(th)))
    assert np.allclose(path("sgd", momentum=0.9), torchs(torch.optim.SGD, momentum=0.9))


@pytest.mark.system("momentum")
def test_momentum_has_the_rate_inside_of_the_velocity():
    def update(rates):
        def one(th, t, memory):
            memory["v"] = 0.9 * memory.get("v", 0) - rates[t] * slope(th)
            return th + memory["v"]

        return one

    assert np.allclose(path("momentum", momentum=0.9), plain(update([0.02] * 40)))
    assert np.allclose(path("momentum", rates=RATES), plain(update(RATES)))


@pytest.mark.system("momentum")
def test_momentum_is_torchs_at_a_constant_rate_and_not_else():
    assert np.allclose(path("momentum"), torchs(torch.optim.SGD, momentum=0.9), atol=1e-12)
    assert np.abs(path("momentum", rates=RATES) - torchs(torch.optim.SGD, momentum=0.9, rates=RATES)).max() > 0.1


@pytest.mark.system("nesterov")
@pytest.mark.parametrize("rates", [[0.02] * 40, RATES], ids=["constant", "falling"])
def test_both_forms_of_nesterov_walk_the_same_way(rates):
    def update(th, t, memory):
        v = memory.get("v", np.zeros(2))
        memory["v"] = 0.9 * v - rates[t] * slope(th + 0.9 * v)
        memory["ahead"] = th + memory["v"] + 0.9 * memory["v"]
        return th + memory["v"]

    ahead = []

    def remembered(th, t, memory):
        th = update(th, t, memory)
        ahead.append(memory["ahead"])
        return th

    looked = plain(remembered)
    assert np.allclose(path("nesterov:form=lookahead", rates=rates), looked)
    assert np.allclose(path("nesterov", rates=rates), np.array(ahead))  # th' = th + mu v


@pytest.mark.system("nesterov")
def test_both_forms_of_nesterov_reach_the_bottom_of_the_canyon():
    for text in ("nesterov:form=shifted", "nesterov:form=lookahead"):
        assert np.abs(path(text, 400)[-1]).max() < 1e-6
    assert np.allclose(path("nesterov:shifted"), torchs(torch.optim.SGD, momentum=0.9, nesterov=True), atol=1e-12)


def test_lookahead_shows_its_own_weights_between_turns_and_stays_where_a_turn_is_left_out():
    p = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = optim.make("nesterov:form=lookahead", lr=0.02)([p])
    walk(optimizer, p, 3)
    between = p.detach().clone()
    optimizer.zero_grad()
    ahead = p.detach().clone()
    assert not torch.equal(between, ahead)
    optimizer.zero_grad()
    assert torch.equal(p, ahead)
    canyon(p).backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match="zero_grad"):
        optimizer.step()


# ---- rates of their own for each weight ----------------------------------------------------------------------------


@pytest.mark.system("adagrad")
def test_adagrad():
    sums = []

    def update(th, t, memory):
        memory["s"] = memory.get("s", 0) + slope(th) ** 2
        sums.append(memory["s"])
        return th - 0.5 / (np.sqrt(memory["s"]) + 1e-10) * slope(th)  # eps outside of the root

    assert np.allclose(path("adagrad", lr=0.5), plain(update))
    assert np.allclose(path("adagrad", lr=0.5), torchs(torch.optim.Adagrad, lr=0.5))
    assert np.abs(path("adagrad:eps=1", lr=0.5) - path("adagrad", lr=0.5)).max() > 0.01
    p = nn.Parameter(torch.tensor(START))
    optimizer = optim.make("adagrad", lr=0.5)([p])
    before = torch.zeros(2)
    for _ in range(20):
        walk(optimizer, p, 1)
        assert (optimizer.state[p]["sum"] >= before).all()  # s never decreases
        before = optimizer.state[p]["sum"].clone()
    assert np.allclose(before, sums[19], rtol=1e-4)


@pytest.mark.system("rmsprop")
def test_rmsprop():
    def update(beta):
        def one(th, t, memory):
            memory["s"] = beta * memory.get("s", 0) + (1 - beta) * slope(th) ** 2
            return th - 0.02 / (np.sqrt(memory["s"]) + 1e-8) * slope(th)

        return one

    assert np.allclose(path("rmsprop"), plain(update(0.9)))
    assert np.allclose(path("rmsprop:beta=0.99"), plain(update(0.99)))
    assert np.allclose(path("rmsprop"), torchs(torch.optim.RMSprop, alpha=0.9))
    assert np.abs(path("rmsprop") - torchs(torch.optim.RMSprop)).max() > 0.01  # torch's alpha is 0.99


def adam(*, debias: bool, decoupled: float = 0.0, coupled: float = 0.0, lr: float = 0.02):
    def one(th, t, memory):
        g = slope(th) + coupled * th
        memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
        memory["s"] = 0.999 * memory.get("s", 0) + 0.001 * g**2
        by = (1 - 0.9 ** (t + 1), 1 - 0.999 ** (t + 1)) if debias else (1, 1)
        return th - lr * decoupled * th - lr / (np.sqrt(memory["s"] / by[1]) + 1e-8) * (memory["m"] / by[0])

    return one


@pytest.mark.system("adam")
def test_adam_with_and_without_debiasing():
    assert np.allclose(path("adam"), plain(adam(debias=True)))
    assert np.allclose(path("adam"), torchs(torch.optim.Adam))
    first = path("adam", 1)[0] - np.array(START)
    assert np.allclose(first, -0.02 * np.sign(slope(np.array(START))), atol=1e-6)  # lr sign(g)
    for told in (path("adam:debias=false"), path("adam", debias=False)):
        assert np.allclose(told, plain(adam(debias=False)))
    assert np.abs(path("adam", debias=False) - path("adam")).max() > 0.1
    assert np.allclose((path("adam", 1, debias=False)[0] - np.array(START)) / first, 0.1 / np.sqrt(0.001), rtol=1e-5)
    assert np.abs(path("adam:beta1=0.5", 40) - path("adam", 40)).max() > 0.01


def decayed(text: str, cls=None, *, weight_decay: float = 0.3, **options) -> np.ndarray:
    """As `path` and `torchs`, on a matrix, which decays."""
    p = nn.Parameter(torch.tensor([START], dtype=torch.float64))
    make = optim.make(text, lr=0.02, weight_decay=weight_decay, **options) if cls is None else partial(cls, lr=0.02, weight_decay=weight_decay)
    return walk(make([p]), p, 40)[:, 0]


@pytest.mark.system("adamw")
def test_adamw_decays_beside_the_averages_and_adam_in_them():
    assert np.allclose(decayed("adamw"), plain(adam(debias=True, decoupled=0.3)))
    assert np.allclose(decayed("adamw"), decayed("", torch.optim.AdamW))
    assert np.allclose(decayed("adam"), plain(adam(debias=True, coupled=0.3)))
    assert np.allclose(decayed("adam"), decayed("", torch.optim.Adam))
    assert np.abs(decayed("adam") - decayed("adamw")).max() > 0.01
    assert np.allclose(decayed("adamw", debias=False), plain(adam(debias=False, decoupled=0.3)))
    assert np.allclose(decayed("adam", debias=False), plain(adam(debias=False, coupled=0.3)))
    assert "lr wd" in " ".join((optimizers.get("adamw").__doc__ or "").split())  # which of the two forms it is


@pytest.mark.system("adamw")
@pytest.mark.system("weight-decay")
@pytest.mark.parametrize("text", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam"])
def test_weight_decay_is_the_gradient_of_half_its_factor_times_the_squared_norm(text):
    """For SGD, L2 in the loss and weight decay are the same; so they are in all that put the decay into g, and in AdamW they are not."""

    def penalised(p):
        return canyon(p) + 0.3 / 2 * p.square().sum()

    def with_penalty(text):
        p = nn.Parameter(torch.tensor([START], dtype=torch.float64))
        return walk(optim.make(text, lr=0.02, weight_decay=0.0)([p]), p, 40, loss=penalised)[:, 0]

    assert np.allclose(decayed(text), with_penalty(text), atol=1e-12)
    assert np.abs(decayed("adamw") - with_penalty("adamw")).max() > 0.01


# ---- newton --------------------------------------------------------------------------------------------------------


@pytest.mark.system("newton")
def test_newton_solves_a_quadratic_in_one_step():
    torch.manual_seed(0)
    a = torch.randn(5, 5, dtype=torch.float64)
    matrix, shift = a @ a.T + torch.eye(5), torch.randn(5, dtype=torch.float64)
    one, two = (nn.Parameter(torch.randn(n, dtype=torch.float64)) for n in (2, 3))
    optimizer = optim.make("newton", lr=1.0)([one, two])

    def loss():
        x = torch.cat([one, two])
        return 0.5 * x @ matrix @ x - shift @ x

    start = torch.cat([one, two]).detach().clone()
    for p in (one, two):
        p.grad = None
    optimizer.curvature(loss())
    loss().backward()
    optimizer.step()
    best = torch.linalg.solve(matrix, shift)
    assert torch.allclose(torch.cat([one, two]), best)
    half = optim.make("newton", lr=0.5)
    with torch.no_grad():
        one.copy_(start[:2]), two.copy_(start[2:])
    optimizer = half([one, two])
    optimizer.zero_grad()
    optimizer.curvature(loss())
    loss().backward()
    optimizer.step()
    assert torch.allclose(torch.cat([one, two]), start + 0.5 * (best - start))  # dx = -lr H^-1 g


@pytest.mark.system("newton")
def test_newton_in_one_dimension():
    p = nn.Parameter(torch.tensor([3.0], dtype=torch.float64))
    places = walk(optim.make("newton", lr=1.0)([p]), p, 8, loss=lambda p: (p**4).sum() + p.square().sum())
    x = 3.0
    for place in places[:, 0]:
        x -= (4 * x**3 + 2 * x) / (12 * x**2 + 2)
        assert place == pytest.approx(x)
    assert abs(x) < 1e-6


@pytest.mark.system("newton")
def test_newton_is_refused_above_its_limit():
    with pytest.raises(UsageError, match=r"11,000,000 weights would take 484 TB") as error:
        Newton([nn.Parameter(torch.empty(11, 1_000_000))], lr=1)
    assert "adamw" in str(error.value)
    with pytest.raises(UsageError, match="9 weights"):
        optim.make("newton:limit=8", lr=1.0)([nn.Parameter(torch.zeros(3, 3))])
    with pytest.raises(RuntimeError, match="curvature"):
        optim.make("newton", lr=1.0)([nn.Parameter(torch.zeros(3, 3))]).step()


def test_newton_weighs_batches_decays_and_leaves_flat_directions_alone():
    torch.manual_seed(0)
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randn(30, dtype=torch.float64)
    w = nn.Parameter(torch.zeros(1, 4, dtype=torch.float64))
    optimizer = optim.make("newton", lr=1.0, weight_decay=0.2)([w])

    def loss(rows):
        return 0.5 * (x[rows] @ w[0] - y[rows]).square().mean()

    for rows in (slice(0, 20), slice(20, 30)):
        part = loss(rows)
        optimizer.curvature(part, len(x[rows]))
        (part * len(x[rows]) / 30).backward()
    optimizer.step()
    ridge = torch.linalg.solve(x.T @ x / 30 + 0.2 * torch.eye(4), x.T @ y / 30)
    assert torch.allclose(w[0], ridge)

    logits = nn.Parameter(torch.zeros(3, dtype=torch.float64))  # a softmax is flat along (1, 1, 1)
    optimizer = optim.make("newton", lr=1.0)([logits])
    for _ in range(8):
        optimizer.zero_grad()
        value = -(torch.tensor([0.5, 0.3, 0.2]) * logits.log_softmax(0)).sum()
        optimizer.curvature(value)
        value.backward()
        optimizer.step()
    assert torch.allclose(logits.softmax(0), torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))
    assert abs(float(logits.sum())) < 1e-9


# ---- by name -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["torch:Adamax", "torch:Adamax:beta1=0.5", "timm:lamb", "torch:Rprop"])
def test_others_of_torch_and_timm(text):
    p = nn.Parameter(torch.tensor([START]))
    before = canyon(p).item()
    walk(optim.make(text, lr=0.02)([p]), p, 30)
    assert canyon(p).item() < before
    assert np.allclose(path("torch:Adamax"), torchs(torch.optim.Adamax))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("adma", "adam"),
        ("xyz", "adagrad, adam, adamw, momentum, nesterov, newton, rmsprop, sgd, torch:NAME, timm:NAME"),
        ("torch:Adamx", "Adamax"),
        ("timm:lam", "lamb"),
        ("keras:adam", "is no optimizer|no name|unknown"),
        ("torch:LBFGS", "it has|did you mean"),
        ("nesterov:form=sideways", "shifted or lookahead"),
        ("adam:lr=3", "no argument 'lr'"),
        ("rmsprop:beta=2", "lies in"),
        ("adam:beta1=1.5", "beta"),
        ("sgd:debias=false", "no argument 'debias'"),
        ("momentum:1.5", "momentum lies in"),
    ],
)
def test_wrong_names_and_values_are_usage_errors(text, said):
    import re

    with pytest.raises(UsageError) as error:
        optim.make(text, lr=0.1)
    assert re.search(said, str(error.value)), str(error.value)


def test_what_a_recipe_may_set():
    assert optim.takes("sgd") == {"momentum", "weight_decay"}
    assert optim.takes("sgd:0.5") == {"weight_decay"}
    assert optim.takes("adamw") == {"debias", "weight_decay"}
    assert optim.takes("adamw:debias=false,weight_decay=0.1") == set()
    assert optim.takes("torch:Rprop") == set()
    assert optim.takes("torch:Adamax") == {"weight_decay"}
    assert optim.taking("momentum") == ["momentum", "nesterov", "sgd"]
    for name in optimizers.names():
        module = optimizers.get(name)
        assert set(module.TAKES) <= set(optim.KEYS)
        assert module.__doc__.strip()
    assert optim.make("sgd:0.5", lr=1)([nn.Parameter(torch.zeros(2))]).param_groups[0]["momentum"] == 0.5


def test_norms_and_biases_do_not_decay():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    model[3].bias.requires_grad_(False)
    made, free = optim.groups(model.parameters(), 0.05)
    assert [p.ndim for p in made["params"]] == [4, 2]
    assert [p.ndim for p in free["params"]] == [1, 1, 1]
    assert (made["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    assert optim.make("sgd", lr=0.1)(model.parameters()).param_groups[0]["momentum"] == 0.9
    rated = optim.make("adamw", lr=0.1, weight_decay=0.05)([{"params": model[0].parameters(), "lr": 0.01}, {"params": model[3].parameters()}])
    found = [(group["lr"], group["weight_decay"], len(group["params"])) for group in rated.param_groups]
    assert found == [(0.01, 0.05, 1), (0.01, 0, 1), (0.1, 0.05, 1), (0.1, 0, 1)]
    with pytest.raises(UsageError, match="frozen"):
        optim.make("sgd", lr=0.1)(model.requires_grad_(False).parameters())


# ---- on a network --------------------------------------------------------------------------------------------------


def network(seed: int = 0, *, kernel: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 3, kernel), nn.Tanh(), nn.Conv2d(3, 4, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def train(model: nn.Module, optimizer, turns: int, *, start: int = 0) -> list[float]:
    found = []
    for turn in range(start, start + turns):
        draw = torch.Generator().manual_seed(turn)
        x, y = torch.randn(8, 3, 7, 7, generator=draw), torch.randint(0, 3, (8,), generator=draw)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        if getattr(optimizer, "needs_loss", False):
            optimizer.curvature(loss)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


TEXTS = [*optimizers.names(), "nesterov:form=lookahead", "adam:debias=false", "adamw:debias=false", "newton:damping=1"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_resumed_optimiser_goes_on_to_the_bit(text, tmp_path):
    kernel = 1 if text.startswith("newton") else 3  # a pass backwards for each weight
    model = network(kernel=kernel)
    make = optim.make(text, lr=0.05, weight_decay=0.01)
    optimizer = make(model.parameters())
    train(model, optimizer, 3)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    expected = train(model, optimizer, 3, start=3)
    other = network(1, kernel=kernel)
    again = make(other.parameters())
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    other.load_state_dict(state["model"])
    again.load_state_dict(state["optimizer"])
    assert train(other, again, 3, start=3) == expected


@pytest.mark.parametrize("text", ["sgd", "adam", "adamw", "adagrad", "momentum", "nesterov", "rmsprop"])
def test_channels_last_weights_step_like_others_however_the_gradient_lies(text):
    plain, last = network(), network().to(memory_format=torch.channels_last)
    one, two = (optim.make(text, lr=0.05, weight_decay=0.1)(model.parameters()) for model in (plain, last))
    for turn in range(3):
        draw = torch.Generator().manual_seed(turn)
        for p, q in zip(plain.parameters(), last.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=draw)
            q.grad = p.grad.clone() if turn < 2 else torch.empty_like(q).copy_(p.grad)
        one.step(), two.step()
        if turn == 0:  # averages that come from a file may lie otherwise, too
            two.load_state_dict(copy.deepcopy(one.state_dict()))
    for p, q in zip(plain.parameters(), last.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)


def test_what_has_no_gradient_stays():
    for text in TEXTS:
        used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
        optimizer = optim.make(text, lr=0.05)([used, unused])
        for _ in range(2):
            optimizer.zero_grad()
            loss = used.square().sum()
            if text.startswith("newton"):
                optimizer.curvature(loss)
            loss.backward()
            optimizer.step()
        assert torch.equal(unused, torch.ones(2, 2)), text
        assert not torch.equal(used, torch.ones(2, 2)), text
