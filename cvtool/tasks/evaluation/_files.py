"""Two folders of files that belong together: pictures, depth maps or motion fields of the same names on both sides."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cvtool.data.pairing import first, match_images, plural
from cvtool.data.sides import Side
from cvtool.errors import InputError, UsageError
from cvtool.tasks.evaluation import Options

_LINES = (".jsonl", ".ndjson")


@dataclass
class Pairs:
    """names, gt and dt: of each pair, in the ground truth's order. attributes: of each pair what its ground-truth record says."""

    names: list[str]
    gt: list[str]
    dt: list[str]
    account: str
    warnings: list[str]
    counts: dict[str, Any]
    attributes: list[dict[str, Any]] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[str, str, str]]:
        return zip(self.names, self.gt, self.dt, strict=True)


def pairs(gt: Any, dt: Any, options: Options, *, suffixes: frozenset[str], key: str | None, what: str, many: str) -> Pairs:
    """What belongs together, by file name as everywhere. Raises InputError where nothing does, UsageError for stdin twice.

    suffixes: of the files that count. key: of records (JSON lines), the key that names such a file. what, many: words for one and for several.
    """
    gt, dt = (side.where if isinstance(side, Side) else os.fspath(side) for side in (gt, dt))
    if gt == dt == "-":
        raise UsageError("stdin can be read only once: either the ground truth or the other side comes from it")
    truth, places, given = _side(gt, suffixes, key, many, options.stdin)
    found, others, _ = _side(dt, suffixes, key, many, options.stdin)
    if len(places) == len(others) == 1 and places[0] == gt and others[0] == dt:  # two files: whatever they are called, they were named
        name = Path(places[0]).name
        return Pairs([name], places, others, f"one {what} against one", [], {"images": 1, "images_matched": 1, "unanswered": 0}, given)
    pairing = match_images(truth, found)
    answers = {position: number for number, position in enumerate(pairing.positions) if position is not None}
    silent = [str(image["file_name"]) for number, image in enumerate(truth.images) if number not in answers]
    warnings = list(pairing.warnings)
    if silent:
        things = f"ground-truth {many if len(silent) > 1 else what}"
        warnings.append(f"{len(silent):,} {things} without a counterpart, not measured: {first(silent)}")
    rows = sorted(answers)
    return Pairs(
        names=[str(truth.images[row]["file_name"]) for row in rows],
        gt=[places[row] for row in rows],
        dt=[others[answers[row]] for row in rows],
        account=f"matched {len(rows):,} of {plural(len(found.images), what, many)} by {pairing.how}; {len(silent):,} of "
        f"{plural(len(truth.images), f'ground-truth {what}', f'ground-truth {many}')} without a counterpart",
        warnings=warnings,
        counts={"images": len(truth.images), "images_matched": len(rows), "unanswered": len(silent), "matched_by": pairing.how},
        attributes=[given[row] for row in rows] if given else [],
    )


def _side(source: str, suffixes: frozenset[str], key: str | None, many: str, stdin: IO[bytes] | None) -> tuple[Side, list[str], list[dict]]:
    """(the names to pair by, the files, what the records say of each)."""
    path = Path(source)
    if source == "-" or path.suffix.lower() in _LINES:
        return _records(source, key, many, stdin)
    if path.is_dir():
        places = [name for name in _walk(path) if Path(name).suffix.lower() in suffixes]
        if not places:
            raise InputError(f"no {many} in this folder", where=path, hint=f"they end in {', '.join(sorted(suffixes)[:6])}")
        names = [os.path.relpath(name, path) for name in places]
    elif not path.exists():
        raise InputError("no such file or folder", where=path)
    elif path.suffix.lower() in suffixes:
        places, names = [source], [path.name]
    else:
        raise InputError(f"neither a folder of {many} nor one of them", where=path, hint=f"they end in {', '.join(sorted(suffixes)[:6])}")
    return Side(source, "records", images=[{"file_name": name} for name in names]), places, []


def _walk(folder: Path) -> Iterator[str]:
    """Files in a folder and below it in natural order; hidden ones are passed over."""
    from cvtool.data.inputs import natural

    for entry in sorted(folder.iterdir(), key=lambda entry: (entry.is_dir(), natural(entry.name))):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if not entry.is_symlink():
                yield from _walk(entry)
        else:
            yield str(entry)


def _records(source: str, key: str | None, many: str, stdin: IO[bytes] | None) -> tuple[Side, list[str], list[dict]]:
    """JSON lines: the file that each record's `key` names (of pictures: its own)."""
    import sys

    from cvtool.records import read_lines

    places: list[str] = []
    images, given = [], []
    stream: Any = (stdin or sys.stdin.buffer) if source == "-" else Path(source).open("rb")  # noqa: SIM115
    try:
        for record in read_lines(stream, name="stdin" if source == "-" else source):
            if record.failed:
                raise InputError(f"{record.name}: {record['error']}", where=source, hint="what could not be read cannot be measured")
            place = record.get(key) if key else record.get("file_name")
            if not isinstance(place, str):
                raise InputError(f"the record of {record.name} names no file under '{key or 'file_name'}'", where=source)
            places.append(place)
            images.append({"file_name": str(record.get("source") or record.get("file_name"))})
            given.append(dict(record))
    finally:
        if source != "-":
            stream.close()
    if not places:
        raise InputError(f"no {many} in it", where=source)
    return Side(source, "records", images=images), places, given
