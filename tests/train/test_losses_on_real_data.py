"""Chosen losses and a teacher in real runs on real pictures."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from cvtool.tasks import train as task


@pytest.fixture(scope="module")
def cifar(data, tmp_path_factory) -> Path:
    """Six pictures of each class, as folders."""
    folder = tmp_path_factory.mktemp("cifar")
    with tarfile.open(data / "cifar10" / "cifar10_jpg_test.tar.gz") as archive:
        for member in archive:
            _, *place = member.name.split("/")
            if member.isfile() and int(Path(member.name).stem) < 6:
                target = folder.joinpath(*place)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
    return folder


def epochs(run: Path) -> list[dict]:
    return [line for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if line["kind"] == "epoch"]


def layers(**settings):
    return {"layers": [{"augment": "none", "seed": 0, "ema": 0.0} | settings]}


@pytest.mark.system("distillation")
def test_a_student_learns_from_a_published_teacher(data, cifar, tmp_path):
    """Of 60 pictures, most of which the teacher knows, the student comes to say what the teacher says."""
    import torch

    from cvtool import weights
    from cvtool.data import source
    from cvtool.data.dataset import Dataset

    teacher = f"resnet.20@{data / 'checkpoints' / 'classification' / 'resnet20_cifar10-12fca82f.th'}"
    told = layers(step="distill", teacher=teacher, distill_weight=0.9, epochs=14, batch_size=16, lr=1e-2)
    run = task.train("resnet.tiny", cifar, output=tmp_path / "runs", **told)
    first, *_, last = epochs(run)
    assert set(first) > {"cross_entropy", "distillation"}
    assert last["distillation"] < 0.7 * first["distillation"]
    student, _ = weights.load(str(run))
    master, _ = weights.load(teacher)
    records, _, categories = source.read({"data": cifar})
    samples = [Dataset(records, categories, needs=("labels",))[i] for i in range(len(records))]
    batch = student.prepare([s.pixels for s in samples], [s.target for s in samples])
    with torch.inference_mode():
        said, known = student.logits(batch.images).argmax(1), master.logits(batch.images).argmax(1)
    assert (known == student.truth(batch)).float().mean() > 0.7
    assert (said == known).float().mean() > 0.5  # of ten classes


@pytest.mark.system("weighted-ce")
@pytest.mark.system("dice")
def test_a_segmenter_learns_nuclei_with_the_gaps_between_them_raised(data, tmp_path):
    folder = tmp_path / "nuclei"
    for kind in ("images", "labels"):
        files = sorted((data / "nuclei" / "train" / kind).iterdir())[:4]
        for file in files:
            target = folder / kind / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    told = layers(loss="dice+0.5*weighted-ce", epochs=12, batch_size=2, img_size=96, lr=1e-2)
    run = task.train("unet.tiny", folder, output=tmp_path / "runs", **told)
    first, *_, last = epochs(run)
    assert last["dice"] < 0.75 * first["dice"]
    assert last["weighted_ce"] < 0.75 * first["weighted_ce"]


def test_another_loss_trains_a_classifier(cifar, tmp_path):
    run = task.train("resnet.tiny", cifar, output=tmp_path / "runs", **layers(loss="focal:gamma=1+0.1*hinge", epochs=3))
    first, *_, last = epochs(run)
    assert last["focal"] < first["focal"]
    assert first["loss"] == pytest.approx(first["focal"] + first["hinge"])
