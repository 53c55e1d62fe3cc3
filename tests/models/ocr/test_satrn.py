"""SATRN: adaptive 2-D positions, a feed-forward part that sees neighbours, a map that keeps its height, a causal decoder."""

import itertools

import numpy as np
import pytest
import torch
from drawn_words import word

from cvtool import weights
from cvtool.categories import numbered
from cvtool.errors import UsageError
from cvtool.models.ocr._attention_decoder import taught
from cvtool.models.ocr._autoregressive import greedy
from cvtool.models.ocr.satrn import Adaptive2DPositions, EncoderLayer, ShallowCNN, feed_forward
from cvtool.results import Text


def built(variant="tiny", seed=0, **changes):
    torch.manual_seed(seed)
    return weights.build(f"satrn.{variant}", categories=numbered(1), **changes).eval()


def pictures(count, size=(32, 32)):
    return [np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8) for i in range(count)]


@pytest.mark.system("satrn")
def test_positions_are_weighed_for_each_picture_as_the_paper_writes_it():
    """alpha p[h] + beta p[w], alpha = sigmoid(max(0, g(E) W1) W2) of the picture's own mean: in plain loops."""
    torch.manual_seed(0)
    positions = Adaptive2DPositions(6).double()
    x = torch.randn(2, 6, 3, 5, dtype=torch.float64)
    with torch.no_grad():
        out = positions(x).numpy()
    for b in range(2):
        g = x[b].numpy().mean((1, 2))
        share = {}
        for axis in ("alpha", "beta"):
            net = getattr(positions, axis)
            w1, w2 = (net[i].weight.detach().numpy() for i in (0, 2))
            share[axis] = 1 / (1 + np.exp(-(w2 @ np.maximum(0, w1 @ g))))
        for i, h, w in itertools.product(range(6), range(3), range(5)):
            wave = np.sin if i % 2 == 0 else np.cos
            row, column = (wave(place / 10_000 ** (2 * (i // 2) / 6)) for place in (h, w))
            expected = x[b, i, h, w] + share["alpha"][i] * row + share["beta"][i] * column
            np.testing.assert_allclose(out[b, i, h, w], expected, atol=1e-6)
    alpha, beta = positions.shares(x)
    assert not torch.allclose(alpha[0], alpha[1])
    assert not torch.allclose(beta[0], beta[1])


@pytest.mark.system("satrn")
def test_two_convolutions_each_with_a_pooling():
    kinds = [type(layer).__name__ for layer in ShallowCNN(4, 8).layers]
    assert [kind for kind in kinds if kind in ("Conv2d", "MaxPool2d")] == ["Conv2d", "MaxPool2d"] * 2
    assert ShallowCNN(4, 8)(torch.zeros(1, 3, 32, 100)).shape == (1, 8, 8, 25)


@pytest.mark.system("satrn")
@pytest.mark.parametrize(("form", "reach"), [("linear", 0), ("separable", 1), ("conv", 2)])
def test_the_feed_forward_part_sees_neighbours_in_both_directions(form, reach):
    """What one place depends on: itself alone in a transformer's, rows above and below as well as columns in a convolutional one."""
    torch.manual_seed(0)
    part = feed_forward(form, 4, 8).eval()
    x = torch.randn(1, 4, 7, 7, requires_grad=True)
    part(x)[0, :, 3, 3].sum().backward()
    touched = x.grad[0].abs().sum(0) > 0
    expected = torch.zeros(7, 7, dtype=torch.bool)
    expected[3 - reach : 4 + reach, 3 - reach : 4 + reach] = True
    assert torch.equal(touched, expected)


@pytest.mark.system("satrn")
def test_the_height_is_kept_to_the_end_and_looked_at():
    model = built(height=32, width=48)
    batch = model.prepare(pictures(2, (20, 90)))
    with torch.no_grad():
        assert model.encode(batch).shape == (2, 32, 8, 12)
    answer = model.predict(batch, attention=True)[0]
    assert answer.attention.shape == (len(answer.text), 8, 12)
    torch.testing.assert_close(answer.attention.sum((1, 2)), torch.ones(len(answer.text)))


def test_every_place_attends_to_every_other():
    torch.manual_seed(0)
    layer = EncoderLayer(8, 2, 16, form="linear", dropout=0.0).eval()
    x = torch.randn(1, 8, 3, 4, requires_grad=True)
    layer(x)[0, :, 0, 0].sum().backward()
    assert (x.grad[0].abs().sum(0) > 0).all()


@pytest.mark.system("satrn")
def test_the_decoder_reads_the_text_shifted_right_by_one():
    """dog: in <sos> d o g, out d o g <eos>; a shorter text is filled up with what no loss looks at."""
    model = built(charset="dgo")
    before, targets = taught(model, ["dog", "go"])
    d, g, o, eos, sos = range(5)
    assert before.tolist() == [[sos, d, o, g], [sos, g, o, eos]]
    assert targets.tolist() == [[d, o, g, eos], [g, o, eos, -100]]


@pytest.mark.system("satrn")
def test_no_character_depends_on_a_later_one():
    model = built()
    memory = torch.randn(1, 9, 32)
    tokens = torch.randint(0, 36, (1, 6))
    with torch.no_grad():
        first = model.writer(tokens, memory)
        for i in range(6):
            other = tokens.clone()
            other[:, i] = (other[:, i] + 1) % 36
            same = (model.writer(other, memory) == first).all(-1)[0]
            assert same.tolist() == [j < i for j in range(6)]


def test_texts_that_it_cannot_learn_weigh_nothing():
    model = built()
    batch = model.prepare(pictures(2), [Text("dog"), Text("ß")])
    alone = model.prepare(pictures(1), [Text("dog")])
    torch.testing.assert_close(model.losses(batch)["text"], model.losses(alone)["text"])
    assert model.losses(model.prepare(pictures(1), [Text("longer than eight")]))["text"] == 0


# ---- decoding ------------------------------------------------------------------------------------------------------


def naive(model, memory, text):
    """The probability of each character of a text and of its end, by the whole decoder at once."""
    before, targets = taught(model, [text])
    with torch.no_grad():
        chance = model.writer(before, memory).softmax(-1)
    return chance[0, torch.arange(targets.shape[1]), targets[0]]


def test_what_is_written_with_kept_keys_is_what_the_whole_decoder_says():
    """Greedy: at each place the likeliest, and its probability, though the texts of the batch end at different places."""
    model = built(charset="abcd", max_length=6, seed=3)
    memory, may = 6 * torch.randn(8, 9, 32), torch.ones(5, dtype=torch.bool)
    with torch.no_grad():
        answers = greedy(model.writer.stepping(memory, 7), 8, 5, 4, may, 6)
    texts = ["".join("abcd"[label] for label in answer.labels) for answer in answers]
    assert len({len(text) for text in texts}) > 2
    for i, (answer, text) in enumerate(zip(answers, texts, strict=True)):
        tokens = [5]
        while len(tokens) <= 6:
            with torch.no_grad():
                best = int(model.writer(torch.tensor([tokens]), memory[i : i + 1])[0, -1].argmax())
            if best == 4:
                break
            tokens.append(best)
        assert answer.labels == tokens[1:]
        chances = naive(model, memory[i : i + 1], text)
        torch.testing.assert_close(answer.characters, chances[: len(text)])
        assert answer.score == pytest.approx(float(chances.prod()), rel=1e-4)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_wide_beam_finds_the_likeliest_of_all_texts(seed):
    model = built(charset="abc", max_length=3, seed=seed)
    batch = model.prepare(pictures(2))
    memory = model.encode(batch).flatten(2).transpose(1, 2).detach()
    texts = ["".join(letters) for length in range(4) for letters in itertools.product("abc", repeat=length)]
    for i, answer in enumerate(model.predict(batch, beam=27)):
        chances = {text: float(naive(model, memory[i : i + 1], text).prod()) for text in texts}
        assert answer.text == max(chances, key=chances.get)
        assert answer.score == pytest.approx(chances[answer.text], rel=1e-4)


def test_a_dictionary_gives_its_likeliest_word():
    """Capitals are small letters, where the model knows no others; the answer is spelled as the dictionary has it."""
    model = built()
    words = ["cat", "Dog", "doge", "A", "cab"]
    batch = model.prepare(pictures(3))
    memory = model.encode(batch).flatten(2).transpose(1, 2).detach()
    for i, answer in enumerate(model.predict(batch, dictionary=[*words, "Größe", "far too long"], attention=True)):
        chances = {text: float(naive(model, memory[i : i + 1], text.lower()).prod()) for text in words}
        assert answer.text == max(chances, key=chances.get)
        assert answer.score == pytest.approx(chances[answer.text], rel=1e-4)
        assert answer.attention.shape == (len(answer.text), 8, 8)
    with pytest.raises(UsageError, match="none of the dictionary's 1 words can be read"):
        model.predict(batch, dictionary=["Größe"])


def test_only_the_characters_that_are_asked_for():
    answer = built().predict(built().prepare(pictures(1)), charset="digits", beam=2)[0]
    assert answer.text.isdigit()


@pytest.mark.parametrize(
    ("change", "what"), [({"feed_forward": "wide"}, "unknown feed_forward"), ({"height": 30}, "a multiple of 4"), ({"max_length": 0}, "at least one")]
)
def test_what_cannot_be_built_is_said(change, what):
    with pytest.raises(UsageError, match=what):
        built(**change)


@pytest.mark.system("satrn")
def test_it_learns_to_read_words_that_run_down_as_well_as_across():
    words, rng = ["cat", "dog", "pig", "hen", "fox", "ape"], np.random.default_rng(0)
    model = built().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=110)
    for _ in range(110):
        texts = [words[int(rng.integers(6))] for _ in range(24)]
        batch = model.prepare([word(text, rng, vertical=bool(rng.integers(2))) for text in texts], [Text(text) for text in texts])
        optimizer.zero_grad()
        model.losses(batch)["text"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    model.eval()
    for vertical in (True, False):
        fresh = model.prepare([word(text, rng, vertical=vertical) for text in words * 4])
        right = [answer.text == text for answer, text in zip(model.predict(fresh), words * 4, strict=True)]
        assert np.mean(right) >= 0.8, f"vertical={vertical}"
