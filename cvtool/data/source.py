"""A data set as training reads it: the part to learn from, the part to validate on, and the categories."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cvtool.categories import Categories
from cvtool.data import formats
from cvtool.errors import InputError, UsageError, did_you_mean
from cvtool.records import Record, categories_of

TRAIN, VAL = ("train", "trainval", "training"), ("val", "valid", "validation")  # the parts' usual names, the first there is wins


def read(where: Mapping[str, str]) -> tuple[list[Record], list[Record], Categories]:
    """(training records, validation records, categories); every annotation is read, of the pictures only whether they are there.

    where: `data`, and where given `data_val`, `data_format`, `images`, `split`, `split_val` ("none": do not). Raises InputError, UsageError.
    """
    train, val, categories = _parts(where)
    everything = train + val
    bad = [record for record in everything if record.failed or (record.data is None and not os.path.exists(record.get("file_name", "")))]
    if bad:
        why = f"{bad[0].name}: {bad[0]['error']}" if bad[0].failed else bad[0].name
        raise InputError(
            f"{len(bad)} of {len(everything)} pictures are missing", where=why, hint="`cvtool data check` lists them; --images says where they lie"
        )
    return train, val, [dict(category) for category in categories]


def _parts(where: Mapping[str, str]) -> tuple[list[Record], list[Record], Categories]:
    path = Path(where["data"])
    module = formats.get(where.get("data_format") or formats.recognise(path))
    images = Path(where["images"]) if "images" in where else None
    have = module.splits(path)
    chosen = choose(where.get("split"), have, TRAIN, path, "--split")
    train = list(module.read(path, images=images, split=chosen))
    if not train:
        raise InputError("the data set holds no pictures", where=path if chosen is None else f"{path}, split {chosen}")
    categories = module.categories(path) or categories_of(train)
    if not categories:
        raise InputError("the data set has no categories: nothing to learn", where=path)
    wanted = where.get("split_val")
    if "data_val" in where:
        path = Path(where["data_val"])
        if wanted == "none":
            raise UsageError("--split-val none and --data-val contradict each other")
        module = formats.get(where.get("data_format") or formats.recognise(path))
        have = module.splits(path)
        named = choose(wanted, have, VAL, path, "--split-val") if wanted or set(VAL) & set(have) else None
        return train, list(module.read(path, images=images, split=named)), categories
    if wanted == "none" or not (wanted or set(VAL) & set(have)):
        return train, [], categories
    named = choose(wanted, have, VAL, path, "--split-val")
    if named == chosen and wanted is None:
        return train, [], categories
    return train, list(module.read(path, images=images, split=named)), categories


def keypoints(categories: Categories, records: Sequence[Record]) -> int:
    """How many keypoints an object has: as its category says, else as the first object; 0 for none. Raises InputError where categories differ."""
    counts = {len(c["keypoints"]): c["name"] for c in categories if c and c.get("keypoints")}
    if len(counts) > 1:
        said = ", ".join(f"{name} {count}" for count, name in counts.items())
        raise InputError(f"the categories have different numbers of keypoints: {said}", hint="train on one of them")
    own = (len(a["keypoints"]) // 3 for record in records for a in record.get("annotations") or () if a.get("keypoints"))
    return next(iter(counts), None) or next(own, 0)


def choose(wanted: str | None, have: Sequence[str], usual: Sequence[str], path: Path, option: str) -> str | None:
    """The part to read; None where the data set has no parts."""
    if wanted is not None:
        if wanted not in have:
            hint = did_you_mean(wanted, have) or ("its parts: " + ", ".join(have) if have else f"leave {option} out")
            raise UsageError(f"{option} {wanted}: the data set has no such part", where=path, hint=hint)
        return wanted
    if not have:
        return None
    if (found := next((name for name in usual if name in have), None)) is None:
        raise UsageError(f"which part of the data set? {option} says it", where=path, hint="its parts: " + ", ".join(have))
    return found
