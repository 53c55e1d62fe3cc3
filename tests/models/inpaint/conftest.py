"""Real photographs, small, and how a model that fills holes is taught and asked as a user does it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cvtool.cli import command
from cvtool.tasks import train

SIDE = 64
PLACES = {
    "astronaut.png": [(150, 20), (180, 250)],
    "chelsea.png": [(120, 60), (230, 90)],
    "coffee.png": [(150, 80), (330, 200)],
    "rocket.jpg": [(260, 60), (300, 240)],
}


@pytest.fixture(scope="session")
def photos(data, tmp_path_factory):
    """A folder of eight parts of photographs, 64 x 64."""
    folder = tmp_path_factory.mktemp("photos")
    for name, corners in PLACES.items():
        with Image.open(data / "images_misc_skimage" / name) as image:
            for x, y in corners:
                image.convert("RGB").crop((x, y, x + 2 * SIDE, y + 2 * SIDE)).resize((SIDE, SIDE)).save(folder / f"{name[:5]}-{x}.png")
    return folder


@pytest.fixture
def taught(photos, tmp_path):
    """`taught("deepfill-v2.tiny", 30, lr=1e-3)`: the run's folder and the losses of its epochs, of two turns each."""

    def teach(reference, turns, **settings):
        layer = {"epochs": turns, "batch_size": 4, "save_every": turns} | settings
        folder = train.train(reference, photos, output=tmp_path / "runs", layers=[layer], device="cpu", offline=True)
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return folder, [line for line in lines if line["kind"] == "epoch"]

    return teach


@pytest.fixture
def inpainted(photos, tmp_path):
    """`inpainted(model)`: (the picture before, after, its hole) of `cvtool inpaint` with a mask file."""

    def ask(model, *more):
        source = sorted(photos.glob("*.png"))[0]
        hole = np.zeros((SIDE, SIDE), bool)
        hole[20:40, 24:44] = True
        Image.fromarray(hole).save(tmp_path / "hole.png")
        told = [str(source), "--mask", str(tmp_path / "hole.png"), "-m", str(model), "-o", str(tmp_path / "clean.png"), "-q", "--overwrite", *more]
        done = CliRunner().invoke(command("inpaint"), told)
        assert done.exit_code == 0, done.output
        return np.array(Image.open(source)), np.array(Image.open(tmp_path / "clean.png")), hole

    return ask
