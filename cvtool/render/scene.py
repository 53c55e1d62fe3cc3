"""A picture with all that is known of it: boxes, masks, keypoints and their tags on it, a legend or what is said of the whole under it.

Legible at any size: lines and text grow with the picture and shrink (to a readable least) with the number of objects; pictures whose longer side is
under 320 pixels are enlarged by a whole number before anything is drawn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from cvtool.errors import InputError
from cvtool.render import boxes, keypoints, masks, palette, reading, text
from cvtool.render.canvas import Canvas

ENLARGE_BELOW = 320  # pixels of the longer side
ENLARGE_TO = 400
MIN_FONT = 11  # pixels; Aileron's small letters are then six pixels high
ROWS = 5  # of what is said of the whole picture
ColourBy = Literal["category", "instance"]
Table = Mapping[Any, dict[str, Any]]  # category id -> category


@dataclass(frozen=True)
class Style:
    """Sizes in pixels of the canvas."""

    line: int
    font: int
    least_font: int = MIN_FONT


def style(size: tuple[int, int], count: int, line_width: float | None = None) -> Style:
    """Line and font for a canvas of (width, height) with `count` objects: 2 and 14 pixels at 640 x 480, 12 and 80 at 4000 x 3000."""
    side = math.sqrt(size[0] * size[1])
    crowded = min(1.0, max(0.68, (12 / max(count, 1)) ** 0.17))
    font = max(MIN_FONT, round(min(side / 42 * crowded, min(size) / 5)))
    line = max(1 if count > 60 else 2, round(side / 270 * crowded)) if line_width is None else max(1, round(line_width))
    return Style(line, font, max(MIN_FONT, round(font * 0.75)))


def enlargement(size: tuple[int, int]) -> int:
    """The whole number by which a picture of (width, height) is enlarged for drawing when nobody says otherwise."""
    longer = max(size)
    return 1 if longer >= ENLARGE_BELOW else math.ceil(ENLARGE_TO / longer)


def enlarge(picture: np.ndarray | Image.Image, scale: float) -> Image.Image:
    """The picture, `scale` times as large; smooth, for people recognise more in it than in blocks."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image = image.convert("RGB")
    if scale == 1:
        return image.copy() if isinstance(picture, Image.Image) else image
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    return image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC, reducing_gap=3.0 if scale < 1 else None)


@dataclass
class Thing:
    """An annotation on its way to the canvas; `box` and `points` are in the canvas's pixels."""

    name: str
    colour: palette.Colour
    box: tuple[float, float, float, float] | None
    score: float | None = None
    words: str | None = None
    region: masks.Region | None = None
    points: list[tuple[float, float, float]] | None = None
    category: dict[str, Any] | None = None
    crowd: bool = False
    stuff: bool = False

    @property
    def area(self) -> float:
        return 0.0 if self.box is None else max(self.box[2] - self.box[0], 0.0) * max(self.box[3] - self.box[1], 0.0)

    @property
    def title(self) -> str:
        return text.clean(self.words if self.words else self.name + (" (crowd)" if self.crowd else "")) or "object"

    @property
    def note(self) -> str:
        return "" if self.score is None else f"{self.score:.2f}"


def draw(
    picture: np.ndarray | Image.Image,
    annotations: Sequence[dict[str, Any]] = (),
    *,
    labels: Sequence[dict[str, Any]] = (),
    categories: Table | None = None,
    semantic: bool | None = None,
    scale: float | None = None,
    color_by: ColourBy = "category",
    names: bool = True,
    line_width: float | None = None,
) -> Image.Image:
    """The picture (H W 3 uint8 RGB, left as it is) with COCO annotations in its pixels drawn on it; it lies at the top left of what is returned.

    labels: what is said of the whole picture (`category`, `score`), best first; up to five stand in a strip below.
    categories: names, keypoints and skeletons by category id, for annotations without a name of their own.
    semantic: the masks are a map of the picture (tint and legend) rather than objects; None finds out, see `is_map`.
    scale: size of the result; None enlarges small pictures (`enlargement`).  line_width: in pixels of the result.
    names: tags, legend and strip; where there are a dozen words with their texts or more, the page set anew beside the picture.
    color_by: one colour a category, neighbours in shades of it; or one an object.
    Raises InputError for masks that are damaged or of a picture of another size.
    """
    shape = picture.size if isinstance(picture, Image.Image) else (picture.shape[1], picture.shape[0])
    factor = enlargement(shape) if scale is None else scale
    if names and reading.is_reading(annotations):
        return reading.draw(enlarge(picture, factor), annotations, factor)
    canvas = Canvas(enlarge(picture, factor))
    table = categories or {}
    things = [_thing(annotation, shape, factor, table) for annotation in annotations]
    as_map = is_map(annotations, shape) if semantic is None else semantic
    for thing in things:
        thing.stuff = thing.region is not None and (thing.stuff or as_map)
    _colours(things, color_by)
    look = style(canvas.size, sum(not thing.stuff for thing in things), line_width)
    stuff, objects = ([thing for thing in things if thing.stuff is kind] for kind in (True, False))
    _draw_stuff(canvas, stuff, look)
    _draw_objects(canvas, objects, look)
    strips = []
    if names:
        nameless = _draw_tags(canvas, stuff, objects, look)
        strips += _legend(canvas, stuff, objects if nameless else [])
        strips += _caption(canvas, labels, table)
    return text.below(canvas.image, strips) if strips else canvas.image


def is_map(annotations: Sequence[dict[str, Any]], size: tuple[int, int]) -> bool:
    """Whether annotations are a map of the picture, as `segment` writes one: run lengths without scores, each category once, no crowd, and
    together at least a third of the picture of (width, height) but never more than all of it."""
    if not annotations or any("score" in a or a.get("iscrowd") or "isthing" in a or a.get("keypoints") for a in annotations):
        return False
    if not all(isinstance(a.get("segmentation"), dict | np.ndarray) for a in annotations):
        return False
    ids = [a.get("category_id") for a in annotations]
    areas = [a.get("area") for a in annotations]
    if len(set(ids)) < len(ids) or not all(isinstance(area, int | float) for area in areas):
        return False
    return size[0] * size[1] / 3 <= sum(areas) <= size[0] * size[1]  # type: ignore[arg-type]


def name_of(annotation: Mapping[str, Any], table: Table) -> str:
    """The category's name: the annotation's own word, else the table's, else `class7`, else `object`."""
    if isinstance(annotation.get("category"), str) and annotation["category"]:
        return annotation["category"]
    key = annotation.get("category_id")
    if key is None:
        return "object"
    known = table.get(key)
    return str(known["name"]) if known and known.get("name") else f"class{key}"


def _thing(annotation: dict[str, Any], size: tuple[int, int], scale: float, table: Table) -> Thing:
    try:
        return _read(annotation, size, scale, table)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError, OverflowError) as error:
        raise InputError(f"an annotation is malformed: {error}") from error


def _read(annotation: dict[str, Any], size: tuple[int, int], scale: float, table: Table) -> Thing:
    name, score = name_of(annotation, table), annotation.get("score")
    thing = Thing(name, palette.colour(name), None, float(score) if isinstance(score, int | float) else None)
    thing.category = table.get(annotation.get("category_id"))
    thing.crowd = bool(annotation.get("iscrowd"))
    thing.stuff = annotation.get("isthing") in (0, False) and "isthing" in annotation
    thing.words = annotation["text"] if isinstance(annotation.get("text"), str) else None
    shape = annotation.get("segmentation")
    if shape is not None and len(shape) and not _is_its_box(shape, annotation.get("bbox")):
        thing.region = masks.region(shape, size, scale)
    box = annotation.get("bbox")
    if isinstance(box, list | tuple) and len(box) == 4:
        x, y, w, h = (float(v) * scale for v in box)
        thing.box = tuple(min(max(v, -1e6), 1e6) for v in (x, y, x + w, y + h))  # type: ignore[assignment]
    elif thing.region is not None:
        thing.box = thing.region.box
    flat = annotation.get("keypoints")
    if isinstance(flat, list) and len(flat) >= 3 and any(v > 0 for v in flat[2::3]):
        thing.points = [(float(flat[i]) * scale, float(flat[i + 1]) * scale, float(flat[i + 2])) for i in range(0, len(flat) - 2, 3)]
    return thing


def _is_its_box(shape: Any, box: Any) -> bool:
    """Whether a polygon is no more than the box's corners, as tools write it that fill `segmentation` in for boxes."""
    if not (isinstance(shape, list) and len(shape) == 1 and isinstance(shape[0], list) and len(shape[0]) == 8 and isinstance(box, list | tuple)):
        return False
    x, y, w, h = box
    wanted = {(x, y), (x + w, y), (x, y + h), (x + w, y + h)}
    return all(any(abs(px - wx) + abs(py - wy) < 0.01 for wx, wy in wanted) for px, py in zip(shape[0][::2], shape[0][1::2], strict=True))


def _colours(things: list[Thing], color_by: ColourBy) -> None:
    """From left to right, so that objects beside each other get different shades."""
    turn: dict[str, int] = {}
    ordered = sorted((t for t in things if t.box is not None), key=lambda t: t.box[0] + t.box[2] if t.box else 0.0)
    for number, thing in enumerate(ordered):
        if color_by == "instance":
            thing.colour = palette.instance(number)
        elif thing.region is not None and not thing.stuff:
            thing.colour = palette.variation(thing.colour, turn.get(thing.name, 0))
            turn[thing.name] = turn.get(thing.name, 0) + 1


def _draw_stuff(canvas: Canvas, things: list[Thing], look: Style) -> None:
    for thing in things:
        if thing.region is not None:
            masks.tint(canvas, thing.region, thing.colour, 0.5)
    for thing in things:
        if thing.region is not None:
            masks.contour(canvas, thing.region, thing.colour, max(1.0, 0.5 * look.line))


def _draw_objects(canvas: Canvas, things: list[Thing], look: Style) -> None:
    ordered = sorted(things, key=lambda t: -t.area)  # small ones on top of large ones
    opacity = 0.42 if len(things) <= 40 else 0.34
    for thing in ordered:
        if thing.region is not None:
            masks.tint(canvas, thing.region, thing.colour, 0.55 * opacity if thing.crowd or thing.points else opacity)
    for thing in ordered:
        if thing.region is not None:
            masks.contour(canvas, thing.region, thing.colour, look.line, rim=0.35)
        elif thing.box is not None:
            boxes.draw(canvas, thing.box, thing.colour, look.line, dashed=thing.crowd)
    for thing in ordered:
        if thing.points is not None:
            keypoints.draw(canvas, thing.points, thing.category, _limb(thing, look), predicted=thing.score is not None)


def _draw_tags(canvas: Canvas, stuff: list[Thing], objects: list[Thing], look: Style) -> int:
    """Tags of regions on their middles, of objects beside them; returns how many objects got none."""
    tags = [_tag(thing, look) for thing in objects if thing.box is not None]
    regions = []
    for thing in stuff:
        tag = text.Tag(thing.title, thing.colour, (0.0, 0.0, 0.0, 0.0), look.font, thing.note, centred=True, rank=2.0)
        if thing.region is not None and thing.region.mask.sum() >= 6 * tag.wide * tag.high:  # the legend names smaller ones
            x, y = thing.region.heart()
            tag.box = (x, y, x, y)
            regions.append(tag)
    obstacles = np.array([thing.box for thing in objects if thing.box is not None], np.float32).reshape(-1, 4)
    text.place([*regions, *tags], canvas.size, obstacles=obstacles, share=0.25)
    for tag in (*regions, *reversed(tags)):
        text.draw_tag(canvas, tag)
    return sum(tag.at is None for tag in tags)


def _limb(thing: Thing, look: Style) -> float:
    """Width of an object's limbs: the picture's line, thinner on small objects."""
    return max(1.0, min(1.25 * look.line, math.sqrt(thing.area) / 45 if thing.area else look.line))


def _tag(thing: Thing, look: Style) -> text.Tag:
    assert thing.box is not None
    width, height = thing.box[2] - thing.box[0], thing.box[3] - thing.box[1]
    small = max(width, height) < 3 * look.font
    tips = None if thing.region is None else thing.region.tips()
    rank = thing.area / 1e12 + (1.0 if thing.score is None else thing.score)
    return text.Tag(thing.title, thing.colour, boxes.edges(thing.box), look.least_font if small else look.font, thing.note, tips=tips, rank=rank)


def _strip_font(canvas: Canvas) -> int:
    """For strips below: by the width they have, no larger than the tags of a picture with few objects."""
    return max(MIN_FONT, min(round(canvas.size[0] / 42), round(math.sqrt(canvas.size[0] * canvas.size[1]) / 42)))


def _legend(canvas: Canvas, stuff: list[Thing], objects: list[Thing]) -> list[Image.Image]:
    """Regions with their share of the picture, then objects with their number."""
    shares: dict[str, float] = {}
    for thing in stuff:
        if thing.region is not None:
            shares[thing.title] = shares.get(thing.title, 0.0) + float(thing.region.mask.sum()) / (canvas.size[0] * canvas.size[1])
    entries = [(name, palette.colour(name), _percent(share)) for name, share in sorted(shares.items(), key=lambda item: -item[1])]
    counts = Counter(text.clean(thing.name) or "object" for thing in objects)
    entries += [(name, palette.colour(name), f"{count:,}") for name, count in counts.most_common()]
    return [text.legend(canvas.size[0], entries, _strip_font(canvas))] if entries else []


def _percent(share: float) -> str:
    return "<1%" if share < 0.005 else f"{100 * share:.0f}%"


def _caption(canvas: Canvas, labels: Sequence[dict[str, Any]], table: Table) -> list[Image.Image]:
    rows = []
    for label in labels[:ROWS]:
        name, score = name_of(label, table), label.get("score")
        rows.append((text.clean(name), float(score) if isinstance(score, int | float) else None, palette.colour(name)))
    return [text.caption(canvas.size[0], rows, _strip_font(canvas))] if rows else []
