"""The verbs that show pictures to a model, on real pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def test_a_face_on_a_photograph(cvtool, data: Path) -> None:
    """The main job with what is there after installation: no weights to download."""
    picture = data / "images_misc_skimage" / "astronaut.png"
    done = cvtool("detect", picture, env={"CVTOOL_MODEL": "viola-jones"})
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    (face,) = record["annotations"]
    assert (face["category"], record["width"], record["height"]) == ("face", 512, 512)
    assert face["bbox"] == pytest.approx([175, 70, 93, 93], abs=12)
    assert record["made_by"][0]["model"].startswith("viola-jones")
    assert "1 image, 1 object" in done.stderr


def test_options_from_a_file_and_classes(cvtool, png, tmp_path: Path) -> None:
    png("d/a.png", 200, 120)
    png("d/b.png", 200, 120, seed=2)
    (tmp_path / "c.toml").write_text('model = "faster-rcnn.tiny@none"\nconf = 0.001\n[detect]\nclasses = ["frisbee", "hot dog", "58"]\n')
    done = cvtool("detect", "d", "-c", "c.toml", "-q")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = [entry for line in done.stdout.splitlines() for entry in json.loads(line)["annotations"]]
    assert {entry["category"] for entry in found} <= {"frisbee", "hot dog"}
    assert {entry["category_id"] for entry in found} <= {34, 58}
    first = json.loads(done.stdout.splitlines()[0])
    assert len(first["made_by"][0]["categories"]) == 80  # all that the model knows, not only what was asked for


def test_masks_as_label_maps(cvtool, png, tmp_path: Path) -> None:
    from PIL import Image

    png("d/a.png", 100, 60)
    done = cvtool("segment", "d", "-m", "fcn.tiny@none", "-f", "png", "-o", "labels/")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "labels" / "a.png").size == (100, 60)


def test_verbose_and_deterministic_are_taken(cvtool, png) -> None:
    done = cvtool("detect", png(), "-m", "faster-rcnn.tiny@none", "--deterministic", "-v")
    assert done.returncode == 0, done.stderr
    assert "model faster-rcnn.tiny@none" in done.stderr
    again = cvtool("detect", png(), "-m", "faster-rcnn.tiny@none", "--seed", "3")
    assert again.returncode == 2, "nothing in it is random"
