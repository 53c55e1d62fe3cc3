"""Embedding ensemble: the data divided into clusters, a learner for each, joined in one embedding (Sanakoyeu 2019, arXiv:1906.05990).

The backbone is one; each of the K learners is a linear layer that gives its own K-th of the embedding. `divide-and-conquer`, its training step,
groups the pictures by k-means of the whole embedding, anew every few epochs; a batch is of one group and updates that group's learner alone, besides
the backbone; in the end all learn together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch
from cvtool.errors import UsageError
from cvtool.layers.classifier import Classifier
from cvtool.losses.triplet import triplet
from cvtool.models.embed import _encoder
from cvtool.models.embed._encoder import Encoder, identities

if TYPE_CHECKING:
    from cvtool.losses import Criterion

VARIANTS = {
    "base": {"backbone": "simple-cnn", "learners": 4, "dimensions": 64},
    "resnet18": {"backbone": "resnet.18", "learners": 8, "dimensions": 128},
    "small": {"backbone": "simple-cnn:depth=3,width=16", "learners": 4, "dimensions": 32, "image_size": 32},
    "tiny": {"backbone": "simple-cnn.tiny", "learners": 2, "dimensions": 8, "image_size": 16},
}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"divide-and-conquer": "base"}
RECIPE = {
    "step": "divide-and-conquer",
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 1e-4,
    "batch_size": 64,
    "epochs": 30,
    "schedule": "cosine",
    "variants": {"tiny": {"batch_size": 16}},
}


class EmbeddingEnsemble(Encoder):
    """active: the number of the learner that learns, None for all of them as one embedding."""

    needs = ("labels",)
    criterion_kind = "embeddings"
    measured = "vectors"

    def __init__(self, classifier: Classifier, features: int, dimensions: int, learners: int) -> None:
        super().__init__(classifier)
        self.learners = nn.ModuleList(nn.Linear(features, dimensions // learners) for _ in range(learners))
        self.active: int | None = None
        self.criterion: Criterion | None = None

    def check_criterion(self, criterion: Criterion) -> None:
        """Raises UsageError for a loss that compares with templates of the classes, which this has not."""
        if "templates" in criterion.beside:
            what = f"loss: {criterion.text} compares with a template of each class, which embedding-ensemble has not"
            raise UsageError(what, hint="-m id-classifier has them")

    def forward(self, images: Tensor) -> Tensor:
        """B 3 H W -> B D: each learner's part of length 1 / sqrt(K), so that the whole is of length 1."""
        features = self.features(images)
        return torch.cat([F.normalize(learner(features), dim=1) for learner in self.learners], 1) / len(self.learners) ** 0.5

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The criterion's terms, or `triplet`, of the active learner's part; of the whole where none is, and outside of training."""
        labels = identities(batch)
        if self.active is None or not self.training:
            z = self(batch.images)
        else:
            z = F.normalize(self.learners[self.active](self.features(batch.images)), dim=1)
        return {"triplet": triplet(z, labels)} if self.criterion is None else self.criterion(z, labels)


def build(*, classes: int = 0, backbone: str = "simple-cnn", learners: int = 4, dimensions: int = 64, image_size: int = 0) -> EmbeddingEnsemble:
    """backbone: a classifier, with changes behind a colon. learners: K, which divides `dimensions`. image_size: 0 for the backbone's.

    Raises UsageError.
    """
    if learners < 2 or dimensions < 1 or dimensions % learners:
        raise UsageError(f"{dimensions} numbers are not shared out among {learners} learners", hint="two learners at least, a number that divides it")
    return EmbeddingEnsemble(*_encoder.backbone(backbone, image_size), dimensions, learners)
