"""The program before a verb: what there is, what version, whose verbs."""

from __future__ import annotations

import signal
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from cvtool import __main__ as entry
from cvtool import __version__, cli
from cvtool.errors import UsageError


def test_overview_lists_every_verb_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["-h"], ["help"]):
        assert entry.main(words) == 0
        told = capsys.readouterr().out
        for name, line in cli.verbs().items():
            assert f"{name} " in told
            assert line in told
    assert list(cli.verbs())[:3] == ["detect", "segment", "classify"]
    assert entry.main([]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "Usage: cvtool VERB" in told.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["--version"]) == 0
    assert capsys.readouterr().out == f"cvtool {__version__}\n"


def test_every_file_of_the_folder_is_a_verb() -> None:
    files = {path.stem.replace("_", "-") for path in Path(cli.__file__).parent.glob("[!_]*.py")}
    assert set(cli.verbs()) == files
    for name in files:
        assert cli.command(name).name in (name, "main", "")


class Point:
    """An installed package's entry point."""

    name, value = "hello", "cvtool_hello:main"

    def load(self) -> Any:
        def main(word: str = "world") -> None:
            """Greet."""
            print(f"hello {word}")

        return main


@pytest.mark.parametrize("shape", ["function", "module"])
def test_a_plugin_adds_a_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shape: str) -> None:
    point = Point()
    if shape == "module":
        module = types.SimpleNamespace(main=point.load(), __doc__="Greet.")
        monkeypatch.setattr(Point, "load", lambda self: module)
    monkeypatch.setattr(cli, "plugins", lambda: {"hello": point})
    assert entry.main(["hello", "--word", "you"]) == 0
    assert capsys.readouterr().out == "hello you\n"
    assert entry.main(["--help"]) == 0
    assert "cvtool_hello" in capsys.readouterr().out
    assert entry.main(["helo"]) == 2
    assert "did you mean hello" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["cvtool_gone:main", "cvtool_gone.deep", "cvtool.errors.nothing:main", ""])
def test_the_overview_tells_of_a_broken_plugin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str) -> None:
    points = {"hello": types.SimpleNamespace(name="hello", value=value), "fine": types.SimpleNamespace(name="fine", value="cvtool.errors:main")}
    monkeypatch.setattr(cli, "plugins", lambda: points)
    assert entry.main(["--help"]) == 0
    told = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "broken" in told["hello"]
    assert "broken" not in told["fine"]


def test_callers_get_their_signal_handler_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert entry.main(["detect"]) == 2
    assert signal.getsignal(signal.SIGTERM) is before
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(entry.main(["detect", "--help"])))
    thread.start()
    thread.join()
    assert codes == [0]


def test_a_built_in_verb_never_asks_for_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> Any:
        raise AssertionError("the plugins were asked for")

    monkeypatch.setattr(cli, "plugins", asked)
    assert cli.command("detect")


def test_unknown_verbs_get_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        cli.command("clasify")
    assert caught.value.hint == "did you mean classify?"
    with pytest.raises(UsageError) as caught:
        cli.command("xyzzy")
    assert "detect" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("words", "number", "expected"),
    [
        ("cvtool se", 1, "segment"),
        ("cvtool detect --over", 2, "--overwrite"),
        ("cvtool detect -m faster-rcnn.ti", 3, "faster-rcnn.tiny"),
        ("cvtool detect -f coco-r", 3, "coco-results"),
        ("cvtool detect --model viola", 3, "viola-jones"),
        ("cvtool detect -m faster-rcnn@", 3, "faster-rcnn@coco"),
    ],
)
def test_completion(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, number: int, expected: str) -> None:
    for name, value in {"_CVTOOL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)}.items():
        monkeypatch.setenv(name, value)
    assert entry.main([]) == 0
    assert expected in capsys.readouterr().out.split()
