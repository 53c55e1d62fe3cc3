"""stderr, for people: notices, a line of progress, and errors about single inputs. stdout is data and never passes here."""

from __future__ import annotations

import sys
import time
from typing import Any


class Console:
    """Speaks on stderr in the name of a verb. `quiet` (-q) leaves errors only; `verbose` (-v, -vv) adds details.

    The progress line is drawn only where stderr is a terminal and stdout is not one, for a table there would be torn apart by it.
    """

    def __init__(self, verb: str, *, quiet: bool = False, verbose: int = 0) -> None:
        self.verb, self.quiet, self.verbose = verb, quiet, verbose
        self.facts: dict[str, str] = {}  # what tasks want the summary to tell: device, precision
        self._live = not quiet and _is_terminal(sys.stderr) and not _is_terminal(sys.stdout)
        self._drawn = False
        self._last = 0.0
        self._told: set[str] = set()  # downloads that were told

    def say(self, text: str) -> None:
        """A notice: what was decided, repaired or done."""
        if not self.quiet:
            self._line(f"cvtool {self.verb}: {text}")

    def detail(self, text: str) -> None:
        """What only -v shows."""
        if self.verbose:
            self.say(text)

    def error(self, text: str) -> None:
        """One input that could not be used; the run goes on."""
        self._line(f"cvtool {self.verb}: {text}")

    def progress(self, text: str) -> None:
        """Redraw the line of progress, at most ten times a second."""
        if self._live and (now := time.monotonic()) - self._last > 0.1:
            self._last, self._drawn = now, True
            _write(f"\r\x1b[2K{text}")

    def transfer(self, name: str, done: int, total: int | None) -> None:
        """Progress of a download: `download.set_progress(console.transfer)`. Where no line can be redrawn, its beginning is told."""
        if not self._live and name not in self._told:
            self._told.add(name)
            self.say(f"downloading {name}" + (f" ({total / 1e6:.1f} MB)" if total else ""))
        of = f" of {total / 1e6:.1f}" if total else ""
        self.progress(f"downloading {name}: {done / 1e6:.1f}{of} MB")

    def clear(self) -> None:
        """Take the line of progress away."""
        if self._drawn:
            self._drawn = False
            _write("\r\x1b[2K")

    def _line(self, text: str) -> None:
        self.clear()
        _write(text + "\n")


def _is_terminal(stream: Any) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):  # nobody listens any more; the work goes on
        pass
