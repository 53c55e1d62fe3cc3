"""The example plugin works as installed packages do; a broken one takes nothing else down."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HELLO = ROOT / "plugins" / "cvtool-hello"
Run = Callable[..., subprocess.CompletedProcess[str]]


def install(site: Path, name: str, points: dict[str, dict[str, str]], **files: str) -> None:
    """What pip leaves behind: modules and a .dist-info folder with entry points."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [line for group, found in points.items() for line in (f"[{group}]", *(f"{key} = {value}" for key, value in found.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for file, text in files.items():
        (site / f"{file}.py").write_text(text)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages, on the path of every subprocess."""
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


@pytest.fixture
def run(site: Path, tmp_path: Path) -> Run:
    def run(*words: object) -> subprocess.CompletedProcess[str]:
        same = {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        command = [sys.executable, "-m", "cvtool", *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env={**os.environ, **same}, capture_output=True, text=True, timeout=240)

    return run


@pytest.fixture
def hello(site: Path) -> dict[str, dict[str, str]]:
    """The example plugin, installed by its own pyproject."""
    points = tomllib.loads((HELLO / "pyproject.toml").read_text())["project"]["entry-points"]
    install(site, "cvtool-hello", points)
    (site / "cvtool_hello").symlink_to(HELLO / "cvtool_hello")
    return points


def test_the_example_is_small_and_complete(hello: dict[str, dict[str, str]]) -> None:
    assert set(hello) == {"cvtool.models", "cvtool.commands", "cvtool.formats"}
    assert sum(len(path.read_text().splitlines()) for path in (HELLO / "cvtool_hello").glob("*.py")) < 100


def test_the_examples_own_tests_pass(hello: dict[str, dict[str, str]], site: Path, tmp_path: Path) -> None:
    same = {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(HELLO / "tests")]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **same}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_model_and_verb_are_listed(hello: dict[str, dict[str, str]], run: Run) -> None:
    assert "bright-spot\tdetect\tspot,tiny" in run("models", "list").stdout
    assert "  hello" in run("--help").stdout
    shown = run("models", "show", "bright-spot")
    assert "Bright spot: the connected region" in shown.stdout
    assert "bright-spot" in run("models", "names", "bright").stdout.split()


def test_a_near_miss_of_a_plugins_name(hello: dict[str, dict[str, str]], run: Run) -> None:
    done = run("models", "show", "bright-spt")
    assert done.returncode == 4
    assert "bright-spot" in done.stderr
    done = run("helo")
    assert done.returncode == 2
    assert "hello" in done.stderr


def test_a_source(site: Path, run: Run) -> None:
    source = (
        "VERBS = ('classify',)\n"
        "def names(): return ['one', 'two']\n"
        "def describe(name): return {'licence': 'MIT', 'summary': f'toy {name}'}\n"
        "def build(name, *, pretrained, classes, offline): raise AssertionError\n"
    )
    install(site, "toys", {"cvtool.sources": {"toy": "toy_source"}}, toy_source=source)
    assert run("models", "list", "toy").stdout == "toy:one\tclassify\ntoy:two\tclassify\n"
    assert "licence: MIT" in run("models", "show", "toy:two").stdout
    assert run("models", "names", "toy:t").stdout == "toy:two\n"


BROKEN_MODELS = {
    "a module that is not there": ({"cvtool.models": {"broken": "no_such_module"}}, {}),
    "a file that does not parse": ({"cvtool.models": {"broken": "broken_model"}}, {"broken_model": '"""Broken."""\ndef ('}),
    "no plain literals": ({"cvtool.models": {"broken": "broken_model"}}, {"broken_model": '"""Broken."""\nVARIANTS = {"a": dict(x=f())}'}),
    "a built-in name": ({"cvtool.models": {"faster-rcnn": "broken_model"}}, {"broken_model": '"""Mine."""\nVARIANTS = {}'}),
}


@pytest.mark.parametrize("case", list(BROKEN_MODELS))
def test_a_broken_model_takes_nothing_else_down(case: str, site: Path, run: Run) -> None:
    points, files = BROKEN_MODELS[case]
    install(site, "broken", points, **files)
    done = run("models", "list")
    assert done.returncode == 0
    assert "viola-jones\tdetect" in done.stdout
    assert "cannot be used" in done.stderr
    assert next(iter(points["cvtool.models"])) in done.stderr
    assert run("models", "show", "faster-rcnn").returncode == 0
    assert run("--help").returncode == 0
    if "broken" in points["cvtool.models"]:
        asked = run("models", "show", "broken")
        assert (asked.returncode, "the plugin model broken cannot be used" in asked.stderr) == (4, True)


def test_a_model_that_does_not_import_is_named_when_it_is_used(site: Path, run: Run, tmp_path: Path) -> None:
    text = '"""Broken: does not import (Nobody 1900)."""\nVERB = "detect"\nVARIANTS = {"a": {}}\nimport no_such_package\n'
    install(site, "broken", {"cvtool.models": {"broken": "broken_model"}}, broken_model=text)
    from PIL import Image

    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    assert "Broken: does not import" in run("models", "show", "broken").stdout
    done = run("detect", "a.png", "-m", "broken")
    assert done.returncode == 5
    assert "no_such_package" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3


def test_a_broken_verb_takes_nothing_else_down(site: Path, run: Run) -> None:
    install(site, "broken", {"cvtool.commands": {"wreck": "broken_verb:main"}}, broken_verb="raise RuntimeError('no')")
    assert "detect" in run("--help").stdout
    assert run("models", "list").returncode == 0
    done = run("wreck")
    assert done.returncode != 0
    assert "wreck" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_format_takes_nothing_else_down(site: Path, run: Run, tmp_path: Path) -> None:
    install(site, "broken", {"cvtool.formats": {"wreck": "broken_format"}}, broken_format="raise RuntimeError('no')")
    (tmp_path / "a.csv").write_text("file_name,category,x,y,width,height\na.png,dog,1,2,3,4\n")
    done = run("data", "convert", "a.csv", "a.json")
    assert done.returncode == 0, done.stderr
    done = run("data", "convert", "a.csv", "b.x", "--to", "wreck")
    assert done.returncode != 0
    assert "wreck" in done.stderr
    assert "Traceback" not in done.stderr
