"""The words of a dictionary as a recogniser can give them: capitals and small letters are one, the answer is spelled as the dictionary has it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from cvtool.errors import UsageError
from cvtool.ops.prefix_tree import Tree


class Dictionary:
    """Those of `words` that have at most `longest` characters, each of which may come out (`allowed`, a part of `charset`) large or small.

    Labels are places in `charset`, its length the end mark. Raises UsageError where no word is left.
    """

    def __init__(self, words: tuple[str, ...], charset: str, allowed: str, longest: int) -> None:
        self.end, self.longest = len(charset), longest
        first: dict[str, int] = {}
        self.group = torch.tensor([first.setdefault(_small(c), label) for label, c in enumerate(charset)] + [self.end])  # label -> that of any case
        known = {_small(c) for c in allowed}
        fitting = [word for word in words if 0 < len(word) <= longest and all(_small(c) in known for c in word)]
        if not fitting:
            what = f"none of the dictionary's {len(words):,} words can be read by this model"
            raise UsageError(what, hint=f"words of up to {longest} of these characters: {allowed[:60]}")
        self.exact = frozenset(fitting)
        self.spellings: dict[str, str] = {}
        for word in fitting:
            self.spellings.setdefault("".join(map(_small, word)), word)
        self.labels = [[*(first[c] for c in word), self.end] for word in self.spellings]
        self._group = self.group.tolist()

    @classmethod
    def of(cls, words: Sequence[str], charset: str, may: Tensor, longest: int) -> Dictionary:
        """may: a bool for each of `charset`. Kept from call to call, for it is asked for with every batch."""
        return _kept(tuple(words), charset, "".join(c for c, possible in zip(charset, may.tolist(), strict=True) if possible), longest)

    def spelling(self, text: str) -> str:
        """A text that is one of the words, as the dictionary spells it: itself, if it stands there so."""
        return text if text in self.exact else self.spellings["".join(map(_small, text))]

    @cached_property
    def tree(self) -> Tree:
        return Tree(self.labels)

    def child(self, node: int, label: int) -> int:
        """Where a beginning leads with one more label."""
        return self.tree.child(node, self._group[label])

    def masks(self, nodes: Sequence[int]) -> Tensor:
        """len(nodes) C bool: what may follow each beginning, in any case."""
        return self.tree.masks(nodes, len(self._group))[:, self.group]

    @cached_property
    def table(self) -> Tensor:
        """W longest+1: the labels of all words, end mark included, then -1."""
        return torch.tensor([word + [-1] * (self.longest + 1 - len(word)) for word in self.labels])


def _small(c: str) -> str:
    small = c.lower()
    return small if len(small) == 1 else c


_kept = lru_cache(maxsize=2)(Dictionary)
