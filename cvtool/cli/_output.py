"""stdout and -o: where records go, in which format, and how a killed run leaves no half file and loses no finished work.

Without -o, records go to stdout as they are made: a table for people on a terminal, JSON lines in a pipe, or what --format says. With -o,
every record is first a line of the journal `OUT.part`; at the end the journal becomes the output, under a temporary name that is renamed. So
the final name never shows half a file, memory stays constant, and `--resume` goes on from the journal (or from a finished `.jsonl` or COCO
file, to which it adds the inputs that are new). Records with an error are tried again.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from cvtool.cli._console import Console
from cvtool.errors import InputError, PartialSuccess, UsageError

if TYPE_CHECKING:
    from cvtool.records import Record

BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "coco", ".csv": "csv"}
BY_SUFFIX |= {f".{name}": name for name in ("npz", "npy", "safetensors", "parquet")}


@dataclass
class Target:
    """Where records go: `path` None is stdout; `format` None there means a table on a terminal and JSON lines elsewhere."""

    path: Path | None
    format: str | None
    overwrite: bool = False
    resume: bool = False
    part: tuple[int, int] | None = None  # this process's share of a run of several (`_ranks.py`)
    done: Counter[tuple[str, int]] = field(default_factory=Counter)  # inputs that --resume found done: file name and page, how often

    @property
    def journal(self) -> Path:
        """`OUT.part`, JSON lines, beside the output; `OUT.part.IofN` for one process of several."""
        assert self.path is not None
        return self.path.with_name(self.path.name + ".part" + (f".{self.part[0]}of{self.part[1]}" if self.part else ""))

    def pending(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records that --resume has still to do. An input that is given twice is done when it was done twice."""
        left = self.done.copy()
        for record in records:
            if left[key := _key(record)] > 0:
                left[key] -= 1
            else:
                yield record


def target(
    output: str | None, format: str | None = None, *, overwrite: bool = False, resume: bool = False, part: tuple[int, int] | None = None
) -> Target:
    """Check -o, -f, --overwrite and --resume before anything slow begins. Raises UsageError; reads what --resume finds done."""
    if output in (None, "-", "/dev/stdout"):
        for option, given in (("--overwrite", overwrite), ("--resume", resume)):
            if given:
                raise UsageError(f"{option} has no effect without -o FILE", hint="add -o FILE or leave it out")
        name = _known(format)
        if name not in (None, "jsonl", "table"):
            from cvtool.data import formats

            if getattr(formats.get(name), "SUFFIX", "") is None:
                raise UsageError(f"-f {format} is a folder of files, which stdout cannot hold", hint="add -o out/, or say -f jsonl, coco or csv")
        return Target(None, name)
    assert output is not None
    path = Path(output).expanduser()
    name = _known(format) or _from_suffix(output, path)
    if name == "table":
        raise UsageError("-f table is for stdout; it cannot be written to a file")
    if overwrite and resume:
        raise UsageError("--overwrite and --resume exclude each other")
    where = Target(path, name, overwrite, resume, part)
    if path.parent != path and path.parent.exists() and not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder", where=f"-o {output}")
    taken = path.exists() and not _is_device(path) and not (path.is_dir() and not any(path.iterdir()))
    if taken and not overwrite and (part or not resume):
        again = ", --resume to add what is new" if name in ("jsonl", "coco") and not part else ""
        raise UsageError(f"{path} exists", hint=f"--overwrite to replace it{again}, or another -o")
    left = [journal for journal in (where.journal, finished(where.journal)) if journal.exists()]
    if resume:
        where.done = _found_done(where)
    elif left and not overwrite:
        raise UsageError(f"{left[0]} exists: an earlier run did not finish", hint="--resume to go on with it, --overwrite to start again")
    else:
        for journal in left:
            journal.unlink()
    return where


def finished(journal: Path) -> Path:
    """What the journal of one process of several is called when it is complete."""
    return journal.with_name(journal.name + ".done")


def _is_device(path: Path) -> bool:
    """/dev/null, a named pipe: written as they are, never renamed."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _known(format: str | None) -> str | None:
    if format is None:
        return None
    name = format.lower().replace("_", "-")
    if name in ("json",):
        raise UsageError("-f json could be a COCO document or JSON lines", hint="say -f coco or -f jsonl")
    if name not in ("jsonl", "table"):
        from cvtool.data import formats

        formats.get(name)
    return name


def _from_suffix(output: str, path: Path) -> str:
    if output.endswith("/") or path.is_dir():
        raise UsageError(f"which format is the folder {output} to hold?", hint="say -f yolo, -f voc ... or give -o a file: .jsonl, .json, .csv")
    if name := BY_SUFFIX.get(path.suffix.lower()):
        return name
    raise UsageError(f"-o {output}: the name does not tell the format", hint="end it in .jsonl, .json (COCO) or .csv, or say -f NAME")


# --- writing -------------------------------------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What the summary tells."""

    images: int = 0
    objects: int = 0
    bad: int = 0
    first_error: str = ""
    noun: str = "object"
    start: float = field(default_factory=time.monotonic)

    def add(self, record: Record) -> None:
        if record.failed:
            self.bad += 1
            self.first_error = self.first_error or f"{record.name}: {record['error']}"
        else:
            self.images += 1
            self.objects += len(record.get("annotations") or ())

    def line(self, facts: Iterable[str]) -> str:
        seconds = time.monotonic() - self.start
        parts = [_count(self.images, "image")]
        if self.objects:
            parts.append(_count(self.objects, self.noun))
        if self.bad:
            parts.append(_count(self.bad, "bad input"))
        parts.append(f"{seconds:.1f} s")
        if self.images and seconds > 0:
            parts.append(f"{self.images / seconds:.3g} images/s")
        return ", ".join([*parts, *facts])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def deliver(records: Iterable[Record], where: Target, console: Console, *, noun: str = "object") -> None:
    """Write every record where it belongs, then the summary on stderr. noun: what annotations are in it.

    Raises InputError if every input was bad (exit code 3) and PartialSuccess if some were (7); what was good has been written by then.
    """
    tally = Tally(noun=noun)
    stream = counted(records, tally, console)
    try:
        if where.path is None:
            notes = _to_stdout(stream, where.format)
        elif _is_device(where.path):
            with where.path.open("w", encoding="utf-8") as out:
                notes = _write(stream, where.format or "jsonl", out)
        else:
            to_journal(stream, where, console)
            notes = finish(where)
    finally:
        stream.close()
        console.clear()
    for note in notes:
        console.say(note)
    before = [f"{where.done.total()} done before"] if where.done else []
    if tally.images or before or not tally.bad:
        console.say(tally.line([*console.facts.values(), *before]))
    conclude(tally, bool(where.done))


def conclude(tally: Tally, more: bool = False) -> None:
    """Turn bad inputs into the error that the exit code tells. `more`: there are good ones besides, from an earlier run."""
    if tally.bad and (tally.images or more):
        raise PartialSuccess(f"{tally.bad} of {tally.bad + tally.images} inputs could not be used", hint="the others are done; see the lines above")
    if tally.bad == 1:
        raise InputError("the input could not be used; see the line above")
    if tally.bad:
        raise InputError(f"none of the {tally.bad} inputs could be used; see the lines above")


def counted(records: Iterable[Record], tally: Tally, console: Console | None = None) -> Generator[Record, None, None]:
    """The records as they pass, counted; with a console, bad ones are told and the line of progress moves."""
    try:
        for record in records:
            tally.add(record)
            if console is not None:
                if record.failed:
                    page = f" (page {record['page']})" if record.get("page") else ""
                    console.error(f"{record.name}{page}: {record['error']}")
                else:
                    console.detail(f"{record.name}: {_found(record)}")
                console.progress(f"{console.verb}  {tally.line(())}")
            yield record
    finally:
        if hasattr(records, "close"):  # stops the threads behind it now, not when the garbage is collected
            records.close()


def _to_stdout(records: Iterable[Record], format: str | None) -> list[str]:
    if format == "table" or (format is None and sys.stdout.isatty()):
        from cvtool.cli._table import show

        show(records, sys.stdout)
        return []
    return _write(records, format or "jsonl", sys.stdout)


def _write(records: Iterable[Record], format: str, out: Path | TextIO) -> list[str]:
    from cvtool.data import formats

    return list(formats.get(format).write(records, out) or ())


def _found(record: Record) -> str:
    return _count(len(record.get("annotations") or record.get("labels") or ()), "label" if "labels" in record else "object")


def to_journal(records: Iterable[Record], where: Target, console: Console) -> None:
    """Append each record to the journal, flushed, so that no finished work is lost whatever happens."""
    from cvtool.records import write_line

    where.journal.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    try:
        with where.journal.open("a" if where.resume else "w", encoding="utf-8") as stream:
            for record in records:
                write_line(record, stream)
                written += 1
    except BaseException:
        if written or where.done:
            console.clear()
            console.say(
                f"{_count(written + where.done.total(), 'input')} done and kept in {where.journal}; the same command with --resume goes on from there"
            )
        else:
            with suppress(OSError):
                where.journal.unlink()
        raise


def finish(where: Target) -> list[str]:
    """Turn the journal into the output, atomically, and remove it; returns the format's notes."""
    if where.format == "jsonl" and where.path is not None:
        with where.journal.open("rb") as stream:
            os.fsync(stream.fileno())
        where.journal.replace(where.path)
        return []
    from cvtool.records import read_lines

    with where.journal.open(encoding="utf-8") as lines:
        notes = write_whole(where, read_lines(lines, name=str(where.journal)))
    where.journal.unlink(missing_ok=True)
    return notes


def write_whole(where: Target, records: Iterable[Record]) -> list[str]:
    """Write a file or folder under a temporary name and rename it when it is whole and on the disk."""
    path = where.path
    assert path is not None
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        notes = _write(records, where.format or "jsonl", temporary)
        beside = _beside(where, temporary)
        if temporary.is_dir():
            merge_folder(temporary, path)
        else:
            if beside is not None and beside.exists():
                beside.replace(_beside(where, path) or beside)
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
    except BaseException:
        remove(temporary)
        if (beside := _beside(where, temporary)) is not None:
            remove(beside)
        raise
    return notes


def _beside(where: Target, path: Path) -> Path | None:
    """The second file of a format that writes two."""
    from cvtool.data import formats

    suffix = getattr(formats.get(where.format), "BESIDE", None) if where.format not in (None, "jsonl") else None
    return path.with_name(path.name + suffix) if suffix else None


def merge_folder(new: Path, path: Path) -> None:
    """Move a finished folder into place; into an existing one, file by file (--overwrite: same names are replaced, others stay)."""
    if not path.exists() or not any(path.iterdir()):
        if path.exists():
            path.rmdir()
        new.replace(path)
        return
    for file in sorted(p for p in new.rglob("*") if p.is_file()):
        place = path / file.relative_to(new)
        place.parent.mkdir(parents=True, exist_ok=True)
        file.replace(place)
    remove(new)


def remove(path: Path) -> None:
    import shutil

    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


# --- resuming ------------------------------------------------------------------------------------------------------------------------------------


def _key(record: Any) -> tuple[str, int]:
    page = record.get("page") or 0
    return str(record.get("file_name")), page if isinstance(page, int) else 0


def _found_done(where: Target) -> Counter[tuple[str, int]]:
    """What is done already. Leaves the journal holding exactly that, without the torn last line of a killed run and without errors (one process
    of several keeps those, because the place of a line tells the place of its input)."""
    from cvtool.records import write_line

    assert where.path is not None
    done: Counter[tuple[str, int]] = Counter()
    fresh = where.journal.with_name(where.journal.name + ".new")
    where.journal.parent.mkdir(parents=True, exist_ok=True)
    try:
        with fresh.open("w", encoding="utf-8") as out:
            for record in _earlier(where):
                if where.part or not record.failed:
                    done[_key(record)] += 1
                    write_line(record, out)
        fresh.replace(where.journal)
    finally:
        remove(fresh)
    finished(where.journal).unlink(missing_ok=True)
    return done


def _earlier(where: Target) -> Iterator[Record]:
    """The records of the run before: from its journal, or from its finished output."""
    from cvtool.records import read_lines

    assert where.path is not None
    path = next((p for p in (where.journal, finished(where.journal), where.path) if p.exists()), None)
    if path is None:
        return
    if path == where.path and where.format != "jsonl":
        from cvtool.data import formats

        if getattr(module := formats.get(where.format or ""), "LOSSLESS", False):
            yield from module.read(path)
            return
        if where.format != "coco":
            raise UsageError(f"--resume cannot read a finished {where.format} output back", hint="use -o x.jsonl or x.json, or --overwrite")
        from cvtool.data.formats import coco

        yield from coco.records(coco.document(path), path, resolve=False)  # names as this program wrote them
        return
    with path.open("rb") as stream:
        whole = (line for line in stream if line.endswith(b"\n"))  # a line without its end is half a record
        yield from read_lines(whole, name=str(path))
