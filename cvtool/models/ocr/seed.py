"""SEED: what a word means is guessed before its characters are read, and the reading begins with it (Qiao 2020, arXiv:2005.10977).

The picture is straightened (thin-plate spline, as in ASTER, Shi 2018); a residual network of 45 layers and an LSTM of two layers in both directions
make it columns h_1 .. h_25. The semantic module sees all of them at once and says a vector, which a word embedding supervises (eqs. 1 and 6):

    S = W2 relu(W1 [h_1, .., h_25] + b1) + b2,   loss = cross-entropy + lambda (1 - cos(S, embedding of the true word)),   lambda = 1

S, through a linear layer, is the state that the attention decoder begins with: blurred or hidden characters can then be read by what the word is.

The paper takes fastText's vectors of Wikipedia. `word_vectors=FILE.vec` reads those, or any file of their text format (`word_dims` says their length;
words that it lacks have no semantic loss). Without it there are vectors of our own, of n-grams in fastText's manner (`ops/word_vectors.py`), learned
from the 240,000 words of the docstrings in Python 3.11's standard library: small, and about programs more than about streets.

    cvtool train -m seed --data words/ -o runs/ --set word_vectors=wiki-news.vec --set word_dims=300
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError
from cvtool.layers.rnn import recurrent
from cvtool.models.ocr._attention_decoder import AttentionDecoder, taught, written
from cvtool.models.ocr._recogniser import Recogniser
from cvtool.models.ocr._targets import IGNORED, per_character
from cvtool.ops.word_vectors import Listed, NGrams
from cvtool.results import Text

VARIANTS = {
    "small": {"widths": (16, 24, 32, 64, 96, 128), "blocks": (1, 1, 2, 2, 1), "hidden": 96, "semantic": 192, "decoder": 192},
    "base": {"widths": (32, 32, 64, 128, 256, 512), "blocks": (3, 4, 6, 6, 3), "hidden": 256, "semantic": 512, "decoder": 512, "seen": (64, 256)},
    "tiny": {
        "widths": (4, 4, 8, 8, 16, 16), "blocks": (1, 1, 1, 1, 1), "hidden": 8, "semantic": 32, "decoder": 16, "width": 32, "charset": "alnum",
        "max_length": 8,
    },
}  # fmt: skip
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
    "variants": {"base": {"optimizer": "adadelta", "lr": 1.0, "weight_decay": 0.0, "schedule": "step"}, "tiny": {"lr": 3e-3, "batch_size": 32}},
}
HEIGHT = 32
STRIDES = ((2, 2), (2, 2), (2, 1), (2, 1), (2, 1))  # of the five stages: 32 rows become one, four columns one
OWN = Path(__file__).with_name("_word_vectors.npz")
OWN_DIMS = 64


class Residual(nn.Module):
    """A 1x1 and a 3x3 convolution beside the identity (ASTER's), the stride in the first."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        same = inputs == outputs and stride == (1, 1)
        self.shortcut = nn.Identity() if same else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.path(x) + self.shortcut(x))


class Columns(nn.Module):
    """B 3 32 W -> B W/4 2 hidden: 1 + 2 (3 + 4 + 6 + 6 + 3) = 45 layers of convolution in the paper's form, then the LSTM over the columns."""

    def __init__(self, widths: Sequence[int], blocks: Sequence[int], hidden: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        inside = widths[0]
        for width, count, stride in zip(widths[1:], blocks, STRIDES, strict=True):
            layers += [Residual(inside, width, stride), *(Residual(width, width, (1, 1)) for _ in range(count - 1))]
            inside = width
        self.cnn = nn.Sequential(*layers)
        self.rnn = recurrent("lstm", inside, hidden, layers=2, both_ways=True)

    def forward(self, images: Tensor) -> Tensor:
        return self.rnn(self.cnn(images)[:, :, 0].transpose(1, 2))[0]


class Seed(Recogniser):
    """encoder: B 3 32 width -> B N features. semantic: B N*features -> B D, S. begin: B D -> B hidden of the decoder.

    word_vectors: a file of them, read when training begins; "" are our own. semantic_weight: lambda.
    """

    def __init__(
        self, encoder: nn.Module, semantic: nn.Module, begin: nn.Module, decoder: AttentionDecoder, *, charset: str, prepare: Prepare, rectify: str,
        max_length: int, size: tuple[int, int], word_vectors: str, word_dims: int, semantic_weight: float,
    ) -> None:  # fmt: skip
        super().__init__(charset, prepare, rectify)
        self.encoder, self.semantic, self.begin, self.decoder = encoder, semantic, begin, decoder
        self.max_length, self.size, self.semantic_weight = max_length, size, semantic_weight
        self.word_vectors, self.word_dims = word_vectors, word_dims
        self._word_table: NGrams | Listed | None = None

    @property
    def word_table(self) -> NGrams | Listed:
        """Where the vectors of words come from. Raises InputError for a file that holds none, UsageError for one of other lengths."""
        if self._word_table is None:
            found = Listed(Path(self.word_vectors)) if self.word_vectors else NGrams.load(OWN)
            if found.dims != self.word_dims:
                raise UsageError(f"the vectors in {self.word_vectors} have {found.dims} numbers", hint=f"--set word_dims={found.dims}")
            self._word_table = found
        return self._word_table

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Straightened pictures -> h, B N features, and S, B D."""
        if images.shape[2:] != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        features = self.encoder(images)
        return features, self.semantic(features.flatten(1))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """text: the mean cross-entropy of a character. semantic: lambda times the mean of 1 - cos between S and the true words' vectors."""
        texts = self.texts(batch)
        before, targets = taught(self, texts)
        features, told = self.read(self.seen(batch.images, batch.places))
        logits = self.decoder(before.to(features.device), features, self.begin(told))
        return {"text": per_character(logits, targets.to(features.device)), "semantic": self.semantic_loss(told, texts, targets[:, 0] != IGNORED)}

    def semantic_loss(self, told: Tensor, texts: Sequence[str], counted: Tensor) -> Tensor:
        """B D, B texts and which of them count, B bool; 0 where no vector is known of any."""
        vectors, known = self.word_table.vectors(texts)
        kept = (counted & torch.from_numpy(known)).to(told.device)
        away = 1 - F.cosine_similarity(told.float(), torch.from_numpy(vectors).to(told.device), dim=1)
        return self.semantic_weight * (away * kept).sum() / kept.sum().clamp(min=1)

    @torch.no_grad()
    def predict(
        self, batch: Batch, *, charset: str | None = None, dictionary: Sequence[str] | None = None, beam: int | None = None, rectified: bool = False,
        attention: bool = False,
    ) -> list[Text]:  # fmt: skip
        """One text a picture. Raises UsageError for rectified pictures of a model that straightens none."""
        images = self.seen(batch.images, batch.places)
        features, told = self.read(images)
        return written(
            self, self.decoder.stepping(features, self.begin(told)), (1, features.shape[1]), charset=charset, dictionary=dictionary, beam=beam,
            attention=attention, rectified=self.straightened(images, rectified, batch.places),
        )  # fmt: skip


def build(
    *, classes: int = 0, widths: Sequence[int] = (32, 32, 64, 128, 256, 512), blocks: Sequence[int] = (3, 4, 6, 6, 3), hidden: int = 256,
    semantic: int = 512, decoder: int = 512, width: int = 100, seen: tuple[int, int] | None = None, charset: str = "latin", rectify: str = "tps",
    max_length: int = 25, word_vectors: str = "", word_dims: int = OWN_DIMS, semantic_weight: float = 1.0,
) -> Seed:  # fmt: skip
    """widths: channels of the first convolution and the five stages. blocks: of each stage. hidden: cells of the encoder's LSTM; semantic: inside
    the semantic module; decoder: of the decoder. width: of the 32 rows that are read; seen: (height, width) at which a word is straightened before,
    that size where None. semantic_weight: lambda. `classes` changes nothing.

    Raises UsageError.
    """
    if len(widths) != 6 or len(blocks) != 5 or min(*widths, *blocks) < 1:
        raise UsageError("the columns are made by 6 widths and 5 counts of blocks", where=f"widths={widths}, blocks={blocks}")
    if min(hidden, semantic, decoder, max_length, word_dims) < 1 or width < 8 or semantic_weight < 0:
        raise UsageError(
            "a size is too small", hint="hidden, semantic, decoder, max_length and word_dims from 1, width from 8, semantic_weight from 0"
        )
    prepare = Prepare(resize="stretch", size=tuple(seen) if seen else (HEIGHT, width), mean=(0.5,) * 3, std=(0.5,) * 3)  # type: ignore[arg-type]
    columns, features = -(-width // 4), 2 * hidden
    classes = len(Recogniser(charset, prepare).charset) + 1
    return Seed(
        Columns(widths, blocks, hidden),
        nn.Sequential(nn.Linear(columns * features, semantic), nn.ReLU(), nn.Linear(semantic, word_dims)),
        nn.Linear(word_dims, decoder),
        AttentionDecoder(classes, features, decoder, cell="gru", embedding=decoder),
        charset=charset, prepare=prepare, rectify=rectify, max_length=max_length, size=(HEIGHT, width), word_vectors=word_vectors,
        word_dims=word_dims, semantic_weight=semantic_weight,
    )  # fmt: skip
