"""The order of reading, slant, quarter turns, and what is a page."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from made_text import page, paragraph

from cvtool import images
from cvtool.models.ocr import page_lines
from cvtool.ops import quads as geometry
from cvtool.tasks.reading import documents, layout
from cvtool.tasks.reading.order import arranged
from cvtool.tasks.reading.skew import quarter, skew, straightened, unturned

Words = list[tuple[float, float, float, float, str]]


def words(x: float, y: float, text: str, *, height: float = 20, letter: float = 10) -> Words:
    """Boxes of the words of a line that begins at (x, y)."""
    found = []
    for word in text.split(" "):
        if word:
            found.append((x, y, x + letter * len(word), y + height, word))
        x += letter * (len(word) + 1)
    return found


def read(*lines: Words, seed: int = 0, turn: float = 0.0) -> list[list[str]]:
    """Blocks of lines of text, after the words were shuffled."""
    every = [word for line in lines for word in line]
    order = np.random.default_rng(seed).permutation(len(every))
    boxes = np.array([every[i][:4] for i in order])
    quads = geometry.of_boxes(boxes)
    c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    quads = quads @ np.array([[c, s], [-s, c]])
    blocks = arranged(quads)
    assert sorted(i for block in blocks for line in block for i in line) == list(range(len(every)))
    return [[" ".join(every[order[i]][4] for i in line) for line in block] for block in blocks]


def column(x: float, y: float, name: str, count: int, *, words_a_line: int = 4) -> list[Words]:
    return [words(x, y + 30 * n, " ".join([f"{name}{n:02d}"] * words_a_line)) for n in range(count)]


def flat(blocks: list[list[str]]) -> list[str]:
    return [line.split()[0] for block in blocks for line in block]


@pytest.mark.parametrize("turn", [0, 8, -25, 180])
def test_two_columns_under_a_heading_and_over_a_foot(turn):
    lines = [words(50, 0, "A heading over both of the columns of it"), *column(0, 60, "l", 8), *column(230, 60, "r", 8), words(180, 360, "page 7")]
    blocks = read(*lines, turn=turn)
    assert flat(blocks) == ["A", *(f"l{n:02d}" for n in range(8)), *(f"r{n:02d}" for n in range(8)), "page"]


def test_three_columns_with_a_heading_between():
    upper = [*column(0, 0, "a", 5), *column(200, 0, "b", 5), *column(400, 0, "c", 5)]
    lower = [*column(0, 220, "d", 5), *column(200, 220, "e", 5), *column(400, 220, "f", 5)]
    between = words(0, 170, "a heading over the whole of the page that parts it in two")
    found = flat(read(*upper, *lower, between))
    assert [name[0] for name in found] == [*"aaaaabbbbbccccc", "a", *"dddddeeeeefffff"]


def test_a_caption_between_two_columns_stands_by_itself():
    lines = [*column(0, 0, "l", 12), *column(230, 0, "r", 12)]
    for n in (5, 6):  # the columns give way
        lines[n] = lines[n][:2]
        lines[12 + n] = lines[12 + n][2:]
        lines.append(words(120, 30 * n, f"caption{n} that"))
    found = flat(read(*lines))
    assert found[:12] == [f"l{n:02d}" for n in range(12)]
    assert found[12:24] == [f"r{n:02d}" for n in range(12)]
    assert found[24:] == ["caption5", "caption6"]


def test_prices_are_the_ends_of_their_lines():
    goods = ["Milk", "Bread and butter", "Coffee beans", "Apples", "Tomatoes", "Cheese"]
    lines = [[*words(0, 30 * n, name), *words(330, 30 * n, f"{n}.99")] for n, name in enumerate(goods)]
    assert [line for block in read(*lines) for line in block] == [f"{name} {n}.99" for n, name in enumerate(goods)]


def test_paragraphs_end_with_a_gap_a_short_line_an_indent_or_another_size():
    text = "some words of a long line here"
    gap = [words(0, 0, text), words(0, 30, text), words(0, 90, text), words(0, 120, text)]
    assert [len(block) for block in read(*gap)] == [2, 2]
    short = [words(0, 0, text), words(0, 30, "short"), words(0, 60, text), words(0, 90, text)]
    assert [len(block) for block in read(*short)] == [2, 2]
    indent = [words(0, 0, text), words(0, 30, text), words(30, 60, text), words(0, 90, text)]
    assert [len(block) for block in read(*indent)] == [2, 2]
    sizes = [words(0, 0, "heading", height=40, letter=20), words(0, 45, text), words(0, 75, text)]
    assert [len(block) for block in read(*sizes)] == [1, 2]
    assert [len(block) for block in read(*(words(0, 30 * n, text) for n in range(5)))] == [5]


def test_nothing_and_one_word():
    assert arranged(np.zeros((0, 4, 2))) == []
    assert read(words(0, 0, "one")) == [["one"]]


def test_a_newspaper_page_is_read_column_by_column(data):
    """The blocks of the page, by the height at which they begin, in the order of its text; the foot comes after both columns."""
    boxes = page_lines.words(images.decode(data / "ocr_pages_tesseract" / "8087_054.3B.tif"))
    blocks = [boxes[np.concatenate(block)] for block in arranged(geometry.of_boxes(boxes))]
    foot = [n for n, b in enumerate(blocks) if b[:, 1].min() > 3150]
    assert foot == list(range(len(blocks) - len(foot), len(blocks)))
    sides = ["left" if b[:, 2].max() < 1300 else "right" if b[:, 0].min() > 1250 else "over" for b in blocks[: foot[0]]]
    assert sides[0] == "over"  # the head
    assert [side for side in sides if side != "over"] == sorted(side for side in sides if side != "over")
    assert min(sides.count("left"), sides.count("right")) >= 4


# --- upright -------------------------------------------------------------------------------------------------------------------------------------

PAGE = page(paragraph(60, 60, 8), width=600, height=420)


@pytest.mark.parametrize("degrees", [-14.0, -3.3, -0.6, 0.0, 1.5, 9.0])
def test_slant_is_found_and_taken_away(degrees):
    slanted = straightened(unturned(PAGE), -degrees)
    assert documents.slant_of(slanted.pixels) == pytest.approx(degrees, abs=0.3)


def test_a_page_of_few_letters_has_no_slant():
    assert documents.slant_of(page([(50, 50, "Hi you")])) == 0
    assert documents.slant_of(np.full((50, 60, 3), 255, np.uint8)) == 0
    assert skew(page_lines.Pieces(np.zeros((0, 4), np.int64), np.zeros(0, np.int64)), 10.0) == 0


@pytest.mark.parametrize("quarters", range(4))
def test_points_of_a_turned_page_come_back(quarters):
    marked = PAGE.copy()
    marked[100:104, 200:204] = [255, 0, 0]
    turned = straightened(quarter(unturned(marked), quarters), 7.0)
    red = np.argwhere((turned.pixels[..., 0] > 150) & (turned.pixels[..., 1] < 110))
    place = red[:, ::-1].mean(0) + 0.5
    assert turned.restored(place) == pytest.approx([202, 102], abs=0.5)


@pytest.mark.parametrize("quarters", range(4))
def test_the_surest_way_up_is_taken(quarters):
    """A judge that knows an upright letter: ink of these words lies in the upper left of its crops more than in the lower right."""
    pixels = np.ascontiguousarray(np.rot90(PAGE, quarters))

    def judge(crops):
        good = [crop for crop in crops if crop.shape[1] > crop.shape[0]]
        return float(len(good) > 3 and np.mean([likeness(crop) for crop in good]) > 0.5)

    def likeness(crop):
        return float(any(crop.shape == one.shape and np.abs(crop.astype(int) - one).mean() < 40 for one in true))

    find = lambda seen: geometry.of_boxes(page_lines.words(seen))  # noqa: E731
    true = documents.sample(documents.upright(PAGE, find, None))
    found = documents.upright(pixels, find, judge)
    assert found.orientation == 90 * quarters  # clockwise, what np.rot90 did against the clock
    assert found.turned.pixels.shape == PAGE.shape
    back = found.turned.restored(found.quads)
    assert geometry.bounds(back).min() >= 0
    first, last = geometry.angles(back)[[0, -1]]
    assert np.rad2deg(first) % 360 == pytest.approx(-90 * quarters % 360, abs=1)
    assert first == pytest.approx(last)


def test_a_huge_page_is_looked_at_in_a_smaller_size(monkeypatch):
    monkeypatch.setattr(documents, "LARGEST", 100_000)
    seen = []

    def find(pixels):
        seen.append(pixels.shape)
        return geometry.of_boxes(page_lines.words(pixels))

    found = documents.upright(PAGE, find, None)
    assert seen == [(210, 300, 3)]
    every = np.concatenate(geometry.of_boxes(page_lines.words(PAGE)))
    corners = np.concatenate(found.quads)
    assert corners.min(0) == pytest.approx(every.min(0), abs=6)
    assert corners.max(0) == pytest.approx(every.max(0), abs=6)


def test_pages_and_scenes(data):
    assert layout.is_page(PAGE)
    assert layout.is_page(255 - PAGE)
    assert layout.is_page(np.full((8, 8, 3), 255, np.uint8))
    assert not layout.is_page(skimage.data.astronaut())
    assert not layout.is_page(skimage.data.coffee())
    for path in sorted((data / "ocr_pages_tesseract").glob("*.tif")):
        assert layout.is_page(images.decode(path)), path
    scenes = [layout.is_page(images.decode(path)) for path in sorted((data / "ocr_detect_ic15" / "images").glob("*.jpg"))[:12]]
    assert sum(scenes) <= 2
