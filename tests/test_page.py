"""The page model: from records and back, lines and baselines at any slant, hyphens."""

from __future__ import annotations

import math

import pytest

from cvtool.page import Block, Line, Page, Quad, Word, entries, joined
from cvtool.records import Record


def box(x0: float, y0: float, x1: float, y1: float) -> Quad:
    return (x0, y0), (x1, y0), (x1, y1), (x0, y1)


def turned(quad: Quad, degrees: float) -> Quad:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    a, b, d, e = ((x * c - y * s, x * s + y * c) for x, y in quad)
    return a, b, d, e


BLOCKS = (
    Block(
        (Line((Word(box(10, 10, 60, 30), "Hello", 0.5), Word(box(70, 10, 120, 36), "great", 0.7))), Line((Word(box(10, 50, 90, 70), "wea-", 1.0),)))
    ),
    Block((Line((Word(box(10, 100, 60, 120), "ther", None),)),)),
)


def test_a_page_comes_back_from_its_record():
    record = Record(file_name="a.png", width=200, height=150, page=2, annotations=entries(BLOCKS), orientation=90)
    record["made_by"] = [{"verb": "ocr", "model": "crnn.small@synth"}]
    page = Page.of(record)
    assert page.blocks == BLOCKS
    assert (page.number, page.orientation, page.maker, page.width, page.height) == (3, 90, "crnn.small@synth", 200, 150)
    assert page.text == "Hello great\nwea-\n\nther"
    assert [word.text for word in page.words] == ["Hello", "great", "wea-", "ther"]
    assert page.score == pytest.approx((0.5 + 0.7 + 1.0) / 3)
    entry = record["annotations"][1]
    assert entry["bbox"] == [70, 10, 50, 26]
    assert entry["segmentation"] == [[70, 10, 120, 10, 120, 36, 70, 36]]
    assert (entry["block"], entry["line"], entry["word"], entry["category"]) == (1, 1, 2, "text")


def test_words_of_records_without_places_are_lines_of_their_own_in_the_order_given():
    record = Record(width=9, height=9, annotations=[{"bbox": [5, 5, 2, 1], "text": "b"}, {"bbox": [1, 1, 2, 1], "text": "a"}, {"bbox": [0, 0, 1, 1]}])
    assert Page.of(record).text == "b\na"


def test_the_order_is_that_of_the_numbers_not_of_the_list():
    assert Page.of(Record(width=9, height=9, annotations=entries(BLOCKS)[::-1])).blocks == BLOCKS


def test_hyphens_join_only_on_request_and_only_before_small_letters():
    record = Record(width=200, height=150, annotations=entries(BLOCKS))
    assert Page.of(record, joined=True).text == "Hello great\nweather"  # over the end of a block, too
    assert joined([["a black-", "and-tan dog", "x -", "y", "Spider-", "Man", "ﬁ-", "nal word"]]) == [
        ["a blackand-tan", "dog", "x -", "y", "Spider-", "Man", "ﬁnal", "word"]
    ]


@pytest.mark.parametrize("degrees", [0, 10, 90, 180, -30])
def test_lines_are_outlined_and_stand_on_their_baseline_at_any_slant(degrees):
    words = [Word(turned(box(10, 10, 60, 30), degrees), "Horn"), Word(turned(box(70, 10, 120, 30), degrees), "amen")]
    line = Line(tuple(words))
    for found, true in zip(line.quad, turned(box(10, 10, 120, 30), degrees), strict=True):
        assert found == pytest.approx(true, abs=1e-9)
    for found, true in zip(line.baseline, turned(box(10, 30, 120, 30), degrees)[:2], strict=True):
        assert math.dist(found, true) == pytest.approx(0, abs=1e-9)


def test_letters_below_the_line_do_not_move_the_baseline():
    page = Line((Word(box(0, 10, 40, 30), "nose"), Word(box(50, 10, 90, 35.6), "jumpy"), Word(box(100, 10, 140, 30), "hat")))
    assert [y for _, y in page.baseline] == pytest.approx([30, 30], abs=0.2)
