"""Text as truth: strings and regions through data set, loader, augmentation, batch, validation and records."""

import numpy as np
import pytest
import torch

from cvtool import charsets
from cvtool.batch import Prepare
from cvtool.data import augment
from cvtool.data.dataset import Dataset, quads_of
from cvtool.data.lengths import ByLength, sampler
from cvtool.errors import InputError, UsageError
from cvtool.records import Record, add_result
from cvtool.results import Quads, Text

RNG = np.random.default_rng(0)
QUAD = [10.0, 20.0, 50.0, 24.0, 49.0, 36.0, 9.0, 32.0]


def words(*texts):
    return [Record(file_name=f"{i}.png", text=text) for i, text in enumerate(texts)]


def regions(*annotations):
    return Record(file_name="a.png", width=100, height=80, annotations=list(annotations))


def test_named_sets_hold_what_they_say():
    assert len(charsets.charset("printable")) == 94
    assert set(charsets.charset("latin")) >= set(charsets.charset("printable")) | set("äöüßéèçñÅŒ€—“")
    assert charsets.charset("Alnum") == "0123456789abcdefghijklmnopqrstuvwxyz"
    assert charsets.charset("abca") == "abc"
    assert charsets.outside(["abé", "éé"], "ab") == {"é": 3}


@pytest.mark.parametrize(("typed", "said"), [("latim", "did you mean"), ("", "at least"), ("abשלום", "right to left")])
def test_a_set_that_cannot_be(typed, said):
    with pytest.raises(UsageError) as error:
        charsets.charset(typed)
    assert said in f"{error.value.what} {error.value.hint}"


def test_a_letter_and_its_accent_are_one_character():
    data = Dataset(words("cafe\u0301"), [], needs=("text",))
    assert data.target(data.records[0], 32, 100) == Text("café")


def test_a_picture_without_text_is_said():
    data = Dataset([Record(file_name="x.png")], [], needs=("text",))
    with pytest.raises(InputError, match="no text"):
        data.target(data.records[0], 32, 100)


def test_regions_keep_their_corners_and_those_that_need_not_be_found_are_marked():
    found = quads_of(regions({"segmentation": [QUAD], "text": "one"}, {"bbox": [1, 2, 10, 4], "text": "###"}, {"bbox": [0, 0, 5, 5], "iscrowd": 1}))
    assert found.quads[0].tolist() == np.reshape(QUAD, (4, 2)).tolist()
    assert found.quads[1].tolist() == [[1, 2], [11, 2], [11, 6], [1, 6]]
    assert found.texts == ("one", "###", None)
    assert found.spared.tolist() == [False, True, True]
    assert found[torch.tensor([True, False, True])].texts == ("one", None)
    assert found[1:].texts == ("###", None)


def test_lines_keep_their_proportions_and_long_ones_are_squeezed():
    prepare = Prepare(resize="height", size=32, max_size=128, multiple_of=32)
    batch = prepare([np.zeros((16, 40, 3), np.uint8), np.zeros((64, 900, 3), np.uint8), np.zeros((5, 1, 3), np.uint8)])
    assert [(place.inner_height, place.inner_width) for place in batch.places] == [(32, 80), (32, 128), (32, 6)]
    assert batch.images.shape == (3, 3, 32, 128)


def test_regions_go_into_the_batch_and_back():
    quads = quads_of(regions({"segmentation": [QUAD]}))
    batch = Prepare(resize="longest", size=200, multiple_of=32)([np.zeros((80, 100, 3), np.uint8)], [quads])
    torch.testing.assert_close(batch.targets[0].quads, quads.quads * 2)
    torch.testing.assert_close(batch.places[0].points_back(batch.targets[0].quads), quads.quads)


@pytest.mark.parametrize("name", ["flip:1", "vflip:1", "rotate:20", "shift:8", "scale:2,1", "shear:0.2", "crop:0.9,1", "scale-crop-flip:0.8,1.2"])
def test_regions_move_with_their_pixels(name):
    """The corners of a light quad on black stay around the light pixels, clockwise."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (160, 120))
    corners = np.float32([[60, 50], [100, 54], [98, 74], [58, 70]])
    ImageDraw.Draw(picture).polygon([tuple(p) for p in corners.tolist()], fill=(255, 255, 255))
    target = Quads(torch.from_numpy(corners)[None], texts=("x",), spared=torch.zeros(1, dtype=torch.bool))
    pixels, moved = augment.pipeline(name)(np.asarray(picture), target, np.random.default_rng(3))
    light = np.argwhere(pixels[..., 0] > 200)
    assert len(moved) == 1
    quad = moved.quads[0].numpy()
    np.testing.assert_allclose(quad.min(0), light.min(0)[::-1], atol=3)
    np.testing.assert_allclose(quad.max(0), light.max(0)[::-1] + 1, atol=3)
    x, y = quad.T
    assert (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() > 0, "clockwise, y down"


def test_a_region_cut_by_a_window_need_not_be_found_and_one_outside_is_gone():
    quads = quads_of(regions({"bbox": [10, 10, 20, 10]}, {"bbox": [45, 10, 20, 10]}, {"bbox": [70, 10, 20, 10]}))
    _, kept = augment.geometry.window(np.zeros((80, 100, 3), np.uint8), quads, 0, 0, 50, 80)
    assert kept.spared.tolist() == [False, True]
    assert kept.texts == (None, None)


def test_texts_of_one_length_come_together_and_every_picture_once():
    lengths = RNG.integers(1, 20, 1003)
    order = ByLength(lengths, 10, seed=1)
    first, second = order(0), order(1)
    assert sorted(first.tolist()) == list(range(1003))
    assert first.tolist() != second.tolist()
    assert order(0).tolist() == first.tolist()
    spread = np.ptp(lengths[first[:1000]].reshape(-1, 10), axis=1).mean()
    assert spread < 1.5
    assert np.ptp(RNG.permutation(lengths)[:1000].reshape(-1, 10), axis=1).mean() > 10
    assert sampler(Dataset(words("a"), [], needs=("text",)), Prepare(resize="stretch", size=32), {"overfit": 0}) is None


def test_records_of_what_was_read():
    record = Record(file_name="a.png")
    assert add_result(record, Text("hi", 0.75), [])["text"] == "hi"
    quads = Quads(np.float32([QUAD]).reshape(1, 4, 2), scores=np.float32([0.5]), texts=("Hi",))
    only = add_result(record, quads, [])["annotations"][0]
    assert only["segmentation"] == [QUAD]
    assert only["bbox"] == [9, 20, 41, 16]
    assert (only["text"], only["category"], only["category_id"], only["score"]) == ("Hi", "text", 1, 0.5)
    assert only["area"] == pytest.approx(484)
