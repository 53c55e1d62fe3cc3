"""Joint adversary: real pictures with their codes, or drawn codes with their pictures? An autoencoder learns so that none can tell (Donahue 2016).

    cvtool train -m autoencoder --data photos/ --set step=joint-adversarial --set joint_weight=0.1

The discriminator sees pairs of a picture and a code: (x, E(x)) of the data, (G(z), z) of z ~ N(0, 1) (arXiv:1605.09782, eq. 2; Dumoulin 2016,
arXiv:1606.00704). Encoder and decoder deceive it on both kinds, on top of the reconstruction: at the optimum E inverts G, and codes are normal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cvtool.batch import Batch
from cvtool.errors import UsageError
from cvtool.losses.adversarial import adversarial
from cvtool.train import optim
from cvtool.train.step import Phase, Step
from cvtool.train.steps import supervised

SETTINGS = {"joint_weight": 0.1, "joint_width": 32, "discriminator_lr": 0.0}  # lr 0.0: the model's


class PairDiscriminator(nn.Module):
    """Pictures B 3 H W and codes B D -> logits B of "of the data"."""

    def __init__(self, dimensions: int, width: int) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 4 * width]
        parts = [part for a, b in pairwise(widths) for part in (nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2))]
        self.picture = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.code = nn.Sequential(nn.Linear(dimensions, 4 * width), nn.LeakyReLU(0.2))
        self.both = nn.Sequential(nn.Linear(20 * width, 4 * width), nn.LeakyReLU(0.2), nn.Linear(4 * width, 1))

    def forward(self, pictures: Tensor, codes: Tensor) -> Tensor:
        return self.both(torch.cat([self.picture(pictures), self.code(codes)], 1))[:, 0]


class JointAdversarial:
    """`base` trains the model on its own losses; `weight` is that of what the discriminator adds."""

    def __init__(self, base: Step, discriminator: PairDiscriminator, optimizer: Optimizer, *, weight: float) -> None:
        self.base, self.discriminator, self.optimizer, self.weight = base, discriminator, optimizer, weight
        self._own = base.phases()
        self._pairs: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # x, E(x), G(z), z of this turn's batches

    @property
    def model(self) -> Any:
        return self.base.model

    @property
    def evaluated(self) -> nn.Module:
        return self.base.evaluated

    def phases(self) -> list[Phase]:
        first, *rest = self._own
        second = Phase("discriminator", list(self.discriminator.parameters()), self.telling, self.optimizer)
        return [replace(first, losses=self.deceiving), *rest, second]

    def deceiving(self, batch: Batch) -> dict[str, Tensor]:
        """The model's own losses, and `joint`: pairs of either kind taken for the other."""
        losses = self._own[0].losses(batch)
        codes = self.model.encode(batch.images)
        drawn = torch.randn(codes.shape).to(codes)
        made = self.model.decode(drawn)
        self._pairs.append((batch.images, codes.detach(), made.detach(), drawn))
        doubt = adversarial(self.discriminator(batch.images, codes), False) + adversarial(self.discriminator(made, drawn), True)
        return losses | {"joint": self.weight * doubt}

    def telling(self, batch: Batch) -> dict[str, Tensor]:
        """The discriminator's: `d_data` and `d_drawn`, on the pairs of the model's turn with this batch."""
        pictures, codes, made, drawn = self._pairs.pop(0)
        return {
            "d_data": adversarial(self.discriminator(pictures, codes), True),
            "d_drawn": adversarial(self.discriminator(made, drawn), False),
        }

    def after(self, batch: Batch) -> None:
        self._pairs.clear()
        self.base.after(batch)

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict() | {"discriminator": self.discriminator.state_dict(), "discriminator_optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.base.load_state_dict(state)
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["discriminator_optimizer"])


def make(model: Any, recipe: Mapping[str, Any], *, offline: bool = False) -> JointAdversarial:
    """Around the supervised step (its keys, and joint_weight, joint_width, discriminator_lr). Raises UsageError."""
    if not hasattr(model, "encode") or not hasattr(model, "decode"):
        raise UsageError("the step joint-adversarial is for a model with an encoder and a decoder", hint="such as -m autoencoder")
    if recipe["joint_weight"] <= 0 or recipe["joint_width"] < 1 or recipe["discriminator_lr"] < 0:
        raise UsageError("joint_weight is above 0, joint_width at least 1, and discriminator_lr at least 0")
    base = supervised.make(model, recipe)
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]):  # the model's own random numbers are as they would be without a discriminator
        torch.manual_seed(recipe["seed"])
        size = model.prepare.size if isinstance(model.prepare.size, tuple) else (model.prepare.size, model.prepare.size)
        with torch.no_grad():
            was = model.training
            dimensions = model.eval().encode(torch.zeros(1, 3, *size, device=device)).shape[1]
            model.train(was)
        discriminator = PairDiscriminator(dimensions, recipe["joint_width"]).to(device)
    rate = recipe["discriminator_lr"] or recipe["lr"]
    optimizer = optim.make(recipe["optimizer"], **{key: recipe[key] for key in optim.takes(recipe["optimizer"])}, lr=rate)
    return JointAdversarial(base, discriminator, optimizer(discriminator.parameters()), weight=recipe["joint_weight"])
