"""Dict90k: as many outputs as the lexicon has words, and the words travel with the weights."""

import numpy as np
import pytest
import torch
from drawn_words import word

from cvtool import weights
from cvtool.errors import UsageError
from cvtool.results import Text


def built(variant="tiny", **changes):
    torch.manual_seed(0)
    return weights.build(f"dict90k.{variant}", categories=[], **changes).eval()


def listed(path, words):
    path.write_text("\n".join(words), encoding="utf-8")
    return str(path)


def pictures(count):
    return [np.random.default_rng(i).integers(0, 256, (20, 30 + 40 * i, 3), dtype=np.uint8) for i in range(count)]


@pytest.mark.system("dict90k")
def test_a_gray_crop_of_32_x_100_becomes_a_softmax_over_the_lexicon(tmp_path):
    words = [f"word{i}" for i in range(90_000)]
    model = built(lexicon=listed(tmp_path / "words.txt", words))
    batch = model.prepare(pictures(2))
    assert batch.images.shape == (2, 3, 32, 100)
    with torch.no_grad():
        logits = model(batch)
        assert logits.shape == (2, 90_000) == (2, len(model.words))
        assert next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d)).in_channels == 1
        coloured = model.prepare([np.full((32, 100, 3), c, np.uint8) for c in ((255, 0, 0), (76, 76, 76))])  # of one luma
        torch.testing.assert_close(*model(coloured), rtol=1e-3, atol=1e-3)
    for answer, row in zip(model.predict(batch), logits, strict=True):
        assert answer.text == words[int(row.argmax())]
        assert answer.score == pytest.approx(float(row.softmax(0).max()), rel=1e-4)


@pytest.mark.system("dict90k")
def test_the_papers_size(tmp_path):
    """Five convolutions of 64, 128, 256, 512, 512 maps and 5, 5, 3, 3, 3 pixels, three poolings, 4096 units, then the words."""
    with torch.device("meta"):
        model = weights.registry.parse("dict90k.base").entry.load().build(lexicon=listed(tmp_path / "w", ["a", "b", "c"]), **weights.registry.parse(
            "dict90k.base").entry.variants["base"])  # fmt: skip
    convolutions = [m for m in model.cnn if isinstance(m, torch.nn.Conv2d)]
    assert [(m.out_channels, m.kernel_size[0]) for m in convolutions] == [(64, 5), (128, 5), (256, 3), (512, 3), (512, 3)]
    assert [type(m).__name__ for m in model.cnn].count("MaxPool2d") == 3
    assert model.full[0].weight.shape == (4096, 512 * 4 * 12)
    assert model.head.weight.shape == (3, 4096)


def test_the_lexicon_is_saved_with_the_weights(tmp_path):
    path = tmp_path / "words.txt"
    model = built(lexicon=listed(path, ["Zürich", "naïve", "", "x-ray", "zürich"]))
    assert model.words == ("Zürich", "naïve", "x-ray")
    info = weights.Info(
        reference="dict90k.tiny", arguments={"lexicon": str(path)} | model.rebuilt, categories=[{"id": 1, "name": "text"}], prepare=model.prepare
    )
    saved = weights.save(model, tmp_path / "model.safetensors", info)
    path.unlink()
    loaded, _ = weights.load(str(saved))
    assert loaded.words == model.words
    assert (loaded.charset, loaded.max_length) == (model.charset, 6)
    batch = model.prepare(pictures(3))
    assert [answer.text for answer in loaded.predict(batch)] == [answer.text for answer in model.predict(batch)]


@pytest.mark.system("dict90k")
def test_it_learns_to_tell_words_of_its_lexicon_and_only_those():
    words, rng = ["open", "exit", "stop", "taxi"], np.random.default_rng(0)
    model = built().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    shown = [(word(w, rng, size=(20, 50)), w.upper() if i % 2 else w) for i in range(2) for w in words]
    batch = model.prepare([p for p, _ in shown], [Text(t) for _, t in shown])
    for _ in range(40):
        optimizer.zero_grad()
        model.losses(batch)["word"].backward()
        optimizer.step()
    model.eval()
    assert [answer.text for answer in model.predict(batch)] == words * 2
    among = model.predict(batch, dictionary=["EXIT", "Taxi", "unheard-of"])
    assert {answer.text for answer in among} == {"exit", "taxi"}
    assert [among[i].text for i in (1, 3)] == ["exit", "taxi"]
    with pytest.raises(UsageError, match="holds none of the dictionary's 1 words"):
        model.predict(batch, dictionary=["unheard-of"])
    with torch.no_grad():
        assert model.losses(model.prepare(pictures(1), [Text("unheard-of")]))["word"] == 0


def test_lexicons_that_cannot_be_read(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path, what in ((tmp_path / "none", "No such file"), (tmp_path / "binary", "not UTF-8"), (listed(tmp_path / "empty", [" ", ""]), "no word")):
        with pytest.raises(UsageError, match=what):
            built(lexicon=str(path))
