"""Classes by neighbours: the class of most of the k nearest pictures whose class is known (Cover 1967, doi:10.1109/TIT.1967.1053964)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvtool.data.pairing import match_images
from cvtool.data.sides import Side
from cvtool.errors import InputError, UsageError
from cvtool.records import Record
from cvtool.tasks.embedding.search import search
from cvtool.tasks.embedding.table import Table, chosen, near
from cvtool.tasks.evaluation import _classes_of


def labels_of(table: Table, source: Path) -> tuple[list[str | None], list[str]]:
    """(the class of each row, None where `source` names none; notes). source: NAME LABEL lines, or a data set of classes. Raises InputError."""
    truth = _classes_of.read(source)
    names = [str(record.get("file_name")) for record in table.records]
    sides = [Side(where, "records", images=[{"file_name": n} for n in own]) for where, own in ((truth.where, truth.names), (str(table.where), names))]
    pairing = match_images(*sides)
    found = [None if place is None else truth.labels[place] for place in pairing.positions]
    return found, [line.replace("detected image", "embedding") for line in pairing.warnings]


def known(table: Table) -> list[str | None]:
    """The class of each row, as its record says."""
    found: list[str | None] = []
    for record in table.records:
        own = record.get("labels") or [{}]
        found.append(own[0].get("category"))
    return found


def vote(classes: Sequence[str], ids: dict[str, int]) -> list[dict[str, Any]]:
    """The classes of neighbours, nearest first -> labels: most votes first, of equals the nearest; score: the share of votes."""
    order = sorted(dict.fromkeys(classes), key=lambda name: (-classes.count(name), classes.index(name)))
    return [{"category_id": ids[name], "category": name, "score": round(classes.count(name) / len(classes), 6)} for name in order]


def classify(
    table: Table, labels: Sequence[str | None], records: Iterable[Record], *, k: int = 5, threshold: float | None = None, distance: str | None = None
) -> Iterator[Record]:
    """Each record with `labels`, the vote of its k nearest, and these as `neighbors`. threshold: only those within this distance have a vote, so that
    `labels` may be empty: it is none of them."""
    some, classes, ids = _labelled(table, labels)
    how = chosen(distance, table)
    least = -np.inf if threshold is None else near(threshold, how) - 1e-9
    by_row = np.array(classes)
    for record, rows, scores in _nearest(some, records, k, how):
        if rows is None or scores is None:
            yield record
            continue
        votes = by_row[rows[scores >= least]].tolist()
        yield record.changed(labels=vote(votes, ids))


def _nearest(table: Table, records: Iterable[Record], k: int, how: str) -> Iterator[tuple[Record, np.ndarray | None, np.ndarray | None]]:
    """Each record with its `neighbors`, and their rows and scores."""
    kept: list[tuple[np.ndarray, np.ndarray]] = []

    def find(queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        rows, scores = table.nearest(queries, count, distance=how)
        kept.extend(zip(rows, scores, strict=True))
        return rows, scores

    for record in search(table, records, top=k, distance=how, nearest=find):
        rows, scores = kept.pop(0) if "embedding" in record else (None, None)
        yield record, rows, scores


def leave_one_out(table: Table, labels: Sequence[str | None], *, k: int = 5, distance: str | None = None) -> tuple[list[Record], float]:
    """Each labelled row judged by the k nearest others: records with `labels` and `truth`, and the accuracy. Raises InputError for a single row."""
    some, classes, ids = _labelled(table, labels)
    if len(some) < 2:
        raise InputError("a single labelled picture has no other to be judged by", where=table.where)
    how, by_row = chosen(distance, table), np.array(classes)
    rows, _ = some.nearest(np.asarray(some.vectors, np.float32), min(k + 1, len(some)), distance=how)
    out, right = [], 0
    for row, near_rows in enumerate(rows):
        others = near_rows[near_rows != row][:k]
        found = vote(by_row[others].tolist(), ids)
        right += found[0]["category"] == classes[row]
        out.append(some.records[row].changed(labels=found, truth=classes[row]))
    return out, right / len(out)


def _labelled(table: Table, labels: Sequence[str | None]) -> tuple[Table, list[str], dict[str, int]]:
    """(the rows whose class is known, their classes, class -> id from 1)."""
    rows = [row for row, label in enumerate(labels) if label is not None]
    if not rows:
        raise UsageError("no row of the table has a class", where=str(table.where))
    classes = [str(labels[row]) for row in rows]
    some = table if len(rows) == len(table) else Table(table.vectors[rows], [table.records[row] for row in rows], table.manifest, table.where)
    return some, classes, {name: number for number, name in enumerate(sorted(set(classes)), 1)}
