"""Random views of a batch of pictures for self-supervised learning, on whatever device it lies (Chen 2020, arXiv:2002.05709, appendix A).

`Views.parse("crop:0.2,flip,color:0.5,gray:0.2,blur:0.5")`. All that moves pixels is one map a picture, sampled once; what is looked up
beyond the edge is the edge.

| name | what it does |
| --- | --- |
| crop:A | a part of at least A of the area, 3:4 to 4:3, in full size |
| flip | left and right, with probability 1/2 |
| turn:D | up to D degrees either way |
| shear:D | up to D degrees either way |
| scale:S | from 1 - S to 1 + S times as large |
| shift:S | up to S of the side either way |
| elastic:S | a smooth field of displacements, of deviation S of the side at 4 x 4 points (Simard 2003), as strokes of another hand |
| color:S | brightness, contrast and saturation, each times 1 - S to 1 + S |
| gray:P, blur:P, solarize:P | with probability P; blurred by 0.1 to 2 pixels at 224, and as much in proportion |
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool import calls
from cvtool.errors import UsageError, did_you_mean

LUMA = (0.299, 0.587, 0.114)


class Normalised(Protocol):
    """What says how pictures are normalised, such as `Prepare`."""

    @property
    def mean(self) -> tuple[float, ...]: ...

    @property
    def std(self) -> tuple[float, ...]: ...


@dataclass(frozen=True)
class Views:
    """How strong each is; 0 for not at all (crop: 1)."""

    crop: float = 1.0
    flip: bool = False
    turn: float = 0.0
    shear: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    color: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    solarize: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Views:
        """Raises UsageError."""
        known = {f.name: f.default for f in fields(cls)}
        given: dict[str, float | bool] = {}
        for call in calls.read(text, "views"):
            if call.name not in known:
                raise UsageError(f"unknown view '{call.name}'", hint=did_you_mean(call.name, known) or "views: " + ", ".join(known))
            if call.name in given:
                raise UsageError(f"views: {call.name} is given twice")
            if call.name == "flip":
                calls.bind(call, {}, "views")
                given["flip"] = True
                continue
            value = float(calls.bind(call, {"amount": 0.0}, "views")["amount"])
            most = 180.0 if call.name == "turn" else 60.0 if call.name == "shear" else 1.0
            if not 0 < value <= most:
                raise UsageError(f"views: {call.name} takes a number above 0 and up to {most:g}, such as {call.name}:{most / 5:g}, not {value:g}")
            given[call.name] = value
        return cls(**given)  # type: ignore[arg-type]

    def __call__(self, images: Tensor, normalised: Normalised, draw: torch.Generator | None = None) -> Tensor:
        """B 3 H W, normalised -> as many views. draw: where the random numbers come from; None is the global stream."""
        mean, std = (images.new_tensor(v).view(1, -1, 1, 1) for v in (normalised.mean, normalised.std))
        x = (images * std + mean).clamp(0, 1)

        def uniform(low: float, high: float) -> Tensor:
            return (torch.rand(len(x), generator=draw) * (high - low) + low).to(x)

        if self.crop < 1 or self.flip or self.turn or self.shear or self.scale or self.shift or self.elastic:
            grid = F.affine_grid(self.maps(uniform), list(x.shape), align_corners=False)
            if self.elastic:
                field = torch.randn(len(x), 2, 4, 4, generator=draw).to(x) * (2 * self.elastic)
                grid = grid + F.interpolate(field, size=x.shape[-2:], mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
            x = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
        if self.color:
            x = _coloured(x, *(uniform(max(0.0, 1 - self.color), 1 + self.color).view(-1, 1, 1, 1) for _ in range(3)))
        for chance, change in ((self.gray, _gray), (self.solarize, _solarized)):
            if chance:
                x = torch.where((uniform(0, 1) < chance).view(-1, 1, 1, 1), change(x), x)
        if self.blur:
            sigma = uniform(0.1, 2.0) * (max(x.shape[-2:]) / 224)
            x = torch.where((uniform(0, 1) < self.blur).view(-1, 1, 1, 1), _blurred(x, sigma), x)
        return (x - mean) / std

    def maps(self, uniform: object) -> Tensor:
        """B 2 3: from a view's coordinates in [-1, 1] to the picture's. uniform: (low, high) -> B."""
        u = uniform
        assert callable(u)
        area, ratio = u(self.crop, 1.0), torch.exp(u(-math.log(4 / 3), math.log(4 / 3)) if self.crop < 1 else u(0.0, 0.0))
        width, height = ((area * r).sqrt().clamp(max=1) for r in (ratio, 1 / ratio))
        x, y = (1 - width) * u(-1.0, 1.0), (1 - height) * u(-1.0, 1.0)  # the part's centre
        turn, shear = (u(-v, v) * (math.pi / 180) for v in (self.turn, self.shear))
        size = 1 / u(1 - self.scale, 1 + self.scale).clamp(min=0.1)
        sign = torch.where(u(0.0, 1.0) < 0.5, -1.0, 1.0) if self.flip else torch.ones_like(size)
        cos, sin, slant = size * turn.cos(), size * turn.sin(), shear.tan()
        first = torch.stack([sign * width * cos, width * (cos * slant - sin), x + 2 * u(-self.shift, self.shift)], 1)
        second = torch.stack([sign * height * sin, height * (sin * slant + cos), y + 2 * u(-self.shift, self.shift)], 1)
        return torch.stack([first, second], 1)


def _gray(x: Tensor) -> Tensor:
    return (x * x.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True).expand_as(x)


def _solarized(x: Tensor) -> Tensor:
    return torch.where(x < 0.5, x, 1 - x)


def _coloured(x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    x = (x * brightness).clamp(0, 1)
    level = _gray(x).mean((1, 2, 3), keepdim=True)
    x = (level + (x - level) * contrast).clamp(0, 1)
    gray = _gray(x)
    return (gray + (x - gray) * saturation).clamp(0, 1)


def _blurred(x: Tensor, sigma: Tensor) -> Tensor:
    """By a Gaussian of a width of its own for each picture: B."""
    count, channels, height, width = x.shape
    radius = max(1, min(math.ceil(3 * float(sigma.max())), min(height, width) - 1))
    at = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (at / sigma[:, None].clamp(min=1e-3)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]  # BC 1 K
    flat = F.pad(x, (radius,) * 4, mode="replicate").reshape(1, count * channels, height + 2 * radius, width + 2 * radius)
    flat = F.conv2d(flat, kernel[:, :, None, :], groups=count * channels)
    return F.conv2d(flat, kernel[:, :, :, None], groups=count * channels).reshape(x.shape)
