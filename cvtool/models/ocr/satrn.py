"""SATRN: every place of the 2-D map of a word attends to every other, so text may run any way (Lee 2019, arXiv:1910.04396).

Two convolutions, each with a max-pooling, turn the picture into a map h x w whose height is kept to the end: nothing assumes that text runs from left
to right. Tokens are the map's places. Where each stands is told by two trigonometric codes, of its row and of its column, which every picture weighs
for itself (A2DPE, eq. 1 to 3):

    alpha = sigmoid(max(0, g(E) W1h) W2h),  beta = sigmoid(max(0, g(E) W1w) W2w),  p[h, w] = alpha p[h] + beta p[w],

g the mean over the map, so that words that stand upright can count rows, others columns. The feed-forward part of each layer is convolutional and
sees the neighbours of a place, rows of text above and below included. A transformer's decoder then writes one character after another, trained on
the text shifted right by one (<sos> d o g in, d o g <eos> out), a mask hiding what comes after.

    cvtool train -m satrn --data shards/ ;  cvtool ocr words/ --words -m runs/0001 --charset alnum
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError
from cvtool.layers.attention import MultiHeadAttention
from cvtool.layers.incremental import Incremental
from cvtool.layers.positional import Sinusoidal
from cvtool.layers.transformer import Decoder
from cvtool.models.ocr._attention_decoder import taught, written
from cvtool.models.ocr._recogniser import Recogniser
from cvtool.models.ocr._targets import per_character
from cvtool.ops.sinusoid import sinusoid
from cvtool.results import Text

VARIANTS = {
    "small": {"channels": 256, "stem": 64, "heads": 8, "encoder_layers": 4, "decoder_layers": 2, "hidden": 512, "height": 32, "width": 128},
    "base": {"channels": 512, "stem": 256, "heads": 8, "encoder_layers": 12, "decoder_layers": 6, "hidden": 2048, "height": 32, "width": 100},
    "tiny": {
        "channels": 32, "stem": 16, "heads": 4, "encoder_layers": 1, "decoder_layers": 1, "hidden": 64, "height": 32, "width": 32, "dropout": 0.0,
        "charset": "alnum", "max_length": 8,
    },
}  # fmt: skip
WEIGHTS: dict[str, dict] = {}
RECIPE = {
    "step": "supervised",
    "optimizer": "adamw",
    "lr": 3e-4,
    "weight_decay": 0.01,
    "batch_size": 128,
    "epochs": 6,
    "schedule": "one-cycle",
    "augment": "none",
    "clip": 5.0,
    "variants": {"small": {"lr": 1e-3}, "tiny": {"lr": 3e-3, "batch_size": 32}},
}
FEED_FORWARDS = ("separable", "conv", "linear")


class ShallowCNN(nn.Module):
    """Two 3x3 convolutions, each followed by 2x2 max-pooling: B 3 H W -> B `channels` H/4 W/4."""

    def __init__(self, stem: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in ((3, stem), (stem, channels)):
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Adaptive2DPositions(nn.Module):
    """A2DPE: E + alpha p[row] + beta p[column], alpha and beta of each picture's own mean (eq. 1 to 3). B D h w -> B D h w, any size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha, self.beta = (
            nn.Sequential(nn.Linear(channels, channels, bias=False), nn.ReLU(), nn.Linear(channels, channels, bias=False), nn.Sigmoid())
            for _ in range(2)
        )
        self.table: Tensor
        self.register_buffer("table", torch.empty(0, channels), persistent=False)

    def shares(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """B D each, in [0, 1]: how much the row and how much the column is worth in each channel."""
        g = x.mean((2, 3))
        return self.alpha(g), self.beta(g)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if len(self.table) < max(height, width) or self.table.device != x.device:
            self.table = torch.from_numpy(sinusoid(max(height, width), x.shape[1])).float().to(x.device)
        code = self.table.to(x.dtype).T  # D n
        alpha, beta = self.shares(x)
        return x + alpha[:, :, None, None] * code[:, :height, None] + beta[:, :, None, None] * code[:, None, :width]


def feed_forward(form: str, channels: int, hidden: int) -> nn.Module:
    """The feed-forward part over a map, B D h w -> the same (fig. 4): "linear" sees a place alone, as a transformer's; "conv" and "separable" its
    neighbours, by 3x3 convolutions, full ones or one of each channel between two that mix channels."""

    def block(a: int, b: int, kernel: int, groups: int = 1) -> list[nn.Module]:
        return [nn.Conv2d(a, b, kernel, padding=kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]

    if form == "separable":
        return nn.Sequential(*block(channels, hidden, 1), *block(hidden, hidden, 3, hidden), nn.Conv2d(hidden, channels, 1))
    kernel = 3 if form == "conv" else 1
    return nn.Sequential(*block(channels, hidden, kernel), nn.Conv2d(hidden, channels, kernel, padding=kernel // 2))


class EncoderLayer(nn.Module):
    """Self-attention among all places of the map, then the feed-forward part over the map, both residual: B D h w -> B D h w."""

    def __init__(self, channels: int, heads: int, hidden: int, *, form: str, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = MultiHeadAttention(channels, heads, dropout=dropout)
        self.ffn = feed_forward(form, channels, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2)  # B hw D
        tokens = tokens + self.dropout(self.attention(self.norm1(tokens)))
        image = self.norm2(tokens).transpose(1, 2).unflatten(2, size)
        return tokens.transpose(1, 2).unflatten(2, size) + self.dropout(self.ffn(image))


class Encoder(nn.Module):
    """B 3 H W -> B D h w, h = H/4."""

    def __init__(self, channels: int, stem: int, heads: int, layers: int, hidden: int, *, form: str, dropout: float) -> None:
        super().__init__()
        self.stem = ShallowCNN(stem, channels)
        self.positions = Adaptive2DPositions(channels)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(*(EncoderLayer(channels, heads, hidden, form=form, dropout=dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(channels)

    def forward(self, images: Tensor) -> Tensor:
        x = self.layers(self.dropout(self.positions(self.stem(images))))
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Writer(nn.Module):
    """The decoder: the characters before and the picture's places -> the next character. classes: how many there are, end mark included."""

    def __init__(self, classes: int, channels: int, heads: int, layers: int, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes + 1, channels)  # and <sos>, which is read and never written
        self.positions = Sinusoidal(channels)
        self.dropout = nn.Dropout(dropout)
        self.decoder = Decoder(layers, channels, heads, hidden, dropout=dropout)
        self.head = nn.Linear(channels, classes)
        nn.init.normal_(self.embedding.weight, std=channels**-0.5)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """B L, B M D -> logits B L C; those at i depend on tokens 0..i."""
        return self.head(self.decoder(self._embedded(tokens), memory))

    def _embedded(self, tokens: Tensor) -> Tensor:
        return self.dropout(self.positions(self.embedding(tokens) * self.embedding.embedding_dim**0.5))

    def stepping(self, memory: Tensor, length: int) -> Steps:
        """The same one token at a time, for at most `length` of them."""
        return Steps(self, memory, length)


class Steps:
    """A text as it is written. A call takes the latest token of each, B, and gives the next one's logits, B C."""

    def __init__(self, writer: Writer, memory: Tensor, length: int) -> None:
        self.memory, self.writer, self.decoder = memory, writer, Incremental(writer.decoder, memory, length)
        writer.positions(writer.embedding.weight.new_zeros(1, length, writer.embedding.embedding_dim))  # its table, long enough

    def __call__(self, tokens: Tensor) -> Tensor:
        x = self.writer.embedding(tokens)[:, None] * self.writer.embedding.embedding_dim**0.5
        x = x + self.writer.positions.table[self.decoder.position].to(x.dtype)
        return self.writer.head(self.decoder(x))[:, 0]

    def select(self, index: Tensor) -> None:
        self.decoder.select(index)

    @property
    def looked(self) -> Tensor:
        return self.decoder.looked


class SATRN(Recogniser):
    """Labels are those of `charset`, then <eos>; <sos> comes after it among what the decoder reads."""

    max_length: int

    def __init__(self, charset: str, prepare: Prepare, rectify: str, *, encoder: Encoder, writer: Writer, max_length: int) -> None:
        super().__init__(charset, prepare, rectify)
        self.encoder, self.writer, self.max_length = encoder, writer, max_length

    def encode(self, batch: Batch) -> Tensor:
        """B D h w: what the decoder looks at."""
        return self.encoder(self.seen(batch.images))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """text: the mean cross-entropy of a character."""
        before, targets = (x.to(batch.images.device) for x in taught(self, self.texts(batch)))
        return {"text": per_character(self.writer(before, self.encode(batch).flatten(2).transpose(1, 2)), targets)}

    @torch.no_grad()
    def predict(
        self, batch: Batch, *, charset: str | None = None, dictionary: Sequence[str] | None = None, beam: int | None = None, rectified: bool = False,
        attention: bool = False,
    ) -> list[Text]:  # fmt: skip
        """One text a picture: the likeliest character each time; with `beam` above 1 or a `dictionary` the likeliest text that a search finds."""
        images = self.seen(batch.images)
        found = self.encoder(images)
        steps = self.writer.stepping(found.flatten(2).transpose(1, 2), self.max_length + 1)
        pictures = self.straightened(images, rectified)
        return written(self, steps, found.shape[2:], charset=charset, dictionary=dictionary, beam=beam, attention=attention, rectified=pictures)


def build(
    *, classes: int = 0, charset: str = "latin", rectify: str = "none", channels: int = 256, stem: int = 64, heads: int = 8, encoder_layers: int = 4,
    decoder_layers: int = 2, hidden: int = 512, feed_forward: str = "separable", max_length: int = 25, height: int = 32, width: int = 128,
    dropout: float = 0.1,
) -> SATRN:  # fmt: skip
    """classes: of no use here. channels: of every token. stem: of the first convolution. hidden: inside the feed-forward parts; feed_forward: theirs,
    separable, conv or linear. max_length: characters of a text at most. height, width: to which every word is stretched.

    Raises UsageError.
    """
    if feed_forward not in FEED_FORWARDS:
        raise UsageError(f"unknown feed_forward '{feed_forward}'", hint="feed_forward is " + ", ".join(FEED_FORWARDS))
    if min(height, width) < 8 or height % 4 or width % 4:
        raise UsageError(f"a word is at least 8 pixels high and wide, a multiple of 4 each, not {width} x {height}")
    if max_length < 1:
        raise UsageError("a text has at least one character", where=f"max_length={max_length}")
    prepare = Prepare(resize="stretch", size=(height, width), mean=(0.5,) * 3, std=(0.5,) * 3)
    encoder = Encoder(channels, stem, heads, encoder_layers, hidden, form=feed_forward, dropout=dropout)
    known = len(Recogniser(charset, prepare).charset)
    writer = Writer(known + 1, channels, heads, decoder_layers, hidden, dropout=dropout)
    return SATRN(charset, prepare, rectify, encoder=encoder, writer=writer, max_length=max_length)
