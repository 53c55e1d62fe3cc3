"""Pages of print drawn for tests, and a recogniser that knows the words which were drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from cvtool import registry
from cvtool.batch import Batch, Prepare
from cvtool.ops import ink
from cvtool.results import Text
from cvtool.runtime.pool import Loaded, pool
from cvtool.tasks import ocr
from cvtool.weights import Info

WORDS = "The quick brown fox jumps over lazy dog while seven grey geese watch from muddy banks near old mill".split()
Placed = tuple[int, int, str]


def page(lines: Sequence[Placed], *, width: int = 640, height: int = 480, size: int = 24, dark: bool = True) -> np.ndarray:
    """Lines of print at (x, y), H W 3 uint8."""
    ground, print_ = (255, 0) if dark else (20, 240)
    image = Image.new("L", (width, height), ground)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=size)
    for x, y, text in lines:
        draw.text((x, y), text, fill=print_, font=font)
    return np.asarray(image.convert("RGB"))


def paragraph(x: int, y: int, count: int, *, words: int = 4, start: int = 0, step: int = 36) -> list[Placed]:
    """Lines of so many words, from `WORDS` in turn."""
    return [(x, y + n * step, " ".join(WORDS[(start + n * words + i) % len(WORDS)] for i in range(words))) for n in range(count)]


class Vocabulary(torch.nn.Module):
    """Reads a picture as that of its words which looks most like it, when drawn."""

    result = Text
    needs = ("text",)
    prepare = Prepare(resize="height", size=32, max_size=320, multiple_of=32, mean=(0.0,) * 3, std=(1.0,) * 3)

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self.words = list(words)
        self.templates = [_tight(page([(40, 20, word)], width=60 + 30 * len(word), height=80)) for word in self.words]
        self.seen: list[int] = []  # sizes of batches

    def predict(self, batch: Batch, *, charset: str | None = None, dictionary: Sequence[str] | None = None, rectified: bool = False) -> list[Text]:
        self.seen.append(len(batch))
        return [self.read(image, place.inner_width, dictionary) for image, place in zip(batch.images, batch.places, strict=True)]

    def read(self, image: torch.Tensor, width: int, dictionary: Sequence[str] | None) -> Text:
        pixels = (image[:, :, :width] * 255).permute(1, 2, 0).numpy().astype(np.uint8)
        try:
            crop = _tight(pixels)
        except ValueError:
            return Text("", 0.0)
        best, most = "", -1.0
        for word, template in zip(self.words, self.templates, strict=True):
            if dictionary is not None and word not in dictionary:
                continue
            ratio = (crop.shape[1] / crop.shape[0]) / (template.shape[1] / template.shape[0])
            if not 0.75 < ratio < 1.33:
                continue
            one, other = (np.asarray(Image.fromarray(a).resize((96, 24), Image.Resampling.BILINEAR), float).ravel() for a in (crop, template))
            likeness = float(np.corrcoef(one, other)[0, 1])
            best, most = (word, likeness) if likeness > most else (best, most)
        return Text(best, max(most, 0.0) ** 2)


def _tight(pixels: np.ndarray) -> np.ndarray:
    gray = ink.luminance(np.ascontiguousarray(pixels))
    rows, columns = (np.flatnonzero((gray < 128).any(axis)) for axis in (1, 0))
    if not len(rows):
        raise ValueError("blank")
    return gray[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@pytest.fixture
def vocabulary(monkeypatch: pytest.MonkeyPatch) -> Vocabulary:
    """What every recogniser is during the test, and the one that ships."""
    model = Vocabulary(WORDS).eval()
    lease = pool.lease

    @contextmanager
    def leased(reference, device="auto", precision="fp32", offline=False) -> Iterator[Loaded]:
        reference = registry.parse(reference) if isinstance(reference, str) else reference
        if reference.name != "crnn":
            with lease(reference, device=device, precision=precision, offline=offline) as loaded:
                yield loaded
            return
        yield Loaded(model, Info(reference="crnn.tiny@none", categories=[], prepare=model.prepare), reference, torch.device("cpu"), precision)

    monkeypatch.setattr(ocr.pool, "lease", leased)
    monkeypatch.setattr(ocr, "recogniser", lambda: registry.parse("crnn.tiny@none"))
    return model
