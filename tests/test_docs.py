"""What is written must be true: the README's commands run, every verb and subcommand has help with an example."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cvtool import cli, registry

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
EXAMPLES = re.findall(r"^```text\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
INSTALL = "python -m pip install --quiet . && "


def shell(command: str, folder: Path) -> subprocess.CompletedProcess:
    """A command line in `folder`, where `cvtool` is this checkout's."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    program = tools / "cvtool"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cvtool "$@"\n')
    program.chmod(0o755)
    env = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(["bash", "-e", "-o", "pipefail", "-c", command], cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def test_the_first_block_is_one_command_that_draws_a_face(tmp_path):
    first, second = (block.strip() for block in BLOCKS[:2])
    assert "\n" not in first
    assert first.startswith(INSTALL)
    assert second == 'python -m pip install --quiet ".[test]" && python -m pytest'
    done = shell(first.removeprefix(INSTALL), tmp_path)
    assert done.returncode == 0, done.stderr
    from PIL import Image

    drawn, original = (Image.open(tmp_path / name) for name in ("seen/astronaut.png", "pictures/astronaut.png"))
    assert drawn.size == original.size
    assert drawn.tobytes() != original.convert(drawn.mode).tobytes()


def commands(text: str) -> list[list[str]]:
    """Every cvtool call in a text, as words."""
    found = []
    for line in text.splitlines():
        for part in re.split(r"\|\s|&&|;|\$\(|\)$", line):
            if (part := part.strip().split(" > ")[0]).startswith("cvtool "):
                found.append(shlex.split(part.removesuffix(")")))
    return found


@pytest.mark.parametrize("words", commands("\n".join(EXAMPLES)), ids=" ".join)
def test_the_options_and_models_of_the_readmes_examples_exist(words):
    check(words)


def verbs() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for verb in cli.verbs():
        found += [(verb, name) for name in getattr(cli.command(verb), "commands", {})] or [(verb,)]
    return found


@pytest.mark.parametrize("path", verbs(), ids=" ".join)
def test_every_command_has_help_with_an_example_that_parses(path, cvtool):
    shown = cvtool(*path, "--help")
    assert shown.returncode == 0, shown.stderr
    examples = [words for words in commands(shown.stdout) if tuple(words[1 : 1 + len(path)]) == path]
    assert examples or path[0] == "models", f"{' '.join(path)} --help has no example"
    for words in commands(shown.stdout):
        check(words)


def check(words: list[str]) -> None:
    """Every option of a call exists on its command, and every model it names is known."""
    verb, rest = words[1], words[2:]
    command = cli.command(verb)
    if getattr(command, "commands", None) and rest and not rest[0].startswith("-"):
        command, rest = command.commands[rest[0]], rest[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in rest:
        if word.startswith("-") and word != "-" and not re.fullmatch(r"-\d.*", word):
            assert word.split("=")[0] in known, f"{' '.join(words)}: no option {word}"
    for option in ("-m", "--model", "--as"):
        if option in rest:
            name = rest[rest.index(option) + 1]
            if not registry.is_path(name) and name.isascii() and not name.startswith("$"):
                registry.parse(name)


def test_every_verb_stands_in_the_readme():
    for verb in cli.verbs():
        assert re.search(rf"\bcvtool {verb}\b", README), f"the README never says cvtool {verb}"


def test_the_exit_codes_in_the_readme_are_those_of_the_program():
    from cvtool import errors

    codes = {cls.exit_code for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.CvtoolError)}
    section = README.split("## Exit codes")[1].split("##")[0]
    assert codes | {0} == {int(code) for code in re.findall(r"(?:^|[ \n])(\d+) [a-z]", section)}
