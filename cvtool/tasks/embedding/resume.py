"""Going on with a table by what the pictures hold: what is in it is not shown to the model again, whatever became of its name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cvtool.data.formats import _vectors
from cvtool.records import Record, parse_line
from cvtool.tasks.embed import sha256_of


class Earlier:
    """What a journal of records holds. A picture whose name and bytes are in it is passed over; whose bytes alone are (it was renamed or copied)
    takes its twin's vector; whose name alone is (it was changed) loses its old line and is done again. A line without `sha256` counts by name."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.names: dict[tuple[str, Any], str | None] = {}
        self.places: dict[str, int] = {}
        self.twins: list[tuple[Record, str]] = []
        self.entry: dict[str, Any] = {}
        if journal.exists():
            self._scan()

    def _scan(self) -> None:
        self.names, self.places = {}, {}
        with self.journal.open("rb") as stream:
            while line := stream.readline():
                record = parse_line(line.decode("utf-8"), where=str(self.journal))
                digest = record.get("sha256")
                self.names[_key(record)] = digest
                self.entry = self.entry or _vectors.maker(record)
                if isinstance(digest, str):
                    self.places.setdefault(f"{digest} {record.get('page') or 0}", stream.tell() - len(line))

    def remaining(self, records: Iterable[Record]) -> Iterator[Record]:
        """The pictures that are to be shown to the model. All are listed and read at once, for the journal must be right before it is added to."""
        listed = [(record, None if record.failed else sha256_of(record)) for record in records]
        stale = {_key(record) for record, digest in listed if self.names.get(_key(record)) not in (None, digest) and digest is not None}
        if stale:
            self._without(stale)
        return self._new(listed)

    def _new(self, listed: list[tuple[Record, str | None]]) -> Iterator[Record]:
        for record, digest in listed:
            if _key(record) in self.names:
                continue
            if (place := f"{digest} {record.get('page') or 0}") in self.places:
                self.twins.append((record, place))
            else:
                yield record

    def _without(self, stale: set[tuple[str, Any]]) -> None:
        draft = self.journal.with_name(f"{self.journal.name}.{os.getpid()}")
        try:
            with self.journal.open(encoding="utf-8") as lines, draft.open("w", encoding="utf-8") as out:
                out.writelines(line for line in lines if _key(json.loads(line)) not in stale)
            os.replace(draft, self.journal)
        finally:
            draft.unlink(missing_ok=True)
        self._scan()

    def completed(self, records: Iterable[Record]) -> Iterator[Record]:
        """The new records, then those that took a twin's vector. Raises InputError where the model is another than the journal's, naming both."""
        for record in records:
            if "embedding" in record:
                _vectors.check_same(self.entry, _vectors.maker(record), self.journal)
            yield record
        if not self.twins:
            return
        with self.journal.open("rb") as stream:
            for record, place in self.twins:
                stream.seek(self.places[place])
                twin = parse_line(stream.readline().decode("utf-8"), where=str(self.journal))
                yield twin.changed(file_name=record.get("file_name"))


def _key(record: dict[str, Any]) -> tuple[str, Any]:
    return str(record.get("file_name")), record.get("page") or 0
