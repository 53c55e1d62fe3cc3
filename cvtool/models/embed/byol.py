"""BYOL: an online network says what its own moving average will say of another view; no negatives (Grill 2020, arXiv:2006.07733).

The target, encoder and projector, gets no gradient: after each turn xi <- tau xi + (1 - tau) theta (eq. 1), so that tau = 1 freezes it and tau = 0
copies the online network. Only the online network has a predictor. The views come from two different sets of augmentations, T and T' (appendix B).
The embedding is the online encoder's.
"""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch
from cvtool.errors import UsageError
from cvtool.layers.classifier import Classifier
from cvtool.models.embed._encoder import Encoder, perceptron
from cvtool.models.embed._encoder import backbone as encoder
from cvtool.ops.views import Views

VARIANTS = {
    "base": {"backbone": "resnet.18"},
    "small": {"backbone": "simple-cnn", "image_size": 64},
    "glyphs": {
        "backbone": "simple-cnn:width=32,head=flatten,image_size=32",
        "views": "turn:12,shear:12,scale:0.25,shift:0.1,elastic:0.05",
        "other_views": "turn:12,shear:12,scale:0.25,shift:0.1,elastic:0.08",
    },
    "tiny": {"backbone": "simple-cnn.tiny", "hidden": 16, "dimensions": 8, "image_size": 16},
}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
RECIPE = {
    "step": "self-supervised",
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 1e-4,
    "batch_size": 128,
    "epochs": 100,
    "schedule": "cosine",
    "warmup": 0.05,
    "variants": {"tiny": {"batch_size": 16}},
}


class BYOL(Encoder):
    """target: encoder and projector of xi. tau: what of it stays at each turn."""

    needs = ("pictures",)
    measured = "vectors"

    def __init__(self, classifier: Classifier, features: int, *, hidden: int, dimensions: int, views: tuple[Views, Views], tau: float) -> None:
        super().__init__(classifier)
        self.projector = perceptron(features, hidden, dimensions)
        self.predictor = perceptron(dimensions, hidden, dimensions)
        self.views, self.tau = views, tau
        self.target = nn.ModuleDict({"net": deepcopy(self.net), "projector": deepcopy(self.projector)}).requires_grad_(False)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`byol`: 2 - 2 cos of what is predicted of a view and what the target says of the other, both ways (eq. 2).

        Outside of training the views are the same every time.
        """
        draws = [None, None] if self.training else [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        one, other = (make(batch.images, self.prepare, draw) for make, draw in zip(self.views, draws, strict=True))
        said = self.predictor(self.projector(self.features(torch.cat([one, other]))))  # 2B D
        with torch.no_grad():
            truth = self.target["projector"](self._of(self.target["net"], torch.cat([other, one])))
        return {"byol": 2 * (2 - 2 * F.cosine_similarity(said, truth, dim=1)).mean()}

    @torch.no_grad()
    def advance(self) -> None:
        """After an optimiser's turn: the target moves."""
        self._move(self.tau)

    @torch.no_grad()
    def begin(self) -> None:
        """Before the first turn: the target is the online network."""
        self._move(0.0)

    def _move(self, tau: float) -> None:
        for name, module in (("net", self.net), ("projector", self.projector)):
            target = self.target[name]
            for theirs, own in zip(target.parameters(), module.parameters(), strict=True):
                theirs.mul_(tau).add_(own, alpha=1 - tau)
            if tau == 0:
                for old, new in zip(target.buffers(), module.buffers(), strict=True):  # running statistics
                    old.copy_(new)


def build(
    *, classes: int = 0, backbone: str = "resnet.18", hidden: int = 256, dimensions: int = 128, tau: float = 0.99,
    views: str = "crop:0.2,flip,color:0.5,gray:0.2,blur:1.0", other_views: str = "crop:0.2,flip,color:0.5,gray:0.2,blur:0.1,solarize:0.2",
    image_size: int = 0,
) -> BYOL:  # fmt: skip
    """backbone: a classifier, with changes behind a colon. hidden, dimensions: of projector and predictor. tau: in [0, 1].

    views, other_views: T and T' (`ops/views.py`). image_size: 0 for the backbone's. Raises UsageError.
    """
    if not 0 <= tau <= 1:
        raise UsageError(f"tau={tau} is no share", hint="from 0, a copy, to 1, frozen")
    if hidden < 1 or dimensions < 1:
        raise UsageError("hidden and dimensions are at least 1")
    both = Views.parse(views), Views.parse(other_views)
    return BYOL(*encoder(backbone, image_size), hidden=hidden, dimensions=dimensions, views=both, tau=tau)
