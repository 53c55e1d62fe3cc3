"""Text: legible, inside the picture, off other tags."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cvtool.render import text
from cvtool.render.canvas import Canvas


def rectangle(tag):
    return tag.at[0], tag.at[1], tag.at[0] + tag.wide, tag.at[1] + tag.high


def overlap(a, b):
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(20, 400),
    st.integers(20, 400),
    st.lists(st.tuples(*[st.floats(-50, 450)] * 2, *[st.floats(0, 300)] * 2), max_size=12),
    st.booleans(),
)
def test_tags_stay_inside_the_picture(width, height, found, centred):
    tags = [text.Tag("person", (255, 0, 0), (x, y, x + w, y + h), 12, "0.97", centred=centred) for x, y, w, h in found]
    text.place(tags, (width, height), obstacles=np.array([tag.box for tag in tags]))
    for tag in tags:
        if tag.at is not None:
            x0, y0, x1, y1 = rectangle(tag)
            assert x0 >= 0
            assert y0 >= 0
            assert x1 <= width
            assert y1 <= height
    if width >= 80 and height >= 20:
        assert all(tag.at is not None for tag in tags)


def test_a_tag_stands_on_its_box():
    tag = text.Tag("cat", (255, 0, 0), (50, 60, 150, 160), 14)
    text.place([tag], (300, 300))
    assert tag.at == (50, 60 - tag.high)


def test_a_tag_at_the_top_goes_inside():
    tag = text.Tag("cat", (255, 0, 0), (50, 0, 150, 160), 14)
    text.place([tag], (300, 300))
    assert tag.at == (50, 0)


def test_tags_of_boxes_on_each_other_do_not_overlap():
    tags = [text.Tag("person", (255, 0, 0), (50 + i, 60, 150 + i, 160), 14, "0.50") for i in range(6)]
    text.place(tags, (300, 300))
    places = [rectangle(tag) for tag in tags]
    assert all(overlap(a, b) == 0 for i, a in enumerate(places) for b in places[:i])


def test_in_a_crowd_the_best_are_named_and_none_covers_another():
    tags = [text.Tag("cell", (255, 0, 0), (x, y, x + 18, y + 18), 11, "0.50", rank=x) for x in range(0, 300, 20) for y in range(0, 300, 20)]
    left_out = text.place(tags, (300, 300), share=0.25)
    named = [tag for tag in tags if tag.at is not None]
    assert left_out == len(tags) - len(named)
    assert 10 < len(named) < len(tags)
    places = [rectangle(tag) for tag in named]
    assert all(overlap(a, b) < 0.03 * (a[2] - a[0]) * (a[3] - a[1]) for i, a in enumerate(places) for b in places[:i])
    assert np.mean([tag.rank for tag in named]) > np.mean([tag.rank for tag in tags])


def test_a_long_name_is_shortened_and_its_score_stays():
    tag = text.Tag("a name that is much too long for this picture", (255, 0, 0), (10, 10, 60, 60), 12, "0.97")
    text.place([tag], (200, 100))
    assert tag.words.endswith("… 0.97")
    assert tag.wide <= 200


def test_letters_are_drawn_where_they_belong():
    canvas = Canvas(Image.new("RGB", (200, 60), (0, 0, 0)))
    text.write(canvas, 20, 30, "HHH", 20, (255, 255, 255))
    rows, columns = np.nonzero(np.asarray(canvas.image)[..., 0] > 128)
    assert abs((rows.min() + rows.max() + 1) / 2 - 30) <= 1
    assert 19 <= columns.min() <= 24
    assert columns.max() < 20 + text.width("HHH", 20)


@pytest.mark.parametrize("words", ["Größe", "étoile", "naïve Ångström"])
def test_accents_are_drawn(words):
    bare = words.encode("ascii", "ignore").decode()
    canvas = Canvas(Image.new("RGB", (300, 60), (0, 0, 0)))
    text.write(canvas, 5, 30, words, 20, (255, 255, 255))
    assert np.asarray(canvas.image).any()
    assert text.width(words, 20) > text.width(bare, 20)


def test_a_name_is_one_clean_line():
    assert text.clean("a\nb\t c\u202e\udc80\x00d") == "a b c d"
    assert text.clean(7) == "7"


def test_strips_are_as_wide_as_the_picture_and_leave_it_in_its_place():
    picture = Image.new("RGB", (120, 80), (9, 9, 9))
    strips = [text.legend(120, [("road", (255, 0, 0), "60%"), ("a very long name of a class", (0, 255, 0), "<1%")], 12)]
    strips.append(text.caption(120, [("tabby cat", 0.9, (255, 0, 0)), ("dog", None, (0, 0, 255))], 12))
    strips.append(text.title(120, "found", "12", 12))
    whole = text.below(picture, strips)
    assert whole.width == 120
    assert whole.height == 80 + sum(strip.height for strip in strips)
    assert (np.asarray(whole)[:80] == 9).all()
    assert (np.asarray(strips[0]) == (255, 0, 0)).all(axis=2).any()


@pytest.mark.parametrize("across", [1, 5, 30])
def test_strips_fit_narrow_pictures(across):
    assert text.legend(across, [("road", (255, 0, 0), "60%")], 11).width == across
    assert text.caption(across, [("road", 0.5, (255, 0, 0))], 11).width == across
