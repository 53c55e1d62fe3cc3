"""Page lines: words by the spacing of the ink, on real scans and on drawn pages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_text import page, paragraph
from PIL import Image, ImageDraw, ImageFont

from cvtool import images, registry, weights
from cvtool.models.ocr import page_lines
from cvtool.tasks.reading.order import arranged

SCANS = "ocr_pages_tesseract"


def lines_of(boxes: np.ndarray) -> list[int]:
    """How many words the lines have, from the top."""
    quads = np.stack([boxes[:, [0, 1]], boxes[:, [2, 1]], boxes[:, [2, 3]], boxes[:, [0, 3]]], 1)
    return [len(line) for block in arranged(quads) for line in block]


@pytest.mark.parametrize(("dark", "size"), [(True, 24), (False, 24), (True, 12), (True, 60)])
def test_words_of_a_drawn_page(dark, size):
    lines = paragraph(2 * size, size, 5, step=int(1.6 * size))
    pixels = page(lines, width=25 * size, height=12 * size, size=size, dark=dark)
    boxes = page_lines.words(pixels)
    assert lines_of(boxes) == [4] * 5
    font = ImageFont.load_default(size=size)
    true = []
    for x, y, text in lines:
        for word in text.split():
            before = text[: text.index(word)]
            left, top, right, bottom = font.getbbox(word)
            start = x + font.getlength(before)
            true.append([start + left, y + top, start + right, y + bottom])
    for found, box in zip(boxes, np.array(true), strict=True):  # the ink with a margin
        assert (found[:2] <= box[:2] + 1.5).all()
        assert (found[2:] >= box[2:] - 1.5).all()
        assert (np.abs(found - box) <= 2 + 0.3 * size).all()


def test_marks_stay_with_their_words_and_wide_letters_together():
    pixels = page([(20, 20, "don't ask: who's “in” it? (yes) i-j"), (20, 70, "W I D E   T E X T   H E R E")], height=120)
    assert lines_of(page_lines.words(pixels)) == [7, 3]


def test_pictures_rules_and_dirt_are_no_text():
    image = Image.fromarray(page(paragraph(40, 40, 4)))
    draw = ImageDraw.Draw(image)
    draw.rectangle((40, 220, 500, 420), fill=(60, 60, 60))
    for i in range(6):
        draw.ellipse((80 + 60 * i, 260, 100 + 60 * i, 290), fill="white")
    draw.line((30, 200, 600, 200), fill="black", width=2)
    chance = np.random.default_rng(0)
    for x, y in chance.integers(0, 460, (60, 2)).tolist():
        draw.point((x + 100, y), fill="black")
    assert lines_of(page_lines.words(np.asarray(image))) == [4] * 4


def test_a_blank_page_and_tiny_ones_have_no_words():
    for shape in ((480, 640, 3), (5, 5, 3), (1, 1, 3), (3, 900, 3)):
        assert page_lines.words(np.full(shape, 255, np.uint8)).shape == (0, 4)
        assert page_lines.words(np.zeros(shape, np.uint8)).shape == (0, 4)


def test_as_a_model():
    model, _ = weights.load(registry.parse("page-lines"))
    pictures = [page(paragraph(40, 40, 2)), page(paragraph(30, 60, 3), width=400, height=300)]
    together = model.predict(model.prepare(pictures))
    for picture, found in zip(pictures, together, strict=True):
        (alone,) = model.predict(model.prepare([picture]))
        assert torch.equal(alone.quads, found.quads)
        assert found.quads[:, 0].numpy() == pytest.approx(page_lines.words(picture)[:, :2], abs=1e-3)
    (few,) = model.predict(model.prepare(pictures[:1]), max_det=3)
    assert len(few) == 3


@pytest.mark.parametrize("name", ["phototest", "eurotext"])
def test_words_of_scans(data, name):
    found = page_lines.words(images.decode(data / SCANS / f"{name}.tif"))
    text = (data / SCANS / f"{name}.txt").read_text()
    assert lines_of(found) == [len(line.split()) for line in text.splitlines() if line]


def test_a_newspaper_page_has_its_lines_and_columns(data):
    boxes = page_lines.words(images.decode(data / SCANS / "8087_054.3B.tif"))
    text = (data / SCANS / "8087_054.3B.txt").read_text()
    assert len(boxes) == pytest.approx(len(text.split()), rel=0.03)
