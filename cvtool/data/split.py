"""Data sets without parts of their own, divided by a seed: `80,10,10` into train, val and test, or into the K folds of a cross-validation.

The parts are disjoint and hold everything. Every class is divided in the same proportions: where a picture has one class, each part gets its share
of the class, rounded up or down; where it has several (objects of many categories), the rarest category that is left is always divided first, each
of its pictures going to the part that lacks it most (Sechidis 2011, "On the stratification of multi-label data"). Label maps are not opened: pictures
that are known by a map alone count as one class. The division depends on the seed and the pictures' names, not on their order; a picture that is
listed twice stays whole.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from cvtool.errors import InputError, UsageError
from cvtool.records import Record

PARTS = ("train", "val", "test")
_STREAM = 100  # of random numbers, apart from those of the loader
_HAIR = 1e-9


def fractions(text: str | None) -> tuple[float, ...] | None:
    """`80,10,10` or `0.8,0.2` as shares of 1, of train, val and (where there are three) test; None for anything without a comma, which is a name.

    Raises UsageError.
    """
    if text is None or "," not in text:
        return None
    wrong = UsageError(
        f"--split {text}: fractions are two or three numbers that add up to 100 or 1", hint="train,val,test such as 80,10,10; or train,val: 80,20"
    )
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        raise wrong from None
    total = sum(values)
    if len(values) not in (2, 3) or not all(0 < value < math.inf for value in values[:2]) or values[-1] < 0:
        raise wrong
    if not any(abs(total - whole) < 1e-6 * whole for whole in (1, 100)):
        raise wrong
    return tuple(value / total for value in values if value > 0)


def fold(text: str) -> tuple[int, int]:
    """`2/5` -> (1, 5): the second of five, counted from 0 inside the program. Raises UsageError."""
    if not (match := re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)) or int(match[2]) < 2 or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--fold takes I/K with I from 1 to K and K from 2, such as 1/5, not '{text}'")
    return int(match[1]) - 1, int(match[2])


def divided(records: Sequence[Record], shares: Sequence[float], seed: int) -> list[list[Record]]:
    """The records in as many parts as `shares` (which add up to 1), each in the order in which they came; the first part gets all classes.

    Raises InputError where a part would be empty.
    """
    return _parts(records, np.asarray(shares, float), seed, first=True, what="part")


def folds(records: Sequence[Record], count: int, seed: int) -> list[list[Record]]:
    """The records in `count` parts of equal size. Raises InputError where there are fewer records than that."""
    return _parts(records, np.full(count, 1 / count), seed, first=False, what="fold")


def _parts(records: Sequence[Record], shares: np.ndarray, seed: int, *, first: bool, what: str) -> list[list[Record]]:
    units: dict[Any, set[Any]] = {}  # a picture -> its categories
    for record in records:
        units.setdefault(_name(record), set()).update(_categories(record))
    names = sorted(units, key=str)
    order = [names[i] for i in np.random.default_rng((seed, _STREAM)).permutation(len(names)).tolist()]
    kinds = [frozenset(units[name]) for name in order]
    choose = _one_class if all(len(kind) <= 1 for kind in kinds) else _many_classes
    part = dict(zip(order, choose(kinds, shares, first), strict=True))
    found: list[list[Record]] = [[] for _ in shares]
    for record in records:
        found[part[_name(record)]].append(record)
    if not all(found):
        raise InputError(f"{len(names)} pictures are too few: {what} {[bool(one) for one in found].index(False) + 1} of {len(found)} would be empty")
    return found


def _name(record: Record) -> Any:
    """What tells one picture from another, wherever the data set lies."""
    return record.name_in_root() or record.get("id"), record.get("page", 0)


def _categories(record: Record) -> set[Any]:
    entries = (*(record.get("labels") or ()), *(record.get("annotations") or ()))
    return {entry.get("category") or entry.get("category_id") for entry in entries}


def _one_class(kinds: Sequence[frozenset[Any]], shares: np.ndarray, first: bool) -> list[int]:
    """A part for each picture. Of a class each part gets its share, rounded up or down; what rounding has taken from a part in one class it is
    the first to get in the next. With `first`, a class of a single picture goes to the first part."""
    members: dict[frozenset[Any], list[int]] = {}
    for unit, kind in enumerate(kinds):
        members.setdefault(kind, []).append(unit)
    part, owed = [0] * len(kinds), np.zeros(len(shares))
    for kind in sorted(members, key=lambda kind: (len(members[kind]), sorted(map(str, kind)))):
        due = shares * len(members[kind])
        counts = np.floor(due + _HAIR).astype(int)
        open_ = due - counts > _HAIR
        for _ in range(len(members[kind]) - int(counts.sum())):
            chosen = 0 if first and counts[0] == 0 else int(np.where(open_, owed + due - counts, -np.inf).argmax())
            counts[chosen], open_[chosen] = counts[chosen] + 1, False
        owed += due - counts
        for unit, number in zip(members[kind], np.repeat(np.arange(len(shares)), counts).tolist(), strict=True):
            part[unit] = number
    return part


def _many_classes(kinds: Sequence[frozenset[Any]], shares: np.ndarray, first: bool) -> list[int]:
    """A part for each picture, by iterative stratification; the sizes of the parts are the shares, rounded."""
    size = np.floor(shares * len(kinds) + _HAIR).astype(int)
    for chosen in np.argsort(size - shares * len(kinds), kind="stable")[: len(kinds) - int(size.sum())]:
        size[chosen] += 1
    room = size.tolist()
    labels = [sorted(map(str, kind)) or [""] for kind in kinds]
    pictures: dict[str, list[int]] = {}
    for unit, names in enumerate(labels):
        for name in names:
            pictures.setdefault(name, []).append(unit)
    wanted = {name: (shares * len(found)).tolist() for name, found in pictures.items()}
    left = Counter({name: len(found) for name, found in pictures.items()})
    part = [-1] * len(kinds)
    while left:
        rarest = min(left, key=lambda name: (left[name], name))
        for unit in pictures[rarest]:
            if part[unit] >= 0:
                continue
            chosen = max((number for number in range(len(room)) if room[number]), key=lambda number: (wanted[rarest][number], room[number]))
            part[unit] = chosen
            room[chosen] -= 1
            for name in labels[unit]:
                wanted[name][chosen] -= 1
                left[name] -= 1
        del left[rarest]
    return part
