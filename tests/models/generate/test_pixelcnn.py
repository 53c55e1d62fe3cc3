"""PixelCNN: what each value sees, what the likelihood is, and pictures drawn and completed value by value."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.cli import command
from cvtool.errors import InputError, UsageError
from cvtool.tasks import train as task
from cvtool.tasks.evaluate import evaluate


def built(**changes):
    torch.manual_seed(0)
    return weights.build("pixelcnn.tiny", categories=[], **changes).eval()


@pytest.mark.system("pixelcnn")
@pytest.mark.parametrize("gray", [True, False], ids=["gray", "rgb"])
def test_no_gradient_comes_from_the_value_itself_or_later_ones(gray):
    model = built(gray=gray, width=12, head=24)
    colours = 1 if gray else 3
    for y, x, colour in ((3, 4, 0), (5, 2, colours - 1), (4, 7, colours // 2)):
        values = torch.randint(0, 256, (1, colours, 9, 9)).float().requires_grad_()
        model(values)[0, colour, :, y, x].square().sum().backward()
        reached = values.grad[0].abs() > 0  # C H W
        order = (torch.arange(9)[:, None] * 9 + torch.arange(9)[None])[None] * colours + torch.arange(colours)[:, None, None]
        own = (y * 9 + x) * colours + colour
        assert not reached[order >= own].any()
        near = [(y, x - 1, c) for c in range(colours)] + [(y - 1, x, c) for c in range(colours)] + [(y, x, c) for c in range(colour)]
        assert all(reached[c, i, j] for i, j, c in near)


@pytest.mark.system("pixelcnn")
def test_mask_a_is_that_of_the_first_layer_and_b_of_all_others():
    model = built(gray=False, width=12, head=24)
    middle = model.first.mask[:, :, 3, 3]  # 24 3
    assert middle[:8].sum() == 0  # red sees no colour of its own pixel
    assert middle[8:16].tolist() == [[1, 0, 0]] * 8
    assert middle[16:].tolist() == [[1, 1, 0]] * 8
    inner = model.blocks[0].layers[3].mask  # 12 12 3 3
    assert inner[:, :, 1, 1].sum(1).tolist() == [4] * 4 + [8] * 4 + [12] * 4
    assert inner[:, :, 0].all()
    assert inner[:, :, 1, 0].all()
    assert not inner[:, :, 1, 2].any()
    assert not inner[:, :, 2].any()


@pytest.mark.system("pixelcnn")
def test_a_uniform_softmax_over_256_values_has_8_bits_a_dimension():
    model = built()
    torch.nn.init.zeros_(model.head[-1].weight)
    torch.nn.init.zeros_(model.head[-1].bias)
    images = torch.rand(3, 3, 16, 16)
    assert model(model.values(images)).shape == (3, 1, 256, 16, 16)
    torch.testing.assert_close(model.bits_per_dim(images), torch.full((3,), 8.0))


def test_bits_are_those_of_a_plain_sum():
    model = built(gray=False, width=6, head=12)
    images = torch.randint(0, 256, (2, 3, 5, 4)) / 255
    values = (images * 255).round().long()
    assert torch.equal(model.values(images), values)
    with torch.no_grad():
        log_p = model(values).log_softmax(2)
    for i in range(2):
        total = sum(log_p[i, c, values[i, c, y, x], y, x].item() for c in range(3) for y in range(5) for x in range(4))
        assert model.bits_per_dim(images)[i].item() == pytest.approx(-total / 60 / math.log(2), rel=1e-4)


@pytest.mark.system("pixelcnn")
def test_it_learns_glyphs_to_fewer_than_2_bits_a_dimension_and_completes_them(data, tmp_path):
    import json
    import zipfile

    with zipfile.ZipFile(data / "omniglot" / "images_background_small1.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".png") and "/Greek/" not in name][:96]
        for i, name in enumerate(names):
            with archive.open(name) as file:
                image = Image.open(file).convert("L").resize((16, 16), Image.Resampling.BOX)
                (tmp_path / "glyphs").mkdir(exist_ok=True)
                image.point(lambda v: 255 * (v > 200)).save(tmp_path / "glyphs" / f"{i:03}.png")
    settings = {"epochs": 6, "batch_size": 16, "lr": 8e-3, "ema": 0.0, "augment": "none"}
    run = task.train("pixelcnn.tiny", tmp_path / "glyphs", split="75,25", output=tmp_path / "runs", device="cpu", layers=[settings])
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    told = [line["val_bits_per_dim"] for line in lines if line["kind"] == "epoch"]
    assert told[-1] < 2 < told[0]

    model, _ = weights.load(str(run))
    picture = np.array(Image.open(tmp_path / "glyphs" / "000.png").convert("RGB"))
    image = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    mask[:, :, 8:] = True
    done = model.fill(image, mask, 3)
    assert torch.equal(done[:, :, :8], image[:, :, :8])  # the known half
    completed = done[0, 0, 8:]
    assert ((completed < 0.05) | (completed > 0.95)).float().mean() > 0.9  # it has learned that pictures are black and white
    assert (completed > 0.95).float().mean() > 0.4  # and mostly white
    assert torch.equal(model.fill(image, mask, 3), done)
    command("generate").main(["-m", str(run), "-o", str(tmp_path / "made.png"), "-q"], standalone_mode=False)
    made = np.asarray(Image.open(tmp_path / "made.png"))
    assert ((made < 13) | (made > 242)).mean() > 0.8


@pytest.mark.system("pixelcnn")
def test_samples_are_drawn_value_by_value_by_seed_and_number():
    model = built(image_size=8)
    three = model.sample(3, 5)
    assert three.shape == (3, 3, 8, 8)
    assert torch.equal(model.sample(1, 5, start=2)[0], three[2])
    assert not torch.equal(three[0], three[1])
    with torch.no_grad():  # each value stands where the sum of the probabilities passes its number, all seen at once
        values = model.values(three[1:2])
        sums = model(values)[0, 0].double().softmax(0).cumsum(0)  # 256 8 8
    numbers = torch.from_numpy(np.random.default_rng((5, 1)).random((1, 8, 8), np.float32))
    low = torch.cat([torch.zeros(1, 8, 8), sums]).gather(0, values[0])
    high = sums.gather(0, values[0])
    assert ((low - 1e-5 <= numbers) & (numbers <= high + 1e-5)).all()  # so the window is as good as the whole picture
    likeliest = model.sample(1, 0, temperature=0.0)
    assert torch.equal(likeliest, model.sample(1, 9, temperature=0.0))
    with torch.no_grad():
        assert torch.equal(model(model.values(likeliest)).argmax(2), model.values(likeliest))
    with pytest.raises(ValueError, match="no classes"):
        model.sample(1, 0, [1])
    with pytest.raises(ValueError, match="masks"):
        model.fill(torch.zeros(1, 3, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool), 0)
    with pytest.raises(UsageError, match="width"):
        built(width=0)


@pytest.mark.system("pixelcnn")
def test_evaluate_tells_the_bits_of_pictures(png, tmp_path):
    torch.manual_seed(0)
    model = weights.build("pixelcnn.tiny", categories=[]).eval()
    path = weights.save(model, tmp_path / "p.safetensors", weights.Info(reference="pixelcnn.tiny"))
    pictures = [png(f"held/{seed}.png", 20, 20, seed=seed) for seed in range(10)]
    (tmp_path / "held/bad.png").write_text("no picture")
    report = evaluate(tmp_path / "held", path, metrics="bits-per-dim", interval=0.9, gates=["bits_per_dim<=9"])
    each = [model.bits_per_dim(model.prepare([np.asarray(Image.open(one).convert("RGB"))]).images).item() for one in pictures]
    assert report["metrics"]["bits_per_dim"] == pytest.approx(np.mean(each), rel=1e-5)
    assert report["counts"] == {"pictures": 10}
    assert "1 of 11 pictures cannot be read" in report["warnings"][0]
    low, high = report["intervals"]["bits_per_dim"]
    assert low <= np.mean(each) <= high
    assert report["gates"][0]["passed"]
    with pytest.raises(UsageError, match="does not tell how probable"):
        evaluate(tmp_path / "held", "resnet.tiny@none", metrics="bpd")
    with pytest.raises(InputError, match="none of the pictures"):
        evaluate(tmp_path / "held/bad.png", path, metrics="bpd")
