"""The words of a dictionary: which of them a model can read, and how the answer is spelled."""

import pytest
import torch

from cvtool.errors import UsageError
from cvtool.models.ocr._autoregressive import beam_search
from cvtool.models.ocr._dictionary import Dictionary


def test_capitals_and_small_letters_are_one_and_the_answer_is_spelled_as_it_stands_there():
    words = Dictionary.of(["Polish", "polish", "NASA", "straße", "é", "far too long for it"], "abcdefghijklmnopqrstuvwxyzNASP", torch.ones(30) > 0, 6)
    assert [words.spelling(text) for text in ("Polish", "polish", "POLISH", "nasa", "NaSa")] == ["Polish", "polish", "Polish", "NASA", "NASA"]
    assert sorted(words.spellings) == ["nasa", "polish"]
    assert words.table.shape == (2, 7)
    assert words.masks([0])[0].nonzero()[:, 0].tolist() == [13, 15, 26, 29]  # n, p, N, P


def test_only_what_may_come_out_counts():
    small = torch.tensor([c.islower() for c in "abAB"])
    assert Dictionary.of(["AB"], "abAB", small, 6).spelling("ab") == "AB"
    with pytest.raises(UsageError, match="none of the dictionary's 1 words can be read"):
        Dictionary.of(["AB"], "abAB", torch.tensor([True, False, True, False]), 6)


class Fixed:
    """A decoder that says the same at each place, whatever came before."""

    looked = None

    def __init__(self, chances):
        self.logits, self.place = torch.tensor(chances).log(), -1

    def __call__(self, tokens):
        self.place += 1
        return self.logits[self.place].expand(len(tokens), -1)

    def select(self, index):
        pass


def test_a_picture_of_capitals_finds_the_word_and_has_their_probability():
    """a b A B and the end: it sees "AB"; of "ab" and "bb" the first is meant, in its own spelling's probability."""
    steps = Fixed([[0.1, 0.1, 0.6, 0.1, 0.1], [0.1, 0.2, 0.1, 0.5, 0.1], [0.1, 0.1, 0.1, 0.1, 0.6]])
    words = Dictionary.of(["ab", "bb"], "abAB", torch.ones(4) > 0, 2)
    (answer,) = beam_search(steps, 1, 5, 4, torch.ones(5) > 0, 2, beam=3, words=words)
    assert answer.labels == [2, 3]
    assert words.spelling("AB") == "ab"
    assert answer.score == pytest.approx(0.6 * 0.5 * 0.6)
