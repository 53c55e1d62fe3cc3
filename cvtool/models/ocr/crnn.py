"""CRNN: convolutions see columns of a line, an LSTM reads them in both directions, CTC says what stands there (Shi 2015, arXiv:1507.05717).

A picture 32 high and W wide becomes W / 4 steps, and each step says one of the characters or the blank. `base` and `parseq` are the paper's network
as its weights are published (github.com/meijieru/crnn.pytorch, `crnn.base@crnn.pth`, and github.com/baudm/parseq). `small`, ours, is made for a
CPU: height is given up early and width late, residual blocks instead of seven plain layers, half the parameters, a fifth of the sums. It sees one
channel, of the contrast that the picture itself has.

    cvtool train -m crnn --data words/ --val held_out/ -o runs/ ;  cvtool ocr words/*.png --words -m runs/0001 --charset alnum
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
from cvtool.losses.ctc import ctc
from cvtool.models.ocr._recogniser import Recogniser
from cvtool.ops.ctc import BLANK, read
from cvtool.ops.lexicon import Lexicon
from cvtool.results import Text

VARIANTS = {
    "small": {"widths": (32, 64, 96, 160, 192), "blocks": (1, 2, 2, 1), "hidden": 192},
    "base": {"layout": "published", "hidden": 256, "width": 100, "charset": "alnum"},
    "parseq": {"layout": "published", "hidden": 256, "width": 128, "charset": "printable", "gray": False, "bias": False},
    "tiny": {"widths": (8, 8, 16, 16, 16), "blocks": (0, 0, 0, 0), "hidden": 16, "max_width": 128, "charset": "alnum"},
}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"crnn-vgg": "base"}
RECIPE = {
    "step": "supervised",
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 0.02,
    "batch_size": 64,
    "epochs": 1,
    "schedule": "one-cycle:div=5",
    "channels_last": True,
    "clip": 20.0,  # losses are nats a word
    "variants": {
        "base": {"lr": 1e-3, "epochs": 3},
        "parseq": {"lr": 1e-3, "epochs": 3},
        "tiny": {"epochs": 20, "batch_size": 16, "lr": 5e-3},
    },
}
HEIGHT = 32
STRIDE = 4  # columns a step
STEP = 32  # widths are rounded up to a multiple of it: each word is then computed at its own width, whatever stands beside it in its batch


def convolved(channels: int, width: int, stride: int | tuple[int, int] = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside the identity: B C H W -> B C H W."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolved(channels, channels)
        self.second = convolved(channels, channels)[:2]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


def columns(channels: int, widths: Sequence[int], blocks: Sequence[int]) -> nn.Sequential:
    """B C 32 W -> B D 1 W/4: the stem, then four stages, each begun by a stride, with `blocks` residual blocks each."""
    strides: tuple[tuple[int, int], ...] = ((1, 2), (2, 2), (2, 1), (2, 1))
    layers: list[nn.Module] = [convolved(channels, widths[0], (2, 1))]
    for (a, b), stride, count in zip(pairwise(widths), strides, blocks, strict=True):
        layers += [convolved(a, b, stride), *(Residual(b) for _ in range(count))]
    last = widths[-1]
    return nn.Sequential(*layers, nn.Conv2d(last, last, (2, 1), bias=False), nn.BatchNorm2d(last), nn.ReLU(inplace=True))


def published_columns(channels: int, bias: bool) -> nn.Sequential:
    """B C 32 W -> B 512 1 W/4+1 as in the paper's table 1, under the names of the published weights. bias: in front of the batch norms too."""
    cnn = nn.Sequential()
    for i, width in enumerate((64, 128, 256, 256, 512, 512, 512)):
        normed = i in (2, 4, 6)
        size, pad = (2, 0) if i == 6 else (3, 1)
        cnn.add_module(f"conv{i}", nn.Conv2d(channels, width, size, 1, pad, bias=bias or not normed))
        if normed:
            cnn.add_module(f"batchnorm{i}", nn.BatchNorm2d(width))
        cnn.add_module(f"relu{i}", nn.ReLU(inplace=True))
        if i in (0, 1):
            cnn.add_module(f"pooling{i}", nn.MaxPool2d(2))
        elif i in (3, 5):
            cnn.add_module(f"pooling{2 + i // 5}", nn.MaxPool2d((2, 2), (2, 1), (0, 1)))
        channels = width
    return cnn


class BidirectionalLSTM(nn.Module):
    """B T C -> B T out: an LSTM from either side, and a linear layer over what both say. The names are those of the published weights."""

    def __init__(self, channels: int, hidden: int, out: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(channels, hidden, bidirectional=True, batch_first=True)
        self.embedding = nn.Linear(2 * hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(self.rnn(x)[0])


class CRNN(Recogniser):
    """cnn: B C 32 W -> B D 1 T. gray: it sees one channel. contrast: with the picture's own mean and deviation taken out.

    shortcut: columns have a say of their own beside the LSTMs, through which alone they would learn very slowly at first.
    """

    def __init__(self, cnn: nn.Module, features: int, hidden: int, *, gray: bool, contrast: bool, charset: str, prepare: Prepare, rectify: str,
                 max_length: int, shortcut: bool) -> None:  # fmt: skip
        super().__init__(charset, prepare, rectify)
        self.cnn = cnn
        last = BidirectionalLSTM(hidden, hidden, len(self.charset) + 1)
        self.rnn = nn.Sequential(BidirectionalLSTM(features, hidden, hidden), last)
        self.gray = Gray() if gray else None
        self.contrast = Contrast() if contrast else None
        self.shortcut = nn.Linear(features, len(self.charset) + 1) if shortcut else None
        self.max_length = max_length
        with torch.no_grad():  # rarer at first than any character: CTC begins with saying nothing, and is a hundred turns sooner over it
            last.embedding.bias[BLANK] -= 3.0

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A batch -> B T K float32, before the softmax, of the blank and the characters; and how many of the T steps lie on each picture, B."""
        logits, steps, _ = self.both(batch)
        return logits, steps

    def both(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """The same, and what the columns say by themselves, B T K, which is a part of it; None in the published layout."""
        images = self.seen(batch.images, batch.places)
        if self.gray is not None:
            images = self.gray(images)
        if self.contrast is not None:
            images = self.contrast(images, batch.padding)
        found = self.cnn(images)[:, :, 0].transpose(1, 2)  # B T D
        logits, alone = self.rnn(found).float(), None
        if self.shortcut is not None:
            alone = self.shortcut(found).float()
            logits = logits + alone
        steps = torch.tensor([-(-(place.left + place.inner_width) // STRIDE) for place in batch.places])
        if logits.shape[1] > batch.images.shape[3] // STRIDE:  # the paper's last poolings are padded by a column on either side
            steps += 1
        return logits, steps.clamp(1, logits.shape[1]), alone

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """ctc: nats a word, by way of all alignments, the mean over those that it can spell: data to validate on may hold others.

        aligned: at first, what the columns say where the characters would stand if all were equally wide. CTC, which must find out where they
        stand, says for thousands of turns nothing but how frequent they are; this shows the columns their first letters. It ends by itself,
        between two nats a character and one.
        """
        logits, steps, alone = self.both(batch)
        texts = self.texts(batch)
        able = [i for i, text in enumerate(texts) if all(c in self.labels for c in text)]
        labels = [label + 1 for label in self.encoded([texts[i] for i in able])]
        loss = ctc(logits[able], labels, steps[able])
        if alone is None:
            return {"ctc": loss}
        each = float(loss.detach()) * len(able) / max(1, sum(map(len, labels)))  # nats a character
        return {"ctc": loss, "aligned": min(1.0, max(0.0, each - 1)) * evenly(alone[able], labels, steps[able])}

    @torch.no_grad()
    def predict(self, batch: Batch, *, charset: str | None = None, dictionary: Sequence[str] | None = None, beam: int | None = None,
                rectified: bool = False) -> list[Text]:  # fmt: skip
        """What stands in each picture, and how probable that text is. By the best path; by prefix beam search where `beam` is above 1; the most
        probable word of the `dictionary`, capitals and small letters alike, in the dictionary's spelling.

        Raises UsageError for a beam below 1, a dictionary together with a beam, and rectified pictures of a model that straightens none.
        """
        allowed = torch.cat([torch.ones(1, dtype=torch.bool), self.allowed(charset)])
        lexicon = None if dictionary is None else Lexicon.of(tuple(dictionary), self.charset)
        found: list[Text | None] = [None] * len(batch)
        for indices, part in by_width(batch):
            logits, steps = self.forward(part)
            log_probs = logits.masked_fill(~allowed.to(logits.device), -1e9).log_softmax(2)
            shown = self.straightened(self.seen(part.images, part.places) if rectified else part.images, rectified, part.places)
            answers = read(log_probs, steps, self.charset, beam=beam, lexicon=lexicon)
            for i, answer, picture, place in zip(indices, answers, shown, part.places, strict=True):
                along = ((torch.tensor(answer.steps) + 0.5) * STRIDE - place.left) / place.inner_width
                places = along.clamp(0, 1) if self.rectifier is None else None  # what was straightened has them elsewhere
                found[i] = Text(answer.text, answer.score, torch.tensor(answer.characters), places, rectified=picture)
        return [text for text in found if text is not None]


def evenly(logits: Tensor, labels: Sequence[Tensor], steps: Tensor) -> Tensor:
    """The cross-entropy of each character at the step on which its middle would lie if all of a word were equally wide: nats a word, the mean.

    logits: B T K. labels: B texts. steps: B, how many of the T each has.
    """
    words = torch.cat([torch.full_like(text, i) for i, text in enumerate(labels)]) if labels else steps
    if not len(words):
        return logits.sum() * 0
    middles = [((torch.arange(len(text)) + 0.5) * (int(count) / max(1, len(text)))).long() for text, count in zip(labels, steps, strict=True)]
    wanted = torch.cat([*labels]).to(logits.device)
    return F.cross_entropy(logits[words, torch.cat(middles)], wanted, reduction="sum") / len(labels)


def by_width(batch: Batch) -> list[tuple[list[int], Batch]]:
    """The batch in parts of one width each, without more padding than up to a multiple of `STEP`: no answer depends on what stands beside it."""
    groups: dict[int, list[int]] = {}
    for i, place in enumerate(batch.places):
        groups.setdefault(min(batch.images.shape[3], -(-(place.left + place.inner_width) // STEP) * STEP), []).append(i)
    if len(groups) == 1 and batch.images.shape[3] in groups:
        return [(list(range(len(batch))), batch)]
    return [
        (some, Batch(batch.images[some, :, :, :width], batch.padding[some, :, :width], [batch.places[i] for i in some]))
        for width, some in sorted(groups.items())
    ]


def build(
    *, classes: int = 0, layout: str = "residual", widths: Sequence[int] = (32, 64, 96, 160, 192), blocks: Sequence[int] = (1, 2, 2, 1),
    hidden: int = 192, width: int = 0, max_width: int = 320, gray: bool = True, bias: bool = True, charset: str = "latin", rectify: str = "none",
) -> CRNN:  # fmt: skip
    """layout: "residual" (`widths` of the stem and four stages, `blocks` of each stage) or "published" (`bias` in front of its batch norms).

    hidden: cells of an LSTM in each direction. width: every picture is stretched to it; 0 keeps proportions, up to `max_width`. gray: colour is not
    seen. `classes` changes nothing: what can be read is the character set's affair. Raises UsageError.
    """
    if layout not in ("residual", "published"):
        raise UsageError(f"unknown layout '{layout}'", hint="residual or published")
    if hidden < 1 or width < 0 or max_width < STEP or (0 < width < STRIDE):
        raise UsageError(
            f"hidden={hidden}, width={width}, max_width={max_width}", hint=f"hidden from 1, width 0 or from {STRIDE}, max_width from {STEP}"
        )
    if layout == "residual" and (len(widths) != 5 or len(blocks) != 4 or min(widths) < 1):
        raise UsageError("a residual layout has 5 widths and 4 counts of blocks", where=f"widths={widths}, blocks={blocks}")
    pixels = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    if width:
        prepare = Prepare(resize="stretch", size=(HEIGHT, width), **pixels)  # type: ignore[arg-type]
    else:
        prepare = Prepare(resize="height", size=HEIGHT, max_size=max_width, multiple_of=STEP, **pixels)  # type: ignore[arg-type]
    channels = 1 if gray else 3
    published = layout == "published"
    cnn = published_columns(channels, bias) if published else columns(channels, widths, blocks)
    return CRNN(
        cnn, 512 if published else widths[-1], hidden, gray=gray, contrast=gray and not published, charset=charset, prepare=prepare, rectify=rectify,
        max_length=(width or max_width) // STRIDE, shortcut=not published,
    )  # fmt: skip
