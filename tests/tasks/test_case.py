"""What heights on the line settle, on drawn words; and how much of a line is shown with a word."""

from __future__ import annotations

import numpy as np
import pytest
from made_text import page, vocabulary
from PIL import Image, ImageDraw, ImageFont

from cvtool.data import inputs
from cvtool.models.ocr import page_lines
from cvtool.ops import quads as geometry
from cvtool.results import Text
from cvtool.tasks import ocr
from cvtool.tasks.reading.case import Seen, settled
from cvtool.tasks.reading.frames import framed
from cvtool.tasks.reading.glyphs import glyphs

__all__ = ["vocabulary"]  # a fixture

SIZE = 40


def seen(drawn: str, read: str | None = None, *, dark: bool = True, size: int = SIZE, spaced: float = 2, above: int = 8) -> Seen:
    """A word drawn letter by letter, and what is said to stand there. above: rows of ground over it."""
    font = ImageFont.load_default(size=size)
    starts, x = [], 8.0
    for character in drawn:
        starts.append(x)
        x += font.getlength(character) + spaced
    width = int(x) + 8
    image = Image.new("L", (width, 2 * size + above - 8), 255 if dark else 30)
    draw = ImageDraw.Draw(image)
    for character, start in zip(drawn, starts, strict=True):
        draw.text((start, above), character, fill=0 if dark else 220, font=font)
    middles = (np.array(starts) + [font.getlength(c) / 2 for c in drawn]) / width
    return Seen(drawn if read is None else read, np.asarray(image.convert("RGB")), middles)


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize(
    ("drawn", "read"),
    [
        ("over", "OVer"), ("brown", "broWn"), ("Works", "works"), ("SEPTEMBER", "SEpTEMBER"), ("happy", "haPPY"), ("Yarn", "yarn"),
        ("format", "format"), ("DUBROVNIK", "DUBRovNIK"),
    ],
)  # fmt: skip
def test_letters_of_the_word_tell(drawn: str, read: str, dark: bool):
    assert settled([seen(drawn, read, dark=dark)], [[0]]) == [drawn]
    assert settled([seen(drawn, dark=dark)], [[0]]) == [drawn]


@pytest.mark.parametrize(
    ("drawn", "read", "told"),
    [
        ("don't", "don,t", "don’t"), ("old,", "old’", "old,"), ("well-read", "well.read", "well-read"), ("a_b", "a-b", "a_b"), ("a-b", "a_b", "a-b"),
        ("end.", "end·", "end."), ("end.", "end.", "end."), ("it's", "it's", "it's"),
    ],
)  # fmt: skip
def test_marks_are_those_that_stand_at_their_height(drawn: str, read: str, told: str):
    assert settled([seen(drawn, read)], [[0]]) == [told]


@pytest.mark.parametrize(("drawn", "read"), [("so", "SO"), ("SO", "so"), ("So", "sO"), ("Ox", "oX"), ("vows", "VOWS")])
def test_where_a_word_has_none_its_line_tells(drawn: str, read: str):
    words = [seen(drawn, read), seen("the"), seen("mean")]
    assert settled(words, [[1, 0, 2]]) == [drawn, "the", "mean"]
    assert settled(words, [[0], [1, 2]])[0] == read  # of another line


def test_where_heights_tell_nothing_the_rest_of_the_word_does():
    def blind(read: str) -> Seen:
        return Seen(read, np.full((20, 60, 3), 255, np.uint8), np.linspace(0.1, 0.9, len(read)))

    read = ["ecOnOmy", "Croatia", "THRoNE", "SO", "Dogma", "x"]
    assert settled([blind(text) for text in read], [list(range(6))]) == ["economy", "Croatia", "THRONE", "SO", "Dogma", "x"]


def test_a_large_letter_inside_a_small_word_is_none_that_was_not_read():
    word = seen("gamOn")
    assert settled([word], [[0]]) == ["gamOn"]
    assert settled([Seen("gamon", word.crop, word.places)], [[0]]) == ["gamon"]


def test_noughts_go_with_digits_and_letters_with_letters():
    words = [seen("250,000", "250,0OO"), seen("zero", "zer0"), seen("tone", "t0ne"), seen("H2O"), seen("A0B"), seen("O2")]
    assert settled(words, [[i] for i in range(6)]) == ["250,000", "zer0", "tone", "H2O", "A0B", "O2"]


def test_what_may_not_come_out_does_not_and_words_without_places_stay():
    assert settled([seen("over", "OVer")], [[0]], charset="OVer") == ["OVer"]
    word = seen("over", "OVer")
    assert settled([Seen(word.text, word.crop, None)], [[0]]) == ["OVer"]
    assert settled([Seen("", word.crop, np.zeros(0))], [[0]]) == [""]


def test_letters_that_touch_and_those_of_two_pieces_have_no_height():
    word = seen("noon", spaced=2)
    assert not np.isnan(glyphs(word.crop, "noon", word.places).tops).any()
    word = seen("noon", spaced=-6)
    assert np.isnan(glyphs(word.crop, "noon", word.places).tops).sum() >= 2
    word = seen("ion")
    assert np.isnan(glyphs(word.crop, "ion", word.places).tops).tolist() == [True, False, False]
    blank = glyphs(np.full((20, 60, 3), 200, np.uint8), "ab", np.array([0.3, 0.6]))
    assert np.isnan(blank.heights).all()


def test_ink_of_the_lines_above_and_below_is_none_of_the_word():
    word = seen("over", "OVer")
    crop = word.crop.copy()
    crop[:6, 20:40] = 0
    crop[-4:, 50:80] = 0
    assert settled([Seen("OVer", crop, word.places)], [[0]]) == ["over"]


def test_a_word_is_shown_as_high_as_its_line():
    boxes = np.array([[0, 20, 60, 40], [70, 10, 130, 40], [140, 20, 200, 46], [2000, 0, 2060, 60], [0, 100, 60, 120]], float)
    shown = geometry.bounds(framed(geometry.of_boxes(boxes), [[0, 1, 2, 3], [4]]))
    tall = shown[:, 3] - shown[:, 1]
    assert shown[:3, [1, 3]].tolist() == [[10, 46]] * 3  # the far one is too far to tell
    assert tall.tolist()[3:] == [60, 20]
    assert (shown[:, [0, 2]] - boxes[:, [0, 2]]).tolist() == pytest.approx(np.outer(tall, [-0.03, 0.03]))
    huge = geometry.bounds(framed(geometry.of_boxes(np.array([[0, 100, 50, 110], [60, 0, 90, 200]], float)), [[0, 1]]))
    assert huge[0, 3] - huge[0, 1] < 25  # beside a large initial a word is not lost
    assert framed(np.zeros((0, 4, 2)), []).shape == (0, 4, 2)


def test_quotation_marks_stay_with_the_word_that_they_end():
    font = ImageFont.load_default(size=28)
    image = Image.new("L", (500, 60), 255)
    draw = ImageDraw.Draw(image)
    draw.text((10, 10), "said so.", fill=0, font=font)
    end = 10 + font.getlength("said so.")
    for x in (end, end + 5):  # beside H they stand at one height, beside o they do not
        draw.rectangle((x, 14, x + 2, 23), fill=0)
    draw.text((end + 20, 10), "He was there", fill=0, font=font)
    assert len(page_lines.words(np.asarray(image.convert("RGB")))) == 5


@pytest.mark.parametrize(
    ("drawn", "read", "told"),
    [
        ("well-read", "wellread", "well-read"), ("set-", "set", "set-"), ("end.", "end", "end."), ("then,", "then", "then,"), ("he's", "hes", "he’s"),
        ("men", "men", "men"), ("e.g", "eg", "eg"), ('"men"', '"men"', '"men"'), ("men..", "men", "men"), ("ni", "n", "n"), ("n=n", "nn", "nn"),
    ],
)  # fmt: skip
def test_plain_marks_that_were_not_read_are_put_in_on_clean_ground_alone(drawn: str, read: str, told: str):
    whole = seen(drawn)
    left, places = iter(read), []
    waiting = next(left, None)
    for character, place in zip(drawn, whole.places, strict=True):
        if character == waiting:
            places.append(place)
            waiting = next(left, None)
    word = Seen(read, whole.crop, np.array(places))
    assert settled([word], [[0]], clean=True) == [told]
    assert settled([word], [[0]]) == [read]
    assert settled([word], [[0]], charset="abcdefghijklmnopqrstuvwxyz", clean=True) == [read]


@pytest.mark.parametrize("late", [-0.08, 0.0, 0.08])
def test_a_recogniser_may_be_a_little_early_or_late(late: float):
    word = seen("liftoff", "liftOff")
    assert settled([Seen("liftOff", word.crop, word.places + late * word.crop.shape[0] / word.crop.shape[1])], [[0]]) == ["liftoff"]


@pytest.mark.parametrize(("charset", "told"), [(None, "over lazy dog"), ("letters", "OVer lazy dog")])
def test_pages_are_settled_unless_it_was_said_what_may_come_out(vocabulary, monkeypatch, tmp_path, charset: str | None, told: str):
    plain = vocabulary.read

    def read(*args: object) -> Text:
        found = plain(*args)
        return Text({"over": "OVer"}.get(found.text, found.text), found.score, places=(np.arange(len(found.text)) + 0.5) / len(found.text))

    monkeypatch.setattr(vocabulary, "read", read)
    Image.fromarray(page([(40, 40, "over lazy dog")], size=40)).save(tmp_path / "page.png")
    (record,) = ocr.ocr(inputs.read([tmp_path / "page.png"]), charset=charset)
    assert record["text"].strip() == told
    assert [word["text"] for word in record["annotations"]] == told.split()
