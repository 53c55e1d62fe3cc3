"""SimCLR and BYOL: two views, the losses by hand, and features of digits that a linear map reads better than those of the untrained network."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from cvtool import weights
from cvtool.categories import numbered
from cvtool.cli import command
from cvtool.data.formats import npz
from cvtool.errors import UsageError
from cvtool.losses.nt_xent import nt_xent
from cvtool.metrics import _probe
from cvtool.tasks import train as task


def built(reference, **changes):
    torch.manual_seed(0)
    return weights.build(reference, categories=numbered(3), **changes)


def prepared(model, count=5):
    rng = np.random.default_rng(0)
    return model.prepare([rng.integers(0, 255, (20, 20, 3), dtype=np.uint8) for _ in range(count)])


@pytest.mark.system("simclr")
def test_simclr_is_nt_xent_of_two_views():
    model = built("simclr.tiny").train()
    batch = prepared(model)
    torch.manual_seed(3)
    found = model.losses(batch)["nt_xent"]
    torch.manual_seed(3)
    first, second = model.views(batch.images, model.prepare), model.views(batch.images, model.prepare)
    assert not torch.equal(first, second)
    z = model.projector(model.features(torch.cat([first, second])))
    assert [type(layer).__name__ for layer in model.projector if hasattr(layer, "in_features")] == ["Linear", "Linear"]
    torch.testing.assert_close(found, nt_xent(z, torch.arange(5).repeat(2)))
    unit = F.normalize(z.double(), dim=1)
    likeness = torch.exp(unit @ unit.T / 0.5)
    values = [-torch.log(likeness[i, (i + 5) % 10] / (likeness[i].sum() - likeness[i, i])) for i in range(10)]  # its own and 2N - 2 others
    torch.testing.assert_close(found.double(), torch.stack(values).mean(), rtol=1e-5, atol=1e-5)
    model.eval()
    assert torch.equal(model.embed(batch), model.features(batch.images))  # f; g is dropped
    assert model.losses(batch)["nt_xent"] == model.losses(batch)["nt_xent"]
    with pytest.raises(UsageError, match="bank at least 0"):
        built("simclr.tiny", bank=-1)


@pytest.mark.system("byol")
def test_byol_is_the_symmetric_distance_to_a_target_without_gradient():
    model = built("byol.tiny").train()
    assert model.views[0] != model.views[1]  # T and T'
    with torch.no_grad():
        for p in model.target.parameters():
            p.add_(0.3 * torch.randn_like(p))
    batch = prepared(model)
    torch.manual_seed(3)
    loss = model.losses(batch)["byol"]
    torch.manual_seed(3)
    one, other = (view(batch.images, model.prepare) for view in model.views)
    both, swapped = torch.cat([one, other]), torch.cat([other, one])
    said = model.predictor(model.projector(model.features(both))).double()
    truth = model.target["projector"](model._of(model.target["net"], swapped)).double()
    values = [2 - 2 * float(a @ b / a.norm() / b.norm()) for a, b in zip(said, truth, strict=True)]
    assert loss.item() == pytest.approx(sum(values) / 5, rel=1e-4)  # both ways: ten distances of five pictures
    loss.backward()
    assert all(p.grad is None for p in model.target.parameters())
    assert all(p.grad is not None for p in model.predictor.parameters())
    assert set(model.target) == {"net", "projector"}  # the predictor is the online network's alone
    for tau in (-0.1, 1.1):
        with pytest.raises(UsageError, match="is no share"):
            built("byol.tiny", tau=tau)


@pytest.mark.parametrize("name", [pytest.param("simclr", marks=pytest.mark.system("simclr")), pytest.param("byol", marks=pytest.mark.system("byol"))])
def test_a_linear_map_reads_its_features_better_than_random_ones(name, digit_folders, tmp_path, record_property):
    """On 300 real digits without a label; measured on 100 others, whose halves fit and judge a linear map."""
    shape = {"backbone": "simple-cnn:width=12,depth=2", "image_size": 16, "hidden": 64, "dimensions": 32}
    views = {"views": "turn:10,shear:10,scale:0.15,shift:0.08"} | (
        {"other_views": "turn:10,shear:10,scale:0.15,shift:0.08,blur:0.5"} if name == "byol" else {}
    )
    settings = {"epochs": 12, "batch_size": 50, "val_every": 12, "lr": 4e-3, "seed": 1} | shape | views
    run = task.train(f"{name}.tiny", digit_folders, output=tmp_path / "runs", device="cpu", layers=[settings])
    lines = [line for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if line["kind"] == "epoch"]
    assert lines[-1]["loss"] < lines[0]["loss"]
    accuracy = {"trained": lines[-1]["val_probe_accuracy"]}
    found = CliRunner().invoke(command("embed"), [str(digit_folders / "val"), "-m", str(run), "-o", str(tmp_path / "x.npz"), "-q"])
    assert found.exit_code == 0, found.output
    table = npz.table(tmp_path / "x.npz")
    classes = np.array([int(record["file_name"].split("/")[-2]) for record in table.records])
    assert _probe.linear(np.asarray(table.vectors), classes) == pytest.approx(accuracy["trained"], abs=0.03)
    random = built(f"{name}.tiny", **(shape | views)).eval()
    pictures = [record.pixels() for record in table.records]
    accuracy["random"] = _probe.linear(random.embed(random.prepare(pictures)).numpy(), classes)
    record_property("linear probe", accuracy)
    assert accuracy["trained"] > accuracy["random"]
