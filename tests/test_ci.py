"""The README's CI jobs, run as plain shell: they pass, they fail where they should, and leave what a CI system reads."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_docs import README, ROOT, check, commands

GITHUB, GITLAB = (yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))
INSTALL = "python -m pip install --quiet ."
DETECT = "cvtool detect val/ -m faster-rcnn.small@bccd -o new.json"
JOBS = {
    "github": [step["run"] for step in GITHUB["jobs"]["metrics"]["steps"] if "run" in step],
    "gitlab": GITLAB["metrics"]["script"],
}


@pytest.fixture
def run(tmp_path: Path):
    """`run("github", hit=20)`: the job in a folder with ground truth, an older run's detections and those that `detect` is said to make."""

    def call(job: str, hit: int) -> subprocess.CompletedProcess[str]:
        images = [{"id": n, "file_name": f"{n}.jpg", "width": 100, "height": 100} for n in range(1, 31)]
        entries = [{"id": n, "image_id": n, "category_id": 1, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0} for n in range(1, 31)]
        (tmp_path / "val.json").write_text(json.dumps({"images": images, "annotations": entries, "categories": [{"id": 1, "name": "person"}]}))

        def found(right: int) -> str:
            boxes: list[dict[str, Any]] = [
                {"image_id": n, "category_id": 1, "bbox": [10, 10, 40, 40] if n <= right else [60, 60, 20, 20], "score": 1 - n / 100}
                for n in range(1, 31)
            ]
            return json.dumps(boxes)

        (tmp_path / "main.json").write_text(found(28))
        (tmp_path / "made.json").write_text(found(hit))
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin" / "cvtool"
        # a detector would cost a minute: what it makes lies there already
        program.write_text(
            f'#!/bin/sh\nif [ "$1" = detect ]; then exec cp made.json new.json; fi\nexec {shlex.quote(sys.executable)} -m cvtool "$@"\n'
        )
        program.chmod(0o755)
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "GITHUB_STEP_SUMMARY": "summary.md"}
        lines = "\n".join(line for line in JOBS[job] if line != INSTALL)
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", lines], check=False, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
        )

    return call


@pytest.mark.parametrize("job", JOBS)
def test_every_line_is_a_command_of_this_program(job: str) -> None:
    lines = JOBS[job]
    assert lines[:2] == [INSTALL, DETECT]
    for words in commands("\n".join(lines).replace("\\\n", " ")):
        check(words)


@pytest.mark.parametrize("job", JOBS)
def test_a_good_run_passes_and_leaves_its_reports(job: str, run, tmp_path: Path) -> None:
    done = run(job, 28)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    suite = ElementTree.parse(tmp_path / "report.xml").getroot()[0]
    assert suite.attrib["failures"] == "0"
    assert [case.attrib["name"] for case in suite][:1] == ["AP>=0.40"]
    if job == "github":
        assert report["comparison"]["metrics"]["AP"]["difference"] == 0
        summary = (tmp_path / "summary.md").read_text()
        assert summary.startswith("### cvtool evaluate, detection: all 3 gates passed")
        assert "| AP | " in summary
    else:
        low, high = report["intervals"]["AP"]
        assert low <= report["metrics"]["AP"] <= high


@pytest.mark.parametrize("job", JOBS)
def test_a_bad_run_fails_with_its_own_code_after_all_is_written(job: str, run, tmp_path: Path) -> None:
    done = run(job, 8)
    assert done.returncode == 6
    assert "gates failed" in done.stderr or "gate failed" in done.stderr
    suite = ElementTree.parse(tmp_path / "report.xml").getroot()[0]
    failure = suite[0].find("failure")
    assert failure is not None
    assert failure.attrib["message"].startswith("AP is 0.2")
    assert json.loads((tmp_path / "report.json").read_text())["gates"][0]["passed"] is False
    if job == "github":
        assert suite.attrib["failures"] == "3"
        assert "**failed**" in (tmp_path / "summary.md").read_text()
