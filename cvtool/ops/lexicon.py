"""A lexicon as a tree of prefixes, over all of whose words CTC's probabilities are summed at once (Graves 2006, ICML, section 4.1).

Words that begin alike share the sums of what they share, so a step costs a few operations on as many numbers as the tree has nodes, and the answer is
exact: it is the word of the highest probability, with no beam that could lose it and no candidates from a best path that may be far off.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cvtool.errors import UsageError

Floats = NDArray[np.float32]


class Lexicon:
    """words: as given, without those that hold a character outside `charset` (their number is `unknown`). Capitals and small letters are one.

    Raises UsageError where no word is left.
    """

    def __init__(self, words: tuple[str, ...], charset: str) -> None:
        self.charset = {c: label for label, c in enumerate(charset, 1)}
        self.group = np.arange(len(charset) + 1)  # label -> the one that stands for it in any case
        for c, label in self.charset.items():
            self.group[label] = self.charset.get(c.lower(), label)
        self.words = [word for word in dict.fromkeys(words) if word and all(c in self.charset or c.lower() in self.charset for c in word)]
        self.unknown = len(set(words)) - len(self.words)
        if not self.words:
            hint = "one word a line" if not words else "its characters: " + charset[:80]
            raise UsageError("the dictionary holds no word that the model can spell", hint=hint)
        nodes: dict[tuple[int, int], int] = {}
        parents, labels, self.ends = [0], [0], dict[int, list[int]]()
        for number in range(len(self.words)):
            at = 0
            for label in self.group[self.labels(number)].tolist():
                if (below := nodes.get((at, label))) is None:
                    below = nodes[at, label] = len(parents)
                    parents.append(at)
                    labels.append(label)
                at = below
            self.ends.setdefault(at, []).append(number)
        self.parents, self.node_labels = np.array(parents), np.array(labels)
        self.repeats = self.node_labels[self.parents] == self.node_labels
        self.nodes = np.array(list(self.ends))

    @staticmethod
    @lru_cache(maxsize=4)
    def of(words: tuple[str, ...], charset: str) -> Lexicon:
        """The tree of these words, kept from call to call."""
        return Lexicon(words, charset)

    def labels(self, number: int) -> list[int]:
        """Of a word, as it is spelled, or in small letters where the model knows no others."""
        return [self.charset.get(c) or self.charset[c.lower()] for c in self.words[number]]

    def folded_labels(self, number: int) -> list[int]:
        return self.group[self.labels(number)].tolist()

    def folded(self, probabilities: Floats) -> Floats:
        """T K -> T K: those of capitals added to those of their small letters."""
        out = np.zeros_like(probabilities.T)
        np.add.at(out, self.group, probabilities.T)
        return out.T

    def best(self, folded: Floats) -> tuple[list[int], float]:
        """T K probabilities -> the numbers of the most probable word's spellings, and its probability, in whatever case.

        Where no word has any (all have more characters than there are steps), it is the first word, of probability 0.
        """
        blank = np.zeros(len(self.parents), np.float32)  # of each prefix: the sum over its paths that end in a blank
        said = np.zeros_like(blank)  # and over those that end in its last label
        blank[0], scale = 1.0, 0.0
        for p in folded:
            before = blank + said
            said += np.where(self.repeats, blank[self.parents], before[self.parents])
            said *= p[self.node_labels]
            said[0] = 0.0
            blank = before * p[0]
            most = max(float(blank.max()), float(said.max()))
            if most <= 0:
                return self.ends[int(self.nodes[0])], 0.0
            blank /= most
            said /= most
            scale += float(np.log(most))
        found = (blank + said)[self.nodes]
        at = int(found.argmax())
        if found[at] <= 0:
            return self.ends[int(self.nodes[0])], 0.0
        return self.ends[int(self.nodes[at])], min(1.0, float(np.exp(np.log(found[at]) + scale)))
