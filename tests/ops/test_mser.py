"""Stable regions: those of a plain sweep over all thresholds; in clean print each letter is one."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from cvtool.errors import UsageError
from cvtool.ops.mser import mser
from cvtool.render import figures


def rendered(text, size, ink=0, paper=255):
    """A word in Pillow's own font, smooth-edged, and the box of each letter's ink."""
    font = ImageFont.load_default(size)
    image = np.full((2 * size, size * len(text)), paper, np.uint8)
    boxes, x = [], size // 2
    for letter in text:
        alone = Image.new("L", image.shape[::-1], paper)
        pen = ImageDraw.Draw(alone)
        pen.text((x, size // 3), letter, font=font, fill=ink)
        image = np.minimum(image, np.asarray(alone))
        rows, columns = np.nonzero(np.asarray(alone) < (ink + paper) / 2)
        boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        x += round(pen.textlength(letter, font=font)) + 3
    return image, np.array(boxes)


def every(regions):
    """Polarity and pixels of each region, in an order of their own."""
    out = []
    for dark, (x0, y0, x1, y1), mask in zip(regions.dark, regions.boxes, regions.masks(), strict=True):
        full = np.zeros(regions.image.shape, bool)
        full[y0:y1, x0:x1] = mask
        out.append((bool(dark), full.tobytes()))
    return sorted(out)


@pytest.mark.system("mser")
@pytest.mark.parametrize(("text", "size"), [("Hamburger", 56), ("STABLE", 48), ("RegnxZ08", 64)])
def test_each_letter_of_a_clean_word_is_one_region(text, size):
    image, boxes = rendered(text, size)
    found = mser(image)
    letters, inner = found[found.dark], found[~found.dark]
    assert len(letters) == len(text)
    order = letters.boxes[:, 0].argsort()
    assert np.abs(letters.boxes[order] - boxes).max() <= 2  # smooth edges are grey
    enclosed = np.bincount(ndimage.label(image > 127)[0].ravel())[2:]  # by letters such as a, b, R; the paper is larger than a region may be
    assert len(inner) == (enclosed >= 20).sum() > 0
    for region in letters.masks():
        assert ndimage.label(region)[1] == 1


@pytest.mark.system("mser")
@pytest.mark.parametrize("noise", [0, 12])
def test_an_inverted_picture_has_the_same_regions_of_the_other_polarity(noise):
    image, _ = rendered("Stable", 32, ink=40, paper=200)
    image = np.clip(image + np.random.default_rng(0).normal(0, noise, image.shape), 0, 255).astype(np.uint8)
    one, other = mser(image), mser(255 - image)
    assert one.dark.any()
    assert (~one.dark).any()
    assert every(other) == sorted((not dark, pixels) for dark, pixels in every(one))
    for polarity in ("dark", "bright"):
        alone = mser(image, polarity=polarity)
        assert every(alone) == every(one[one.dark == (polarity == "dark")])


@pytest.mark.parametrize("seed", range(4))
def test_the_tree_is_that_of_a_plain_sweep(seed):
    """Every region that is reported is a connected part at its level, and grows as much as labelling anew `delta` levels on says."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.normal(0, 1, (40, 50)), 1.5)
    image = ((image - image.min()) / np.ptp(image) * 255).astype(np.uint8)
    found = mser(image, delta=9, min_area=5, max_area=0.5, max_growth=2.0, min_diversity=0.2)
    assert len(found) > 10
    for i, mask in enumerate(found.masks()):
        dark, level, (x0, y0, x1, y1) = found.dark[i], int(found.levels[i]), found.boxes[i]
        row, column = divmod(int(found.seeds[i]), 50)

        def part(t, *, dark=dark, row=row, column=column):
            labels, _ = ndimage.label(image <= t if dark else image >= t)
            return labels == labels[row, column]

        own = part(level)
        assert np.array_equal(own[y0:y1, x0:x1], mask)
        assert own.sum() == mask.sum() == found.areas[i]
        onward = level + 9 if dark else level - 9
        assert found.growth[i] == pytest.approx(part(onward).sum() / own.sum() - 1)
        before = level - 1 if dark else level + 1
        assert image[row, column] == level or part(before).sum() < own.sum()  # the level is the first at which it is that large


def test_nested_regions_differ_by_what_was_asked():
    image = np.full((60, 60), 250, np.uint8)
    for i, level in enumerate((200, 150, 100, 50)):  # a target: discs one within another
        y, x = np.ogrid[:60, :60]
        image[(y - 30) ** 2 + (x - 30) ** 2 <= (24 - 5 * i) ** 2] = level
    many = mser(image, min_diversity=0.2, max_area=0.9, polarity="dark")
    assert sorted(many.levels.tolist()) == [50, 100, 150, 200]
    few = mser(image, min_diversity=0.7, max_area=0.9, polarity="dark")
    assert len(few) == 2
    ratio = few.areas.min() / few.areas.max()
    assert ratio <= 0.3


def test_coarse_thresholds_find_the_same_letters():
    image, boxes = rendered("STABLE", 40)
    found = mser(image, step=8, polarity="dark")
    assert np.abs(found.boxes[found.boxes[:, 0].argsort()] - boxes).max() <= 2


def test_flat_and_tiny_pictures_have_none():
    assert len(mser(np.full((30, 30), 7, np.uint8))) == 0
    assert len(mser(np.zeros((1, 1), np.uint8))) == 0


@pytest.mark.parametrize("wrong", [{"delta": 0}, {"max_area": 0.0}, {"min_diversity": 1.0}, {"step": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"delta|max_area"):
        mser(np.zeros((5, 5), np.uint8), **wrong)


@pytest.mark.system("mser")
def test_the_figure_shows_both_polarities():
    image, _ = rendered("STABLE", 40)
    options = {"delta": 5, "growth": "0.25", "min_area": 30, "diversity": "0.9", "polarity": "both"}
    both = np.asarray(figures.draw("mser", np.stack([image] * 3, 2), options))
    one = np.asarray(figures.draw("mser", np.stack([image] * 3, 2), options | {"polarity": "dark"}))
    assert both.shape[1] > 1.7 * one.shape[1]
    vivid = np.ptp(one.astype(int), axis=2) > 60  # letters are coloured, paper is not
    assert vivid.sum() > 0.8 * (image < 128).sum()
    for wrong in ({"polarity": "grey"}, {"growth": "2"}, {"diversity": "x"}, {"delta": 0}):
        with pytest.raises(UsageError):
            figures.draw("mser", np.stack([image] * 3, 2), options | wrong)
