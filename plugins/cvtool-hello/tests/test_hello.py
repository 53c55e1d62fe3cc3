"""Run with `pytest` where cvtool and this plugin are installed."""

import json
import subprocess
import sys

import pytest
from PIL import Image


def cvtool(*words, cwd):
    done = subprocess.run([sys.executable, "-m", "cvtool", *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def lamp(tmp_path):
    """A dark picture with one bright rectangle at x 30..49, y 20..29, and a dimmer one elsewhere."""
    picture = Image.new("RGB", (100, 60), (20, 20, 20))
    picture.paste((250, 250, 240), (30, 20, 50, 30))
    picture.paste((150, 150, 150), (70, 40, 90, 50))
    picture.save(tmp_path / "lamp.png")
    return tmp_path


def test_the_model_finds_the_spot(lamp):
    record = json.loads(cvtool("detect", "lamp.png", "-m", "bright-spot", "--img-size", 100, cwd=lamp))
    (found,) = record["annotations"]
    assert found["category"] == "bright spot"
    assert found["bbox"] == [30, 20, 20, 10]


def test_the_verb(lamp):
    assert cvtool("hello", "lamp.png", cwd=lamp) == "hello lamp.png, you are 100 wide and 60 high\n"


def test_the_format_both_ways(lamp):
    (lamp / "a.boxlines").write_text("lamp.png\tlamp\t30.0\t20.0\t20.0\t10.0\nlamp.png\tshade\t70.0\t40.0\t20.0\t10.0\n")
    cvtool("data", "convert", "a.boxlines", "a.json", cwd=lamp)
    document = json.loads((lamp / "a.json").read_text())
    assert [box["bbox"] for box in document["annotations"]] == [[30, 20, 20, 10], [70, 40, 20, 10]]
    cvtool("data", "convert", "a.json", "b.boxlines", "--to", "boxlines", cwd=lamp)
    assert [line.split("\t")[:2] for line in (lamp / "b.boxlines").read_text().splitlines()] == [["lamp.png", "lamp"], ["lamp.png", "shade"]]
