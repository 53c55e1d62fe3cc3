"""Pictures as vectors: each record with its `embedding`; the nearest of a table; clusters of one."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvtool.errors import InputError, UsageError, did_you_mean
from cvtool.ops.kmeans import Clusters, kmeans
from cvtool.records import Record
from cvtool.registry import Reference
from cvtool.tasks._predictor import Report, Settings
from cvtool.tasks._runner import run


def embed(
    records: Iterable[Record],
    model: str | Reference,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    img_size: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    offline: bool = False,
    report: Report | None = None,
    facts: dict[str, str] | None = None,
    binary: bool = False,
) -> Generator[Record, None, None]:
    """Each record with `embedding`, the numbers of the model's features. Other options as for `detect`.

    binary: a bit for each number instead, 1 where it lies above the vector's mean: small, and compared by counting (Hamming).
    """
    settings = Settings(batch_size=batch_size, workers=workers, img_size=img_size)
    done = run(records, model, "embed", settings, device=device, precision=precision, offline=offline, report=report, facts=facts)
    return _binary(done) if binary else done


def _binary(records: Iterable[Record]) -> Generator[Record, None, None]:
    for record in records:
        yield record.changed(embedding=bits(np.asarray(record["embedding"])).astype(int).tolist()) if "embedding" in record else record


def bits(vectors: np.ndarray) -> np.ndarray:
    """... D -> ... D of 0 and 1: above the vector's own mean or not."""
    return (vectors > vectors.mean(-1, keepdims=True)).astype(np.float32)


@dataclass
class Table:
    """Embeddings with the pictures that they are of: vectors N D float32."""

    vectors: np.ndarray
    records: list[Record]

    @classmethod
    def of(cls, records: Iterable[Record], *, where: object = None) -> Table:
        """Raises InputError where there are no embeddings, or some of different lengths."""
        listed = [record for record in records if "embedding" in record]
        if not listed:
            raise InputError("no embeddings here", where=where, hint="`cvtool embed PHOTOS -m REF -o FILE.npz` makes them")
        if len(lengths := {len(record["embedding"]) for record in listed}) > 1:
            raise InputError(f"embeddings of different lengths: {sorted(lengths)}", where=where, hint="one model makes all that are compared")
        return cls(np.asarray([record["embedding"] for record in listed], np.float32), listed)

    @property
    def binary(self) -> bool:
        return bool(np.isin(self.vectors, (0, 1)).all())

    @property
    def model(self) -> str | None:
        """What made them, if they say so."""
        made = [entry.get("model") for entry in self.records[0].get("made_by") or () if entry.get("verb") == "embed"]
        return made[-1] if made else None

    def nearest(self, queries: np.ndarray, count: int, *, distance: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """For each of M D queries the `count` nearest rows, nearest first, and their scores, both M count.

        distance: cosine (score: the cosine), l2 (minus the distance) or hamming (the share of equal bits); None: hamming for bits, else cosine.
        """
        if queries.shape[1] != self.vectors.shape[1]:
            raise InputError(f"a query has {queries.shape[1]} numbers, the table {self.vectors.shape[1]}", hint="the same model makes both")
        scores = SCORES[chosen(distance, self)](queries, self.vectors)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        return order, np.take_along_axis(scores, order, 1)


def _cosine(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    a, b = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in (queries, rows))
    return a @ b.T


def _l2(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    squares = (queries**2).sum(1)[:, None] - 2 * queries @ rows.T + (rows**2).sum(1)
    return -np.sqrt(np.maximum(squares, 0))


def _hamming(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    a, b = (np.packbits(v > 0.5, axis=1) for v in (queries, rows))
    return 1 - np.stack([np.bitwise_count(one ^ b).sum(1) for one in a]) / rows.shape[1]


SCORES = {"cosine": _cosine, "l2": _l2, "hamming": _hamming}


def chosen(distance: str | None, table: Table) -> str:
    """The distance asked for, or the one that suits the table. Raises UsageError."""
    if distance is None:
        return "hamming" if table.binary else "cosine"
    if distance not in SCORES:
        raise UsageError(f"unknown distance '{distance}'", hint=did_you_mean(distance, SCORES) or "distances: " + ", ".join(SCORES))
    if distance == "hamming" and not table.binary:
        raise UsageError("hamming counts bits, and these embeddings are numbers", hint="`cvtool embed --binary` makes bits; or --distance cosine")
    return distance


def search(table: Table, records: Iterable[Record], *, top: int = 5, distance: str | None = None) -> Iterator[Record]:
    """Each record that has an `embedding` with `neighbors`: `{"file_name", "score"}` of the `top` nearest of the table, best first."""
    for record in records:
        if "embedding" not in record:
            yield record
            continue
        query = np.asarray([record["embedding"]], np.float32)
        rows, scores = table.nearest(bits(query) if table.binary else query, top, distance=distance)
        hits = [
            {"file_name": table.records[row].get("file_name"), "score": round(float(score), 6)} for row, score in zip(rows[0], scores[0], strict=True)
        ]
        yield record.changed(neighbors=hits)


def cluster(table: Table, k: int, *, distance: str = "l2", seed: int = 0) -> tuple[list[Record], Clusters]:
    """Each record with `cluster` (0 .. k - 1, the largest first) and `cluster_distance`, sorted by both; and what k-means found.

    distance: l2, or cosine, which is l2 between vectors of length 1.
    """
    if distance not in ("l2", "cosine"):
        raise UsageError(f"clusters are made by l2 or cosine, not by {distance}")
    points = table.vectors.astype(np.float64)
    if distance == "cosine":
        points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    found = kmeans(points, k, seed=seed)
    rank = np.argsort(np.argsort(-np.bincount(found.labels, minlength=k), kind="stable"))
    far = np.linalg.norm(points - found.centres[found.labels], axis=1)
    out = [
        record.changed(cluster=int(rank[label]), cluster_distance=round(float(d), 6))
        for record, label, d in zip(table.records, found.labels, far, strict=True)
    ]
    return sorted(out, key=lambda record: (record["cluster"], record["cluster_distance"])), found


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
