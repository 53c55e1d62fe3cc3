"""Edit distance and edit scripts of sequences (Levenshtein 1966), 64 and more cells of the table at a time.

The column of the table is held as two long whole numbers, one bit a cell (Myers 1999, doi:10.1145/316542.316550; Hyyrö 2003), which Python's own
numbers do for sequences of any length: a page of 4,000 characters takes milliseconds, a word microseconds. The columns kept, the script is read back
from them; where they would be too many the sequences are divided first (Hirschberg 1975).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

CELLS = 2**30  # bits of one table that is kept, 2 x 128 MiB; longer pairs are divided


class Edit(NamedTuple):
    """One step from the true sequence to the found one. true: what stood there, None for an insertion; found: what stands there now, None for a
    deletion; place: in the true sequence."""

    true: Any
    found: Any
    place: int


def distance(true: Sequence[Hashable], found: Sequence[Hashable]) -> int:
    """The least number of insertions, deletions and substitutions that make `found` of `true`."""
    if true == found:
        return 0
    if not true or not found:
        return len(true) + len(found)
    *_, (_, _, score) = _columns(true, found)
    return score


def script(true: Sequence[Hashable], found: Sequence[Hashable], *, cells: int = CELLS, first: int = 0) -> list[Edit]:
    """The edits of a shortest script, in order; of several such scripts the one that RapidFuzz gives. cells: the largest table kept whole.

    first: the place of the first item of `true`.
    """
    start = 0
    shorter = min(len(true), len(found))
    while start < shorter and true[start] == found[start]:
        start += 1
    end = 0
    while end < shorter - start and true[-1 - end] == found[-1 - end]:
        end += 1
    true, found, first = true[start : len(true) - end], found[start : len(found) - end], first + start
    if not true or not found:
        return [Edit(one, None, first + i) for i, one in enumerate(true)] + [Edit(None, one, first) for one in found]
    if len(true) * len(found) > cells and len(found) > 1:
        half = len(found) // 2
        place = _division(true, found, half)
        return script(true[:place], found[:half], cells=cells, first=first) + script(true[place:], found[half:], cells=cells, first=first + place)
    return _traced(true, found, first)


def _columns(true: Sequence[Hashable], found: Sequence[Hashable]) -> Iterator[tuple[int, int, int]]:
    """After each item of `found`: the cells that are one more (bits) and one less than the cell above, and the distance of all of `true`."""
    places: dict[Hashable, int] = {}
    for i, one in enumerate(true):
        places[one] = places.get(one, 0) | 1 << i
    whole, last, score = (1 << len(true)) - 1, 1 << (len(true) - 1), len(true)
    more, less = whole, 0
    for one in found:
        same = places.get(one, 0)
        zero = ((((same & more) + more) ^ more) | same | less) & whole
        right = less | (whole & ~(zero | more))
        wrong = zero & more
        score += bool(right & last) - bool(wrong & last)
        right = right << 1 | 1
        more = (wrong << 1 | (whole & ~(zero | right))) & whole
        less = zero & right & whole
        yield more, less, score


def _traced(true: Sequence[Hashable], found: Sequence[Hashable], first: int) -> list[Edit]:
    """The script, read from the last cell back to the first one."""
    table = list(_columns(true, found))
    edits = []
    i, j = len(true), len(found)
    while i and j:
        if table[j - 1][0] >> (i - 1) & 1:
            i -= 1
            edits.append(Edit(true[i], None, first + i))
            continue
        j -= 1
        if j and table[j - 1][1] >> (i - 1) & 1:
            edits.append(Edit(None, found[j], first + i))
            continue
        i -= 1
        if true[i] != found[j]:
            edits.append(Edit(true[i], found[j], first + i))
    edits += [Edit(true[n], None, first + n) for n in reversed(range(i))] + [Edit(None, one, first) for one in reversed(found[:j])]
    return edits[::-1]


def _division(true: Sequence[Hashable], found: Sequence[Hashable], half: int) -> int:
    """The place in `true` where a shortest script goes over from the first `half` of `found` to the rest."""
    first = _last_row(true, found[:half])
    second = _last_row(true[::-1], found[half:][::-1])[::-1]
    sums = [one + other for one, other in zip(first, second, strict=True)]
    return sums.index(min(sums))


def _last_row(true: Sequence[Hashable], found: Sequence[Hashable]) -> list[int]:
    """The distance of every beginning of `true` (0 .. all of it) from `found`."""
    *_, (more, less, _) = _columns(true, found)
    row = [len(found)]
    ups, downs = bin(more)[:1:-1], bin(less)[:1:-1]  # lowest bit first
    for i in range(len(true)):
        row.append(row[-1] + (ups[i : i + 1] == "1") - (downs[i : i + 1] == "1"))
    return row
