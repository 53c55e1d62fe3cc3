"""What was read, drawn: words outlined, and the page set anew beside the picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cvtool.render import reading, scene


def entry(x: float, y: float, w: float, h: float, text: str, score: float = 1.0) -> dict:
    ring = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {"bbox": [x, y, w, h], "segmentation": [ring], "text": text, "score": score, "category": "text", "category_id": 1}


WORDS = [entry(20 + 120 * (i % 3), 20 + 50 * (i // 3), 100, 30, f"word{i}") for i in range(12)]
PAGE = Image.new("RGB", (400, 260), "white")


def ink(image: Image.Image, box: list[float], left: int = 0) -> float:
    x, y, w, h = box
    part = np.asarray(image.convert("L"), int)[int(y + 3) : int(y + h - 3), int(left + x + 3) : int(left + x + w - 3)]
    return float((part < 128).mean())


def test_each_word_stands_beside_the_picture_where_it_stands_in_it():
    drawn = scene.draw(PAGE, WORDS, scale=1)
    assert drawn.height == 260
    left = drawn.width - 400
    assert left >= 400
    for word in WORDS:
        assert ink(drawn, word["bbox"], left) > 0.05
        assert ink(drawn, word["bbox"]) == 0  # the picture's own words are not covered
    assert ink(drawn, [10, 220, 380, 30], left) == 0
    outlined = np.asarray(drawn.crop((0, 0, 400, 260)), int)
    assert (outlined[20, 20:120] != 255).any(-1).mean() > 0.9


def test_few_words_have_tags_instead():
    assert not reading.is_reading(WORDS[:5])
    assert scene.draw(PAGE, WORDS[:5], scale=1).width == 400
    assert not reading.is_reading([*WORDS, {"bbox": [0, 0, 5, 5]}])
    assert scene.draw(PAGE, WORDS, scale=1, names=False).width == 400


def test_doubt_is_red_and_slanted_words_are_slanted():
    unsure = [*WORDS[:-1], entry(260, 170, 100, 30, "doubt", 0.3)]
    pixels = np.asarray(scene.draw(PAGE, unsure, scale=1), int)[:, -400:]
    here = pixels[173:197, 263:357].reshape(-1, 3)
    assert ((here[:, 0] - here[:, 1]) > 100).mean() > 0.05
    sure = pixels[23:47, 23:117].reshape(-1, 3)
    assert (np.abs(sure[:, 0] - sure[:, 1]) < 40).all()
    up = entry(0, 0, 1, 1, "MMMM")
    up["segmentation"] = [[200, 200, 200, 60, 230, 60, 230, 200]]  # read upwards
    up["bbox"] = [200, 60, 30, 140]
    drawn = reading.draw(PAGE, [up], 1.0)
    rows, columns = np.nonzero(np.asarray(drawn.convert("L"), int)[:, -400:] < 100)
    assert np.ptp(rows) > 2 * np.ptp(columns)
