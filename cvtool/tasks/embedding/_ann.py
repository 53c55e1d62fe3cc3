"""Approximate search through faiss: a graph of near neighbours, kept beside the table (Malkov 2016, arXiv:1603.09320)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from cvtool.errors import InputError, MissingDependency, UsageError
from cvtool.ops.nearest import scores, unit
from cvtool.tasks._predictor import Report
from cvtool.tasks.embedding.search import Nearest
from cvtool.tasks.embedding.table import Table, chosen

LINKS, BUILD, LOOK = 32, 100, 128  # neighbours a node, candidates while building and while searching


def require() -> Any:
    """Raises MissingDependency."""
    try:
        import faiss
    except ImportError as error:
        hint = "pip install 'cvtool[ann]'; without --ann search is exact"
        raise MissingDependency("--ann needs faiss, which is not installed", hint=hint) from error
    return faiss


def approximate(table: Table, distance: str | None, report: Report) -> Nearest:
    """The search of a table's graph, which is made at first use and kept in TABLE.faiss. Raises InputError, MissingDependency, UsageError."""
    faiss, how = require(), chosen(distance, table)
    if how == "hamming":
        raise UsageError("--ann has no effect on bits, which are counted exactly", hint="leave --ann out")
    path = Path(f"{table.where}.{how}.faiss")
    index = _kept(faiss, path, table)
    if index is None:
        report(f"making {path}, once")
        index = faiss.IndexHNSWFlat(table.vectors.shape[1], LINKS, faiss.METRIC_L2)
        index.hnsw.efConstruction = BUILD
        for start in range(0, len(table), 65536):
            part = np.asarray(table.vectors[start : start + 65536], np.float32)
            index.add(np.ascontiguousarray(unit(part) if how == "cosine" else part))
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        faiss.write_index(index, str(draft))
        os.replace(draft, path)
    index.hnsw.efSearch = LOOK

    def nearest(queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        queries = table.query(queries)
        _, rows = index.search(np.ascontiguousarray(unit(queries) if how == "cosine" else queries, np.float32), min(count, len(table)))
        found = scores(queries[:, None], table.vectors[rows.ravel()].reshape(*rows.shape, -1), how)
        order = np.argsort(-found, axis=1, kind="stable")
        return np.take_along_axis(rows, order, 1), np.take_along_axis(found, order, 1)

    return nearest


def _kept(faiss: Any, path: Path, table: Table) -> Any:
    """The graph that an earlier search made; None where there is none, or where the table is younger."""
    if not path.is_file() or path.stat().st_mtime < Path(str(table.where)).stat().st_mtime:
        return None
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise InputError("faiss cannot read it", where=path, hint="delete it; it is made again") from error
    return index if index.ntotal == len(table) and index.d == table.vectors.shape[1] else None
