"""SIGTERM and Ctrl-C as a request that the loop grants between two turns."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cvtool.errors import CvtoolError, Interrupted, Terminated


class Stopped(Exception):
    """Raised where the run is asked to end; the loop saves and turns it into an error with an exit code."""


class Signals:
    """The first SIGTERM or Ctrl-C is kept here until somebody asks; a second one is not held back."""

    def __init__(self) -> None:
        self.number: int | None = None

    def check(self) -> None:
        """Raises Stopped after a signal."""
        if self.number is not None:
            raise Stopped

    def error(self, what: str, hint: str | None) -> CvtoolError:
        """How a run ends that was asked to."""
        return (Terminated if self.number == signal.SIGTERM else Interrupted)(what, hint=hint)

    @contextmanager
    def caught(self) -> Iterator[None]:
        before: dict[int, Any] = {}

        def ask(number: int, frame: Any) -> None:
            self.number = number
            restore()

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)
            before.clear()

        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, ask)
        except ValueError:  # not the main thread: signals are somebody else's
            pass
        try:
            yield
        finally:
            restore()
