"""Attn-OCR: recursive convolutions see far with few weights, a decoder with attention writes the text (Lee 2016, arXiv:1603.03101).

A recursive layer applies one 3 x 3 convolution again and again (the untied form of its section 3.1: what comes in goes through weights of its own
once, then through the shared ones k times): each pass sees two pixels farther, at no further weights. After four such layers the map is 4 x 25 for a
word stretched to 32 x 100. The decoder is a language model of characters: at each it looks at places of the map, and the weights of that look
are an attention map for each character (`attention=True` in Python).

    cvtool train -m attn-ocr --data shards/ --val held_out/ ;  cvtool ocr words/ --words -m runs/0001 --dictionary names.txt
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError
from cvtool.layers.contrast import Contrast
from cvtool.layers.gray import Gray
from cvtool.models.ocr._attention_decoder import AttentionDecoder, taught, written
from cvtool.models.ocr._recogniser import Recogniser
from cvtool.models.ocr._targets import per_character
from cvtool.results import Text

VARIANTS = {
    "small": {"widths": (32, 64, 128, 192), "recursions": 1, "hidden": 192, "cell": "gru"},
    "base": {"widths": (64, 128, 256, 512), "recursions": 2, "hidden": 512, "cell": "lstm"},
    "tiny": {"widths": (8, 8, 16, 16), "recursions": 1, "hidden": 32, "cell": "gru", "size": (32, 32), "max_length": 8, "charset": "alnum"},
}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"r2am": "base"}
RECIPE = {
    "step": "supervised",
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 0.02,
    "batch_size": 64,
    "epochs": 3,
    "schedule": "one-cycle",
    "channels_last": True,
    "clip": 5.0,
    "variants": {"base": {"lr": 1e-3}, "tiny": {"lr": 5e-3, "batch_size": 16, "epochs": 20}},
}
POOLS = ((2, 2), (2, 2), (2, 1))  # behind the first three layers
DOWN = (8, 4)  # rows and columns of the picture to one of the map


class Recursive(nn.Module):
    """B C H W -> B D H W: one convolution of what comes in, then `recursions` times the same second one, each pass with a norm of its own."""

    def __init__(self, channels: int, width: int, recursions: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.again = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(recursions + 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norms[0](self.first(x)))
        for norm in list(self.norms)[1:]:
            x = F.relu(norm(self.again(x)))
        return x


class AttnOCR(Recogniser):
    """widths: of the four layers' maps. hidden: cells of the decoder. size: (height, width) to which each word is stretched."""

    max_length: int

    def __init__(self, charset: str, prepare: Prepare, rectify: str, *, widths: Sequence[int], recursions: int, hidden: int, cell: str,
                 max_length: int) -> None:  # fmt: skip
        super().__init__(charset, prepare, rectify)
        self.max_length = max_length
        self.gray, self.contrast = Gray(), Contrast()
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise([1, *widths])):
            layers += [Recursive(a, b, recursions), *([nn.MaxPool2d(POOLS[i])] if i < len(POOLS) else [])]
        self.cnn = nn.Sequential(*layers)
        height, width = prepare.size  # type: ignore[misc]
        self.places = nn.Parameter(0.1 * torch.randn(1, widths[-1], height // DOWN[0], width // DOWN[1]))  # equal letters are told apart by these
        self.decoder = AttentionDecoder(len(self.charset) + 1, widths[-1], hidden, cell=cell)

    def forward(self, images: Tensor, padding: Tensor) -> Tensor:
        """B 3 H W, straightened, and B H W -> the map that the decoder looks at, B D H/8 W/4."""
        return self.cnn(self.contrast(self.gray(images), padding)) + self.places

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """text: nats a character, end marks included."""
        memory = self.forward(self.seen(batch.images), batch.padding).flatten(2).transpose(1, 2)
        before, targets = (x.to(memory.device) for x in taught(self, self.texts(batch)))
        return {"text": per_character(self.decoder(before, memory), targets)}

    @torch.no_grad()
    def predict(self, batch: Batch, *, charset: str | None = None, dictionary: Sequence[str] | None = None, beam: int | None = None,
                rectified: bool = False, attention: bool = False) -> list[Text]:  # fmt: skip
        """One text a picture, the likeliest that is found with `beam` candidates (1; 5 for a `dictionary`). attention: with a map a character."""
        images = self.seen(batch.images)
        found = self.forward(images, batch.padding)
        steps = self.decoder.stepping(found.flatten(2).transpose(1, 2))
        shown = self.straightened(images, rectified)
        return written(
            self, steps, found.shape[2:], charset=charset, dictionary=dictionary, beam=beam, attention=attention, rectified=shown
        )  # fmt: skip


def build(
    *, classes: int = 0, widths: Sequence[int] = (32, 64, 128, 192), recursions: int = 1, hidden: int = 192, cell: str = "gru",
    size: Sequence[int] = (32, 100), max_length: int = 25, charset: str = "latin", rectify: str = "none",
) -> AttnOCR:  # fmt: skip
    """widths: maps of the four layers. recursions: passes of each layer's shared convolution. cell: gru or lstm, of `hidden` units.

    size: (height, width) of the pictures. `classes` changes nothing. Raises UsageError.
    """
    if len(widths) != 4 or min(widths) < 1 or recursions < 0 or hidden < 1 or max_length < 1:
        where = f"widths={widths}, recursions={recursions}, hidden={hidden}, max_length={max_length}"
        raise UsageError("attn-ocr has four layers of 1 map or more, recursions from 0, hidden and max_length from 1", where=where)
    if cell not in ("gru", "lstm"):
        raise UsageError(f"unknown cell '{cell}'", hint="gru or lstm")
    height, width = size
    if height < DOWN[0] or width < DOWN[1] or height % DOWN[0] or width % DOWN[1]:
        raise UsageError(f"pictures of {height} x {width}: the height is a multiple of {DOWN[0]}, the width of {DOWN[1]}")
    prepare = Prepare(resize="stretch", size=(height, width), mean=(0.5,) * 3, std=(0.5,) * 3)
    return AttnOCR(
        charset, prepare, rectify, widths=widths, recursions=recursions, hidden=hidden, cell=cell, max_length=max_length
    )  # fmt: skip
