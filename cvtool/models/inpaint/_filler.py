"""What networks share that learn to fill holes from pictures alone: a hole for each picture, drawn by the loader, and maybe a rival."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.losses import _gan
from cvtool.ops.freeform import Freeform
from cvtool.results import Picture


class Filler(nn.Module):
    """A child has `generator`, `reconstruct` and, where `discriminator` is one, `judge`. Masks are 1 in the hole, as everywhere in the program.

    The step `inpainting` trains it. holes: what is drawn of (seed, epoch, entry) for each picture while it learns. condition: what is known beside
    the picture, its first channel the mask. form, share: what the rivals lose, and how much that counts; the recipe says.
    """

    result = Picture
    needs = ("pictures",)
    holes = Freeform()
    form, share = "hinge", 1.0
    generator: nn.Module
    discriminator: nn.Module | None
    prepare: Prepare

    @property
    def rivals(self) -> bool:
        return self.discriminator is not None

    def condition(self, batch: Batch) -> Tensor:
        """B 1 H W float: the masks of the batch's targets."""
        return torch.stack([target.hole for target in batch.targets or []])[:, None].to(batch.images)

    def reconstruct(self, images: Tensor, told: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Whole pictures B 3 H W as they are prepared and their condition -> the pictures with what was made in their holes, and its losses."""
        raise TypeError(f"{type(self).__name__} fills nothing")

    def judge(self, pictures: Tensor, told: Tensor) -> Tensor:
        """Pictures and their condition -> scores of any shape, not squashed: larger where they look more real."""
        raise TypeError(f"{type(self).__name__} judges nothing")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """What is lost on a batch, by both rivals where there are two: for looking at; the step takes them apart."""
        told = self.condition(batch)
        made, losses = self.reconstruct(batch.images, told)
        if self.discriminator is None:
            return losses
        lost = _gan.form(self.form)
        losses |= {"adversarial": self.share * lost.deceiving(self.judge(made, told))}
        losses |= {"d_real": lost.judging(self.judge(batch.images, told), True), "d_made": lost.judging(self.judge(made.detach(), told), False)}
        return losses


def around_zero(image_size: int) -> Prepare:
    """Pictures scaled, their middle cut out, with values between -1 and 1."""
    return Prepare(resize="crop", size=image_size, mean=(0.5,) * 3, std=(0.5,) * 3)
