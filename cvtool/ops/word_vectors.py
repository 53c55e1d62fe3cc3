"""Vectors of words by what they are made of, for words never seen too (Bojanowski 2016, arXiv:1607.04606, fastText's model).

A word is the set of its n-grams of 3 to 6 characters, its ends marked (`<cat>`: <ca, cat, at>, <cat ...), and itself; each n-gram is hashed to a row
of a table, and the word's vector is the mean of its rows. `learned` makes the table of running text. It does not sample as fastText does: it factors
the positive pointwise mutual information of words and their neighbours, which is what skip-gram with negative sampling comes to (Levy 2014, NIPS),
and solves for the rows whose means are those vectors.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cvtool.errors import InputError

Floats = NDArray[np.float32]
SHORTEST, LONGEST = 3, 6  # of n-grams
WINDOW = 4  # words on either side are neighbours
SMOOTHING = 0.75  # of the neighbours' frequencies, so that rare ones are no surprise in themselves
UNSEEN = 0.2  # length of a row that no text has told anything about, beside those of 1 of whole words
MOST = 400_000  # words of a file that are read: files are in the order of frequency


def word_of(text: str) -> str:
    """What is looked up: small letters, without the marks around them."""
    small = text.lower()
    return small.strip(".,;:!?\"'()[]{}<>") or small


@lru_cache(maxsize=1 << 16)
def rows_of(word: str, buckets: int) -> tuple[int, ...]:
    """The table's rows of a word's n-grams, its own first."""
    marked = f"<{word}>"
    parts = [marked[i : i + n] for n in range(SHORTEST, LONGEST + 1) for i in range(len(marked) - n + 1)]
    return tuple(zlib.crc32(part.encode()) % buckets for part in (f"={marked}", *parts))


class NGrams:
    """table: buckets D."""

    def __init__(self, table: Floats) -> None:
        self.table = table

    @property
    def dims(self) -> int:
        return self.table.shape[1]

    def vectors(self, texts: Sequence[str]) -> tuple[Floats, NDArray[np.bool_]]:
        """B D, and for each whether it is known, which all are."""
        found = [self.table[list(rows_of(word_of(text), len(self.table)))].mean(0) for text in texts]
        return np.stack(found) if found else self.table[:0], np.ones(len(found), bool)

    def save(self, path: Path) -> None:
        """Eight bits a number."""
        scale = np.abs(self.table).max() / 127
        np.savez_compressed(path, table=np.round(self.table / scale).astype(np.int8), scale=np.float32(scale))

    @classmethod
    def load(cls, path: Path) -> NGrams:
        with np.load(path) as file:
            return cls(file["table"].astype(np.float32) * file["scale"])


class Listed:
    """Vectors as fastText's `.vec` files list them: `COUNT DIMS`, then a word and its numbers a line. Raises InputError for anything else."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                _, dims = map(int, file.readline().split())
                rows = [line.rstrip().rsplit(" ", dims) for line, _ in zip(file, range(MOST), strict=False)]
            self.table = np.array([row[1:] for row in rows], np.float32).reshape(-1, dims)
        except OSError as error:
            raise InputError(f"cannot read the word vectors: {error.strerror}", where=path) from error
        except ValueError as error:
            hint = "fastText's text format: COUNT DIMS, then a word and its numbers a line"
            raise InputError("these are no word vectors", where=path, hint=hint) from error
        self.places = {row[0]: i for i, row in reversed(list(enumerate(rows)))}

    @property
    def dims(self) -> int:
        return self.table.shape[1]

    def vectors(self, texts: Sequence[str]) -> tuple[Floats, NDArray[np.bool_]]:
        """B D, 0 of words that are not in the list, and for each whether it is: as it is written, else in small letters."""
        places = [self.places.get(text, self.places.get(word_of(text), -1)) for text in texts]
        known = np.array(places, np.int64) >= 0
        return np.where(known[:, None], self.table[places] if len(self.table) else 0, 0).astype(np.float32), known


def words_in(text: str) -> list[str]:
    """Words of running text, in small letters."""
    return re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text.lower())


def learned(
    sentences: Iterable[Sequence[str]], *, dims: int = 64, buckets: int = 4096, vocabulary: int = 6000, least: int = 5, seed: int = 0
) -> NGrams:
    """The table of running text: `sentences` of words, of which the `vocabulary` most frequent that come `least` times are learned from.

    Raises InputError for text in which fewer words than twice `dims` do.
    """
    from scipy.sparse import csr_matrix, diags
    from scipy.sparse.linalg import lsqr, svds

    told = [list(sentence) for sentence in sentences]
    counts = Counter(word for sentence in told for word in sentence)
    words = [word for word, count in counts.most_common(vocabulary) if count >= least]
    if len(words) < 2 * dims:
        raise InputError(f"{len(words)} words come {least} times or more: too little text for vectors of {dims} numbers")
    rng, number = np.random.default_rng(seed), {word: i for i, word in enumerate(words)}
    pairs: Counter[tuple[int, int]] = Counter()
    for sentence in told:
        own = [number[word] for word in sentence if word in number]
        for gap in range(1, WINDOW + 1):
            for a, b in zip(own, own[gap:], strict=False):
                pairs[a, b] += 1
                pairs[b, a] += 1
    places, values = np.array(list(pairs), np.int64), np.array(list(pairs.values()), np.float64)
    seen = csr_matrix((values, (places[:, 0], places[:, 1])), (len(words), len(words)))
    each = np.asarray(seen.sum(1))[:, 0]
    neighbour = each**SMOOTHING
    expected = each[places[:, 0]] * (neighbour / neighbour.sum())[places[:, 1]]
    information = csr_matrix((np.maximum(0, np.log(values / expected)), (places[:, 0], places[:, 1])), seen.shape)
    u, s, _ = svds(information, dims, random_state=seed)
    wanted = u * np.sqrt(s)
    wanted /= np.maximum(np.linalg.norm(wanted, axis=1, keepdims=True), 1e-9)

    rows = [rows_of(word, buckets) for word in words]
    where = np.repeat(np.arange(len(words)), [len(row) for row in rows])
    member = csr_matrix((np.ones(len(where)), (where, np.concatenate(rows))), (len(words), buckets))
    member = diags(1 / np.asarray(member.sum(1))[:, 0]) @ member
    table = rng.normal(0, UNSEEN / np.sqrt(dims), (buckets, dims))
    missing = wanted - member @ table
    for d in range(dims):
        table[:, d] += lsqr(member, missing[:, d], damp=0.05, iter_lim=100)[0]
    return NGrams(table.astype(np.float32))
