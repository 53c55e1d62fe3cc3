"""Real scans read by what ships, beside Debian's tesseract on the same files in the same test."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from cvtool.data import inputs
from cvtool.errors import UsageError
from cvtool.metrics.cer import of_texts
from cvtool.records import Record
from cvtool.tasks import ocr

MOST = {"phototest": 0.01, "eurotext": 0.06, "8087_054.3B": 0.06}  # share of characters that are wrong: of the first it is promised


@pytest.fixture(scope="module")
def shipped() -> None:
    try:
        ocr.recogniser()
    except UsageError:
        pytest.skip("no recogniser ships")


def rate(true: str, found: str) -> float:
    """Edits over characters; where lines end is left aside."""
    measured = of_texts([true], [found], squeeze=True)
    return float(measured.above.sum() / measured.below.sum())


def read(path: Path) -> Record:
    (record,) = ocr.ocr(inputs.read([path]))
    assert "error" not in record
    return record


def surer(record: Record, true: str) -> tuple[float, float]:
    """The mean scores of the words that are in the text, and of those that are not."""
    known = set(true.split())
    scores: tuple[list[float], list[float]] = ([], [])
    for word in record["annotations"]:
        assert 0 < word["score"] <= 1
        scores[word["text"] not in known].append(word["score"])
    right, wrong = (sum(some) / len(some) if some else 0.0 for some in scores)
    return right, wrong


@pytest.mark.parametrize("name", MOST)
def test_a_scan_is_read(shipped, data: Path, name: str, record_property):
    folder = data / "ocr_pages_tesseract"
    true = (folder / f"{name}.txt").read_text(encoding="utf-8")
    start = time.perf_counter()
    record = read(folder / f"{name}.tif")
    seconds = time.perf_counter() - start
    own = rate(true, record["text"])
    told = f"{name}: CER {100 * own:.1f} % in {seconds:.1f} s"
    if shutil.which("tesseract"):
        start = time.perf_counter()
        alone = {**os.environ, "OMP_THREAD_LIMIT": "1"}  # its threads wait for each other where others work, too
        done = subprocess.run(["tesseract", str(folder / f"{name}.tif"), "-"], capture_output=True, text=True, timeout=300, check=True, env=alone)
        told += f"; tesseract {100 * rate(true, done.stdout):.1f} % in {time.perf_counter() - start:.1f} s"
    print(told)
    record_property("told", told)
    right, wrong = surer(record, true)
    assert right > 0.5
    assert right > wrong  # the score tells which words to look at again
    assert own <= MOST[name], told


@pytest.mark.parametrize(("turn", "orientation"), [("L", (90, 270)), ("R", (90, 270)), ("180", (180,))])
def test_turned_scans_are_brought_upright(shipped, data: Path, turn: str, orientation: tuple[int, ...]):
    folder = data / "ocr_pages_tesseract"
    record = read(folder / f"phototest-rotated-{turn}.png")
    assert record["orientation"] in orientation
    assert rate((folder / "phototest.gold.txt").read_text(encoding="utf-8"), record["text"]) <= 0.05


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "rocket"])
def test_a_photograph_without_text_has_none_and_is_not_turned(shipped, tmp_path: Path, name: str):
    import skimage.data
    from PIL import Image

    Image.fromarray(getattr(skimage.data, name)()).resize((160, 120)).save(tmp_path / "photo.png")
    record = read(tmp_path / "photo.png")
    assert record["annotations"] == []
    assert record["text"] == ""
    assert "orientation" not in record
