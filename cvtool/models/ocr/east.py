"""EAST: each pixel inside a word says so and tells its whole rotated box or quadrilateral at once (Zhou 2017, arXiv:1704.03155).

Features of four strides are merged upwards to one map of 32 channels at stride 4; 1x1 convolutions read from it a score and the geometry: RBOX,
distances to the four sides and an angle within 45 degrees of level, or QUAD, offsets to the four corners. What the pixels tell is put together by
locality-aware suppression. Upright text of a turned page is found all the same, as tall boxes; the corner a box begins at is then the upper left one.

Ours: distances are exponentials of what the convolution gives, so that a word twice as large is one step further and not twice as far, and `small`,
a light residual network that learns from scratch on a CPU and looks at pictures enlarged, for small text spans few cells of stride 4. Windows
(`--tile`) are enlarged where the whole picture would be too large for that.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError, did_you_mean
from cvtool.layers.resnet import NarrowResNet
from cvtool.losses.quad import quad as quad_loss
from cvtool.losses.rbox import rbox as rbox_loss
from cvtool.losses.text_score import LOSSES, text_score
from cvtool.ops import quads as shapes
from cvtool.ops.locality_nms import locality_nms
from cvtool.ops.text_geometry import NOTHING, UNCOUNTED, decode_quad, decode_rbox, encode_quad, encode_rbox, middles, owners
from cvtool.results import Quads
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models import resnet50
    from torchvision.models._utils import IntermediateLayerGetter

VARIANTS = {
    "small": {"widths": (32, 64, 128, 192), "blocks": (1, 2, 3, 3), "merge": (96, 64, 32), "score_loss": "dice+hard-ce", "enlarge": 1.5},
    "base": {"backbone": "resnet50", "merge": (128, 64, 32)},
    "tiny": {"widths": (16, 24, 32, 32), "blocks": (1, 1, 1, 1), "merge": (32, 32, 32), "score_loss": "dice+hard-ce"},
}
WEIGHTS: dict[str, dict] = {}
RECIPE = {
    "step": "supervised",
    "optimizer": "adam",
    "lr": 1e-3,
    "batch_size": 24,
    "epochs": 600,
    "schedule": "step",
    "augment": "text-crop:0.5,2,512,color",
    "variants": {
        "small": {
            "optimizer": "adamw",
            "lr": 2e-3,
            "weight_decay": 0.01,
            "batch_size": 8,
            "epochs": 20,
            "schedule": "one-cycle",
            "augment": "text-crop:0.5,2,320,color",
            "ema": 0.998,
            "channels_last": True,
        },
        "tiny": {
            "optimizer": "adamw",
            "lr": 3e-3,
            "weight_decay": 0.01,
            "batch_size": 8,
            "epochs": 20,
            "schedule": "one-cycle",
            "augment": "text-crop:0.5,2,192,color",
        },
    },
}
STRIDE = 4
GEOMETRIES = {"rbox": 5, "quad": 8}
REACH = 32.0  # pixels a unit of the quad's convolution, about half a word
START = (2.5, 6.0, 2.5, 6.0)  # cells from a pixel to the top, right, bottom and left of a word before anything is learned
FARTHEST = math.log(1000.0)  # cells, of a distance's logarithm
LARGEST = 2048  # pixels of the longer side up to which a picture to predict is enlarged
MOST = 4000  # merged quads that go through standard suppression


def conv(inputs: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution, normalised and rectified."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Join(nn.Module):
    """A coarse map enlarged twofold, beside a finer one -> B outputs H W: 1x1 to fewer channels, 3x3 to mix.

    The 1x1 convolution of the two maps side by side is the sum of one of each, and that of the coarse one is taken before it is enlarged: the same
    numbers (interpolation weighs all channels alike) for a quarter of the work.
    """

    def __init__(self, coarse: int, fine: int, outputs: int) -> None:
        super().__init__()
        self.coarse, self.fine = (nn.Conv2d(inputs, outputs, 1, bias=False) for inputs in (coarse, fine))
        self.norm, self.mix = nn.BatchNorm2d(outputs), conv(outputs, outputs)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        x = F.interpolate(self.coarse(coarse), size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return self.mix(F.relu(self.norm(x + self.fine(fine))))


class Merge(nn.Module):
    """Maps of strides 4, 8, 16 and 32 -> B widths[-1] H/4 W/4: joined from the coarsest up, and a 3x3 at the end (section 3.2, fig. 3)."""

    def __init__(self, inputs: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        fine = list(inputs)[-2::-1]
        self.joins = nn.ModuleList(Join(*three) for three in zip((inputs[-1], *widths), fine, widths, strict=False))
        self.last = conv(widths[-1], widths[-1])

    def forward(self, maps: list[Tensor]) -> Tensor:
        *finer, x = maps
        for join, fine in zip(self.joins, reversed(finer), strict=True):
            x = join(x, fine)
        return self.last(x)


class EAST(nn.Module):
    """backbone: B 3 H W -> maps of strides 4 to 32. geometry: "rbox" or "quad". score_loss: one of `losses.text_score.LOSSES`.

    geometry_weight: lambda_g; angle_weight: lambda_theta (eq. 3 and 6). enlarge: pictures to predict are looked at that many times as large.
    """

    result = Quads
    needs = ("quads",)

    def __init__(self, backbone: nn.Module, merge: Merge, *, channels: int, geometry: str, score_loss: str, geometry_weight: float,
                 angle_weight: float, enlarge: float, prepare: Prepare) -> None:  # fmt: skip
        super().__init__()
        self.backbone, self.merge, self.prepare = backbone, merge, prepare
        self.kind, self.score_loss, self.geometry_weight, self.angle_weight = geometry, score_loss, geometry_weight, angle_weight
        self.enlarge = enlarge
        self.score = nn.Conv2d(channels, 1, 1)
        self.geometry = nn.Conv2d(channels, GEOMETRIES[geometry], 1)
        assert self.score.bias is not None
        assert self.geometry.bias is not None
        nn.init.constant_(self.score.bias, -2.0)  # little of a picture is text
        nn.init.normal_(self.geometry.weight, std=0.01)
        nn.init.zeros_(self.geometry.bias)
        if geometry == "rbox":
            self.geometry.bias.data[:4] = torch.tensor(START).log()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """A batch -> {"score": B h w logits, "geometry": B h w 5 or 8, in pixels and radians}, h w = H/4 W/4."""
        x = self.merge(list(self.backbone(batch.images).values()))
        raw = self.geometry(x).float().movedim(1, -1)  # B h w G
        if self.kind == "rbox":
            angle = (raw[..., 4:].sigmoid() - 0.5) * (math.pi / 2)
            geometry = torch.cat([STRIDE * raw[..., :4].clamp(max=FARTHEST).exp(), angle], -1)
        else:
            geometry = REACH * raw
        return {"score": self.score(x)[:, 0].float(), "geometry": geometry}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """score: over all cells but those of spared and tiny words and of the padding; geometry (and angle): the mean over the cells of words."""
        raw = self.forward(batch)
        owner, regions = self.truth(batch)
        inside = owner >= 0
        score = text_score(raw["score"], inside, owner != UNCOUNTED, self.score_loss)
        _, row, column = inside.nonzero(as_tuple=True)
        told, places, count = raw["geometry"][inside], middles(row, column, STRIDE), max(1, len(row))
        if self.kind == "quad":
            each = quad_loss(told, encode_quad(places, regions[owner[inside]]))
            return {"score": score, "geometry": self.geometry_weight * each.sum() / count}
        each, turned = rbox_loss(told, encode_rbox(places, regions[owner[inside]]), angle_weight=self.angle_weight)
        return {"score": score, "geometry": self.geometry_weight * each.sum() / count, "angle": self.geometry_weight * turned.sum() / count}

    def truth(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """B h w int64, each cell's owner among all regions of the batch (or NOTHING, UNCOUNTED), and R 4 2 the regions as the geometry tells them."""
        height, width = batch.images.shape[-2:]
        maps, regions, count = [], [], 0
        for target in batch.targets or []:
            corners = target.quads.detach().cpu().numpy().reshape(-1, 4, 2)
            spared = np.zeros(len(corners), bool) if target.spared is None else target.spared.cpu().numpy()
            own = owners(corners, spared, (height, width), stride=STRIDE)
            maps.append(np.where(own >= 0, own + count, own))
            regions.append(shapes.smallest_rectangles(corners) if self.kind == "rbox" else shapes.ordered(corners))
            count += len(corners)
        owner = torch.from_numpy(np.stack(maps)).to(batch.images.device)
        owner = owner.masked_fill((owner == NOTHING) & batch.padding[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE], UNCOUNTED)
        return owner, torch.from_numpy(np.concatenate(regions)).to(batch.images)

    def predict(self, batch: Batch, *, conf: float | None = None, iou: float | None = None, max_det: int | None = None) -> list[Quads]:
        """Regions of text, surest first. `conf` (default 0.5): how sure the pixels that tell must be, and the regions; `iou` (0.2): beyond it two are
        one.

        A region's score is the mean of the score map over the part of it that training calls text: a few sure pixels in a large region say little.
        """
        seen, scale = enlarged(batch, self.enlarge)
        raw = self.forward(seen)
        score = raw["score"].sigmoid().masked_fill(seen.padding[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE], 0)
        least, overlap = 0.5 if conf is None else conf, 0.2 if iou is None else iou
        decode = decode_rbox if self.kind == "rbox" else decode_quad
        results = []
        for i, place in enumerate(batch.places):
            row, column = (score[i] > least).nonzero(as_tuple=True)
            told = decode(middles(row, column, STRIDE), raw["geometry"][i, row, column]).double().cpu().numpy()
            kept, _ = locality_nms(told, score[i, row, column].double().cpu().numpy(), overlap=overlap, most=MOST)
            sure = mean_inside(score[i].float().cpu().numpy(), kept)
            best = np.argsort(-sure, kind="stable")
            best = best[sure[best] >= least][:max_det]
            corners = place.points_back(torch.from_numpy(kept[best] / scale).to(batch.images))
            results.append(Quads(corners, torch.from_numpy(sure[best]).to(batch.images)))
        return results


def enlarged(batch: Batch, most: float) -> tuple[Batch, np.ndarray]:
    """The pictures of a batch up to `most` times as large, as far as their longer side stays within `LARGEST`, and by how much: (x, y)."""
    height, width = batch.images.shape[-2:]
    factor = min(most, LARGEST / max(height, width))
    if factor <= 1:
        return batch, np.ones(2)
    size = tuple(32 * round(side * factor / 32) for side in (height, width))
    images = F.interpolate(batch.images, size=size, mode="bilinear", align_corners=False)
    padding = F.interpolate(batch.padding[:, None].float(), size=size, mode="nearest-exact")[:, 0].bool()
    return Batch(images, padding, batch.places), np.array([size[1] / width, size[0] / height])


def mean_inside(score: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """h w scores of cells and N 4 2 quads in pixels -> N means over 5 x 17 points spread over each quad, shrunk as in training."""
    inner = shapes.shrunk(quads, 0.3, STRIDE)
    down, along = (np.linspace(0, 1, n + 2)[1:-1] for n in (5, 17))
    a, b = down[:, None, None], along[None, :, None]  # bilinear between the corners
    weights = [(1 - a) * (1 - b), (1 - a) * b, a * b, a * (1 - b)]
    points = sum(w * inner[:, k, None, None] for k, w in enumerate(weights))  # N 5 17 2
    x, y = (np.floor(points[..., k] / STRIDE).astype(np.int64).clip(0, score.shape[1 - k] - 1) for k in (0, 1))
    return score[y, x].mean((1, 2)) if len(quads) else np.zeros(0, score.dtype)


class Trunk(nn.Module):
    """ResNet-50's maps of strides 4 to 32."""

    channels = (256, 512, 1024, 2048)

    def __init__(self) -> None:
        super().__init__()
        self.body = IntermediateLayerGetter(resnet50(weights=None), {f"layer{i + 1}": str(i) for i in range(4)})

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        return self.body(x)


def build(
    *, classes: int = 1, backbone: str = "narrow", widths: tuple[int, ...] = (32, 64, 128, 256), blocks: tuple[int, ...] = (2, 2, 2, 2),
    merge: tuple[int, ...] = (128, 64, 32), geometry: str = "rbox", score_loss: str = "ce", geometry_weight: float = 1.0, angle_weight: float = 10.0,
    enlarge: float = 1.0, image_size: int = 0,
) -> EAST:  # fmt: skip
    """classes: has no meaning here, text is the one. geometry: rbox or quad. score_loss: ce (balanced, the paper's), dice, hard-ce (with the hardest
    pixels that are no text, three for each that is) or dice+hard-ce. backbone: resnet50, or narrow, of `widths` and `blocks`. enlarge: pictures to
    predict are looked at that many times as large. image_size: of the longer side, 0 = the picture's own."""
    choices: list[tuple[str, str, Collection[str]]] = [
        ("geometry", geometry, GEOMETRIES), ("score_loss", score_loss, LOSSES), ("backbone", backbone, ("narrow", "resnet50")),
    ]  # fmt: skip
    for name, value, known in choices:
        if value not in known:
            raise UsageError(f"{name} is not {value}", hint=did_you_mean(value, known) or f"{name}: " + ", ".join(known))
    body: nn.Module = Trunk() if backbone == "resnet50" else NarrowResNet(tuple(widths), blocks=tuple(blocks))
    prepare = Prepare(resize="longest" if image_size else None, size=image_size, multiple_of=32)
    upwards = Merge(body.channels, merge)  # type: ignore[arg-type]
    return EAST(body, upwards, channels=merge[-1], geometry=geometry, score_loss=score_loss, geometry_weight=geometry_weight,
                angle_weight=angle_weight, enlarge=enlarge, prepare=prepare)  # fmt: skip
