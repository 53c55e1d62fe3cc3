"""Vectors of words: of their n-grams, learned from text, and as files list them."""

from __future__ import annotations

import numpy as np
import pytest

from cvtool.errors import InputError
from cvtool.models.ocr.seed import OWN, OWN_DIMS
from cvtool.ops.word_vectors import Listed, NGrams, learned, rows_of, words_in


def likeness(words, a, b):
    (x, y), _ = words.vectors([a, b])
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def test_a_word_is_the_mean_of_the_rows_of_its_n_grams():
    table = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert len(rows_of("cat", 50)) == 1 + 3 + 2 + 1  # itself; <ca cat at>; <cat cat>; <cat>
    vectors, known = NGrams(table).vectors(["cat", "Cat,", ""])
    np.testing.assert_allclose(vectors[0], np.mean([table[row] for row in rows_of("cat", 50)], 0), rtol=1e-5)
    assert np.array_equal(vectors[0], vectors[1])
    assert known.all()


@pytest.mark.system("seed")
def test_words_among_the_same_neighbours_come_to_lie_together():
    rng = np.random.default_rng(0)
    kinds = {kind: [f"{kind}{chr(97 + i)}{chr(97 + i)}" for i in range(4)] for kind in ("qu", "ve", "zo")}
    near = {kind: [f"{letter}{i}" for i in map(chr, range(97, 105))] for kind, letter in zip(kinds, "xyw", strict=True)}
    sentences = []
    for _ in range(400):
        kind = rng.choice(list(kinds))
        sentences.append([*rng.choice(near[kind], 2), rng.choice(kinds[kind]), *rng.choice(near[kind], 2)])
    words = learned(sentences, dims=4, buckets=512, vocabulary=100, least=2)
    same = np.mean([likeness(words, a, b) for own in kinds.values() for a in own for b in own if a != b])
    other = np.mean([likeness(words, a, b) for a in kinds["qu"] for b in kinds["zo"]])
    assert same > 0.8
    assert other < 0.4
    with pytest.raises(InputError, match="too little text"):
        learned(sentences[:3], dims=4)


@pytest.mark.system("seed")
def test_ours_know_what_goes_together_and_have_a_vector_for_anything():
    words = NGrams.load(OWN)
    assert words.dims == OWN_DIMS
    assert likeness(words, "integer", "integers") > 0.6
    assert likeness(words, "server", "client") > likeness(words, "server", "month") + 0.2
    assert likeness(words, "Error!", "error") == pytest.approx(1)
    vectors, known = words.vectors(["€99.50", "Zugspitze", "", "a"])
    assert known.all()
    assert (np.linalg.norm(vectors, axis=1) > 0.05).all()


def test_saved_in_8_bits_it_is_nearly_the_same(tmp_path):
    words = NGrams(np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32))
    words.save(tmp_path / "words.npz")
    np.testing.assert_allclose(NGrams.load(tmp_path / "words.npz").table, words.table, atol=np.abs(words.table).max() / 200)


def test_a_file_of_fasttext_is_read(tmp_path):
    path = tmp_path / "some.vec"
    path.write_text("3 2\nthe 1 0\nThe 0.5 0.5\ncat -1 2e-1\n")
    words = Listed(path)
    vectors, known = words.vectors(["The", "CAT", "dog"])
    np.testing.assert_allclose(vectors, [[0.5, 0.5], [-1, 0.2], [0, 0]])
    assert known.tolist() == [True, True, False]
    path.write_text("3 2\nthe 1\n")
    with pytest.raises(InputError, match="these are no word vectors"):
        Listed(path)
    with pytest.raises(InputError, match="cannot read"):
        Listed(tmp_path / "none.vec")


def test_words_of_running_text():
    assert words_in("It's 3 o'clock: re-read Café!") == ["it's", "o'clock", "re-read", "café"]
