"""A data set as training reads it: the part to learn from, the part to validate on, and the categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvtool.categories import Categories
from cvtool.data import formats, split
from cvtool.errors import InputError, UsageError, did_you_mean
from cvtool.records import Record, categories_of

TRAIN, VAL = ("train", "trainval", "training"), ("val", "valid", "validation")  # the parts' usual names, the first there is wins


def read(where: Mapping[str, Any]) -> tuple[list[Record], list[Record], Categories]:
    """(training records, validation records, categories, maybe none); every annotation is read, of the pictures only whether they are there.

    where: `data`, and where given `data_old` (another data set, joined to it),
    `data_val`, `data_format`, `images`, `split` (a name, or fractions such as 80,10,10: the third part is kept out of
    training), `split_val` ("none": do not), `fold` (2/5: the second of five folds validates), `seed` of both, 0 unless given, and `strict`: an
    unreadable picture is an error, else it is left to the loader. Raises InputError, UsageError.
    """
    parts, categories = divided(where)
    train, val = parts["train"], parts["val"]
    everything = train + val
    gone = [record for record in everything if not record.failed and not record.present()]
    if gone:
        hint = "`cvtool data check` lists them; --images says where they lie"
        raise InputError(f"{len(gone)} of {len(everything)} pictures are missing", where=gone[0].name, hint=hint)
    bad = [record for record in everything if record.failed]
    if bad and (where.get("strict") or len(bad) == len(everything)):
        raise InputError(f"{len(bad)} of {len(everything)} pictures cannot be read", where=f"{bad[0].name}: {bad[0]['error']}")
    return train, val, [dict(category) for category in categories]


def divided(where: Mapping[str, Any]) -> tuple[dict[str, list[Record]], Categories]:
    """The same before any check: "train", "val" (maybe empty) and, where `split` is three fractions, "test"."""
    if where.get("data_old") is not None:
        return _joined(where)
    path = Path(where["data"])
    module = formats.get(where.get("data_format") or formats.recognise(path))
    images = Path(where["images"]) if where.get("images") else None
    have, wanted = module.splits(path), where.get("split")
    shares, fold, seed = split.fractions(wanted), where.get("fold"), int(where.get("seed") or 0)
    if shares is not None or fold is not None:
        _refuse_contradictions(where, have, path, shares is not None)
    chosen = next(iter(have), None) if shares is not None else choose(wanted, have, TRAIN, path, "--split")
    train = list(module.read(path, images=images, split=chosen))
    if not train:
        raise InputError("the data set holds no pictures", where=path if chosen is None else f"{path}, split {chosen}")
    categories = module.categories(path) or categories_of(train)
    if shares is not None:
        return dict(zip(split.PARTS, split.divided(train, shares, seed), strict=False)), categories
    if fold is not None:
        number, count = split.fold(fold)
        folds = split.folds(train, count, seed)
        held = {id(record) for record in folds[number]}
        return {"train": [record for record in train if id(record) not in held], "val": folds[number]}, categories
    return {"train": train, "val": _validation(where, module, path, images, chosen)}, categories


def _joined(where: Mapping[str, Any]) -> tuple[dict[str, list[Record]], Categories]:
    """`data_old` and `data`, part by part; with `data_val` or `split_val`=none the old data have nothing to validate on either.

    Categories meet by name, the old ones first; a new one whose id is taken gets the next that is free. Raises InputError for maps of labels, whose
    pixels are ids, under different tables.
    """
    same = {key: where[key] for key in ("seed", "fold") if where.get(key) is not None}
    if split.fractions(where.get("split")) is not None:
        same["split"] = where["split"]
    elif where.get("data_val") is not None or where.get("split_val") == "none":
        same["split_val"] = "none"
    old, table = divided({"data": where["data_old"], **same})
    new, theirs = divided({key: value for key, value in where.items() if key != "data_old"})
    if table == theirs:
        return _together(old, new), table
    if any(record.get("segmentation_map") for part in (*old.values(), *new.values()) for record in part):
        raise InputError("maps of labels join only under the same categories", where=f"{where['data_old']} and {where['data']}")
    joined = [category for category in table if category is not None]
    ids = {category["name"]: category["id"] for category in joined}
    for category in theirs:
        if category is not None and category["name"] not in ids:
            taken = set(ids.values())
            number = category["id"]
            if number in taken:
                number = max((n for n in taken if isinstance(n, int)), default=0) + 1
            ids[category["name"]] = number
            joined.append({**category, "id": number})
    named = {category["id"]: category["name"] for category in theirs if category is not None}

    def renumbered(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        told = [(dict(one), one.get("category") or named.get(one.get("category_id"))) for one in found]
        return [one | ({"category": name, "category_id": ids[name]} if name in ids else {}) for one, name in told]

    def changed(record: Record) -> Record:
        return record.changed(**{key: renumbered(record[key]) for key in ("annotations", "labels") if record.get(key)})

    return _together(old, {part: [changed(record) for record in records] for part, records in new.items()}), joined


def _together(old: Mapping[str, list[Record]], new: Mapping[str, list[Record]]) -> dict[str, list[Record]]:
    return {part: [*old.get(part, ()), *new.get(part, ())] for part in dict.fromkeys([*old, *new])}


def _refuse_contradictions(where: Mapping[str, Any], have: Sequence[str], path: Path, by_fractions: bool) -> None:
    """Raises UsageError where something else says already what to validate on, or what to divide is not clear."""
    option = f"--split {where['split']}" if by_fractions else f"--fold {where['fold']}"
    others = ("data_val", "split_val", *(("fold",) if by_fractions else ()))
    if other := next((key for key in others if where.get(key) is not None), None):
        raise UsageError(f"{option} and --{other.replace('_', '-')} contradict each other", hint="both say what to validate on; leave one out")
    if len(have) < 2:  # the only part there is is the data set
        return
    if by_fractions:
        hint = "--split NAME and --split-val NAME take its own; --split NAME --fold 1/5 validates on a fifth of one"
        raise UsageError(f"{option} divides a data set without parts, and this one has {', '.join(have)}", where=path, hint=hint)
    if where.get("split") is None:
        raise UsageError(f"{option}: which part of the data set? --split says it", where=path, hint="its parts: " + ", ".join(have))


def _validation(where: Mapping[str, Any], module: Any, path: Path, images: Path | None, chosen: str | None) -> list[Record]:
    """The records of `data_val`, or of the part of `data` that is for validation."""
    wanted = where.get("split_val")
    if where.get("data_val") is not None:
        path = Path(where["data_val"])
        if wanted == "none":
            raise UsageError("--split-val none and --data-val contradict each other")
        module = formats.get(where.get("data_format") or formats.recognise(path))
        have = module.splits(path)
        named = choose(wanted, have, VAL, path, "--split-val") if wanted or set(VAL) & set(have) else None
        return list(module.read(path, images=images, split=named))
    have = module.splits(path)
    if wanted == "none" or not (wanted or set(VAL) & set(have)):
        return []
    named = choose(wanted, have, VAL, path, "--split-val")
    return [] if named == chosen and wanted is None else list(module.read(path, images=images, split=named))


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
