"""--compile: what of a model is compiled, and that nothing else changes. No code is generated here (dynamo's backend "eager")."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from cvtool.errors import MissingDependency
from cvtool.train import compiled


class Outer(nn.Module):
    """Its losses call the trunk and a head twice, never itself."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(48, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        self.heads = nn.ModuleList([nn.Linear(8, 3), nn.Linear(8, 3)])
        self.unused = nn.Linear(2, 2)

    def losses(self, batch):
        x = self.trunk(batch.images.flatten(1))
        labels = torch.stack([target.labels[0] for target in batch.targets])
        return {f"head{i}": nn.functional.cross_entropy(head(x), labels) for i, head in enumerate([*self.heads, self.heads[0]])}


def test_the_outermost_modules_that_are_called(toys) -> None:
    model, batch = Outer(), toys.Pictures(4, 4).item([0, 1, 2, 3]).batch
    before, random = deepcopy(model.state_dict()), torch.get_rng_state()
    found = compiled.called(model, lambda: model.losses(batch))
    assert found == [model.trunk, *model.heads]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())  # no running statistic moved
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert model.trunk[3].training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    toy = toys.Toy()
    whole = nn.Module()
    whole.net, whole.losses = toy, lambda batch: {"x": toy(batch).mean()}
    assert compiled.called(whole, lambda: whole.losses(batch)) == [toy]


def test_a_compiled_run_is_the_same_run(make_loop, toys, monkeypatch) -> None:
    plain, loop = make_loop(model=lambda: toys.Toy(norm=True), ema=0.9), make_loop(model=lambda: toys.Toy(norm=True), ema=0.9)
    names: list[list[str]] = []

    def begin(batch) -> None:
        model = loop.step.model
        names.append(compiled.apply(model, lambda: model.losses(batch), fixed=True, backend="eager"))

    loop.begin = begin
    plain.run()
    loop.run()
    assert names == [["norm", "linear"]]  # the toy's losses call `forward`, which is no call of the module
    assert loop.step.model.linear._compiled_call_impl is not None
    assert list(loop.step.state_dict()["model"]) == list(plain.step.state_dict()["model"])
    for key, value in loop.step.state_dict()["model"].items():
        assert torch.allclose(value, plain.step.state_dict()["model"][key]), key
    assert loop.step.evaluated.linear._compiled_call_impl is None


def test_no_compiler(monkeypatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    with pytest.raises(MissingDependency, match=r"C\+\+ compiler") as error:
        compiled.check(torch.device("cpu"))
    assert error.value.exit_code == 5
    monkeypatch.setattr(compiled.shutil, "which", lambda name: "/usr/bin/" + name)
    compiled.check(torch.device("cpu"))
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="Triton"):
        compiled.check(torch.device("cuda"))


def test_by_the_recipe(tmp_path, monkeypatch) -> None:
    from cvtool.data import synth
    from cvtool.tasks import train as task

    data = synth.write_shapes(tmp_path, 4, 48, seed=1)
    monkeypatch.setattr(compiled, "apply", partial(compiled.apply, backend="eager"))
    told: list[str] = []

    class Told(task.Reporter):
        def detail(self, text: str) -> None:
            told.append(text)

    task.train("retinanet.tiny", data, output=tmp_path / "runs", device="cpu", layers=[{"steps": 2, "compile": True}], reporter=Told())
    assert any(line.startswith("compiled: ") for line in told)
