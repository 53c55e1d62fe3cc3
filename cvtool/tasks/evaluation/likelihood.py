"""True pictures by a generator that knows their probability: what they cost in bits."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from cvtool.calls import Call
from cvtool.data.pairing import first, plural
from cvtool.errors import InputError, UsageError
from cvtool.metrics.bits_per_dim import compute
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._means import lower_of, single, weighted
from cvtool.tasks.evaluation._measured import Measured

OPTIONS: dict[str, str] = {}
FITS = ("folder", "pictures", ".png", ".jpg")
BATCH = 8


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """gt: pictures, a folder, one, or JSON lines. dt: a model, by its reference, that offers `bits_per_dim(images B 3 H W) -> B`.

    Raises InputError, ModelError and UsageError.
    """
    import torch

    from cvtool import registry
    from cvtool.data.inputs import read
    from cvtool.runtime.pool import pool
    from cvtool.tasks._runner import decoded

    call = (metrics or [Call("bits-per-dim")])[0]
    if call.args or call.kwargs:
        raise UsageError(f"--metric {call.name} takes no arguments, not {call}")
    if os.fspath(dt) == "-":
        raise UsageError("--dt is the generator here", hint="such as --dt runs/0001")
    names, lost, bits = list[str](), list[str](), list[np.ndarray]()
    with pool.lease(registry.parse(os.fspath(dt))) as loaded:
        if not hasattr(loaded.model, "bits_per_dim"):
            raise UsageError(f"{loaded.reference} does not tell how probable a picture is", hint="one that draws value by value does")
        waiting: list[np.ndarray] = []

        def show() -> None:
            batch = loaded.model.prepare(waiting).to(loaded.device)
            with torch.inference_mode(), loaded.autocast():
                bits.append(loaded.model.bits_per_dim(batch.images).double().cpu().numpy())
            waiting.clear()

        for record, pixels in decoded(read([os.fspath(gt)], stdin=options.stdin)):
            if pixels is None:
                lost.append(f"{record.name}: {record['error']}")
                continue
            names.append(record.name)
            waiting.append(pixels)
            if len(waiting) == BATCH:
                show()
        if waiting:
            show()
        reference, size = str(loaded.reference), loaded.model.prepare.size
        sha256 = loaded.info.sha256
    if not names:
        raise InputError("none of the pictures can be read", where=gt, hint=lost[0] if lost else None)
    values = {"bits_per_dim": np.concatenate(bits)}
    many = weighted(values)
    few = [f"{len(lost):,} of {len(lost) + len(names):,} pictures cannot be read and are left out: {first(lost, 2)}"] if lost else []
    return Measured(
        task="likelihood", metrics=dict(compute(values["bits_per_dim"])), units=names, statistic=single(many), many=many, per_unit=values,
        params={"model": reference, "weights_sha256": sha256, "size": size}, counts={"pictures": len(names)},
        matching=f"{plural(len(names), 'picture')} by {reference}", warnings=few, lower=lower_of([call], list(values)), primary="bits_per_dim",
    )  # fmt: skip
