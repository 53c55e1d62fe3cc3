"""Exact nearest neighbours in tables of any size: blocked matrix products over rows that may be mapped from a file, float32 or float16.

A row is compared only while its block is in memory; of a block only the scores that beat a query's worst so far are looked at. What is left is scored
again in float64, so that a row finds itself first, at distance 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 32768  # rows at a time
QUERIES = 256  # queries at a time
SPARE = 8  # candidates beyond those asked for, which rounding may have put behind
DISTANCES = ("cosine", "l2", "hamming")


def unit(vectors: np.ndarray) -> np.ndarray:
    """... D, each of length 1; zeros stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def scores(a: np.ndarray, b: np.ndarray, distance: str) -> np.ndarray:
    """... D and ... D -> ..., in float64: the cosine, minus the Euclidean distance (l2), or the share of equal bits (hamming)."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    if distance == "cosine":
        return (unit(a) * unit(b)).sum(-1)
    if distance == "l2":
        return -np.linalg.norm(a - b, axis=-1)
    return ((a > 0.5) == (b > 0.5)).mean(-1)


def nearest(queries: np.ndarray, rows: np.ndarray, count: int, distance: str = "cosine", *, unit_rows: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """For each of Q D queries the `count` nearest of N D rows, best first, ties by place, and their `scores`: both Q min(count, N).

    unit_rows: the rows are known to be of length 1, which saves a pass over them. Raises ValueError for another number of columns, or distance.
    """
    if queries.shape[1] != rows.shape[1]:
        raise ValueError(f"queries of {queries.shape[1]} numbers, rows of {rows.shape[1]}")
    if distance not in DISTANCES:
        raise ValueError(f"no distance '{distance}'")
    count = min(count, len(rows))
    order, found = np.zeros((len(queries), count), np.int64), np.zeros((len(queries), count))
    for start in range(0, len(queries), QUERIES):
        some = np.asarray(queries[start : start + QUERIES], np.float32)
        best = _candidates(some, rows, min(count + SPARE, len(rows)), distance, unit_rows)
        exact = scores(some[:, None], np.asarray(rows[best.ravel()]).reshape(*best.shape, -1), distance)
        by = np.lexsort((best, -exact), axis=1)[:, :count]
        order[start : start + QUERIES] = np.take_along_axis(best, by, 1)
        found[start : start + QUERIES] = np.take_along_axis(exact, by, 1)
    return order, found


def _candidates(queries: np.ndarray, rows: np.ndarray, count: int, distance: str, unit_rows: bool) -> np.ndarray:
    """Q count: rows of the largest scores, in no order."""
    best = np.full((len(queries), count), -np.inf, np.float32)
    places = np.zeros((len(queries), count), np.int64)
    for start, block in blocks(queries, rows, distance, unit_rows):
        if start == 0:
            width = min(count, block.shape[1])
            top = np.argpartition(-block, width - 1, axis=1)[:, :width]
            places[:, :width], best[:, :width] = top, np.take_along_axis(block, top, 1)
            continue
        which, columns = np.nonzero(block > best.min(1)[:, None])
        ends = np.searchsorted(which, np.arange(len(queries) + 1))
        for query in np.unique(which):
            new = columns[ends[query] : ends[query + 1]]
            values = np.concatenate([best[query], block[query, new]])
            among = np.concatenate([places[query], new + start])
            kept = np.argpartition(-values, count - 1)[:count]
            best[query], places[query] = values[kept], among[kept]
    return places


def blocks(queries: np.ndarray, rows: np.ndarray, distance: str, unit_rows: bool = False, size: int = BLOCK) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, Q B values that order the block's rows as their scores do: cosine and hamming the scores; l2: q.r - |r|^2 / 2), float32."""
    if distance == "cosine":
        queries = unit(queries)
    packed = np.packbits(queries > 0.5, axis=1) if distance == "hamming" else None
    for start in range(0, len(rows), size):
        part = np.asarray(rows[start : start + size], np.float32)
        if packed is not None:
            theirs = np.packbits(part > 0.5, axis=1)
            differ = np.stack([np.bitwise_count(one ^ theirs).sum(1, dtype=np.int32) for one in packed])
            yield start, (1 - differ / np.float32(rows.shape[1])).astype(np.float32)
            continue
        block = queries @ part.T
        if distance == "l2":
            block -= np.einsum("nd,nd->n", part, part) / 2
        elif not unit_rows:
            block /= np.maximum(np.sqrt(np.einsum("nd,nd->n", part, part)), 1e-12)
        yield start, block


def ranks(queries: np.ndarray, rows: np.ndarray, distance: str = "cosine") -> np.ndarray:
    """Q: how many of the N rows are nearer to query i than row i is, those before it in a tie counted. Queries and rows are pairs: Q = N."""
    before = np.zeros(len(queries), np.int64)
    for first in range(0, len(queries), QUERIES):
        some = np.asarray(queries[first : first + QUERIES], np.float32)
        places, own = np.arange(first, first + len(some)), np.zeros((len(some), 1), np.float32)
        for start, block in blocks(some, rows, distance):  # twice, so that no more than a block is held
            inside = np.flatnonzero((places >= start) & (places < start + block.shape[1]))
            own[inside, 0] = block[inside, places[inside] - start]
        for start, block in blocks(some, rows, distance):
            earlier = (start + np.arange(block.shape[1]))[None] < places[:, None]
            before[places] += ((block > own) | ((block == own) & earlier)).sum(1)
    return before


def recall(queries: np.ndarray, rows: np.ndarray, counts: tuple[int, ...] = (1, 5, 10), distance: str = "cosine") -> dict[str, float]:
    """`recall@k` of paired sets N D, N D: queries whose own row is among the k nearest; and `recall@k back`, from the rows to the queries."""
    found: dict[str, float] = {}
    for name, (a, b) in {"": (queries, rows), " back": (rows, queries)}.items():
        place = ranks(np.asarray(a), np.asarray(b), distance)
        found |= {f"recall@{k}{name}": float((place < k).mean()) for k in counts}
    return found


def duplicates(rows: np.ndarray, least: float, distance: str = "cosine", *, size: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Rows that repeat an earlier one: (N: the row that stands for it, itself where it repeats none; N: their score, 1 or 0 for itself).

    A row repeats the most alike of the earlier rows that repeat none, if that scores at least `least`.
    """
    owner, found = np.arange(len(rows)), np.full(len(rows), 0.0 if distance == "l2" else 1.0)
    kept = np.zeros(0, np.int64)
    for start in range(0, len(rows), size):
        part = np.asarray(rows[start : start + size], np.float32)
        mine = np.arange(start, start + len(part))
        best, where = np.full(len(part), -np.inf), np.zeros(len(part), np.int64)
        for begin in range(0, len(kept), BLOCK):
            held = kept[begin : begin + BLOCK]
            _update(best, where, part, rows[held], held, distance)
        fresh: list[int] = []
        inside = _all_scores(part, part, distance)
        for i in range(len(part)):
            if fresh and (value := inside[i, fresh].max()) > best[i]:
                best[i], where[i] = value, start + fresh[int(inside[i, fresh].argmax())]
            if best[i] >= least:
                owner[mine[i]], found[mine[i]] = where[i], best[i]
            else:
                fresh.append(i)
        kept = np.concatenate([kept, start + np.array(fresh, np.int64)])
    repeats = np.flatnonzero(owner != np.arange(len(rows)))
    found[repeats] = scores(np.asarray(rows[repeats]), np.asarray(rows[owner[repeats]]), distance)
    return owner, found


def _update(best: np.ndarray, where: np.ndarray, part: np.ndarray, rows: np.ndarray, names: np.ndarray, distance: str) -> None:
    values = _all_scores(part, np.asarray(rows, np.float32), distance)
    top = values.argmax(1)
    value = values[np.arange(len(part)), top]
    better = value > best
    best[better], where[better] = value[better], names[top[better]]


def _all_scores(a: np.ndarray, b: np.ndarray, distance: str) -> np.ndarray:
    """A D, B D -> A B scores; l2 to the precision of float32."""
    values = np.concatenate([block for _, block in blocks(a, b, distance)], 1).astype(np.float64)
    if distance == "l2":
        return -np.sqrt(np.maximum((a.astype(np.float64) ** 2).sum(1)[:, None] - 2 * values, 0))
    return values
