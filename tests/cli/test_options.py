"""Options: one meaning each, from the command line, the environment or a file; and errors that are plain lines."""

from __future__ import annotations

import re
import types
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
import typer

from cvtool import __main__ as entry
from cvtool import cli
from cvtool.cli import _config, _options
from cvtool.errors import InputError, UsageError


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch):
    """`verb(function)` makes it the verb `probe`; its `main` runs as the program would."""

    def install(function: Any) -> None:
        source = types.SimpleNamespace(main=function, __doc__="Probe: for tests.\n\n    cvtool probe a.jpg\n    cvtool probe b.jpg\n")
        names = cli.verbs
        monkeypatch.setattr(cli, "verbs", lambda: {"probe": "Probe.", **names()})
        real = cli.command
        monkeypatch.setattr(cli, "command", lambda name: cli._build(source, name) if name == "probe" else real(name))

    return install


@pytest.fixture
def got(verb) -> dict[str, Any]:
    """What a verb with many options was called with."""
    seen: dict[str, Any] = {}

    def probe(
        inputs: _options.Inputs = None,
        model: _options.Model = None,
        conf: _options.Conf = None,
        batch_size: _options.BatchSize = None,
        img_size: _options.ImgSize = None,
        classes: _options.Classes = None,
        config: _options.Config = None,
        precision: _options.Precision = "fp32",
        overwrite: _options.Overwrite = False,
        save_crops: _options.SaveCrops = None,
        verbose: _options.Verbose = 0,
    ) -> None:
        seen.clear()
        seen.update(locals())

    verb(probe)
    return seen


def test_values_come_as_their_types(got) -> None:
    assert entry.main(["probe", "a.jpg", "b c.jpg", "-m", "x", "--conf", "0.3", "-b4", "--classes", "a,b", "--classes=c", "-vv", "--overwrite"]) == 0
    assert got["inputs"] == ["a.jpg", "b c.jpg"]
    assert (got["model"], got["conf"], got["batch_size"], got["verbose"], got["overwrite"]) == ("x", 0.3, 4, 2, True)
    assert _options.split_commas(got["classes"]) == ["a", "b", "c"]
    assert entry.main(["probe", "--save-crops", "x/y", "--precision", "BF16"]) == 0
    assert (got["save_crops"], got["precision"], got["inputs"], got["conf"]) == (Path("x/y"), "bf16", None, None)


def test_other_spellings_are_understood(got) -> None:
    assert entry.main(["probe", "--imgsz", "320", "--weights", "w", "--batch", "2", "--score-threshold=.5", "--exist-ok"]) == 0
    assert (got["img_size"], got["model"], got["batch_size"], got["conf"], got["overwrite"]) == (320, "w", 2, 0.5, True)
    assert entry.main(["probe", "--img_size", "64", "--checkpoint", "c"]) == 0
    assert (got["img_size"], got["model"]) == (64, "c")


def test_command_line_over_environment_over_file_over_default(got, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c.toml"
    file.write_text('conf = 0.1\nimg-size = 64\nprecision = "bf16"\n[probe]\nclasses = ["cat", "dog"]\noverwrite = true\n[detect]\nnever = 1\n')
    assert entry.main(["probe", "-c", str(file)]) == 0
    assert (got["conf"], got["img_size"], got["precision"], got["classes"], got["overwrite"]) == (0.1, 64, "bf16", ["cat", "dog"], True)
    monkeypatch.setenv("CVTOOL_CONF", "0.2")
    monkeypatch.setenv("CVTOOL_OVERWRITE", "no")
    assert entry.main(["probe", "-c", str(file)]) == 0
    assert (got["conf"], got["overwrite"]) == (0.2, False)
    assert entry.main(["probe", "--conf", "0.3", "-c", str(file)]) == 0
    assert got["conf"] == 0.3
    monkeypatch.setenv("CVTOOL_CONFIG", str(file))
    assert entry.main(["probe"]) == 0
    assert (got["conf"], got["img_size"]) == (0.2, 64)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cnof = 1", ["unknown key 'cnof'", "did you mean conf"]),
        ("[probe]\nmodle = 'x'", ["unknown key 'modle'", "did you mean model"]),
        ("conf = 3", ["--conf: 3 is not between 0 and 1"]),
        ("conf = [", ["not a TOML file"]),
        (None, ["cannot read the config file"]),
    ],
)
def test_a_wrong_file_is_named(got, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, said: list[str]) -> None:
    file = tmp_path / "c.toml"
    if text is not None:
        file.write_text(text)
    assert entry.main(["probe", "-c", str(file)]) == 2
    told = capsys.readouterr().err
    assert all(part in told for part in said), told
    assert len(told.splitlines()) <= 3


def test_a_verb_with_settings_gets_the_keys_that_are_no_options(verb, tmp_path: Path) -> None:
    seen = {}

    def probe(context: typer.Context, seed: _options.Seed = None, set: _options.Set = None, config: _options.Config = None) -> None:
        seen.update(seed=seed, rest=_config.rest(context), set=_options.settings(set))

    verb(probe)
    file = tmp_path / "c.toml"
    file.write_text("seed = 4\nlr = 0.1\nbox-loss = 'giou'\n")
    assert entry.main(["probe", "-c", str(file), "--set", "ema=true", "--set", "steps=[8, 11]", "--set", "name=a b"]) == 0
    assert seen == {"seed": 4, "rest": {"lr": 0.1, "box_loss": "giou"}, "set": {"ema": True, "steps": [8, 11], "name": "a b"}}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["probe", "--cnf", "1"], 2, "no such option --cnf"),
        (["probe", "-y"], 2, "no such option -y"),
        (["probe", "--conf", "many"], 2, "--conf: 'many' is not a number"),
        (["probe", "--conf", "nan"], 2, "--conf: 'nan' is not a finite number"),
        (["probe", "-b", "1.5"], 2, "--batch-size: '1.5' is not a whole number"),
        (["probe", "-b", "0"], 2, "--batch-size: 0 is not at least 1"),
        (["probe", "--precision", "int4"], 2, "'int4' is none of fp32, fp16, bf16"),
        (["probe", "--conf"], 2, "requires an argument"),
        (["prob"], 2, "did you mean probe"),
        (["--helb"], 2, "did you mean --help?"),
        (["-x"], 2, "no such option -x"),
    ],
)
def test_usage_errors_are_plain_lines(got, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str) -> None:
    assert entry.main(words) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert 1 <= len(told.err.splitlines()) <= 3
    assert told.err.startswith("cvtool")
    assert not re.search("[╭─╰│]|Traceback", told.err)


def test_errors_of_the_program_and_of_the_world(verb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[BaseException] = []

    def probe() -> None:
        raise raised[-1]

    verb(probe)
    for error, code, said in [
        (InputError("not a picture", where="a.jpg", hint="try another"), 3, "cvtool probe: not a picture\n  in a.jpg\n  try another\n"),
        (KeyError("label"), 1, "cvtool probe: KeyError: 'label'\n  --traceback shows where it comes from\n"),
        (OSError(28, "No space left on device", "x.json"), 1, "cvtool probe: disk full: No space left on device (x.json)\n"),
        (PermissionError(13, "Permission denied", "x"), 1, "cvtool probe: permission denied (x)\n"),
        (FileNotFoundError(2, "No such file or directory", "y"), 3, "cvtool probe: no such file or directory (y)\n"),
        (KeyboardInterrupt(), 130, "cvtool probe: interrupted\n"),
        (BrokenPipeError(32, "Broken pipe"), 0, ""),
        (MemoryError(), 1, "cvtool probe: out of memory\n"),
        (typer.Exit(6), 6, ""),
        (SystemExit(5), 5, ""),
        (entry.Stop(), 143, "cvtool probe: terminated\n"),
    ]:
        raised.append(error)
        assert entry.main(["probe"]) == code
        assert capsys.readouterr().err.startswith(said)
    raised.append(KeyError("label"))
    assert entry.main(["probe", "--traceback"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    monkeypatch.setenv("CVTOOL_TRACEBACK", "1")
    assert entry.main(["probe"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_help_keeps_examples_and_names_every_option(got, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("-h", "--help"):
        assert entry.main(["probe", flag]) == 0
        told = capsys.readouterr().out
        assert "      cvtool probe a.jpg\n      cvtool probe b.jpg\n" in told
        assert "-m, --model REF" in told
        assert "╭" not in told
        assert "[default: 0]" not in told
    assert entry.main(["help", "probe"]) == 0
    assert "cvtool probe a.jpg" in capsys.readouterr().out


def test_groups_have_the_same_manners(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    app = typer.Typer(help="A group.")
    seen = {}

    @app.command()
    def convert(conf: _options.Conf = None, config: _options.Config = None) -> None:
        """Convert things."""
        seen.update(conf=conf)

    @app.command()
    def check() -> None:
        """Check things."""

    monkeypatch.setattr(cli, "verbs", lambda: {"probe": "Probe."})
    monkeypatch.setattr(cli, "command", lambda name: cli._build(types.SimpleNamespace(app=app, __doc__="A group."), name))
    assert entry.main(["probe", "convert", "--conf", ".5"]) == 0
    assert seen == {"conf": 0.5}
    file = tmp_path / "c.toml"
    file.write_text("[probe.convert]\nconf = 0.25\n")
    assert entry.main(["probe", "convert", "-c", str(file)]) == 0
    assert seen == {"conf": 0.25}
    capsys.readouterr()
    assert entry.main(["probe", "convret"]) == 2
    assert "did you mean convert?" in capsys.readouterr().err
    assert entry.main(["probe"]) == 2
    assert "convert, check" in capsys.readouterr().err
    app.info.no_args_is_help = True
    assert entry.main(["probe"]) == 2
    assert "Convert things." in capsys.readouterr().err
    assert entry.main(["probe", "convert", "--help"]) == 0
    assert "Convert things." in capsys.readouterr().out
    assert entry.main(["probe", "--help"]) == 0
    assert "Check things." in capsys.readouterr().out


@pytest.mark.parametrize(("text", "part"), [("1/4", (0, 4)), ("4/4", (3, 4)), (" 2 / 3 ", (1, 3)), (None, None)])
def test_shard(text: str | None, part: tuple[int, int] | None) -> None:
    assert _options.shard(text) == part


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4"])
def test_wrong_shards(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        _options.shard(text)


@pytest.mark.parametrize("values", [["lr"], ["=3"], ["lr=1", "lr=2"]])
def test_wrong_settings(values: list[str]) -> None:
    with pytest.raises(UsageError, match="--set"):
        _options.settings(values)


def shared() -> dict[str, Any]:
    """Every shared option: its name here and its typer option."""
    found = {name: get_args(value) for name, value in vars(_options).items() if name[:1].isupper() and get_args(value)}
    return {name: parts[1] for name, parts in found.items() if len(parts) == 2 and isinstance(parts[1], typer.models.OptionInfo)}


def test_options_are_sorted_unique_and_settable_by_the_environment() -> None:
    options = shared()
    assert len(options) > 25
    assert list(options) == sorted(options, key=str.lower)
    spelled = [[option.default, *(option.param_decls or ())] for option in options.values()]  # Typer takes the first for the default until later
    words = [word for names in spelled for word in names]
    assert len(words) == len(set(words)), "two options share a name"
    for names, option in zip(spelled, options.values(), strict=True):
        long = next(word for word in names if word.startswith("--"))
        assert option.envvar == "CVTOOL_" + long[2:].upper().replace("-", "_")
        assert option.help
    assert not {f"--{name}" for name in _options.SPELLINGS} & set(words)
    assert {f"--{name}" for name in _options.SPELLINGS.values()} <= set(words)


def test_every_verb_has_a_line_and_a_help() -> None:
    for name, line in cli.verbs().items():
        assert line, name
        assert line.endswith("."), f"{name}: {line}"
        command = cli.command(name)
        assert command.help


def test_a_value_of_any_other_kind_is_left_to_typer(verb) -> None:
    seen = {}

    def probe(when: Annotated[tuple[int, int] | None, typer.Option()] = None) -> None:
        seen.update(when=when)

    verb(probe)
    assert entry.main(["probe", "--when", "3", "4"]) == 0
    assert tuple(seen["when"]) == (3, 4)
