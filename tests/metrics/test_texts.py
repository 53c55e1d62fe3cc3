"""Edit distances, error rates and word accuracy against plain tables, RapidFuzz's and jiwer's numbers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtool.errors import UsageError
from cvtool.metrics import cer, wer, word_accuracy
from cvtool.metrics._edit_distance import Edit, distance, script

WORDS = st.text("abcé ", max_size=12)


def table(true: str, found: str) -> int:
    """The textbook's table, cell by cell."""
    row = list(range(len(found) + 1))
    for i, one in enumerate(true, 1):
        above, row = row, [i]
        for j, other in enumerate(found, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (one != other)))
    return row[-1]


def applied(true: str, edits: list[Edit]) -> str:
    """What the edits, in order and each at its place, make of the text."""
    made, place = "", 0
    for edit in edits:
        assert edit.true is None or true[edit.place] == edit.true
        made += true[place : edit.place] + (edit.found or "")
        place = edit.place + (edit.true is not None)
    return made + true[place:]


@given(WORDS, WORDS)
@settings(max_examples=150)
def test_distance_and_script_are_the_textbooks(true, found):
    edits = script(true, found)
    assert distance(true, found) == len(edits) == table(true, found)
    divided = script(true, found, cells=3)  # until hardly anything is left
    assert len(divided) == len(edits)
    assert applied(true, edits) == applied(true, divided) == found


def test_long_texts_are_divided_and_equal():
    draw = np.random.default_rng(0)
    true = "".join(draw.choice(list("abcdefgh "), 1500))
    found = "".join("x" if hit < 0.05 else one for one, hit in zip(true, draw.random(1500), strict=True) if hit < 0.95)
    assert len(script(true, found, cells=2**14)) == len(script(true, found)) == distance(true, found)
    assert applied(true, script(true, found, cells=2**14)) == found


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6).filter(lambda rows: all(one.strip() for one, _ in rows)))
@settings(max_examples=60)
def test_error_rates_and_their_parts_are_jiwers(rows):
    jiwer = pytest.importorskip("jiwer")
    true, found = [one for one, _ in rows], [other for _, other in rows]
    for module, measure, name in ((cer, jiwer.process_characters, "character"), (wer, jiwer.process_words, "word")):
        rate, theirs = module.of_texts(true, found, unicode="none"), measure(true, found)
        assert rate.above.sum() / rate.below.sum() == pytest.approx(theirs.cer if name == "character" else theirs.wer, abs=1e-12)
        for key in ("insertions", "deletions", "substitutions"):
            assert rate.counts[f"{name}_{key}"] == getattr(theirs, key)


def test_confusions_are_counted_best_first():
    rate = cer.of_texts(["O0O0", "rn", "abc"], ["0000", "m", "ab"])
    assert rate.confusions[0] == {"true": "O", "found": "0", "count": 2}
    assert {"true": "c", "found": "", "count": 1} in rate.confusions
    assert all(one["count"] >= other["count"] for one, other in pairwise(rate.confusions))


@pytest.mark.parametrize(
    ("true", "found", "how", "right"),
    [
        ("Café", "Cafe\u0301", {}, 1),
        ("Café", "Cafe\u0301", {"unicode": "none"}, 0),
        ("fi", "\ufb01", {"unicode": "nfkc"}, 1),
        ("fi", "\ufb01", {}, 0),
        ("STOP!", "stop", {"case": False, "alnum": True}, 1),
        ("STOP!", "stop", {"case": False}, 0),
        ("STOP!", "STOP", {"alnum": True}, 1),
        ("  a b ", "a b", {}, 1),
    ],
)
def test_protocols(true, found, how, right):
    assert word_accuracy.of_texts([true], [found], **how).above[0] == right
    assert (cer.of_texts([true], [found], **how).above[0] == 0) == right
    assert (wer.of_texts([true], [found], **how).above[0] == 0) == right


def test_white_space_inside_counts_unless_squeezed():
    assert cer.of_texts(["a\nb"], ["a  b"]).above[0] == 2
    assert cer.of_texts(["a\nb"], ["a  b"], squeeze=True).above[0] == 0
    with pytest.raises(UsageError, match="unicode=latin is no form"):
        wer.of_texts(["a"], ["a"], unicode="latin")
