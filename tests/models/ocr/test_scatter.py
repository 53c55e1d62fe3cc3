"""SCATTER: its columns, its blocks, what each is taught, and what stopping early saves."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from cvtool import weights
from cvtool.__main__ import main
from cvtool.categories import numbered
from cvtool.errors import UsageError
from cvtool.layers.rectifier import Rectifier
from cvtool.models.ocr import scatter
from cvtool.models.ocr._attention_decoder import taught
from cvtool.results import Text

WORDS = ("cat", "dog", "11", "sun")


def word(text, *, size=(32, 64), slant=0.0):
    """H W 3 uint8, light on dark."""
    picture = Image.new("L", size[::-1])
    ImageDraw.Draw(picture).text((size[1] / 2, size[0] / 2), text, fill=230, font=ImageFont.load_default(22), anchor="mm")
    picture = picture.transform(picture.size, Image.Transform.AFFINE, (1, slant, -slant * size[0] / 2, 0, 1, 0), Image.Resampling.BILINEAR)
    return np.repeat(np.asarray(picture)[..., None], 3, 2)


def made(**changes):
    torch.manual_seed(0)
    return weights.build("scatter.tiny", categories=numbered(1), **changes)


@pytest.fixture
def model():
    return made().eval()


@pytest.fixture
def batch(model):
    return model.prepare([word(text) for text in WORDS], [Text(text) for text in WORDS])


@pytest.mark.system("scatter")
def test_its_columns_are_a_resnet_of_29_layers_512_wide():
    plan = scatter.VARIANTS["base"]
    made = scatter.columns(plan["widths"], plan["blocks"])
    with torch.no_grad():
        assert made(torch.zeros(1, 3, 32, 100)).shape == (1, 512, 1, 26)
    layers = [m for m in made.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]  # those of 1x1 stand on shortcuts
    assert len(layers) == 29


@pytest.mark.system("scatter")
def test_it_is_straightened_by_a_thin_plate_spline_and_has_five_blocks_of_two_layer_lstms():
    plan = scatter.VARIANTS["base"]
    assert (plan["decoders"], plan["hidden"], plan["widths"][-1]) == (5, 256, 512)
    model = made(decoders=plan["decoders"])
    assert model.rectifier.kind == "tps"
    assert len(model.blocks) == 5
    for j, block in enumerate(model.parts()):
        assert isinstance(block.context, nn.LSTM)
        assert (block.context.num_layers, block.context.bidirectional) == (2, True)
        assert block.context.input_size == (16 if j == 0 else 16 + 2 * 16)  # V, then D


@pytest.mark.system("scatter")
def test_a_block_hands_on_v_and_its_context_and_its_decoder_reads_what_is_selected(model, batch):
    taken = []
    for block in model.parts():
        block.context.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
    visual = model.visual(model.seen(batch.images))  # B N D
    found = model.memories(visual, 2)
    first, second = model.parts()
    assert torch.equal(taken[0], visual)
    h = first.context(visual)[0]
    d = torch.cat([visual, h], -1)
    torch.testing.assert_close(taken[1], d)  # the next one's input
    torch.testing.assert_close(found[0], d * torch.sigmoid(first.select(d)))
    d2 = torch.cat([visual, second.context(d)[0]], -1)
    torch.testing.assert_close(found[1], d2 * torch.sigmoid(second.select(d2)))


@pytest.mark.system("scatter")
def test_the_loss_is_that_of_every_block_and_ctc_on_the_visual_features(model, batch):
    losses = model.losses(batch)
    assert set(losses) == {"ctc", "block_1", "block_2"}
    visual = model.visual(model.seen(batch.images))
    logits = model.refine(visual).log_softmax(2).transpose(0, 1)
    labels = [torch.tensor([model.charset.index(c) + 1 for c in text]) for text in WORDS]
    sizes = torch.full((4,), visual.shape[1]), torch.tensor([len(text) for text in WORDS])
    wanted = F.ctc_loss(logits, torch.cat(labels), *sizes, reduction="none").mean()
    torch.testing.assert_close(losses["ctc"], 0.1 * wanted)
    before, targets = taught(model, WORDS)
    for j, (block, memory) in enumerate(zip(model.parts(), model.memories(visual, 2), strict=True), 1):
        told = block.decoder(before, memory).flatten(0, 1)
        torch.testing.assert_close(losses[f"block_{j}"], F.cross_entropy(told, targets.flatten(), ignore_index=-100))


@pytest.mark.system("scatter")
@pytest.mark.parametrize(("name", "reached"), [("ctc", []), ("block_1", [0]), ("block_2", [0, 1])])
def test_each_loss_teaches_what_is_before_it(model, batch, name, reached):
    """Those of later blocks the contexts of earlier ones too; ctc, the features alone."""
    model.losses(batch)[name].backward()
    assert [j for j, block in enumerate(model.parts()) if block.context.weight_ih_l0.grad is not None] == reached
    decoders = [j for j, block in enumerate(model.parts()) if block.decoder.out.weight.grad is not None]
    assert decoders == reached[-1:]
    assert model.cnn[0][0].weight.grad.abs().sum() > 0
    assert model.rectifier.localiser.out.weight.grad.abs().sum() > 0  # and how to straighten is learned from each


@pytest.mark.system("scatter")
def test_fewer_decoders_compute_nothing_of_the_later_blocks(model, batch):
    asked = []
    for j, block in enumerate(model.parts(), 1):
        for part in (block.context, block.select, block.decoder.cell):
            part.register_forward_hook(lambda *_, j=j: asked.append(j))
    first = model.predict(batch, decoders=1)
    assert set(asked) == {1}
    asked.clear()
    both = model.predict(batch)
    assert set(asked) == {1, 2}
    assert [answer.score for answer in both] == [answer.score for answer in model.predict(batch, decoders=2)]
    assert [answer.score for answer in both] != [answer.score for answer in first]
    del model.blocks[1]  # as if it had never been
    assert [(answer.text, answer.score) for answer in model.predict(batch)] == [(answer.text, answer.score) for answer in first]


@pytest.mark.parametrize("count", [0, 3])
def test_decoders_that_are_not_there_are_refused(model, batch, count):
    with pytest.raises(UsageError, match=f"--decoders {count}: the model has 2"):
        model.predict(batch, decoders=count)


@pytest.fixture(scope="module")
def trained():
    model = made(width=48, charset="acdgnostu1", widths=(8, 8, 16, 16, 24)).train()
    model.rectifier = Rectifier("tps", widths=(4, 8, 8), hidden=16)
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    for _ in range(60):
        texts = [*WORDS, *WORDS]
        batch = model.prepare([word(text, slant=rng.uniform(-0.4, 0.4)) for text in texts], [Text(text) for text in texts])
        optimizer.zero_grad()
        sum(model.losses(batch).values()).backward()
        optimizer.step()
    return SimpleNamespace(model=model.eval(), batch=model.prepare([word(text, slant=0.3) for text in WORDS]))


@pytest.mark.system("scatter")
@pytest.mark.parametrize("decoders", [1, 2])
def test_trained_every_block_reads(trained, decoders):
    answers = trained.model.predict(trained.batch, decoders=decoders, attention=True)
    assert [answer.text for answer in answers] == list(WORDS)
    assert all(answer.attention.shape == (len(answer.text), 1, 13) for answer in answers)


@pytest.mark.system("stn-rectify")
def test_what_straightening_made_is_given_with_the_answers(trained):
    answers = trained.model.predict(trained.batch, rectified=True)
    with torch.no_grad():
        wanted = trained.model.pictures(trained.model.seen(trained.batch.images))
    for answer, picture in zip(answers, wanted, strict=True):
        assert answer.rectified.shape == (32, 48, 3)
        assert answer.rectified.dtype == torch.uint8
        assert torch.equal(answer.rectified, picture)
    plain = made(rectify="none")
    assert plain.rectifier is None
    with pytest.raises(UsageError, match="straightens nothing"):
        plain.eval().predict(trained.batch, rectified=True)


@pytest.mark.system("scatter")
@pytest.mark.system("stn-rectify")
def test_on_the_command_line(tmp_path, monkeypatch, capfd):
    """`--decoders 1` answers as the first block does, `--save-rectified` keeps the picture as it was straightened."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(word("cat")).save("cat.png")
    model = made().eval()
    nn.init.normal_(model.rectifier.localiser.out.bias, std=0.2)
    info = weights.Info(reference="scatter.tiny", categories=model.categories, prepare=model.prepare)
    weights.save(model, tmp_path / "bent.safetensors", info)
    assert main("ocr cat.png --words -m ./bent.safetensors --decoders 1 --save-rectified straight/ -q".split()) == 0
    record = json.loads(capfd.readouterr().out)
    batch = model.prepare([word("cat")])
    first, last = (model.predict(batch, rectified=True, decoders=count)[0] for count in (1, 2))
    assert record["text"] == first.text != last.text
    saved = np.asarray(Image.open("straight/cat.png"))
    assert np.abs(saved.astype(int) - first.rectified.numpy()).max() <= 1
    assert np.abs(saved.astype(int) - model.pictures(batch.images)[0].numpy()).max() > 20  # it did change
    assert main("ocr cat.png --words -m ./bent.safetensors --decoders 3 -q".split()) == 2
    assert "the model has 2" in capfd.readouterr().err
