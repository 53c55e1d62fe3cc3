"""The nearest of a table for each picture: exact, or approximate through faiss; and recall where the sets are pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cvtool.data.formats import _vectors
from cvtool.errors import InputError
from cvtool.ops import nearest as exact
from cvtool.records import Record
from cvtool.tasks.embed import bits
from cvtool.tasks.embedding.table import Table, chosen

Nearest = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
LARGE = 4_000_000  # numbers of a table, beyond which queries are put together
TOGETHER = 64


def search(table: Table, records: Iterable[Record], *, top: int = 5, distance: str | None = None, nearest: Nearest | None = None) -> Iterator[Record]:
    """Each record that has an `embedding` with `neighbors`: `{"file_name", "score"}` of the `top` nearest of the table, best first.

    nearest: another search than the exact one. An embedding that holds NaN is a record with `error`. Raises InputError for another model's.
    """
    find = nearest or (lambda queries, count: table.nearest(queries, count, distance=distance))
    chosen(distance, table)
    for group in _groups(records, TOGETHER if table.vectors.size > LARGE else 1):
        vectors: list[np.ndarray] = []
        done: list[Record] = []
        for record in group:
            if "embedding" in record:
                table.accept(_vectors.maker(record), record.name)
                try:
                    vector = _vectors.vector_of(record, None)
                except InputError as error:
                    record = record.changed(embedding=None).with_error(error)
                else:
                    vectors.append(table.query(vector))
            done.append(record)
        if not vectors:
            yield from done
            continue
        queries = np.stack(vectors)
        found = iter(zip(*find(bits(queries) if table.binary else queries, top), strict=True))
        for record in done:
            yield record.changed(neighbors=hits(table, *next(found))) if "embedding" in record else record


def hits(table: Table, rows: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
    """Rows of a table as a record's `neighbors`."""
    listed = []
    for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
        record = table.records[row]
        page = {"page": record["page"]} if record.get("page") else {}
        listed.append({"file_name": record.get("file_name")} | page | {"score": round(float(score), 6)})
    return listed


def _groups(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    group: list[Record] = []
    for record in records:
        group.append(record)
        if len(group) >= size:
            yield group
            group = []
    if group:
        yield group


def recall(queries: Table, table: Table, counts: tuple[int, ...] = (1, 5, 10), *, distance: str | None = None) -> dict[str, float]:
    """`recall@k` of the queries, whose one right row is that of the same name without folder and suffix; and `recall@k back`, of the rows.

    Raises InputError where a name stands twice or has no counterpart.
    """
    table.accept(queries.manifest, queries.where)
    table.query(queries.vectors[:1])
    names = [[Path(str(record.get("file_name"))).stem for record in side.records] for side in (queries, table)]
    places = [{name: row for row, name in enumerate(side)} for side in names]
    for side, known, where in zip(names, places, (queries.where, table.where), strict=True):
        if len(known) < len(side):
            twice = next(name for name in known if side.count(name) > 1)
            raise InputError(f"two rows are called '{twice}': pairs are found by name", where=where)
    if lost := [name for name in names[0] if name not in places[1]] or [name for name in names[1] if name not in places[0]]:
        raise InputError(f"'{lost[0]}' has no counterpart of that name", where=table.where, hint="recall is measured on pairs")
    order = [places[1][name] for name in names[0]]
    return exact.recall(queries.vectors, table.vectors[order], counts, chosen(distance, table))
