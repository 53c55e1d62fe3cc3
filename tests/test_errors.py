"""Bad input, through real processes: a clear line, the documented exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

TINY = ["-m", "faster-rcnn.tiny@none", "--conf", "0.001", "--max-det", "2"]


def plain(done: Any, code: int, *said: str) -> None:
    """The exit code, and an error of a few plain lines that says this."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert not re.search("[╭─╰│]", done.stderr)
    assert all(line.startswith(("cvtool", "  ")) for line in done.stderr.splitlines()), done.stderr
    for part in said:
        assert part in done.stderr


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# --- inputs ------------------------------------------------------------------------------------------------------------------------------------


def test_missing_file(cvtool) -> None:
    done = cvtool("detect", "none.jpg", *TINY)
    plain(done, 3, "none.jpg: no such file")
    assert lines(done.stdout) == [{"file_name": "none.jpg", "error": "no such file"}]


def test_empty_folder(cvtool, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    plain(cvtool("detect", "empty", *TINY), 3, "no pictures in this folder", "in empty")


def test_no_input_and_no_model(cvtool, png) -> None:
    plain(cvtool("detect", *TINY), 2, "no input")
    plain(cvtool("detect", png()), 2, "-m is missing", "for example -m ")


def test_a_truncated_picture_amid_good_ones(cvtool, png, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        png(name, 160, 120)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "b.jpg").read_bytes()[:900])
    done = cvtool("detect", "a.jpg", "b.jpg", "c.jpg", *TINY, "-o", "x.jsonl")
    plain(done, 7, "b.jpg: ", "1 of 3 inputs could not be used")
    first, second, third = lines((tmp_path / "x.jsonl").read_text())
    assert "error" in second
    assert first["annotations"] == third["annotations"]


def test_text_with_the_name_of_a_picture(cvtool, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("I am no picture.")
    plain(cvtool("detect", "a.jpg", *TINY), 3, "a.jpg: ")


def test_names_that_lead_out_of_the_data_root(cvtool, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "../../etc/passwd"}], "annotations": [], "categories": []}))
    plain(cvtool("detect", "x.json", *TINY), 3, "../../etc/passwd", "leads out")


def test_nan_in_annotations(cvtool, png, tmp_path: Path) -> None:
    good = json.dumps({"file_name": str(png("a.png")), "annotations": []})
    (tmp_path / "x.jsonl").write_text(good + "\n" + '{"file_name": "a.png", "annotations": [{"bbox": [1, 2, NaN, 4]}]}\n')
    done = cvtool("detect", "x.jsonl", *TINY)
    plain(done, 3, "NaN", "line 2")
    assert len(lines(done.stdout)) == 1  # what came before is done


def test_lines_that_are_no_json(cvtool) -> None:
    plain(cvtool("detect", "-", *TINY, input='{"file_name": "a.png"}\n{"file_name": \n'), 3, "line 2")


# --- models ------------------------------------------------------------------------------------------------------------------------------------


def test_unknown_model(cvtool, png) -> None:
    plain(cvtool("detect", png(), "-m", "fastr-rcnn"), 4, "unknown model 'fastr-rcnn'", "did you mean faster-rcnn")


def test_wrong_verb(cvtool, png) -> None:
    plain(cvtool("segment", png(), "-m", "faster-rcnn.tiny@none"), 2, "no model for segment", "`cvtool detect` takes it")


def test_weights_for_other_classes(cvtool, png, tmp_path: Path) -> None:
    import torch

    from cvtool import weights

    model = weights.build("faster-rcnn.tiny", categories=[{"id": i, "name": f"c{i}"} for i in range(1, 4)])
    torch.save(model.state_dict(), tmp_path / "three.pth")
    plain(cvtool("detect", png(), "-m", "faster-rcnn.tiny@./three.pth"), 4, "do not fit", "three.pth")


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth"])
def test_corrupt_checkpoints(cvtool, png, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x10\x00\x00\x00 not a checkpoint at all")
    words = ["-m", f"./{name}"] if name.endswith("safetensors") else ["-m", f"faster-rcnn.tiny@./{name}"]
    plain(cvtool("detect", png(), *words), 4, name)


class Payload:
    def __reduce__(self) -> tuple:
        return os.system, ("touch pwned",)


def test_a_pickle_with_code_in_it_is_refused_and_not_run(cvtool, png, tmp_path: Path) -> None:
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": Payload()}))
    plain(cvtool("detect", png(), "-m", "faster-rcnn.tiny@./evil.pth"), 4, "evil.pth")
    assert not (tmp_path / "pwned").exists()


def test_no_network(cvtool, png, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    caches = {name: str(tmp_path / "caches") for name in ("TORCH_HOME", "HF_HOME", "CVTOOL_CACHE", "XDG_CACHE_HOME", "HF_HUB_CACHE")}
    done = cvtool("detect", png(), "-m", "faster-rcnn.mobilenet-320", env={"CVTOOL_MIRROR": f"http://127.0.0.1:{port}", **caches})
    plain(done, 4)
    done = cvtool("detect", png(), "-m", "faster-rcnn.mobilenet-320", "--offline", env=caches)
    plain(done, 4, "offline")


# --- options -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--overlap", "0.3"], "--overlap has no effect without --tile"),
        (["--resume"], "--resume has no effect without -o"),
        (["--overwrite"], "--overwrite has no effect without -o"),
        (["--classes", "unicorn"], "unknown class 'unicorn'"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--shard", "3/2"], "--shard takes I/N"),
        (["-o", "x.what"], "does not tell the format"),
        (["--img-sice", "3"], "did you mean --img-size"),
        (["--precision", "fp16", "--device", "cpu"], "fp16"),
    ],
)
def test_options_that_cannot_be(cvtool, png, words: list[str], said: str) -> None:
    plain(cvtool("detect", png(), *TINY, *words), 2, said)


def test_an_option_that_the_model_does_not_take(cvtool, png) -> None:
    plain(cvtool("segment", png(), "-m", "fcn.tiny@none", "--iou", "0.3"), 2, "--iou has no effect on fcn.tiny@none")


# --- outputs -----------------------------------------------------------------------------------------------------------------------------------


def test_output_exists(cvtool, png, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("precious")
    plain(cvtool("detect", png(), *TINY, "-o", "x.json"), 2, "x.json exists", "--overwrite")
    assert (tmp_path / "x.json").read_text() == "precious"
    assert cvtool("detect", png(), *TINY, "-o", "x.json", "--overwrite").returncode == 0
    assert json.loads((tmp_path / "x.json").read_text())["images"]


def test_disk_full(cvtool, png, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk."""
    picture = png()
    records = "".join(json.dumps({"file_name": str(picture), "note": f"{i:0900}"}) + "\n" for i in range(30))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))

    done = cvtool("detect", "-", *TINY, "-o", "x.jsonl", input=records, preexec_fn=limit, env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 1
    assert "disk full" in done.stderr
    assert not (tmp_path / "x.jsonl").exists()
    done = cvtool("detect", "-", *TINY, "-o", "x.jsonl", "--resume", input=records)
    assert done.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_stdout_on_a_full_disk(cvtool, png) -> None:
    with open("/dev/full", "w") as full:
        done = cvtool("detect", png(), *TINY, stdout=full)
        plain(done, 1, "disk full")
        plain(cvtool("--version", stdout=full), 1, "disk full")
    plain(cvtool("detect", png(), *TINY, "-f", "jsonl", "-o", "/dev/full"), 1, "disk full")


def test_closed_streams_and_a_plain_locale(cvtool, environment, png, tmp_path: Path) -> None:
    picture = png("bärn.png")
    program = f"{sys.executable} -m cvtool"
    env = environment(LC_ALL="POSIX", PYTHONIOENCODING="", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    done = subprocess.run(f"{program} detect none.jpg *.png {' '.join(TINY)}", shell=True, cwd=tmp_path, env=env, capture_output=True)
    assert done.returncode == 7, done.stderr
    names = [json.loads(line)["file_name"] for line in done.stdout.decode().splitlines()]
    assert [name.encode("utf-8", "surrogateescape").decode() for name in names] == ["none.jpg", picture.name]
    done = subprocess.run(f"{program} detct 2>&-; {program} --help >&-", shell=True, cwd=tmp_path, env=env, capture_output=True)
    assert done.returncode == 0
    assert done.stdout == b""


# --- signals -----------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def many(png, tmp_path: Path) -> Path:
    """A long list of records of one picture under many names."""
    picture = png("a.png", 320, 240)
    (tmp_path / "many").mkdir()
    for i in range(400):
        (tmp_path / "many" / f"{i:03}.png").symlink_to(picture)
    return tmp_path / "many"


def begun(tmp_path: Path, env: dict[str, str], *words: object) -> subprocess.Popen[str]:
    """The program at work on `many`; returns when its first records are there."""
    command = [sys.executable, "-m", "cvtool", "detect", "many", *TINY, *map(str, words)]
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    part = tmp_path / "x.json.part"
    for _ in range(1200):
        if part.exists() and part.read_text().count("\n") > 2:
            return process
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no record in a minute")


@pytest.mark.parametrize(
    ("sent", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGKILL, -9, "")]
)
def test_stopped_by_a_signal_and_resumed(cvtool, environment, tmp_path: Path, many: Path, sent: int, code: int, said: str) -> None:
    process = begun(tmp_path, environment(), "-o", "x.json")
    process.send_signal(sent)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in told
    if said:
        assert told.splitlines()[-1] == f"cvtool detect: {said}"
        assert "--resume" in told
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "many", "x.json.part"]
    count = (tmp_path / "x.json.part").read_text().count("\n")
    assert 2 < count < 400
    for extra in sorted(many.iterdir())[count + 5 :]:
        extra.unlink()
    done = cvtool("detect", "many", *TINY, "-o", "x.json", "--resume")
    assert done.returncode == 0, done.stderr
    assert f"{count} done before" in done.stderr
    document = json.loads((tmp_path / "x.json").read_text())
    assert [Path(image["file_name"]).stem for image in document["images"]] == [f"{i:03}" for i in range(count + 5)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "many", "x.json"]


def test_unexpected_errors_are_one_line_and_traceback_shows_the_rest(cvtool, environment, png, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import cvtool.records\ncvtool.records.Record.pixels = lambda self: 1 / 0\n")
    path = {"PYTHONPATH": f"{tmp_path}:{environment()['PYTHONPATH']}"}
    done = cvtool("detect", png(), *TINY, env=path)
    plain(done, 1, "cvtool detect: ZeroDivisionError: division by zero\n  --traceback shows where it comes from\n")
    done = cvtool("--traceback", "detect", png(), *TINY, env=path)
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
