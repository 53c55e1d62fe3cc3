"""Which place of one picture is which of another, and which point of one cloud is which of another: `match` and `match3d`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cvtool.batch import Batch, Place
from cvtool.data import ply
from cvtool.errors import InputError, UsageError
from cvtool.ops.correspond import mutual, rigid, shift
from cvtool.ops.point_features import fpfh, neighbours
from cvtool.records import Record, made_by
from cvtool.registry import Reference
from cvtool.runtime.pool import Loaded, pool
from cvtool.tasks.embedding import _encode

LEAST = 8  # points of a cloud


def match(
    a: Record,
    b: Record,
    model: Reference | str,
    *,
    layer: str | None = None,
    img_size: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    offline: bool = False,
) -> Record:
    """The first picture's record with `matches`, rows of x, y in it, x, y in the other, and the cosine; and `match`: the other's name, how many,
    the `shift` on which most agree, in pixels, and the share that does.

    layer: whose vectors are compared; None: the last that has positions. Pictures are seen whole. Raises UsageError for a model without positions.
    """
    with pool.lease(model, device=device, precision=precision, offline=offline) as loaded:
        name: list[str] = [_encode.layer_of(loaded.model, layer, str(loaded.reference))] if layer else []
        (from_a, at_a, step), (from_b, at_b, _) = (_dense(loaded, record, name, img_size) for record in (a, b))
        maker = made_by("embed", loaded.reference, weights_sha256=loaded.info.sha256)
    one, other, score = mutual(from_a, from_b)
    move, agree = shift(at_a[one], at_b[other], step)
    rows = np.concatenate([at_a[one], at_b[other]], 1).round(3).tolist()
    facts = {"file_name": b.get("file_name"), "layer": name[0], "shift": move.round(3).tolist(), "within": round(step, 3)}
    facts |= _shares(one, agree)
    return a.changed(
        made_by=[*a.get("made_by", ()), maker], match=facts, matches=[[*row, round(float(s), 6)] for row, s in zip(rows, score, strict=True)]
    )


def _shares(one: np.ndarray, agree: np.ndarray) -> dict[str, Any]:
    return {"count": len(one), "agreeing": round(float(agree.mean()), 6) if len(one) else 0.0}


def _dense(loaded: Loaded, record: Record, name: list[str], img_size: int | None) -> tuple[np.ndarray, np.ndarray, float]:
    """(vectors N D, their places N 2 in the picture's own pixels, how far apart two are at most)."""
    prepare = loaded.model.prepare
    if not hasattr(prepare, "sized"):
        raise UsageError(f"{loaded.reference} sees pictures in its own way, whose places are not known")
    if prepare.resize == "crop":  # what lies outside the centre is to be found too
        prepare = replace(prepare, resize="stretch", crop_fraction=1.0)
    if img_size is not None:
        prepare = prepare.sized(img_size)
    batch: Batch = prepare([record.pixels()]).to(loaded.device)
    with torch.inference_mode(), loaded.autocast():
        if not name:
            name.append(_encode.last_map(loaded.model, batch, str(loaded.reference)))
        out = _encode.output_of(loaded.model, name[0], batch)
    if out is None or out.dim() < 3:
        raise UsageError(f"the layer '{name[0]}' of {loaded.reference} has no positions", hint="name an earlier layer with --layer")
    vectors, rows, columns = _encode.grid(out)
    if rows * columns < 2:
        raise UsageError(f"the layer '{name[0]}' has one position only", hint="name an earlier layer with --layer, or give a larger --img-size")
    points, step = _centres(rows, columns, batch.images.shape[-2:], batch.places[0])
    inside = ((points >= 0) & (points < [batch.places[0].width, batch.places[0].height])).all(1)
    return vectors[0].float().cpu().numpy()[inside], points[inside], step


def _centres(rows: int, columns: int, size: tuple[int, ...], place: Place) -> tuple[np.ndarray, float]:
    """The middles of a grid's cells over a batch picture of `size` (H, W), as x, y in the original; and the larger side of a cell there."""
    sx, sy = place.scale
    x = ((np.arange(columns) + 0.5) * size[1] / columns - place.left) / sx
    y = ((np.arange(rows) + 0.5) * size[0] / rows - place.top) / sy
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    return grid, float(max(size[1] / columns / sx, size[0] / rows / sy))


def match3d(a: Path, b: Path) -> Record:
    """A record of the first cloud with `matches`, rows of a point's number in it, in the other, and the cosine; and `match`: the other's name, how
    many, the rotation and translation that bring the first onto the other, and the share of matches that agree with it.

    Points are told apart by the descriptors in the files (further numbers beside x, y, z, normals and colours), where both have them, else by FPFH.
    """
    one, other = (ply.read(path) for path in (a, b))
    for cloud, path in ((one, a), (other, b)):
        if len(cloud.points) < LEAST:
            raise InputError(f"{len(cloud.points)} points are too few to be told apart", where=path, hint=f"{LEAST} or more")
    if one.descriptors is not None and other.descriptors is not None:
        if one.descriptors.shape[1] != other.descriptors.shape[1]:
            sizes = f"{one.descriptors.shape[1]} and {other.descriptors.shape[1]} numbers"
            raise InputError(f"descriptors of {sizes}", where=b, hint="one program makes both")
        vectors, how = [one.descriptors, other.descriptors], "file"
    else:
        vectors, how = [fpfh(cloud.points) for cloud in (one, other)], "fpfh"
    rows, columns, score = mutual(vectors[0].astype(np.float32), vectors[1].astype(np.float32))
    apart = float(np.median(neighbours(one.points, 1)[1]))
    rotation, move, agree = rigid(one.points[rows], other.points[columns], 2 * apart)
    facts = {"file_name": str(b), "descriptors": how} | _shares(rows, agree)
    facts |= {"rotation": rotation.round(6).tolist(), "translation": move.round(6).tolist()}
    pairs = [[int(i), int(j), round(float(s), 6)] for i, j, s in zip(rows, columns, score, strict=True)]
    return Record(file_name=str(a), match=facts, matches=pairs)
