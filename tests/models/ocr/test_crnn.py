"""CRNN: a step every four columns, the published layout, and answers that do not depend on what stands beside a word."""

import numpy as np
import pytest
import torch
from drawn_words import word

from cvtool import registry, weights
from cvtool.errors import UsageError
from cvtool.layers.contrast import Contrast
from cvtool.metrics import word_accuracy
from cvtool.models.ocr.crnn import evenly
from cvtool.results import Text


def built(variant="tiny", seed=0, **changes):
    torch.manual_seed(seed)
    return weights.build(f"crnn.{variant}", categories=[], **changes).eval()


def pictures(*widths, height=32):
    return [np.random.default_rng(w).integers(0, 256, (height, w, 3), dtype=np.uint8) for w in widths]


@pytest.mark.system("crnn")
@pytest.mark.parametrize(("variant", "characters", "steps"), [("small", 204, 25), ("tiny", 36, 25), ("base", 36, 26), ("parseq", 94, 33)])
def test_a_picture_of_32_x_100_is_about_25_steps_of_the_alphabet_and_the_blank(variant, characters, steps):
    model = built(variant)
    batch = model.prepare(pictures(100, height=32))
    with torch.no_grad():
        logits, own = model(batch)
    assert (logits.shape[2], len(model.charset)) == (characters + 1, characters)
    assert own.tolist() == [steps]
    assert (batch.images.shape[2], logits.dtype) == (32, torch.float32)


@pytest.mark.system("crnn")
def test_a_line_is_as_wide_as_it_is():
    model = built("small", widths=(8, 8, 8, 8, 8), hidden=8)
    batch = model.prepare(pictures(200, 64, height=64) + pictures(5000))
    assert [place.inner_width for place in batch.places] == [100, 32, 320]
    with torch.no_grad():
        logits, steps = model(batch)
    assert steps.tolist() == [25, 8, 80]
    assert logits.shape[1] == 80


def published(channels, classes, biased):
    """The shapes of crnn.pth (github.com/meijieru/crnn.pytorch), or of baudm/parseq's, whose convolutions in front of a norm have no bias."""
    widths, found = (64, 128, 256, 256, 512, 512, 512), {}
    for i, (a, b) in enumerate(zip((channels, *widths[:-1]), widths, strict=True)):
        side = 2 if i == 6 else 3
        found[f"cnn.conv{i}.weight"] = (b, a, side, side)
        if biased or i not in (2, 4, 6):
            found[f"cnn.conv{i}.bias"] = (b,)
        if i in (2, 4, 6):
            found |= {f"cnn.batchnorm{i}.{key}": (b,) for key in ("weight", "bias", "running_mean", "running_var")}
    for n, (inside, out) in enumerate(((512, 256), (256, classes))):
        for way in ("", "_reverse"):
            found |= {f"rnn.{n}.rnn.weight_ih_l0{way}": (1024, inside), f"rnn.{n}.rnn.weight_hh_l0{way}": (1024, 256)}
            found |= {f"rnn.{n}.rnn.bias_{kind}_l0{way}": (1024,) for kind in ("ih", "hh")}
        found |= {f"rnn.{n}.embedding.weight": (out, 512), f"rnn.{n}.embedding.bias": (out,)}
    return {key: torch.rand(shape) * 0.1 for key, shape in found.items()}


@pytest.mark.system("crnn")
@pytest.mark.parametrize(("variant", "facts"), [("base", (1, 37, True)), ("parseq", (3, 95, False))])
def test_published_weights_load_key_for_key(variant, facts, tmp_path):
    state = published(*facts)
    torch.save(state, tmp_path / "crnn.pth")
    model, _ = weights.load(f"crnn.{variant}@{tmp_path / 'crnn.pth'}")
    own = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert own.keys() == state.keys()
    assert all(torch.equal(own[key], state[key]) for key in state)
    assert isinstance(model.predict(model.prepare(pictures(90)))[0], Text)
    if variant == "base":  # "-0123456789abcdefghijklmnopqrstuvwxyz", blank first
        assert model.charset == "0123456789abcdefghijklmnopqrstuvwxyz"
        assert sum(p.numel() for p in model.parameters()) == 8_331_301


def test_a_word_reads_the_same_whatever_stands_beside_it():
    model = built(charset="abc", seed=2)
    narrow, wide = pictures(40, 96)
    with torch.no_grad():
        alone, together = model.predict(model.prepare([narrow]))[0], model.predict(model.prepare([wide, narrow, wide]))
        assert len(model.predict(model.prepare([narrow, wide, narrow]))) == 3
    assert together[1].text == alone.text
    assert together[1].score == pytest.approx(alone.score, rel=1e-4)
    torch.testing.assert_close(together[1].characters, alone.characters)
    assert together[0].text == together[2].text


def test_brightness_and_contrast_of_the_whole_picture_are_not_seen():
    x, padding = torch.randn(2, 1, 32, 40), torch.zeros(2, 32, 40, dtype=torch.bool)
    padding[1, :, 30:] = True
    part = Contrast()
    plain, faded = part(x, padding), part(x * 0.7 - 0.2, padding)
    assert (plain - faded).abs().max() < 0.2
    assert not plain[1, :, :, 30:].any()
    torch.testing.assert_close(plain[1:, :, :, :30], part(x[1:, :, :, :30], padding[1:, :, :30]))
    assert part(torch.full((1, 1, 8, 8), 0.5), torch.zeros(1, 8, 8, dtype=torch.bool)).abs().max() < 1e-4  # nothing stays nothing


@pytest.mark.system("crnn")
def test_it_learns_eight_words_by_heart_and_every_way_of_reading_says_them():
    texts = ["cat", "dog", "pool", "112", "fox", "ape", "zoo", "x"]
    rng = np.random.default_rng(0)
    model = built(widths=(8, 16, 16, 32, 32), hidden=32).train()
    batch = model.prepare([word(text, rng, size=(20, 40)) for text in texts], [Text(text) for text in texts])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for turn in range(160):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1, (turn + 1) / 10)
        optimizer.zero_grad()
        loss = model.losses(batch)["ctc"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if float(loss.detach()) < 0.03:
            break
    for _ in range(30):  # the norms' running statistics
        model(batch)
    model.eval()
    with torch.no_grad():
        greedy = model.predict(batch)
        assert [answer.text for answer in greedy] == texts
        assert all(answer.score > 0.5 and answer.characters.shape == (len(answer.text),) for answer in greedy)
        assert all((answer.places.diff() > 0).all() and answer.places.min() >= 0 and answer.places.max() <= 1 for answer in greedy)
        assert [answer.text for answer in model.predict(batch, beam=4)] == texts
        assert [answer.text for answer in model.predict(batch, dictionary=["Cat", "DOG", *texts[2:], "zebra", "ß"])] == ["Cat", "DOG", *texts[2:]]
        assert [answer.text for answer in model.predict(batch, charset="digits")][3] == "112"
        assert all(set(answer.text) <= set("0123456789") for answer in model.predict(batch, charset="digits"))


def test_columns_are_shown_letters_where_they_would_stand_if_all_were_equally_wide():
    logits = torch.zeros(2, 8, 4)
    for step, label in ((1, 1), (4, 2), (6, 3)):  # the middles of three thirds of eight steps
        logits[0, step, label] = 50.0
    logits[1, 2, 3] = 50.0  # of the only character of a word of four steps
    labels, steps = [torch.tensor([1, 2, 3]), torch.tensor([3])], torch.tensor([8, 4])
    assert float(evenly(logits, labels, steps)) < 1e-6
    assert float(evenly(logits * 0, labels, steps)) == pytest.approx(4 * np.log(4) / 2, rel=1e-5)
    assert float(evenly(logits[:0], [], steps[:0])) == 0


def test_texts_that_it_cannot_spell_weigh_nothing():
    model = built()
    both, alone = (model.prepare(pictures(64)[:1] * n, [Text("dog"), Text("ß")][:n]) for n in (2, 1))
    with torch.no_grad():
        torch.testing.assert_close(model.losses(both)["ctc"], model.losses(alone)["ctc"], rtol=1e-4, atol=1e-4)
        assert model.losses(model.prepare(pictures(64), [Text("ß")]))["ctc"] == 0


def test_a_straightened_picture_is_shown():
    model = built(rectify="affine")
    answer = model.predict(model.prepare(pictures(50, 90)), rectified=True)[0]
    assert answer.rectified.shape == (32, 50, 3)
    with pytest.raises(UsageError, match="straightens nothing"):
        built().predict(built().prepare(pictures(40)), rectified=True)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"layout": "round"}, "residual or published"),
        ({"widths": (8, 8)}, "5 widths"),
        ({"max_width": 8}, "max_width from 32"),
        ({"hidden": 0}, "hidden from 1"),
    ],
)
def test_what_cannot_be_built_is_said(change, what):
    with pytest.raises(UsageError) as error:
        built(**change)
    assert what in f"{error.value} {error.value.hint or ''}"


@pytest.mark.system("crnn")
def test_words_on_photographs(data, record_property):
    """The rate on the first words of IIIT5K, digits and letters of either case, without a lexicon: of the weights that ship."""
    if (reference := next((key for key in registry.shipped() if key.startswith("crnn.small@")), None)) is None:
        pytest.skip("no weights of crnn ship with this version")
    from PIL import Image

    folder = data / "ocr_words_iiit5k"
    rows = [line.split("\t") for line in (folder / "test.tsv").read_text(encoding="utf-8").splitlines()[:300]]
    model, _ = weights.load(reference)
    shown = [np.asarray(Image.open(folder / name).convert("RGB")) for name, _ in rows]
    with torch.inference_mode():
        said = [answer.text for i in range(0, len(shown), 50) for answer in model.predict(model.prepare(shown[i : i + 50]))]
    plain = [["".join(c for c in text.lower() if c.isascii() and c.isalnum()) for text in texts] for texts in (said, [text for _, text in rows])]
    right = word_accuracy.of_texts(plain[1], plain[0])
    accuracy = float(right.above.sum() / right.below.sum())
    record_property("iiit5k_word_accuracy", accuracy)
    assert accuracy >= 0.5
