"""Siamese network: one encoder for all inputs, so that what is alike lies together (Bromley 1993, doi:10.1142/S0218001493000339; Hadsell 2006).

    cvtool train -m siamese --data faces/ --loss triplet:margin=0.2 --set step=metric-learning --set miner=semi-hard

There is one set of weights, and each picture of a batch goes through it: the gradient is the sum over both inputs of a pair, all three of a triple.
The loss is any of the kind "embeddings", the contrastive one unless `--loss` says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from cvtool.batch import Batch
from cvtool.errors import UsageError
from cvtool.losses.contrastive import contrastive
from cvtool.models.embed import _encoder
from cvtool.models.embed._encoder import Headed, identities

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvtool.losses import Criterion

VARIANTS = {
    "base": {"backbone": "simple-cnn", "dimensions": 64},
    "resnet18": {"backbone": "resnet.18", "dimensions": 128},
    "small": {"backbone": "simple-cnn:depth=3,width=16", "dimensions": 32, "image_size": 32},
    "plane": {"backbone": "simple-cnn:depth=3,width=16", "dimensions": 2, "image_size": 32},
    "tiny": {"backbone": "simple-cnn.tiny", "dimensions": 8, "image_size": 16},
}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
RECIPE = {
    "step": "metric-learning",
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 1e-4,
    "batch_size": 64,
    "epochs": 30,
    "schedule": "cosine",
    "images_per_class": 4,
    "variants": {"tiny": {"batch_size": 16}},
}


class Siamese(Headed):
    """It learns from which pictures are of one class.

    miner: (embeddings B D, labels B) -> triples T 3 to learn from, in training; None for all of the batch. `metric-learning` sets it.
    """

    needs = ("labels",)
    criterion_kind = "embeddings"
    measured = "vectors"

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.criterion: Criterion | None = None
        self.miner: Callable[[Tensor, Tensor], Tensor] | None = None

    def check_criterion(self, criterion: Criterion) -> None:
        """Raises UsageError for a loss that compares with templates of the classes, which this has not."""
        if "templates" in criterion.beside:
            raise UsageError(
                f"loss: {criterion.text} compares with a template of each class, which siamese has not", hint="-m id-classifier has them"
            )

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The criterion's terms, or `contrastive`."""
        return self.compared(self(batch.images), identities(batch))

    def compared(self, z: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Embeddings B D of pictures of the classes B."""
        if self.criterion is None:
            return {"contrastive": contrastive(z, labels)}
        beside = {"triples": self.miner(z, labels)} if self.miner and self.training and z.requires_grad else {}
        return self.criterion(z, labels, **beside)


def build(*, classes: int = 0, backbone: str = "simple-cnn", dimensions: int = 64, normalize: bool = False, image_size: int = 0) -> Siamese:
    """backbone: a classifier, with changes behind a colon. dimensions: of the embedding. normalize: to length 1. image_size: 0 for the backbone's.

    Raises UsageError.
    """
    return Siamese(*_encoder.backbone(backbone, image_size), dimensions, normalize=normalize)
