"""Inverted pictures and their codes against the originals: distortion, perceptual quality and editability of each method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cvtool import images
from cvtool.calls import Call
from cvtool.data.pairing import plural
from cvtool.errors import InputError, UsageError
from cvtool.metrics import fid, inversion
from cvtool.tasks.evaluation import Options, _features
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._files import Pairs, pairs
from cvtool.tasks.evaluation._means import mean
from cvtool.tasks.evaluation._measured import Measured

OPTIONS = {
    "extractor": "The network whose features tell how real pictures look (default: that of the FID, where its weights are at hand).",
    "mapping": "Codes of the generator's own mapping network, M D (.npy): the range of W.",
}
FITS = ("folder", "pictures")
CODES, RETURNED = "codes", "returned"


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """gt: a folder of pictures. dt: a folder of a method's inversions of them, or of such folders, one a method. Beside a method's pictures may lie

        codes.npy       N L D, the code of each picture in the order of their names (L = 18 for 1024 pixels)
        returned.npy    N L D, the codes after an edit, an inversion of what that shows, and the edit back

    All methods must have inverted the same pictures. Raises InputError, ModelError and UsageError.
    """
    arguments((metrics or [Call("inversion")])[0], _none)
    folders = _methods(Path(dt))
    mapping = _mapping(options.extra.get("mapping"))
    reference = _features.extractor(options.extra.get("extractor"), fid.EXTRACTOR)
    originals = None
    values: dict[str, float] = {}
    per_unit: dict[str, np.ndarray] = {}
    rows: dict[str, dict[str, Any]] = {}
    warnings: list[str] = []
    units: list[str] = []
    protocol: dict[str, Any] = {}
    for name, folder in folders.items():
        found = pairs(gt, str(folder), options, suffixes=images.SUFFIXES, key=None, what="picture", many="pictures")
        if units and found.names != units:
            raise InputError("the methods inverted different pictures, and only the same can be compared", where=folder)
        units = found.names
        warnings += [f"{name}: {line}" for line in found.warnings]
        if originals is None:
            originals = _gaussian(found.gt, reference)
            protocol = originals[1]
        each = {"distortion": np.array([_distortion(mine, theirs) for _, mine, theirs in found])}
        row: dict[str, Any] = {"perceptual": fid.frechet(originals[0], _gaussian(found.dt, reference)[0])}
        codes, returned = _codes(folder, CODES, found), _codes(folder, RETURNED, found)
        if codes is not None:
            each["code_variance"] = inversion.variance(codes)
            if returned is not None:
                if returned.shape != codes.shape:
                    raise InputError(f"codes of shape {returned.shape}, those of the pictures are {codes.shape}", where=folder / f"{RETURNED}.npy")
                each["editability"] = inversion.consistency(codes, returned)
            if mapping is not None:
                if mapping.mean.shape != codes.shape[2:]:
                    raise InputError(f"codes of {codes.shape[2]} numbers, the mapping's have {len(mapping.mean)}", where=folder / f"{CODES}.npy")
                each["distance_to_W"] = mapping.distance(codes)
                row["space"] = inversion.space(codes, each["distance_to_W"])
        for key in ("codes", "returned"):
            if {"codes": codes, "returned": returned}[key] is None:
                what = "code_variance and distance_to_W" if key == "codes" else "editability"
                warnings.append(f"{name}: no {key}.npy, so {what} cannot be measured (null)")
        row = {key: mean(each[key]) if key in each else row.get(key) for key in inversion.KEYS} | ({"space": row["space"]} if "space" in row else {})
        rows[name] = row
        prefix = f"{name}." if len(folders) > 1 else ""
        values |= {prefix + key: row[key] for key in inversion.KEYS}
        per_unit |= {prefix + key: one for key, one in each.items()}
    first = next(iter(folders)) + "." if len(folders) > 1 else ""
    whole = {**protocol, "samples": len(units)}
    return Measured(
        task="inversions", metrics=dict(values), units=units, per_unit=per_unit, per_class=rows if len(folders) > 1 else {},
        params=whole | {"protocol": _features.digest(whole), "mapping": mapping is not None},
        about={} if len(folders) > 1 else {"space": rows[next(iter(rows))].get("space")},
        counts={"images": len(units), "methods": len(folders)},
        matching=f"{plural(len(folders), 'method')} on {plural(len(units), 'picture')}", warnings=warnings,
        lower=tuple(values), primary=f"{first}distortion",
    )  # fmt: skip


def _none() -> None:
    """No arguments."""


def _methods(folder: Path) -> dict[str, Path]:
    """Name -> folder: its subfolders with pictures, else itself. Raises InputError."""
    if not folder.is_dir():
        raise InputError("no folder of inversions", where=folder)
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and _holds_pictures(path))
    if inner and _holds_pictures(folder):
        raise InputError("pictures and folders of pictures: are these one method or several?", where=folder)
    return {path.name: path for path in inner or [folder]}


def _holds_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in images.SUFFIXES for path in folder.iterdir())


def _mapping(source: Any) -> inversion.Range | None:
    if not source:
        return None
    samples = _array(Path(str(source)))
    try:
        return inversion.Range(samples)
    except ValueError as error:
        raise UsageError(f"--mapping: {error}") from error


def _array(path: Path) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError("not a NumPy file of a plain array", where=path) from error
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or not np.isfinite(values).all():
        raise InputError("no array of finite numbers", where=path)
    return values


def _codes(folder: Path, stem: str, found: Pairs) -> np.ndarray | None:
    """N L D in the order of the pairs; a file's rows go by the names of the folder's pictures. Raises InputError."""
    path = folder / f"{stem}.npy"
    if not path.exists():
        return None
    codes = _array(path)
    codes = codes[:, None] if codes.ndim == 2 else codes
    names = sorted(str(picture) for picture in folder.iterdir() if picture.suffix.lower() in images.SUFFIXES)
    if codes.ndim != 3 or len(codes) != len(names):
        raise InputError(f"codes of shape {codes.shape} do not go with {len(names)} pictures: N L D, a row a picture", where=path)
    return codes[[names.index(other) for other in found.dt]]


def _distortion(mine: str, theirs: str) -> float:
    true, made = images.decode(mine), images.decode(theirs)
    if true.shape != made.shape:
        raise InputError(f"the picture is {made.shape[1]} x {made.shape[0]}, the original {true.shape[1]} x {true.shape[0]}", where=theirs)
    return inversion.distortion(true, made)


def _gaussian(files: list[str], reference: Any) -> tuple[fid.Gaussian, dict[str, Any]]:
    if len(files) < 2:
        raise InputError("perceptual quality is that of a set: two pictures at least are needed")
    found = _features.of(files, reference)
    if found.lost:
        raise InputError(found.lost[0])
    return fid.Gaussian.of(found.vectors), found.protocol
