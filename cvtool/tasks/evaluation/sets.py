"""Sets of pictures against each other, no partner needed: FID, KID, inception score, manifold precision and recall on any network's features."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.data.pairing import first, plural
from cvtool.errors import InputError, UsageError
from cvtool.metrics import fid, manifold_pr
from cvtool.tasks.evaluation import Options, _features
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._features import Features
from cvtool.tasks.evaluation._means import asked_of, lower_of
from cvtool.tasks.evaluation._measured import Measured

OPTIONS = {
    "extractor": "The network whose features are compared (default: that of the FID, where its weights are at hand).",
    "save_features": "Keep the features of --gt in this .npz, which then stands for the set as --gt or --dt.",
}
FITS = ("folder", "pictures", ".npz")
DEFAULT = ("fid",)
SHARES = "inception-score"  # the one that asks for classes
FEW = 2048  # samples below which the covariance of the usual features is singular, and the distance far too large


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """Folders of pictures, lists, or files of features. The figures are those of whole sets: no statistic of single pictures.

    Raises InputError, ModelError and UsageError.
    """
    calls = metrics or [Call(name) for name in DEFAULT]
    given = [(call, arguments(call, registered.find(call.name).load().compute)) for call in calls]
    keep = _target(options)
    shares = any(call.name == SHARES for call in calls)
    sides = _sides(gt, dt, options, shares)
    protocol = _features.agreed(sides)
    if keep is not None:
        sides[0].save(keep)
    true, found = sides
    values: dict[str, float] = {}
    per_unit: dict[str, np.ndarray] = {}
    for call, more in given:
        module = registered.find(call.name).load()
        with asked_of(call):
            if call.name == SHARES:
                values |= module.compute(_shares(found), **more)
            elif call.name == "kid":
                values |= module.compute(true.vectors, found.vectors, **more)
                more["size"] = min(more["size"], len(true.names), len(found.names))  # what it was, for the report
            elif call.name == "fid":
                values |= module.compute(fid.Gaussian.of(true.vectors), fid.Gaussian.of(found.vectors), **more)
            else:
                values |= module.compute(true.vectors, found.vectors, **more)
            if call.name == "manifold-pr":
                per_unit["manifold_precision"] = manifold_pr.membership(true.vectors, found.vectors, **more)[0].astype(float)
    whole = {**protocol, "samples_gt": len(true.names), "samples_dt": len(found.names)}
    params = whole | {f"{call.name}.{key}": value for call, more in given for key, value in more.items()}
    return Measured(
        task="sets", metrics=dict(values), units=found.names, per_unit=per_unit, params=params | {"protocol": _features.digest(whole)},
        counts={"gt": len(true.names), "dt": len(found.names), "dimensions": true.vectors.shape[1]},
        matching=f"{plural(len(found.names), 'picture')} against {len(true.names):,}, by the features of {protocol['network']}",
        warnings=_warnings(true, found, calls), lower=lower_of(calls, list(values)), primary=next(iter(values)),
    )  # fmt: skip


def _target(options: Options) -> Path | None:
    """Where the features go; refused before the work begins."""
    if not (text := options.extra.get("save_features")):
        return None
    path = Path(str(text)).expanduser()
    if path.suffix.lower() != ".npz" or path.exists():
        what = f"{path} exists" if path.exists() else f"--save-features names an .npz file, not {path.name}"
        raise UsageError(what, hint="another name, or remove it first" if path.exists() else None)
    return path


def _sides(gt: Any, dt: Any, options: Options, shares: bool) -> list[Features]:
    """Both sets' features; pictures are shown to the extractor asked for, else to that by which the stored side was made, else to the default."""
    kept = [_features.stored(Path(side)) if os.fspath(side).lower().endswith(".npz") else None for side in (gt, dt)]
    for side, one in zip((gt, dt), kept, strict=True):
        if one is None and os.fspath(side).lower().endswith(".npz"):
            raise InputError("it does not say how its features were made", where=side, hint="`--save-features FILE.npz` writes files that do")
    asked = options.extra.get("extractor")
    if asked and all(kept):
        raise UsageError("--extractor has no effect: both sides are files of features", hint="leave it out")
    if all(kept):
        return [one for one in kept if one is not None]
    known = next((one.extractor for one in kept if one is not None), None)
    reference = _features.extractor(asked or known, fid.EXTRACTOR)
    return [one or _features.of(side, reference, shares=shares, stdin=options.stdin) for side, one in zip((gt, dt), kept, strict=True)]


def _shares(found: Features) -> np.ndarray:
    if found.shares is None:
        raise InputError("it holds no classes' shares", where=found.where, hint=f"save it from a run that measures {SHARES}")
    return found.shares


def _warnings(true: Features, found: Features, calls: list[Call]) -> list[str]:
    lines = []
    for side in (true, found):
        if side.lost:
            lines.append(
                f"{len(side.lost):,} of {len(side.lost) + len(side.names):,} pictures cannot be read and are left out: {first(side.lost, 2)}"
            )
    few = min(len(true.names), len(found.names))
    if any(call.name == "fid" for call in calls) and few < FEW:
        lines.append(
            f"FID of {few:,} pictures is far above that of many: compare it only with sets of the same size (the field takes 10,000 or more)"
        )
    return lines
