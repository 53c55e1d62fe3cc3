"""The loader alone, the model alone, and both together, in pictures a second; both should reach 90 % of the slower one.

    python tests/benchmarks/loader.py                                          # ResNet-20 on JPEGs of 32 x 32, ResNet-18 on JPEGs of a megapixel
    python tests/benchmarks/loader.py --data cifar10/train --model resnet.20 --augment flip,shift:4 --batch-size 128
    python tests/benchmarks/loader.py --data bccd/ --split trainval --model faster-rcnn.small --augment flips,crop --batch-size 4 --cache
    python tests/benchmarks/loader.py --workers 4 --device cuda --precision bf16 --channels-last

Loader alone: epochs with augmentation, every picture decoded from its file each time (with --cache: from the decoded ones that are kept). Model
alone: forward, backward and step on a batch that is there already. The three take turns, and medians count. The model has one thread unless
told, so that one worker process has a core of its own where there are two. Told beside: without workers, when both share a core, the bound of that;
with workers, how fast this process trains by its own CPU time, which is what neighbours on the machine leave alone.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cvtool import registry, weights
from cvtool.data import augment, source
from cvtool.data.dataset import Dataset, decoded_bytes
from cvtool.data.loader import Loader
from cvtool.runtime.device import autocast
from cvtool.tasks._sets import needs_of

AHEAD = 4  # batches that a worker has made before the first is taken


def made_up(folder: Path, count: int, width: int, height: int) -> Path:
    """JPEGs of two classes: soft noise, which compresses as photographs do; 48 different ones."""
    draw = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number >= 48:
            shutil.copyfile(folder / f"class{number % 2}" / f"{number % 48}.jpg", path)
            continue
        coarse = Image.fromarray(draw.integers(0, 255, (max(4, height // 16), max(4, width // 16), 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16) + draw.integers(-8, 8, (height, width, 1))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return folder


def batches(loader: Loader) -> Iterator[Any]:
    """Without an end."""
    epoch = 0
    while True:
        yield from loader.epoch(epoch)
        epoch += 1


def rate(items: Iterator[Any], work: Callable[[Any], None], given: argparse.Namespace, skip: int = 1) -> tuple[float, float]:
    """Pictures a second over `seconds` at least, and pictures a second of this process's CPU time; the first batches, of which workers have some in
    store, are not counted."""
    for _ in range(skip):
        work(next(items))
    start, busy, seen = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < given.seconds:
        item = next(items)
        work(item)
        seen += len(item.batch)
    if given.device.startswith("cuda"):
        torch.cuda.synchronize()
    return seen / (time.perf_counter() - start), seen / (time.process_time() - busy)


def run(data: Path, reference: str, words: str, batch_size: int, size: int | None, given: argparse.Namespace) -> None:
    where = {"data": str(data), "split_val": "none"} | ({"split": given.split} if given.split else {})
    records, _, categories = source.read(where)
    torch.manual_seed(0)
    device = torch.device(given.device)
    form = torch.channels_last if given.channels_last else torch.contiguous_format
    model = weights.build(registry.parse(reference), categories=categories).to(device, memory_format=form).train()
    if size:
        model.prepare = model.prepare.sized(size)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    found = augment.parse(words, prepare=model.prepare)
    dataset = Dataset(records, categories, needs=needs_of(model), cache_bytes=decoded_bytes(records) if given.cache else 0)
    if given.cache:
        for index in range(len(dataset)):
            dataset.pixels(index)

    def step(item: Any) -> None:
        batch = item.batch.to(device, form)
        with autocast(device, given.precision):
            loss = torch.stack(list(model.losses(batch).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    print(
        f"{reference}, {data.name}/: {len(records):,} pictures, batches of {batch_size}, {words}, {'cached' if given.cache else 'decoded each time'}"
    )
    for workers in given.workers:
        more: dict[str, Any] = {"workers": workers, "ahead": 2 if device.type == "cuda" else 0, "pin": device.type == "cuda"}
        prepare = found.prepare or model.prepare
        loader = Loader(dataset, prepare, batch_size=batch_size, augment=found.sample, channels_last=given.channels_last, **more)
        first, kinds = next(loader.epoch(0)), ("loader", "model", "both")
        loader.close()
        seen: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for _ in range(given.rounds):
            for kind in kinds:
                items = repeat(first) if kind == "model" else batches(loader)
                work = (lambda item: None) if kind == "loader" else step
                seen[kind].append(rate(items, work, given, skip=1 if kind == "model" else 1 + AHEAD * workers))
                loader.close()  # what workers would do in another's turn counts against nobody
        alone, trained, both = (statistics.median(wall for wall, _ in seen[kind]) for kind in kinds)
        told = f"    {workers} workers: loader {alone:8,.1f}/s   model {trained:8,.1f}/s   both {both:8,.1f}/s"
        told += f" = {both / min(alone, trained):.2f} x the slower"
        if workers:
            own = statistics.median(joined / single for (_, single), (_, joined) in zip(seen["model"], seen["both"], strict=True))
            told += f" ({own:.2f} x the model, by this process's own CPU time)"
        else:
            told += f" ({both * (1 / alone + 1 / trained):.2f} x what one core allows)"
        print(told, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--model", default="resnet.20")
    parser.add_argument("--augment", default="flip,shift:4")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--only", choices=("small", "large"), help="one of the two made-up sets")
    parser.add_argument("--workers", type=lambda text: [int(word) for word in text.split(",")], default=[0, 1, 2], metavar="N,N")
    parser.add_argument("--cache", action="store_true", help="keep decoded pictures")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the model")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.data is not None:
        run(given.data, given.model, given.augment, given.batch_size, given.img_size, given)
        return
    with tempfile.TemporaryDirectory() as temporary:
        if given.only != "large":
            run(made_up(Path(temporary) / "small", 5000, 32, 32), "resnet.20", "flip,shift:4", 128, None, given)
        if given.only != "small":
            run(made_up(Path(temporary) / "megapixel", 480, 1152, 896), "resnet.18", "resized-crop,flip", 16, 96, given)


if __name__ == "__main__":
    main()
