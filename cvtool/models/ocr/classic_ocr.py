"""Classic OCR: filter, cut a line of print into its characters, name each by its shape, without a network (Mori 1992, doi:10.1109/5.156468).

From below upwards, as it was done before networks read: a filter makes print stand out from its surroundings, connected pieces of ink are
characters (dots and accents go with what they stand over; a piece too wide for one is cut where least ink is, if the parts then look more like
characters), and the nearest among known shapes, by darkness, directions of edges and the place in the line, says what each is. Known shapes are drawn
from fonts: Pillow's own and common ones where they are installed. `cvtool train` adds those of labelled lines, for print that looks otherwise.

    cvtool ocr line.png --words -m classic-ocr ;  cvtool train -m classic-ocr --data lines/ --set charset=latin

It wants one upright line of dark or light print on an even ground; handwriting, photographs and words bent in space are beyond it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError
from cvtool.models.ocr._recogniser import Recogniser
from cvtool.ops import glyphs
from cvtool.ops.glyphs import Glyph
from cvtool.results import Text

VARIANTS = {"base": {}, "tiny": {"charset": "alnum", "fonts": "pillow"}}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"classic-cv-ocr": "base"}
RECIPE: dict[str, object] = {}
HEIGHT = 64  # pixels to which each line is brought
DRAWN, SMALL = 48, 16  # sizes of the letters that are drawn as known shapes; small ones are magnified, as small print is
FONTS = (
    "pillow", "DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSans-Bold.ttf", "LiberationSans-Regular.ttf", "LiberationSerif-Regular.ttf",
    "LiberationSerif-Italic.ttf", "Arial.ttf", "Times New Roman.ttf",
)  # fmt: skip
SHARP = 0.05  # distances that differ by so much are told apart
ALIKE = 0.06  # a shape this much farther than the nearest may be meant, where it suits its neighbours better
CUT = 0.6  # times as near to known shapes as the whole, both parts of a piece that is cut are
MOST = 40  # shapes that are kept of each character


class ClassicOCR(Recogniser):
    """rows: known shapes that were learned, N D. labels: what they are, N. fonts: names of files, or "pillow" for its own."""

    rows: Tensor
    labels_of: Tensor

    def __init__(self, charset: str, prepare: Prepare, fonts: tuple[str, ...]) -> None:
        super().__init__(charset, prepare)
        self.fonts = fonts
        width = glyphs.features([], 0, 1).shape[1]
        self.register_buffer("rows", torch.empty(0, width))
        self.register_buffer("labels_of", torch.empty(0, dtype=torch.int64))

    def resize_for(self, tensors: Mapping[str, Tensor]) -> None:
        """Make room for what a checkpoint has learned."""
        self.rows, self.labels_of = (torch.empty_like(tensors[key]) for key in ("rows", "labels_of"))

    def fit(self, samples: Iterable[Any]) -> None:
        """Learn the shapes of lines, in those that part into as many pieces as their text has characters."""
        rows: dict[int, list[np.ndarray]] = {}
        for sample in samples:
            text = [c for c in sample.target.text if not c.isspace()]
            found = glyphs.line_of(self.prepare([sample.pixels]).images[0].mul(255).round().byte().permute(1, 2, 0).numpy())
            if len(found) != len(text) or not found or any(c not in self.labels for c in text):
                continue
            shapes = glyphs.features(found, *self._size(found))
            for c, row in zip(text, shapes, strict=True):
                if len(kept := rows.setdefault(self.labels[c], [])) < MOST:
                    kept.append(row)
        if not rows:
            warnings.warn("none of the pictures parts into as many pieces as its text has characters: nothing was learned", stacklevel=2)
            return
        self.rows = torch.from_numpy(np.concatenate([np.stack(some) for some in rows.values()]))
        self.labels_of = torch.tensor([label for label, some in rows.items() for _ in some])

    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """Shapes N D and what they are, N: those that were learned, and those drawn from fonts."""
        shapes = drawn(self.charset, self.fonts)
        rows, labels = shapes.rows, shapes.labels
        if len(self.rows):
            rows, labels = np.concatenate([self.rows.cpu().numpy(), rows]), np.concatenate([self.labels_of.cpu().numpy(), labels])
        return rows, labels

    @torch.no_grad()
    def predict(self, batch: Batch, *, charset: str | None = None) -> list[Text]:
        """What stands in each line, words parted by spaces. The probability of a character falls with how near another one is."""
        rows, labels = self.known()
        may = self.allowed(charset).numpy()
        rows, labels = rows[may[labels]], labels[may[labels]]
        found = []
        for image, place in zip(batch.images, batch.places, strict=True):
            pixels = image[:, : place.inner_height, : place.inner_width].float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
            found.append(self.read(np.ascontiguousarray(pixels), rows, labels))
        return found

    def read(self, pixels: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> Text:
        """H W 3 uint8 -> one line's text."""
        line = glyphs.line_of(pixels)
        if not line or not len(rows):
            return Text("", 1.0 if not line else 0.0, torch.zeros(0))
        baseline, height = self._size(line, rows, labels)
        line = self._cut(line, baseline, height, rows, labels)
        distances = self._distances(line, baseline, height, rows, labels)  # N C
        chances = np.exp(-(distances - distances.min(1, keepdims=True)) / SHARP)
        chances /= chances.sum(1, keepdims=True)
        fonts, nearest = drawn(self.charset, self.fonts), distances.argmin(1)
        starts = {0, *glyphs.parted(line, height, fonts.left[nearest], fonts.right[nearest])}
        named = suited(distances, self.charset, starts)
        text, values = "", list[float]()
        for i, label in enumerate(named):
            if i and i in starts:
                text, values = text + " ", [*values, 1.0]
            text, values = text + self.charset[label], [*values, float(chances[i, label])]
        return Text(text, float(np.prod(values)), torch.tensor(values, dtype=torch.float32))

    def _size(self, line: list[Glyph], rows: np.ndarray | None = None, labels: np.ndarray | None = None) -> tuple[float, float]:
        """Baseline and height of capitals: those in which the line's pieces look most like characters."""
        if rows is None or labels is None:
            rows, labels = self.known()
        return min(glyphs.sizes(line), key=lambda size: float(self._distances(line, size[0], size[1], rows, labels).min(1).mean()))

    def _cut(self, line: list[Glyph], baseline: float, height: float, rows: np.ndarray, labels: np.ndarray) -> list[Glyph]:
        """Pieces that are wide are cut in two, again and again, where the parts are nearer to known shapes than the whole."""

        def distance(some: list[Glyph]) -> float:
            return float(self._distances(some, baseline, height, rows, labels).min(1).max())

        done: list[Glyph] = []
        waiting = list(reversed(line))
        while waiting:
            glyph = waiting.pop()
            ways = [glyphs.cut(glyph, (x,)) for x in glyphs.cuts(glyph, 0.6 * height)[:6]]
            best = min(ways, key=distance, default=None)
            if best is not None and distance(best) < CUT * distance([glyph]):
                done.append(best[0])
                waiting.append(best[1])
            else:
                done.append(glyph)
        return done

    def _distances(self, line: list[Glyph], baseline: float, height: float, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """N C float32: of each piece to the nearest known shape of each character; a large number where none is known."""
        x = glyphs.features(line, baseline, height)
        squares = (x**2).sum(1)[:, None] + (rows**2).sum(1)[None] - 2 * x @ rows.T
        out = np.full((len(self.charset), len(line)), 1e3, np.float32)
        np.minimum.at(out, labels, np.maximum(squares, 0).T)
        return out.T


def suited(distances: np.ndarray, charset: str, starts: set[int]) -> list[int]:
    """N C -> a label each: the nearest, or one almost as near (I and l, O and 0) if it is of the kind of its neighbours in the word and the nearest
    is not. starts: numbers of the first characters of words, where capitals need none beside them.
    """
    best = distances.argmin(1)
    kinds = np.array([kind(c) for c in charset])
    named = []
    for i, row in enumerate(distances):
        own = kinds[best[i]]
        beside = [kinds[best[i - 1]]] if i not in starts else []
        beside += [kinds[best[i + 1]]] if i + 1 < len(best) and i + 1 not in starts else []
        beside = [one for one in beside if one != "mark"]
        settled = own in beside or not beside or (own == "capital" and i in starts)
        others = [] if settled else [label for label in np.flatnonzero(row <= row[best[i]] + ALIKE) if kinds[label] in beside]
        named.append(int(min(others, key=lambda label: row[label], default=best[i])))
    return named


def kind(c: str) -> str:
    return "digit" if c.isdigit() else "small" if c.islower() else "capital" if c.isupper() else "mark"


@dataclass(frozen=True)
class Shapes:
    """rows: N D, characters as fonts have them. labels: N. left, right: of each character the space on either side, in heights of capitals."""

    rows: np.ndarray
    labels: np.ndarray
    left: np.ndarray
    right: np.ndarray


@lru_cache(maxsize=4)
def drawn(charset: str, fonts: tuple[str, ...]) -> Shapes:
    """The characters of these fonts, sharp and as small print. What a font lacks is none of its shapes. Raises UsageError where none can be drawn."""
    rows, labels, sides = [], [], list[tuple[float, float]]()
    for name in fonts:
        if (font := font_of(name)) is None:
            continue
        missing = shape_of(font, "\U0010fffd")
        for small in (False, True):
            used = font if not small else font.font_variant(size=SMALL)
            capital = -used.getbbox("H", anchor="ls")[1] * (DRAWN / SMALL if small else 1)
            for label, c in enumerate(charset):
                found = shape_of(font, c)
                if found is None or (missing is not None and np.array_equal(found.dark, missing.dark)):
                    continue
                if small and (found := shape_of(used, c, DRAWN / SMALL)) is None:
                    continue
                rows.append(glyphs.features([found], 0.0, capital)[0])
                labels.append(label)
                sides.append((found.left / capital, (font.getlength(c) - found.right) / capital))
    if not rows:
        raise UsageError("none of the fonts can be drawn", where=", ".join(fonts), hint="fonts=pillow, or files of TrueType fonts")
    of, around = np.array(labels), np.array(sides)
    means = np.array([around[of == label].mean(0) if (of == label).any() else (0.1, 0.1) for label in range(len(charset))])
    return Shapes(np.stack(rows), of, means[:, 0], means[:, 1])


def font_of(name: str) -> ImageFont.FreeTypeFont | None:
    """A font by its file's name, as Pillow finds it; None where it is not installed."""
    try:
        found = ImageFont.load_default(DRAWN) if name == "pillow" else ImageFont.truetype(name, DRAWN)
    except OSError:
        return None
    return found if isinstance(found, ImageFont.FreeTypeFont) else None


def shape_of(font: ImageFont.FreeTypeFont, c: str, scale: float = 1.0) -> Glyph | None:
    """A character on its baseline, row 0, and at its pen's place, column 0, `scale` times as large as drawn; None where it is blank."""
    x0, y0, x1, y1 = (int(v) for v in font.getbbox(c, anchor="ls"))
    picture = Image.new("L", (x1 - x0 + 4, y1 - y0 + 4), 0)
    ImageDraw.Draw(picture).text((2 - x0, 2 - y0), c, fill=255, font=font, anchor="ls")
    if scale != 1:
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR)
    dark = np.asarray(picture, np.float32) / 255
    found = Glyph(dark, round((x0 - 2) * scale), round((y0 - 2) * scale))
    return glyphs.cropped(found) if (dark > glyphs.INK).any() else None


def build(*, classes: int = 0, charset: str = "printable", fonts: str = "") -> ClassicOCR:
    """charset: what may be read. fonts: whose shapes are known, files or names of installed ones with commas, and "pillow" for the one that Pillow
    brings along; default: that one and common ones. `classes` changes nothing. Raises UsageError for a font that is asked for and not there.
    """
    names = tuple(name.strip() for name in fonts.split(",") if name.strip()) or FONTS
    if fonts and (absent := [name for name in names if font_of(name) is None]):
        raise UsageError(f"no such font: {', '.join(absent)}", hint="a path, the file name of an installed font, or pillow")
    prepare = Prepare(resize="height", size=HEIGHT, mean=(0.0,) * 3, std=(1.0,) * 3)
    return ClassicOCR(charset, prepare, names)
