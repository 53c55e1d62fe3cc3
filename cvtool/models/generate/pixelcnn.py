"""PixelCNN: the picture as a product of one distribution a value, each told of the values before it (van den Oord 2016, arXiv:1601.06759).

ln p(x) = sum_i ln p(x_i | x_1 ... x_i-1), rows from the top, pixels from the left, in a pixel red, green, blue (eq. 2). Each p is a softmax over 256
values. One pass gives all of them, because the convolutions are masked: mask A, of the first, sees the pixels before and the colours of its own that
come before; mask B, of all others, its own colour too. The first is 7 x 7, then come residual blocks of 1 x 1, 3 x 3 and 1 x 1 on 2h, h and 2h maps,
then two of 1 x 1 (table 1, figure 5). Its likelihood is known: `bits_per_dim`, -log2 p(x) over the number of values; guessing has 8.

Drawing goes value by value, and only looks at the window that the value depends on. `fill` completes what is missing of a picture, from what stands
before it in that order.

    cvtool train -m pixelcnn --data photos/ ;  cvtool generate -m runs/0001 -n 4 -o made/
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError
from cvtool.layers.gray import Gray
from cvtool.results import Picture

VARIANTS = {
    "base": {"image_size": 32, "width": 128, "depth": 15, "head": 1024},
    "small": {"image_size": 28, "width": 32, "depth": 7, "head": 128, "gray": True},
    "tiny": {"image_size": 16, "width": 16, "depth": 2, "head": 32, "gray": True},
}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
VERBS = ("generate", "inpaint")
RECIPE = {
    "step": "supervised",
    "optimizer": "adam",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "batch_size": 16,
    "epochs": 50,
    "schedule": "cosine",
    "augment": "none",
    "clip": 1.0,
}
LEVELS = 256


class MaskedConv(nn.Conv2d):
    """A convolution that sees no value after its own. own: its own too (mask B), else A. colours: among which the maps are shared out."""

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, *, own: bool, colours: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        mask = torch.ones(outputs, inputs, kernel, kernel)
        middle = kernel // 2
        mask[:, :, middle, middle + 1 :] = 0
        mask[:, :, middle + 1 :] = 0
        to, of = (torch.arange(count) * colours // count for count in (outputs, inputs))
        mask[:, :, middle, middle] = (of[None] <= to[:, None] if own else of[None] < to[:, None]).float()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class Block(nn.Module):
    """B 2h H W -> the same: ReLU and convolution three times, added to what came."""

    def __init__(self, width: int, colours: int) -> None:
        super().__init__()
        sizes = ((2 * width, width, 1), (width, width, 3), (width, 2 * width, 1))
        parts = [part for a, b, kernel in sizes for part in (nn.ReLU(), MaskedConv(a, b, kernel, own=True, colours=colours))]
        self.layers = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class PixelCNN(nn.Module):
    """depth: residual blocks. width: h. head: maps of the last but one layer. gray: one colour is learned, the luma."""

    result = Picture
    needs = ("pictures",)
    conditional = 0

    def __init__(self, *, image_size: int, width: int, depth: int, head: int, gray: bool, prepare: Prepare) -> None:
        super().__init__()
        self.size, self.prepare, self.colours = image_size, prepare, 1 if gray else 3
        self.reach = 3 + depth  # pixels that a value's window extends
        self.gray = Gray() if gray else nn.Identity()
        colours = self.colours
        self.first = MaskedConv(colours, 2 * width, 7, own=False, colours=colours)
        self.blocks = nn.Sequential(*(Block(width, colours) for _ in range(depth)))
        self.head = nn.Sequential(
            nn.ReLU(), MaskedConv(2 * width, head, 1, own=True, colours=colours),
            nn.ReLU(), MaskedConv(head, colours * LEVELS, 1, own=True, colours=colours),
        )  # fmt: skip

    def values(self, images: Tensor) -> Tensor:
        """B 3 H W in [0, 1] -> B C H W int64 of 0..255."""
        return (self.gray(images) * (LEVELS - 1)).round().long().clamp(0, LEVELS - 1)

    def forward(self, values: Tensor) -> Tensor:
        """Values B C H W of 0..255 (int64, or float where a gradient is wanted) -> logits B C 256 H W, each of the values before its own."""
        x = values.float() / (0.5 * (LEVELS - 1)) - 1
        return self.head(self.blocks(self.first(x))).unflatten(1, (self.colours, LEVELS))

    def bits_per_dim(self, images: Tensor) -> Tensor:
        """-log2 p(x) over the number of values, B: pictures B 3 H W in [0, 1]."""
        values = self.values(images)
        logits = self(values).transpose(1, 2).float()  # B 256 C H W
        return F.cross_entropy(logits, values, reduction="none").mean((1, 2, 3)) / math.log(2)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`bits_per_dim`; validation reports it as `val_bits_per_dim`."""
        return {"bits_per_dim": self.bits_per_dim(batch.images).mean()}

    @torch.no_grad()
    def sample(self, n: int, seed: int, classes: Sequence[int] | None = None, *, start: int = 0, temperature: float = 1.0) -> Tensor:
        """n 3 H W in [0, 1]; the i-th picture depends on (seed, start + i) alone, in eval mode. temperature: of the softmax; 0 takes the likeliest.

        Raises ValueError for classes.
        """
        if classes is not None:
            raise ValueError("the model is told no classes")
        device = next(self.parameters()).device
        blank = torch.zeros(n, 3, self.size, self.size, device=device)
        return self.fill(blank, torch.ones(n, 1, self.size, self.size, dtype=torch.bool, device=device), seed, start=start, temperature=temperature)

    @torch.no_grad()
    def fill(self, images: Tensor, masks: Tensor, seed: int = 0, *, start: int = 0, temperature: float = 1.0) -> Tensor:
        """Pictures B 3 H W in [0, 1] with what `masks` (B 1 H W bool) marks drawn anew, value by value; the rest is as it was.

        A drawn value depends on those before it, known or drawn, and on (seed, start + i); what is known after it counts nothing. Raises ValueError.
        """
        count, _, height, width = images.shape
        if masks.shape != (count, 1, height, width) or temperature < 0:
            raise ValueError(f"masks are B 1 H W as the pictures, not {tuple(masks.shape)}; the temperature is not below 0")
        values = self.values(images) * ~masks
        shape = (self.colours, height, width)
        drawn = [np.random.default_rng((seed, start + i)).random(shape, np.float32) for i in range(count)]
        numbers = torch.from_numpy(np.stack(drawn)).to(images.device) if drawn else images.new_zeros(0, *shape)
        for y in range(height):
            for x in range(width):
                if not (here := masks[:, 0, y, x]).any():
                    continue
                left, top = max(0, x - self.reach), max(0, y - self.reach)
                for colour in range(self.colours):
                    window = values[:, :, top : y + 1, left : x + self.reach + 1]
                    logits = self(window)[:, colour, :, -1, x - left].float()  # B 256
                    found = _draw(logits, numbers[:, colour, y, x], temperature)
                    values[:, colour, y, x] = torch.where(here, found, values[:, colour, y, x])
        made = (values.float() / (LEVELS - 1)).expand(-1, 3, -1, -1)
        return torch.where(masks, made, images.float())


def _draw(logits: Tensor, numbers: Tensor, temperature: float) -> Tensor:
    """Logits B K and numbers B in [0, 1) -> classes B: where the sum of the probabilities passes the number."""
    if not temperature:
        return logits.argmax(1)
    sums = (logits / temperature).double().softmax(1).cumsum(1)
    return (sums <= numbers[:, None]).sum(1).clamp(max=logits.shape[1] - 1)


def build(*, classes: int = 0, image_size: int = 32, width: int = 128, depth: int = 15, head: int = 1024, gray: bool = False) -> PixelCNN:
    """image_size: side of the square that pictures are stretched to. width: maps within a block, half of those between. depth: blocks. head: maps
    before the last layer. gray: learn the luma alone.

    Raises UsageError.
    """
    least = 1 if gray else 3  # maps for each colour
    for name, value, smallest in (("image_size", image_size, 1), ("width", width, least), ("depth", depth, 0), ("head", head, least)):
        if value < smallest:
            raise UsageError(f"{name}={value} is below {smallest}")
    prepare = Prepare(resize="stretch", size=image_size, mean=(0.0,) * 3, std=(1.0,) * 3)
    return PixelCNN(image_size=image_size, width=width, depth=depth, head=head, gray=gray, prepare=prepare)
