"""What stands on made-up pictures of text: words of lists in the lengths of running text, numbers, prices, dates, marks, random strings.

After section 3.1 of Jaderberg 2014 (arXiv:1406.2227), who took a dictionary of 90,000 words, and with what else is read in streets and on pages.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from random import Random

from cvtool.charsets import CHARSETS
from cvtool.errors import InputError, UsageError

SYSTEM_WORDS = Path("/usr/share/dict/words")
MOST = 120_000  # words of a list that are kept: every second, third ... of a longer one
LENGTHS = (1, 6, 13, 15, 15, 13, 11, 9, 7, 5, 3, 2, 2, 1, 1, 1)  # of words of 1, 2, ... letters in a hundred: running text and signs
KINDS = {
    "word": 68, "marked": 8, "number": 6, "price": 2.5, "date": 2, "time": 1, "phone": 1.5, "code": 4, "address": 1.5, "joined": 1.5, "measure": 2,
    "single": 1.5, "initials": 0.5,
}  # fmt: skip
ENDS = ".,.,.,!?:;'\"…’™®"
PAIRS = ('""', "()", "''", "[]", "“”", "‘’", "«»", "„“", "{}", "<>", "**", "--", "››")
ONSETS = "b bl br c ch cl cr d dr f fl fr g gl gr h j k l m n p pl pr qu r s sh sk sl sp st str t th tr v w y z".split()
VOWELS = "a e i o u ai ea ee io oo ou".split()
CODAS = ["", "", "", *"ck d ft g l ld ll m n nd ng nt p r rd rk rn s ss st t th x".split()]


def pronounceable(rng: Random) -> str:
    """A word that is none, of one to four syllables."""
    return "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(rng.choice((1, 1, 2, 2, 2, 3, 3, 4))))


class Lexicon:
    """Words of some lists, each with its weight, and texts made with them.

    files: (path, weight); none: the system's list or, where that is missing, words that can be pronounced. characters: texts have no others.
    Raises InputError for a list that cannot be read or holds no word, UsageError for characters without a letter or digit.
    """

    def __init__(self, files: Sequence[tuple[Path, float]] = (), *, characters: str = CHARSETS["latin"], max_length: int = 25) -> None:
        if not any(c.isalnum() for c in characters):
            raise UsageError("the characters hold no letter and no digit", hint="such as --charset latin")
        self.characters, self.max_length = characters, max_length
        self._known = frozenset(characters)
        self.lists = [self._read(path) for path, _ in files]
        if not files and SYSTEM_WORDS.is_file():
            files = [(SYSTEM_WORDS, 1.0)]
            with suppress(InputError):  # no word of these characters
                self.lists = [self._read(SYSTEM_WORDS)]
        self._shares = list(accumulate(weight for _, weight in files))
        self._kinds, self._kind_shares = list(KINDS), list(accumulate(KINDS.values()))
        self._length_shares = list(accumulate(LENGTHS))
        self._digits = [c for c in characters if c.isdigit() and c.isascii()]

    def _read(self, path: Path) -> dict[int, list[str]]:
        """The words of a list by their length (longest 16 together)."""
        try:
            words = path.read_text(encoding="utf-8-sig").split()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("the word list cannot be read: " + (getattr(error, "strerror", None) or "not UTF-8 text"), where=path) from error
        known = set(words)
        kept = [w for w in words if self._fits(w) and not (w.endswith("'s") and w[:-2] in known)]
        if not kept:
            raise InputError("the word list holds no word of the characters that are asked for", where=path)
        found: dict[int, list[str]] = {}
        for word in kept[:: -(-len(kept) // MOST)]:
            found.setdefault(min(len(word), len(LENGTHS)), []).append(word)
        return found

    def _fits(self, text: str) -> bool:
        """Whether a text, in the case that the characters have, is one of theirs."""
        if not 1 <= len(text) <= self.max_length:
            return False
        return self._known.issuperset(text) or self._known.issuperset(text.lower()) or self._known.issuperset(text.upper())

    def allows(self, text: str) -> bool:
        """Whether a text has known characters alone, and no more than it may."""
        return 1 <= len(text) <= self.max_length and self._known.issuperset(text)

    def word(self, rng: Random) -> str:
        """A word as it stands in its list."""
        if not self.lists:
            return pronounceable(rng)
        words = self.lists[_draw(rng, self._shares)]
        for _ in range(8):
            if some := words.get(1 + _draw(rng, self._length_shares)):
                return rng.choice(some)
        return rng.choice(next(iter(words.values())))

    def cased(self, rng: Random) -> str:
        """A word as it may be printed: as it stands, with a capital, in capitals."""
        word, chance = self.word(rng), rng.random()
        if chance < 0.38:
            return word
        if chance < 0.64:
            return word[:1].upper() + word[1:]
        if chance < 0.993:
            return word.upper()
        return "".join(rng.choice((c.lower(), c.upper())) for c in word)

    def text(self, rng: Random) -> str:
        """A string without blanks, of 1 to max_length characters, all of them known."""
        for _ in range(20):
            found = getattr(self, f"_{self._kinds[_draw(rng, self._kind_shares)]}")(rng)
            for text in (found, found.lower(), found.upper()):
                if self.allows(text):
                    return text
        return self._string(rng, rng.randint(1, min(8, self.max_length)))

    def sentence(self, rng: Random, count: int) -> list[str]:
        """`count` words as they stand in running text: a capital first, marks and numbers between, a full stop last; all characters known."""
        found = []
        for _ in range(count):
            chance = rng.random()
            text = self.word(rng) if chance < 0.9 else self._number(rng) if chance < 0.94 else self.text(rng)
            if chance < 0.1:
                text += rng.choice(",,,;:")
            elif chance < 0.12:
                text = rng.choice(("“{}”", '"{}"', "({})", "{}-" + self.word(rng))).format(text)
            found.append(text)
        found[0] = found[0][:1].upper() + found[0][1:]
        found[-1] = found[-1].rstrip(",;:") + rng.choice("......?!")
        kept = ("".join(c for c in text if c in self._known)[: self.max_length] for text in found)
        return [text for text in kept if text] or [self._string(rng, 3)]

    # ---- the kinds of text -----------------------------------------------------------------------------------------

    def _word(self, rng: Random) -> str:
        return self.cased(rng)

    def _marked(self, rng: Random) -> str:
        word, chance = self.cased(rng), rng.random()
        if chance < 0.55:
            return word + rng.choice(ENDS)
        if chance < 0.85:
            pair = rng.choice(PAIRS)
            opening, closing = (pair[0], pair[1]) if rng.random() < 0.6 else (pair[0], "") if rng.random() < 0.5 else ("", pair[1])
            return opening + word + closing
        if chance < 0.93:
            return rng.choice("#@&$-*•©–—§¿¡°/~") + word
        return word + rng.choice(("'s", "’s", "'S", "...", "!!", "?!", ".,", "*"))

    def _number(self, rng: Random) -> str:
        digits = str(rng.randrange(10 ** rng.choice((1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6))))
        chance = rng.random()
        if len(digits) > 3 and chance < 0.3:
            return f"{int(digits):,}".replace(",", rng.choice(",,.’"))
        if chance < 0.4:
            return f"{digits}{rng.choice('..,')}{rng.randrange(100):0{rng.choice((1, 2))}d}"
        return digits

    def _price(self, rng: Random) -> str:
        amount = f"{rng.randrange(10 ** rng.choice((1, 2, 2, 3)))}{rng.choice(('', '.99', '.00', '.50', ',90', f'.{rng.randrange(100):02d}'))}"
        chance = rng.random()
        if chance < 0.55:
            return rng.choice("$$$$€£¥") + amount
        return amount + rng.choice(("€", "$", "¢", ".-", "p", "£"))

    def _date(self, rng: Random) -> str:
        d, m, y = rng.randint(1, 31), rng.randint(1, 12), rng.randint(1880, 2040)
        forms = (
            f"{d}/{m}/{y}",
            f"{d:02d}.{m:02d}.{y}",
            f"{y}-{m:02d}-{d:02d}",
            f"{m}/{d}/{y % 100:02d}",
            f"{y}",
            f"{y}",
            f"{d}-{m}-{y % 100:02d}",
            f"{y}s",
        )
        return rng.choice((*forms, f"{y}-{y + rng.randint(1, 20)}", f"'{y % 100:02d}", f"{d}{'th' if 4 <= d <= 20 else 'nd'}"))

    def _time(self, rng: Random) -> str:
        clock = f"{rng.randrange(24)}{rng.choice('::.')}{rng.randrange(60):02d}"
        return clock + rng.choice(("", "", "am", "pm", "AM", "PM", "h", f"-{rng.randrange(24)}:{rng.choice(('00', '30'))}"))

    def _phone(self, rng: Random) -> str:
        groups = [str(rng.randrange(10 ** (n - 1), 10**n)) for n in rng.choice(((3, 4), (3, 3, 4), (4, 4), (3, 6), (2, 3, 4), (5, 5), (8,)))]
        return rng.choice(("", "", "", "+", "#", "0")) + rng.choice("--. -").strip().join(groups)

    def _code(self, rng: Random) -> str:
        return self._string(rng, rng.choice((1, 2, 3, 3, 4, 4, 5, 6, 7, 8, 10)))

    def _string(self, rng: Random, length: int) -> str:
        """Characters by chance: letters and digits mostly, sometimes of everything that is known."""
        chance = rng.random()
        if chance < 0.35:
            source = "".join(c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" if c in self._known) or self.characters
        elif chance < 0.5:
            source = "".join(self._digits) or self.characters
        elif chance < 0.65:
            source = "".join(c for c in self.characters if c.isalnum() and c.isascii()) or self.characters
        elif chance < 0.8:
            source = "".join(c for c in self.characters if c.isascii()) or self.characters
        else:
            source = self.characters
        return "".join(rng.choice(source) for _ in range(length))

    def _address(self, rng: Random) -> str:
        name, end = self.word(rng).lower(), rng.choice(("com", "com", "org", "net", "de", "fr", "co.uk", "gov", "it"))
        other = self.word(rng).lower()
        return rng.choice((f"www.{name}.{end}", f"{name}.{end}", f"{name}@{other}.{end}", f"@{name}", f"http://{name}.{end}", f"{name}/{other}"))

    def _joined(self, rng: Random) -> str:
        return self.cased(rng) + rng.choice(("-", "-", "-", "/", "&", "+", ".", "'", "–", "_")) + self.cased(rng)

    def _measure(self, rng: Random) -> str:
        number = self._number(rng)
        if rng.random() < 0.5:
            return number + rng.choice(("%", "%", "%", "°C", "°", "½", "²", "‰", "+", "x"))
        return number + rng.choice(("km", "kg", "ml", "cm", "mm", "m", "g", "KM", "mph", "st", "nd", "rd", "th", "GB", "W", "V", "A", "B"))

    def _single(self, rng: Random) -> str:
        letters = [c for c in self.characters if c.isalnum()]
        return rng.choice(letters) if rng.random() < 0.8 else rng.choice(self.characters)

    def _initials(self, rng: Random) -> str:
        return "".join(rng.choice("ABCDEFGHIJKLMNOPRSTUVW") + "." for _ in range(rng.choice((1, 2, 2, 3))))


def _draw(rng: Random, shares: Sequence[float]) -> int:
    """A place, by running sums of weights."""
    return min(bisect(shares, rng.random() * shares[-1]), len(shares) - 1)
