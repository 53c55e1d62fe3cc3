"""Adaptive instance normalisation: a map takes over the statistics of a style (Huang 2017, arXiv:1703.06868, eq. 8; Karras 2018, arXiv:1812.04948).

    AdaIN(x, y) = y_s (x - mu(x)) / sigma(x) + y_b, per sample and channel over space

y_s and y_b are the deviation and mean of a style picture's map, or come from a learned affine map A of a style vector w.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def statistics(x: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Mean and deviation, sqrt(var + eps), of B C H W over space: B C 1 1 each. Computed in float32 at least."""
    x = x if x.dtype == torch.float64 else x.float()
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return mean, (variance + eps).sqrt()


def adain(content: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """B C H W with scale (y_s) and shift (y_b), B C 1 1 each."""
    mean, deviation = statistics(content, eps)
    return (scale * (content - mean) / deviation + shift).to(content.dtype)


def transfer(content: Tensor, style: Tensor, eps: float = 1e-8) -> Tensor:
    """The content's map with the mean and deviation of the style's; the two may differ in height and width.

    Only what is divided by needs `eps`: sqrt(v_s) (x - mu) / sqrt(v + eps) + mu_s. (Under the first root stands 1e-12, for the gradient's sake.) It
    is smaller than a normalisation's, so that pale maps, too, take over the deviation: of v = 0.0025, 1e-5 would leave 0.2 % of it out.
    """
    mean, deviation = statistics(style, 1e-12)
    return adain(content, deviation, mean, eps)


class AdaIN(nn.Module):
    """StyleGAN's: A maps w (512) to 2 C numbers a sample, y_s and y_b. forward: B C H W, B `style` -> B C H W. At the start y_s = 1 and y_b = 0 on
    average (the bias of A), so that the layer begins as instance normalisation."""

    def __init__(self, channels: int, *, style: int = 512, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.affine = nn.Linear(style, 2 * channels)
        with torch.no_grad():
            self.affine.bias.copy_(torch.cat([torch.ones(channels), torch.zeros(channels)]))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        scale, shift = self.affine(w)[..., None, None].chunk(2, 1)  # B C 1 1
        return adain(x, scale, shift, self.eps)
