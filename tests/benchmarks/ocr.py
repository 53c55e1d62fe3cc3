"""Words a second of `crnn` beside docTR's and EasyOCR's recognisers: `python tests/benchmarks/ocr.py [--words 64] [--turns 5] [--batch 16]`.

Their networks have random weights, which is enough to time them. Each gets the same words, of about 32 x 110 pixels, decoded already, in batches of
one size, and does all of its own work on them: resize, normalise, network, best path. One thread; readers take turns, and the best turn counts.
Needs python-doctr and easyocr beside cvtool; what is not installed is left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cvtool import weights
from cvtool.runtime.device import autocast

Reader = Callable[[list[np.ndarray]], Any]


def words(count: int) -> list[np.ndarray]:
    """H W 3 uint8, as wide as words of three to twelve letters are."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (32, int(rng.integers(50, 170)), 3), dtype=np.uint8) for _ in range(count)]


def ours(reference: str, precision: str) -> Reader:
    model, _ = weights.load(reference)
    model.to(memory_format=torch.channels_last)

    def read(some: list[np.ndarray]) -> Any:
        with autocast("cpu", precision):
            return model.predict(model.prepare(some, memory_format=torch.channels_last))

    return read


def doctr(name: str) -> Reader:
    from doctr.models import recognition
    from doctr.models.preprocessor import PreProcessor

    model = getattr(recognition, name)(pretrained=False, pretrained_backbone=False).eval()
    before = PreProcessor((32, 128), batch_size=1024, preserve_aspect_ratio=True)
    return lambda some: [model(x, return_preds=True)["preds"] for x in before(some)]


def easyocr() -> Reader:
    """The second generation's network for English, and its steps around it: 64 pixels high, padded to the widest of the batch."""
    from easyocr import recognition
    from easyocr.model.vgg_model import Model
    from easyocr.utils import CTCLabelConverter
    from PIL import Image

    letters = "".join(map(chr, range(33, 127))) + "€ "
    converter = CTCLabelConverter(letters)
    model = Model(input_channel=1, output_channel=256, hidden_size=256, num_class=len(letters) + 1).eval()

    def read(some: list[np.ndarray]) -> Any:
        gray = [Image.fromarray(x).convert("L") for x in some]
        width = max(-(-64 * x.width // x.height) for x in gray)
        align = recognition.AlignCollate(imgH=64, imgW=width, keep_ratio_with_pad=True)
        images = align(gray)
        raw = model(images, torch.zeros(len(some), 26, dtype=torch.int64))
        best = raw.softmax(2).argmax(2)
        return converter.decode_greedy(best.view(-1).numpy(), np.array([raw.shape[1]] * len(some)))

    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    given = parser.parse_args()
    torch.set_num_threads(1)
    shown = words(given.words)
    makers: dict[str, Callable[[], Reader]] = {
        "cvtool crnn.small, bf16": lambda: ours("crnn.small@none", "bf16"),
        "cvtool crnn.small, fp32": lambda: ours("crnn.small@none", "fp32"),
        "docTR crnn_vgg16_bn": lambda: doctr("crnn_vgg16_bn"),
        "docTR crnn_mobilenet_v3_small": lambda: doctr("crnn_mobilenet_v3_small"),
        "docTR crnn_mobilenet_v3_large": lambda: doctr("crnn_mobilenet_v3_large"),
        "EasyOCR generation 2": easyocr,
    }
    readers: dict[str, Reader] = {}
    for name, make in makers.items():
        try:
            readers[name] = make()
        except ImportError as error:
            print(f"{name}: left out, {error}")
    batches = [shown[i : i + given.batch] for i in range(0, len(shown), given.batch)]
    best = dict.fromkeys(readers, float("inf"))
    with torch.inference_mode():
        for _ in range(given.turns + 1):  # the first warms up
            for name, read in readers.items():
                start = time.perf_counter()
                for some in batches:
                    read(some)
                best[name] = min(best[name], time.perf_counter() - start)
    first = next(iter(best))
    for name, seconds in best.items():
        print(f"{name:32s} {len(shown) / seconds:7.1f} words a second, {seconds / best[first]:5.2f} times the first's time")


if __name__ == "__main__":
    main()
