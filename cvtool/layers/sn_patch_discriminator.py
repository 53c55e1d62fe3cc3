"""SN-PatchGAN: strided convolutions, each spectrally normalised, whose every output is a verdict (Yu 2019, arXiv:1806.03589, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STARTING = 15  # rounds of the power iteration before the first forward pass


class SpectralConv2d(nn.Conv2d):
    """A convolution by W / sigma(W), W as a matrix of outputs x the rest, sigma its largest singular value (Miyato 2018, arXiv:1802.05957).

    For a network that is never without it: the tensors are W and u, the left singular vector of the power iteration, which advances by a round in
    each forward pass in training and stands still at evaluation. A checkpoint holds both, so that training goes on where it was.
    """

    u: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding)
        self.register_buffer("u", F.normalize(torch.randn(outputs), dim=0))
        for _ in range(STARTING):
            self._advance()

    @torch.no_grad()
    def _advance(self) -> None:
        matrix = self.weight.flatten(1)
        self.u.copy_(F.normalize(matrix @ F.normalize(matrix.T @ self.u, dim=0), dim=0))

    def normalised(self) -> Tensor:
        """W / sigma. The gradient takes the singular vectors for constants (eq. 9)."""
        seen = self.weight.flatten(1).T @ self.u.clone()  # the next pass writes over u
        return self.weight / (seen * F.normalize(seen.detach(), dim=0)).sum()

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self._advance()
        with torch.autocast(x.device.type, enabled=False):
            weight = self.normalised()
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class SNPatchDiscriminator(nn.Sequential):
    """Picture, mask and guidance B C H W -> B C' H / 2^L W / 2^L, not squashed; each is a verdict on a patch by a feature of its own.

    widths: channels of the L layers of 5 x 5 and stride 2, LeakyReLU after all but the last. In the paper 64, 128 and four times 256: verdicts see
    the whole of a picture of 256 pixels.
    """

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        parts: list[nn.Module] = []
        for before, after in zip((channels, *widths), widths, strict=False):
            parts += [SpectralConv2d(before, after, 5, stride=2, padding=2), nn.LeakyReLU(0.2)]
        super().__init__(*parts[:-1])
