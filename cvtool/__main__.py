"""The entry point: standard library only until it knows what to do; every way out becomes plain lines and an exit code.

`--version` and `--help` import neither Typer nor a verb; a verb's file is imported when its name is typed. Errors are one to three lines on
stderr that start with "cvtool VERB: "; `--traceback` anywhere (or CVTOOL_TRACEBACK=1) shows where they come from.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from cvtool.errors import CvtoolError, did_you_mean

COMPLETE = "_CVTOOL_COMPLETE"


class Stop(BaseException):
    """SIGTERM. Not an Exception, so that nothing on the way out mistakes it for a bad input; `finally` clauses tidy up."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _ready_streams()
    end = words.index("--") if "--" in words else len(words)
    traceback = "--traceback" in words[:end] or os.environ.get("CVTOOL_TRACEBACK", "") not in ("", "0")
    words = [word for i, word in enumerate(words) if word != "--traceback" or i >= end]
    title = "cvtool"
    try:
        if words and not words[0].startswith("-"):
            title = f"cvtool {words[0]}"
        code = _run(words)
        sys.stdout.flush()
    except BaseException as error:
        if isinstance(error, SystemExit) and not isinstance(error.code, str):
            code = error.code or 0
        else:
            code = _report(error, title, traceback)
    return _close(int(code or 0))


def _ready_streams() -> None:
    """stdout is UTF-8 whatever the locale says, for records are; a stream that the caller closed swallows what is said."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def _run(words: list[str]) -> int:
    if COMPLETE in os.environ:
        return _complete()
    if not words or (words[0] in ("-h", "--help", "help") and len(words) == 1):
        from cvtool.cli import overview

        print(overview(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] in ("--version", "-V"):
        from cvtool import __version__

        print(f"cvtool {__version__}")
        return 0
    if words[0] == "help":
        words = [*words[1:], "--help"]
    if words[0].startswith("-"):
        from cvtool.errors import UsageError

        hint = did_you_mean(words[0], ["--help", "--version"]) or "a verb comes first; see `cvtool --help`"
        raise UsageError(f"no such option {words[0]}", hint=hint)
    from cvtool.cli import command

    return _invoke(command(words[0]), words)


def _invoke(command: Any, words: list[str]) -> int:
    """Parse and run a click command, without click's own handling of errors and exits."""
    import signal

    import typer

    try:
        before = signal.signal(signal.SIGTERM, _stop)
    except ValueError:  # not the main thread, which alone hears signals
        before = None
    if not sys.warnoptions:  # libraries' warnings are for those who write Python; -W shows them
        warnings.simplefilter("ignore")
    try:
        with command.make_context(f"cvtool {words[0]}", words[1:]) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    return 0


def _stop(*_: Any) -> NoReturn:
    raise Stop


def _complete() -> int:
    """Answer the shell (completions/ holds what asks): the protocol of click, spoken by Typer."""
    from cvtool.cli import group

    with contextlib.suppress(ImportError):  # where Typer brings its own click, its answers for each shell must be made known to it
        from typer.completion import completion_init

        completion_init()
    group().main([], prog_name="cvtool", complete_var=COMPLETE)
    return 0


def _report(error: BaseException, title: str, traceback: bool) -> int:
    """Say what happened on stderr, in one to three lines; returns the exit code."""
    if traceback and not isinstance(error, BrokenPipeError):
        import traceback as tb

        tb.print_exception(error)
    code, lines = _describe(error)
    if lines and code in (2, 143) and _follows():
        return code
    if lines:
        _say(f"{title}: {lines[0]}", *lines[1:])
    return code


def _follows() -> bool:
    """Whether another process, started by torchrun with the same command line, tells what all of them find wrong. It is given the time to."""
    from cvtool.runtime import torchrun

    if torchrun.place().rank == 0:
        return False
    import time

    time.sleep(2)  # torchrun ends all when one ends
    return True


def _describe(error: BaseException) -> tuple[int, list[str]]:
    if isinstance(error, CvtoolError):
        return error.exit_code, error.lines()
    if isinstance(error, BrokenPipeError):
        return 0, []  # the reader has what it wanted
    if isinstance(error, KeyboardInterrupt):
        return 130, ["interrupted"]
    if isinstance(error, Stop):
        return 143, ["terminated"]
    if isinstance(error, SystemExit):
        return 1, [str(error.code)]
    if hasattr(error, "format_message"):  # Typer's and click's own errors; duck-typed because Typer brings its own click since 0.2x
        return _usage(error)
    if isinstance(error, OSError) and error.errno is not None:
        return _system(error)
    if isinstance(error, MemoryError):
        return 1, ["out of memory", "  a smaller --batch-size, --img-size or --tile needs less"]
    kind = type(error).__name__
    return 1, [f"{kind}: {' '.join(str(error).split()) or 'no message'}"[:500], "  --traceback shows where it comes from"]


def _usage(error: Any) -> tuple[int, list[str]]:
    context: Any = getattr(error, "ctx", None)
    kind = type(error).__name__
    if kind == "NoArgsIsHelpError":
        _say(context.get_help())
        return 2, []
    path = context.command_path if context is not None else "cvtool"
    hint = f"`{path} --help` shows how it is used"
    parameter = getattr(error, "param", None)
    name = next((o for o in getattr(parameter, "opts", ()) if o.startswith("--")), None) or (getattr(parameter, "metavar", None) or "INPUT")
    message = " ".join(str(error.message).split()).rstrip(".")
    if kind == "NoSuchOption":
        known = [o for p in context.command.params for o in (*p.opts, *p.secondary_opts) if o.startswith("--")] if context is not None else []
        return 2, [f"no such option {error.option_name}", "  " + (did_you_mean(error.option_name, known) or hint)]
    if kind == "NoSuchCommand" or message.startswith("No such command"):
        word = message.partition("'")[2].partition("'")[0]
        commands = list(getattr(context.command, "commands", {}))
        return 2, [f"unknown command '{word}'", "  " + (did_you_mean(word, commands) or "commands: " + ", ".join(commands))]
    if message.startswith("Missing command"):
        return 2, ["which command? " + ", ".join(getattr(context.command, "commands", {})), f"  {hint}"]
    if kind == "MissingParameter":
        return 2, [f"{name} is missing", f"  {hint}"]
    if parameter is not None:
        return 2, [f"{name}: {error.message}", f"  {hint}"]
    return getattr(error, "exit_code", 2), [message[:1].lower() + message[1:], f"  {hint}"]


def _system(error: OSError) -> tuple[int, list[str]]:
    import errno

    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return 1, [f"disk full: {error.strerror}{where}", "  free some space, or write elsewhere with -o"]
    code = 3 if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError) else 1
    return code, [f"{(error.strerror or type(error).__name__).lower()}{where}"]


def _say(*lines: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(*lines, sep="\n", file=sys.stderr, flush=True)


def _close(code: int) -> int:
    """Flush stdout now: at interpreter shutdown a closed pipe or a full disk would end in a message of Python's own and code 120."""
    try:
        sys.stdout.flush()
    except BaseException as error:
        if code == 0:
            code = _report(error, "cvtool", False)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered goes nowhere
    return code


if __name__ == "__main__":
    sys.exit(main())
