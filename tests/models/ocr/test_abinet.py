"""ABINet: position attention with keys of a U-Net, a language model that does not see the place it fills, gated fusion, and rounds of correction."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn_words import word
from PIL import Image
from torch import nn

from cvtool import weights
from cvtool.batch import Batch
from cvtool.categories import numbered
from cvtool.errors import UsageError
from cvtool.models.ocr._cloze import ClozeNetwork, as_chances, cloze_mask, lengths_of, misspelled
from cvtool.models.ocr.abinet import Fusion, MiniUNet, PositionAttention
from cvtool.results import Text
from cvtool.tasks import train as task
from cvtool.train.run import Run

WORDS = "apple bread chair dance eagle flute grape house ivory jelly knife lemon mango night ocean piano queen river sugar table".split()


def built(variant="tiny", **changes):
    torch.manual_seed(0)
    return weights.build(f"abinet.{variant}", categories=numbered(1), **changes).eval()


def batch_of(model, texts):
    return model.prepare([word(text, np.random.default_rng(i), size=(32, 64)) for i, text in enumerate(texts)], [Text(text) for text in texts])


# ---- vision --------------------------------------------------------------------------------------------------------


def test_the_published_size_has_the_published_number_of_parameters():
    """36.7 M (the paper's table 5), with 36 characters."""
    assert sum(p.numel() for p in built("base", charset="alnum").parameters()) == pytest.approx(36.7e6, rel=0.002)


@pytest.mark.system("abinet")
@pytest.mark.parametrize("size", [(8, 32), (8, 16), (5, 7)])
def test_the_u_net_goes_down_and_up_again_past_each_size(size):
    """Four maps down; each on the way up is added to the one of its size, so that without the deep ones something of the map remains."""
    torch.manual_seed(0)
    net = MiniUNet(6, 4).eval()
    x = torch.randn(1, 6, *size)
    maps = []
    for layer in [*net.down, *net.up]:
        layer.register_forward_hook(lambda _, __, out: maps.append(out))
    y = net(x)
    assert y.shape == x.shape
    down, up = maps[:4], maps[4:]
    assert [tuple(m.shape[2:]) for m in up] == [tuple(m.shape[2:]) for m in (*down[2::-1], x)]
    by_hand = down[3]
    for layer, skip in zip(net.up[:3], (down[2], down[1], down[0]), strict=True):
        by_hand = layer(F.interpolate(by_hand, size=skip.shape[2:])) + skip
    torch.testing.assert_close(y, net.up[3](F.interpolate(by_hand, size=size)))


@pytest.mark.system("abinet")
def test_each_place_looks_for_its_character_by_keys_of_the_u_net():
    """softmax(Q K^T / sqrt(D)) V: Q of the places' codes alone, K the U-Net of the map, V the map itself."""
    torch.manual_seed(0)
    attention = PositionAttention(8, 5, 4).eval()
    x = torch.randn(2, 8, 4, 6)
    with torch.no_grad():
        features, looked = attention(x)
        at = np.arange(5)[:, None] / 10_000 ** (np.arange(0, 8, 2) / 8)
        codes = torch.from_numpy(np.stack([np.sin(at), np.cos(at)], 2).reshape(5, 8)).float()
        q, k, v = attention.query(codes), attention.keys(x).flatten(2), x.flatten(2)
        for b in range(2):
            share = torch.softmax(q @ k[b] / 8**0.5, 1)
            torch.testing.assert_close(looked[b].flatten(1), share)
            torch.testing.assert_close(features[b], share @ v[b].T)


# ---- language ------------------------------------------------------------------------------------------------------


def cloze(layers=3):
    torch.manual_seed(0)
    return ClozeNetwork(7, 16, 4, 32, layers, dropout=0.0).eval()


@pytest.mark.system("abinet")
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_no_layer_lets_a_place_see_its_own_character(layers):
    """Zero gradient, exactly, and a gradient from every other place; another character there changes nothing there."""
    net = cloze(layers)
    chances = torch.rand(2, 6, 7).softmax(-1).requires_grad_()
    lengths = torch.tensor([6, 6])
    known = net(chances, lengths)
    for i in range(6):
        (gradient,) = torch.autograd.grad(known[:, i].square().sum(), chances, retain_graph=True)
        touched = gradient.abs().sum((0, 2))
        assert touched[i] == 0
        assert (touched[torch.arange(6) != i] > 0).all()
        other = chances.detach().clone()
        other[:, i] = torch.rand(2, 7).softmax(-1)
        changed = net(other, lengths)
        assert torch.equal(changed[:, i], known[:, i])
        assert not torch.equal(changed, known)


def test_the_mask_hides_the_diagonal_and_what_follows_the_word():
    assert cloze_mask(4, torch.tensor([3]))[0, 0].int().tolist() == [[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert cloze_mask(4, torch.tensor([1])).any(-1).all()  # an empty word: each place still has one to look at
    assert cloze()(as_chances([[]], 4, 7, 6), torch.tensor([1])).isfinite().all()


def test_a_word_ends_where_its_end_mark_is_the_likeliest():
    chances = as_chances([[0, 1], [], [0, 1, 2, 3, 4]], 5, 7, 6)
    assert lengths_of(chances, 6).tolist() == [3, 1, 5]
    assert chances.argmax(-1).tolist() == [[0, 1, 6, 6, 6], [6] * 5, [0, 1, 2, 3, 6]]
    assert lengths_of(torch.eye(7)[None, :5], 6).tolist() == [5]  # no end mark


def test_misspelled_words_are_mostly_right_and_the_same_for_a_seed():
    words = [[i % 26 for i in range(20)]] * 200
    wrong = misspelled(words, 26, np.random.default_rng(0), wrong=0.1)
    assert wrong == misspelled(words, 26, np.random.default_rng(0), wrong=0.1)
    assert {len(word) for word in wrong} > {19, 20, 21}
    same = [sum(a == b for a, b in zip(one, words[0], strict=True)) for one in wrong if len(one) == 20]
    assert 17 < np.mean(same) < 20


# ---- fusion and rounds ---------------------------------------------------------------------------------------------


@pytest.mark.system("abinet")
def test_a_gate_mixes_the_features_of_both():
    torch.manual_seed(0)
    fusion = Fusion(7, 4)
    v, l = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    g = 1 / (1 + torch.exp(-(torch.cat([v, l], 2) @ fusion.gate.weight.T + fusion.gate.bias)))
    torch.testing.assert_close(fusion.mixed(v, l), g * v + (1 - g) * l)
    torch.testing.assert_close(fusion(v, l), fusion.head(g * v + (1 - g) * l))


@pytest.mark.system("abinet")
@pytest.mark.parametrize("rounds", [1, 3])
def test_the_first_round_corrects_vision_and_the_next_ones_fusion(rounds):
    model = built()
    given = []
    model.language.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    with torch.no_grad():
        vision, languages, fusions, _ = model(batch_of(model, ["house"]).images, rounds)
    assert len(given) == len(languages) == len(fusions) == rounds
    for chances, logits in zip(given, [vision, *fusions], strict=False):
        torch.testing.assert_close(chances, logits.softmax(-1))


@pytest.mark.system("abinet")
def test_the_loss_is_that_of_vision_and_the_means_over_the_rounds_of_the_others():
    model = built(vision_weight=0.5, language_weight=2.0)
    batch = batch_of(model, ["house", "eye"])
    with torch.no_grad():
        found = model.losses(batch)
        vision, languages, fusions, _ = model(batch.images, 3)
    each = {"vision": ([vision], 0.5), "language": (languages, 2.0), "fusion": (fusions, 1.0)}
    assert list(found) == list(each)
    for name, (several, weight) in each.items():
        terms = []
        for logits in several:
            logs = logits.log_softmax(-1)
            terms.append(-sum(logs[b, i, model.labels[c]] for b, text in enumerate(("house", "eye")) for i, c in enumerate(text)))
            terms[-1] -= logs[0, 5, model.end] + logs[1, 3, model.end]
        torch.testing.assert_close(found[name], weight * torch.stack(terms).mean() / (5 + 3 + 2))


@pytest.mark.system("abinet")
def test_no_gradient_goes_back_through_what_the_language_model_is_given():
    """Its losses, of every round, teach the language model alone; that of fusion reaches vision through its features."""
    model = built()
    losses = model.losses(batch_of(model, ["house", "apple"]))
    own = dict(model.named_parameters())

    def taught(name):
        gradients = torch.autograd.grad(losses[name], list(own.values()), retain_graph=True, allow_unused=True)
        return {key.partition(".")[0] for key, g in zip(own, gradients, strict=True) if g is not None and g.abs().sum() > 0}

    assert taught("language") == {"language"}
    assert taught("vision") == {"vision"}
    assert taught("fusion") == {"vision", "language", "fusion"}


@pytest.mark.system("abinet")
def test_whose_reading_comes_out_can_be_chosen():
    model = built()
    batch = batch_of(model, ["house", "apple"])
    with torch.no_grad():
        vision, languages, fusions, looked = model(batch.images, 3)
    for output, logits in {"vision": vision, "language": languages[-1], "fusion": fusions[-1]}.items():
        answers = model.predict(batch, output=output, attention=True)
        for b, answer in enumerate(answers):
            chance = logits[b].softmax(-1)
            best = chance.argmax(-1)
            length = int((best == model.end).int().argmax()) if (best == model.end).any() else 8
            assert answer.text == "".join(model.charset[i] for i in best[:length])
            torch.testing.assert_close(answer.characters, chance.amax(-1)[:length])
            assert answer.score == pytest.approx(float(chance.amax(-1)[:length].prod() * chance[length, model.end]), rel=1e-4)
            torch.testing.assert_close(answer.attention, looked[b, :length])
    assert [a.text for a in model.predict(batch)] == [a.text for a in model.predict(batch, output="fusion", rounds=3)]
    model.language.forward = None
    assert len(model.predict(batch, output="vision")) == 2  # asks no language model


def test_a_dictionary_gives_its_likeliest_word():
    """By the product of the places' probabilities, a capital's added to its small letter's; every word is weighed."""
    model = built(charset="aAbB", max_length=3)
    words = ["ab", "BA", "a", "bbb"]
    batch = batch_of(model, ["ab", "bb"])
    with torch.no_grad():
        fusions = model(batch.images, 3)[2]
    for b, answer in enumerate(model.predict(batch, dictionary=[*words, "xyz"])):
        chance = fusions[-1][b].softmax(-1).double()
        either = {"a": chance[:, 0] + chance[:, 1], "b": chance[:, 2] + chance[:, 3], ".": chance[:, 4]}
        scores = {text: float(np.prod([either[c][i] for i, c in enumerate(text.lower() + ".")])) for text in words}
        assert answer.text == max(scores, key=scores.get)
        assert answer.score == pytest.approx(scores[answer.text], rel=1e-4)


def test_only_the_characters_that_are_asked_for():
    model = built()
    batch = batch_of(model, ["house"])
    for output in ("vision", "language", "fusion"):
        assert all(c.isdigit() for c in model.predict(batch, charset="digits", output=output)[0].text)


class Misreads(nn.Module):
    """Stands for the vision model: a picture's first row is what it reads, and its features tell no more."""

    def __init__(self, classes, channels):
        super().__init__()
        self.table = nn.Parameter(torch.randn(classes, channels))

    def forward(self, images):
        labels = images[:, 0, 0].long()
        return self.table[labels], 4.0 * F.one_hot(labels, len(self.table)).float(), images.new_zeros(*labels.shape, 1, 1)


def misread(texts, rng, wrong):
    """A batch for `Misreads`: of each word, `wrong` characters are any others."""
    rows = torch.full((len(texts), 3, 1, 6), 26.0)
    for i, text in enumerate(texts):
        for k, c in enumerate(text):
            rows[i, :, 0, k] = ord(c) - ord("a")
        for k in rng.permutation(5)[:wrong]:
            rows[i, :, 0, k] = int(rng.integers(26))
    return Batch(rows, torch.zeros(len(texts), 1, 6, dtype=torch.bool), [], [Text(text) for text in texts])


@pytest.mark.system("abinet")
def test_three_rounds_correct_more_misread_words_than_one():
    model, rng = built(charset="letters", max_length=5), np.random.default_rng(0)
    model.vision = Misreads(27, 32)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=200)
    for _ in range(200):
        texts = [WORDS[i] for i in rng.integers(len(WORDS), size=48)]
        optimizer.zero_grad()
        sum(model.losses(misread(texts, rng, int(rng.integers(3)))).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    model.eval()
    texts = WORDS * 10
    right = {}
    for wrong in (0, 1, 2):
        batch = misread(texts, np.random.default_rng(9), wrong)
        for rounds in (1, 3):
            right[wrong, rounds] = np.mean([answer.text == text for answer, text in zip(model.predict(batch, rounds=rounds), texts, strict=True)])
            assert right[wrong, rounds] > 0.2
    assert right[0, 3] >= 0.98
    for wrong in (1, 2):
        assert right[wrong, 3] >= right[wrong, 1]
    assert right[2, 3] > right[2, 1] + 0.05  # two errors in five letters: one is corrected with the help of the other's correction


# ---- one half alone ------------------------------------------------------------------------------------------------


def corrected(model):
    """The share of words with one wrong letter, at each of its places, that the language model alone puts right."""
    rng = np.random.default_rng(5)
    pairs = [(text, text[:k] + chr(ord("a") + int(rng.integers(26))) + text[k + 1 :]) for text in WORDS for k in range(5)]
    return np.mean([found == text for found, (text, _) in zip(model.correct([wrong for _, wrong in pairs], error=0.3), pairs, strict=True)])


@pytest.mark.system("abinet")
def test_the_language_model_learns_from_a_list_of_words_and_goes_into_the_whole(tmp_path):
    (tmp_path / "words.txt").write_text("\n".join(WORDS * 600) + "\n")
    settings = {"charset": "letters", "max_length": 5, "dropout": 0.0, "epochs": 1, "batch_size": 50, "lr": 2e-2, "seed": 1}
    folder = task.train("abinet.tiny", tmp_path / "words.txt", split="80,20", output=tmp_path / "runs", layers=[{**settings, "learn": "language"}])
    log = Run.open(folder)[0].folder.joinpath("log.jsonl").read_text()
    assert "val_language" in log
    assert "val_word_accuracy" not in log
    alone, info = weights.load(str(folder))
    assert info.arguments["learn"] == "language"
    assert corrected(alone) > 0.7
    assert alone.correct(WORDS) == WORDS
    with pytest.raises(UsageError, match="has learned language alone: its vision model is untrained"):
        alone.predict(alone.prepare([np.zeros((8, 8, 3), np.uint8)]))
    assert corrected(built(charset="letters", max_length=5)) < 0.2
    fresh = built(charset="letters", max_length=5, learn="language")
    for key, value in fresh.vision.state_dict().items():
        assert value.shape == alone.vision.state_dict()[key].shape
    assert all(p.requires_grad == name.startswith("language.") for name, p in fresh.named_parameters())

    (tmp_path / "seen").mkdir()
    rows = []
    for i, text in enumerate(WORDS[:4]):
        Image.fromarray(word(text, np.random.default_rng(i), size=(16, 48))).save(tmp_path / f"seen/{i}.png")
        rows.append(f'{{"file_name": "{tmp_path}/seen/{i}.png", "text": "{text}"}}')
    (tmp_path / "seen.jsonl").write_text("\n".join(rows) + "\n")
    last = task.train(
        str(folder), tmp_path / "seen.jsonl", output=tmp_path / "runs", layers=[{"learn": "all", "epochs": 1, "lr": 1e-6, "batch_size": 4}]
    )
    whole, info = weights.load(str(last))
    assert info.arguments.get("learn", "all") == "all"
    assert corrected(whole) > 0.7
    assert len(whole.predict(whole.prepare([word("house", np.random.default_rng(0))]))) == 1


def test_vision_alone_is_trained_and_read_without_the_language_model():
    model = built(learn="vision")
    batch = batch_of(model, ["house"])
    assert list(model.losses(batch)) == ["vision"]
    assert all(p.requires_grad == name.startswith("vision.") for name, p in model.named_parameters())
    assert model.predict(batch)[0].text == model.predict(batch, output="vision")[0].text
    with pytest.raises(UsageError, match="its language model is untrained"):
        model.predict(batch, output="fusion")


def test_a_corrector_keeps_what_it_cannot_know():
    model = built(charset="letters", max_length=5)
    assert model.correct(["house", "farfetched"], error=1e-9) == ["house", "farfetched"]  # nothing is thought to be misread
    with pytest.raises(UsageError, match="'ß' is not in the model's set"):
        model.correct(["groß"])


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"output": "sight"}, "unknown output 'sight'"),
        ({"output": "vision", "rounds": 2}, "has no rounds"),
        ({"rounds": 0}, "at least one round, not 0"),
    ],
)
def test_what_cannot_be_asked_is_said(asked, what):
    model = built()
    with pytest.raises(UsageError, match=what):
        model.predict(batch_of(model, ["house"]), **asked)


@pytest.mark.parametrize("change", [{"learn": "sounds"}, {"widths": (8, 8)}, {"height": 30}, {"rounds": 0}])
def test_what_cannot_be_built_is_said(change):
    with pytest.raises(UsageError):
        built(**change)
