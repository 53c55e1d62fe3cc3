"""`cvtool visualize --augment`: what training would see, in a folder and as a contact sheet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvtool.__main__ import main


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    pixels = np.zeros((100, 140, 3), np.uint8)
    pixels[30:70, 20:60] = (30, 60, 90)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[::-1].copy()).save(tmp_path / "b.png")
    document = {
        "images": [{"id": i, "file_name": f"{name}.png", "width": 140, "height": 100} for i, name in enumerate("ab", 1)],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [20, 30, 40, 40], "area": 1600, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "car"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(document))
    return tmp_path / "coco.json"


@pytest.mark.system("aug-basic")
@pytest.mark.system("random-erasing")
@pytest.mark.system("randaugment")
@pytest.mark.parametrize("text", ["flip:1,rotate:20,sharpness:2,contrast:0.5", "randaugment:2,9", "erasing:1,fill=noise", "mixup:1", "cutmix:1"])
def test_a_contact_sheet_and_a_folder(coco: Path, capsys, monkeypatch, text: str) -> None:
    monkeypatch.chdir(coco.parent)
    words = ["visualize", str(coco), "--augment", text, "--samples", "3", "--scale", "1"]
    assert main([*words, "-o", "seen/", "--grid", "sheet.png"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [Path(line["file_name"]).name for line in lines]
    assert sorted(names) == ["a-1.png", "a-2.png", "a-3.png", "b-1.png", "b-2.png", "b-3.png"]
    assert {Path(line["source"]).name for line in lines} == {"a.png", "b.png"}
    sizes = set()
    for line in lines:
        with Image.open(line["file_name"]) as picture:
            sizes.add(picture.size)
    assert all(width >= 140 and height >= 100 for width, height in sizes)
    with Image.open("sheet.png") as sheet:
        assert sheet.width * sheet.height > 6 * 140 * 100  # six pictures stand in it
    assert main([*words, "--grid", "again.png"]) == 0  # the same seed: the same sheet
    assert main([*words, "--grid", "other.png", "--seed", "5"]) == 0
    assert Path("again.png").read_bytes() == Path("sheet.png").read_bytes()
    assert Path("other.png").read_bytes() != Path("sheet.png").read_bytes()


def test_one_sample_goes_to_one_file_and_eight_are_the_default(coco: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(coco.parent)
    assert main(["visualize", "a.png", "--augment", "flip:1", "--samples", "1", "--scale", "1", "--no-labels", "-o", "one.png"]) == 0
    assert np.array_equal(np.asarray(Image.open("one.png")), np.asarray(Image.open("a.png"))[:, ::-1])
    assert main(["visualize", "a.png", "--augment", "flip", "-o", "eight/"]) == 0
    assert len(list(Path("eight").iterdir())) == 8
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.png", "--samples", "3", "-o", "x/"], "--samples has no effect without --augment"),
        (["a.png", "--seed", "3", "-o", "x/"], "--seed has no effect without --augment"),
        (["coco.json", "--augment", "flip", "--gt", "coco.json", "-o", "x/"], "exclude each other"),
        (["a.png", "--augment", "flpi", "-o", "x/"], "did you mean flip"),
        (["a.png", "--augment", "mixup", "-o", "x/"], "there is only one"),
        (["a.png", "--augment", "repeated:2", "-o", "x/"], "repeated has no effect"),
        (["a.png", "--augment", "flip", "-o", "x.png"], "more than one picture"),
        (["roi", "a.png", "--augment", "flip", "--box", "1,1,20,20"], "--augment has no effect on the figure 'roi'"),
    ],
)
def test_errors(coco: Path, capsys, monkeypatch, words: list[str], said: str) -> None:
    monkeypatch.chdir(coco.parent)
    assert main(["visualize", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_figure_keeps_its_own_samples(coco: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(coco.parent)
    for samples in ("1", "4"):
        assert main(["visualize", "roi", "a.png", "--box", "20,30,60,70", "--samples", samples, "-o", f"roi{samples}.png"]) == 0, (
            capsys.readouterr().err
        )
    assert Path("roi1.png").read_bytes() != Path("roi4.png").read_bytes()
