"""Verbs joined by real pipes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TINY = "-m faster-rcnn.tiny@none --conf 0.001 --max-det 2"


@pytest.fixture
def shell(tmp_path: Path, environment):
    """`shell("cvtool detect a.png | cvtool ...")` runs a line of bash in the test's folder, with `pipefail`."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "cvtool"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cvtool "$@"\n')
    program.chmod(0o755)
    env = environment()
    env["PATH"] = f"{program.parent}:{env['PATH']}"

    def run(line: str, **more: Any) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-o", "pipefail", "-c", line]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240, **more)

    return run


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def has(verb: str) -> bool:
    from cvtool import cli

    return verb in cli.verbs()


def test_the_reader_may_close_the_pipe(shell, png) -> None:
    for i in range(30):
        png(f"p/{i:02}.png", 200, 100)
    done = shell(f"cvtool detect p {TINY} -q | head -1; echo ${{PIPESTATUS[*]}} >&2")
    assert len(lines(done.stdout)) == 1
    assert done.stderr == "0 0\n"
    done = shell("cvtool --help | head -1; echo ${PIPESTATUS[*]} >&2")
    assert done.stderr == "0 0\n"
    done = shell("cvtool --help | true; echo ${PIPESTATUS[*]} >&2")
    assert done.stderr == "0 0\n"


def test_records_pass_through_two_verbs(shell, png, tmp_path: Path) -> None:
    """Annotations are replaced, everything else stays, and a bad record goes on to the end."""
    first = {"id": 9, "file_name": str(png()), "note": {"deep": [1, None]}, "annotations": [{"bbox": [1, 2, 3, 4], "category_id": 1}]}
    second = {"file_name": "gone.png", "error": "lost before"}
    (tmp_path / "x.jsonl").write_text(json.dumps(first) + "\n\n" + json.dumps(second) + "\n")
    done = shell(f"cvtool detect - {TINY} < x.jsonl | cvtool segment - -m mask-rcnn.tiny@none --conf 0.001 --max-det 3")
    assert done.returncode == 7
    good, bad = lines(done.stdout)
    assert bad == second
    assert (good["id"], good["note"], good["width"], good["height"]) == (9, {"deep": [1, None]}, 64, 48)
    assert [maker["verb"] for maker in good["made_by"]] == ["detect", "segment"]
    assert all("segmentation" in entry for entry in good["annotations"])


def test_a_picture_on_stdin(cvtool, png) -> None:
    picture = png("a.jpg", 120, 80)
    from_stdin = cvtool("detect", "-", *TINY.split(), input=picture.read_bytes())
    assert from_stdin.returncode == 0, from_stdin.stderr
    (record,) = lines(from_stdin.stdout.decode())
    (file,) = lines(cvtool("detect", picture, *TINY.split()).stdout)
    assert record["annotations"] == file["annotations"]
    assert record["file_name"] == "-"


def test_every_kind_of_input(shell, png, tmp_path: Path) -> None:
    for name in ("d/a.png", "d/sub/b c.jpg", "d/z.png"):
        png(name)
    (tmp_path / "d" / "notes.txt").write_text("no picture")
    (tmp_path / "list.txt").write_text("d/z.png\nd/a.png\n")
    images = [{"id": 5, "file_name": "a.png", "width": 64, "height": 48}, {"id": 3, "file_name": "z.png", "width": 64, "height": 48}]
    (tmp_path / "d" / "coco.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))

    def seen(line: str) -> list[Any]:
        done = shell(line)
        assert done.returncode == 0, done.stderr
        return [record.get("id") or record["file_name"] for record in lines(done.stdout)]

    assert seen(f"cvtool detect d @list.txt 'd/**/*.jpg' d/coco.json {TINY}") == [
        "d/a.png", "d/z.png", "d/sub/b c.jpg", "d/z.png", "d/a.png", "d/sub/b c.jpg", 5, 3,
    ]  # fmt: skip
    assert seen(f"find d -name '*.jpg' -print0 | cvtool detect --files0-from - {TINY}") == ["d/sub/b c.jpg"]
    parts = [seen(f"cvtool detect d --shard {i}/2 {TINY}") for i in (1, 2)]
    assert parts == [["d/a.png", "d/sub/b c.jpg"], ["d/z.png"]]


def test_output_files_and_crops(shell, png, tmp_path: Path) -> None:
    png("d/a.png", 200, 100)
    png("d/b.png", 200, 100, seed=1)
    done = shell(f"cvtool detect d {TINY} -o x.json --save-crops crops && cvtool detect d {TINY} -o y/x.jsonl && cvtool detect d {TINY} -o v -f voc")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    document = json.loads((tmp_path / "x.json").read_text())
    assert [image["file_name"] for image in document["images"]] == ["d/a.png", "d/b.png"]
    assert len(document["annotations"]) == 4
    assert len(list((tmp_path / "crops").rglob("*.jpg"))) == 4
    assert len(lines((tmp_path / "y" / "x.jsonl").read_text())) == 2
    assert len(list((tmp_path / "v").rglob("*.xml"))) == 2
    done = shell(f"cvtool detect d {TINY} --save-crops crops")
    assert done.returncode == 2
    assert "not empty" in done.stderr


def test_batches_and_tiles_do_not_change_records(shell, png) -> None:
    for i in range(3):
        png(f"d/{i}.png", 320, 200, seed=i)
    one = shell(f"cvtool detect d {TINY} -b 1 -j 0")
    assert one.returncode == 0, one.stderr
    many = shell(f"cvtool detect d {TINY} -b 3 --tile 400")
    for a, b in zip(lines(one.stdout), lines(many.stdout), strict=True):
        assert [e["category_id"] for e in a["annotations"]] == [e["category_id"] for e in b["annotations"]]
        for x, y in zip(a["annotations"], b["annotations"], strict=True):
            assert x["bbox"] == pytest.approx(y["bbox"], abs=0.01)


def test_two_processes_under_torchrun_write_one_file(cvtool, environment, png, tmp_path: Path) -> None:
    for i in range(5):
        png(f"d/{i}.png", seed=i)
    command = [sys.executable, "-m", "cvtool", "detect", "d", *TINY.split(), "-o", "x.json"]
    ranks = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2"), stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    told = [process.communicate(timeout=120)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], told
    assert "5 images, 10 objects" in told[0]
    assert told[1] == ""
    document = json.loads((tmp_path / "x.json").read_text())
    assert [image["file_name"] for image in document["images"]] == [f"d/{i}.png" for i in range(5)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "x.json"]
    single = cvtool("detect", "d", *TINY.split(), "-o", "y.json")
    assert single.returncode == 0
    assert json.loads((tmp_path / "y.json").read_text())["annotations"] == document["annotations"]


def test_classify_and_segment_say_what_they_are_about(shell, png, tmp_path: Path) -> None:
    png("a.png")
    done = shell("cvtool segment a.png -m fcn.tiny@none -f table")
    assert done.returncode == 0, done.stderr
    assert "mask" in done.stdout
    done = shell("cvtool classify a.png -m faster-rcnn.tiny@none")
    assert done.returncode == 2
    assert "no model for classify" in done.stderr


@pytest.mark.skipif(not has("visualize"), reason="no visualize verb")
def test_detect_into_visualize(shell, png, tmp_path: Path) -> None:
    png("d/a.png", 200, 100)
    png("d/b.png", 200, 100)
    done = shell(f"cvtool detect d {TINY} | cvtool visualize - -o seen/")
    assert done.returncode == 0, done.stderr
    assert sorted(p.stem for p in (tmp_path / "seen").iterdir()) == ["a", "b"]
    records = lines(done.stdout)
    assert [Path(record["file_name"]).parent.name for record in records] == ["seen", "seen"]


@pytest.mark.skipif(not has("evaluate"), reason="no evaluate verb")
def test_detect_into_evaluate(shell, png, tmp_path: Path) -> None:
    """A file that the program wrote is its own truth: everything is found."""
    png("d/a.png", 200, 100)
    png("d/b.png", 200, 100, seed=3)
    done = shell(f"cvtool detect d {TINY} -o x.json && cvtool evaluate --gt x.json --dt x.json --json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["AP"] == pytest.approx(1.0, abs=1e-6)
