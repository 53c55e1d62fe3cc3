"""Marks that were overlooked: hyphens, apostrophes, full stops and commas are little ink, but on a page they are plain to see."""

from __future__ import annotations

import numpy as np

from cvtool.tasks.reading.glyphs import Glyphs

# in heights of small letters
HYPHEN = 0.2, 0.75  # width
THIN = 0.42  # a hyphen's height at most
MIDDLE = 0.25, 0.75  # of a hyphen over the line
DOT = 0.12, 0.4  # sides of a full stop; the width of the others
HOOK = 0.25, 0.65  # heights of a comma and an apostrophe
UNDER = 0.1  # by which a comma reaches under the line; a full stop does less
OVER = 0.85  # of an apostrophe's middle over the line


def with_unread(text: str, glyphs: Glyphs, size: float, foot: float, charset: str | None) -> str:
    """The text with those marks for which there is ink and was read nothing, between letters or behind the last.

    glyphs: of the text. size: the height of small letters, pixels; foot: the row on which they stand. charset: what may come out, any where None.
    """
    found: list[tuple[int, str]] = []
    for box in glyphs.unread:
        at = int((glyphs.middles < (box[0] + box[2]) / 2).sum())
        mark = _mark(box, size, foot, last=at == len(text))
        between = at > 0 and text[at - 1].isalnum() and (at == len(text) or text[at].isalnum())
        if mark is not None and between and (charset is None or mark in charset):
            found.append((at, mark))
    places = [at for at, _ in found]
    for at, mark in sorted(found, reverse=True):
        if places.count(at) == 1:  # two beside each other are something else
            text = text[:at] + mark + text[at:]
    return text


def _mark(box: np.ndarray, size: float, foot: float, *, last: bool) -> str | None:
    """What a piece of ink is. last: whether it stands behind the word."""
    wide, high = (box[2] - box[0]) / size, (box[3] - box[1]) / size
    top, bottom = (foot - box[1]) / size, (foot - box[3]) / size  # over the line
    if HYPHEN[0] < wide < HYPHEN[1] and high < THIN and wide > 1.4 * high and MIDDLE[0] < (top + bottom) / 2 < MIDDLE[1]:
        return "-"
    if not DOT[0] < wide < DOT[1]:
        return None
    if HOOK[0] < high < HOOK[1] and high > 1.2 * wide and (top + bottom) / 2 > OVER:
        return "’"
    if last and HOOK[0] < high < HOOK[1] and bottom < -UNDER and top < 0.4:
        return ","
    return "." if last and DOT[0] < high < DOT[1] and abs(bottom) < UNDER and 0.6 < wide / high < 1.7 else None
