"""Every verb that writes records into every verb that reads them, on photographs: what arrives, not only that it does.

A row a pair, so that a new verb is one line in each table. The commands run in this process; that bytes pass real pipes is in test_pipes.py.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from cvtool.__main__ import main

SIZE = 192
Records = list[dict[str, Any]]

PRODUCERS = {
    "detect": "detect photos -m viola-jones",
    "segment": "segment photos -m unet.small@nuclei",
    "classify": "classify photos -m resnet.tiny@none",
    "embed": "embed photos -m handcrafted",
    "inpaint": "inpaint photos --box 10,10,20,20 -o filled/",
    "generate": "generate -m dcgan.small@omniglot -n 2 -o drawn/",
    "ocr": "ocr photos --conf 0.95",
    "visualize": "visualize photos --scale 1 -o shown/",
    "ground-truth": "data convert truth.json - --to jsonl",
}
OBJECTS = ("detect", "segment", "ocr", "ground-truth")  # whose records say where something is


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs with a box each."""
    root = tmp_path_factory.mktemp("pipes")
    (root / "photos").mkdir()
    images, boxes = [], []
    for number, name in enumerate(("astronaut", "coffee"), 1):
        Image.fromarray(getattr(skimage.data, name)()).resize((SIZE, SIZE)).save(root / "photos" / f"{name}.png")
        images.append({"id": number, "file_name": f"photos/{name}.png", "width": SIZE, "height": SIZE})
        boxes.append({"id": number, "image_id": number, "category_id": 1, "bbox": [70, 20, 50, 60], "area": 3000, "iscrowd": 0})
    (root / "truth.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}))
    return root


@pytest.fixture(scope="module")
def produced(folder: Path) -> dict[str, str]:
    """What each producer has written, made when it is first asked for."""
    return {}


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`run("embed - -m handcrafted", stdin=text)` -> stdout."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CVTOOL_OFFLINE", "1")

    def line(words: str, stdin: str = "") -> str:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()
        code = main([*words.split(), "-q"])
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out

    return line


@pytest.fixture
def source(run, produced: dict[str, str]) -> Callable[[str], str]:
    def made(name: str) -> str:
        if name not in produced:
            produced[name] = run(PRODUCERS[name])
        return produced[name]

    return made


def read(text: str) -> Records:
    return [json.loads(line) for line in text.splitlines()]


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def verbs(record: dict[str, Any]) -> list[str]:
    return [each["verb"] for each in record.get("made_by", [])]


def detected(before: Records, after: Records) -> None:
    for old, new in zip(before, after, strict=True):
        assert all(entry["category"] == "face" and len(entry["bbox"]) == 4 for entry in new["annotations"])
        assert {key: new[key] for key in ("labels", "embedding") if key in old} == {key: old[key] for key in ("labels", "embedding") if key in old}
    if any("astronaut" in record["file_name"] for record in after):
        face = next(record for record in after if "astronaut" in record["file_name"])["annotations"][0]["bbox"]
        assert 60 < face[0] + face[2] / 2 < 100
        assert 20 < face[1] + face[3] / 2 < 70


def segmented(before: Records, after: Records) -> None:
    for new in after:
        height, width = pixels(new["file_name"]).shape[:2]
        assert all(entry["segmentation"]["size"] == [height, width] for entry in new["annotations"])
        assert {entry["category"] for entry in new["annotations"]} <= {"nuclei", "background"}


def classified(before: Records, after: Records) -> None:
    for old, new in zip(before, after, strict=True):
        scores = [entry["score"] for entry in new["labels"]]
        assert scores == sorted(scores, reverse=True)
        assert 0 < sum(scores) <= 1 + 1e-6
        assert new.get("annotations") == old.get("annotations")


def embedded(before: Records, after: Records) -> None:
    from cvtool.tasks.embed import embed

    for old, new in zip(before, after, strict=True):
        (alone,) = embed(_records([new["file_name"]]), "handcrafted")
        assert new["embedding"] == pytest.approx(alone["embedding"])
        assert new.get("annotations") == old.get("annotations")


def _records(names: list[str]) -> Any:
    from cvtool.records import Record

    return iter([Record(file_name=name) for name in names])


def drawn(before: Records, after: Records) -> None:
    for old, new in zip(before, after, strict=True):
        seen = pixels(new["file_name"])
        assert new["source"] == old["file_name"]
        was = pixels(old["file_name"])
        assert seen.shape[1] >= was.shape[1]  # labels of the whole picture stand beside it
        assert seen.shape[0] >= was.shape[0]
        if old.get("annotations"):
            assert seen.shape != was.shape or (seen != was).any()


def filled(before: Records, after: Records) -> None:
    for old, new in zip(before, after, strict=True):
        was, now = pixels(old["file_name"]), pixels(new["file_name"])
        changed = (was != now).any(-1)
        assert new["source"] == old["file_name"]
        assert changed.mean() < 0.9
        for entry in old.get("annotations", [])[:1]:
            if "segmentation" not in entry:
                x, y, w, h = (int(v) for v in entry["bbox"])
                assert changed[y + 2 : y + h - 2, x + 2 : x + w - 2].any()
        assert not changed[-1].any() or old.get("annotations")


def reading(before: Records, after: Records) -> None:
    for old, new in zip(before, after, strict=True):
        assert [entry["text"] for entry in new["annotations"]] == new["text"].split()
        assert all(len(entry["segmentation"][0]) == 8 for entry in new["annotations"])
        assert new.get("embedding") == old.get("embedding")


CONSUMERS: dict[str, tuple[str, Callable[[Records, Records], None]]] = {
    "detect": ("detect - -m viola-jones", detected),
    "segment": ("segment - -m unet.small@nuclei", segmented),
    "classify": ("classify - -m resnet.tiny@none", classified),
    "embed": ("embed - -m handcrafted", embedded),
    "ocr": ("ocr - --conf 0.95", reading),
    "visualize": ("visualize - --scale 1 -o seen-{name}/", drawn),
    "inpaint": ("inpaint - -o filled-{name}/", filled),
}


@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("producer", PRODUCERS)
def test_what_one_writes_the_other_reads(producer: str, consumer: str, source, run) -> None:
    words, check = CONSUMERS[consumer]
    words = words.format(name=producer)
    if consumer == "inpaint" and producer not in OBJECTS:
        words += " --box 4,4,12,12"
    text = source(producer)
    before, after = read(text), read(run(words, stdin=text))
    assert len(after) == len(before) == 2
    assert not any("error" in record for record in after)
    assert [verbs(new)[: len(verbs(old))] for old, new in zip(before, after, strict=True)] == [verbs(old) for old in before]
    if consumer != "visualize":  # which draws, and where nothing is to be filled inpaint does nothing
        idle = [consumer == "inpaint" and producer in OBJECTS and not record["annotations"] for record in before]
        assert all(still or verbs(record)[-1] == consumer for still, record in zip(idle, after, strict=True))
    check(before, after)


def test_the_rest_is_measured(source, run, folder: Path) -> None:
    """`evaluate` at the end of a pipe: what was found against itself as the truth is perfect."""
    found = source("detect")
    truth = [{**record, "annotations": [{k: v for k, v in e.items() if k != "score"} for e in record["annotations"]]} for record in read(found)]
    (folder / "faces.jsonl").write_text("".join(json.dumps(record) + "\n" for record in truth))
    assert json.loads(run("evaluate --gt faces.jsonl --dt -", stdin=found))["metrics"]["AP"] == pytest.approx(1.0)
    labels = source("classify")
    best = [(record["file_name"], record["labels"][0]["category"]) for record in read(labels)]
    (folder / "best.csv").write_text("file,label\n" + "".join(f"{name},{label}\n" for name, label in best))
    if len({label for _, label in best}) > 1:
        assert json.loads(run("evaluate --gt best.csv --dt -", stdin=labels))["metrics"]["accuracy"] == 1.0
    run("generate -m dcgan.small@omniglot -n 2 -o drawn2/")
    metrics = json.loads(run("evaluate --gt drawn2 --dt drawn2 --metric ssim,psnr"))["metrics"]
    assert metrics["SSIM"] == pytest.approx(1.0)


def test_hits_of_a_search_are_drawn(source, run, folder: Path) -> None:
    run("embed photos -m handcrafted -o photos.npz")
    hits = run("embed --search photos.npz photos/coffee.png --top 2")
    assert [hit["file_name"] for hit in read(hits)[0]["neighbors"]] == ["photos/coffee.png", "photos/astronaut.png"]
    run("visualize - --grid hits.png", stdin=hits)
    assert pixels("hits.png").std() > 0
