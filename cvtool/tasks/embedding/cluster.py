"""Groups of a table: clusters by k-means, and pictures that repeat others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cvtool.errors import InputError, UsageError
from cvtool.ops.kmeans import Clusters, kmeans
from cvtool.ops.nearest import duplicates as repeated
from cvtool.ops.nearest import unit
from cvtool.records import Record
from cvtool.tasks.embedding.table import Table, chosen, far, near


def cluster(table: Table, k: int, *, distance: str = "l2", seed: int = 0) -> tuple[list[Record], Clusters]:
    """Each record with `cluster` (0 .. k - 1, the largest first) and `cluster_distance`, sorted by both; and what k-means found.

    distance: l2, or cosine, which is l2 between vectors of length 1.
    """
    if distance not in ("l2", "cosine"):
        raise UsageError(f"clusters are made by l2 or cosine, not by {distance}")
    points = np.asarray(table.vectors, np.float64)
    if distance == "cosine":
        points = unit(points)
    found = kmeans(points, k, seed=seed)
    rank = np.argsort(np.argsort(-np.bincount(found.labels, minlength=k), kind="stable"))
    apart = np.linalg.norm(points - found.centres[found.labels], axis=1)
    out = [
        record.changed(cluster=int(rank[label]), cluster_distance=round(float(d), 6))
        for record, label, d in zip(table.records, found.labels, apart, strict=True)
    ]
    return sorted(out, key=lambda record: (record["cluster"], record["cluster_distance"])), found


def dedupe(table: Table, threshold: float | None = None, *, distance: str | None = None) -> list[Record]:
    """Each record; one that lies within `threshold` (a distance, 0.05 unless told) of an earlier one that stays has `duplicate_of`, its name, and
    `duplicate_distance`."""
    how = chosen(distance, table)
    if threshold is None and how == "l2":
        raise UsageError("which Euclidean distance makes a duplicate? --threshold is missing", hint="their lengths tell; or --distance cosine")
    threshold = 0.05 if threshold is None else threshold
    owner, score = repeated(table.vectors, near(threshold, how) - 1e-9, how)
    out = []
    for row, record in enumerate(table.records):
        if owner[row] != row:
            apart = max(0.0, round(float(far(score[row], how)), 6))
            record = record.changed(duplicate_of=table.records[int(owner[row])].get("file_name"), duplicate_distance=apart)
        out.append(record)
    return out


def sheet(records: Sequence[Record], path: Path) -> int:
    """A contact sheet of clustered records, cluster by cluster, at `path`; how many pictures could not be read."""
    from PIL import Image

    from cvtool.render.grid import ContactSheet

    drawn, lost = ContactSheet(), 0
    for record in records:
        try:
            drawn.add(f"{record['cluster']}: {Path(str(record.get('file_name'))).name}", Image.fromarray(record.pixels()))
        except InputError:
            lost += 1
    if lost == len(records):
        raise InputError("none of the pictures can be read", where=records[0].get("file_name"), hint="run it where the table was made")
    draft = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        drawn.image().save(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return lost
