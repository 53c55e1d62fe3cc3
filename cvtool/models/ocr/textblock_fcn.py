"""Text-block FCN: blocks of text from a saliency map, lines of stable regions, checked by characters' middles (Zhang 2016, arXiv:1604.04018).

Three steps. A fully convolutional VGG-16 says of every pixel whether it lies in text: each of its five stages is reduced by a 1x1 convolution,
enlarged to the picture's size and put beside the others, and a 1x1 convolution with a sigmoid reads all. In each block that stands out, MSER finds
what may be letters, the block's direction is that of the line that crosses most of them, and letters along it make candidates. A smaller FCN of
three stages marks the middles of characters, and candidates without such, or with middles that do not lie in a row, go.

Learned from regions with their texts: a region of L characters is cut into L equal parts, whose middles are taken for the characters' (the paper's
data have boxes of characters, which few have); where the text is not known, each is taken to be 0.6 heights wide. Ours: a block with few letters
is a candidate itself, and `small`, a light normalised network that learns from scratch on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Place, Prepare
from cvtool.losses.text_score import balanced_ce
from cvtool.ops import quads as shapes
from cvtool.ops import text_lines
from cvtool.ops.locality_nms import standard_nms
from cvtool.ops.mser import mser
from cvtool.ops.text_geometry import UNCOUNTED, owners
from cvtool.results import Quads

VARIANTS = {
    "base": {"convolutions": (2, 2, 3, 3, 3), "widths": (64, 128, 256, 512, 512)},
    "small": {"convolutions": (1, 1, 2, 2, 2), "widths": (16, 32, 64, 96, 96), "batch_norm": True},
    "tiny": {"convolutions": (1, 1, 1, 1, 1), "widths": (8, 12, 16, 16, 16), "side": 4, "batch_norm": True},
}
WEIGHTS: dict[str, dict] = {}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 1e-3,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "batch_size": 4,
    "epochs": 60,
    "schedule": "step",
    "augment": "text-crop:0.5,2,480,color",
    "variants": {
        "small": {"optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.01, "batch_size": 8, "epochs": 20, "schedule": "one-cycle",
                  "augment": "text-crop:0.5,2,320,color", "channels_last": True},
        "tiny": {"optimizer": "adamw", "lr": 5e-3, "weight_decay": 0.01, "batch_size": 4, "epochs": 20, "schedule": "one-cycle",
                 "augment": "text-crop:0.5,2,192,color"},
    },
}  # fmt: skip
SALIENT = 0.2  # pixels likelier than this make blocks
LEAST_BLOCK = 40  # pixels
MOST_BLOCKS = 200  # the largest are looked at
CENTRE = 0.15  # heights of a character: within it of its middle
INSIDE = 0.7  # of a line's area, see `outermost`
PART = 0.6
WIDTH = 0.6  # heights of a character, where the text is not known
LEAST_LETTER, SLIM = 8, 12.0  # pixels of a letter, and its longer side over the shorter


class BlockFCN(nn.Module):
    """B 3 H W -> B H W logits: stages of VGG, side by side.

    The 1x1 convolution over the enlarged maps is the sum of one over each, taken before it is enlarged: the same numbers, as enlarging weighs all
    channels alike, for a fraction of the memory.
    """

    def __init__(self, convolutions: Sequence[int], widths: Sequence[int], *, side: int, batch_norm: bool) -> None:
        super().__init__()
        stages, sides, channels = [], [], 3
        for i, (count, width) in enumerate(zip(convolutions, widths, strict=True)):
            parts: list[nn.Module] = [nn.MaxPool2d(2, 2, ceil_mode=True)] if i else []
            for _ in range(count):
                parts.append(nn.Conv2d(channels, width, 3, padding=1))
                parts += [nn.BatchNorm2d(width)] * batch_norm + [nn.ReLU(inplace=True)]
                channels = width
            stages.append(nn.Sequential(*parts))
            sides.append(nn.Conv2d(width, side, 1))
        self.stages, self.sides = nn.ModuleList(stages), nn.ModuleList(sides)
        self.fuse = nn.Conv2d(side * len(stages), 1, 1)
        for module in self.modules():  # without normalisation, thirteen layers of torch's default initialisation do not learn
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.fuse.bias, -2.0)  # type: ignore[arg-type]  # little of a picture is text

    def forward(self, images: Tensor) -> Tensor:
        weights = self.fuse.weight.chunk(len(self.sides), dim=1)
        assert self.fuse.bias is not None
        x, out = images, self.fuse.bias.view(1, 1, 1, 1)
        for stage, side, weight in zip(self.stages, self.sides, weights, strict=True):
            x = stage(x)
            out = out + F.interpolate(F.conv2d(side(x), weight), size=images.shape[-2:], mode="bilinear", align_corners=False)
        return out[:, 0].float()


class TextBlockFCN(nn.Module):
    """block: the FCN of blocks. centroid: that of characters' middles."""

    result = Quads
    needs = ("quads",)

    def __init__(self, block: BlockFCN, centroid: BlockFCN, *, prepare: Prepare) -> None:
        super().__init__()
        self.block, self.centroid, self.prepare = block, centroid, prepare

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """A batch -> {"block", "centroid"}: B H W logits."""
        return {"block": self.block(batch.images), "centroid": self.centroid(batch.images)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropies in which the few pixels of text, or of middles, weigh as much as the rest; spared regions and padding do not count."""
        raw = self.forward(batch)
        text, middles, counted = (torch.from_numpy(np.stack(maps)).to(batch.images.device) for maps in zip(*self.truths(batch), strict=True))
        counted &= ~batch.padding
        maps = {"block": text, "centroid": middles}
        return {name: balanced_ce(raw[name][counted], wanted[counted].float()) for name, wanted in maps.items()}

    def truths(self, batch: Batch) -> list[tuple[np.ndarray, ...]]:
        """Of each picture three maps, H W bool: in a region; near a character's middle; whether the pixel counts."""
        height, width = batch.images.shape[-2:]
        found: list[tuple[np.ndarray, ...]] = []
        for target in batch.targets or []:
            corners = target.quads.detach().cpu().double().numpy().reshape(-1, 4, 2)
            spared = np.zeros(len(corners), bool) if target.spared is None else target.spared.cpu().numpy()
            owner = owners(corners, spared, (height, width), stride=1, part=0.0, least=3.0)
            texts = target.texts or (None,) * len(corners)
            regions = [(c, len(t) if t else supposed(c)) for c, t, left_out in zip(corners, texts, spared, strict=True) if not left_out]
            found.append((owner >= 0, middles_map(regions, height, width), owner != UNCOUNTED))
        return found

    def predict(self, batch: Batch, *, conf: float | None = None, iou: float | None = None, max_det: int | None = None) -> list[Quads]:
        """Lines of text, surest first: those of a score above `conf` (0.3). iou (0.3): of two that overlap more the less sure goes.

        A line's score is the geometric mean of its pixels' mean saliency and its characters' middles' mean probability.
        """
        raw = self.forward(batch)
        grey = self.grey(batch.images)
        results = []
        for i, place in enumerate(batch.places):
            block, centroid = (raw[name][i, : place.inner_height, : place.inner_width].sigmoid().double().cpu().numpy() for name in raw)
            found, scores = read_lines(grey[i][: place.inner_height, : place.inner_width], block, centroid)
            stay = scores > (0.3 if conf is None else conf)
            found, scores = found[stay], scores[stay]
            kept = standard_nms(found, scores, 0.3 if iou is None else iou)[:max_det]
            results.append(told(found[kept], scores[kept], place, batch.images))
        return results

    def grey(self, images: Tensor) -> np.ndarray:
        """B 3 H W as the networks see them -> B H W uint8 (BT.601)."""
        mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (self.prepare.mean, self.prepare.std))
        luma = torch.einsum("bchw,c->bhw", images.float() * std + mean, images.new_tensor([0.299, 0.587, 0.114]))
        return (luma * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def told(quads: np.ndarray, scores: np.ndarray, place: Place, like: Tensor) -> Quads:
    """Quads of the batch's pixels as a result in the original's."""
    corners = torch.from_numpy(quads.astype(np.float32)).to(like.device)
    return Quads(place.points_back(corners), torch.from_numpy(scores.astype(np.float32)).to(like.device))


def supposed(corners: np.ndarray) -> int:
    """How many characters a region (4 2) has room for."""
    wide, high = shapes.sides(corners[None])
    return max(1, round(float(wide[0] / max(1e-6, WIDTH * high[0]))))


def middles_map(regions: Sequence[tuple[np.ndarray, int]], height: int, width: int) -> np.ndarray:
    """(4 2 corners, number of characters) -> H W bool: near the middle of one of the equal parts that the characters of a region take."""
    out = np.zeros((height, width), bool)
    for corners, count in regions:
        share = ((np.arange(count) + 0.5) / count)[:, None]
        left, right = (corners[0] + corners[3]) / 2, (corners[1] + corners[2]) / 2
        _, high = shapes.sides(corners[None])
        radius = max(1.0, CENTRE * float(high[0]))
        for x, y in left + share * (right - left):
            x0, x1 = max(0, int(x - radius)), min(width, int(x + radius) + 2)
            y0, y1 = max(0, int(y - radius)), min(height, int(y + radius) + 2)
            if x0 < x1 and y0 < y1:
                rows, columns = np.ogrid[y0:y1, x0:x1]
                out[y0:y1, x0:x1] |= (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= radius**2
    return out


def read_lines(grey: np.ndarray, block: np.ndarray, centroid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """H W uint8 and the two maps of probabilities, H W -> the lines that pass, N 4 2, and their scores N."""
    found, scores = [np.zeros((0, 4, 2))], [0.0][:0]
    for quad in candidates(grey, block > SALIENT):
        points, sure = text_lines.peaks(centroid, quad)
        if text_lines.in_a_row(points, sure, quad):
            found.append(quad[None])
            scores.append(float(np.sqrt(mean_within(block, quad) * sure.mean())))
    return np.concatenate(found), np.array(scores, np.float64)


def candidates(grey: np.ndarray, salient: np.ndarray) -> list[np.ndarray]:
    """What may be lines, 4 2 each, in every block of the H W bool map: of dark letters, of light ones, and the block itself where there are none, or
    where the lines take less than PART of it, most letters being too faint."""
    from scipy import ndimage

    labels, count = ndimage.label(salient, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    windows = ndimage.find_objects(labels)
    out = []
    for index in np.argsort(-sizes, kind="stable")[:MOST_BLOCKS]:
        if sizes[index] < LEAST_BLOCK:
            break
        window = windows[index]
        own = labels[window] == index + 1
        corner = np.array([window[1].start, window[0].start])
        rows, columns = np.nonzero(own)
        pixels = np.stack([columns, rows], 1) + 0.5
        lines = lines_of(grey[window], own, pixels)
        whole = shapes.smallest_rectangle(_rim(own))
        if sum(abs(float(shapes.area(line))) for line in lines) < PART * abs(float(shapes.area(whole))):
            lines.append(whole)
        out += [line + corner for line in lines]
    return out


def lines_of(grey: np.ndarray, own: np.ndarray, pixels: np.ndarray) -> list[np.ndarray]:
    """The candidates of one block: h w uint8, which of its pixels belong to the block, and those pixels (P 2)."""
    regions = mser(grey, min_area=LEAST_LETTER, max_area=0.5, step=3)
    wide, high = (regions.boxes[:, 2:] - regions.boxes[:, :2]).T
    middle = ((regions.boxes[:, :2] + regions.boxes[:, 2:]) // 2).T
    rim = (regions.boxes[:, :2] == 0).any(1) | (regions.boxes[:, 2:] == grey.shape[::-1]).any(1)  # paper, cut off by the block's window
    fits = (np.maximum(wide, high) <= SLIM * np.minimum(wide, high)) & own[middle[1], middle[0]] & ~rim
    found = []
    for dark in (True, False):
        some = regions[fits & (regions.dark == dark)]
        letters = text_lines.Letters([_pixels(mask) + box[:2] for mask, box in zip(some.masks(), some.boxes, strict=True)])
        angle = text_lines.direction(letters)
        found += [text_lines.box(letters, line, angle, pixels) for line in text_lines.groups(letters, angle) if len(line) > 1]
    return outermost(found)


def outermost(lines: list[np.ndarray]) -> list[np.ndarray]:
    """Those that do not lie within a larger one by INSIDE of their area or more, as lines of what letters enclose, or of their strokes, do."""
    ordered = sorted(lines, key=lambda line: -abs(float(shapes.area(line))))
    out: list[np.ndarray] = []
    for line in ordered:
        shared = shapes.overlap(np.repeat(line[None], len(out), 0), np.array(out)) if out else np.zeros(0)
        if not (shared >= INSIDE * abs(float(shapes.area(line)))).any():
            out.append(line)
    return out


def _pixels(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.stack([columns, rows], 1) + 0.5


def _rim(own: np.ndarray) -> np.ndarray:
    """P 2: the outer corners of the first and last pixel of each row, which have the hull of all."""
    rows = np.flatnonzero(own.any(1))
    first, last = own[rows].argmax(1), own.shape[1] - own[rows, ::-1].argmax(1)
    return np.stack([np.concatenate([first, last, first, last]), np.concatenate([rows, rows, rows + 1, rows + 1])], 1)


def mean_within(probabilities: np.ndarray, quad: np.ndarray) -> float:
    """The mean of a map (h w) over 9 x 33 points spread over a quad; points outside of the map count nothing."""
    down, along = (((np.arange(n) + 0.5) / n) for n in (9, 33))
    a, b = down[:, None, None], along[None, :, None]
    points = (1 - a) * ((1 - b) * quad[0] + b * quad[1]) + a * ((1 - b) * quad[3] + b * quad[2])
    x, y = np.floor(points[..., 0]).astype(int), np.floor(points[..., 1]).astype(int)
    inside = (x >= 0) & (y >= 0) & (x < probabilities.shape[1]) & (y < probabilities.shape[0])
    return float((probabilities[y * inside, x * inside] * inside).mean())


def build(
    *, classes: int = 1, convolutions: tuple[int, ...] = (2, 2, 3, 3, 3), widths: tuple[int, ...] = (64, 128, 256, 512, 512), side: int = 16,
    batch_norm: bool = False, image_size: int = 0,
) -> TextBlockFCN:  # fmt: skip
    """classes: has no meaning here, text is the one. convolutions, widths: of VGG's stages; the FCN of middles has the first three. side: channels of
    each stage's side. image_size: of the longer side, 0 = the picture's own."""
    block = BlockFCN(convolutions, widths, side=side, batch_norm=batch_norm)
    centroid = BlockFCN(tuple(convolutions)[:3], tuple(widths)[:3], side=side, batch_norm=batch_norm)
    prepare = Prepare(resize="longest" if image_size else None, size=image_size, multiple_of=16)
    return TextBlockFCN(block, centroid, prepare=prepare)
