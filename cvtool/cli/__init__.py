"""The command line: a verb is a file of this folder, found by looking; nothing is imported to list them.

A file `<verb>.py` offers `main`, a function whose annotated parameters are its options, or `app`, a `typer.Typer` with subcommands. The first
line of its docstring is its line in `cvtool --help`, the docstring of `main` (or the module's) is its own help; indented lines there are
examples and keep their form. Plugins add verbs through the entry-point group `cvtool.commands`: an entry point's name is the verb, its value
a module of the same shape, or such a function or app.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

# how --help shows them; any others follow
ORDER = ("detect", "segment", "classify", "generate", "inpaint", "ocr", "visualize", "evaluate", "train", "models", "data")
EPILOG = "Any verb: -c FILE.toml or CVTOOL_<OPTION> set options too; --traceback shows where an error comes from."


def verbs() -> dict[str, str]:
    """Every built-in verb -> its line of help, read as text."""
    found = {path.stem.replace("_", "-"): path for path in sorted(Path(__file__).parent.glob("[!_]*.py"))}
    names = sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return {name: _first_line(found[name]) for name in names}


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().strip().strip('"').strip()


def plugins() -> dict[str, EntryPoint]:
    """Verbs that installed packages add. Reads the metadata of every installed package, so only asked when a word is no built-in verb."""
    from importlib.metadata import entry_points

    known = verbs()
    return {point.name: point for point in sorted(entry_points(group="cvtool.commands"), key=lambda p: p.name) if point.name not in known}


def overview() -> str:
    """The text of `cvtool --help`, made without importing a verb."""
    from cvtool import __version__

    lines = verbs() | {name: _plugin_line(point) for name, point in plugins().items()}
    width = max(map(len, lines), default=0)
    rows = [f"  {name:{width}}  {line}" for name, line in lines.items()]
    head = [f"cvtool {__version__}: computer vision, one verb at a time, in pipes.", "", "Usage: cvtool VERB [INPUT...] [OPTIONS]", "", "Verbs:"]
    tail = [
        "",
        "Options: -h, --help (also after a verb); --version; --traceback (show where an error comes from)",
        "",
        "    cvtool detect street.jpg -m faster-rcnn | cvtool visualize - -o seen/",
        "",
        "Exit codes: 0 ok, 1 runtime, 2 usage, 3 input, 4 model or weights, 5 missing dependency, 6 gate failed, 7 some inputs bad.",
    ]
    return "\n".join([*head, *rows, *tail])


def _plugin_line(point: EntryPoint) -> str:
    """Whose verb it is; whether its module is there is looked up, not tried, so that a broken package costs `--help` nothing."""
    from importlib.util import find_spec

    module = point.value.partition(":")[0].strip()
    try:
        found = find_spec(module) is not None
    except Exception:  # of a dotted name the packages above are imported, and those may raise anything
        found = False
    return f"(from the plugin {module})" if found else f"(broken: the plugin {module} cannot be found; repair or uninstall it)"


def command(verb: str) -> Any:
    """The click command of a verb; imports that verb's file and typer. Raises UsageError with a suggestion for an unknown verb."""
    from importlib import import_module

    from cvtool.errors import UsageError, did_you_mean

    if verb in verbs():
        return _build(import_module(f"cvtool.cli.{verb.replace('-', '_')}"), verb)
    found = plugins()
    if verb in found:
        return _build(_loaded(found[verb]), verb)
    known = [*verbs(), *found]
    raise UsageError(f"unknown verb '{verb}'", hint=did_you_mean(verb, known) or "verbs: " + ", ".join(known))


def _loaded(point: EntryPoint) -> Any:
    """What a plugin's entry point names. Raises MissingDependency or CvtoolError where it does not load."""
    from cvtool.errors import CvtoolError, MissingDependency

    try:
        return point.load()
    except ImportError as error:
        raise MissingDependency(f"the plugin verb '{point.name}' does not load: {error}", where=point.value, hint="repair or uninstall it") from error
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise CvtoolError(f"the plugin verb '{point.name}' does not load: {why}", where=point.value, hint="repair or uninstall it") from error


def _build(source: Any, verb: str) -> Any:
    """A click command from a verb's module, function or Typer app."""
    import typer

    from cvtool.cli import _parsing

    app = getattr(source, "app", None) or getattr(source, "main", source)
    if not isinstance(app, typer.Typer):
        function, app = app, typer.Typer()
        text = _parsing.keep_examples(function.__doc__, 4) or _parsing.keep_examples(getattr(source, "__doc__", None))
        app.command(verb, help=text)(function)
    elif not isinstance(app.info.help, str):
        app.info.help = _parsing.keep_examples(getattr(source, "__doc__", None))
    app._add_completion = False
    app.rich_markup_mode = None  # type: ignore[assignment]
    return _parsing.adapt(typer.main.get_command(app), EPILOG)


def group() -> Any:
    """All verbs as one click group that imports a verb when it is asked for: what shell completion walks through."""
    import typer.core

    from cvtool.cli import _parsing

    class Verbs(typer.core.TyperGroup):
        def list_commands(self, ctx: Any) -> Iterable[str]:  # type: ignore[override]
            return list(verbs())

        def get_command(self, ctx: Any, name: str) -> Any:  # type: ignore[override]
            return command(name) if name in verbs() or name in plugins() else None

    return _parsing.adapt(Verbs(name="cvtool", rich_markup_mode=None), EPILOG)
