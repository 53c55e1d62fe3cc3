"""DeepFill v2: gated convolutions fill a hole roughly, then finely, with patches from elsewhere, as sketched (Yu 2019, arXiv:1806.03589).

A coarse network sees the picture with its hole white, the mask M (1 = hole) and maybe a sketch; a refining one sees the same with the coarse
result in the hole, by two branches, of which one attends to what stands elsewhere (`layers/contextual_attention.py`). All convolutions are gated
(`layers/gated_conv.py`). Lost are the L1 distances of both results over the whole picture and, one to one, the hinge loss of every element that
`layers/sn_patch_discriminator.py` says of the completed picture (section 3.4). What a sketch is made of when there is none to learn from: edges of
the true picture in the hole, of every second one.

    cvtool train -m deepfill-v2.small --data photos/ ;  cvtool inpaint photo.jpg --mask hole.png -m runs/0001 -o clean.jpg
    cvtool train -m deepfill-v2.small --data photos/ --sketch true
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch
from cvtool.errors import UsageError
from cvtool.layers.contextual_attention import ContextualAttention
from cvtool.layers.gated_conv import GatedConv
from cvtool.layers.gray import Gray
from cvtool.layers.sn_patch_discriminator import SNPatchDiscriminator
from cvtool.models.inpaint._filler import Filler, around_zero

VARIANTS = {
    "base": {"image_size": 256, "width": 24, "judging": 64},
    "small": {"image_size": 128, "width": 16, "judging": 24},
    "tiny": {"image_size": 32, "width": 4, "judging": 4},
}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
RECIPE = {
    "step": "inpainting",
    "gan_loss": "hinge",
    "adversarial": 1.0,
    "optimizer": "adam:beta1=0.5,beta2=0.999",
    "lr": 1e-4,
    "weight_decay": 0.0,
    "batch_size": 16,
    "epochs": 200,
    "schedule": "constant",
    "augment": "resized-crop:0.2,flip",
    "clip": 0.0,
}
STRIDE = 8  # what sides are multiples of: two halvings, and one of the attention's
EDGE = 0.15  # of the gray values' range a pixel: what is an edge

Wide = partial(GatedConv, kernel=5)
Doubled = partial(nn.Upsample, scale_factor=2, mode="nearest")


def dilated(w: int) -> list[nn.Module]:
    """Four layers that see further and further: 2, 4, 8, 16 places apart."""
    return [GatedConv(w, w, dilation=rate) for rate in (2, 4, 8, 16)]


def opening(inputs: int, w: int) -> nn.Sequential:
    """The picture two times halved: B C H W -> B 4w H/4 W/4."""
    first = [Wide(inputs, w), GatedConv(w, 2 * w, stride=2), GatedConv(2 * w, 2 * w), GatedConv(2 * w, 4 * w, stride=2)]
    return nn.Sequential(*first, GatedConv(4 * w, 4 * w), GatedConv(4 * w, 4 * w))


def closing(inputs: int, w: int) -> nn.Sequential:
    """B C H/4 W/4 -> B 3 H W in [-1, 1]."""
    return nn.Sequential(
        GatedConv(inputs, 4 * w), GatedConv(4 * w, 4 * w), Doubled(), GatedConv(4 * w, 2 * w), GatedConv(2 * w, 2 * w), Doubled(),
        GatedConv(2 * w, w), GatedConv(w, max(1, w // 2)), nn.Conv2d(max(1, w // 2), 3, 3, 1, 1), nn.Tanh(),
    )  # fmt: skip


class Refining(nn.Module):
    """B C H W, its first four channels a picture without a hole and the mask -> B 3 H W."""

    def __init__(self, inputs: int, w: int) -> None:
        super().__init__()
        self.hallucinate = nn.Sequential(opening(inputs, w), *dilated(4 * w))
        self.look = opening(inputs, w)
        self.attend = ContextualAttention()
        self.after = nn.Sequential(GatedConv(4 * w, 4 * w), GatedConv(4 * w, 4 * w))
        self.join = closing(8 * w, w)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.look(x)
        hole = F.max_pool2d(x[:, 3:4], 4)
        return self.join(torch.cat([self.hallucinate(x), self.after(self.attend(seen, hole))], 1))


class Generator(nn.Module):
    """Pictures B 3 H W in [-1, 1] and their condition B 1|2 H W, mask and sketch -> the coarse and the fine result, B 3 H W in [-1, 1] each."""

    def __init__(self, inputs: int, w: int) -> None:
        super().__init__()
        self.coarse = nn.Sequential(opening(inputs, w), *dilated(4 * w), closing(4 * w, w))
        self.refine = Refining(inputs, w)

    def forward(self, images: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        mask = told[:, :1]
        coarse = self.coarse(torch.cat([images * (1 - mask) + mask, told], 1))
        return coarse, self.refine(torch.cat([images * (1 - mask) + coarse * mask, told], 1))


class DeepFillV2(Filler):
    """The words are those of `build`."""

    def __init__(self, *, size: int, width: int, judging: int, sketch: bool) -> None:
        super().__init__()
        self.prepare, self.sketch = around_zero(size), sketch
        self.generator = Generator(4 + sketch, width)
        self.discriminator = SNPatchDiscriminator(4 + sketch, [judging, 2 * judging, *[4 * judging] * 4])
        self.gray = Gray()

    def condition(self, batch: Batch) -> Tensor:
        """The mask and, where it learns from sketches, the edges of what is in the hole, or none for half of the pictures."""
        mask = super().condition(batch)
        if not self.sketch:
            return mask
        drawn = torch.rand(len(mask), device=mask.device) < 0.5 if self.training else torch.ones(len(mask), dtype=torch.bool, device=mask.device)
        return torch.cat([mask, self.edges(batch.images) * mask * drawn[:, None, None, None]], 1)

    def edges(self, images: Tensor) -> Tensor:
        """B 3 H W in [-1, 1] -> B 1 H W of 0 and 1: where the gray values' gradient (Sobel) is steep."""
        across = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
        gray = F.pad((self.gray(images) + 1) / 2, (1, 1, 1, 1), mode="replicate")
        gradient = F.conv2d(gray, torch.stack([across, across.T])[:, None])
        return (gradient.square().sum(1, keepdim=True) > EDGE**2).to(images)

    def reconstruct(self, images: Tensor, told: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """`l1_coarse`, `l1`: mean |difference| of both results from the picture, over all pixels."""
        coarse, fine = self.generator(images, told)
        losses = {"l1_coarse": (coarse.float() - images).abs().mean(), "l1": (fine.float() - images).abs().mean()}
        return torch.lerp(images, fine.to(images), told[:, :1]), losses

    def judge(self, pictures: Tensor, told: Tensor) -> Tensor:
        """B C' h w: a verdict for each place and feature."""
        return self.discriminator(torch.cat([pictures, told], 1))  # type: ignore[misc]

    @torch.no_grad()
    def fill(self, images: Tensor, masks: Tensor, *, guidance: Tensor | None = None) -> Tensor:
        """B 3 H W in [0, 1] and masks B 1 H W bool, True = hole -> B 3 H W in [0, 1]; sides are multiples of 8, best the size that it learned from.

        guidance: a sketch, B 1 H W of 0 and 1 (line); what lies outside of the hole is not looked at. Raises UsageError for one that it knows not
        to read.
        """
        told = masks.to(images)
        if guidance is not None and not self.sketch:
            raise UsageError("a sketch has no effect on this model, which has not learned from any", hint="train it with --sketch true")
        if self.sketch:
            told = torch.cat([told, torch.zeros_like(told) if guidance is None else guidance.to(told) * told], 1)
        return (self.generator(2 * images - 1, told)[1].float() + 1) / 2


def build(*, classes: int = 0, image_size: int = 256, width: int = 24, judging: int = 64, sketch: bool = False) -> DeepFillV2:
    """image_size: side of the squares that it learns from and fills, a multiple of 8. width: maps of the generator's first layer; 2 and 4 times as
    many follow. judging: of the discriminator's first. sketch: a channel more, in both, for lines that shall be in the hole. Raises UsageError."""
    if image_size < STRIDE or image_size % STRIDE:
        raise UsageError(f"image_size={image_size} is no multiple of {STRIDE}", hint="such as 128 or 256")
    if width < 1 or judging < 1:
        raise UsageError("width and judging are one map at least")
    return DeepFillV2(size=image_size, width=width, judging=judging, sketch=sketch)
