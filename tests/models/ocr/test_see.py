"""SEE: grids that are regions and samplers at once, led by nothing but what the picture says."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from cvtool import weights
from cvtool.categories import numbered
from cvtool.data.dataset import Dataset
from cvtool.errors import UsageError
from cvtool.models.ocr import see
from cvtool.records import Record, write_line
from cvtool.results import Quads, Text
from cvtool.tasks._sets import needs_of
from cvtool.tasks.train import train


def two_words(seed):
    """A picture of two numbers at changing places, and its text."""
    rng, font = np.random.default_rng(seed), ImageFont.load_default(18)
    words = ["".join(rng.choice(list("0123456789"), int(rng.integers(2, 4)))) for _ in range(2)]
    image = Image.new("L", (96, 32), 235)
    pen, x = ImageDraw.Draw(image), 3 + int(rng.integers(0, 10))
    for word in words:
        y = int(rng.integers(0, 9))
        pen.text((x, y), word, font=font, fill=20)
        x = int(pen.textbbox((x, y), word, font=font)[2]) + 6 + int(rng.integers(0, 8))
    return np.stack([np.asarray(image)] * 3, 2), " ".join(words)


def tiny(**changes):
    torch.manual_seed(0)
    return weights.build("see.tiny", categories=numbered(1), charset="digits", **changes)


@pytest.mark.system("see")
def test_it_reads_pictures_of_two_words_after_training_on_their_texts():
    model = tiny()
    made = [two_words(seed) for seed in range(8)]
    batch = model.prepare([pixels for pixels, _ in made], [Text(text) for _, text in made])
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.0)
    start = model.localiser(batch.images).detach()
    for _ in range(50):
        optimizer.zero_grad()
        losses = model.losses(batch)
        sum(losses.values()).backward()
        optimizer.step()
    moved = model.localiser(batch.images).detach() - start
    assert moved.abs().max() > 0.01  # what the characters say has moved the grids
    model.eval()
    for pixels, text in made:
        found = model.predict(model.prepare([pixels]))[0].numpy()
        assert len(found) == 2
        order = found.quads.mean(1)[:, 0].argsort()  # from left to right
        assert " ".join(found.texts[i] for i in order) == text
        assert (found.scores > 0.5).all()


@pytest.mark.system("see")
def test_the_identity_returns_the_picture():
    images = torch.rand(2, 3, 20, 50)
    identity = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(2, 3, 2, 3)
    shown = see.sampled(images, see.grids(identity, (20, 50)))
    torch.testing.assert_close(shown, images[:, None].expand(-1, 3, -1, -1, -1), atol=1e-5, rtol=0)
    whole = torch.tensor([[0.0, 0], [50, 0], [50, 20], [0, 20]])
    assert torch.equal(see.outlines(identity, 50, 20), whole.expand(2, 3, 4, 2))


@pytest.mark.system("see")
def test_what_is_sampled_lies_in_the_box_that_is_told():
    y, x = torch.meshgrid(torch.arange(20.0) + 0.5, torch.arange(50.0) + 0.5, indexing="ij")
    theta = torch.tensor([[[[0.3, 0, 0.2], [0, 0.4, -0.1]], [[0.2, -0.1, -0.4], [0.2, 0.3, 0.3]]]])
    shown = see.sampled(torch.stack([x, y])[None], see.grids(theta, (8, 12)))[0]  # each sample says where it was taken
    for region, corners in zip(shown, see.outlines(theta, 50, 20)[0], strict=True):
        a, b = (torch.arange(8) + 0.5)[:, None, None] / 8, (torch.arange(12) + 0.5)[None, :, None] / 12
        between = (1 - a) * ((1 - b) * corners[0] + b * corners[1]) + a * ((1 - b) * corners[3] + b * corners[2])
        torch.testing.assert_close(region.permute(1, 2, 0), between, atol=1e-3, rtol=0)


@pytest.mark.system("see")
def test_no_box_is_read_in_training(tmp_path):
    """The truth that reaches the network is a string, and boxes beside it change no bit of what is learned."""
    model = tiny()
    assert needs_of(model) == ("text",)
    boxed = {"bbox": [1, 2, 30, 20], "category_id": 1, "category": "text", "segmentation": [[1, 2, 31, 2, 31, 22, 1, 22]]}
    target = Dataset([Record(file_name="a.png", text="12 3", annotations=[boxed])], [], needs=("text",)).target(Record(text="12 3"), 32, 96)
    assert target == Text("12 3")
    learned = []
    for name in ("plain", "boxed"):
        with (tmp_path / f"{name}.jsonl").open("w", encoding="utf-8") as lines:
            for seed in range(4):
                pixels, text = two_words(seed)
                Image.fromarray(pixels).save(tmp_path / f"{seed}.png")
                extra = {"annotations": [boxed]} if name == "boxed" else {}
                write_line(Record(file_name=str(tmp_path / f"{seed}.png"), text=text, **extra), lines)
        run = train("see.tiny", tmp_path / f"{name}.jsonl", output=tmp_path / "runs", device="cpu",
                    layers=[{"charset": "digits", "steps": 2, "batch_size": 4, "seed": 5}])  # fmt: skip
        learned.append(weights.load(str(run))[0])
    one, other = (made.state_dict() for made in learned)
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    assert isinstance(learned[0].predict(learned[0].prepare([two_words(0)[0]]))[0], Quads)


def test_words_become_slots_and_what_cannot_be_said_does_not_count():
    model = tiny()
    blank = model.blank
    assert model.charset == "0123456789 "
    rows = model.wanted(["12 3", "12345 6", "", "7 8 9"])
    assert rows[0].tolist() == [[1, 2, blank, blank], [3, blank, blank, blank]]
    assert rows[1].tolist() == [[see.IGNORED] * 4, [6, blank, blank, blank]]
    assert (rows[2] == blank).all()
    assert rows[3, :, 0].tolist() == [7, 8]
    assert model.max_length == 9


def test_regions_start_where_the_layout_says():
    for layout, axis in (("row", 0), ("column", 1)):
        corners = see.outlines(see.starts(4, layout)[None], 80, 80)[0]
        assert corners[:, :, axis].mean(1).tolist() == pytest.approx([10, 30, 50, 70])
        assert corners[:, :, 1 - axis].mean(1).tolist() == pytest.approx([40] * 4)
    assert (see.outlines(see.starts(3, "whole")[None], 8, 8)[0] == torch.tensor([[0.0, 0], [8, 0], [8, 8], [0, 8]])).all()
    with pytest.raises(UsageError, match="layout"):
        tiny(layout="circle")


def test_grids_outside_of_the_picture_and_mirrored_ones_are_drawn_back():
    model = tiny().eval()
    batch = model.prepare([two_words(0)[0]], [Text("1")])
    with torch.no_grad():
        model.localiser.theta.weight.zero_()
        model.localiser.start.copy_(torch.tensor([[0.5, 0, 0], [0, 0.5, 0]]))
        assert model.losses(batch)["grid"] == 0
        model.localiser.start[0] = torch.tensor([[0.5, 0, 0.9], [0, 0.5, 0]])
        assert model.losses(batch)["grid"] > 0
        model.localiser.start[0] = torch.tensor([[-0.5, 0, 0], [0, 0.5, 0]])
        assert model.losses(batch)["grid"] > 0
