"""The shells' scripts ask the program: they work in the real shells, and hold no name of a verb, an option or a model."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cvtool import cli, registry

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = {"bash": ROOT / "completions" / "cvtool.bash", "zsh": ROOT / "completions" / "_cvtool", "fish": ROOT / "completions" / "cvtool.fish"}

BASH = r"""
source "$1"
compopt() { nospace=1; }
COMP_LINE=$2 COMP_POINT=${#2}
_cvtool cvtool
printf '%s\n' "${COMPREPLY[@]}" ${nospace:+NOSPACE}
"""
ZSH = r"""
compdef() { : }
_files() { print FILES }
compset() { : }
compadd() { [[ $1 == -S ]] && shift 2; print -l -- ${(P)2} }
source $1
words=("${(@f)2}") CURRENT=$#words PREFIX=$words[-1]
_cvtool
"""
FISH = "source $argv[1]; complete -C $argv[2]"

Ask = Callable[[str], list[str]]


@pytest.fixture(params=list(SCRIPTS))
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Ask:
    """What one shell offers for a line that ends at the cursor."""
    shell = request.param
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    program = tmp_path / "bin" / "cvtool"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cvtool "$@"\n')
    program.chmod(0o755)
    (tmp_path / "street.jpg").touch()
    (tmp_path / "options.toml").touch()
    same = {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}

    def run(line: str) -> list[str]:
        words = re.split(r"\s+", line.lstrip())
        command = {
            "bash": ["bash", "--norc", "--noprofile", "-c", BASH, "-", SCRIPTS["bash"], line],
            "zsh": ["zsh", "-f", "-c", ZSH, "-", SCRIPTS["zsh"], "\n".join(words)],
            "fish": ["fish", "--no-config", "-c", FISH, SCRIPTS["fish"], line],
        }[shell]
        done = subprocess.run(command, env={**os.environ, **same}, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.stderr == ""
        return [answer.partition("\t")[0] for answer in done.stdout.splitlines() if answer and answer != "NOSPACE"]

    run.shell = shell  # type: ignore[attr-defined]
    return run


def test_verbs(ask: Ask) -> None:
    assert set(ask("cvtool ")) >= set(cli.verbs())
    assert ask("cvtool det") == ["detect"]


def test_subcommands(ask: Ask) -> None:
    assert {"list", "show", "pull", "verify", "import"} <= set(ask("cvtool models "))
    assert ask("cvtool models sh") == ["show"]


def test_options_and_their_choices(ask: Ask) -> None:
    assert ask("cvtool detect --prec") == ["--precision"]
    assert ask("cvtool detect --precision b") == ["bf16"]


def test_models(ask: Ask) -> None:
    found = set(ask("cvtool detect -m faster-rcnn"))
    assert found == {name for name in registry.names() if name.startswith("faster-rcnn")}
    assert set(ask("cvtool detect -m tim")) == {"timm:"}


def test_names_with_the_shells_own_signs(ask: Ask) -> None:
    """bash breaks words at : @ and =, and takes the part behind as the answer."""
    bash = ask.shell == "bash"  # type: ignore[attr-defined]
    zsh = ask.shell == "zsh"  # type: ignore[attr-defined]
    assert ask("cvtool detect -m timm:resnet18.tv_") == ["resnet18.tv_in1k" if bash else "timm:resnet18.tv_in1k"]
    assert ask("cvtool models show viola-jones.filters@fr") == ["@frontalface" if bash else "viola-jones.filters@frontalface"]
    assert ask("cvtool detect --model=viola-jones.c") == ["viola-jones.cascade" if bash or zsh else "--model=viola-jones.cascade"]


@pytest.mark.parametrize("line", ["cvtool detect st", "cvtool detect -c op", "cvtool detect -m ./st"])
def test_files_are_left_to_the_shell(ask: Ask, line: str) -> None:
    expected = {"bash": [], "zsh": ["FILES"], "fish": [{"st": "street.jpg", "op": "options.toml", "./st": "./street.jpg"}[line.split()[-1]]]}
    assert ask(line) == expected[ask.shell]  # type: ignore[attr-defined]


@pytest.mark.parametrize("shell", list(SCRIPTS))
def test_scripts_hold_no_names(shell: str) -> None:
    words = set(re.findall(r"[\w:.@-]+", re.sub(r"^#.*$", "", SCRIPTS[shell].read_text(), flags=re.MULTILINE)))
    assert not words & set(cli.verbs())
    assert not words & set(registry.names())
    assert not {word for word in words if word.startswith("--") and len(word) > 2 and word != "--"} - {"--"}


def test_answers_without_torch() -> None:
    code = (
        "import os, sys\n"
        "os.environ |= {'_CVTOOL_COMPLETE': 'complete_bash', 'COMP_WORDS': 'cvtool detect -m faster', 'COMP_CWORD': '3'}\n"
        "import cvtool.__main__ as program\n"
        "try: program.main([])\n"
        "finally: print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"
    assert "faster-rcnn" in done.stdout.split()
