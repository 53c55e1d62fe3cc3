"""GoogLeNet: nine modules look at each place with 1x1, 3x3 and 5x5 filters and a pooling at once (Szegedy 2014, arXiv:1409.4842).

The variant `paper` is the network of the paper's table 1: biases, no normalisation, true 5x5 filters. `batch-norm` is torchvision's port, whose
tensors carry the same names: batch normalisation, and 3x3 filters where the paper has 5x5, so that its published weights load key for key.
Two auxiliary heads (section 5) learn beside the main one, at 0.3 of its weight, and are not asked afterwards.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Prepare
from cvtool.categories import numbered
from cvtool.checkpoint import prefixed
from cvtool.layers.batch_norm import BatchNorm
from cvtool.layers.classifier import Classifier
from cvtool.layers.head import pool

VARIANTS = {
    "batch-norm": {},
    "paper": {"batch_norm": False, "large": 5},
    "tiny": {"divide": 8, "image_size": 64},
}
WEIGHTS = {
    "batch-norm@imagenet": {
        "url": "https://download.pytorch.org/models/googlenet-1378be20.pth",
        "sha256": "1378be20",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.69778, "top5": 0.8953},
    },
}
ALIASES = {"inception-v1": "batch-norm", "inception_v1": "batch-norm"}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 2e-4,
    "batch_size": 128,
    "epochs": 90,
    "schedule": "poly:0.5",
    "augment": "resized-crop,flip,color",
    "variants": {"tiny": {"optimizer": "adamw", "lr": 3e-3, "weight_decay": 0.01, "batch_size": 8, "schedule": "one-cycle", "augment": "flip"}},
}
# name, maps read, then maps of 1x1; reduction and 3x3; reduction and 5x5; projection of the pooling (table 1)
MODULES = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


class Conv(nn.Module):
    """Convolution, normalisation where there is one, ReLU."""

    def __init__(self, channels: int, width: int, kernel: int, *, stride: int = 1, batch_norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=not batch_norm)
        self.bn = BatchNorm(width, eps=1e-3) if batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return F.relu(x if self.bn is None else self.bn(x), inplace=True)


class Inception(nn.Module):
    """Four branches side by side (fig. 2b), concatenated: 1x1 | 1x1, 3x3 | 1x1, `large` | pooling, then 1x1. B C H W -> B sum H W."""

    def __init__(self, channels: int, one: int, three_reduced: int, three: int, five_reduced: int, five: int, pooled: int, *, large: int,
                 batch_norm: bool) -> None:  # fmt: skip
        super().__init__()

        def conv(a: int, b: int, kernel: int) -> Conv:
            return Conv(a, b, kernel, batch_norm=batch_norm)

        self.branch1 = conv(channels, one, 1)
        self.branch2 = nn.Sequential(conv(channels, three_reduced, 1), conv(three_reduced, three, 3))
        self.branch3 = nn.Sequential(conv(channels, five_reduced, 1), conv(five_reduced, five, large))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv(channels, pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class Auxiliary(nn.Module):
    """A head on an early map: average to 4 x 4, 1x1 of 128 maps, 1024 units, dropout .7, classes (section 5)."""

    def __init__(self, channels: int, classes: int, *, divide: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv = Conv(channels, 128 // divide, 1, batch_norm=batch_norm)
        self.fc1 = nn.Linear(16 * 128 // divide, 1024 // divide)
        self.fc2 = nn.Linear(1024 // divide, classes)
        self.dropout = nn.Dropout(0.7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.adaptive_avg_pool2d(x, (4, 4))).flatten(1)
        return self.fc2(self.dropout(F.relu(self.fc1(x))))


class GoogLeNet(nn.Module):
    """B 3 H W -> logits B K. divide: all widths by this. large: side of the largest filters. auxiliary: with the two side heads."""

    def __init__(self, classes: int, *, batch_norm: bool, large: int, divide: int, head: str, aux: bool, dropout: float) -> None:
        super().__init__()
        n, d = batch_norm, divide
        self.conv1 = Conv(3, 64 // d, 7, stride=2, batch_norm=n)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = Conv(64 // d, 64 // d, 1, batch_norm=n)
        self.conv3 = Conv(64 // d, 192 // d, 3, batch_norm=n)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        for name, widths in MODULES.items():
            a, b, c, e, f, g, h = (w // d for w in widths)
            self.add_module(f"inception{name}", Inception(a, b, c, e, f, g, h, large=large, batch_norm=n))
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.aux1 = Auxiliary(512 // d, classes, divide=d, batch_norm=n) if aux else None
        self.aux2 = Auxiliary(528 // d, classes, divide=d, batch_norm=n) if aux else None
        self.avgpool, units = pool(head, 1024 // d, (7, 7))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(units, classes)
        for module in self.modules():  # He 2015: without normalisation, 22 layers of torch's default initialisation do not learn
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """B 3 H W -> the last map (stride 32), and those of 4a and 4d (stride 16), which the side heads read."""
        run = self.get_submodule
        x = self.maxpool2(self.conv3(self.conv2(self.maxpool1(self.conv1(images)))))  # stride 8: 224 -> 28
        x = self.maxpool3(run("inception3b")(run("inception3a")(x)))
        a = run("inception4a")(x)
        d = run("inception4d")(run("inception4c")(run("inception4b")(a)))
        x = self.maxpool4(run("inception4e")(d))
        return run("inception5b")(run("inception5a")(x)), a, d

    def pooled(self, images: Tensor) -> Tensor:
        """B 3 H W -> B 1024: the average of the last map."""
        return self.avgpool(self.maps(images)[0])

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.dropout(self.pooled(images)))

    def auxiliary(self, images: Tensor) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """The main logits, and those of the side heads with their weight in the sum."""
        x, a, d = self.maps(images)
        others = {} if self.aux1 is None or self.aux2 is None else {"aux1": (0.3, self.aux1(a)), "aux2": (0.3, self.aux2(d))}
        return self.fc(self.dropout(self.avgpool(x))), others


def build(
    *, classes: int, batch_norm: bool = True, large: int = 3, divide: int = 1, head: str = "gap", aux: bool = True, dropout: float | None = None,
    image_size: int = 224,
) -> Classifier:  # fmt: skip
    """large: 3 (torchvision's) or 5 (the paper's). aux: with the heads that help training. dropout: .4 in the paper, .2 in torchvision's."""
    rate = dropout if dropout is not None else 0.2 if batch_norm else 0.4
    net = GoogLeNet(classes, batch_norm=batch_norm, large=large, divide=divide, head=head, aux=aux, dropout=rate)
    prepare = Prepare(resize="crop", size=image_size, crop_fraction=0.875 if image_size > 200 else 1.0, mean=(0.5,) * 3, std=(0.5,) * 3)
    return Classifier(net, features=GoogLeNet.pooled, prepare=prepare, categories=numbered(classes))


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's file."""
    return prefixed(state, "net")
