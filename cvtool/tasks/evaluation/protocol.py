"""Runs with several losses against the protocol that they were to keep: a table of what each reached, mean and deviation over the seeds."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from cvtool.calls import Call
from cvtool.errors import InputError
from cvtool.metrics.metric_protocol import FIXED, NEEDED, problems, table
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._features import digest
from cvtool.tasks.evaluation._measured import Measured

OPTIONS = {"value": ("What of each run is compared.", "recall@1")}
FITS = (".json", ".toml")
RUN = "recipe.toml"
REPORT = "report.json"  # beside a run's recipe: what `cvtool evaluate -o RUN/report.json` wrote
_FREE = ("loss", "seed", "model", "data", "schedule", "made", "save_every")  # what is looked at by itself, or changes nothing


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """gt: the protocol, `{"backbone", "data", "schedule", "seeds"}` in JSON or TOML. dt: rows in JSON or CSV, or a folder of run folders, each with a
    `report.json` beside its recipe. Runs that keep no common protocol are refused. Raises InputError and UsageError."""
    call = (metrics or [Call("metric-protocol")])[0]
    arguments(call, _none)
    key = str(options.extra.get("value") or "recall@1")
    declared = _declared(Path(gt))
    rows = _rows(Path(dt), key)
    if wrong := problems(rows, declared):
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise InputError(f"no fair comparison: {wrong[0]}{more}", where=dt, hint="one backbone, data, schedule and set of seeds for all losses")
    seeds = sorted({row["seed"] for row in rows})
    losses = list(dict.fromkeys(str(row["loss"]) for row in rows))

    def statistic(weights: np.ndarray) -> dict[str, float]:
        found = table(rows, key, np.asarray(weights, float), seeds)
        return {f"{loss}.{name}": found[loss][part] for loss in losses for name, part in ((key, "mean"), (f"{key}_std", "std"))}

    figures: dict[str, Any] = statistic(np.ones(len(seeds)))
    whole = table(rows, key)
    best = max(losses, key=lambda loss: whole[loss]["mean"])
    reached = {(str(row["loss"]), row["seed"]): float(row[key]) for row in rows}
    by_seed = {f"{loss}.{key}": np.array([reached[loss, seed] for seed in seeds]) for loss in losses}
    return Measured(
        task="protocol", metrics=figures, units=[f"seed {seed}" for seed in seeds], statistic=statistic, per_unit=by_seed,
        per_class={loss: {key: whole[loss]["mean"], f"{key}_std": whole[loss]["std"], "runs": len(seeds)} for loss in losses},
        params={name: rows[0][name] for name in FIXED if name in rows[0]} | {"seeds": seeds, "value": key},
        counts={"runs": len(rows), "losses": len(losses), "seeds": len(seeds)},
        matching=f"{len(rows)} runs: {len(losses)} losses with {len(seeds)} seeds each",
        warnings=[] if len(seeds) > 1 else ["one seed has no deviation: a difference may be chance"],
        primary=f"{best}.{key}",
    )  # fmt: skip


def _none() -> None:
    """No arguments."""


def _declared(path: Path) -> dict[str, Any]:
    """The protocol. Raises InputError for another file, or for one that leaves open what must be fixed."""
    try:
        text = path.read_text(encoding="utf-8")
        value = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"no protocol can be read: {str(error).splitlines()[0]}", where=path) from error
    missing = [key for key in (*NEEDED, "seeds") if not isinstance(value, dict) or key not in value]
    seeds = [] if missing else value["seeds"]
    if missing or not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds) or len(set(seeds)) < max(1, len(seeds)):
        said = f"it does not say {', '.join(missing)}" if missing else "its seeds are no list of different whole numbers"
        hint = '{"backbone": "resnet.20", "data": "omniglot", "schedule": "...", "seeds": [0, 1, 2]}'
        raise InputError(f"a protocol says beforehand what all runs share: {said}", where=path, hint=hint)
    return value


def _rows(path: Path, key: str) -> list[dict[str, Any]]:
    """`{"loss", "seed", ..., key}` of every run. Raises InputError."""
    if path.is_dir():
        folders = sorted(folder.parent for folder in path.glob(f"**/{RUN}"))
        if not folders:
            raise InputError("no run folders in it", where=path, hint=f"a run folder holds a {RUN}")
        rows = [_run(folder) for folder in folders]
    else:
        rows = _listed(path)
    for number, row in enumerate(rows, 1):
        for need in ("loss", "seed", key):
            if row.get(need) is None:
                known = ", ".join(map(str, row))
                raise InputError(
                    f"run {number} does not say its {need}", where=row.get("folder") or path, hint=f"it says {known}; --value KEY names another"
                )
        if type(row["seed"]) is not int:
            raise InputError(f"the seed of run {number} is {row['seed']!r}, which is no whole number", where=row.get("folder") or path)
        if isinstance(row[key], bool) or not isinstance(row[key], (int, float)) or not np.isfinite(row[key]):
            raise InputError(f"the {key} of run {number} is {row[key]!r}, which is no number", where=row.get("folder") or path)
    return rows


def _listed(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() in (".csv", ".tsv"):
            found: Any = [
                {k: _plain(v) for k, v in row.items()} for row in csv.DictReader(io.StringIO(text), delimiter="\t" if path.suffix == ".tsv" else ",")
            ]
        else:
            found = json.loads(text)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"no runs can be read: {str(error).splitlines()[0]}", where=path) from error
    if not isinstance(found, list) or not found or not all(isinstance(row, dict) for row in found):
        raise InputError("no list of runs", where=path, hint='[{"loss": "triplet", "seed": 0, "backbone": "...", "recall@1": 0.5, ...}, ...]')
    return found


def _run(folder: Path) -> dict[str, Any]:
    """What a run's recipe and its report say; `settings` stands for all others of the recipe, `selected_on` for what it was validated on."""
    try:
        recipe = tomllib.loads((folder / RUN).read_text(encoding="utf-8"))
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = f"`cvtool embed` and `cvtool evaluate ... -o {folder / REPORT}` make it"
        raise InputError(f"the run has no {REPORT}", where=folder, hint=hint) from error
    except (OSError, ValueError) as error:
        raise InputError(f"the run cannot be read: {str(error).splitlines()[0]}", where=folder) from error
    rest = {name: value for name, value in recipe.items() if name not in _FREE}
    row = {
        "folder": str(folder),
        "loss": recipe.get("loss") or "own",
        "seed": recipe.get("seed"),
        "backbone": recipe.get("model"),
        "data": recipe.get("data"),
    }
    row |= {"schedule": recipe.get("schedule"), "settings": digest(rest), "selected_on": recipe.get("split_val") or "val"}
    return row | report.get("metrics", {})


def _plain(text: Any) -> Any:
    try:
        return int(text)
    except (TypeError, ValueError):
        try:
            return float(text)
        except (TypeError, ValueError):
            return text
