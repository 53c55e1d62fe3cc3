"""Metric protocol: losses for embeddings compared fairly, all else equal, mean and deviation over seeds (Musgrave 2020, arXiv:2003.08505)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

KIND = "protocol"
ALIASES = ("fair-comparison",)
KEYS = {"LOSS.METRIC": "mean over the seeds of what runs with that loss reached", "LOSS.METRIC_std": "its deviation over the seeds (n - 1)"}
FIXED = ("backbone", "data", "schedule", "settings", "embedding", "batch_size")  # what all runs must share
NEEDED = FIXED[:3]


def problems(rows: Sequence[Mapping[str, Any]], declared: Mapping[str, Any]) -> list[str]:
    """Why the runs are no fair comparison, a line each; nothing where they are.

    rows: `{"loss", "seed", "backbone", "data", "schedule", "selected_on", KEY: value ...}` each. declared: `{"backbone", ..., "seeds": [...]}`, what
    was said before the runs. Every loss has every seed once, all of FIXED is the same everywhere and as declared, and no run was chosen by the
    test set.
    """
    found = []
    for key in FIXED:
        said = [declared[key]] if key in declared else []
        values = {repr(value): None for value in [*said, *(row[key] for row in rows if key in row)]}
        if len(values) > 1:
            found.append(f"the runs differ in {key}: {', '.join(values)}")
        missing = [f"{row.get('loss')} (seed {row.get('seed')})" for row in rows if key not in row]
        if missing and (said or key in NEEDED or len(missing) < len(rows)):
            found.append(f"the {key} is not known of {', '.join(missing[:3])}")
    seeds = sorted(declared["seeds"]) if "seeds" in declared else sorted({row["seed"] for row in rows})
    for loss in dict.fromkeys(row["loss"] for row in rows):
        own = sorted(row["seed"] for row in rows if row["loss"] == loss)
        if own != seeds:
            found.append(f"{loss} was run with the seeds {own}, the protocol's are {seeds}")
    tuned = [str(row["loss"]) for row in rows if str(row.get("selected_on", "val")).lower() in ("test", "dt", "evaluation")]
    if tuned:
        found.append(f"{', '.join(dict.fromkeys(tuned))}: the runs were chosen on the test set, whose figure then says nothing")
    return found


def table(rows: Sequence[Mapping[str, Any]], key: str, weights: np.ndarray | None = None, seeds: Sequence[Any] = ()) -> dict[str, dict[str, float]]:
    """loss -> mean and std of the metric `key` over its seeds (weights: how often each of `seeds` counts; std with n - 1, nan for one)."""
    counts = dict(zip(seeds, weights, strict=True)) if weights is not None else {}
    found = {}
    for loss in dict.fromkeys(row["loss"] for row in rows):
        own = [row for row in rows if row["loss"] == loss]
        w = np.array([float(counts.get(row["seed"], 1.0)) for row in own])
        x = np.array([float(row[key]) for row in own])
        total = w.sum()
        mean = float(w @ x / total) if total > 0 else math.nan
        spread = float(np.sqrt(w @ (x - mean) ** 2 / (total - 1))) if total > 1 else math.nan
        found[str(loss)] = {"mean": mean, "std": spread}
    return found
