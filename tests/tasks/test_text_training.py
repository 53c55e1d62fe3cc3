"""Training to read: what the character set cannot say is counted and named, and a run validates as any other."""

from __future__ import annotations

import json

import numpy as np
import pytest
from drawn_words import word
from PIL import Image

from cvtool.cli import command
from cvtool.errors import InputError
from cvtool.records import Record
from cvtool.tasks._sets import Sets
from cvtool.weights import build


def words(*texts: str) -> list[Record]:
    return [Record(file_name=f"{i}.png", text=text) for i, text in enumerate(texts)]


def test_texts_that_the_character_set_cannot_say_are_left_out_counted_and_named():
    model = build("crnn.tiny", categories=[], charset="digits")
    sets = Sets(words("12", "3é", "é€", "4"), words("ab"), [])
    (line,) = sets.readable_texts(model)
    assert [record["text"] for record in sets.train] == ["12", "4"]
    assert [record["text"] for record in sets.val] == ["ab"], "what cannot be read counts as read wrong"
    assert "2 texts" in line
    assert "'é' 2" in line
    assert "'€' 1" in line
    assert "--charset" in line


def test_texts_longer_than_the_model_reads_are_left_out():
    model = build("attn-ocr.tiny", categories=[])
    longest = "a" * model.max_length
    sets = Sets(words(longest, longest + "b", "c"), [], [])
    (line,) = sets.readable_texts(model)
    assert len(sets.train) == 2
    assert f"more than {model.max_length} characters" in line


def test_nothing_left_to_learn_is_an_error():
    with pytest.raises(InputError, match="2 texts"):
        Sets(words("x", "y"), [], []).readable_texts(build("crnn.tiny", categories=[], charset="digits"))


def test_a_list_of_words_trains_validates_and_is_read(tmp_path, monkeypatch, capsys):
    """By the commands: `path<TAB>text` in, figures of the field in the log, records out."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    texts = ["12", "7", "40", "é"]
    for number, text in enumerate(texts):
        Image.fromarray(word(text, rng, size=(32, 48))).save(f"{number}.png")
    (tmp_path / "train.tsv").write_text("".join(f"{number}.png\t{text}\n" for number, text in enumerate(texts)), encoding="utf-8")

    def run(verb: str, *words: str) -> None:
        command(verb).main(list(words), standalone_mode=False)

    run("train", "-m", "crnn.tiny", "--data", "train.tsv", "--data-val", "train.tsv", "--epochs", "1", "-b", "3", "--charset", "digits", "-o", "runs")
    said = capsys.readouterr().err
    assert "1 text with characters" in said
    assert "'é' 1" in said
    *_, last = (json.loads(line) for line in (tmp_path / "runs/0001/log.jsonl").read_text().splitlines())
    assert 0 <= last["val_word_accuracy"] <= 0.75, "the fourth cannot be read"
    assert last["val_CER"] >= 0
    run("ocr", "0.png", "1.png", "--words", "-m", "runs/0001", "-f", "jsonl")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [set(record) >= {"text", "score"} for record in found] == [True, True]
    assert all(set(record["text"]) <= set("0123456789") for record in found)
