"""What semantic networks share: the cut into raw outputs, losses and prediction, and the change of a stage's stride into dilation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Place, Prepare
from cvtool.errors import InputError
from cvtool.losses import Criterion
from cvtool.losses.cross_entropy import cross_entropy
from cvtool.results import SemanticMap


class SemanticNet(nn.Module):
    """A backbone, a classifier on its last map and, for training, an auxiliary one on its first.

    backbone: B 3 H W -> {name: map}, shallow to deep. A class is an output; where the background is one, it is one of `classes`.
    criterion: a sum of losses of the kind "semantic" (`losses.compose`), None for cross-entropy.
    """

    result = SemanticMap
    needs = ("semantic",)
    criterion_kind = "semantic"
    criterion: Criterion | None = None

    def __init__(self, backbone: nn.Module, classifier: nn.Module, aux_classifier: nn.Module | None = None, *,
                 prepare: Prepare, aux_weight: float = 0.5) -> None:  # fmt: skip
        super().__init__()
        self.backbone, self.classifier, self.aux_classifier = backbone, classifier, aux_classifier
        self.prepare, self.aux_weight = prepare, aux_weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """A batch of B 3 H W -> {"out": B K h w logits, "aux": the same of the auxiliary classifier}, at the network's own stride."""
        maps = self.maps(batch)
        raw = {"out": self.logits(maps)}
        if self.aux_classifier is not None:
            raw["aux"] = self.aux_classifier(maps[0]).float()
        return raw

    def maps(self, batch: Batch) -> list[Tensor]:
        """The backbone's maps, shallow to deep."""
        return list(self.backbone(batch.images).values())

    def logits(self, maps: list[Tensor]) -> Tensor:
        """The maps -> B K h w."""
        return self.classifier(maps[-1]).float()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """pixels, or the criterion's terms: of the labelled pixels (255 is none) and the logits brought to the images' size; aux: the same of
        the auxiliary logits, times its weight."""
        raw = self.forward(batch)
        losses = map_losses(enlarge(raw["out"], batch), batch, self.criterion)
        if "aux" in raw:
            aux = map_losses(enlarge(raw["aux"], batch), batch, self.criterion)
            losses["aux"] = self.aux_weight * torch.stack(list(aux.values())).sum()
        return losses

    def predict(self, batch: Batch) -> list[SemanticMap]:
        """Each original pixel's likeliest class and its probability; the logits are interpolated, not the labels."""
        return [decide(one, place) for one, place in zip(self.dense(batch), batch.places, strict=True)]

    def dense(self, batch: Batch) -> Tensor:
        """B K H W: the logits, brought to the images' size."""
        return enlarge(self.logits(self.maps(batch)), batch)

    def probabilities(self, batch: Batch) -> Iterator[Tensor]:
        """K H W of each picture, over the original's pixels: those of which `predict` tells the largest."""
        for one, place in zip(self.dense(batch), batch.places, strict=True):
            yield place.map_back(one).softmax(0)


def enlarge(logits: Tensor, batch: Batch) -> Tensor:
    """B K h w -> B K H W, the images' size."""
    return F.interpolate(logits, size=batch.images.shape[-2:], mode="bilinear", align_corners=False)


def map_losses(logits: Tensor, batch: Batch, criterion: Criterion | None = None) -> dict[str, Tensor]:
    """The criterion's terms of B K H W logits at the images' size against the batch's maps; without one, `pixels`: their cross-entropy.

    Raises InputError for a criterion that weighs pixels where the targets have no weights.
    """
    targets = batch.targets or []
    labels = torch.stack([target.labels for target in targets]).long()  # B H W
    if criterion is None:
        return {"pixels": cross_entropy(logits, labels)}
    beside = {}
    if "weights" in criterion.beside:
        if any(target.weights is None for target in targets):
            raise InputError("this loss weighs each pixel by its distance to two objects, and the data have no objects", hint="annotate instances")
        beside["weights"] = torch.stack([target.weights for target in targets])
    return criterion(logits, labels, **beside)


def decide(logits: Tensor, place: Place, *, group: int = 8) -> SemanticMap:
    """K H W logits over the batch image -> the map over the original, a few classes at a time: all classes of a large picture are gigabytes."""
    some = place.map_back(logits[:group])  # k H W
    best, labels = some.max(dim=0)
    total = some.logsumexp(dim=0)
    for first in range(group, len(logits), group):
        some = place.map_back(logits[first : first + group])
        top, index = some.max(dim=0)
        better = top > best
        best, labels = torch.where(better, top, best), torch.where(better, index + first, labels)
        total = torch.logaddexp(total, some.logsumexp(dim=0))
    return SemanticMap(labels, (best - total).exp())


def dilate(stage: nn.Module, rate: int) -> nn.Module:
    """Give up a residual stage's stride and space its kernels out instead: the first block at rate / 2, the rest at `rate`, stride 1.

    The first block still reads a map of the old density; only what follows it would have been sampled twice as far apart. Parameters stay as
    they are, so one set of weights serves every output stride (Chen 2017, arXiv:1706.05587, section 3).
    """
    for i, block in enumerate(stage.children()):
        own = rate if i else rate // 2
        for conv in block.modules():
            if isinstance(conv, nn.Conv2d):
                conv.stride = (1, 1)
                if conv.kernel_size != (1, 1):
                    conv.dilation = conv.padding = (own, own)
    return stage
