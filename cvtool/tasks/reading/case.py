"""What the height of a character on its line settles: c or C, p or P, a comma or an apostrophe, a hyphen or an underscore.

Letters such as c o s u v w x z look alike, small and large; a recogniser that sees a word by itself has to guess. How high others of the word are
tells, else those of its line, and where nothing does, what the rest of the word is. Only such characters are ever changed, into their twins alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cvtool.tasks.reading import marks
from cvtool.tasks.reading.glyphs import Glyphs, glyphs

TWINS = "cosuvwxz"  # small letters that are as their capitals but for their size
HANGING = "py"  # the same, the small one reaching under the line
SMALL = "aemnr"  # as high as a small letter is
TALL = "bdhklABDEFGHIKLMNRT"  # as high as a capital is, or a little more
RISE = 1.15  # capitals are higher than small letters by at least this factor: where others are not, they are small capitals, and tell nothing
OVER_SMALL = 1.14, 1.22  # of small letters' height: up to the first a letter is small, from the second on a capital
OVER_TALL = 0.8, 0.88  # the same, of tall letters' height
HANGS = 0.15  # of its own height by which a hanging letter reaches under the line
CAPITAL = 0.7  # of a capital's height: that of small letters, where only capitals are there to tell
FLAT = 1.4  # times as wide as high: a hyphen, not a full stop
RAISED = {",": "’", "‚": "’", "„": "”", "_": "-", ".": "-"}
LOWERED = {"'": ",", "’": ",", "‘": ",", "”": "„", "“": "„", "-": "_", "·": "."}
UP = {",": 0.6, "‚": 0.6, "„": 0.6, "_": 0.3, ".": 0.35}  # heights of small letters over the line, from which on it is another
DOWN = {"'": 0.3, "’": 0.3, "‘": 0.3, "”": 0.3, "“": 0.3, "-": 0.12, "·": 0.2}


@dataclass(frozen=True)
class Seen:
    """A word as it was read. crop: h w 3 uint8, at the scale of its line's others. places: L, along its width in [0, 1]; None where unknown."""

    text: str
    crop: np.ndarray
    places: np.ndarray | None


def settled(words: Sequence[Seen], lines: Sequence[Sequence[int]], charset: str | None = None, *, clean: bool = False) -> list[str]:
    """The texts of words. lines: the words' indices in each line. charset: characters that may come out, any where None. clean: on the ground there
    is nothing but print, so that a mark between or behind letters for which nothing was read is one."""
    texts = [word.text for word in words]
    found = [_Word.of(word) for word in words]
    for line in lines:
        together = [word for i in line if (word := found[i]) is not None]
        small, tall = (np.concatenate([np.zeros(0), *(getattr(word, name) for word in together)]) for name in ("small", "tall"))
        for i in line:
            if (word := found[i]) is not None:
                texts[i] = word.settled(small, tall, charset)
                if clean and (size := _size(word.small, word.tall) or _size(small, tall)) is not None and word.foot == word.foot:
                    texts[i] = marks.with_unread(texts[i], word.glyphs, size, word.foot, charset)
    return texts


@dataclass(frozen=True)
class _Word:
    """small, tall: heights of its letters that are certainly so. foot: the row that its letters stand on, NaN where none tells."""

    text: str
    glyphs: Glyphs
    small: np.ndarray
    tall: np.ndarray
    foot: float

    @classmethod
    def of(cls, word: Seen) -> _Word | None:
        if word.places is None or len(word.places) != len(word.text) or not word.text:
            return None
        seen = glyphs(word.crop, word.text, np.asarray(word.places, np.float64))
        known = ~np.isnan(seen.tops)

        def those(letters: str) -> np.ndarray:
            return known & np.array([c in letters for c in word.text])

        standing = those(SMALL + TALL + TWINS + TWINS.upper())
        foot = float(np.median(seen.bottoms[standing])) if standing.any() else np.nan
        return cls(word.text, seen, seen.heights[those(SMALL)], seen.heights[those(TALL)], foot)

    def settled(self, small: np.ndarray, tall: np.ndarray, charset: str | None) -> str:
        """small, tall: heights of the line's letters."""
        out = list(self.text)
        for i, character in enumerate(self.text):
            twin = self._twin(i, character, small, tall)
            if twin is not None and (charset is None or twin in charset):
                out[i] = twin
        settled = _digits("".join(out))
        return settled if charset is None or set(settled) <= {*charset, *out} else "".join(out)

    def _twin(self, i: int, character: str, small: np.ndarray, tall: np.ndarray) -> str | None:
        """What the character becomes; None for itself."""
        if character in UP or character in DOWN:
            return self._mark(i, character, small, tall)
        if character.lower() not in TWINS + HANGING:
            return None
        capital: bool | None = None
        if not np.isnan(self.glyphs.tops[i]):
            if character.lower() in TWINS:
                capital = _is_capital(self.glyphs.heights[i], self.small, self.tall)
                if capital is None:
                    capital = _is_capital(self.glyphs.heights[i], small, tall)
            elif (self.foot == self.foot) and len(self.small) + len(self.tall):
                capital = self.glyphs.bottoms[i] - self.foot < HANGS * self.glyphs.heights[i]
        rest = self._rest(i)
        if capital is None:
            capital = rest if character.lower() in TWINS else None
        elif rest is not None and capital != rest and i:
            return None  # a large letter inside a small word: its own, or ink of two, or print too coarse to tell
        return None if capital is None else character.upper() if capital else character.lower()

    def _rest(self, i: int) -> bool | None:
        """Whether the rest of the word is capitals, by the letters that look different then; None where it is neither, or too little. A first letter
        may be one before small ones."""
        others = {n: c for n, c in enumerate(self.text) if n != i and c.isalpha() and c.lower() not in TWINS + HANGING}
        if len(others) < 2:
            return None
        if all(c.isupper() for c in others.values()):
            return True
        return False if i and all(c.islower() for n, c in others.items() if n) else None

    def _mark(self, i: int, character: str, small: np.ndarray, tall: np.ndarray) -> str | None:
        size = _size(self.small, self.tall) or _size(small, tall)
        if size is None or self.foot != self.foot or np.isnan(self.glyphs.tops[i]):
            return None
        middle = (self.foot - (self.glyphs.tops[i] + self.glyphs.bottoms[i]) / 2) / size
        flat = self.glyphs.widths[i] > FLAT * self.glyphs.heights[i]
        if character in UP and middle > UP[character] and (flat or character != "."):
            return RAISED[character]
        return LOWERED[character] if character in DOWN and middle < DOWN[character] else None


def _size(small: np.ndarray, tall: np.ndarray) -> float | None:
    """The height of small letters."""
    return float(np.median(small)) if len(small) else CAPITAL * float(np.median(tall)) if len(tall) else None


def _is_capital(height: float, small: np.ndarray, tall: np.ndarray) -> bool | None:
    """Whether a letter of this height is one, beside letters that are certainly small or tall; None where they do not tell."""
    low = float(np.median(small)) if len(small) else None
    high = float(np.median(tall)) if len(tall) else None
    if low is not None and high is not None:
        return bool(height > np.sqrt(low * high)) if high > RISE * low else None
    if low is not None:
        return False if height <= OVER_SMALL[0] * low else True if height >= OVER_SMALL[1] * low else None
    if high is not None:
        return False if height <= OVER_TALL[0] * high else True if height >= OVER_TALL[1] * high else None
    return None


def _digits(text: str) -> str:
    """An O behind a digit, where there are no letters, is a nought; a nought between small letters is an o."""
    if any(c.isdigit() for c in text) and not any(c.isalpha() and c not in "oO" for c in text):
        return "".join("0" if c in "oO" and any(d.isdigit() for d in text[:i]) else c for i, c in enumerate(text))
    return "".join("o" if c == "0" and 0 < i < len(text) - 1 and text[i - 1].islower() and text[i + 1].islower() else c for i, c in enumerate(text))
