"""Colours: the same category has the same colour in every picture, run and data set.

A name alone decides. COCO's 80 categories (and their spellings in other data sets) own one colour each; regions of scenes (sky, road, grass ...)
have the colours people expect; every other name is hashed to one of 24 hues in one of three lightnesses. The palette was grown greedily in OKLab:
each colour is the one farthest from all before it, to normal, protan and deutan eyes alike, within what stays visible both on dark and on bright
photographs.
"""

from __future__ import annotations

import math
from functools import cache
from hashlib import sha1

from cvtool import categories

Colour = tuple[int, int, int]  # sRGB, 0..255

_CODES = (
    "2693ff ff8a1f a5e02e f02fc2 14b8a6 f03e3e fbd024 8b5cf6 22d3ee fb5f8f 22b455 5560ff b9770e d946ef 0e8fb8 c8ff5a c2185b 5eeab0 7a9cff ffb38a "
    "c51a99 ae1cd2 5bbbfa 2fd26a 33efdf fa7fd0 39f4ad e41f8d b55516 d5ac23 26b2d8 fb8a9a f6b7fb fa715e 1c7abd f93f7d 25b7bb ec244c dc20ab 32ddc4 "
    "27c5e5 a879d7 da60a4 cc197d 30cbb4 e8236e d31f43 27aa84 36fa4a 156fe3 bb19b5 fbad6b 8073d1 1c85e5 de8678 87e8c4 209c4d fb3df3 29d43c 1d8b44 "
    "209ce0 31cda0 1e8869 25a5a9 23a1c4 30d082 25af32 df7cb0 38dbd6 d81dbc 4bd3fc fa2f9c 34c7d4 38f599 239a6c 30e743 e3aae8 24c05e e01f9c f99168"
)
PALETTE: tuple[Colour, ...] = tuple((int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)) for code in _CODES.split())
WHITE: Colour = (255, 255, 255)
INK: Colour = (16, 18, 24)  # for text on light colours and for outlines
_HASHED = 24  # the first so many colours of the palette are far enough apart to be told from each other at a glance
_SYNONYMS = {
    "aeroplane": "airplane", "motorbike": "motorcycle", "diningtable": "dining table", "pottedplant": "potted plant", "sofa": "couch",
    "tvmonitor": "tv", "pedestrian": "person", "people": "person", "human": "person", "bike": "bicycle",
    "bicyclist": "rider", "cyclist": "rider",
}  # fmt: skip
_SCENE = {
    "sky": "5bb8f5", "road": "9a6fb8", "street": "9a6fb8", "pavement": "e86fd0", "sidewalk": "e86fd0", "lane marking": "f5f0b0",
    "road marking": "f5f0b0", "building": "c98a5e", "house": "c98a5e", "wall": "b5a08a", "fence": "d9b36c", "pole": "c9c9d6",
    "column pole": "c9c9d6", "traffic sign": "ffd21f", "sign": "ffd21f", "signsymbol": "ffd21f", "sign symbol": "ffd21f", "tree": "3fae3a",
    "vegetation": "3fae3a", "plant": "57c84d", "grass": "8fd14f", "terrain": "a5c96a", "earth": "b58a5a", "ground": "b58a5a", "sand": "e8cf94",
    "mountain": "8fa38a", "snow": "dff1fb", "water": "2f7fe0", "sea": "2f7fe0", "river": "3f95e8", "ceiling": "d8cbb2", "floor": "c08552",
    "rider": "ff4f6d", "void": "8a8f98", "unlabelled": "8a8f98", "unlabeled": "8a8f98", "background": "8a8f98", "other": "8a8f98",
}  # fmt: skip
_COCO_ORDER = (  # found by annealing: categories that are frequent or often seen together lie far apart; a few have the colour of the thing
    "0 55 1 35 40 3 23 7 62 25 5 37 4 48 76 44 28 42 50 49 74 30 58 26 56 16 29 72 67 73 34 77 19 13 43 47 9 8 18 15 57 45 63 24 71 11 6 46 53 51 "
    "10 79 39 69 22 41 2 38 59 68 32 64 54 66 17 36 78 52 33 70 65 20 14 21 75 31 27 12 60 61"
)
_COCO = {category["name"]: int(index) for category, index in zip((c for c in categories.coco() if c is not None), _COCO_ORDER.split(), strict=True)}


@cache
def colour(name: str) -> Colour:
    """The colour of a category's name; case, surrounding blanks, `_`, `-` and COCO's `-other-merged`, `-stuff` do not matter."""
    words = str(name).lower().replace("_", " ").replace("-", " ").split()
    while len(words) > 1 and words[-1] in ("merged", "other", "stuff"):
        words.pop()
    plain = " ".join(words)
    plain = _SYNONYMS.get(plain, plain)
    if plain in _COCO:
        return PALETTE[_COCO[plain]]
    if plain in _SCENE:
        code = _SCENE[plain]
        return int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)
    number = int.from_bytes(sha1(plain.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return shade(PALETTE[number % _HASHED], (0.0, 0.05, -0.05)[number // _HASHED % 3])


def instance(number: int) -> Colour:
    """The colour of the number-th object where every object has its own; after 80 they come again, first lighter, then darker."""
    turn, index = divmod(number, len(PALETTE))
    return shade(PALETTE[index], (0.0, 0.07, -0.07)[turn % 3])


def variation(base: Colour, number: int) -> Colour:
    """The number-th shade of a category's colour, for neighbours of one category: five steps of lightness and a little hue, then again."""
    lightness, turn = ((0.0, 0.0), (0.09, 9.0), (-0.09, -9.0), (0.045, -14.0), (-0.045, 14.0))[number % 5]
    return shade(base, lightness, turn)


def shade(base: Colour, lightness: float, turn: float = 0.0) -> Colour:
    """The colour with its OKLCH lightness (0..1) raised by `lightness` and its hue turned by so many degrees; chroma gives way to stay in sRGB."""
    if not lightness and not turn:
        return base
    l, c, h = _to_oklch(base)
    l = min(max(l + lightness, 0.35), 0.94)
    for chroma in (c * part / 20 for part in range(20, -1, -1)):
        linear = _from_oklch(l, chroma, h + math.radians(turn))
        if all(-1e-4 <= value <= 1 + 1e-4 for value in linear):
            break
    return _encode(linear)


def on(base: Colour) -> Colour:
    """White or ink for text on this colour: white wherever its WCAG contrast is 3 or more, for on saturated colours eyes prefer it."""
    return WHITE if contrast(WHITE, base) >= 3.1 else INK


def contrast(one: Colour, other: Colour) -> float:
    """WCAG's contrast ratio of two colours, 1..21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(base: Colour) -> float:
    r, g, b = _decode(base)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def _decode(base: Colour) -> tuple[float, float, float]:
    r, g, b = ((v / 255 / 12.92) if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in base)
    return r, g, b


def _encode(linear: tuple[float, float, float]) -> Colour:
    clipped = [min(max(v, 0.0), 1.0) for v in linear]
    r, g, b = (round(255 * (12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055)) for v in clipped)
    return r, g, b


def _to_oklch(base: Colour) -> tuple[float, float, float]:
    """Ottosson 2020, "A perceptual color space for image processing"."""
    r, g, b = _decode(base)
    l = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3)
    m = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3)
    s = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3)
    a = 1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s
    b = 0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s
    return 0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s, math.hypot(a, b), math.atan2(b, a)


def _from_oklch(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    s = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
        -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
        -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
    )
