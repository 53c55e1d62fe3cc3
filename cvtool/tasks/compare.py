"""How sure a number is, and whether it is another than the last time: bootstrap intervals, and a paired comparison with older output.

The units (pictures) are drawn again with replacement; old and new output are measured of the same drawing, so that what is hard for both counts for
neither.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvtool.errors import InputError, UsageError
from cvtool.metrics.bootstrap import interval, p_value, weightings
from cvtool.tasks.evaluation._measured import Measured
from cvtool.tasks.gates import Limit

LEVEL = 0.95
MAX_REPORT = 256 * 1024**2  # bytes of a report; whatever is larger is no report


def intervals(measured: Measured, level: float, resamples: int, seed: int) -> dict[str, Any]:
    """`intervals` (metric -> [low, high]) and `bootstrap` (level, resamples, seed, units), parts of a report. Raises UsageError."""
    _resampled(measured)
    values = _values([measured], resamples, seed)[0]
    return _intervals(measured, values, level) | {"bootstrap": _how(measured, level, resamples, seed)}


def _intervals(measured: Measured, values: dict[str, np.ndarray], level: float) -> dict[str, Any]:
    return {"intervals": {key: list(interval(values[key], level)) for key in measured.metrics if key in values}}


def outside(report: Mapping[str, Any]) -> str | None:
    """What is to be said where a figure lies outside its own interval, or None."""
    odd = [
        key
        for key, (low, high) in report.get("intervals", {}).items()
        if None not in (low, high, report["metrics"][key]) and not low <= report["metrics"][key] <= high
    ]
    if not odd:
        return None
    why = "drawn again, the rarest classes or objects fall out, so its interval lies beside it"
    return f"{', '.join(odd[:5])}{', ...' if len(odd) > 5 else ''} outside the bootstrap interval: {why}; compare with --baseline instead"


def _how(measured: Measured, level: float, resamples: int, seed: int) -> dict[str, Any]:
    return {"level": level, "resamples": resamples, "seed": seed, "units": len(measured.units)}


def _resampled(measured: Measured) -> None:
    if measured.statistic is None and measured.many is None:
        raise UsageError("--interval has no effect: these metrics are no sums over single pictures, so they cannot be resampled")
    if not measured.units:
        raise InputError("there is nothing to resample")


def _values(sides: Sequence[Measured], resamples: int, seed: int) -> list[dict[str, np.ndarray]]:
    """The metrics of each side for the same drawings: `resamples` values a key."""
    kept: list[dict[str, list[np.ndarray]]] = [{} for _ in sides]
    for weights in weightings(len(sides[0].units), resamples, seed):
        for values, side in zip(kept, sides, strict=True):
            for key, row in side.weighted(weights).items():
                values.setdefault(key, []).append(row)
    return [{key: np.concatenate(rows) for key, rows in values.items()} for values in kept]


# --- comparison ------------------------------------------------------------------------------------------------------------------------------


def read_report(path: str | os.PathLike) -> dict[str, Any] | None:
    """An older report of this program, None where the file is anything else (older detections)."""
    file = Path(path)
    if os.fspath(path) == "-" or not file.is_file() or file.suffix.lower() != ".json" or file.stat().st_size > MAX_REPORT:
        return None
    with file.open("rb") as stream:
        if stream.read(1 << 12).lstrip()[:1] != b"{":
            return None
    try:
        value = json.loads(file.read_bytes())
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("metrics"), dict) and "task" in value else None


def compare(
    new: Measured,
    report: Mapping[str, Any],
    old: Measured | Mapping[str, Any],
    limits: Sequence[Limit],
    level: float | None,
    resamples: int,
    seed: int,
    fail_insignificant: bool,
) -> dict[str, Any]:
    """`comparison`, a part of a report: baseline, metrics (old, new, difference; interval, p and significant where it was resampled) and limits.

    Beside it, as of `intervals`, `intervals` (where a level was given) and `bootstrap`.

    report: what `new` became. limits: the largest drops allowed; a row fails where the drop exceeds it and is significant (or nothing is known of
    that), or `fail_insignificant`. Raises InputError for another protocol or other ground truth, UsageError for a limit of an unknown metric.
    """
    before = old if isinstance(old, Mapping) else _as_report(old)
    _same_protocol(report, before)
    more: dict[str, Any] = {}
    rows: dict[str, dict[str, Any]] = {}
    for key in new.metrics:
        now, then = report["metrics"][key], before["metrics"].get(key)
        rows[key] = {"old": then, "new": now, "difference": None if now is None or then is None else now - then}
    paired = isinstance(old, Measured) and all(side.statistic is not None or side.many is not None for side in (new, old))
    if paired and isinstance(old, Measured):
        if new.units != old.units:
            raise InputError("the baseline was measured of other pictures")
        values, others = _values([new, old], resamples, seed)
        for key, row in rows.items():
            if row["difference"] is None or key not in values:
                continue
            change = values[key] - others[key]
            low, high = interval(change, level or LEVEL)
            row |= {"interval": [low, high], "p": p_value(change), "significant": bool(low > 0 or high < 0)}
        more["bootstrap"] = _how(new, level or LEVEL, resamples, seed)
        if level is not None:
            more |= _intervals(new, values, level)
    elif level is not None:
        more |= intervals(new, level, resamples, seed)
    judged = [_judge(each, rows, new, fail_insignificant) for each in limits]
    kind = "output" if isinstance(old, Measured) else "report"
    return {"comparison": {"baseline": kind, "metrics": rows, "limits": judged}, **more}


def _as_report(measured: Measured) -> dict[str, Any]:
    from cvtool.tasks.evaluation._measured import report

    return report(measured)


def _same_protocol(new: Mapping[str, Any], old: Mapping[str, Any]) -> None:
    for key in ("task", "iou_type", "params"):
        if new.get(key) != old.get(key):
            what = _first_difference(key, new.get(key), old.get(key))
            raise InputError(f"the baseline was measured by another protocol: {what}", hint="evaluate both by the same options")
    for key in ("images", "annotations"):
        mine, theirs = (side.get("counts", {}).get(key) for side in (new, old))
        if mine is not None and theirs is not None and mine != theirs:
            raise InputError(f"the baseline was measured against other ground truth: {theirs:,} {key}, and now {mine:,}")


def _first_difference(name: str, new: Any, old: Any) -> str:
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        for key in {**new, **old}:
            if new.get(key) != old.get(key):
                return f"{key} was {json.dumps(old.get(key), default=str)}, now {json.dumps(new.get(key), default=str)}"
    return f"{name} was {json.dumps(old, default=str)}, now {json.dumps(new, default=str)}"


def _judge(limit: Limit, rows: dict[str, dict[str, Any]], new: Measured, fail_insignificant: bool) -> dict[str, Any]:
    from cvtool.errors import did_you_mean

    key = limit.key or new.primary or next(iter(rows))
    if key not in rows:
        raise UsageError(f"--max-drop {limit.text}: there is no metric '{key}'", hint=did_you_mean(key, rows) or f"there are {', '.join(rows)}")
    row = rows[key]
    verdict = {"limit": limit.text, "key": key, "largest": limit.drop, "drop": None, "passed": False}
    if row["difference"] is None:
        side = "now" if row["new"] is None else "in the baseline"
        return verdict | {"why": f"{key} was not measured {side} (null)"}
    drop = row["difference"] if key in new.lower else -row["difference"]
    verdict["drop"] = drop
    what = f"{key} went from {row['old']:.6g} to {row['new']:.6g}"
    if drop <= limit.drop:
        return verdict | {"passed": True, "why": what}
    if "significant" not in row:
        return verdict | {"why": f"{what}, a drop of {drop:.4g} where {limit.drop:g} is allowed (its significance is not known)"}
    low, high = row["interval"]
    span = f"{what}, a drop of {drop:.4g} where {limit.drop:g} is allowed; difference in [{low:.4g}, {high:.4g}], p = {row['p']:.3g}"
    if row["significant"]:
        return verdict | {"why": span}
    return verdict | {"passed": not fail_insignificant, "why": f"{span}: not significant"}
