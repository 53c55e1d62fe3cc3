"""CTC: the loss and every way of reading, against all paths written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from cvtool.errors import UsageError
from cvtool.losses.ctc import ctc
from cvtool.ops.ctc import aligned, best_path, collapsed, prefix_beam, read, surprise
from cvtool.ops.lexicon import Lexicon

TWO_STEPS = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]])  # blank, a


def random_steps(steps, labels, seed, sharp=1.0):
    """T K, ln of probabilities."""
    return (torch.randn(steps, labels, generator=torch.Generator().manual_seed(seed)) * sharp).log_softmax(1)


def all_texts(log_probs):
    """text (a tuple of labels) -> the sum over its paths, by enumeration."""
    found = {}
    p = log_probs.exp().double().numpy()
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        text = tuple(label for i, label in enumerate(path) if label and (not i or label != path[i - 1]))
        found[text] = found.get(text, 0.0) + math.prod(p[t, label] for t, label in enumerate(path))
    return found


def labels_of(*texts):
    return [torch.tensor(text, dtype=torch.int64) for text in texts]


@pytest.mark.system("ctc")
def test_the_worked_example_whose_best_path_is_not_the_most_probable_text():
    log_probs = TWO_STEPS.log()
    assert float(ctc(log_probs, labels_of((1,)))) == pytest.approx(0.4463, abs=5e-5)
    assert float(surprise(log_probs, labels_of((1,))).exp().reciprocal()) == pytest.approx(0.64)
    assert float(surprise(log_probs, labels_of(())).exp().reciprocal()) == pytest.approx(0.36)
    assert best_path(log_probs, torch.tensor([2])) == [([], [], [])]
    greedy, searched = (read(log_probs, torch.tensor([2]), "a", beam=beam)[0] for beam in (None, 2))
    assert (greedy.text, searched.text) == ("", "a")
    assert greedy.score == pytest.approx(0.36)
    assert searched.score == pytest.approx(0.64)


@pytest.mark.system("ctc")
def test_hello_needs_a_blank_between_its_two_l():
    hello = labels_of((1, 2, 3, 3, 4))
    for steps, possible in ((5, False), (6, True)):
        even = torch.full((1, steps, 5), 0.2).log()
        assert bool(surprise(even, hello).isfinite()) == possible
    assert float(surprise(torch.full((1, 6, 5), 0.2).log(), hello)) == pytest.approx(6 * math.log(5), rel=1e-6)  # one path, h e l - l o
    assert collapsed([1, 1, 0, 2, 0, 3, 0, 3, 3, 0, 4, 4]) == [1, 2, 3, 3, 4]
    assert collapsed([1, 2, 3, 3, 4]) == [1, 2, 3, 4]


@pytest.mark.system("ctc")
@given(st.integers(1, 5), st.integers(0, 10_000), st.lists(st.integers(1, 2), max_size=3))
def test_the_loss_is_the_sum_over_all_paths(steps, seed, text):
    log_probs = random_steps(steps, 3, seed)
    expected = all_texts(log_probs).get(tuple(text), 0.0)
    assert math.exp(-float(surprise(log_probs[None], labels_of(text)))) == pytest.approx(expected, rel=1e-4, abs=1e-7)


@pytest.mark.system("ctc")
def test_the_loss_is_torchs():
    logits = torch.randn(4, 9, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    texts, steps = [(1, 2, 2), (5,), (), (3, 4, 5, 1)], torch.tensor([9, 3, 2, 7])
    padded = torch.tensor([list(text) + [1] * (4 - len(text)) for text in texts])
    theirs = F.ctc_loss(logits.log_softmax(2).transpose(0, 1), padded, steps, torch.tensor([3, 1, 0, 4]), reduction="none")
    ours = ctc(logits, labels_of(*texts), steps, reduction="none")
    torch.testing.assert_close(ours, theirs)
    (g,) = torch.autograd.grad(ours.sum(), logits)
    torch.testing.assert_close(g, torch.autograd.grad(theirs.sum(), logits)[0])
    assert not g[1, 3:].any()  # steps beyond its own teach nothing
    assert float(ctc(logits, labels_of(*texts), steps)) == pytest.approx(float(theirs.mean()), rel=1e-6)


def test_an_impossible_text_costs_nothing_and_teaches_nothing():
    logits = torch.zeros(2, 2, 3, requires_grad=True)
    loss = ctc(logits, labels_of((1, 1), (1, 2)), reduction="sum")
    loss.backward()
    assert float(loss) == pytest.approx(2 * math.log(3))
    assert not logits.grad[0].any()
    assert logits.grad[1].any()
    assert float(ctc(logits[:0], [], torch.zeros(0, dtype=torch.int64))) == 0


@given(st.integers(1, 6), st.integers(0, 10_000))
def test_the_best_path_is_the_most_probable_label_of_each_step(steps, seed):
    log_probs = random_steps(steps, 4, seed)
    (labels, tops, middles), *_ = best_path(log_probs[None], torch.tensor([steps]))
    path = log_probs.argmax(1).tolist()
    assert labels == collapsed(path)
    p = log_probs.exp()
    runs = [list(run) for _, run in itertools.groupby(range(steps), key=lambda t: path[t])]
    assert tops == pytest.approx([float(p[run, path[run[0]]].max()) for run in runs if path[run[0]]])
    assert middles == [np.mean(run) for run in runs if path[run[0]]]


@pytest.mark.system("ctc")
@given(st.integers(1, 5), st.integers(0, 10_000))
def test_a_wide_beam_finds_every_text_and_its_probability(steps, seed):
    log_probs = random_steps(steps, 3, seed)
    found = prefix_beam(log_probs.numpy(), 200)
    expected = all_texts(log_probs)
    assert len(found) == len(expected)
    for text, value in found:
        assert math.exp(value) == pytest.approx(expected[text], rel=1e-4)
    assert [value for _, value in found] == sorted((value for _, value in found), reverse=True)


def test_a_long_line_does_not_come_to_nothing():
    log_probs = random_steps(600, 50, 0, sharp=0.1)
    labels, value = prefix_beam(log_probs.numpy(), 3)[0]
    assert -2400 < value < -1200
    assert len(labels) > 0
    lexicon = Lexicon(("a" * 200, "b"), "ab")
    assert lexicon.best(random_steps(500, 3, 1, sharp=0.1).exp().numpy())[0] == [0]


@pytest.mark.system("ctc")
@given(st.integers(3, 5), st.integers(0, 10_000))
def test_of_a_dictionary_the_most_probable_word_is_read(steps, seed):
    """Over "aA" and "b": words that differ in case alone share their probabilities."""
    log_probs = random_steps(steps, 4, seed)
    words = ("ab", "ba", "b", "bb", "bab", "a")
    chances = dict.fromkeys(words, 0.0)
    p = log_probs.exp().double().numpy()
    folded = np.stack([p[:, 0], p[:, 1] + p[:, 2], p[:, 3]], 1)
    for text, value in all_texts(torch.from_numpy(folded).log()).items():
        if (word := "".join(" ab"[label] for label in text)) in chances:
            chances[word] = value
    answer = read(log_probs[None], torch.tensor([steps]), "aAb", lexicon=Lexicon(words, "aAb"))[0]
    assert answer.text == max(chances, key=chances.get)
    assert answer.score == pytest.approx(chances[answer.text], rel=1e-4)
    assert answer.characters.shape == (len(answer.text),)


def test_a_dictionarys_own_spelling_is_given_and_the_nearer_one_of_two():
    said = torch.full((1, 5, 5), 1e-4)
    said[0, range(5), [1, 0, 4, 0, 0]] = 1.0  # "aB" of "a A b B"
    log_probs, steps = (said / said.sum(2, keepdim=True)).log(), torch.tensor([5])
    assert read(log_probs, steps, "aAbB", lexicon=Lexicon(("AB", "bb"), "aAbB"))[0].text == "AB"
    assert read(log_probs, steps, "aAbB", lexicon=Lexicon(("AB", "aB", "ab"), "aAbB"))[0].text == "aB"
    assert read(log_probs[:, :1], torch.tensor([1]), "aAbB", lexicon=Lexicon(("abab", "bb"), "aAbB"))[0].score == 0


def test_dictionaries_that_cannot_be_used():
    assert Lexicon(("Größe", "gross", ""), "gros").words == ["gross"]
    assert Lexicon(("Größe", "gross"), "gros").unknown == 1
    with pytest.raises(UsageError, match="no word that the model can spell"):
        Lexicon(("Größe",), "abc")
    with pytest.raises(UsageError, match="--beam has no effect beside --dictionary"):
        read(TWO_STEPS.log(), torch.tensor([2]), "a", beam=3, lexicon=Lexicon(("a",), "a"))
    for beam in (0, -1):
        with pytest.raises(UsageError, match="keeps nothing"):
            read(TWO_STEPS.log(), torch.tensor([2]), "a", beam=beam)


@given(st.integers(1, 6), st.integers(0, 10_000), st.lists(st.integers(1, 2), min_size=1, max_size=3))
def test_an_alignment_is_that_of_the_texts_most_probable_path(steps, seed, text):
    log_probs = random_steps(steps, 3, seed)
    paths = [path for path in itertools.product(range(3), repeat=steps) if collapsed(path) == text]
    if not paths:
        return
    best = max(paths, key=lambda path: sum(float(log_probs[t, label]) for t, label in enumerate(path)))
    runs = [list(run) for _, run in itertools.groupby(range(steps), key=lambda t: best[t])]
    expected = [float(log_probs[run, best[run[0]]].max().exp()) for run in runs if best[run[0]]]
    tops, middles = aligned(log_probs.numpy(), text)
    assert tops.tolist() == pytest.approx(expected, rel=1e-5)
    assert middles.tolist() == [np.mean(run) for run in runs if best[run[0]]]
