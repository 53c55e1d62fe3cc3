"""Colours: by name alone, legible, and far enough apart."""

import subprocess
import sys

from cvtool import categories
from cvtool.render import palette

COCO = [category["name"] for category in categories.coco() if category is not None]


def distance(one, other):
    """In OKLab."""
    import math

    (l1, c1, h1), (l2, c2, h2) = palette._to_oklch(one), palette._to_oklch(other)
    return math.dist((l1, c1 * math.cos(h1), c1 * math.sin(h1)), (l2, c2 * math.cos(h2), c2 * math.sin(h2)))


def test_a_name_has_the_same_colour_in_every_process(environment):
    names = ["person", "RBC", "Größe", "日本語", "class7"]
    code = f"from cvtool.render import palette; print([palette.colour(n) for n in {names!r}])"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=environment(PYTHONHASHSEED=seed), check=True
        ).stdout.strip()
        for seed in ("0", "1")
    }
    assert seen == {str([palette.colour(name) for name in names])}


def test_the_spelling_of_a_name_does_not_matter():
    assert palette.colour("traffic light") == palette.colour("Traffic_Light") == palette.colour(" traffic-light ")
    assert palette.colour("aeroplane") == palette.colour("airplane")
    assert palette.colour("tree-merged") == palette.colour("tree")
    assert palette.colour("sky-other-merged") == palette.colour("sky")


def test_each_coco_category_has_a_colour_of_its_own():
    colours = [palette.colour(name) for name in COCO]
    assert len(set(colours)) == 80
    frequent = [palette.colour(name) for name in ("person", "car", "chair", "bus", "truck", "bicycle", "motorcycle", "dog", "book", "dining table")]
    assert min(distance(a, b) for i, a in enumerate(frequent) for b in frequent[:i]) > 0.1


def test_text_can_be_read_on_every_colour():
    for colour in {*palette.PALETTE, *map(palette.colour, (f"class{i}" for i in range(200)))}:
        assert palette.contrast(palette.on(colour), colour) >= 3


def test_shades_differ_and_stay_in_the_gamut():
    for base in palette.PALETTE:
        shades = [palette.variation(base, i) for i in range(5)]
        assert shades[0] == base
        assert len(set(shades)) == 5
        assert all(0 <= v <= 255 for shade in shades for v in shade)
    assert palette.shade((255, 255, 255), 0.5) != (0, 0, 0)
    assert max(abs(a - b) for a, b in zip(palette.shade((38, 147, 255), 1e-9), (38, 147, 255), strict=True)) <= 1


def test_objects_get_colours_of_their_own():
    assert len({palette.instance(i) for i in range(240)}) == 240
