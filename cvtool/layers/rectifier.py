"""Spatial transformers that straighten text before it is read: `none|affine|tps` (Jaderberg 2015, arXiv:1506.02025; Shi 2016, arXiv:1603.03915).

A small network looks at the picture and says where each point of the straightened picture lies in it; the pixels are fetched from there, which has
a gradient, so that the strings alone teach it: nobody marks how a word is bent. `affine` says a 2 x 3 matrix: slant, turn, size, place. `tps` says
where `points` places along the upper and lower edge lie, between which a thin-plate spline bends: perspective and curved lines too.

Coordinates run from -1 to 1 over the picture's own part of the batch, edge to edge, so that a picture is straightened the same in any batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.errors import UsageError, did_you_mean
from cvtool.ops.thin_plate import kernel, solver

NAMES = ("none", "affine", "tps")
SEEN = (32, 64)  # pixels of the picture that the small network looks at, whatever its size


def lattice(height: int, width: int, extents: Tensor) -> Tensor:
    """B H W 2 (x, y): the centre of each pixel, -1..1 over the picture's own part; extents: B 2, its (height, width) in pixels, from the top left."""
    y, x = (torch.arange(n, device=extents.device, dtype=extents.dtype) + 0.5 for n in (height, width))
    rows = 2 * y / extents[:, :1] - 1  # B H
    columns = 2 * x / extents[:, 1:] - 1  # B W
    return torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), -1)


def fetch(images: Tensor, places: Tensor, extents: Tensor) -> Tensor:
    """The pixels at `places` B h w 2, -1..1 over each picture's own part of B C H W, bilinear; outside of that part those of its edge -> B C h w."""
    size = extents.flip(-1)[:, None, None]  # B 1 1 2: width, height
    inside = ((places + 1) * size / 2).clamp(min=0.5).minimum(size - 0.5)  # in pixels, between the outer pixels' centres
    whole = inside.new_tensor(images.shape[:1:-1])  # W, H
    return F.grid_sample(images.to(inside.dtype), inside * 2 / whole - 1, align_corners=False).to(images.dtype)


class Localiser(nn.Module):
    """What the small network is: 3x3 convolutions, each but the last followed by a pooling of 2, then two linear layers. B C 32 64 -> B outputs."""

    def __init__(self, channels: int, outputs: int, widths: Sequence[int], hidden: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in pairwise([channels, *widths]):
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers[:-1], nn.Flatten())
        shrunk = 2 ** (len(widths) - 1)
        self.hidden = nn.Sequential(nn.Linear(widths[-1] * (SEEN[0] // shrunk) * (SEEN[1] // shrunk), hidden), nn.ReLU(inplace=True))
        self.out = nn.Linear(hidden, outputs)
        self.share = 4 / hidden  # so that a step of the optimiser moves a place by little: what was once folded into a point never comes back
        # Next to nothing, so that training begins with the picture as it is; not zero, or nothing before it would learn at the first step.
        nn.init.normal_(self.out.weight, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.share * self.hidden(self.features(x)))


class Rectifier(nn.Module):
    """forward: B C H W, and each picture's own (height, width) in it, B 2 (None: all of it) -> the pictures straightened, B C H W, padding 0.

    kind: "affine" or "tps". points: how many places `tps` moves, half of them along each edge.
    `parameters_of` gives what the network says: B 2 3 (x, y of the picture from x, y, 1 of the straightened one) or B points 2.
    """

    centres: Tensor
    solver: Tensor
    identity: Tensor

    def __init__(self, kind: str, *, channels: int = 3, points: int = 20, widths: Sequence[int] = (16, 32, 64, 128, 128), hidden: int = 256) -> None:
        super().__init__()
        if kind == "tps":
            if points < 4 or points % 2:
                raise UsageError(f"a thin-plate spline over two edges takes an even number of points from 4 on, not {points}")
            x = torch.linspace(-1, 1, points // 2)
            identity = torch.cat([torch.stack([x, torch.full_like(x, edge)], 1) for edge in (-1.0, 1.0)])  # K 2
            self.register_buffer("centres", identity.clone(), persistent=False)
            self.register_buffer("solver", solver(identity).float(), persistent=False)
        elif kind == "affine":
            identity = torch.eye(2, 3)
        else:
            raise UsageError(f"unknown rectification '{kind}'", hint=did_you_mean(kind, NAMES) or "rectifications: " + ", ".join(NAMES))
        self.kind = kind
        self.register_buffer("identity", identity, persistent=False)
        self.localiser = Localiser(channels, identity.numel(), widths, hidden)
        nn.init.zeros_(self.localiser.out.bias)

    def forward(self, images: Tensor, extents: Tensor | None = None) -> Tensor:
        extents = self.extents_of(images, extents)
        return self.warp(images, self.parameters_of(images, extents), extents)

    def parameters_of(self, images: Tensor, extents: Tensor | None = None) -> Tensor:
        """How each picture is bent, as the network sees it: the identity and what it adds."""
        extents = self.extents_of(images, extents)
        seen = fetch(images, lattice(*SEEN, extents.new_tensor([SEEN])), extents)
        return self.identity + self.localiser(seen).to(extents.dtype).view(-1, *self.identity.shape)

    def warp(self, images: Tensor, parameters: Tensor, extents: Tensor | None = None) -> Tensor:
        """The straightened pictures for given parameters; those of the identity give the pictures themselves."""
        extents = self.extents_of(images, extents)
        height, width = images.shape[-2:]
        same = bool((extents == extents[:1]).all())
        at = lattice(height, width, extents[:1] if same else extents)  # 1 or B, H W 2
        with torch.autocast(images.device.type, enabled=False):  # with 8 bits a place is half a pixel off
            found = self.places(at.flatten(1, 2), parameters.to(extents.dtype)).unflatten(1, (height, width))
            return fetch(images, found, extents) * (at.abs() <= 1).all(-1)[:, None]

    def places(self, at: Tensor, parameters: Tensor) -> Tensor:
        """Where the points `at` (1 or B, N 2) of the straightened picture lie in the picture: B N 2."""
        if self.kind == "affine":
            return at @ parameters[:, :, :2].mT + parameters[:, None, :, 2]
        return at + kernel(at, self.centres) @ (
            self.solver @ (parameters - self.identity)
        )  # of the steps alone, which are exactly 0 for the identity

    @staticmethod
    def extents_of(images: Tensor, extents: Tensor | None) -> Tensor:
        precise = torch.promote_types(images.dtype, torch.float32)
        if extents is None:
            return torch.tensor([images.shape[-2:]], dtype=precise, device=images.device).expand(len(images), 2)
        return extents.to(images.device, precise)


def rectifier(kind: str) -> Rectifier | None:
    """The rectification of that name; None for "none". Raises UsageError for another name."""
    return None if kind == "none" else Rectifier(kind)
