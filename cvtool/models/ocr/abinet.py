"""ABINet: a vision model reads, a language model corrects it without seeing the place it corrects, over and over (Fang 2021, arXiv:2103.06495).

Vision: a residual network and a transformer's layers; then each place of the word, in parallel, asks the map for its character: the queries are the
codes of the places, the keys come of a small U-Net over the map, the values are the map (eq. 1). Language: BCN (`_cloze.py`), from the probabilities
of all the other characters. Fusion: a gate mixes the features of both, G = sigmoid([Fv, Fl] W), Ff = G Fv + (1 - G) Fl (eq. 4 and 5). This goes round
M times: the language model is given the vision model's reading the first time, what fusion made of it the next times. What it is given carries no
gradient (the paper's blocked gradient flow), so that it learns language and is no second part of the vision model. The loss is that of vision, and
the means over the M rounds of those of language and fusion (eq. 6).

    cvtool train -m abinet --set learn=language --data words.txt        # its language model alone, on a word a line: runs/0001
    cvtool train -m runs/0001 --set learn=all --data shards/            # everything, from there
    cvtool ocr words/ --words -m runs/0002 --output vision              # what it reads without its language model

`learn=vision` pretrains the other half, as the paper does. `correct(["hovse"])` is the language model as a corrector of spelling.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError
from cvtool.layers.positional import Sinusoidal
from cvtool.layers.transformer import Encoder
from cvtool.models.ocr._cloze import ClozeNetwork, as_chances, lengths_of, misspelled
from cvtool.models.ocr._dictionary import Dictionary
from cvtool.models.ocr._recogniser import Recogniser
from cvtool.models.ocr._targets import IGNORED, ended, per_character
from cvtool.results import Text

VARIANTS = {
    "small": {
        "widths": (24, 48, 96, 128, 192), "blocks": (1, 2, 2, 2, 1), "channels": 192, "heads": 6, "hidden": 768, "encoder_layers": 2,
        "language_layers": 4,
    },
    "base": {
        "widths": (32, 64, 128, 256, 512), "blocks": (3, 4, 6, 6, 3), "channels": 512, "heads": 8, "hidden": 2048, "encoder_layers": 3,
        "language_layers": 4, "keys": 64,
    },
    "tiny": {
        "widths": (8, 8, 16, 16, 32), "blocks": (1, 1, 1, 1, 1), "channels": 32, "heads": 4, "hidden": 64, "encoder_layers": 1, "language_layers": 2,
        "keys": 8, "height": 32, "width": 64, "charset": "alnum", "max_length": 8, "dropout": 0.0,
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
    "clip": 20.0,
    "variants": {"small": {"lr": 1e-3}, "tiny": {"lr": 3e-3, "batch_size": 32}},
}
STRIDES = (2, 1, 2, 1, 1)
OUTPUTS = ("fusion", "vision", "language")
LEARNED = ("all", "vision", "language")


class Block(nn.Module):
    """A 1x1 and a 3x3 convolution and a shortcut; the stride is the 3x3's."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def residual(widths: Sequence[int], blocks: Sequence[int]) -> nn.Sequential:
    """The paper's ResNet of five stages, B 3 H W -> B widths[-1] H/4 W/4."""
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
    for (a, b), count, stride in zip(pairwise([widths[0], *widths]), blocks, STRIDES, strict=True):
        layers += [Block(a, b, stride), *(Block(b, b) for _ in range(count - 1))]
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(*layers)


class MiniUNet(nn.Module):
    """Down by four convolutions and up again, each map added to the one of its size on the way down: B D h w -> the same. inner: its channels."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()

        def convolved(a: int, b: int, stride: int | tuple[int, int] = 1) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.BatchNorm2d(b), nn.ReLU(inplace=True))

        self.down = nn.ModuleList([convolved(channels, inner, (1, 2)), *(convolved(inner, inner, 2) for _ in range(3))])
        self.up = nn.ModuleList([*(convolved(inner, inner) for _ in range(3)), convolved(inner, channels)])

    def forward(self, x: Tensor) -> Tensor:
        size, passed = x.shape[2:], list[Tensor]()
        for layer in self.down:
            x = layer(x)
            passed.append(x)
        for layer, skip in zip(self.up[:3], passed[2::-1], strict=True):
            x = layer(F.interpolate(x, size=skip.shape[2:])) + skip
        return self.up[3](F.interpolate(x, size=size))


class PositionAttention(nn.Module):
    """Each place of the word looks for its character (eq. 1): softmax(Q K^T / sqrt(D)) V, Q of the places' codes, K = U-Net(map), V = map.

    forward: B D h w -> features B T D, and where each looked, B T h w.
    """

    def __init__(self, channels: int, places: int, inner: int) -> None:
        super().__init__()
        self.places, self.codes = places, Sinusoidal(channels)
        self.query, self.keys = nn.Linear(channels, channels), MiniUNet(channels, inner)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q = self.query(self.codes(x.new_zeros(1, self.places, x.shape[1])))  # 1 T D
        weights = (q @ self.keys(x).flatten(2) * x.shape[1] ** -0.5).softmax(-1)  # B T hw
        return weights @ x.flatten(2).transpose(1, 2), weights.unflatten(2, x.shape[2:])


class Vision(nn.Module):
    """Reads without a language model: B 3 H W -> features B T D, logits B T C, and where each place looked, B T h w."""

    def __init__(
        self, classes: int, places: int, widths: Sequence[int], blocks: Sequence[int], channels: int, heads: int, hidden: int, layers: int,
        inner: int, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.backbone = residual(widths, blocks)
        self.project: nn.Module = nn.Identity() if widths[-1] == channels else nn.Conv2d(widths[-1], channels, 1)
        self.positions = Sinusoidal(channels)
        self.encoder = Encoder(layers, channels, heads, hidden, activation="relu", dropout=dropout)
        self.attention = PositionAttention(channels, places, inner)
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.project(self.backbone(images))
        tokens = self.encoder(self.positions(x.flatten(2).transpose(1, 2)))
        features, looked = self.attention(tokens.transpose(1, 2).unflatten(2, x.shape[2:]))
        return features, self.head(features), looked


class Fusion(nn.Module):
    """Features of both, B T D each -> logits B T C: channel by channel a gate says whose counts (eq. 4 and 5)."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.gate, self.head = nn.Linear(2 * channels, channels), nn.Linear(channels, classes)

    def mixed(self, vision: Tensor, language: Tensor) -> Tensor:
        share = torch.sigmoid(self.gate(torch.cat([vision, language], 2)))
        return share * vision + (1 - share) * language

    def forward(self, vision: Tensor, language: Tensor) -> Tensor:
        return self.head(self.mixed(vision, language))


class ABINet(Recogniser):
    """Labels are those of `charset`, then the end mark. rounds: M, in training and unless told otherwise. learn: what is trained, "all" or a half.

    vision_weight, language_weight: of their losses beside that of fusion, which weighs 1.
    """

    max_length: int

    def __init__(
        self, charset: str, prepare: Prepare, rectify: str, *, vision: Vision, language: ClozeNetwork, fusion: Fusion, max_length: int, rounds: int,
        learn: str, vision_weight: float = 1.0, language_weight: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(charset, prepare, rectify)
        self.vision, self.language, self.fusion = vision, language, fusion
        self.max_length, self.rounds, self.learn = max_length, rounds, learn
        self.vision_weight, self.language_weight, self.end = vision_weight, language_weight, len(self.charset)
        if learn == "language":
            self.measured = "pictures"  # words alone: there is nothing to read in validation, and the loss tells
        if learn != "all":
            self.requires_grad_(False)
            getattr(self, learn).requires_grad_(True)
        if learn == "vision" and self.rectifier is not None:
            self.rectifier.requires_grad_(True)

    def forward(self, images: Tensor, rounds: int, may: Tensor | None = None) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
        """B 3 H W -> logits B T C of vision, of language and of fusion in each round, and where vision looked, B T h w. may: C bool, what can be."""

        def held(logits: Tensor) -> Tensor:
            return logits.float() if may is None else logits.float().masked_fill(~may, -torch.inf)

        features, logits, looked = self.vision(images)
        vision = current = held(logits)
        languages, fusions = [], []
        for _ in range(rounds):
            known = self.language(*self.given(current))
            languages.append(held(self.language.head(known)))
            current = held(self.fusion(features, known))
            fusions.append(current)
        return vision, languages, fusions, looked

    def given(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """What the language model is told of a reading: its probabilities, from which no gradient goes back, and its length."""
        chances = logits.detach().softmax(-1)
        return chances, lengths_of(chances, self.end)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """vision, language, fusion: the mean cross-entropies of a character, the last two means over the rounds as well (eq. 6)."""
        texts = self.texts(batch)
        targets = ended(texts, self.labels, self.end, longest=self.max_length).to(batch.images.device)
        if self.learn == "language":
            return {"language": self.spelling_loss(targets)}
        rounds = 0 if self.learn == "vision" else self.rounds
        vision, languages, fusions, _ = self(self.seen(batch.images), rounds)
        found = {"vision": self.vision_weight * self.compared(vision, targets)}
        if self.learn == "all":
            found["language"] = self.language_weight * torch.stack([self.compared(logits, targets) for logits in languages]).mean()
            found["fusion"] = torch.stack([self.compared(logits, targets) for logits in fusions]).mean()
        return found

    def compared(self, logits: Tensor, targets: Tensor) -> Tensor:
        """B T C and B L, L <= T: places after the end mark do not count."""
        return per_character(logits[:, : targets.shape[1]], targets)

    def spelling_loss(self, targets: Tensor) -> Tensor:
        """The language model alone: the words, from their misspelled selves. B L labels as `ended` makes them."""
        words = [[label for label in row if label not in (IGNORED, self.end)] for row in targets.tolist()]
        rng = np.random.default_rng(int(torch.randint(2**31, ())) if self.training else 0)  # the same mistakes in every validation
        given = as_chances(misspelled(words, self.end, rng), self.max_length + 1, self.end + 1, self.end).to(targets.device)
        return self.compared(self.language.head(self.language(given, lengths_of(given, self.end))), targets)

    @torch.no_grad()
    def correct(self, texts: Sequence[str], *, error: float = 0.1) -> list[str]:
        """Each word as it was most likely meant, of the same length: at each place the character c with the greatest p(c | the others) p(read | c),
        where a character is misread with the probability `error`, as any other alike. Raises UsageError for characters that it does not know."""
        words = [word.tolist() for word in self.encoded(texts)]
        device = self.fusion.gate.weight.device
        given = as_chances(words, self.max_length + 1, self.end + 1, self.end).to(device)
        told = self.language.head(self.language(given, lengths_of(given, self.end))).float().log_softmax(-1)
        channel = torch.where(given > 0, 1 - error, error / max(1, self.end - 1)).log()
        best = (told + channel)[..., : self.end].argmax(-1).tolist()  # the length stays
        kept = self.max_length  # of a longer word the rest stays as it is
        return ["".join(self.charset[label] for label in row[: len(text[:kept])]) + text[kept:] for row, text in zip(best, texts, strict=True)]

    @torch.no_grad()
    def predict(
        self, batch: Batch, *, charset: str | None = None, dictionary: Sequence[str] | None = None, output: str | None = None,
        rounds: int | None = None, rectified: bool = False, attention: bool = False,
    ) -> list[Text]:  # fmt: skip
        """One text a picture: the likeliest character of each place up to the end mark, or the `dictionary`'s likeliest word.

        output: whose reading: "fusion", "vision", which needs no language model, or "language". rounds: M, the model's own unless told.
        Raises UsageError.
        """
        output = output or ("vision" if self.learn == "vision" else "fusion")
        self.check(output, rounds)
        may = torch.cat([self.allowed(charset), torch.ones(1, dtype=torch.bool)]).to(batch.images.device)
        images = self.seen(batch.images)
        vision, languages, fusions, looked = self(images, 0 if output == "vision" else rounds or self.rounds, may)
        chances = {"vision": [vision], "language": languages, "fusion": fusions}[output][-1].softmax(-1)
        pictures = self.straightened(images, rectified)
        answers = self.likeliest(chances) if dictionary is None else self.among(chances, dictionary, charset)
        return [
            Text(text, score, each, attention=looked[i, : len(text)].float().cpu() if attention else None, rectified=pictures[i])
            for i, (text, each, score) in enumerate(answers)
        ]

    @torch.no_grad()
    def certain(self, batch: Batch) -> list[tuple[str, float]]:
        """What the rounds read as an ensemble, and its certainty: C = min over the places t of P(y_t), P(y_t) = max over the M rounds of P_m(y_t)
        (section 3.4). y_t are the text's characters and its end mark; alone, the vision model is the only member."""
        output = "vision" if self.learn == "vision" else "fusion"
        self.check(output, None)
        vision, _, fusions, _ = self(self.seen(batch.images), 0 if output == "vision" else self.rounds)
        chances = torch.stack([logits.softmax(-1) for logits in fusions or [vision]]).amax(0)  # B T C
        return [(text, min([*each.tolist(), float(chances[i, len(text), self.end])])) for i, (text, each, _) in enumerate(self.likeliest(chances))]

    def check(self, output: str, rounds: int | None) -> None:
        """Raises UsageError for what cannot be asked of this model."""
        if output not in OUTPUTS:
            raise UsageError(f"unknown output '{output}'", hint="--output is " + ", ".join(OUTPUTS))
        if self.learn == "language" or (self.learn == "vision" and output != "vision"):
            other = "vision" if self.learn == "language" else "language"
            hint = "train it on with --set learn=all" + (", or read with --output vision" if other == "language" else "")
            raise UsageError(f"this model has learned {self.learn} alone: its {other} model is untrained", hint=hint)
        if rounds is not None and (rounds < 1 or output == "vision"):
            what = "--output vision has no rounds" if output == "vision" else f"at least one round, not {rounds}"
            raise UsageError(what, hint="rounds are how often the language model corrects")

    def likeliest(self, chances: Tensor) -> list[tuple[str, Tensor, float]]:
        """B T C -> of each its text, the probability of each character, and that of all of them and the end mark. The last place ends any text."""
        best, labels = chances.max(-1)
        best, lengths = best.cpu(), lengths_of(chances, self.end).tolist()
        found = []
        for i, length in enumerate(lengths):
            count = min(length - 1 if int(labels[i, length - 1]) == self.end else length, self.max_length)
            score = best[i, :count].double().prod() * chances[i, count, self.end].double().cpu()
            found.append(("".join(self.charset[label] for label in labels[i, :count].tolist()), best[i, :count], float(score)))
        return found

    def among(self, chances: Tensor, dictionary: Sequence[str], charset: str | None) -> list[tuple[str, Tensor, float]]:
        """The same of the dictionary's likeliest words; capitals and small letters count together."""
        words = Dictionary.of(dictionary, self.charset, self.allowed(charset), self.max_length)
        table = words.table.to(chances.device)
        folded = torch.zeros_like(chances).index_add_(2, words.group.to(chances.device), chances)
        found = []
        for logs in folded.log():
            own = logs.gather(1, table.clamp(min=0).T).T.masked_fill(table < 0, 0.0)  # W T
            best = int(own.sum(1).argmax())
            text = words.spelling("".join(self.charset[label] for label in words.labels[best][:-1]))
            found.append((text, own[best, : len(text)].exp().cpu(), float(own[best].double().sum().exp())))
        return found


def build(
    *, classes: int = 0, charset: str = "latin", rectify: str = "none", widths: Sequence[int] = (24, 48, 96, 128, 192),
    blocks: Sequence[int] = (1, 2, 2, 2, 1), channels: int = 192, heads: int = 6, hidden: int = 768, encoder_layers: int = 2,
    language_layers: int = 4, keys: int = 48, rounds: int = 3, learn: str = "all", vision_weight: float = 1.0, language_weight: float = 1.0,
    max_length: int = 25, height: int = 32, width: int = 128, dropout: float = 0.1,
) -> ABINet:  # fmt: skip
    """classes: of no use here. widths, blocks: of the residual network's five stages. channels: of every token. hidden: inside the feed-forward part.
    keys: channels inside the U-Net. rounds: how often the language model corrects, M. learn: all, vision or language. max_length: characters of a
    text at most. height, width: to which every word is stretched.

    Raises UsageError.
    """
    if learn not in LEARNED:
        raise UsageError(f"unknown learn '{learn}'", hint="learn is " + ", ".join(LEARNED))
    if len(widths) != 5 or len(blocks) != 5 or min(blocks) < 1:
        raise UsageError("the residual network has five stages of a block at least", where=f"widths={tuple(widths)}, blocks={tuple(blocks)}")
    if min(height, width) < 16 or height % 4 or width % 4:
        raise UsageError(f"a word is at least 16 pixels high and wide, a multiple of 4 each, not {width} x {height}")
    if max_length < 1 or rounds < 1:
        raise UsageError("a text has at least one character, a reading one round", where=f"max_length={max_length}, rounds={rounds}")
    prepare = Prepare(resize="stretch", size=(height, width), mean=(0.5,) * 3, std=(0.5,) * 3)
    known = len(Recogniser(charset, prepare).charset) + 1
    return ABINet(
        charset, prepare, rectify,
        vision=Vision(known, max_length + 1, widths, blocks, channels, heads, hidden, encoder_layers, keys, dropout),
        language=ClozeNetwork(known, channels, heads, hidden, language_layers, dropout=dropout),
        fusion=Fusion(known, channels), max_length=max_length, rounds=rounds, learn=learn, vision_weight=vision_weight,
        language_weight=language_weight,
    )  # fmt: skip
