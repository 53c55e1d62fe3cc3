"""The loader alone, the model alone, and both together, in pictures a second; both should reach 90 % of the slower one.

    python tests/benchmarks/loader.py                                      # ResNet-18 on made-up 32 x 32 pictures
    python tests/benchmarks/loader.py --data bccd/ --split trainval        # and faster-rcnn.small on a data set of boxes
    python tests/benchmarks/loader.py --workers 4 --device cuda --precision bf16 --channels-last

Loader alone: epochs from the cache of decoded pictures, with augmentation. Model alone: forward, backward and step on a batch that is there already.
Then the cache: how often a picture was decoded, with worker processes that share it. One thread unless told (a busy machine slows threads that wait
for each other); timings are of this machine at this moment.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cvtool import registry, weights
from cvtool.data import augment, source
from cvtool.data.dataset import Dataset, decoded_bytes
from cvtool.data.loader import Loader
from cvtool.records import Record
from cvtool.runtime.device import autocast


def small_pictures(count: int) -> tuple[list[Record], list[dict[str, Any]]]:
    """Noise of 32 x 32 in ten classes, PNG bytes in memory."""
    draw = np.random.default_rng(0)
    kinds = []
    for _ in range(64):
        out = io.BytesIO()
        Image.fromarray(draw.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(out, "PNG")
        kinds.append(out.getvalue())
    records = []
    for i in range(count):
        record = Record(file_name=f"{i}.png", width=32, height=32, labels=[{"category_id": i % 10, "category": f"c{i % 10}"}])
        record.data = kinds[i % 64]
        records.append(record)
    return records, [{"id": k, "name": f"c{k}"} for k in range(10)]


def batches(loader: Loader, begin: int = 1) -> Iterator[Any]:
    """Without an end."""
    epoch = begin
    while True:
        yield from loader.epoch(epoch)
        epoch += 1


def rate(items: Iterator[Any], work: Any, given: argparse.Namespace) -> float:
    """Pictures a second over about `seconds` of the clock, the first batch not counted."""
    clock = time.process_time if given.clock == "cpu" else time.perf_counter
    work(next(items))
    start, seen = clock(), 0
    while clock() - start < given.seconds:
        item = next(items)
        work(item)
        seen += len(item.batch)
    if given.device.startswith("cuda"):
        torch.cuda.synchronize()
    return seen / (clock() - start)


def run(name: str, model: Any, dataset: Dataset, words: str, batch_size: int, given: argparse.Namespace) -> None:
    device = torch.device(given.device)
    form = torch.channels_last if given.channels_last else torch.contiguous_format
    model = model.to(device, memory_format=form).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    found = augment.parse(words, prepare=model.prepare)
    loader = Loader(
        dataset,
        found.prepare or model.prepare,
        batch_size=batch_size,
        augment=found.sample,
        workers=given.workers,
        ahead=2 if device.type == "cuda" else 0,
        channels_last=given.channels_last,
        pin=device.type == "cuda",
    )

    def step(item: Any) -> None:
        batch = item.batch.to(device, form)
        with autocast(device, given.precision):
            loss = torch.stack(list(model.losses(batch).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    touched = sum(len(item.names) for item in loader.epoch(0)) + sum(len(item.names) for item in loader.epoch(1))
    kept = len(dataset.kept)
    first = next(iter(loader.epoch(0)))

    def again() -> Iterator[Any]:
        while True:
            yield first

    alone, model_only, both = rate(batches(loader, 2), lambda item: None, given), rate(again(), step, given), rate(batches(loader, 2), step, given)
    loader.close()
    slower = min(alone, model_only)
    print(f"{name}: loader {alone:,.1f}/s, model {model_only:,.1f}/s, both {both:,.1f}/s = {100 * both / slower:.0f} % of the slower")
    print(f"    cache: {kept:,} of {len(dataset):,} pictures kept; {touched:,} touched in two epochs, {100 * (1 - kept / touched):.0f} % found there")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: seconds of this process, for a busy machine")
    given = parser.parse_args()
    if given.clock == "cpu" and (given.workers or given.device != "cpu"):
        parser.error("--clock cpu sees neither worker processes nor a GPU")
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)

    records, categories = small_pictures(given.count)
    net = weights.build(registry.parse("resnet.18"), categories=categories, stem="3x3", image_size=32, crop_fraction=1.0)
    dataset = Dataset(records, categories, needs=("labels",), cache_bytes=decoded_bytes(records))
    run("resnet18, 32 x 32", net, dataset, "flip,shift:4", 128, given)
    if given.data is not None:
        records, _, categories = source.read({"data": str(given.data), "split_val": "none"} | ({"split": given.split} if given.split else {}))
        model = weights.build(registry.parse("faster-rcnn.small"), categories=categories)
        dataset = Dataset(records, categories, cache_bytes=decoded_bytes(records))
        run("faster-rcnn.small", model, dataset, "flips,crop", 4, given)


if __name__ == "__main__":
    main()
