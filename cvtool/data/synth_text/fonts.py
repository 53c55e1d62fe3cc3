"""Fonts for made-up text: which of a folder's files have Latin letters, how readable each is, and the pictures of their characters.

Nothing is listed by name. A file's own table (cmap) says which characters it has; what its letters look like says the rest: fonts whose letters
resemble those of many others are text fonts, others decorative, and a font whose letters resemble nobody's (dingbats, torn or dotted ones) is left
out. Characters that are blank, or drawn as the box that stands for a missing one, are not had.
"""

from __future__ import annotations

import hashlib
import os
import struct
from bisect import bisect
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFont

from cvtool.errors import InputError

EM = 48  # pixels: the size at which characters are drawn, once; what is shown is scaled from it
SUFFIXES = (".ttf", ".otf", ".ttc")
NEEDED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
LOOKED_AT = "aeghnrtkBEGMRSA2358"  # the characters by which a font is judged
SMALL_AND_CAPITAL = ("aA", "eE", "gG", "nN", "rR", "tT")
GRID = 16  # a letter is compared as GRID x GRID pixels
TEXT, READABLE = 0.71, 0.30  # least resemblance of a text font, of a decorative one
SURE = 0.78  # a text font, even if it stands alone
TOLD_APART = 0.7  # share of its capitals and digits that must be liker their own mean than any other letter's: Greek letters in Latin places are not
LIKE_CAPITALS = 0.90  # resemblance of small letters to capitals above which a font has capitals only
DECORATIVE, ALONE = 0.07, 0.3  # how often a decorative family is taken, and a text font without sisters, for one text family
NEIGHBOURS = 10  # a font's letters are compared with those of so many others
GLYPHS = 60_000  # pictures of characters that are kept in memory


class Glyph(NamedTuple):
    pixels: np.ndarray  # H W uint8
    left: int  # of the pen's place
    top: int  # below the line's upper edge (the ascent)
    advance: float


class Face:
    """One font of one file."""

    def __init__(self, path: Path, index: int, characters: frozenset[str]) -> None:
        self.font = ImageFont.truetype(str(path), EM, index=index, layout_engine=ImageFont.Layout.BASIC)
        self.path, self.characters = path, characters
        self.family, self.style = (name or "" for name in self.font.getname())
        self.ascent, self.descent = self.font.getmetrics()
        self.resemblance = 0.0
        self.capitals = False  # small letters are drawn as capitals
        self.space = self.font.getlength(" ")
        self._glyphs: dict[str, Glyph | None] = {}
        self._kerns: dict[str, float] = {}
        self._missing = self._drawn("\U0010fffe").pixels

    @property
    def text(self) -> bool:
        return self.resemblance >= TEXT

    def _drawn(self, character: str) -> Glyph:
        mask, (left, top) = self.font.getmask2(character, mode="L")
        width, height = mask.size
        pixels = np.frombuffer(bytes(mask), np.uint8).reshape(height, width) if width and height else np.zeros((0, 0), np.uint8)
        return Glyph(pixels, int(left), int(top), self.font.getlength(character))

    def glyph(self, character: str) -> Glyph | None:
        """A character's picture, or None where the font does not have it."""
        try:
            return self._glyphs[character]
        except KeyError:
            pass
        found: Glyph | None = None
        if character in self.characters:
            try:
                found = self._drawn(character)
            except OSError:  # a damaged outline
                found = None
        if found is not None and (not found.pixels.size or found.pixels.max() < 128 or np.array_equal(found.pixels, self._missing)):
            found = None
        self._glyphs[character] = found
        return found

    def forget(self) -> int:
        """Give the pictures' memory back; how many there were."""
        count = len(self._glyphs)
        self._glyphs.clear()
        self._kerns.clear()
        return count

    @property
    def held(self) -> int:
        return len(self._glyphs)

    def kern(self, pair: str) -> float:
        """Pixels by which two neighbours stand nearer than their widths say (negative) or farther."""
        if (found := self._kerns.get(pair)) is None:
            found = self.font.getlength(pair) - self.font.getlength(pair[0]) - self.font.getlength(pair[1])
            self._kerns[pair] = found
        return found

    def shapes(self, characters: str = LOOKED_AT) -> np.ndarray | None:
        """N GRID*GRID float32: characters without their size and place, zero mean, unit length. None where one is missing."""
        rows = []
        for character in characters:
            if (glyph := self.glyph(character)) is None:
                return None
            rows.append(_shape(glyph.pixels))
        return np.stack(rows)


def _shape(pixels: np.ndarray) -> np.ndarray:
    ys, xs = np.nonzero(pixels > 64)
    if not len(ys):
        return np.zeros(GRID * GRID, np.float32)
    cut = Image.fromarray(np.ascontiguousarray(pixels[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]))
    flat = np.asarray(cut.resize((GRID, GRID), Image.Resampling.BOX), np.float32).ravel()
    flat = flat - flat.mean()
    return flat / max(float(np.linalg.norm(flat)), 1e-6)


class Fonts:
    """The fonts of a folder, or one file's. characters: those that texts may have. most: of its files, so many are looked at, evenly taken.

    Raises InputError where there is no folder or no font with Latin letters in it.
    """

    def __init__(self, folder: Path | str, characters: str, *, most: int | None = None) -> None:
        folder = Path(folder)
        if not folder.exists():
            raise InputError("no such folder of fonts", where=folder, hint="install some, such as Debian's fonts-dejavu and fonts-liberation")
        self.folder = folder
        wanted = frozenset(characters) | NEEDED
        files = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        files = files[:: max(1, -(-len(files) // most))] if most else files
        faces, seen = [], set()
        for path in files:
            for index, covered in enumerate(covers(path, wanted)):
                if not covered >= NEEDED:
                    continue
                try:
                    face = Face(path, index, covered)
                    shapes = face.shapes()
                except (OSError, ValueError):  # a damaged font is no font
                    continue
                if shapes is None:
                    continue
                look = hashlib.sha256(shapes.tobytes()).digest()
                if look not in seen:  # many files of one family carry the same Latin letters
                    seen.add(look)
                    faces.append((face, shapes))
        if not faces:
            raise InputError(
                "no font with Latin letters and digits", where=folder, hint="install some, such as Debian's fonts-dejavu and fonts-liberation"
            )
        self._judge(faces)
        self.faces = [face for face, _ in faces if face.resemblance >= READABLE] or [max((f for f, _ in faces), key=lambda f: f.resemblance)]
        self._plans = {document: self._plan(document) for document in (True, False)}
        self._drawn = 0

    @staticmethod
    def _judge(faces: list[tuple[Face, np.ndarray]]) -> None:
        """How much each font's letters resemble those of ten fonts of other families, whichever they are; and which fonts have capitals alone."""
        every: np.ndarray = np.stack([shapes for _, shapes in faces])  # F N D
        names = np.array([face.family.split(" ")[0] for face, _ in faces])
        same = names[:, None] == names[None, :]
        others = max(1, min(NEIGHBOURS, (~same).sum(1).min(initial=NEIGHBOURS)))
        near: np.ndarray = np.empty(every.shape[:2], np.float32)
        for n in range(every.shape[1]):
            likeness = every[:, n] @ every[:, n].T
            likeness[same] = -1
            near[:, n] = np.partition(likeness, -others, axis=1)[:, -others]
        if same.all():  # one family, which is nobody's like
            near[:] = 1
        worst = np.sort(near, axis=1)[:, : max(1, near.shape[1] // 2)].mean(1)  # of the half of its letters that is least alike
        mean = every[worst >= np.median(worst)].mean(0)
        mean /= np.linalg.norm(mean, axis=1, keepdims=True).clip(1e-6)
        large = [n for n, character in enumerate(LOOKED_AT) if not character.islower()]  # small letters may be capitals
        apart = ((every[:, large] @ mean[large].T).argmax(2) == np.arange(len(large))).mean(1)
        for (face, _), value, share in zip(faces, worst, apart, strict=True):
            face.resemblance = float(value) if share >= TOLD_APART else 0.0
            pairs = [face.shapes(pair) for pair in SMALL_AND_CAPITAL]
            face.capitals = float(np.mean([0.0 if p is None else p[0] @ p[1] for p in pairs])) > LIKE_CAPITALS

    def _plan(self, document: bool) -> tuple[list[list[Face]], list[float]]:
        """Families and the running sums of their weights."""
        families: dict[str, list[Face]] = {}
        for face in self.faces:
            if not document or (face.text and not face.capitals):
                families.setdefault(face.family.removesuffix(" Medium").removesuffix(" Light"), []).append(face)
        if document and any(len(some) > 1 or some[0].resemblance >= SURE for some in families.values()):
            families = {name: some for name, some in families.items() if len(some) > 1 or some[0].resemblance >= SURE}
        if not families:
            return self._plan(False)
        weights = [(1.0 if len(some) > 1 else ALONE) if any(face.text for face in some) else DECORATIVE for some in families.values()]
        return list(families.values()), list(accumulate(weights))

    def choose(self, rng: Random, text: str, *, document: bool = False) -> tuple[Face, str] | None:
        """A font that has all characters of a text, and the text as that font shows it. None where none was found.

        Families are equally likely, decorative ones rarer than text fonts; `document`: text fonts alone.
        """
        families, shares = self._plans[document]
        for _ in range(24):
            face = rng.choice(families[min(bisect(shares, rng.random() * shares[-1]), len(families) - 1)])
            shown = text.upper() if face.capitals else text
            if len(shown) == len(text) and all(face.glyph(c) is not None for c in shown if c != " "):
                self._drawn += 1
                if self._drawn % 2048 == 0 and sum(face.held for face in self.faces) > GLYPHS:
                    for one in self.faces:
                        one.forget()
                return face, shown
        return None


def covers(path: Path, wanted: frozenset[str]) -> list[frozenset[str]]:
    """Which of some characters each font of a file has, by its cmap tables (OpenType 1.9, formats 4 and 12). [] for a file that is no font."""
    codes = sorted(map(ord, wanted))
    try:
        with path.open("rb") as file:
            head = file.read(12)
            starts = [0]
            if head[:4] == b"ttcf":
                count = struct.unpack(">I", head[8:12])[0]
                starts = list(struct.unpack(f">{min(count, 64)}I", file.read(4 * min(count, 64))))
            return [frozenset(chr(code) for code in _covered(file, start, codes, os.fstat(file.fileno()).st_size)) for start in starts]
    except (OSError, struct.error):
        return []


def _covered(file, start: int, codes: list[int], size: int) -> list[int]:
    file.seek(start)
    count = struct.unpack(">4sH6x", file.read(12))[1]
    tables = (struct.unpack(">4s4xII", file.read(16)) for _ in range(count))
    offset, length = next(((o, n) for tag, o, n in tables if tag == b"cmap"), (0, 0))
    if not offset or length > size:
        return []
    file.seek(offset)
    data = file.read(length)
    best: tuple[int, int] | None = None
    for i in range(struct.unpack_from(">H", data, 2)[0]):
        platform, encoding, place = struct.unpack_from(">HHI", data, 4 + 8 * i)
        if (platform == 3 and encoding in (1, 10)) or platform == 0:
            form = struct.unpack_from(">H", data, place)[0]
            if form in (4, 12) and (best is None or form > best[0]):
                best = form, place
    if best is None:
        return []
    form, place = best
    if form == 12:
        groups = struct.unpack_from(">I", data, place + 12)[0]
        ranges = [struct.unpack_from(">III", data, place + 16 + 12 * i) for i in range(min(groups, 100_000))]
        return [code for code in codes if any(first <= code <= last and glyph + code - first for first, last, glyph in ranges)]
    segments = struct.unpack_from(">H", data, place + 6)[0] // 2
    ends = struct.unpack_from(f">{segments}H", data, place + 14)
    begins = struct.unpack_from(f">{segments}H", data, place + 16 + 2 * segments)
    deltas = struct.unpack_from(f">{segments}H", data, place + 16 + 4 * segments)
    offsets = struct.unpack_from(f">{segments}H", data, place + 16 + 6 * segments)
    found = []
    for code in codes:
        i = next((i for i, end in enumerate(ends) if end >= code), segments)
        if i == segments or begins[i] > code:
            continue
        glyph = code
        if offsets[i]:
            where = place + 16 + 6 * segments + 2 * i + offsets[i] + 2 * (code - begins[i])
            glyph = struct.unpack_from(">H", data, where)[0]
            if not glyph:
                continue
        if (glyph + deltas[i]) & 0xFFFF:
            found.append(code)
    return found
