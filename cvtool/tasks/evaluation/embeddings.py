"""Embeddings against classes or pairs: recall@k, mAP@R, NMI, verification, one-shot accuracy, and a linear SVM on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.data.pairing import first, match_images, plural
from cvtool.data.sides import Side
from cvtool.errors import InputError, UsageError, did_you_mean
from cvtool.metrics import _neighbours
from cvtool.metrics.nmi import nmi, table
from cvtool.metrics.verification import Curve
from cvtool.ops.kmeans import kmeans
from cvtool.tasks.evaluation import Options, _classes_of, _features
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._means import asked_of, lower_of, mean, means, weighted
from cvtool.tasks.evaluation._measured import Measured

OPTIONS = {
    "split": "",
    "data_format": "",
    "extractor": "The network that embeds the pictures, where --dt is a folder of them.",
    "gallery": "Embeddings that are searched, instead of the queries themselves.",
    "distance": ("How likeness is measured: cosine or l2.", "cosine"),
}
FITS = (".npz", ".tsv", ".jsonl")
DEFAULT = ("recall-at-k", "mean-average-precision-at-r", "verification")
DISTANCES = ("cosine", "l2")
MAX_PAIRS = 2_000_000  # of all pictures with each other, beyond which some are drawn

Statistic = Callable[[np.ndarray], dict[str, float]]


@dataclass
class _Set:
    """Pictures with a class: names, vectors N D float64, labels N whole numbers. places: their rows in the ground truth."""

    names: list[str]
    vectors: np.ndarray
    labels: np.ndarray
    places: list[int]


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """A table of embeddings against what is of one class. Raises InputError and UsageError.

    The units are the queries. A metric of neighbours offers `values(found: Ranked, *, ...)`, each query's; the others are known here.
    """
    distance = str(options.extra.get("distance") or "cosine")
    if distance not in DISTANCES:
        raise UsageError(f"--distance: no such distance '{distance}'", hint=did_you_mean(distance, DISTANCES) or f"distances: {', '.join(DISTANCES)}")
    truth = _classes_of.read(gt, split=options.split, data_format=options.data_format, stdin=options.stdin)
    queries, account, warnings = _labelled(dt, truth, options)
    gallery, searched = None, ""
    if place := options.extra.get("gallery"):
        gallery, searched, more = _labelled(str(place), truth, options)
        warnings += more
        if gallery.vectors.shape[1] != queries.vectors.shape[1]:
            sizes = f"{gallery.vectors.shape[1]} numbers, those of the queries {queries.vectors.shape[1]}"
            raise InputError(f"embeddings of {sizes}", where=place, hint="the same model makes both")
    calls = metrics or [Call(name) for name in DEFAULT]
    values: dict[str, np.ndarray] = {}
    parts: list[Statistic] = []
    params: dict[str, Any] = {"distance": distance}
    for call in calls:
        module = registered.find(call.name).load()
        if gallery is not None and not hasattr(module, "values"):
            raise UsageError(f"--gallery has no effect on {call.name}", hint="it is for metrics of nearest neighbours; leave it out")
        own, part, given = _PARTS.get(call.name, _neighbourly)(call, module, queries, gallery, truth, distance, warnings)
        values |= own
        parts += [part] if part else []
        params |= {f"{call.name}.{key}": value for key, value in given.items()}
    many = weighted(values)

    def statistic(weights: np.ndarray) -> dict[str, float]:
        found = {key: float(value[0]) for key, value in many(np.asarray(weights, float)[None]).items()}
        for part in parts:
            found |= part(np.asarray(weights, float))
        return found

    figures: dict[str, Any] = dict(means(values))
    for part in parts:
        figures |= part(np.ones(len(queries.names)))
    if lonely := [key for key, one in values.items() if np.isnan(one).any()]:
        count = int(np.isnan(values[lonely[0]]).sum())
        warnings.append(f"{count:,} queries have no other picture of their class and are left out of {', '.join(lonely)}")
    return Measured(
        task="embeddings", metrics=figures, units=queries.names, statistic=statistic, many=None if parts else many, per_unit=values,
        params=params,
        counts={
            "queries": len(queries.names), "gallery": len(gallery.names) if gallery else len(queries.names),
            "classes": len(set(queries.labels.tolist())), "dimensions": queries.vectors.shape[1], "pairs": len(truth.pairs),
        },
        matching=account + (f"; gallery: {searched}" if searched else ""), warnings=warnings, lower=lower_of(calls, list(figures)),
        primary=next(iter(figures)),
    )  # fmt: skip


def _labelled(source: Any, truth: _classes_of.Truth, options: Options) -> tuple[_Set, str, list[str]]:
    """The embeddings whose pictures the ground truth names, an account, warnings."""
    names, vectors, lost = _embedded(source, options)
    sides = [Side(where, "records", images=[{"file_name": n} for n in own]) for where, own in ((truth.where, truth.names), (str(source), names))]
    pairing = match_images(*sides)
    rows = [(row, place) for row, place in enumerate(pairing.positions) if place is not None]
    labels = truth.numbers()
    found = _Set(
        [names[row] for row, _ in rows], vectors[[row for row, _ in rows]], labels[[place for _, place in rows]], [place for _, place in rows]
    )
    warnings = lost + [line.replace("detected image", "embedding") for line in pairing.warnings]
    return found, f"matched {len(rows):,} of {plural(len(names), 'embedding')} by {pairing.how}", warnings


def _embedded(source: Any, options: Options) -> tuple[list[str], np.ndarray, list[str]]:
    """(names, vectors N D, lines about pictures that could not be read) of a table of embeddings, or of a folder shown to the extractor."""
    asked = options.extra.get("extractor")
    if not Path(source).is_dir():
        if asked:
            raise UsageError("--extractor has no effect: the embeddings are there", where=source, hint="leave it out, or name a folder of pictures")
        return *_classes_of.vectors(source, options.stdin), []
    if not asked:
        raise UsageError("a folder of pictures, and no --extractor that embeds them", where=source, hint="or `cvtool embed` makes a table of them")
    from cvtool import registry

    found = _features.of(source, registry.parse(str(asked)))
    return found.names, found.vectors.astype(np.float64), [f"a picture cannot be read and is left out: {line}" for line in found.lost]


def _neighbourly(call: Call, module: Any, queries: _Set, gallery: _Set | None, truth: Any, distance: str, warnings: list[str]) -> Any:
    """Metrics of the nearest neighbours."""
    given = arguments(call, module.values)
    labels = queries.labels if gallery is None else gallery.labels
    most = int(np.bincount(labels).max())
    depth = max(1, int(given.get("k") or most))
    found = _neighbours.ranked(queries.vectors, queries.labels, None if gallery is None else gallery.vectors, labels, depth, distance)
    with asked_of(call):
        return module.values(found, **given), None, given


def _clustered(call: Call, module: Any, queries: _Set, gallery: Any, truth: Any, distance: str, warnings: list[str]) -> Any:
    given = arguments(call, _nmi_arguments)
    classes = np.unique(queries.labels, return_inverse=True)[1]
    points = _neighbours.normalised(queries.vectors) if distance == "cosine" else queries.vectors
    clusters = kmeans(points, given["clusters"] or int(classes.max()) + 1, seed=given["seed"]).labels
    return {}, lambda weights: {"NMI": nmi(table(classes, clusters, weights))}, given


def _nmi_arguments(*, clusters: int = 0, seed: int = 0) -> None:
    """clusters: how many; 0: as many as there are classes."""


def _verified(call: Call, module: Any, queries: _Set, gallery: Any, truth: Any, distance: str, warnings: list[str]) -> Any:
    given = {"far": arguments(call, _far_arguments)["far"]}
    one, other, same = _pairs(queries, truth, warnings)
    if same.all() or not same.any():
        raise InputError(
            f"all {len(same):,} pairs are {'the same' if same.all() else 'different'}: there is nothing to tell apart", where=truth.where
        )
    a, b = queries.vectors[one], queries.vectors[other]
    if distance == "cosine":
        likeness = np.einsum("nd,nd->n", _neighbours.normalised(a), _neighbours.normalised(b))
    else:
        likeness = -np.square(a - b).sum(1)
    curve = Curve(likeness, same)
    with asked_of(call):
        curve.measure(**given)

    def statistic(weights: np.ndarray) -> dict[str, float]:
        return curve.measure(weights=weights[one] * weights[other], **given)

    return {}, statistic, given


def _far_arguments(*, far: float = 0.01) -> None:
    """far: the share of different pairs that may be accepted."""


def _pairs(queries: _Set, truth: _classes_of.Truth, warnings: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, rows and whether they are the same: the ground truth's pairs, else all of each with each, else some of them."""
    if truth.pairs:
        rows = {place: row for row, place in enumerate(queries.places)}
        there = [(rows[a], rows[b], same) for a, b, same in truth.pairs if a in rows and b in rows]
        if lost := [f"{truth.names[a]} {truth.names[b]}" for a, b, _ in truth.pairs if a not in rows or b not in rows]:
            warnings.append(f"{len(lost):,} of {len(truth.pairs):,} pairs lack an embedding and are left out: {first(lost, 3)}")
        if not there:
            raise InputError("no pair has both embeddings", where=truth.where)
        one, other, same = (np.array(column) for column in zip(*there, strict=True))
        return one, other, same.astype(bool)
    n = len(queries.names)
    if n * (n - 1) // 2 <= MAX_PAIRS:
        one, other = np.triu_indices(n, 1)
    else:
        draw = np.random.default_rng(0)
        one = draw.integers(0, n, MAX_PAIRS)
        other = (one + draw.integers(1, n, MAX_PAIRS)) % n
        warnings.append(f"verification is measured on {MAX_PAIRS:,} pairs drawn from {n * (n - 1) // 2:,} (a list of pairs as --gt names others)")
    return one, other, queries.labels[one] == queries.labels[other]


def _shown_once(call: Call, module: Any, queries: _Set, gallery: Any, truth: Any, distance: str, warnings: list[str]) -> Any:
    given = arguments(call, module.episodes)
    with asked_of(call):
        asked, right = module.episodes(queries.vectors, queries.labels, distance, **given)

    def statistic(weights: np.ndarray) -> dict[str, float]:
        return {"one_shot": mean(right, weights[asked])}

    return {}, statistic, given


def _divided(call: Call, module: Any, queries: _Set, gallery: Any, truth: Any, distance: str, warnings: list[str]) -> Any:
    given = arguments(call, module.answers)
    with asked_of(call, truth.where):
        return {"svm_accuracy": module.answers(queries.vectors, queries.labels, **given).astype(float)}, None, given


_PARTS = {"nmi": _clustered, "verification": _verified, "one-shot": _shown_once, "linear-svm": _divided}
