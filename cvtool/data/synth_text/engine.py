"""What draws pictures of text of each kind, by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cvtool.charsets import charset
from cvtool.data.synth_text.fonts import Fonts
from cvtool.data.synth_text.lexicon import Lexicon
from cvtool.data.synth_text.pages import Pages
from cvtool.data.synth_text.scenes import Scenes
from cvtool.data.synth_text.textures import Textures
from cvtool.data.synth_text.words import FONTS, Words
from cvtool.errors import UsageError, did_you_mean

KINDS: dict[str, type[Words] | type[Scenes] | type[Pages]] = {"words": Words, "scenes": Scenes, "pages": Pages}
Artist = Words | Scenes | Pages


def artist(
    kind: str,
    *,
    fonts: Path | None = None,
    lexicon: Sequence[tuple[Path, float]] = (),
    backgrounds: Path | None = None,
    characters: str = "latin",
    max_length: int = 25,
    most_fonts: int | None = None,
) -> Artist:
    """fonts: a folder (default: the system's). lexicon: lists of words with their weights. backgrounds: a folder of photographs.

    characters: a set of `cvtool.charsets`, or the characters; texts have no others, and at most max_length of them.
    most_fonts: font files that are looked at (default: all).
    Raises UsageError for an unknown kind, InputError for fonts, lists or photographs that are not there.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind of pictures '{kind}'", hint=did_you_mean(kind, KINDS) or "the kinds are: " + ", ".join(KINDS))
    known = charset(characters)
    words = Lexicon(lexicon, characters=known, max_length=max_length)
    return KINDS[kind](Fonts(fonts or FONTS, known, most=most_fonts), words, Textures(backgrounds))
