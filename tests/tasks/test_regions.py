"""Regions of text: through windows, long ones cut into words, slanted and upright ones read where they stand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_text import page, paragraph, vocabulary
from PIL import Image

from cvtool import registry, weights
from cvtool.batch import Prepare
from cvtool.data import inputs
from cvtool.errors import UsageError
from cvtool.ops import quads as geometry
from cvtool.results import Quads
from cvtool.runtime.pool import Loaded
from cvtool.tasks import ocr
from cvtool.tasks._predictor import Settings
from cvtool.tasks.reading.regions import Finder, words

__all__ = ["vocabulary"]  # a fixture


def quiet(text: str) -> None:
    return None


def finder(name: str, **settings) -> Finder:
    reference = registry.parse(name)
    model, info = weights.load(reference)
    return Finder(Loaded(model, info, reference, torch.device("cpu"), "fp32"), Settings(**settings), quiet)


class Lines(torch.nn.Module):
    """Finds whole lines: what is dark in each strip of 36 pixels."""

    result = Quads
    prepare = Prepare(resize=None, mean=(0.0,) * 3, std=(1.0,) * 3)

    def predict(self, batch, *, conf=None):
        found = []
        for image in batch.images:
            boxes = []
            for top in range(0, image.shape[1] - 35, 36):
                dark = (image[0, top : top + 36] < 0.5).nonzero()
                if len(dark):
                    y, x = dark.T
                    boxes.append([int(x.min()) - 2, top + int(y.min()) - 2, int(x.max()) + 3, top + int(y.max()) + 3])
            quads = torch.from_numpy(geometry.of_boxes(np.array(boxes, float).reshape(-1, 4))).float()
            found.append(Quads(quads, torch.ones(len(quads))))
        return found


def test_words_through_windows_are_found_once_and_whole():
    pixels = page(paragraph(60, 60, 8, words=5), width=700, height=420)
    whole = np.asarray(finder("page-lines")(pixels).quads)
    tiled = np.asarray(finder("page-lines", tile=300, overlap=0.5)(pixels).quads)
    assert len(whole) == 40
    for quad in geometry.bounds(whole):
        distance = np.abs(geometry.bounds(tiled) - quad).max(1)
        assert distance.min() < 5, quad
    assert len(tiled) == len(whole)


def test_long_regions_are_cut_into_words_and_short_ones_are_not():
    pixels = page([(40, 40, "The quick brown fox"), (40, 100, "lazy")])
    lines = geometry.of_boxes(np.array([[38, 42, 280, 70], [38, 102, 92, 130]]))
    found, owners = words(pixels, lines, finder("page-lines"))
    assert owners.tolist() == [0, 0, 0, 0, 1]
    assert geometry.bounds(found)[:4, 1] == pytest.approx(42)
    assert geometry.bounds(found)[:4, 3] == pytest.approx(70)
    assert found[4] == pytest.approx(lines[1])
    same, _ = words(pixels, lines, None)
    assert same == pytest.approx(lines)
    none, _ = words(pixels, lines[:0], None)
    assert none.shape == (0, 4, 2)


def test_a_detector_of_lines_and_a_recogniser_of_words(vocabulary, tmp_path, monkeypatch):
    lines = paragraph(60, 36, 4)
    Image.fromarray(page(lines)).save(tmp_path / "a.png")
    lease = ocr.pool.lease

    def leased(reference, **more):
        if reference.name != "east":
            return lease(reference, **more)
        from contextlib import nullcontext

        return nullcontext(Loaded(Lines().eval(), weights.Info(), reference, torch.device("cpu"), "fp32"))

    monkeypatch.setattr(ocr.pool, "lease", leased)
    (record,) = ocr.ocr(inputs.read([tmp_path / "a.png"]), detector="east.tiny@none")
    assert record["text"].split("\n") == [text for _, _, text in lines]
    assert record["made_by"][0]["detector"] == "east.tiny@none"


@pytest.mark.parametrize("name", ["east.tiny@none", "textblock-fcn.tiny@none"])
def test_the_detectors_there_are(vocabulary, tmp_path, name):
    Image.fromarray(page(paragraph(60, 36, 3), width=320, height=160)).save(tmp_path / "a.png")
    for tile in (None, 128):
        (record,) = ocr.ocr(inputs.read([tmp_path / "a.png"]), detector=name, tile=tile)
        assert "error" not in record
        assert isinstance(record["text"], str)


def test_what_finds_no_text_is_refused():
    with pytest.raises(UsageError, match="finds no text"):
        finder("crnn.tiny@none")
