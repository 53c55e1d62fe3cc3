"""Real scans read by what ships, beside Debian's tesseract on the same files in the same test."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from cvtool.data import inputs
from cvtool.errors import UsageError
from cvtool.metrics.cer import of_texts
from cvtool.tasks import ocr

MOST = {"phototest": 0.01}  # what is promised; of the others the figures are told


def rate(true: str, found: str) -> float:
    """Edits over characters; where lines end is left aside."""
    measured = of_texts([true], [found], squeeze=True)
    return float(measured.above.sum() / measured.below.sum())


@pytest.mark.parametrize("name", ["phototest", "eurotext", "8087_054.3B"])
def test_a_scan_is_read(data: Path, name: str, record_property):
    try:
        ocr.recogniser()
    except UsageError:
        pytest.skip("no recogniser ships")
    folder = data / "ocr_pages_tesseract"
    true = (folder / f"{name}.txt").read_text(encoding="utf-8")
    start = time.perf_counter()
    (record,) = ocr.ocr(inputs.read([folder / f"{name}.tif"]))
    seconds = time.perf_counter() - start
    own = rate(true, record["text"])
    told = f"{name}: CER {100 * own:.1f} % in {seconds:.1f} s"
    if shutil.which("tesseract"):
        start = time.perf_counter()
        done = subprocess.run(["tesseract", str(folder / f"{name}.tif"), "-"], capture_output=True, text=True, timeout=300, check=True)
        told += f"; tesseract {100 * rate(true, done.stdout):.1f} % in {time.perf_counter() - start:.1f} s"
    print(told)
    record_property("cer", own)
    assert own <= MOST.get(name, 0.3), told


@pytest.mark.parametrize(("turn", "orientation"), [("L", (90, 270)), ("R", (90, 270)), ("180", (180,))])
def test_turned_scans_are_brought_upright(data: Path, turn: str, orientation: tuple[int, ...]):
    try:
        ocr.recogniser()
    except UsageError:
        pytest.skip("no recogniser ships")
    folder = data / "ocr_pages_tesseract"
    (record,) = ocr.ocr(inputs.read([folder / f"phototest-rotated-{turn}.png"]))
    assert record["orientation"] in orientation
    assert rate((folder / "phototest.gold.txt").read_text(encoding="utf-8"), record["text"]) <= 0.05
