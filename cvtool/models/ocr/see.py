"""SEE: learns where the words of a picture stand from what they say alone, by sampling them with affine grids (Bartz 2017, arXiv:1712.05404).

A localisation network looks at the picture and gives N affine transformations, one after another. Each makes a regular grid, which is used twice:
its outline is the region, and the picture sampled at its points is what the recognition network reads, a character or a blank for each of T slots.
All of it is differentiable, so the cross-entropy of the characters moves the grids; no box is ever read. A picture's text is its words with blanks
between, in the order of the regions; a region without a word says blanks alone and is no result.

The network finds places only if it is led there: as in the paper, begin with pictures of few words. Grids that leave the picture, and that are
mirrored, are drawn back (the paper's section on regularisation); `layout` says where they start.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool import charsets
from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError, did_you_mean
from cvtool.layers.resnet import NarrowResNet
from cvtool.models.ocr._recogniser import Recogniser
from cvtool.results import Quads

VARIANTS = {
    "base": {},
    "tiny": {"regions": 2, "length": 4, "widths": (8, 12, 16, 16), "hidden": 48, "reader": (12, 16, 24), "crop": (16, 32), "image_size": (32, 96)},
}
WEIGHTS: dict[str, dict] = {}
RECIPE = {
    "step": "supervised",
    "optimizer": "adam",
    "lr": 1e-4,
    "batch_size": 32,
    "epochs": 60,
    "schedule": "step",
    "clip": 5.0,
    "variants": {"tiny": {"optimizer": "adamw", "lr": 3e-3, "weight_decay": 0.0, "batch_size": 8, "epochs": 60, "schedule": "one-cycle"}},
}
LAYOUTS = ("row", "column", "whole")
IGNORED = -100
OUTLINE = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))  # a grid's corners before its transformation


def grids(theta: Tensor, size: tuple[int, int]) -> Tensor:
    """B N 2 3 -> B N h w 2: where each cell of a grid of h w cells lies in the picture, x and y from -1 to 1 over its whole width and height."""
    count = theta.shape[1]
    return F.affine_grid(theta.flatten(0, 1), [theta.shape[0] * count, 1, *size], align_corners=False).unflatten(0, (-1, count))


def sampled(images: Tensor, grid: Tensor) -> Tensor:
    """B C H W and B N h w 2 -> B N C h w, bilinear; outside of the picture its border repeats."""
    batch, count = grid.shape[:2]
    repeated = images[:, None].expand(-1, count, -1, -1, -1).flatten(0, 1)
    return F.grid_sample(repeated, grid.flatten(0, 1), padding_mode="border", align_corners=False).unflatten(0, (batch, count))


def outlines(theta: Tensor, width: int, height: int) -> Tensor:
    """B N 2 3 -> B N 4 2: the corners of each grid, in pixels of a picture of that size."""
    corners = theta.new_tensor(OUTLINE)
    placed = torch.einsum("bnij,kj->bnki", theta[..., :2], corners) + theta[..., None, :, 2]
    return (placed + 1) / 2 * theta.new_tensor([width, height])


class Localiser(nn.Module):
    """B 3 H W -> B N 2 3: features, and N steps of an LSTM that each see all of them."""

    def __init__(self, regions: int, widths: tuple[int, ...], hidden: int, layout: str) -> None:
        super().__init__()
        self.features = NarrowResNet(widths, returns=(len(widths) - 1,))
        self.reduce = nn.Linear(widths[-1] * 2 * 4, hidden)
        self.steps = nn.LSTM(hidden, hidden, batch_first=True)
        self.theta = nn.Linear(hidden, 6)
        self.regions = regions
        nn.init.normal_(self.theta.weight, std=1e-3)  # nearly where `start` says, but so that the features are heard from the first turn on
        nn.init.zeros_(self.theta.bias)
        self.start: Tensor
        self.register_buffer("start", starts(regions, layout))

    def forward(self, images: Tensor) -> Tensor:
        (features,) = self.features(images).values()
        seen = F.relu(self.reduce(F.adaptive_avg_pool2d(features, (2, 4)).flatten(1)))
        steps, _ = self.steps(seen[:, None].expand(-1, self.regions, -1))
        return self.start + self.theta(steps).unflatten(-1, (2, 3)).float()


def starts(regions: int, layout: str) -> Tensor:
    """N 2 3: side by side, one below another, or each over the whole picture."""
    theta = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).repeat(regions, 1, 1)
    if layout != "whole" and regions > 1:
        axis = LAYOUTS.index(layout)
        theta[:, axis, axis] = min(1.0, 1.2 / regions)  # they overlap a little
        theta[:, axis, 2] = (2 * torch.arange(regions) + 1) / regions - 1
    return theta


class Reader(nn.Module):
    """M 3 h w -> M T K + 1 logits: convolutions, and a layer of its own for each slot."""

    def __init__(self, classes: int, length: int, widths: tuple[int, ...], crop: tuple[int, int], hidden: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        channels, (rows, columns) = 3, crop
        for width in widths:
            parts += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            channels, rows, columns = width, rows // 2, columns // 2
        self.features = nn.Sequential(*parts)
        self.slots = nn.Linear(channels * rows * columns, length * hidden)
        self.classes = nn.Linear(hidden, classes + 1)
        self.length = length

    def forward(self, crops: Tensor) -> Tensor:
        x = F.relu(self.slots(self.features(crops).flatten(1))).unflatten(1, (self.length, -1))
        return self.classes(x).float()


class SEE(Recogniser):
    """crop: (h, w) of the grids. A character set without the blank gets it, for it parts the words."""

    result = Quads  # type: ignore[assignment]

    def __init__(self, localiser: Localiser, reader: Reader, *, charset: str, crop: tuple[int, int], prepare: Prepare) -> None:
        super().__init__(with_blank(charset), prepare)
        self.localiser, self.reader, self.crop = localiser, reader, crop
        self.blank = len(self.charset)
        self.max_length = localiser.regions * (reader.length + 1) - 1

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """B 3 H W -> transformations B N 2 3 and logits B N T K + 1."""
        theta = self.localiser(images)
        crops = sampled(images, grids(theta, self.crop))
        return theta, self.reader(crops.flatten(0, 1)).unflatten(0, theta.shape[:2])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """characters: the mean cross-entropy of all slots. grid: how far the grids' corners leave the picture, and by how much they are mirrored."""
        theta, logits = self.forward(batch.images)
        wanted = self.wanted(self.texts(batch)).to(logits.device)
        total = F.cross_entropy(logits.flatten(0, 2), wanted.flatten(), ignore_index=IGNORED, reduction="sum")
        corners = outlines(theta, 2, 2) - 1
        outside, mirrored = F.relu(corners.abs() - 1), F.relu(0.05 - torch.stack([theta[..., 0, 0], theta[..., 1, 1]]))
        return {"characters": total / (wanted != IGNORED).sum().clamp(min=1), "grid": outside.mean() + mirrored.mean()}

    def wanted(self, texts: list[str]) -> Tensor:
        """B N T int64: the labels of each word, then blanks. A word that is too long, or has a character that is not in the set, does not count (data
        to validate on may hold such), nor do words beyond the last region."""
        out = torch.full((len(texts), self.localiser.regions, self.reader.length), self.blank)
        for row, text in zip(out, texts, strict=True):
            for slots, word in zip(row, text.split(), strict=False):
                if len(word) > len(slots) or any(c not in self.labels for c in word):
                    slots[:] = IGNORED
                else:
                    slots[: len(word)] = torch.tensor([self.labels[c] for c in word])
        return out

    def predict(self, batch: Batch, *, charset: str | None = None, conf: float | None = None, max_det: int | None = None) -> list[Quads]:
        """The regions in which a word stands, surest first, each with its text. A score is the product of its slots' probabilities, and above `conf`
        (0). Characters after the first blank slot are not read."""
        theta, logits = self.forward(batch.images)
        allowed = self.allowed(charset)
        allowed[self.labels[" "]] = False
        logits = logits.masked_fill(~torch.cat([allowed, torch.tensor([True])]).to(logits.device), -torch.inf)
        best, labels = logits.softmax(-1).max(-1)  # B N T
        ended = (labels == self.blank).cumsum(-1) > 0
        first = ended & (ended.cumsum(-1) == 1)
        scores = torch.where(ended & ~first, 1.0, best).prod(-1)
        height, width = batch.images.shape[-2:]
        corners = outlines(theta, width, height)
        results = []
        for i, place in enumerate(batch.places):
            texts = ["".join(self.charset[int(label)] for label in row[~end]) for row, end in zip(labels[i], ended[i], strict=True)]
            there = [k for k in scores[i].argsort(descending=True, stable=True).tolist() if texts[k] and scores[i, k] > (conf or 0)][:max_det]
            index = torch.tensor(there, dtype=torch.int64, device=corners.device)
            results.append(Quads(place.points_back(corners[i, index]), scores[i, index], tuple(texts[k] for k in there)))
        return results


def with_blank(text: str) -> str:
    known = charsets.charset(text)
    return known if " " in known else known + " "


def build(
    *, classes: int = 1, charset: str = "latin", regions: int = 4, length: int = 12, layout: str = "row",
    widths: tuple[int, ...] = (32, 64, 128, 192), hidden: int = 256, reader: tuple[int, ...] = (32, 64, 96, 128), crop: tuple[int, int] = (32, 96),
    image_size: int | tuple[int, int] = (128, 256),
) -> SEE:  # fmt: skip
    """classes: has no meaning here. regions: N, the most words of a picture. length: T, the most characters of a word. layout: how the words of the
    pictures mostly stand, row, column or whole (anyhow). image_size: (height, width) to which pictures are stretched. Raises UsageError."""
    if layout not in LAYOUTS:
        raise UsageError(f"layout is not {layout}", hint=did_you_mean(layout, LAYOUTS) or "layout: " + ", ".join(LAYOUTS))
    if regions < 1 or length < 1:
        raise UsageError(f"regions={regions}, length={length}: both are 1 or more")
    known, (rows, columns) = with_blank(charset), crop
    prepare = Prepare(resize="stretch", size=image_size)
    localiser = Localiser(regions, tuple(widths), hidden, layout)
    return SEE(localiser, Reader(len(known), length, tuple(reader), (rows, columns), hidden), charset=known, crop=(rows, columns), prepare=prepare)
