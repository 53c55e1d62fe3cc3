"""A dictionary as a tree of prefixes: after a beginning, what may come next so that it still becomes a word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

LOST = -1  # where no word leads


class Tree:
    """Of words of labels. A node is a number: `root` is the empty beginning; LOST is what is the beginning of no word."""

    root = 0

    def __init__(self, words: Iterable[Sequence[int]]) -> None:
        self.nodes: list[dict[int, int]] = [{}]
        for word in words:
            at = 0
            for label in word:
                children = self.nodes[at]
                if (following := children.get(label)) is None:
                    following = children[label] = len(self.nodes)
                    self.nodes.append({})
                at = following

    def child(self, node: int, label: int) -> int:
        """Where a node leads with one more label."""
        return LOST if node == LOST else self.nodes[node].get(label, LOST)

    def masks(self, nodes: Sequence[int], classes: int) -> Tensor:
        """len(nodes) classes bool: what may follow each."""
        rows, columns = list[int](), list[int]()
        for row, node in enumerate(nodes):
            if node != LOST:
                columns += self.nodes[node]
                rows += [row] * len(self.nodes[node])
        out = torch.zeros(len(nodes), classes, dtype=torch.bool)
        out[rows, columns] = True
        return out
