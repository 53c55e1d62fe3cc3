"""Which detected image is which image of the ground truth, and which category is which.

Ids count where both sides have them from the same source; else file names do: whole, then as the end of a longer path, then without
folders, then without suffix. Names of categories outrank their numbers. Whatever is matched otherwise than by equal ids is said in a note,
whatever is left out is listed, two answers are an error, and so is no answer at all: a score of 0 must mean poor detections.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cvtool.data.sides import Side, image_name
from cvtool.errors import InputError


@dataclass
class Pairing:
    """positions: for each detected image its position in the ground truth, None where it has none; how: the words for it."""

    positions: list[int | None]
    how: str
    account: str = ""
    warnings: list[str] = field(default_factory=list)


def first(items: Iterable[Any], limit: int = 5) -> str:
    """The first few of a list, for a message."""
    listed = list(items)
    return ", ".join(str(item) for item in listed[:limit]) + (", ..." if len(listed) > limit else "")


def plural(number: int, one: str, many: str | None = None) -> str:
    """`1 image`, `3 images`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


# --- images ----------------------------------------------------------------------------------------------------------------------------------


def match_images(truth: Side, found: Side) -> Pairing:
    """Pairs the images of both sides. Raises InputError where an image has two counterparts or no image has one."""
    if not found.images:
        return Pairing([], "nothing", "no detected images to match")
    by_id = _by_id(truth, found)
    result = by_id if by_id is not None and any(p is not None for p in by_id.positions) else _by_name(truth, found)
    if all(position is None for position in result.positions):
        raise _nothing_matches(truth, found)
    _refuse_double(result, truth, found)
    unknown = [image for image, position in zip(found.images, result.positions, strict=True) if position is None]
    if unknown:
        labels = [repr(image["id"]) if "id" in image and result.how == "image id" else image_name(image) for image in unknown]
        which = "is" if len(unknown) == 1 else "are"
        result.warnings.append(
            f"{plural(len(unknown), 'detected image')} of {len(found.images):,} {which} not in the ground truth and left out: {first(labels)}"
        )
    matched = len(found.images) - len(unknown)
    silent = len(truth.images) - matched
    result.account = (
        f"matched {matched:,} of {plural(len(found.images), 'detected image')} by {result.how}; "
        f"{silent:,} of {plural(len(truth.images), 'ground-truth image')} without detections"
    )
    return result


def _by_id(truth: Side, found: Side) -> Pairing | None:
    """By id, or None where ids mean nothing: numbered by a writer, missing, repeated, or belonging to other file names."""
    if found.ids == "collected":
        return None
    keys = [image.get("id") for image in found.images]
    if None in keys or any("id" not in image for image in truth.images):
        return None
    exact = {image["id"]: i for i, image in enumerate(truth.images)}
    positions = [exact.get(key) for key in keys]
    warnings = []
    if None in positions:  # numbers written as text, or the reverse
        texts: dict[str, int | None] = {}
        stems = {_stem(parts[-1]): i for i, image in enumerate(truth.images) if (parts := _parts(image.get("file_name")))}
        for key, i in exact.items():
            texts[_canonical(key)] = None if _canonical(key) in texts else i
        again = [texts.get(_canonical(key)) if position is None else position for key, position in zip(keys, positions, strict=True)]
        repaired = [key for key, old, new in zip(keys, positions, again, strict=True) if old is None and new is not None]
        if repaired:
            kinds = ("text", "numbers") if isinstance(repaired[0], str) else ("numbers", "text")
            warnings.append(
                f"image ids are {kinds[0]} in the detections and {kinds[1]} in the ground truth: matched as the same, such as {repaired[0]!r}"
            )
        if any(isinstance(key, str) and p is not None and key in stems and stems[key] != p for key, p in zip(keys, again, strict=True)):
            return None  # such an id is the name of another file
        positions = again
    if found.kind != "results" and len(set(keys)) < len(keys):
        return None  # streams that were joined, each with numbers of its own
    named = [(i, position) for i, position in enumerate(positions) if position is not None]
    if any(not _agree(found.images[i], truth.images[position]) for i, position in named):
        return None
    return Pairing(positions, "image id", warnings=warnings)


def _canonical(key: Any) -> str:
    text = str(key)
    return str(int(text)) if text.isascii() and text.isdigit() else text


def _agree(one: dict, other: dict) -> bool:
    """Whether the file names of two images with the same id allow them to be the same."""
    names = [image.get("file_name") for image in (one, other)]
    if not all(isinstance(name, str) and name for name in names):
        return True
    return _stem(_parts(names[0])[-1]) == _stem(_parts(names[1])[-1])


def _by_name(truth: Side, found: Side) -> Pairing:
    """By file name, the strictest rule first; what one rule has matched is out of reach for the next.

    An id that is text may itself be the name or stem of a file.
    """
    names = [_parts(image.get("file_name")) for image in truth.images]
    wanted = [_parts(image.get("file_name") or (image["id"] if isinstance(image.get("id"), str) else None)) for image in found.images]
    positions: list[int | None] = [None] * len(wanted)
    rules = (
        (lambda parts: parts, None),
        (lambda parts: parts[-1], lambda mine, theirs: _shared(mine, theirs) == min(len(mine), len(theirs)) - 1),  # the end of a longer path
        (lambda parts: parts[-1], None),
        (lambda parts: _stem(parts[-1]), None),
    )
    by_stem = 0
    for step, (key, allowed) in enumerate(rules):
        if None not in positions:
            break
        taken = {position for position in positions if position is not None}
        table = _index(names, key, taken)
        for i, parts in enumerate(wanted):
            if positions[i] is not None or not parts:
                continue
            candidates = [j for j in table.get(key(parts), ()) if allowed is None or allowed(parts, names[j])]
            if candidates:
                positions[i] = _closest(candidates, parts, names, found.images[i], truth)
                by_stem += step == len(rules) - 1
    all_by_stem = by_stem and by_stem == sum(position is not None for position in positions)
    warnings = [f"{plural(by_stem, 'image')} matched by the file name without its suffix"] if by_stem and not all_by_stem else []
    return Pairing(positions, "file stem" if all_by_stem else "file name", warnings=warnings)


def _parts(name: Any) -> tuple[str, ...]:
    return tuple(part for part in str(name).replace("\\", "/").split("/") if part not in ("", ".")) if name else ()


def _stem(base: str) -> str:
    stem, dot, _ = base.rpartition(".")
    return stem if dot and stem else base


def _index(names: Sequence[tuple[str, ...]], key: Any, taken: set[int]) -> dict[Any, list[int]]:
    table: dict[Any, list[int]] = {}
    for i, parts in enumerate(names):
        if parts and i not in taken:
            table.setdefault(key(parts), []).append(i)
    return table


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many folders two paths share, counted from the file upwards."""
    folders = list(zip(reversed(one[:-1]), reversed(other[:-1]), strict=False))
    return next((n for n, (mine, theirs) in enumerate(folders) if mine != theirs), len(folders))


def _closest(candidates: list[int], parts: tuple[str, ...], names: Sequence[tuple[str, ...]], image: dict, truth: Side) -> int:
    """The candidate that shares the most folders; two such are an error."""
    best = max(_shared(parts, names[i]) for i in candidates)
    closest = [i for i in candidates if _shared(parts, names[i]) == best]
    if len(closest) > 1:
        listing = first(image_name(truth.images[i]) for i in closest)
        raise InputError(
            f"{image_name(image)} could be any of {len(closest)} ground-truth images: {listing}", hint="keep the folders in the file names"
        )
    return closest[0]


def _refuse_double(result: Pairing, truth: Side, found: Side) -> None:
    owners: dict[int, int] = {}
    for i, position in enumerate(result.positions):
        if position is None:
            continue
        if position in owners:
            pair = sorted({image_name(found.images[owners[position]]), image_name(found.images[i])})
            what = f"{pair[0]} stands twice in the detections" if len(pair) == 1 else f"{pair[0]} and {pair[1]}"
            hint = "were two runs over the same images joined into one file?"
            if len(pair) == 1:
                raise InputError(what, where=found.where, hint=hint)
            raise InputError(f"{what} are the same ground-truth image, {image_name(truth.images[position])}", where=found.where, hint=hint)
        owners[position] = i


def _nothing_matches(truth: Side, found: Side) -> InputError:
    if any("file_name" in image for image in found.images) or not any("id" in image for image in found.images):
        mine, theirs = first(map(image_name, found.images)), first(map(image_name, truth.images))
    else:
        mine = first(repr(image.get("id")) for image in found.images)
        theirs = first(repr(image["id"]) if "id" in image else image_name(image) for image in truth.images)
    if all("id" not in image for image in truth.images) and not any("file_name" in image for image in found.images):
        hint = "this ground truth has no image ids: give the detections with file names (cvtool detect -o dt.json or dt.jsonl)"
    else:
        hint = "are these another data set's or another split's?"
    counts = f"{plural(len(found.images), 'detected image')}, {plural(len(truth.images), 'ground-truth image')}"
    return InputError(f"no detected image is in the ground truth ({counts}); detected: {mine}; ground truth: {theirs}", where=found.where, hint=hint)


# --- categories ------------------------------------------------------------------------------------------------------------------------------


def match_categories(truth: list[dict], declared: list[dict], used: Iterable[Any], *, where: str) -> tuple[dict[Any, Any], list[str]]:
    """(detections' category id -> ground truth's, warnings). Ids that are left out are not in the mapping.

    truth: the ground truth's table. declared: what the detections' side says its ids mean, maybe nothing. used: the ids that occur there.
    """
    used = list(dict.fromkeys(used))
    if not used:
        return {}, []
    meaning = {c["id"]: str(c["name"]) for c in declared if _has_name(c)}
    own = {c["id"]: str(c["name"]) for c in truth if _has_name(c)}
    ids = {c["id"]: c["id"] for c in truth} | {str(c["id"]): c["id"] for c in truth if str(c["id"]).isdigit()}
    by_name = _names(own)
    mapping: dict[Any, Any] = {}
    moved, missing, as_text = [], [], []
    for key in used:
        name = meaning.get(key)
        target = ids.get(key)
        if name is None or (target is not None and target not in own):
            if target is not None:
                mapping[key] = target
                if type(target) is not type(key):
                    as_text.append(key)
            else:
                missing.append(key)
            continue
        match = target if target is not None and _plain(own[target]) == _plain(name) else by_name.get(name, by_name.get(_plain(name)))
        if match is None:
            missing.append(key)
            continue
        mapping[key] = match
        if match != key:
            moved.append((key, match, name))
    if not mapping:
        mine = first((_label(key, meaning) for key in used), 8)
        theirs = first((_label(c["id"], own) for c in truth), 8)
        hint = "other classes, or numbered otherwise: detections that carry names (cvtool's own do) are matched by name"
        raise InputError(f"no category in common; detections: {mine}; ground truth: {theirs or 'none'}", where=where, hint=hint)
    return mapping, _category_warnings(mapping, moved, missing, as_text, meaning, own)


def _category_warnings(mapping: dict, moved: list, missing: list, as_text: list, meaning: dict, own: dict) -> list[str]:
    warnings = []
    if moved:
        listing = first((f"{name} {key} -> {target}" for key, target, name in moved), 3)
        warnings.append(f"category ids differ, so categories were matched by name: {listing}")
    if as_text:
        warnings.append(f"category ids are text on one side and numbers on the other: matched as the same, such as {as_text[0]!r}")
    if missing:
        labels = first(_label(key, meaning) for key in missing)
        warnings.append(f"{plural(len(missing), 'category', 'categories')} of the detections unknown to the ground truth and left out: {labels}")
    if not meaning and 0 in missing and 0 not in own:
        warnings.append("category id 0 is unknown while others are known: are the detections numbered from 0, one below the ground truth's ids?")
    return warnings


def _has_name(category: dict) -> bool:
    """Whether it says more than its number: "class3" is what a writer calls category 3 when nobody has told it."""
    name = category.get("name")
    return name is not None and str(name) not in ("", str(category["id"]), f"class{category['id']}")


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _names(own: dict[Any, str]) -> dict[str, Any]:
    """Name -> id, and plain name -> id, each without those that two categories share."""
    table: dict[str, list] = {}
    for key, name in own.items():
        for form in {name, _plain(name)}:
            table.setdefault(form, []).append(key)
    return {name: keys[0] for name, keys in table.items() if name and len(keys) == 1}


def _label(key: Any, names: dict[Any, str]) -> str:
    return f"{key} ({names[key]})" if key in names else str(key)
