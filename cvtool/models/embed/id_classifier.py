"""Identity classifier: a class for each identity, and what stands before the classes is the embedding (Taigman 2014, doi:10.1109/CVPR.2014.220).

With cross-entropy it is enough that identities can be told apart, so each spreads along its own direction; `--loss arcface`, `cosface` or `proxy`
make the same templates draw them together. The identities are those of the training: one more needs another training (`--init` starts from this
one), where an embedder such as `siamese` compares any two pictures.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch
from cvtool.errors import ModelError, UsageError
from cvtool.models.embed import _encoder
from cvtool.models.embed._encoder import Headed, identities

if TYPE_CHECKING:
    from cvtool.losses import Criterion

VARIANTS = {
    "base": {"backbone": "simple-cnn", "dimensions": 64},
    "resnet18": {"backbone": "resnet.18", "dimensions": 512},
    "small": {"backbone": "simple-cnn:depth=3,width=16", "dimensions": 32, "image_size": 32},
    "plane": {"backbone": "simple-cnn:depth=3,width=16", "dimensions": 2, "image_size": 32},
    "tiny": {"backbone": "simple-cnn.tiny", "dimensions": 8, "image_size": 16},
}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
RECIPE = {
    "step": "supervised",
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 1e-4,
    "batch_size": 64,
    "epochs": 30,
    "schedule": "cosine",
    "variants": {"tiny": {"batch_size": 16}},
}


class IdClassifier(Headed):
    """templates: K D, a row an identity: the weights of the softmax, and what ArcFace and its kin compare with."""

    needs = ("labels",)
    criterion_kind = "embeddings"
    measured = "vectors"

    def __init__(self, *args: Any, classes: int, **named: Any) -> None:
        super().__init__(*args, **named)
        self.templates = nn.Parameter(apart(classes, self.head.out_features))
        self.criterion: Criterion | None = None

    def check_criterion(self, criterion: Criterion) -> None:
        """Raises UsageError for a sum that would not train the templates."""
        if "templates" not in criterion.beside:
            hint = "arcface, cosface or proxy; cross-entropy if nothing is said; siamese learns by the others"
            raise UsageError(f"loss: {criterion.text} leaves out the identities' templates, which id-classifier learns", hint=hint)

    def logits(self, images: Tensor) -> Tensor:
        """B 3 H W -> B K, of the identities that were learned."""
        return self(images) @ self.templates.T

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The criterion's terms, or `cross_entropy`. Raises ModelError for an identity that was not learned."""
        labels, known = identities(batch), len(self.templates)
        if int(labels.max()) >= known:
            hint = "train it again with all of them (--init starts from this one); siamese embeds pictures of anyone"
            raise ModelError(f"identity {int(labels.max())} is not one of the {known} that this classifier has learned", hint=hint)
        z = self(batch.images)
        if self.criterion is not None:
            return self.criterion(z, labels, templates=self.templates)
        return {"cross_entropy": F.cross_entropy(z @ self.templates.T, labels)}


def apart(count: int, dimensions: int) -> Tensor:
    """K D, of length about 1: random, which in many dimensions is nearly square to each other; in a plane evenly round.

    For two templates of a plane that lie upon each other pull and push their classes with equal force, and never part.
    """
    if dimensions == 2:
        angles = 2 * math.pi * (torch.arange(count) / count)
        return torch.stack([angles.cos(), angles.sin()], 1)
    return torch.randn(count, dimensions) * dimensions**-0.5


def build(*, classes: int, backbone: str = "simple-cnn", dimensions: int = 64, normalize: bool = False, image_size: int = 0) -> IdClassifier:
    """backbone: a classifier, with changes behind a colon. dimensions: of the embedding. normalize: to length 1. image_size: 0 for the backbone's.

    Raises UsageError.
    """
    return IdClassifier(*_encoder.backbone(backbone, image_size), dimensions, normalize=normalize, classes=classes)
