"""Classifiers that answer together: the average of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cvtool.batch import Batch
from cvtool.categories import Categories
from cvtool.results import Labels


@dataclass(frozen=True)
class Batches:
    """The same pictures, prepared for each member."""

    each: list[Batch]

    def __len__(self) -> int:
        return len(self.each[0])

    @property
    def places(self) -> list[Any]:
        return self.each[0].places

    def to(self, device: torch.device | str, memory_format: torch.memory_format = torch.preserve_format) -> Batches:
        return Batches([batch.to(device, memory_format) for batch in self.each])


class Average(nn.Module):
    """members: models that give `Labels`, each with its own `prepare` and `categories`, which need not be the same."""

    result = Labels
    needs = ("labels",)

    def __init__(self, members: Sequence[Any]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.categories: Categories = joined([member.categories for member in members])
        index = {category["name"]: label for label, category in enumerate(self.categories)}
        self.places = [[index[category["name"]] for category in member.categories] for member in members]

    def prepare(self, pictures: Sequence[Any], targets: Sequence[Any] | None = None) -> Batches:
        """H W 3 uint8 pictures -> a batch a member."""
        return Batches([member.prepare(pictures, targets) for member in self.members])  # type: ignore[operator]

    def probabilities(self, batch: Batches) -> Tensor:
        """B K: the mean over members; a class that a member does not know is 0 there."""
        total: Tensor | None = None
        for member, places, own in zip(self.members, self.places, batch.each, strict=True):
            results = member.predict(own, max_det=len(places))  # type: ignore[operator]
            scores = results[0].scores.new_zeros(len(results), len(self.categories))
            for row, result in zip(scores, results, strict=True):
                row[torch.tensor(places, device=row.device)[result.labels]] = result.scores
            total = scores if total is None else total + scores
        assert total is not None
        return total / len(self.members)

    @torch.no_grad()
    def predict(self, batch: Batches, *, conf: float | None = None, max_det: int | None = None) -> list[Labels]:
        """The `max_det` likeliest classes (5 unless told), best first; those below `conf` are left out."""
        best, labels = self.probabilities(batch).sort(dim=1, descending=True, stable=True)
        count = min(max_det or 5, best.shape[1])
        results = [Labels(labels=label[:count], scores=score[:count]) for label, score in zip(labels, best, strict=True)]
        return results if conf is None else [result[result.scores >= conf] for result in results]


def joined(tables: Sequence[Categories]) -> Categories:
    """All categories by name, in the order of their first appearance, with their ids if no two of those are the same, else numbered anew."""
    found: dict[str, dict[str, Any]] = {}
    for category in (c for table in tables for c in table if c is not None):
        found.setdefault(category["name"], dict(category))
    ids = [category["id"] for category in found.values()]
    if len(set(ids)) < len(ids):
        return [{"id": i, "name": name} for i, name in enumerate(found, 1)]
    return list(found.values())
