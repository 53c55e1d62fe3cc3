"""Statistics of layers against numbers worked out by hand; and that looking changes nothing."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from cvtool.train.statistics import Statistics


class Small(nn.Module):
    """48 -> 6 -> ReLU -> 3; unit 0 of the hidden layer never fires."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.act, self.last = nn.Linear(48, 6), nn.ReLU(), nn.Linear(6, 3)
        with torch.no_grad():
            self.hidden.bias[0] = -100.0

    def losses(self, batch):
        x = self.last(self.act(self.hidden(batch.images.flatten(1))))
        return {"class": nn.functional.cross_entropy(x, torch.stack([target.labels[0] for target in batch.targets]))}


def lines(loop) -> list[dict]:
    return [json.loads(line) for line in loop.log.path.read_text().splitlines()]


def test_figures(make_loop, toys) -> None:
    loop = make_loop(model=Small, optimizer="sgd", lr=0.1, epochs=1, loader=toys.Pictures(4, 4), weight_decay=0.0)
    model = loop.step.model
    batch = toys.Pictures(4, 4).item([int(name[0]) for name in next(toys.Pictures(4, 4).epoch(0)).names]).batch
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    hidden = model.hidden(batch.images.flatten(1))
    gradients = dict(zip(before, torch.autograd.grad(model.losses(batch)["class"], list(model.parameters())), strict=True))
    loop.statistics = Statistics(model, 1)
    loop.run()
    found = next(line for line in lines(loop) if line["kind"] == "statistics")
    assert (found["epoch"], found["iteration"]) == (1, 1)
    assert list(found["layers"]) == ["hidden", "act", "last"]
    for layer in ("hidden", "last"):
        own = [f"{layer}.weight", f"{layer}.bias"]
        size = torch.cat([before[name].flatten() for name in own]).norm().item()
        slope = torch.cat([gradients[name].flatten() for name in own]).norm().item()
        figures = found["layers"][layer]
        assert figures["weight"] == pytest.approx(size, rel=1e-5)
        assert figures["gradient"] == pytest.approx(slope, rel=1e-5)
        assert figures["update"] == pytest.approx(0.1 * slope / size, rel=1e-4)  # the first turn of SGD moves by lr g
    act = hidden.clamp(min=0)
    assert found["layers"]["act"] == pytest.approx({
        "mean": act.mean().item(), "std": act.std(correction=0).item(), "zeros": (act == 0).float().mean().item(),
        "dead": (act == 0).all(0).float().mean().item(),
    }, rel=1e-4)  # fmt: skip
    assert found["layers"]["act"]["dead"] >= 1 / 6
    assert found["layers"]["hidden"]["dead"] == 0
    total = torch.cat([value.flatten() for value in gradients.values()]).norm().item()
    assert found["gradient"] == pytest.approx(total, rel=1e-5)
    assert found["squared_norm"] == pytest.approx(sum(p.detach().square().sum().item() for p in model.parameters() if p.ndim > 1), rel=1e-4)


def test_it_looks_when_due_and_changes_nothing(make_loop, toys) -> None:
    runs = []
    for every in (0, 2):
        loop = make_loop(model=lambda: toys.Toy(noisy=True), epochs=2, accumulate=2)
        loop.statistics = Statistics(loop.step.model, every) if every else None
        loop.run()
        runs.append(loop)
    assert all(torch.equal(a, b) for a, b in zip(runs[0].step.model.parameters(), runs[1].step.model.parameters(), strict=True))
    assert [line["iteration"] for line in lines(runs[1]) if line["kind"] == "statistics"] == [1, 3]
    assert not any(module._forward_hooks for module in runs[1].step.model.modules())
    with pytest.raises(ValueError, match="at least 1"):
        Statistics(nn.Linear(1, 1), 0)


def test_maps_and_tokens_count_channels() -> None:
    model = nn.ModuleDict({"maps": nn.ReLU(), "tokens": nn.ReLU(), "called_twice": nn.Identity()})
    statistics = Statistics(model, 1)
    maps = torch.ones(2, 4, 3, 3)
    maps[:, 1] = -1
    tokens = torch.ones(2, 7, 5)
    tokens[..., :2] = 0
    with statistics.watching():
        model["maps"](maps)
        model["tokens"](tokens)
        model["called_twice"](torch.zeros(3))
        model["called_twice"](torch.ones(3))
    found = statistics.after()["layers"]
    assert (found["maps"]["dead"], found["maps"]["zeros"], found["maps"]["mean"]) == (0.25, 0.25, 0.75)
    assert found["tokens"]["dead"] == pytest.approx(0.4)
    assert found["called_twice"]["mean"] == 0.5
