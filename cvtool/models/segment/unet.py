"""U-Net: a path down for what, a path up for where, joined at every size by concatenated maps (Ronneberger 2015, arXiv:1505.04597).

`full` is the paper's network: 31 030 658 parameters with `in_channels=1` and two classes, no normalisation. With `padding="valid"`, the paper's own
way, a convolution gives only pixels whose whole neighbourhood is there: 572 x 572 in, 388 x 388 out, and the picture is mirrored at its borders to
supply the rest. Either way a window of a large picture, seen with `context` pixels around it, gives the very map of the whole picture (`--tile`).

`small` differs for speed on a CPU: it begins with patches of 2 x 2 pixels (`stem`), so that its widest maps are a quarter as large, and its logits
are enlarged bilinearly; with a fourth halving behind, its deepest maps see street scenes whole.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from cvtool.batch import Batch, Place, Prepare
from cvtool.errors import UsageError, did_you_mean
from cvtool.layers.norm import norm as norm_layer
from cvtool.layers.pooling import Down
from cvtool.layers.upsample import Up
from cvtool.models.segment._semantic import SemanticNet, enlarge, map_losses

VARIANTS = {
    "full": {},
    "small": {"widths": (16, 32, 64, 96, 128), "stem": 2, "norm": "batch"},
    "tiny": {"widths": (8, 12, 16), "norm": "batch"},
}
WEIGHTS: dict[str, dict] = {}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "momentum": 0.99,
    "lr": 1e-3,
    "weight_decay": 5e-4,
    "batch_size": 1,
    "epochs": 100,
    "schedule": "poly",
    "augment": "flips,crop",
    "variants": {
        "small": {
            "optimizer": "adamw",
            "momentum": 0.9,
            "lr": 3e-3,
            "weight_decay": 0.02,
            "batch_size": 8,
            "epochs": 70,
            "val_every": 10,
            "schedule": "one-cycle",
            "loss": "dice+ce",
            "channels_last": True,
            "ema": 0.99,
            "augment": "scale-crop-flip:0.75,1.5,256,color",
        },
        "tiny": {
            "optimizer": "adamw",
            "momentum": 0.9,
            "lr": 3e-3,
            "weight_decay": 0.01,
            "batch_size": 8,
            "epochs": 30,
            "schedule": "one-cycle",
            "augment": "flip,crop",
        },
    },
}
TRIM = {"transpose": 0, "nearest": 1, "bilinear": 2}  # pixels at each border of an enlarged map that depend on what lies outside of it


class Twice(nn.Sequential):
    """Two 3 x 3 convolutions, each normalised and rectified; without padding every one costs a pixel at each border."""

    def __init__(self, inputs: int, outputs: int, *, padding: int, norm: str) -> None:
        layers: list[nn.Module] = []
        for width in (inputs, outputs):
            layers += [nn.Conv2d(width, outputs, 3, padding=padding, bias=norm == "none"), norm_layer(norm, outputs), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class Contracting(nn.Module):
    """B C H W -> a map a level, each half as large as the one before. The two deepest have dropout at their end (section 3)."""

    def __init__(self, inputs: int, widths: tuple[int, ...], *, stem: int, padding: int, down: str, norm: str, dropout: float) -> None:
        super().__init__()
        self.stem = nn.Sequential()
        if stem > 1:
            self.stem.extend([nn.Conv2d(inputs, widths[0], stem, stem, bias=norm == "none"), norm_layer(norm, widths[0]), nn.ReLU(inplace=True)])
            inputs = widths[0]
        self.levels = nn.ModuleList(Twice(one, other, padding=padding, norm=norm) for one, other in pairwise((inputs, *widths)))
        self.downs = nn.ModuleList(Down(down, width) for width in widths[:-1])
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for i, level in enumerate(self.levels):
            x = level(self.downs[i - 1](x) if i else x)
            maps.append(self.dropout(x) if i >= len(self.levels) - 2 else x)
            x = maps[-1]
        return maps


class Expanding(nn.Module):
    """The maps of the path down, shallow to deep -> B K h w: enlarge, put the equally large map of the way down in front, convolve twice."""

    def __init__(self, widths: tuple[int, ...], classes: int, *, padding: int, up: str, norm: str) -> None:
        super().__init__()
        steps = list(pairwise(reversed(widths)))
        self.ups = nn.ModuleList(Up(up, deep, shallow) for deep, shallow in steps)
        self.levels = nn.ModuleList(Twice(2 * shallow, shallow, padding=padding, norm=norm) for _, shallow in steps)
        self.out = nn.Conv2d(widths[0], classes, 1)
        self.trim = 0 if padding else TRIM[up]

    def forward(self, maps: list[Tensor]) -> Tensor:
        *skips, x = maps
        for skip, up, level in zip(reversed(skips), self.ups, self.levels, strict=True):
            x = up(x)
            x = x[..., self.trim : x.shape[-2] - self.trim, self.trim : x.shape[-1] - self.trim]
            x = level(torch.cat([centre(skip, x.shape[-2], x.shape[-1]), x], 1))
        return self.out(x)


def centre(x: Tensor, height: int, width: int) -> Tensor:
    """The middle `height` x `width` of B C H W."""
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


class UNet(SemanticNet):
    """forward: as `SemanticNet`; with a stem the logits are that many times smaller than the images.

    context: pixels around a window, a multiple of `multiple_of`, with which the window's map is that of the whole picture; windows begin at
    multiples of it. None where a normalisation looks at the whole picture.
    """

    backbone: Contracting
    classifier: Expanding

    def __init__(self, down: Contracting, up: Expanding, *, prepare: Prepare, margin: int, stem: int, valid: bool, gray: bool) -> None:
        super().__init__(down, up, prepare=prepare)
        self.margin, self.stem, self.valid, self.gray = margin, stem, valid, gray
        bounded = not any(isinstance(module, nn.GroupNorm | nn.InstanceNorm2d) for module in self.modules())
        cell = 2 ** (len(down.levels) - 1)  # all pixels of one cell of the deepest level read the same; logits are interpolated with a neighbour
        reach = (margin + cell - 1 + (stem > 1)) * stem
        self.context = -(-reach // prepare.multiple_of) * prepare.multiple_of if bounded else None

    def maps(self, batch: Batch) -> list[Tensor]:
        x = batch.images
        if self.gray:
            x = (x * x.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)  # luma; mean and deviation are the same in all channels
        if self.valid:
            x = mirrored(x, batch.places, self.margin * self.stem, *(self.entering(side) for side in x.shape[-2:]))
        return self.backbone(x)

    def entering(self, side: int) -> int:
        """Pixels a side that must enter a network without padding, so that what leaves it covers `side`: each level's side must be even."""
        depth = len(self.backbone.levels) - 1
        lost = 4 * (2**depth - 1)  # cells of the first level, by the convolutions of all levels but the deepest
        cells = -(-side // self.stem) + 2 * self.margin
        return (-(-(cells - lost) // 2**depth) * 2**depth + lost) * self.stem

    def logits(self, maps: list[Tensor]) -> Tensor:
        return self.classifier(maps).float()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        height, width = (-(-side // self.stem) for side in batch.images.shape[-2:])
        return {"out": self.logits(self.maps(batch))[..., :height, :width]}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """As `SemanticNet`'s. In training with a stem each logit meets one pixel of its patch, at a place drawn for each batch: on average that
        is the loss of all pixels, for a fraction of the work."""
        if not self.training or self.stem == 1:
            return super().losses(batch)
        top, left = torch.randint(self.stem, (2,)).tolist()
        picked = [target.map(lambda values: values[top :: self.stem, left :: self.stem]) for target in batch.targets or []]
        return map_losses(self.forward(batch)["out"], replace(batch, targets=picked), self.criterion)

    def dense(self, batch: Batch) -> Tensor:
        return enlarge(self.forward(batch)["out"], batch)


def mirrored(images: Tensor, places: list[Place], before: int, height: int, width: int) -> Tensor:
    """B C H W -> B C height width: `before` pixels more above and left, the rest below and right, each picture mirrored at its own last pixels."""
    spans = []
    for place in places:
        rows = reflected(-before, height - before, min(images.shape[-2], place.top + place.inner_height), images.device)
        columns = reflected(-before, width - before, min(images.shape[-1], place.left + place.inner_width), images.device)
        spans.append((rows, columns))
    if all(place == places[0] for place in places):
        return images[:, :, spans[0][0]][..., spans[0][1]]
    return torch.stack([image[:, rows][..., columns] for image, (rows, columns) in zip(images, spans, strict=True)])


def reflected(first: int, last: int, side: int, device: torch.device) -> Tensor:
    """What is seen at first..last - 1 between mirrors on the pixels 0 and `side` - 1: indices 0..side - 1."""
    period = max(1, 2 * (side - 1))
    at = torch.arange(first, last, device=device) % period
    return torch.minimum(at, period - at)


def margin_of(depth: int, up: str) -> int:
    """Cells of the first level that lie between the border of a network without padding's input and that of its output, on each side."""
    sizes = 2 * sum(2**level for level in range(depth + 1)) + 2 * sum(2**level for level in range(depth))
    return sizes + TRIM[up] * sum(2**level for level in range(depth))


def build(
    *, classes: int, in_channels: int = 3, widths: tuple[int, ...] = (64, 128, 256, 512, 1024), depth: int = 0, stem: int = 1, padding: str = "same",
    down: str = "max", up: str = "transpose", norm: str = "none", dropout: float = 0.0, image_size: int = 0,
) -> UNet:  # fmt: skip
    """`classes` outputs a pixel.

    in_channels: 3, or 1: the picture in gray. widths: channels of each level; `depth`, the number of halvings, takes the first depth + 1 of them and
    doubles the last where they end. padding: same, or valid (mirrored borders). down: max, avg, stride. up: transpose, bilinear, nearest. norm:
    none, batch, layer, instance, group. stem: pixels a side of the patches that the first convolution reads. image_size: of the longer side,
    0 = the picture's own. Convolutions begin as the paper says, with a deviation of sqrt(2 / N) for N inputs.
    """
    for name, value, known in (("padding", padding, ("same", "valid")), ("up", up, tuple(TRIM)), ("in_channels", str(in_channels), ("1", "3"))):
        if value not in known:
            raise UsageError(f"{name} is not {value}", hint=did_you_mean(value, known) or f"{name}: " + ", ".join(known))
    widths = tuple(widths)
    if depth:
        widths = (*widths, *(widths[-1] * 2 ** (i + 1) for i in range(depth + 1 - len(widths))))[: depth + 1]
    if len(widths) < 2 or min(widths) < 1 or stem < 1 or depth < 0:
        raise UsageError("a U-Net has at least two widths, which are positive, and so is its stem")
    depth, pad = len(widths) - 1, int(padding == "same")
    prepare = Prepare(resize="longest" if image_size else None, size=image_size, multiple_of=stem * 2**depth)
    if in_channels == 1:
        prepare = Prepare(**prepare.to_dict() | {"mean": (0.449,) * 3, "std": (0.226,) * 3})
    path = Contracting(in_channels, widths, stem=stem, padding=pad, down=down, norm=norm, dropout=dropout)
    back = Expanding(widths, classes, padding=pad, up=up, norm=norm)
    for module in (*path.modules(), *back.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            cells = 1 if isinstance(module, nn.ConvTranspose2d) else module.kernel_size[0] * module.kernel_size[1]  # that one output reads
            nn.init.normal_(module.weight, std=(2 / (module.in_channels * cells)) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return UNet(path, back, prepare=prepare, margin=margin_of(depth, up), stem=stem, valid=not pad, gray=in_channels == 1)
