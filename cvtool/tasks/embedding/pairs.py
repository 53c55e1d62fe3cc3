"""Verification: are two pictures of the same? Nearer than a threshold, which a list of known pairs gives (Huang 2007, LFW's protocol)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvtool.data.formats import _vectors
from cvtool.errors import InputError, UsageError
from cvtool.metrics.verification import Curve
from cvtool.ops.nearest import scores
from cvtool.records import Record
from cvtool.tasks.embedding.table import Table, chosen, far, near
from cvtool.tasks.evaluation import _classes_of
from cvtool.tasks.evaluation._classes_of import Truth

FOLDS = 10
RULES = ("accuracy", "eer")


def read(path: Path) -> Truth:
    """A list of NAME NAME SAME. Raises InputError."""
    truth = _classes_of.read(path)
    if not truth.pairs:
        raise InputError("no list of pairs", where=path, hint="NAME NAME SAME a line: 1 for two of the same, 0 for different ones")
    return truth


def places(truth: Truth, images: Path | None = None) -> list[str]:
    """Where the pictures of the list lie: under `images`, else as named from the current folder, else beside the list."""
    beside = Path(truth.where).parent
    if images is not None:
        return [os.fspath(images / name) for name in truth.names]
    return [name if os.path.exists(name) or not (beside / name).exists() else os.fspath(beside / name) for name in truth.names]


def rows_of(truth: Truth, table: Table) -> list[int | None]:
    """The table's row of each picture of the list: by its whole name, else by the end of its path, where that tells one."""
    names = [str(record.get("file_name")) for record in table.records]
    whole = {name: row for row, name in enumerate(names)}
    by_base: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        by_base.setdefault(os.path.basename(name), []).append(row)
    found: list[int | None] = []
    for name in truth.names:
        ends = [row for row in by_base.get(os.path.basename(name), ()) if names[row].endswith("/" + name) or name.endswith("/" + names[row])]
        ends = ends or by_base.get(os.path.basename(name), [])
        found.append(whole.get(name, ends[0] if len(ends) == 1 else None))
    return found


def verify(
    truth: Truth, table: Table, rows: Sequence[int | None], *, threshold: str | None = None, distance: str | None = None, wanted: float = 0.01
) -> tuple[list[Record], dict[str, Any], list[str]]:
    """(a record for each pair, the figures, notes).

    threshold: a distance, or the rule that finds it in the pairs: accuracy (the best, the default) or eer (equal errors). wanted: the share of
    different pairs accepted at which TAR is told. `cross_validated_accuracy` is that of pairs that had no part in finding their threshold.
    Raises InputError where no pair has both embeddings, or all are the same, or all different.
    """
    how = chosen(distance, table)
    there = [(a, b, same) for a, b, same in truth.pairs if rows[a] is not None and rows[b] is not None]
    if not there:
        raise InputError("no pair has both embeddings", where=truth.where, hint="names are paths from the current folder, or beside the list")
    notes = [f"{lost:,} of {len(truth.pairs):,} pairs lack an embedding and are left out"] if (lost := len(truth.pairs) - len(there)) else []
    one, other, same = (np.array(column) for column in zip(*[(rows[a], rows[b], s) for a, b, s in there], strict=True))
    value = scores(np.asarray(table.vectors[one.astype(int)]), np.asarray(table.vectors[other.astype(int)]), how)
    same = same.astype(bool)
    rule = threshold if threshold in RULES or threshold is None else None
    fixed = None if threshold in (*RULES, None) else near(number(threshold), how)
    if same.all() or not same.any():
        if fixed is None:
            raise InputError(f"all {len(same):,} pairs are {'the same' if same.all() else 'different'}: no threshold follows", where=truth.where)
        figures: dict[str, Any] = {}
    else:
        figures = Curve(value, same).measure(far=wanted)
        figures.pop("verification_accuracy")
    least = threshold_of(value, same, rule or "accuracy") if fixed is None else fixed
    said = value >= least - 1e-9
    head = {"pairs": len(same), "same": int(same.sum()), "distance": how, "threshold": round(float(far(least, how)), 6)}
    figures = head | {"accuracy": float((said == same).mean())} | figures
    if fixed is None:
        figures |= cross_validated(value, same, rule or "accuracy")
    out = [
        compared(table.records[int(a)], table.records[int(b)], float(score), how, bool(yes)).changed(truth=bool(right))
        for a, b, score, yes, right in zip(one, other, value, said, same, strict=True)
    ]
    return out, figures, notes


def number(text: str | None) -> float:
    """--threshold as a distance. Raises UsageError."""
    try:
        value = float(text or "")
    except ValueError:
        raise UsageError(f"--threshold {text} is neither a distance nor one of {', '.join(RULES)}") from None
    if not 0 <= value < float("inf"):
        raise UsageError(f"--threshold {text} is no distance")
    return value


def threshold_of(value: np.ndarray, same: np.ndarray, rule: str) -> float:
    """The score at which pairs are called the same, half way between two that occur. Raises ValueError for an unknown rule."""
    if rule not in RULES:
        raise ValueError(f"no rule '{rule}'")
    curve = Curve(value, same)
    accepted, hit = curve.rates()
    if rule == "accuracy":
        best = int(np.argmax(hit * same.sum() + (1 - accepted) * (~same).sum()))
    else:
        best = int(np.argmin(np.abs(accepted - (1 - hit))))
    levels = curve.scores[curve.ends]  # descending; the first `best` of them are accepted
    if best == 0:
        return float(levels[0]) + 1e-6
    return float(levels[best - 1] + levels[best]) / 2 if best < len(levels) else float(levels[-1])


def cross_validated(value: np.ndarray, same: np.ndarray, rule: str) -> dict[str, float]:
    """Accuracy on each of ten parts at the threshold of the other nine, the sorts dealt out evenly: mean and deviation; none for too few pairs."""
    folds = int(min(FOLDS, same.sum(), (~same).sum()))
    if folds < 2:
        return {}
    part, draw = np.zeros(len(same), int), np.random.default_rng(0)
    for sort in (same, ~same):
        places_ = draw.permutation(np.flatnonzero(sort))
        part[places_] = np.arange(len(places_)) % folds
    right = [
        ((value[part == fold] >= threshold_of(value[part != fold], same[part != fold], rule)) == same[part == fold]).mean() for fold in range(folds)
    ]
    return {"cross_validated_accuracy": float(np.mean(right)), "cross_validated_deviation": float(np.std(right))}


def compared(a: Record, b: Record, score: float, distance: str, same: bool | None) -> Record:
    """The record of a pair: the first picture's, with `pair`: the other's name, score, distance and, where there is a threshold, whether the same."""
    pair: dict[str, Any] = {"file_name": b.get("file_name"), "score": round(score, 6), "distance": round(max(0.0, float(far(score, distance))), 6)}
    return Record(file_name=a.get("file_name"), pair=pair | ({} if same is None else {"same": same}))


def two(a: Record, b: Record, *, threshold: float, distance: str | None = None) -> Record:
    """Whether two embedded pictures are of the same: their distance d > threshold means they differ."""
    table = Table.of([a, b])
    how = chosen(distance, table)
    score = float(scores(_vectors.vector_of(a, None), _vectors.vector_of(b, None), how))
    return compared(a, b, score, how, not far(score, how) > threshold + 1e-9)
