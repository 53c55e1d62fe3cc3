"""The run's diary: one JSON line a tick and one an epoch, flushed; and what a caller may listen to."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cvtool.errors import CvtoolError

STAGE = "stage"  # the key of lines that a chain's earlier trainings have written
TIMES = ("seconds", "seconds_per_iteration", "images_per_second", "peak_memory")  # of a line: what differs between two runs that are the same


class Log:
    """log.jsonl. Values that are not finite are written as null, because JSON has no other word for them."""

    def __init__(self, path: Path, *, keep: int = 0, also: Callable[[dict[str, Any]], None] | None = None) -> None:
        """keep: bytes of an earlier part that stay; what a killed run wrote after its last save goes. also: gets every line."""
        self.path, self.also = path, also
        self._file = path.open("ab")
        self._file.truncate(min(keep, os.fstat(self._file.fileno()).st_size))

    def write(self, **values: Any) -> None:
        if self.also is not None:
            self.also(values)
        try:
            self._file.write(json.dumps({key: tidy(value) for key, value in values.items()}).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            hint = "the last good checkpoint is kept; make room and use --resume"
            raise CvtoolError(f"the log cannot be written: {error.strerror or error}", where=self.path, hint=hint) from error

    def tell(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        with suppress(OSError):  # what could not be flushed has been told
            self._file.close()


def before(path: Path) -> int:
    """Bytes of the lines that a log begins with and that an earlier stage has written; 0 for no log."""
    count = 0
    with suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            if not line.startswith(b'{"%s": ' % STAGE.encode()):
                break
            count += len(line)
    return count


class Nowhere(Log):
    """For a loop that leaves nothing behind."""

    def __init__(self) -> None:
        self.path = Path(os.devnull)

    def write(self, **values: Any) -> None: ...

    def tell(self) -> int:
        return 0

    def close(self) -> None: ...


def tidy(value: Any) -> Any:
    """A number as it goes into JSON: at most 7 significant digits, as float32 has; and all of them in a table."""
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: tidy(inner) for key, inner in value.items()}
    return value


class Reporter:
    """What the loop tells whoever started it. This one is silent; a command line draws a bar. detailed: `detail` is listened to."""

    detailed = False

    def start(self, *, epochs: int, turns: int, done: int) -> None:
        """A run of `turns` optimiser turns in all, of which `done` lie behind."""

    def turn(self, *, epoch: int, turn: int, losses: dict[str, float], lr: float, images: int) -> None:
        """One optimiser turn is done; `turn` counts from 1."""

    def epoch(self, *, epoch: int, values: dict[str, Any], best: bool) -> None:
        """An epoch is done and saved; `values` is its line in the log."""

    def note(self, text: str) -> None:
        """Something that a person should know."""

    def detail(self, text: str) -> None:
        """Something for a person who asked for more."""

    def stop(self) -> None:
        """No more will be told."""
