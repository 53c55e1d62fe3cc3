"""What tests share: real data (where it is), the program as a subprocess, and small made-up pictures. No test uses the network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Several test processes share the cores; torch's threads, which spin while they wait, would slow each other down five times.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts background jobs (`pytest &`) with Ctrl-C ignored, and their children inherit that; the tests that send it need it heard.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("shared", deadline=None)  # a busy machine is no failure
settings.load_profile("shared")

ROOT = Path(__file__).resolve().parents[1]
KEPT = {"CVTOOL_TEST_DATA"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that fork go first: a process whose torch has computed gradients holds threads, and a fork of it may wait for them for ever."""
    items.sort(key=lambda item: item.path.name not in ("test_resume.py", "test_distributed.py"))


@pytest.fixture(autouse=True)
def _own_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's settings or caches."""
    for name in [name for name in os.environ if name.startswith("CVTOOL_") and name not in KEPT]:
        monkeypatch.delenv(name)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CVTOOL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data; the test is skipped where there is none."""
    folder = os.environ.get("CVTOOL_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs CVTOOL_TEST_DATA")
    return Path(folder)


@pytest.fixture(scope="session")
def environment() -> Callable[..., dict[str, str]]:
    """`environment(NAME="value")`: what a subprocess gets: this checkout, one thread, a fixed width."""
    return _environment


def _environment(**more: str) -> dict[str, str]:
    same = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "120", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}
    return {**os.environ, **same, **more}


@pytest.fixture
def cvtool(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[Any]]:
    """`cvtool("detect", path, "-m", ...)` runs the program in the test's folder and gives its exit code and what it said.

    input: text or bytes for stdin (bytes: stdout and stderr are bytes too). env: more variables. cwd: another folder. Other keywords go to
    `subprocess.run`.
    """

    def run(
        *words: object,
        input: str | bytes | None = None,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 240,
        **more: Any,
    ) -> subprocess.CompletedProcess[Any]:
        kind: dict[str, Any] = {} if isinstance(input, bytes) else {"text": True, "encoding": "utf-8"}
        kind |= {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, "-m", "cvtool", *map(str, words)]
        return subprocess.run(command, cwd=cwd or tmp_path, env=_environment(**(env or {})), timeout=timeout, **{**pipes, **kind, **more})

    return run


@pytest.fixture
def png(tmp_path: Path) -> Callable[..., Path]:
    """`png("a.png", 64, 48, seed=1)` writes a picture of soft colours (other suffixes too) and gives its path."""

    def make(name: str | Path = "a.png", width: int = 64, height: int = 48, *, seed: int = 0) -> Path:
        from PIL import Image

        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(made_up(width, height, seed=seed)).save(path)
        return path

    return make


@pytest.fixture(scope="session")
def picture() -> Callable[..., Any]:
    """`picture(64, 48, seed=1)`: the pixels that `png` writes."""
    return made_up


def made_up(width: int = 64, height: int = 48, *, seed: int = 0) -> Any:
    """H W 3 uint8: a ramp with a few rectangles in it, different for each seed."""
    import numpy as np

    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) % 256], axis=2).astype(np.uint8)
    for _ in range(4):
        left, top = int(draw.integers(0, max(1, width - 8))), int(draw.integers(0, max(1, height - 8)))
        pixels[top : top + height // 4 + 1, left : left + width // 4 + 1] = draw.integers(0, 256, 3)
    return pixels
