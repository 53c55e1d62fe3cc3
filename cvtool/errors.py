"""Every way in which cvtool stops, each with the exit code that scripts may rely on.

An error is one to three plain lines: what happened, where, and what to do about it. Library code raises these (or
ValueError for a programmer's mistake) and never prints or exits; only `cvtool.__main__` turns them into lines and a code.
"""

from __future__ import annotations


class CvtoolError(Exception):
    """What went wrong (`what`), optionally `where` (a file, a line, an option) and a `hint` that says what to do."""

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.hint = hint

    def lines(self) -> list[str]:
        """One to three lines for a person, without a trailing newline."""
        return [self.what] + [line for line in (self.where and f"  in {self.where}", self.hint and f"  {self.hint}") if line]

    def __str__(self) -> str:
        return "\n".join(self.lines())


class UsageError(CvtoolError):
    """The command line asks for something that cannot be: an unknown option or key, an output that exists, an option without effect."""

    exit_code = 2


class InputError(CvtoolError):
    """A picture, annotation file or data set that is missing, unreadable or malformed."""

    exit_code = 3


class ModelError(CvtoolError):
    """A model or its weights: unknown name, corrupt or refused checkpoint, weights for other classes, no network."""

    exit_code = 4


class MissingDependency(CvtoolError):
    """An optional package that this command needs is not installed; the hint holds the install command."""

    exit_code = 5


class GateFailed(CvtoolError):
    """A metric did not pass its gate."""

    exit_code = 6


class PartialSuccess(CvtoolError):
    """Some inputs could not be used; all others were done and written."""

    exit_code = 7


class Interrupted(CvtoolError):
    """The user pressed Ctrl-C."""

    exit_code = 130


class Terminated(CvtoolError):
    """The process was asked to end (SIGTERM) and has saved what it could."""

    exit_code = 143


def did_you_mean(word: str, known, *, count: int = 3) -> str | None:
    """A sentence that offers the closest of `known`, or None where nothing is close."""
    from difflib import get_close_matches

    close = get_close_matches(word.lower(), list(known), n=count, cutoff=0.55)
    return "did you mean " + " or ".join(close) + "?" if close else None
