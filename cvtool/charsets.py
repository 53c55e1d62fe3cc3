"""Character sets: what a recogniser of text can read. The position of a character is its label. Standard library only."""

from __future__ import annotations

import string
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable

from cvtool.errors import UsageError, did_you_mean

_LATIN = "¡¢£§©«®°±²³´µ¶·¹º»¼½¾¿×÷" + "".join(c for c in map(chr, range(0xC0, 0x100)) if c not in "×÷") + "ŒœŠšŸŽž€–—‘’‚“”„†‡•…‰‹›™"
CHARSETS = {
    "latin": string.digits + string.ascii_letters + string.punctuation + _LATIN,
    "printable": string.digits + string.ascii_letters + string.punctuation,
    "alnum": string.digits + string.ascii_lowercase,
    "letters": string.ascii_lowercase,
    "digits": string.digits,
}
"""latin: printable, the letters of Western Europe and the marks of its printers. printable: the 94 ASCII characters beside the blank."""
RIGHT_TO_LEFT = ("R", "AL", "AN")


def charset(text: str) -> str:
    """The characters of a set's name, or those that are typed, each once, in their order. Raises UsageError."""
    if (known := CHARSETS.get(text.lower())) is not None:
        return known
    if not text:
        raise UsageError("a character set needs a character at least", hint="the named ones are: " + ", ".join(CHARSETS))
    if text.isascii() and text.isalpha() and len(text) > 3 and (hint := did_you_mean(text.lower(), CHARSETS)):
        raise UsageError(f"unknown character set '{text}'", hint=hint)
    check_direction(text)
    return "".join(dict.fromkeys(text))


def check_direction(text: str) -> None:
    """Raises UsageError for letters that are written from right to left: nothing here reads or orders those."""
    if found := [c for c in text if unicodedata.bidirectional(c) in RIGHT_TO_LEFT]:
        name = unicodedata.name(found[0], "?").lower()
        raise UsageError(f"'{found[0]}' ({name}) is written from right to left, which is not supported", hint="leave it out of the character set")


def outside(texts: Iterable[str], known: Collection[str]) -> Counter[str]:
    """How often each character that is not in `known` stands in the texts."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return Counter({c: n for c, n in counts.items() if c not in known})
