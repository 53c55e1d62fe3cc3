"""Text-block FCN: VGG-16's five stages side by side, lines of stable regions in what stands out, false ones put out by characters' middles."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from cvtool import weights
from cvtool.categories import numbered
from cvtool.models.ocr import textblock_fcn
from cvtool.ops import quads as shapes
from cvtool.results import Quads

SIDE = 128


def turned(text, degrees, size=25, ink=20, paper=225):
    """A picture of one line, turned about its middle, and the line's corners."""
    font, half = ImageFont.load_default(size), SIDE // 2
    x0, y0, x1, y1 = font.getbbox(text)
    image = Image.new("L", (2 * SIDE, 2 * SIDE), paper)
    ImageDraw.Draw(image).text((SIDE - (x0 + x1) / 2, SIDE - (y0 + y1) / 2), text, font=font, fill=ink)
    image = image.rotate(-degrees, Image.Resampling.BICUBIC, fillcolor=paper).crop((half, half, half + SIDE, half + SIDE))
    corners = np.array([[x0 - x1, y0 - y1], [x1 - x0, y0 - y1], [x1 - x0, y1 - y0], [x0 - x1, y1 - y0]]) / 2
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.stack([np.asarray(image)] * 3, 2), corners @ np.array([[c, s], [-s, c]]) + half


@pytest.fixture(scope="module")
def trained():
    """The tiny network after some steps on a few turned lines."""
    torch.manual_seed(0)
    model = weights.build("textblock-fcn.tiny", categories=numbered(1))
    words = {"Rotated": -40, "Lines": -20, "Hello": 0, "World42": 20, "Blocks": 45}
    made = [turned(word, degrees) for word, degrees in words.items()]
    truth = [Quads(torch.tensor(corners[None], dtype=torch.float32), texts=(word,)) for (_, corners), word in zip(made, words, strict=True)]
    batch = model.prepare([pixels for pixels, _ in made], truth)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        sum(model.losses(batch).values()).backward()
        optimizer.step()
    return model.eval()


@pytest.mark.system("textblock-fcn")
@pytest.mark.parametrize(("text", "degrees"), [("Unseen", 30), ("Others", -30), ("Straight", 10)])
def test_it_finds_a_turned_line(trained, text, degrees):
    pixels, corners = turned(text, degrees)
    with torch.inference_mode():
        found = trained.predict(trained.prepare([pixels]))[0].numpy()
    assert len(found) >= 1
    assert shapes.iou(found.quads[:1], corners[None])[0] > 0.6
    assert math.degrees(float(shapes.angles(found.quads[0]))) == pytest.approx(degrees, abs=6)


@pytest.mark.system("textblock-fcn")
def test_without_middles_of_characters_a_candidate_goes():
    pixels, corners = turned("Unseen", 30)
    rows, columns = np.ogrid[:SIDE, :SIDE]
    block = np.ones((SIDE, SIDE), bool)
    for k in range(4):
        (ax, ay), (bx, by) = corners[k], corners[(k + 1) % 4]
        block &= (bx - ax) * (rows - ay) - (by - ay) * (columns - ax) >= -80
    salient, middles = 0.95 * block, textblock_fcn.middles_map([(corners, 6)], SIDE, SIDE)
    grey = pixels[..., 0]
    assert len(textblock_fcn.candidates(grey, salient > 0.2)) >= 1
    kept, scores = textblock_fcn.read_lines(grey, salient, 0.9 * middles)
    assert len(kept) == 1
    assert shapes.iou(kept, corners[None])[0] > 0.7
    assert scores[0] == pytest.approx(math.sqrt(0.95 * 0.9), abs=0.06)
    assert len(textblock_fcn.read_lines(grey, salient, 0.0 * middles)[0]) == 0  # nothing there is a character
    left, right, down = (corners[0] + corners[3]) / 2, (corners[1] + corners[2]) / 2, (corners[3] - corners[0]) / 2
    astray = [left + (i + 0.5) / 6 * (right - left) + 0.7 * down * (-1) ** i for i in range(6)]
    small = np.array([[-8.0, -8], [8, -8], [8, 8], [-8, 8]])
    zigzag = textblock_fcn.middles_map([(small + place, 1) for place in astray], SIDE, SIDE)
    assert len(textblock_fcn.read_lines(grey, salient, 0.9 * zigzag)[0]) == 0  # characters that are in no row


@pytest.mark.system("textblock-fcn")
def test_the_saliency_is_vgg_16_with_five_sides_concatenated():
    base = weights.build("textblock-fcn", categories=numbered(1))
    convolutions = [m for m in base.block.stages.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert sum(p.numel() for p in base.block.stages.parameters()) == 14_714_688  # of VGG-16 without its full layers
    assert len(base.centroid.stages) == 3
    for side in base.block.sides:
        assert side.kernel_size == (1, 1)
    model = weights.build("textblock-fcn.tiny", categories=numbered(1)).eval()
    images, x, sides = torch.randn(2, 3, 48, 64), None, []
    for stage, side in zip(model.block.stages, model.block.sides, strict=True):
        x = stage(images if x is None else x)
        sides.append(F.interpolate(side(x), size=(48, 64), mode="bilinear", align_corners=False))
    literal = model.block.fuse(torch.cat(sides, 1))[:, 0]  # as the paper has it
    torch.testing.assert_close(model.block(images), literal, atol=1e-5, rtol=1e-4)


def test_what_is_learned_are_whole_regions_and_equal_parts():
    model = weights.build("textblock-fcn.tiny", categories=numbered(1))
    corners = torch.tensor([[[10.0, 10], [70, 10], [70, 30], [10, 30]], [[10, 40], [50, 40], [50, 60], [10, 60]]])
    target = Quads(corners, texts=("abc", "###"), spared=torch.tensor([False, True]))
    text, middles, counted = model.truths(model.prepare([np.zeros((64, 80, 3), np.uint8)], [target]))[0]
    assert text.sum() == 60 * 20
    assert text[10:30, 10:70].all()
    assert not counted[40:60, 10:50].any()
    assert counted.sum() == counted.size - 40 * 20
    assert all(middles[20, x] for x in (20, 40, 60))
    assert not middles[:, [30, 50]].any()
    assert not middles[36:].any()
    assert textblock_fcn.supposed(corners[0].numpy()) == 5


def test_a_line_within_a_larger_one_is_left_out():
    large, small = np.array([[0.0, 0], [100, 0], [100, 30], [0, 30]]), np.array([[10.0, 10], [60, 10], [60, 20], [10, 20]])
    beside = small + np.array([0, 25])
    assert [line.tolist() for line in textblock_fcn.outermost([small, large, beside])] == [large.tolist(), beside.tolist()]
