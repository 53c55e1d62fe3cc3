"""Chains: trainings of which each starts from the best weights of the one before, every one a run of its own, with one log.

`pretrain_synthetic`: first on made-up pictures, then on the data set itself, whose classes may be others: the head then starts afresh.
`final_res`, `final_epochs`: last, a few epochs at another picture size with a tenth of the rate. Training crops show objects larger than testing
does, so that a network seen at a higher resolution, and tuned to it for a moment, is better there (Touvron 2019, arXiv:1906.06423, section 3). It is
validated at that size before, too, and where tuning has made it worse the weights from before are the run's best.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cvtool.errors import InputError, UsageError
from cvtool.train.log import STAGE
from cvtool.train.recipe import Plan
from cvtool.train.run import LOG, Run

SYNTHETIC, TRAIN = "pretrain-synthetic", "train"  # what an earlier stage's lines in the log are marked with
LOOKS_FIRST = "validates_before"  # what a plan is marked with whose run may leave things as they were: the last stage
FINAL_RATE = 0.1  # of the last stage's learning rate over that before
_TRANSFER: dict[str, Any] = {"freeze": "", "unfreeze": 0, "lr_scale": 1.0}  # what is done with weights from elsewhere is the second stage's affair


def current(planned: Plan) -> Plan:
    """The stage that a plan begins with, on its own data."""
    if "pretrain_synthetic" not in planned.data:
        return planned
    return replace(planned, data={"data": planned.data["pretrain_synthetic"]}, recipe=planned.recipe | _TRANSFER, asked=frozenset())


def following(planned: Plan, folder: Path) -> Plan | None:
    """What comes after the run in `folder`, which was planned so; None where that was all."""
    recipe = planned.recipe
    if "pretrain_synthetic" in planned.data:
        data, changes = {key: value for key, value in planned.data.items() if key != "pretrain_synthetic"}, dict[str, Any]()
    elif recipe["final_res"] and recipe["final_epochs"] and not recipe["overfit"]:
        data, changes = planned.data, _final(recipe)
    else:
        return None
    here = planned.made.get("folder", "")
    init = folder if Path(here).resolve() == Path.cwd() else folder.resolve()  # as seen from where the data's paths are
    made = {key: planned.made[key] for key in ("command", "folder") if key in planned.made} | {"after": folder.name}
    if "pretrain_synthetic" not in planned.data:
        made[LOOKS_FIRST] = "yes"
    return replace(planned, data=data, recipe=recipe | changes | {"init": str(init), "initializer": "", "init_bias": 0.0}, made=made)


def _final(recipe: Mapping[str, Any]) -> dict[str, Any]:
    changes = {"img_size": recipe["final_res"], "epochs": recipe["final_epochs"], "lr": FINAL_RATE * recipe["lr"], "schedule": "cosine"}
    return changes | {"final_res": 0, "final_epochs": 0, "steps": 0, "warmup": 0.0, "early_stop": 0, "val_every": 1, "lr_scale": 1.0}


def begun(folder: Path) -> Path | None:
    """The run that goes on from the one in `folder`, if it was started before."""
    for other in sorted(path for path in folder.parent.iterdir() if path.name.isdigit() and path.name > folder.name):
        try:
            if Run.open(other)[1].made.get("after") == folder.name:
                return other
        except (InputError, UsageError, OSError):
            continue
    return None


def lines(planned: Plan, folder: Path) -> bytes:
    """The log of the run in `folder` as the next stage's begins with it: each line says of which stage it is."""
    stage, found = SYNTHETIC if "pretrain_synthetic" in planned.data else TRAIN, []
    for line in (folder / LOG).read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        found.append(json.dumps({STAGE: values.pop(STAGE, stage), **values}))
    return "".join(line + "\n" for line in found).encode()
