"""Classic OCR: printed lines by the shapes of their characters, with nothing learned."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from cvtool import weights
from cvtool.errors import UsageError
from cvtool.metrics import cer
from cvtool.ops import glyphs
from cvtool.results import Text

LINES = [
    "The quick brown fox jumps over the lazy dog.", "PACK MY BOX WITH FIVE DOZEN JUGS", "Order 4711: 12 tins, 3.50 each (paid)",
    "we saw zoom across a cove once more", "0123456789 and then 9876543210",
]  # fmt: skip


def built(variant="base", **changes):
    return weights.build(f"classic-ocr.{variant}", categories=[], **changes)


def printed(text, size=40, *, ink=20, paper=240, noise=0.0, spacing=0):
    font = ImageFont.load_default(size)
    advance = [font.getlength(c) + spacing for c in text]
    ascent, descent = font.getmetrics()
    picture = Image.new("L", (int(sum(advance)) + 16, ascent + descent + 16), paper)
    pen = ImageDraw.Draw(picture)
    if spacing:
        for i, c in enumerate(text):
            pen.text((8 + sum(advance[:i]), 8), c, fill=ink, font=font)
    else:
        pen.text((8, 8), text, fill=ink, font=font)
    noisy = np.asarray(picture, np.float32) + np.random.default_rng(0).normal(0, noise, picture.size[::-1])
    return np.repeat(noisy.clip(0, 255).astype(np.uint8)[..., None], 3, 2)


def errors(model, pictures, texts):
    said = [answer.text for answer in model.predict(model.prepare(pictures))]
    rate = cer.of_texts(texts, said)
    return float(rate.above.sum() / rate.below.sum())


@pytest.mark.system("classic-ocr")
@pytest.mark.parametrize(
    "look", [{}, {"size": 28}, {"size": 72, "noise": 12.0}, {"ink": 230, "paper": 30}, {"ink": 150, "paper": 200}],
    ids=["plain", "small", "noisy", "light on dark", "faded"],
)  # fmt: skip
def test_a_clean_printed_line_is_read_to_more_than_95_of_100_characters(look):
    model = built(fonts="pillow")
    assert errors(model, [printed(text, **look) for text in LINES], LINES) < 0.05


@pytest.mark.system("classic-ocr")
def test_no_network_is_needed():
    model = built("tiny")
    assert not list(model.parameters())
    assert not any(value.numel() for value in model.state_dict().values())
    answer = model.predict(model.prepare([printed("hello world")]))[0]
    assert answer.text == "hello world"
    assert answer.characters.shape == (11,)
    assert 0 < answer.score <= 1


@pytest.mark.system("classic-ocr")
def test_a_line_is_cut_into_its_characters():
    """Dots go with what they stand over, letters that touch are parted."""
    found = glyphs.line_of(printed("jiä:", 60))
    assert len(found) == 4
    assert all(a.right < b.left for a, b in pairwise(found))
    model = built(fonts="pillow", charset="ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    for word, pieces in (("BREAD", 4), ("ROBOT", 3), ("COLD", 3)):
        touching = printed(word, 48, spacing=-4)
        assert len(glyphs.line_of(touching)) == pieces
        assert model.predict(model.prepare([touching]))[0].text == word


def test_spaced_out_letters_are_one_word():
    model = built(fonts="pillow")
    assert model.predict(model.prepare([printed("OPEN", 40, spacing=14)]))[0].text == "OPEN"


def test_an_empty_picture_has_no_text():
    model = built("tiny")
    answers = model.predict(model.prepare([np.full((20, 60, 3), c, np.uint8) for c in (0, 128, 255)]))
    assert [answer.text for answer in answers] == [""] * 3


def test_charset_narrows_what_comes_out():
    model = built(fonts="pillow")
    batch = model.prepare([printed("BOIS 10")])
    assert set(model.predict(batch, charset="digits")[0].text) <= set("0123456789 ")


def test_shapes_are_learned_from_labelled_lines_and_saved(tmp_path):
    """Print in which every letter stands on its head is unknown at first."""

    def upturned(text):  # each letter turned where it stands
        pixels = printed(text, 44, spacing=6)
        for glyph in glyphs.line_of(pixels):
            part = pixels[glyph.top : glyph.bottom, glyph.left - 1 : glyph.right + 1]
            part[:] = part[::-1].copy()
        return pixels

    model = built(charset="letters", fonts="pillow")
    texts = ["vague", "funky", "habit", "model", "crypt", "swizzle", "quartz", "jerk", "fax"]
    before = errors(model, [upturned(text) for text in texts], texts)
    model.fit([SimpleNamespace(pixels=upturned(text), target=Text(text)) for text in texts])
    after = errors(model, [upturned(text) for text in texts], texts)
    assert before > 0.4
    assert after < 0.1
    info = weights.Info(reference="classic-ocr.base", arguments={"charset": "letters", "fonts": "pillow"}, categories=[{"id": 1, "name": "text"}],
                        prepare=model.prepare)  # fmt: skip
    loaded, _ = weights.load(str(weights.save(model, tmp_path / "m.safetensors", info)))
    assert torch.equal(loaded.rows, model.rows)
    assert errors(loaded, [upturned(text) for text in texts], texts) == after
    with pytest.warns(UserWarning, match="nothing was learned"):
        model.fit([SimpleNamespace(pixels=upturned("vague"), target=Text("other text"))])


def test_fonts_that_are_not_there_are_named():
    with pytest.raises(UsageError, match=r"no such font: nowhere\.ttf"):
        built(fonts="pillow,nowhere.ttf")
