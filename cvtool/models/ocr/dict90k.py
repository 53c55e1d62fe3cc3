"""Dict90k: a whole word is one class of a classifier, among the 90,000 of a dictionary (Jaderberg 2014, arXiv:1406.2227).

No characters are read: a picture of a word, gray and stretched to 32 x 100, goes through five convolutions and two full layers, and the last has one
output for each word of the lexicon. `base` is the paper's size; `small` learns on a CPU. What the lexicon lacks can neither be read nor learned.

    cvtool train -m dict90k --set lexicon=words.txt --data shards/ ;  cvtool ocr words/ --words -m runs/0001

The lexicon is a text file, a word a line; of words that differ in capitals alone the first is the class of all. It is saved with the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError
from cvtool.layers.contrast import Contrast
from cvtool.layers.gray import Gray
from cvtool.layers.norm import norm as normalisation
from cvtool.models.ocr._recogniser import Recogniser
from cvtool.results import Text

VARIANTS = {
    "small": {"widths": (32, 64, 128, 256, 256), "features": 512, "norm": "batch", "dropout": 0.2},
    "base": {"widths": (64, 128, 256, 512, 512), "features": 4096, "norm": "none", "dropout": 0.5},
    "tiny": {"widths": (8, 8, 16, 16, 16), "features": 32, "norm": "batch", "dropout": 0.0},
}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"dictnet": "base"}
RECIPE = {
    "step": "supervised",
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 0.02,
    "batch_size": 64,
    "epochs": 10,
    "schedule": "one-cycle",
    "channels_last": True,
    "variants": {"base": {"optimizer": "sgd", "lr": 1e-2, "weight_decay": 5e-4, "schedule": "step"}, "tiny": {"lr": 5e-3}},
}
SIZE = (32, 100)
SIDES = (5, 5, 3, 3, 3)  # of the filters
POOLED = 3  # convolutions that are followed by a pooling of 2
COMMON = """the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not what all were we when
your can said there use an each which she do how their if will up other about out many then them these so some her would make like him into time has
look two more write go see number no way could people my than first water been call who oil its now find long down day did get come made may part
open exit stop sale taxi cafe hotel police street""".split()


class Dict90k(Recogniser):
    """words: the classes, N. widths: of the five convolutions. features: of the full layer before the last. norm, dropout: none in the paper; 0.5."""

    spelled: Tensor

    def __init__(self, words: Sequence[str], prepare: Prepare, rectify: str, *, widths: Sequence[int], features: int, norm: str,
                 dropout: float) -> None:  # fmt: skip
        super().__init__(characters_of(words), prepare, rectify)
        self.gray, self.contrast = Gray(), Contrast()
        layers: list[nn.Module] = []
        for i, ((a, b), side) in enumerate(zip(pairwise([1, *widths]), SIDES, strict=True)):
            layers += [nn.Conv2d(a, b, side, padding=side // 2, bias=norm == "none"), normalisation(norm, b), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)] if i < POOLED else []
        self.cnn = nn.Sequential(*layers)
        places = (SIZE[0] >> POOLED) * (SIZE[1] >> POOLED)
        self.full = nn.Sequential(nn.Linear(widths[-1] * places, features), nn.ReLU(inplace=True), nn.Dropout(dropout))
        self.head = nn.Linear(features, len(words))
        self.rebuilt = {"lexicon": ""}  # a checkpoint holds the words themselves
        self.register_buffer("spelled", torch.empty(0, dtype=torch.uint8))
        self.learn(words)

    def learn(self, words: Sequence[str]) -> None:
        """The words become the classes, in their order."""
        self.words = tuple(words)
        self.classes = {word.lower(): label for label, word in enumerate(self.words)}
        self.spelled = torch.tensor(list("\n".join(self.words).encode()), dtype=torch.uint8)
        self.charset, self.max_length = characters_of(self.words), max(map(len, self.words))

    def resize_for(self, tensors: Mapping[str, Tensor]) -> None:
        """Make room for the words of a checkpoint."""
        if "spelled" in tensors:
            self.learn(bytes(tensors["spelled"].tolist()).decode().split("\n"))
            self.head = nn.Linear(self.head.in_features, len(self.words))

    def forward(self, batch: Batch) -> Tensor:
        """A batch -> B N float32, before the softmax."""
        images = self.contrast(self.gray(self.seen(batch.images)), batch.padding)
        return self.head(self.full(self.cnn(images).flatten(1))).float()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """word: nats a word, the mean over those that the lexicon holds, in capitals or not."""
        logits = self.forward(batch)
        labels = torch.tensor([self.classes.get(text.lower(), -1) for text in self.texts(batch)], device=logits.device)
        total = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
        return {"word": total / (labels >= 0).sum().clamp(min=1)}

    @torch.no_grad()
    def predict(self, batch: Batch, *, dictionary: Sequence[str] | None = None, rectified: bool = False) -> list[Text]:
        """The most probable word, or that of the `dictionary`'s words that the lexicon holds. Raises UsageError where it holds none."""
        logits = self.forward(batch)
        if dictionary is not None:
            among = [label for word in dictionary if (label := self.classes.get(word.lower())) is not None]
            if not among:
                raise UsageError(f"the lexicon of this model holds none of the dictionary's {len(dictionary):,} words")
            may = torch.zeros(len(self.words), dtype=torch.bool)
            may[among] = True
            logits = logits.masked_fill(~may.to(logits.device), -torch.inf)
        scores, labels = logits.softmax(1).max(1)
        shown = self.straightened(self.seen(batch.images) if rectified else batch.images, rectified)
        found = zip(labels.tolist(), scores.tolist(), shown, strict=True)
        return [Text(self.words[label], score, rectified=picture) for label, score, picture in found]


def characters_of(words: Sequence[str]) -> str:
    """Those that stand in the words, small and capital: texts of others are none of the lexicon."""
    found = {c for word in words for c in word}
    return "".join(sorted({d for c in found for d in (c, c.lower(), c.upper()) if len(d) == 1}))


def read_lexicon(path: str) -> list[str]:
    """The words of a text file, one a line, each once. Raises UsageError."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"the lexicon cannot be read: {reason}", where=path, hint="lexicon=FILE, a word a line") from None
    found: dict[str, str] = {}
    for word in (line.strip() for line in lines):
        if word:
            found.setdefault(word.lower(), word)
    if not found:
        raise UsageError("the lexicon holds no word", where=path, hint="a word a line")
    return list(found.values())


def build(
    *, classes: int = 0, lexicon: str = "", widths: Sequence[int] = (32, 64, 128, 256, 256), features: int = 512, norm: str = "batch",
    dropout: float = 0.2, rectify: str = "none",
) -> Dict90k:  # fmt: skip
    """lexicon: a file of words, a word a line, each of them a class; without it, about a hundred common English ones. norm: after each convolution.

    `classes` changes nothing. Raises UsageError.
    """
    if len(widths) != len(SIDES) or min(widths) < 1 or features < 1:
        raise UsageError(f"dict90k has {len(SIDES)} convolutions of 1 map or more and a full layer", where=f"widths={widths}, features={features}")
    words = read_lexicon(lexicon) if lexicon else COMMON
    prepare = Prepare(resize="stretch", size=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3)
    return Dict90k(words, prepare, rectify, widths=widths, features=features, norm=norm, dropout=dropout)
