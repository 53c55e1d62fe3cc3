"""The step self-training: what is certain enough is learned from, all else is left alone, and a stopped run goes on to the bit."""

from __future__ import annotations

import json
import tomllib
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_words import word
from PIL import Image

from cvtool import weights
from cvtool.__main__ import main
from cvtool.errors import InputError, UsageError
from cvtool.results import Text
from cvtool.runtime.device import seed_everything
from cvtool.tasks import train as task
from cvtool.train import recipe as recipes
from cvtool.train.steps import self_training, supervised

WORDS = ["ab", "cab", "ba", "abc", "bca", "cc"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Twelve words without truth, one in a folder of its own."""
    place = tmp_path_factory.mktemp("unlabelled")
    (place / "more").mkdir()
    rng = np.random.default_rng(5)
    for i in range(12):
        Image.fromarray(word(WORDS[i % 6], rng, size=(32, 48))).save(place / (f"more/{i}.png" if i == 11 else f"{i}.png"))
    return place


def model_of(name="abinet.tiny", **changes):
    torch.manual_seed(0)
    return weights.build(name, categories=[], charset="abc", **({"max_length": 4} if name.startswith("abinet") else {}), **changes)


def recipe_of(folder, **changes):
    return recipes.DEFAULTS | self_training.SETTINGS | {"step": "self-training", "unlabeled": str(folder), "threshold": 0.6, "lr": 1e-2} | changes


def batch_of(model, count=4, seed=0):
    rng = np.random.default_rng(seed)
    return model.prepare([word(WORDS[i % 6], rng, size=(32, 48)) for i in range(count)], [Text(WORDS[i % 6]) for i in range(count)])


def say(step, answers):
    """Let the model be certain of this: answers[i] of the i-th picture."""

    def certain(batch, at=iter(range(10**6))):
        return [answers[next(at) % len(answers)] for _ in range(len(batch))]

    step.evaluated.certain = certain


def turn(step, batch):
    """One turn of the loop; what the losses were."""
    step.model.train()
    (phase,) = step.phases()
    phase.optimizer.zero_grad()
    losses = phase.losses(batch)
    sum(losses.values()).backward()
    phase.optimizer.step()
    step.after(batch)
    return {name: float(value.detach()) for name, value in losses.items()}


# ---- certainty -----------------------------------------------------------------------------------------------------


@pytest.mark.system("self-training")
def test_the_certainty_is_the_least_character_of_the_best_round():
    """C = min over t of max over m of P_m(y_t), the end mark among the y_t; one round alone is never more certain of the same text."""
    model = model_of(rounds=3).eval()
    for head in (model.fusion.head, model.vision.head):
        torch.nn.init.normal_(head.weight, std=2.0)  # certain of something, in each round of another thing
    batch = batch_of(model, 6)
    with torch.no_grad():
        _, _, fusions, _ = model(batch.images, 3)
    assert not torch.allclose(fusions[0], fusions[2])
    for b, (text, certainty) in enumerate(model.certain(batch)):
        best, read, least = [], "", 1.0
        for t in range(5):
            rounds = [logits[b, t].softmax(-1).tolist() for logits in fusions]
            best = [max(values) for values in zip(*rounds, strict=True)]
            label = int(np.argmax(best))
            if label == model.end or t == 4:
                least = min(least, best[model.end])
                break
            read, least = read + "abc"[label], min(least, best[label])
        assert text == read
        assert certainty == pytest.approx(least, rel=1e-6)
        assert 0 < certainty <= 1


@pytest.mark.system("self-training")
@pytest.mark.parametrize("name", ["crnn.tiny", "attn-ocr.tiny", "satrn.tiny"])
def test_any_reader_that_gives_its_characters_is_as_certain_as_of_the_least_one(name):
    model = model_of(name).eval()
    batch = batch_of(model)
    for (text, certainty), answer in zip(model.certain(batch), model.predict(batch), strict=True):
        assert text == answer.text
        assert certainty == pytest.approx(min(answer.characters.tolist(), default=0.0))


def test_vision_alone_is_an_ensemble_of_one():
    model = model_of(learn="vision").eval()
    batch = batch_of(model)
    for (text, certainty), answer in zip(model.certain(batch), model.predict(batch), strict=True):
        assert text == answer.text
        assert certainty <= min([*answer.characters.tolist(), 1.0])


# ---- what enters a batch -------------------------------------------------------------------------------------------


@pytest.mark.system("self-training")
@pytest.mark.parametrize("certainty", ["its own", "whole"])
def test_a_threshold_of_one_keeps_none_and_trains_as_without_it(folder, certainty):
    """To the bit, and the global random numbers with it, even where the model thinks that it cannot err."""
    other = supervised.make(model_of(dropout=0.2), recipe_of(folder))
    step = self_training.make(model_of(dropout=0.2), recipe_of(folder, threshold=1.0, refresh=1))
    if certainty == "whole":
        say(step, [("ab", 1.0)])
    results = []
    for one in (other, step):
        seed_everything(3)
        if one is step:
            one.begin_epoch(None, 0, 0)
        results.append([turn(one, batch_of(one.model, seed=k)) for k in range(3)] + [torch.rand(()).item()])
    assert step.labels == {}
    assert results[0] == results[1]
    assert all(torch.equal(a, b) for a, b in zip(step.model.state_dict().values(), other.model.state_dict().values(), strict=True))


@pytest.mark.system("self-training")
def test_what_is_unsure_enters_no_batch(folder):
    step = self_training.make(model_of(), recipe_of(folder, share=0.75, augment="noise"))
    answers = [("ab", 0.95), ("cab", 0.6), ("bb", 0.1), ("", 1.0), ("a", 0.61), ("cc", 0.9)]
    say(step, answers)
    step.begin_epoch(None, 0, 0)
    assert step.labels == {0: "ab", 4: "a", 5: "cc", 6: "ab", 10: "a", 11: "cc"}  # not 0.6 itself, and no empty text
    assert step.news() == ["self-training: 6 of 12 unlabelled pictures are read with a certainty above 0.6"]
    assert step.news() == []
    batch, seen = batch_of(step.model), set()
    for _ in range(12):
        both = step.given(batch)
        assert both is step.given(batch)  # whoever asks again in a turn gets the same
        assert [target.text for target in both.targets[:4]] == WORDS[:4]
        assert torch.equal(both.images[:4], batch.images)
        entries = step.drawn(4, 0)
        assert len(both) == 4 + 3 == 4 + len(set(entries))
        assert [target.text for target in both.targets[4:]] == [step.labels[i] for i in entries]
        seen |= set(entries)
        step.after(batch)
    assert seen == set(step.labels)
    assert len(step.drawn(100, 0)) == 6  # none comes twice in a batch


@pytest.mark.system("self-training")
def test_the_losses_are_those_of_both_kinds_of_pictures_as_one_batch(folder):
    step = self_training.make(model_of(), recipe_of(folder, share=1.0))
    say(step, [("ab", 0.9), ("c", 0.2)])
    step.begin_epoch(None, 0, 0)
    batch = batch_of(step.model)
    step.model.eval()
    with torch.no_grad():
        found, alone = step.phases()[0].losses(batch), step.model.losses(batch)
        entries = step.drawn(4, 0)
        pictures = [step.drawings.dataset.pixels(i) for i in entries]
        theirs = step.model.losses(step.model.prepare(pictures, [Text("ab")] * 4))
    assert all(i % 2 == 0 for i in entries)
    for name, value in found.items():  # means over the characters and end marks: 4, 3 + ... of the labelled, 3 each of the others
        labelled, others = sum(len(text) + 1 for text in WORDS[:4]), 4 * 3
        torch.testing.assert_close(value, (labelled * alone[name] + others * theirs[name]) / (labelled + others))


def test_pictures_of_other_widths_go_together():
    """A batch is as wide as its widest picture; nothing of a picture changes by what stands beside it."""
    model = model_of("crnn.tiny").eval()
    rng = np.random.default_rng(0)
    narrow = model.prepare([word("ab", rng, size=(32, 40))], [Text("ab")], memory_format=torch.channels_last)
    wide = model.prepare([word("abc", rng, size=(32, 100))], [Text("abc")])
    for first, second in ((narrow, wide), (wide, narrow)):
        both = self_training.joined(first, second)
        assert both.images.shape == (2, 3, 32, 128)
        assert both.padding.sum((1, 2)).tolist() == [32 * (128 - (40 if one is narrow else 100)) for one in (first, second)]
        assert both.images.is_contiguous(memory_format=torch.channels_last) == (first is narrow)
        expected = [answer.score for one in (first, second) for answer in model.predict(one)]
        assert [answer.score for answer in model.predict(both)] == pytest.approx(expected, rel=1e-4)


# ---- reading again -------------------------------------------------------------------------------------------------


@pytest.mark.system("self-training")
@pytest.mark.parametrize(("refresh", "expected"), [(0, [0, 4]), (3, [0, 3, 6])])
def test_pseudo_labels_are_read_again_each_epoch_or_every_so_many_turns(folder, refresh, expected):
    step = self_training.make(model_of(), recipe_of(folder, refresh=refresh))
    asked = []

    def certain(batch):
        assert not step.model.training
        asked.append(step.turn)
        return [("abc"[len(asked) % 3], 0.9)] * len(batch)

    step.readings.batch_size, step.evaluated.certain = 12, certain  # asked once a reading
    for epoch in range(2):
        step.model.train()
        step.begin_epoch(None, epoch, 0)
        assert step.model.training
        for k in range(4):
            batch = batch_of(step.model, seed=k)
            assert {target.text for target in step.given(batch).targets[4:]} == {"abc"[len(asked) % 3]}
            turn(step, batch)
    assert asked == expected
    step.begin_epoch(None, 2, 3)  # an epoch that is gone on with
    assert asked == expected


@pytest.mark.system("self-training")
def test_a_step_that_is_loaded_goes_on_to_the_bit(folder):
    step = self_training.make(model_of(), recipe_of(folder, refresh=3, augment="noise", ema=0.5, threshold=0.0))
    step.begin_epoch(None, 0, 0)
    for k in range(2):
        turn(step, batch_of(step.model, seed=k))
    assert step.labels
    state = deepcopy(step.state_dict())
    expected = [turn(step, batch_of(step.model, seed=k)) for k in range(2, 6)]
    other = self_training.make(model_of(), recipe_of(folder, refresh=3, augment="noise", ema=0.5, threshold=0.0))
    other.load_state_dict(state)
    other.begin_epoch(None, 0, 2)
    assert [turn(other, batch_of(other.model, seed=k)) for k in range(2, 6)] == expected
    assert other.labels == step.labels


def test_a_picture_that_cannot_be_read_is_left_out_and_told(tmp_path):
    Image.fromarray(word("a", np.random.default_rng(0))).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    step = self_training.make(model_of(), recipe_of(tmp_path))
    say(step, [("ab", 0.9)])
    step.begin_epoch(None, 0, 0)
    step.read()
    warned, kept = step.news()
    assert "bad.png cannot be used, and it is left out" in warned
    assert "1 of 2" in kept
    assert [target.text for target in step.given(batch_of(step.model)).targets[4:]] == ["ab"]
    strict = self_training.make(model_of(), recipe_of(tmp_path, strict=True))
    with pytest.raises(InputError):
        strict.begin_epoch(None, 0, 0)


def test_a_folder_with_other_pictures_does_not_fit_a_state(folder, tmp_path):
    state = self_training.make(model_of(), recipe_of(folder)).state_dict()
    Image.fromarray(word("a", np.random.default_rng(0))).save(tmp_path / "other.png")
    with pytest.raises(ValueError, match="not those that it was saved with"):
        self_training.make(model_of(), recipe_of(tmp_path)).load_state_dict(state)


# ---- what is typed -------------------------------------------------------------------------------------------------


def resolved(capsys, *words):
    """The recipe that --dry-run prints; what it says if it refuses."""
    code = main(["train", "--dry-run", "-m", "crnn.tiny", *map(str, words)])
    said = capsys.readouterr()
    return tomllib.loads(said.out) if code == 0 else said.err


@pytest.mark.system("self-training")
def test_the_option_is_the_step(capsys, folder, tmp_path):
    typed = resolved(capsys, "--unlabeled", folder, "--self-train", "--threshold", "0.7")
    assert (typed["step"], typed["unlabeled"], typed["threshold"]) == ("self-training", str(folder), 0.7)
    assert resolved(capsys, "--set", f"unlabeled={folder}", "--set", "step=self-training", "--set", "threshold=0.7") == typed
    (tmp_path / "c.toml").write_text(f'self-train = true\nunlabeled = "{folder}"\nthreshold = 0.7\n')
    assert resolved(capsys, "-c", tmp_path / "c.toml") == typed
    assert "--set step=self-training" in resolved(capsys, "--unlabeled", folder)
    assert "contradict" in resolved(capsys, "--self-train", "--set", "step=supervised")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"unlabeled": ""}, "needs pictures without truth"),
        ({"threshold": 1.5}, r"threshold lies in \[0, 1\]"),
        ({"refresh": -1}, "refresh is 0 or more"),
        ({"share": 0.0}, "share is above 0"),
        ({"overfit": 4}, "contradict each other"),
    ],
)
def test_wrong_settings_are_told(folder, changes, says):
    with pytest.raises(UsageError, match=says):
        self_training.make(model_of(), recipe_of(folder, **changes))


def test_models_that_say_nothing_of_their_characters_and_empty_folders_are_refused(folder, tmp_path):
    with pytest.raises(UsageError, match="how certain it is of each character"):
        self_training.make(weights.build("dict90k.tiny", categories=[]), recipe_of(folder))
    with pytest.raises(UsageError, match="models that read"):
        self_training.make(weights.build("resnet.tiny", categories=[{"id": 1, "name": "a"}]), recipe_of(folder))
    with pytest.raises(UsageError, match="models that read"):
        self_training.make(model_of(learn="language"), recipe_of(folder))
    with pytest.raises(UsageError, match="has none"):
        self_training.make(model_of(), recipe_of(tmp_path))


# ---- a run ---------------------------------------------------------------------------------------------------------


def drawn(place, name, texts, seed, *, letter=13, noise=0.0):
    """A list of words beside their pictures."""
    rng = np.random.default_rng(seed)
    (place / name).mkdir()
    for i, text in enumerate(texts):
        pixels = word(text, rng, size=(32, 48), letter=letter)
        if noise:
            pixels = (pixels + rng.normal(0, noise, (32, 48, 1))).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{name}/{i}.png")
    (place / f"{name}.tsv").write_text("".join(f"{name}/{i}.png\t{text}\n" for i, text in enumerate(texts)))


def last(folder):
    return json.loads((Path(folder) / "log.jsonl").read_text().splitlines()[-1])


@pytest.mark.system("self-training")
def test_a_run_that_is_resumed_in_another_folder_ends_with_the_same_weights(folder, tmp_path, monkeypatch):
    """In the middle of an epoch, and of two readings of the pictures, whose folder was typed from where the run began."""
    drawn(tmp_path, "few", WORDS * 4, 1)
    settings = {"charset": "abc", "max_length": 4, "batch_size": 8, "schedule": "constant", "epochs": 4, "lr": 1e-2, "step": "self-training"}
    settings |= {"unlabeled": folder.name, "threshold": 0.3, "refresh": 2, "augment": "noise"}
    monkeypatch.chdir(folder.parent)
    whole = task.train("abinet.tiny", tmp_path / "few.tsv", output=tmp_path / "runs", layers=[settings | {"steps": 8}])
    begun = task.train("abinet.tiny", tmp_path / "few.tsv", output=tmp_path / "runs", layers=[settings | {"steps": 5}])
    monkeypatch.chdir(tmp_path)
    task.resume(begun, settings={"steps": 8})
    one, other = (torch.load(one / "state.pt", weights_only=True)["step"] for one in (whole, begun))
    assert one["pseudo_labels"]
    assert one["pseudo_labels"] == other["pseudo_labels"]
    assert (one["turn"], other["turn"]) == (8, 8)
    assert all(torch.equal(value, other["model"][key]) for key, value in one["model"].items())


@pytest.mark.system("self-training")
def test_unlabelled_words_teach_a_reader_more_than_the_labelled_alone(tmp_path):
    """Clean words have a truth; of larger ones under noise there are but pictures. New ones of this kind are read better with them than without."""
    rng = np.random.default_rng(1)
    texts = ["".join(rng.choice(list("abc"), 2)) for _ in range(830)]
    drawn(tmp_path, "clean", texts[:480], 1)
    drawn(tmp_path, "noisy", texts[480:680], 2, letter=15, noise=14)
    drawn(tmp_path, "held", texts[680:], 3, letter=15, noise=14)
    settings = {"charset": "abc", "batch_size": 20, "schedule": "cosine", "seed": 1, "save_every": 99, "val_every": 99}
    more = {**settings, "epochs": 3, "lr": 2e-3}
    first = task.train("crnn.tiny", tmp_path / "clean.tsv", output=tmp_path / "runs", layers=[{**settings, "epochs": 12, "lr": 1e-2}])
    found = []
    for own in ({}, {"step": "self-training", "unlabeled": str(tmp_path / "noisy")}):
        given = {"output": tmp_path / "runs", "data_val": tmp_path / "held.tsv", "layers": [more | own]}
        found.append(last(task.train(str(first), tmp_path / "clean.tsv", **given)))
    alone, helped = found
    assert helped["val_word_accuracy"] > alone["val_word_accuracy"]
    assert helped["val_CER"] < alone["val_CER"]
    assert helped["val_ctc"] < 0.8 * alone["val_ctc"]
