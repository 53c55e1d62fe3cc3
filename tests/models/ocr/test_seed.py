"""SEED: the semantic vector, what supervises it, and the reading that begins with it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from cvtool import weights
from cvtool.categories import numbered
from cvtool.errors import InputError, UsageError
from cvtool.layers.rectifier import Rectifier
from cvtool.models.ocr import seed
from cvtool.models.ocr._attention_decoder import taught
from cvtool.results import Text

WORDS = ("list", "client", "month", "zero")


def word(text, *, slant=0.0):
    """32 64 3 uint8, light on dark."""
    picture = Image.new("L", (64, 32))
    ImageDraw.Draw(picture).text((32, 16), text, fill=230, font=ImageFont.load_default(20), anchor="mm")
    picture = picture.transform(picture.size, Image.Transform.AFFINE, (1, slant, -16 * slant, 0, 1, 0), Image.Resampling.BILINEAR)
    return np.repeat(np.asarray(picture)[..., None], 3, 2)


def made(**changes):
    torch.manual_seed(0)
    return weights.build("seed.tiny", categories=numbered(1), **changes)


@pytest.fixture
def model():
    return made().eval()


@pytest.fixture
def batch(model):
    return model.prepare([word(text) for text in WORDS], [Text(text) for text in WORDS])


@pytest.mark.system("seed")
def test_its_columns_are_a_residual_network_of_45_layers():
    plan = seed.VARIANTS["base"]
    columns = seed.Columns(plan["widths"], plan["blocks"], plan["hidden"])
    with torch.no_grad():
        assert columns.cnn(torch.zeros(1, 3, 32, 100)).shape == (1, 512, 1, 25)
    path = [m for name, m in columns.cnn.named_modules() if isinstance(m, nn.Conv2d) and "shortcut" not in name]
    assert len(path) == 45
    assert (columns.rnn.num_layers, columns.rnn.bidirectional, columns.rnn.hidden_size) == (2, True, 256)


@pytest.mark.system("seed")
def test_the_semantic_vector_is_two_layers_over_all_columns(model, batch):
    features, told = model.read(model.seen(batch.images))
    first, _, second = model.semantic
    everything = features.flatten(1)  # h_1 .. h_N side by side
    wanted = F.relu(everything @ first.weight.T + first.bias) @ second.weight.T + second.bias
    torch.testing.assert_close(told, wanted)
    assert told.shape == (4, seed.OWN_DIMS)


@pytest.mark.system("seed")
def test_its_loss_is_1_minus_the_cosine_to_the_words_vectors(model, batch):
    _, told = model.read(model.seen(batch.images))
    vectors = torch.from_numpy(model.word_table.vectors(WORDS)[0])
    cosines = [(s @ v) / (s.norm() * v.norm()) for s, v in zip(told, vectors, strict=True)]
    torch.testing.assert_close(model.losses(batch)["semantic"], torch.stack([1 - c for c in cosines]).mean())
    every = torch.ones(4, dtype=torch.bool)
    for factor, loss in ((3.0, 0.0), (-1.0, 2.0)):  # the length says nothing; the opposite is worst
        torch.testing.assert_close(model.semantic_loss(factor * vectors, WORDS, every), torch.tensor(loss), atol=1e-6, rtol=0)
    model.semantic_weight = 0.25
    torch.testing.assert_close(model.semantic_loss(-vectors, WORDS, every), torch.tensor(0.5), atol=1e-6, rtol=0)


@pytest.mark.system("seed")
def test_the_vector_is_what_the_decoder_begins_with(model, batch):
    features, told = model.read(model.seen(batch.images))
    before, targets = taught(model, WORDS)
    start = told @ model.begin.weight.T + model.begin.bias
    steps = model.decoder.stepping(features, start)
    logits = torch.stack([steps(tokens) for tokens in before.unbind(1)], 1)
    losses = model.losses(batch)
    torch.testing.assert_close(losses["text"], F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100))
    losses["text"].backward()
    assert model.semantic[2].weight.grad.abs().sum() > 0  # reading teaches the vector too
    states = []
    model.decoder.attention.of_query.register_forward_pre_hook(lambda _, given: states.append(given[0]))
    read = model.predict(batch)
    torch.testing.assert_close(states[0][:, 0], start)
    nn.init.zeros_(model.begin.weight)  # another beginning, another reading
    assert [answer.score for answer in model.predict(batch)] != [answer.score for answer in read]


@pytest.fixture(scope="module")
def trained():
    model = made(width=48, widths=(8, 8, 12, 16, 24, 24), hidden=16, decoder=32, charset="lisotcenmhzr", rectify="none").train()
    model.rectifier = Rectifier("affine", widths=(4, 8, 8), hidden=16)
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    held = model.prepare([word(text, slant=s) for text in WORDS for s in (-0.25, 0.25)], [Text(text) for text in WORDS for _ in range(2)])

    def cosine():
        model.eval()
        with torch.no_grad():
            found = 1 - float(model.losses(held)["semantic"])
        model.train()
        return found

    cosines = [cosine()]
    for turn in range(90):
        texts = [*WORDS, *WORDS]
        batch = model.prepare([word(text, slant=rng.uniform(-0.4, 0.4)) for text in texts], [Text(text) for text in texts])
        optimizer.zero_grad()
        sum(model.losses(batch).values()).backward()
        optimizer.step()
        if turn in (39, 89):
            cosines.append(cosine())
    return SimpleNamespace(model=model.eval(), held=held, cosines=cosines)


@pytest.mark.system("seed")
def test_the_cosine_rises_in_training(trained):
    first, middle, last = trained.cosines
    assert abs(first) < 0.4
    assert first + 0.2 < middle < last
    assert last > 0.8


@pytest.mark.system("seed")
def test_trained_it_reads(trained):
    answers = trained.model.predict(trained.held, attention=True, rectified=True)
    assert [answer.text for answer in answers] == [text for text in WORDS for _ in range(2)]
    assert all(answer.attention.shape == (len(answer.text), 1, 12) for answer in answers)
    assert answers[0].rectified.shape == (32, 48, 3)


def test_vectors_of_a_file_and_words_that_it_lacks(tmp_path):
    path = tmp_path / "some.vec"
    path.write_text("2 3\nlist 1 0 0\nmonth 0 1 0\n")
    model = made(word_vectors=str(path), word_dims=3).eval()
    told = torch.tensor([[2.0, 0, 0], [5.0, 5, 5], [0, 0, 1.0], [1.0, 1, 1]])
    every = torch.ones(4, dtype=torch.bool)
    torch.testing.assert_close(model.semantic_loss(told, WORDS, every), torch.tensor((0 + 1.0) / 2))  # "client" and "zero" are not in it
    assert model.semantic_loss(told, ["zero"] * 4, every) == 0
    with pytest.raises(UsageError, match="have 3 numbers"):
        _ = made(word_vectors=str(path)).word_table
    missing = made(word_vectors="none.vec", word_dims=3).eval()  # reading needs no vectors
    batch = missing.prepare([word("list")], [Text("list")])
    assert len(missing.predict(batch)) == 1
    with pytest.raises(InputError, match="cannot read the word vectors"):
        missing.losses(batch)
