"""Several processes on one job: under `torchrun` each takes every N-th input, and rank 0 puts the outputs together in input order.

Nothing is exchanged but files beside -o: rank I writes `OUT.part.IofN`, JSON lines, and renames it to `OUT.part.IofN.done`; rank 0 waits for
all of them. It gives up when no file has grown for `CVTOOL_RANK_TIMEOUT` seconds (600), for then a process has died.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cvtool.cli import _output
from cvtool.cli._console import Console
from cvtool.errors import CvtoolError, UsageError
from cvtool.runtime import torchrun

if TYPE_CHECKING:
    from cvtool.records import Record


@dataclass(frozen=True)
class Ranks:
    """This process's place: `rank` of `count`, `local` among those of its machine."""

    rank: int
    count: int
    local: int

    @property
    def part(self) -> tuple[int, int]:
        return self.rank, self.count

    def device(self, asked: str) -> str:
        """Each process of a machine takes a GPU of its own."""
        if asked not in ("auto", "cuda"):
            return asked
        import torch

        return f"cuda:{self.local % torch.cuda.device_count()}" if torch.cuda.is_available() else asked

    def deliver(self, records: Iterable[Record], where: _output.Target, console: Console) -> None:
        """Write this process's part; on rank 0 then wait for the others and write the output."""
        console.quiet = console.quiet or self.rank > 0
        tally = _output.Tally()
        stream = _output.counted(records, tally, console)
        try:
            _output.to_journal(stream, where, console)
        finally:
            stream.close()
            console.clear()
        where.journal.replace(_output.finished(where.journal))
        if self.rank:
            return
        parts = [_output.finished(replace(where, part=(i, self.count)).journal) for i in range(self.count)]
        _wait(parts)
        total = _output.Tally(start=tally.start)
        notes = _output.write_whole(where, _output.counted(_in_turn(parts), total))
        for part in parts:
            part.unlink(missing_ok=True)
        for note in notes:
            console.say(note)
        console.say(total.line([f"{self.count} processes", *console.facts.values()]))
        _output.conclude(total)


def from_environment(output: str | None, shard: str | None) -> Ranks | None:
    """What torchrun says, or None outside of it. Raises UsageError where it cannot be done."""
    place = torchrun.place()
    if place.count == 1:
        return None
    if shard is not None:
        raise UsageError("--shard is not for runs under torchrun, which shards by itself")
    if output in (None, "-"):
        raise UsageError("a run under torchrun needs -o FILE", hint="its processes put their results together there")
    return Ranks(place.rank, place.count, place.local)


def _wait(parts: list[Path]) -> None:
    """Until every part is finished. Raises CvtoolError when nothing has grown for a long time."""
    limit = torchrun.limit()
    seen: dict[Path, int] = {}
    last = time.monotonic()
    while missing := [part for part in parts if not part.exists()]:
        sizes = {path: path.stat().st_size for part in missing if (path := part.with_suffix("")).exists()}
        if sizes != seen:
            seen, last = sizes, time.monotonic()
        if time.monotonic() - last > limit:
            ranks = ", ".join(part.name.rpartition(".part.")[2].partition("of")[0] for part in missing)
            raise CvtoolError(f"rank {ranks} did not finish: no progress for {limit:g} s", hint="what is done is kept; run again with --resume")
        time.sleep(0.05)


def _in_turn(parts: list[Path]) -> Iterator[Record]:
    """The records of all parts, one of each in turn: the order of the inputs."""
    from cvtool.records import read_lines

    files = [part.open(encoding="utf-8") for part in parts]
    try:
        readers = [read_lines(file, name=str(part)) for file, part in zip(files, parts, strict=True)]
        while True:
            for reader in readers:
                record = next(reader, None)
                if record is None:
                    return
                yield record
    finally:
        for file in files:
            file.close()
