"""LeNet-5: two convolutions and three full layers read digits of 32 x 32 (LeCun 1998, doi:10.1109/5.726791).

The network as it is built today: every map of C3 sees all of S2 (the paper leaves some connections out), max-pooling, ReLU, a linear output
layer instead of radial basis functions. The tensors are called as in the paper's figure 2: C1, C3, C5, F6, F7.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from cvtool.batch import Prepare
from cvtool.categories import numbered
from cvtool.checkpoint import prefixed
from cvtool.layers.activation import activation as activation_of
from cvtool.layers.activation import pieces
from cvtool.layers.classifier import Classifier
from cvtool.layers.gray import Gray
from cvtool.layers.head import pool

VARIANTS = {"5": {}, "tiny": {"widths": (3, 6, 24, 20)}}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"lenet5": "5", "lenet-5": "5"}
CATEGORIES = [{"id": digit, "name": str(digit)} for digit in range(10)]  # of public files
RECIPE = {
    "step": "supervised",
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 1e-4,
    "batch_size": 64,
    "epochs": 20,
    "schedule": "one-cycle",
    "augment": "none",
}


class LeNet(nn.Module):
    """Gray pictures B 1 32 32 -> logits B K. widths: maps of C1 and C3, units of C5 and F6. head: with `gap` or `spp`, larger pictures too."""

    def __init__(self, classes: int, *, widths: tuple[int, ...] = (6, 16, 120, 84), head: str = "flatten", activation: str = "relu") -> None:
        super().__init__()
        c1, c3, c5, f6 = widths
        k = pieces(activation)
        parts = [
            ("c1", nn.Conv2d(1, k * c1, 5)),  # 32 -> 28
            ("relu1", activation_of(activation)),
            ("s2", nn.MaxPool2d(2)),  # 14
            ("c3", nn.Conv2d(c1, k * c3, 5)),  # 10
            ("relu3", activation_of(activation)),
            ("s4", nn.MaxPool2d(2)),  # 5
            ("c5", nn.Conv2d(c3, k * c5, 5)),  # 1
            ("relu5", activation_of(activation)),
        ]
        self.gray = Gray()
        self.convnet = nn.Sequential(OrderedDict(parts))
        self.pool, units = pool(head, c5, (1, 1))
        self.fc = nn.Sequential(OrderedDict([("f6", nn.Linear(units, k * f6)), ("relu6", activation_of(activation)), ("f7", nn.Linear(f6, classes))]))

    def pooled(self, images: Tensor) -> Tensor:
        """B 3 32 32 -> B F6."""
        return self.fc[:2](self.pool(self.convnet(self.gray(images))))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc[2](self.pooled(images))


def build(*, classes: int, widths: tuple[int, ...] = (6, 16, 120, 84), head: str = "flatten", activation: str = "relu") -> Classifier:
    """Pictures of any size are stretched to 32 x 32; values stay in [0, 1]. head: flatten (one place is left), gap or spp. activation: by name."""
    prepare = Prepare(resize="stretch", size=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Classifier(
        LeNet(classes, widths=tuple(widths), head=head, activation=activation), features=LeNet.pooled, prepare=prepare, categories=numbered(classes)
    )


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Public files hold `convnet.c1.weight`, ..., `fc.f7.bias`."""
    return prefixed(state, "net")
