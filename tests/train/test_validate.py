"""Validation: losses as means over pictures, COCO's AP, and a model that is left as it was."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from cvtool.batch import Batch, Prepare
from cvtool.data import synth
from cvtool.data.dataset import Dataset
from cvtool.data.loader import Loader
from cvtool.results import Boxes
from cvtool.train.log import Log
from cvtool.train.validate import Validation, truth


class Oracle(nn.Module):
    """Knows the truth of every picture it is shown, in order; its norm would move in train mode."""

    result = Boxes

    def __init__(self, answers: list[Boxes]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.answers, self.asked, self.modes = answers, 0, []

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.norm(batch.images)
        self.modes.append(self.training)
        return {"count": torch.tensor([float(len(t)) for t in batch.targets or []]).mean()}

    def predict(self, batch: Batch) -> list[Boxes]:
        found = self.answers[self.asked : self.asked + len(batch)]
        self.asked += len(batch)
        return found


def test_a_perfect_model_scores_one_and_is_left_alone() -> None:
    dataset = Dataset(synth.shapes(5, 48, seed=1), synth.CATEGORIES)
    targets = [dataset[i].target for i in range(5)]
    oracle = Oracle([Boxes(t.boxes, t.labels, torch.ones(len(t))) for t in targets]).train()
    before = {key: value.clone() for key, value in oracle.state_dict().items()}
    checks: list[int] = []
    loader = Loader(dataset, Prepare(resize="longest", size=64), batch_size=2, shuffle=False)
    values = Validation(loader, device=torch.device("cpu"), kind="boxes", check=lambda: checks.append(1))(oracle)
    assert values["AP"] == pytest.approx(1.0)
    assert values["val_loss"] == values["val_count"] == pytest.approx(sum(map(len, targets)) / 5)
    assert all(value == value for value in values.values())
    assert oracle.modes == [False] * 3
    assert oracle.training
    assert len(checks) == 3
    assert all(torch.equal(value, before[key]) for key, value in oracle.state_dict().items())


def test_truth_keeps_crowds_and_the_training_ids() -> None:
    records = synth.shapes(2, 48, seed=1)
    records[0]["annotations"].append({"bbox": [1, 1, 9, 9], "category_id": 77, "category": "square", "iscrowd": 1})
    document = truth(Dataset(records, synth.CATEGORIES))
    assert [image["id"] for image in document["images"]] == [1, 2]
    crowd = [a for a in document["annotations"] if a["iscrowd"]]
    assert [(a["image_id"], a["category_id"], a["area"]) for a in crowd] == [(1, 2, 81)]
    assert len({a["id"] for a in document["annotations"]}) == len(document["annotations"])


def test_a_log_keeps_what_was_saved_and_cuts_the_rest(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    log = Log(path)
    log.write(kind="tick", loss=1 / 3, bad=float("nan"))
    size = log.tell()
    log.write(kind="tick", loss=2.0)
    log.close()
    assert json.loads(path.read_text().splitlines()[0]) == {"kind": "tick", "loss": 0.3333333, "bad": None}
    again = Log(path, keep=size)
    again.write(kind="epoch", loss=3.0)
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [0.3333333, 3.0]
