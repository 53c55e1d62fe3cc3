"""The end of a classifier by name: `--head gap|spp|flatten`: how a map of features becomes a vector."""

from __future__ import annotations

from torch import Tensor, nn

from cvtool.errors import UsageError, did_you_mean
from cvtool.layers.spp import SpatialPyramidPooling

NAMES = ("gap", "spp", "flatten")


class GlobalAverage(nn.Module):
    """The mean over space: B C H W -> B C, whatever H and W (Lin 2013, arXiv:1312.4400, section 3.2). 7 x 7 x 2048 -> 2048."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def pool(name: str, channels: int, size: tuple[int, int] | None = None) -> tuple[nn.Module, int]:
    """The module B C H W -> B F, and F. gap: F = C. spp: 21 C. flatten: F = C H W, for maps of `size` (H, W) and no other.

    A network whose own pooling and last layer have names of their own puts the module in the one's place and sizes the other by F.
    Raises UsageError for another name, and for `flatten` where the size of the map is not known.
    """
    if name == "gap":
        return GlobalAverage(), channels
    if name == "spp":
        module = SpatialPyramidPooling()
        return module, module.features(channels)
    if name == "flatten":
        if size is None:
            raise UsageError("--head flatten needs pictures of one size, and this network takes any", hint="--head gap")
        return nn.Flatten(), channels * size[0] * size[1]
    raise UsageError(f"unknown head '{name}'", hint=did_you_mean(name, NAMES) or "heads: " + ", ".join(NAMES))
