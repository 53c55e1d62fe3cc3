"""SCATTER: a word is read block after block, each refining the context and reading anew, each taught (Litman 2020, arXiv:2003.11288).

A thin-plate spline straightens the picture; a 29-layer ResNet with a text attention module makes it N columns of 512 numbers, the sequence V; a
linear layer on V alone, taught by CTC, keeps its columns about characters (visual feature refinement). Then come the blocks, j = 1, 2, ...:

    H_j = BiLSTM(D_(j-1)) of two layers, D_0 = V;   D_j = (V, H_j);   D'_j = D_j * a(D_j);   y_j = decoder_j(D'_j)

the selective decoder attends twice: `a`, linear, chooses numbers of every column, then a recurrent decoder chooses columns. All blocks count:

    loss = 0.1 CTC + sum_j cross-entropy_j                                                        (eq. 4)

so that any may answer: the last, or the last of the first few (`--decoders 1`), after which nothing is computed. What the paper leaves open: the
text attention module is a gate between 0 and 1 of every number of the map, added to it (V = F + F * gate(F)), and `a` ends in a sigmoid.

    cvtool train -m scatter --data words/ -o runs/ ;  cvtool ocr words/*.png --words -m runs/0001 --decoders 1
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError
from cvtool.layers.rnn import recurrent
from cvtool.losses.ctc import ctc
from cvtool.models.ocr._attention_decoder import AttentionDecoder, taught, written
from cvtool.models.ocr._recogniser import Recogniser
from cvtool.models.ocr._targets import IGNORED, per_character
from cvtool.results import Text

VARIANTS = {
    "small": {"widths": (16, 32, 64, 128, 192), "blocks": (1, 1, 2, 1), "hidden": 128, "decoders": 2},
    "base": {"widths": (32, 64, 128, 256, 512), "blocks": (1, 2, 5, 3), "hidden": 256, "decoders": 5},
    "tiny": {"widths": (4, 8, 8, 16, 16), "blocks": (1, 1, 1, 1), "hidden": 16, "decoders": 2, "width": 32, "charset": "alnum", "max_length": 8},
}
WEIGHTS: dict[str, dict] = {}
RECIPE = {
    "step": "supervised",
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 0.01,
    "batch_size": 128,
    "epochs": 6,
    "schedule": "one-cycle",
    "augment": "none",
    "clip": 5.0,
    "variants": {"tiny": {"lr": 3e-3, "batch_size": 32}},
}
HEIGHT = 32
CTC_WEIGHT = 0.1  # lambda of eq. 4
LAYERS = 2  # of each BiLSTM


def convolved(inputs: int, outputs: int, size: int = 3, stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, stride, padding, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity, a 1x1 on it where the width changes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = convolved(inputs, outputs)
        self.second = convolved(outputs, outputs)[:2]
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


def columns(widths: Sequence[int], blocks: Sequence[int]) -> nn.Sequential:
    """B 3 32 W -> B widths[4] 1 W/4+1: the ResNet of scene text (Cheng 2017, arXiv:1709.02054), of 29 layers with blocks 1, 2, 5 and 3.

    Two convolutions, then four stages of residual blocks; three end with a convolution, the last with two, which take what height is left.
    """
    layers: list[nn.Module] = [convolved(3, widths[0]), convolved(widths[0], widths[1]), nn.MaxPool2d(2)]
    pools: tuple[list[nn.Module], ...] = ([nn.MaxPool2d(2)], [nn.MaxPool2d(2, (2, 1), (0, 1))], [])
    inside = widths[1]
    for stage, (width, count) in enumerate(zip((*widths[2:], widths[4]), blocks, strict=True)):
        layers += [Residual(inside if i == 0 else width, width) for i in range(count)]
        layers += [convolved(width, width), *pools[stage]] if stage < len(pools) else []
        inside = width
    return nn.Sequential(*layers, convolved(inside, inside, 2, (2, 1), (0, 1)), convolved(inside, inside, 2, 1, 0))


class TextAttention(nn.Module):
    """B D N -> B D N: every number again, times a gate between 0 and 1 that is seen from its column and the two beside it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(4, channels // 4)
        self.gate = nn.Sequential(nn.Conv1d(channels, squeezed, 3, padding=1), nn.ReLU(inplace=True), nn.Conv1d(squeezed, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x + x * self.gate(x)


class Block(nn.Module):
    """Selective-contextual refinement: what the block before knows, B N inputs, and V, B N channels -> D = (V, H), B N channels + 2 hidden.

    `decoder` reads D' = `selected(D)`.
    """

    def __init__(self, inputs: int, channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.context = recurrent("lstm", inputs, hidden, layers=LAYERS, both_ways=True)
        self.select = nn.Linear(channels + 2 * hidden, channels + 2 * hidden)
        self.decoder = AttentionDecoder(classes, channels + 2 * hidden, hidden, cell="lstm", embedding=hidden // 2)

    def forward(self, before: Tensor, visual: Tensor) -> Tensor:
        return torch.cat([visual, self.context(before)[0]], -1)

    def selected(self, features: Tensor) -> Tensor:
        return features * self.select(features).sigmoid()


class Scatter(Recogniser):
    """cnn: B 3 32 W -> B channels 1 N. decoders: how many blocks. Labels of the decoders are those of `charset`, then the end mark; of CTC the blank,
    then those of `charset`."""

    def __init__(
        self, cnn: nn.Module, channels: int, hidden: int, decoders: int, *, charset: str, prepare: Prepare, rectify: str, max_length: int
    ) -> None:
        super().__init__(charset, prepare, rectify)
        self.max_length = max_length
        self.cnn, self.attention = cnn, TextAttention(channels)
        self.refine = nn.Linear(channels, len(self.charset) + 1)
        width = channels + 2 * hidden
        self.blocks = nn.ModuleList(Block(width if j else channels, channels, hidden, len(self.charset) + 1) for j in range(decoders))

    def parts(self) -> list[Block]:
        return list(self.blocks)  # type: ignore[arg-type]

    def visual(self, images: Tensor) -> Tensor:
        """V of straightened pictures: B N channels."""
        return self.attention(self.cnn(images)[:, :, 0]).transpose(1, 2)

    def memories(self, visual: Tensor, count: int) -> list[Tensor]:
        """D'_1 .. D'_count, what the decoders of the first `count` blocks read: B N D each."""
        before, found = visual, []
        for block in self.parts()[:count]:
            before = block(before, visual)
            found.append(block.selected(before))
        return found

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """ctc: that of the visual features, weighed; block_1, block_2 ...: the mean cross-entropy of a character, of each decoder."""
        before, targets = taught(self, self.texts(batch))
        visual = self.visual(self.seen(batch.images, batch.places))
        known = targets[:, 0] != IGNORED
        labels = [row[(row != IGNORED) & (row < len(self.charset))] + 1 for row in targets[known]]
        refined = self.refine(visual)
        out = {"ctc": CTC_WEIGHT * ctc(refined[known.to(refined.device)], labels) if labels else 0 * refined.sum()}
        before, targets = before.to(visual.device), targets.to(visual.device)
        for j, (block, memory) in enumerate(zip(self.parts(), self.memories(visual, len(self.blocks)), strict=True), 1):
            out[f"block_{j}"] = per_character(block.decoder(before, memory), targets)
        return out

    @torch.no_grad()
    def predict(
        self, batch: Batch, *, charset: str | None = None, dictionary: Sequence[str] | None = None, beam: int | None = None, rectified: bool = False,
        attention: bool = False, decoders: int | None = None,
    ) -> list[Text]:  # fmt: skip
        """What the last block reads, or the last of the first `decoders` blocks, after which none is computed.

        Raises UsageError for more `decoders` than there are, and for rectified pictures of a model that straightens none.
        """
        count = len(self.blocks) if decoders is None else decoders
        if not 1 <= count <= len(self.blocks):
            raise UsageError(f"--decoders {count}: the model has {len(self.blocks)}")
        images = self.seen(batch.images, batch.places)
        memory = self.memories(self.visual(images), count)[-1]
        steps = self.parts()[count - 1].decoder.stepping(memory)
        return written(
            self, steps, (1, memory.shape[1]), charset=charset, dictionary=dictionary, beam=beam, attention=attention,
            rectified=self.straightened(images, rectified, batch.places),
        )  # fmt: skip


def build(
    *, classes: int = 0, widths: Sequence[int] = (32, 64, 128, 256, 512), blocks: Sequence[int] = (1, 2, 5, 3), hidden: int = 256, decoders: int = 5,
    width: int = 100, charset: str = "latin", rectify: str = "tps", max_length: int = 25,
) -> Scatter:  # fmt: skip
    """widths: channels of the two first convolutions and of the stages (the last two are equal). blocks: residual blocks of the four stages.
    hidden: cells of an LSTM. decoders: blocks that refine and read. width: to which every word is stretched. `classes` changes nothing.

    Raises UsageError.
    """
    if len(widths) != 5 or len(blocks) != 4 or min(widths) < 1:
        raise UsageError("the columns are made by 5 widths and 4 counts of blocks", where=f"widths={widths}, blocks={blocks}")
    if decoders < 1 or hidden < 2 or width < 8 or max_length < 1:
        where = f"decoders={decoders}, hidden={hidden}, width={width}, max_length={max_length}"
        raise UsageError("a size is too small", where=where, hint="decoders and max_length from 1, hidden from 2, width from 8")
    prepare = Prepare(resize="stretch", size=(HEIGHT, width), mean=(0.5,) * 3, std=(0.5,) * 3)
    return Scatter(columns(widths, blocks), widths[4], hidden, decoders, charset=charset, prepare=prepare, rectify=rectify, max_length=max_length)
