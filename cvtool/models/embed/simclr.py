"""SimCLR: two views of each picture shall be each other's nearest in the batch; no label is used (Chen 2020, arXiv:2002.05709).

    cvtool train -m simclr --data photos/ ;  cvtool embed photos/ -m runs/0001 -o photos.npz
    cvtool train -m resnet.18 --data flowers/ --init runs/0001

f is the network of a classifier, g a head of two layers; the loss is NT-Xent on g(f(x)), and the embedding is f(x): g is dropped. Negatives are the
batch's other 2N - 2 views or, with `bank=M`, the last M views of earlier batches (Wu 2018, arXiv:1805.01978, as a queue).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool.batch import Batch
from cvtool.errors import UsageError
from cvtool.layers.classifier import Classifier
from cvtool.losses.nt_xent import lowest, nt_xent
from cvtool.models.embed._encoder import Encoder, perceptron
from cvtool.models.embed._encoder import backbone as encoder
from cvtool.ops.views import Views

if TYPE_CHECKING:
    from cvtool.losses import Criterion

VARIANTS = {
    "base": {"backbone": "resnet.18"},
    "small": {"backbone": "simple-cnn", "image_size": 64},
    "glyphs": {"backbone": "simple-cnn:width=32,head=flatten,image_size=32", "views": "turn:12,shear:12,scale:0.25,shift:0.1,elastic:0.05"},
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


class SimCLR(Encoder):
    """bank: M D, the oldest first to go; `filled` of its rows are in use."""

    needs = ("pictures",)
    criterion_kind = "embeddings"
    measured = "vectors"
    bank: Tensor
    filled: Tensor

    def __init__(self, classifier: Classifier, features: int, *, hidden: int, dimensions: int, views: Views, bank: int) -> None:
        super().__init__(classifier)
        self.projector = perceptron(features, hidden, dimensions)
        self.views = views
        self.register_buffer("bank", torch.zeros(bank, dimensions), persistent=bank > 0)
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64), persistent=bank > 0)
        self.criterion: Criterion | None = None
        self._last: list[Tensor] = []

    def check_criterion(self, criterion: Criterion) -> None:
        """Raises UsageError for a loss that reads labels of classes, and for one without negatives of a bank that is asked for."""
        if "templates" in criterion.beside:
            raise UsageError(f"loss: {criterion.text} compares with a template of each class, and simclr knows none")
        if len(self.bank) and "bank" not in criterion.beside:
            raise UsageError(f"bank has no effect with the loss {criterion.text}", hint="it goes with nt-xent")

    def check_batch(self, pictures: int) -> None:
        """Raises UsageError for so few pictures that there is nothing to tell one from."""
        if pictures < 2 and not len(self.bank):
            raise UsageError(
                "simclr tells a picture from the others of its batch, and there is one alone", hint="two pictures or more, and -b 2 or more"
            )

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The criterion's terms, or `nt_xent`, of two views of each picture; outside of training these are the same every time."""
        pictures = torch.cat([self.views(batch.images, self.prepare, draw) for draw in draws(self.training)])
        z = self.projector(self.features(pictures))  # 2B D, the first views first
        same = torch.arange(len(batch), device=z.device).repeat(2)
        bank = self.bank[: int(self.filled)] if self.filled else None
        if self.training and len(self.bank) and z.requires_grad:
            self._last.append(z.detach().float())
        return {"nt_xent": nt_xent(z, same, bank=bank)} if self.criterion is None else self.criterion(z, same, bank=bank)

    def lowest(self, pictures: int) -> float:
        """Below which its losses of a batch of so many never are."""
        if self.criterion is None:
            return lowest(pictures, bank=int(self.filled))
        terms = [term for term in self.criterion.terms if term.name == "nt-xent"]
        return sum(term.weight * lowest(pictures, temperature=term.options["temperature"], bank=int(self.filled)) for term in terms)

    @torch.no_grad()
    def advance(self) -> None:
        """After an optimiser's turn: its views go to the bank."""
        if not self._last:
            return
        seen = F.normalize(torch.cat(self._last), dim=1)[: len(self.bank)]
        self._last.clear()
        self.bank.copy_(torch.cat([seen, self.bank])[: len(self.bank)])
        self.filled.add_(len(seen)).clamp_(max=len(self.bank))


def draws(training: bool) -> tuple[torch.Generator | None, torch.Generator | None]:
    """Where two views' random numbers come from: the global stream in training, else one for each that is the same every time."""
    return (None, None) if training else (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))


def build(
    *,
    classes: int = 0,
    backbone: str = "resnet.18",
    hidden: int = 256,
    dimensions: int = 128,
    views: str = "crop:0.2,flip,color:0.5,gray:0.2,blur:0.5",
    bank: int = 0,
    image_size: int = 0,
) -> SimCLR:
    """backbone: f, a classifier, with changes behind a colon. hidden, dimensions: of g. views: what makes a view (`ops/views.py`).

    bank: M, 0 for none. image_size: 0 for the backbone's. Raises UsageError.
    """
    if bank < 0 or hidden < 1 or dimensions < 1:
        raise UsageError("hidden and dimensions are at least 1, and bank at least 0")
    return SimCLR(*encoder(backbone, image_size), hidden=hidden, dimensions=dimensions, views=Views.parse(views), bank=bank)
