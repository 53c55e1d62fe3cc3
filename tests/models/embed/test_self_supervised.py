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
from cvtool.losses import compose
from cvtool.losses.nt_xent import lowest, nt_xent
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


@pytest.mark.system("simclr")
def test_the_least_that_its_loss_can_be_says_when_pictures_are_known_by_heart(digit_folders, tmp_path):
    """It is not 0, so that --overfit would else never see its end."""
    for count in (2, 5):
        corners = torch.eye(count).double() - 1 / count  # as far apart as so many points of a sphere can be
        same = torch.arange(count).repeat(2)
        for temperature in (0.1, 0.5):
            reached = nt_xent(corners.repeat(2, 1), same, temperature=temperature)
            assert reached.item() == pytest.approx(lowest(count, temperature=temperature), rel=1e-6)
            near = corners.repeat(2, 1) + 0.01 * torch.randn(2 * count, count)
            assert nt_xent(near, same, temperature=temperature) > reached
    bank = -torch.ones(7, 3)
    assert nt_xent(torch.ones(4, 3), torch.arange(2).repeat(2), bank=bank).item() == pytest.approx(lowest(2, bank=7), rel=1e-4)
    model = built("simclr.tiny")
    assert model.lowest(4) == lowest(4)
    model.criterion = compose("2*nt-xent:temperature=0.2", "embeddings")
    assert model.lowest(4) == pytest.approx(2 * lowest(4, temperature=0.2))
    words = ["-m", "simclr.tiny", "--data", str(digit_folders / "train"), "--overfit", "4", "--lr", "0.01", "-o", str(tmp_path / "runs")]
    for key, value in (("views", "turn:5,shift:0.04"), ("dimensions", "32"), ("hidden", "64"), ("backbone", "simple-cnn.tiny")):
        words += ["--set", f"{key}={value}"]
    said = CliRunner().invoke(command("train"), [*words, "--device", "cpu"])
    assert said.exit_code == 0, said.output
    assert "learned by heart" in said.output
    assert f"{lowest(4):.3g} is the least there can be" in said.output


def test_one_picture_alone_cannot_be_told_from_any(png, tmp_path):
    png("alone/a.png")
    with pytest.raises(UsageError, match="one alone"):
        task.train("simclr.tiny", tmp_path / "alone", output=tmp_path / "runs", device="cpu", layers=[{"epochs": 1}])
    png("alone/b.png", seed=1)
    with pytest.raises(UsageError, match="one alone"):
        task.train("simclr.tiny", tmp_path / "alone", output=tmp_path / "runs", device="cpu", layers=[{"epochs": 1, "batch_size": 1}])
    task.train("simclr.tiny", tmp_path / "alone", output=tmp_path / "runs", device="cpu", layers=[{"epochs": 1, "batch_size": 1, "bank": 4}])


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
