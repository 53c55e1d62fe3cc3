"""The recurrent decoder with attention: its equations, step by step and all at once, greedy and searched."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch

from cvtool.batch import Prepare
from cvtool.models.ocr._attention_decoder import AttentionDecoder, taught, written
from cvtool.models.ocr._recogniser import Recogniser
from cvtool.models.ocr._targets import IGNORED, per_character

cells = pytest.mark.parametrize("cell", ["gru", "lstm"])


def made(cell="gru", classes=4, features=6, hidden=8):
    torch.manual_seed(0)
    decoder = AttentionDecoder(classes, features, hidden, cell=cell, embedding=5).eval()
    with torch.no_grad():
        decoder.out.weight.mul_(4)  # opinions that differ
        decoder.out.bias[-1] = -2  # and texts that are not empty
    return decoder


@pytest.fixture
def reader():
    made = Recogniser("abc", Prepare())
    made.max_length = 3
    return made


OPTIONS = {"charset": None, "dictionary": None, "beam": None, "attention": False}


def test_a_step_is_the_papers():
    decoder, memory = made(), torch.randn(2, 7, 6)
    state = torch.randn(2, 8)
    steps = decoder.stepping(memory, state)
    logits = steps(torch.tensor([1, 4]))
    for b, token in enumerate((1, 4)):
        layer = decoder.attention
        e = torch.stack([layer.score.weight[0] @ torch.tanh(layer.of_query(state[b]) + layer.of_memory(m)) for m in memory[b]])
        a = e.softmax(0)
        torch.testing.assert_close(steps.looked[b], a)
        glimpse = sum(w * m for w, m in zip(a, memory[b], strict=True))
        after = decoder.cell(torch.cat([glimpse, decoder.embedding.weight[token]])[None], state[b : b + 1])
        torch.testing.assert_close(logits[b], decoder.out(after)[0])


@cells
def test_taught_all_at_once_it_says_what_it_says_step_by_step(cell):
    decoder, memory, state = made(cell), torch.randn(3, 7, 6), torch.randn(3, 8)
    before = torch.randint(0, 5, (3, 4))
    steps = decoder.stepping(memory, state)
    torch.testing.assert_close(decoder(before, memory, state), torch.stack([steps(tokens) for tokens in before.unbind(1)], 1))
    assert not torch.allclose(decoder(before, memory, state), decoder(before, memory))  # what it begins with tells


def test_what_is_taught(reader):
    before, targets = taught(reader, ["ab", "cabba", "c", ""])
    assert before.tolist() == [[4, 0, 1], [4, 3, 3], [4, 2, 3], [4, 3, 3]]  # start, then the characters
    assert targets.tolist() == [[0, 1, 3], [IGNORED] * 3, [2, 3, IGNORED], [3, IGNORED, IGNORED]]  # "cabba" is longer than it can say


@cells
def test_a_wide_beam_finds_the_likeliest_of_all_texts_and_its_probability(cell, reader):
    decoder, memory = made(cell), torch.randn(2, 5, 6)
    texts = ["".join(t) for n in range(4) for t in itertools.product("abc", repeat=n)]
    before, targets = taught(reader, texts)
    found = written(reader, decoder.stepping(memory), (1, 5), **OPTIONS | {"beam": 64})
    likeliest = written(reader, decoder.stepping(memory), (1, 5), **OPTIONS)
    for row, answer, quick in zip(memory, found, likeliest, strict=True):
        said = decoder(before, row.expand(len(texts), -1, -1)).log_softmax(-1)
        chances = {
            text: float(sum(told[i, wanted] for i, wanted in enumerate(target) if wanted != IGNORED).exp())
            for text, told, target in zip(texts, said, targets.tolist(), strict=True)
        }
        best = max(chances, key=chances.get)
        assert answer.text == best
        assert answer.score == pytest.approx(chances[best], rel=1e-4)
        assert quick.score == pytest.approx(chances[quick.text], rel=1e-4)
        assert answer.characters.shape == (len(answer.text),)


def test_only_what_is_allowed_comes_out(reader):
    decoder, memory = made(), torch.randn(6, 5, 6)
    assert {c for answer in written(reader, decoder.stepping(memory), (1, 5), **OPTIONS) for c in answer.text} > {"b"}
    assert {c for answer in written(reader, decoder.stepping(memory), (1, 5), **OPTIONS | {"charset": "b"}) for c in answer.text} <= {"b"}
    words = ("cab", "bb", "a")
    assert {answer.text for answer in written(reader, decoder.stepping(memory), (1, 5), **OPTIONS | {"dictionary": words})} <= set(words)


@cells
def test_it_learns_to_look_at_each_character_where_it_stands(cell):
    """Columns hold a character each, the rest is noise; all the strings are made of them, in order."""
    torch.manual_seed(0)
    reader = SimpleNamespace(
        charset="abcd", labels={c: i for i, c in enumerate("abcd")}, max_length=3, allowed=lambda _: torch.ones(4, dtype=torch.bool)
    )
    decoder = AttentionDecoder(5, 16, 32, cell=cell, embedding=8)
    optimizer = torch.optim.Adam(decoder.parameters(), 1e-2)

    def drawn(count):
        labels = torch.randint(4, (count, 3))
        memory = 0.1 * torch.randn(count, 6, 16)
        for place in range(3):  # columns 0, 2 and 4: what stands there, and that it is the first, second or third
            memory[torch.arange(count), 2 * place, labels[:, place]] += 1
            memory[:, 2 * place, 8 + place] += 1
        return memory, ["".join("abcd"[i] for i in row) for row in labels.tolist()]

    for _ in range(100):
        memory, texts = drawn(32)
        before, targets = taught(reader, texts)
        loss = per_character(decoder(before, memory), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    memory, texts = drawn(40)
    with torch.no_grad():
        answers = written(reader, decoder.stepping(memory), (1, 6), **OPTIONS | {"attention": True})
    assert sum(answer.text == text for answer, text in zip(answers, texts, strict=True)) >= 38
    looked = torch.stack([answer.attention for answer in answers if len(answer.text) == 3])  # N 3 1 6
    torch.testing.assert_close(looked.sum((2, 3)), torch.ones(len(looked), 3))
    assert looked.mean(0)[:, 0].argmax(-1).tolist() == [0, 2, 4]
