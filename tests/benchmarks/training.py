"""The training loop against others, end to end from decoded pictures: our loop, a plain torch script, and the reference loop of the field.

    python tests/benchmarks/training.py                                    # resnet18, 32 x 32, batches of 128, fp32 and bf16 + channels_last
    python tests/benchmarks/training.py --system detector                  # faster-rcnn.small on two pictures of 320 x 240; torchvision's loop
    python tests/benchmarks/training.py --clock cpu --rounds 5 --turns 4   # seconds of this process alone, for a busy machine
    python tests/benchmarks/training.py --memory                           # peak memory, each loop in a process of its own

All train the same network with the same optimiser on the same pictures, which are kept decoded. A turn is: fetch, augment (a flip), normalise,
forward, backward, step, and whatever the loop does besides. Loops take turns, so that a busy machine hits all alike; the median round counts.
Ours does more in a turn: it checks that loss and gradient are finite, clips, follows a schedule, keeps sums for the log.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cvtool import registry, weights
from cvtool.data import augment, synth
from cvtool.data.dataset import Dataset, decoded_bytes
from cvtool.data.loader import Loader
from cvtool.records import Record
from cvtool.runtime.device import autocast
from cvtool.train import optim
from cvtool.train.log import Log
from cvtool.train.loop import Loop
from cvtool.train.steps.supervised import Supervised

Turn = Callable[[], Any]
SGD = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4}


class Forgetful:
    """A run's keeper that keeps nothing."""

    def save(self, state: dict[str, Any]) -> None: ...

    def epoch(self, model: nn.Module, values: dict[str, Any], *, best: bool) -> None: ...


def endless(again: Callable[[int], Iterator[Any]]) -> Iterator[Any]:
    epoch = 0
    while True:
        yield from again(epoch)
        epoch += 1


def ours(model: Any, dataset: Dataset, batch_size: int, precision: str, channels_last: bool, folder: Path) -> Turn:
    """Loader, step and loop as `cvtool train` makes them."""
    model = model.to(memory_format=torch.channels_last if channels_last else torch.preserve_format).train()
    found = augment.parse("flip", prepare=model.prepare)
    loader = Loader(dataset, found.prepare or model.prepare, batch_size=batch_size, augment=found.sample, channels_last=channels_last)
    step = Supervised(model, optim.make("sgd", **SGD))
    log = Log(folder / f"log{time.monotonic_ns()}.jsonl")
    loop = Loop(
        step=step, loader=loader, keeper=Forgetful(), log=log, device=torch.device("cpu"), epochs=1, schedule=lambda turn: 1.0, clip=10.0,
        precision=precision, channels_last=channels_last,
    )  # fmt: skip
    items = endless(loader.epoch)

    def turn() -> None:
        losses, _ = loop.one_turn([next(items)])
        loop.at.turn += 1
        loop.at.gather(losses)

    return turn


# ---- classification ------------------------------------------------------------------------------------------------


class Decoded(torch.utils.data.Dataset):
    """Decoded pictures 32 32 3 and their classes; `transform` takes a PIL picture or an array, as its owner likes."""

    def __init__(self, pictures: np.ndarray, labels: list[int], transform: Callable[[Any], Any] | None = None, *, pil: bool = False) -> None:
        self.pictures, self.labels, self.transform, self.pil = pictures, labels, transform, pil

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        picture = Image.fromarray(self.pictures[index]) if self.pil else self.pictures[index]
        return (self.transform(picture) if self.transform else picture), self.labels[index]


def tiny_pictures(count: int) -> tuple[np.ndarray, list[int]]:
    return np.random.default_rng(0).integers(0, 255, (count, 32, 32, 3), dtype=np.uint8), [i % 10 for i in range(count)]


def our_classifier(given: argparse.Namespace, precision: str, channels_last: bool, folder: Path) -> Turn:
    import io

    from PIL import Image

    pictures, labels = tiny_pictures(given.count)
    records = []
    for number, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
        record = Record(file_name=f"{number}.png", width=32, height=32, labels=[{"category_id": label, "category": f"c{label}"}])
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG", compress_level=0)
        record.data = out.getvalue()
        records.append(record)
    categories = [{"id": k, "name": f"c{k}"} for k in range(10)]
    model = weights.build(registry.parse("resnet.18"), categories=categories, stem="3x3", image_size=32, crop_fraction=1.0)
    dataset = Dataset(records, categories, needs=("labels",), cache_bytes=decoded_bytes(records))
    for index in range(len(dataset)):  # decode
        dataset[index]
    return ours(model, dataset, given.batch_size, precision, channels_last, folder)


def cifar_resnet18() -> nn.Module:
    """torchvision's network behind the stem for small pictures that ours has."""
    from torchvision.models import resnet18

    net = resnet18(num_classes=10)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()  # type: ignore[assignment]
    return net


def plain_classifier(given: argparse.Namespace, precision: str, channels_last: bool, folder: Path) -> Turn:
    """What one writes in an afternoon: torchvision's transforms, a DataLoader, the textbook's five lines."""
    from torchvision.transforms import v2

    form = torch.channels_last if channels_last else torch.contiguous_format
    transform = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.25] * 3)])
    data = torch.utils.data.DataLoader(Decoded(*tiny_pictures(given.count), transform), batch_size=given.batch_size, shuffle=True)
    net = cifar_resnet18().to(memory_format=form).train()
    optimizer = torch.optim.SGD(net.parameters(), **SGD)
    items = endless(lambda epoch: iter(data))

    def turn() -> float:
        images, labels = next(items)
        optimizer.zero_grad()
        with autocast("cpu", precision):
            loss = nn.functional.cross_entropy(net(images.to(memory_format=form)), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return turn


def timm_classifier(given: argparse.Namespace, precision: str, channels_last: bool, folder: Path) -> Turn:
    """timm's loader (its transforms and collation), optimiser, loss, clipping and meter, as its training script puts them together."""
    from timm.data import create_loader
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.utils import AverageMeter, dispatch_clip_grad

    form = torch.channels_last if channels_last else torch.contiguous_format
    data = create_loader(
        Decoded(*tiny_pictures(given.count), pil=True), (3, 32, 32), given.batch_size, is_training=True, no_aug=False, scale=(1, 1), ratio=(1, 1),
        hflip=0.5, color_jitter=0.0, num_workers=0, use_prefetcher=False, persistent_workers=False, pin_memory=False,
    )  # fmt: skip
    net = cifar_resnet18().to(memory_format=form).train()
    optimizer = create_optimizer_v2(net, opt="momentum", lr=SGD["lr"], momentum=SGD["momentum"], weight_decay=SGD["weight_decay"])
    criterion, meter = LabelSmoothingCrossEntropy(0.0), AverageMeter()
    items = endless(lambda epoch: iter(data))

    def turn() -> None:
        images, labels = next(items)
        images = images.contiguous(memory_format=form)
        with autocast("cpu", precision):
            loss = criterion(net(images), labels)
        loss.backward()
        dispatch_clip_grad(net.parameters(), value=10.0)
        optimizer.step()
        optimizer.zero_grad()
        meter.update(loss.item(), len(images))

    return turn


# ---- detection -----------------------------------------------------------------------------------------------------


def shapes(given: argparse.Namespace, folder: Path) -> tuple[Any, Dataset]:
    """faster-rcnn.small and drawn shapes of 320 x 240."""
    from cvtool.data import source

    drawn = synth.write_shapes(folder, given.count, (240, 320), seed=1)
    records, _, categories = source.read({"data": str(drawn), "split_val": "none"})
    dataset = Dataset(records, categories, cache_bytes=decoded_bytes(records))
    for index in range(len(dataset)):
        dataset[index]
    torch.manual_seed(0)
    model = weights.build(registry.parse("faster-rcnn.small"), categories=categories)
    model.prepare = model.prepare.sized(320)
    return model, dataset


def our_detector(given: argparse.Namespace, precision: str, channels_last: bool, folder: Path) -> Turn:
    model, dataset = shapes(given, folder)
    return ours(model, dataset, given.batch_size, precision, channels_last, folder)


def torchvision_detector(given: argparse.Namespace, precision: str, channels_last: bool, folder: Path, *, plain: bool = False) -> Turn:
    """torchvision's GeneralizedRCNN of the same parts, trained as its references do: lists of pictures and of targets, the losses summed, checked and
    smoothed for the meter. `plain`: without checks and meter."""
    from collections import deque

    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
    from torchvision.models.detection.transform import GeneralizedRCNNTransform
    from torchvision.transforms import v2
    from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

    model, dataset = shapes(given, folder)
    prepare = GeneralizedRCNNTransform(240, 320, list(model.prepare.mean), list(model.prepare.std))
    net = GeneralizedRCNN(model.backbone, model.rpn, model.roi_heads, prepare)
    net = net.to(memory_format=torch.channels_last if channels_last else torch.preserve_format).train()
    transform = v2.Compose([v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True), v2.SanitizeBoundingBoxes()])

    class Listed(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(dataset)

        def __getitem__(self, index: int) -> Any:
            sample = dataset[index]
            image = v2.functional.to_image(sample.pixels)
            height, width = image.shape[-2:]
            boxes = BoundingBoxes(sample.target.boxes, format=BoundingBoxFormat.XYXY, canvas_size=(height, width))
            return transform(image, {"boxes": boxes, "labels": sample.target.labels + 1})

    data = torch.utils.data.DataLoader(Listed(), batch_size=given.batch_size, shuffle=True, collate_fn=lambda items: tuple(zip(*items, strict=True)))
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], **SGD)
    items = endless(lambda epoch: iter(data))
    window: deque[dict[str, float]] = deque(maxlen=20)

    def turn() -> None:
        images, targets = next(items)
        with autocast("cpu", precision):
            losses = net(list(images), [dict(t) for t in targets])
            total = sum(losses.values())
        if not plain:
            read = {key: value.item() for key, value in losses.items()}
            if not np.isfinite(sum(read.values())):
                sys.exit(f"Loss is {read}, stopping training")
            window.append(read)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return turn


def plain_detector(given: argparse.Namespace, precision: str, channels_last: bool, folder: Path) -> Turn:
    return torchvision_detector(given, precision, channels_last, folder, plain=True)


SYSTEMS: dict[str, dict[str, Callable[..., Turn]]] = {
    "resnet18": {"cvtool": our_classifier, "plain torch": plain_classifier, "timm": timm_classifier},
    "detector": {"cvtool": our_detector, "plain torch": plain_detector, "torchvision": torchvision_detector},
}


def measured(turns: dict[str, Turn], given: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds a turn, round by round; each loop's first turn is not counted, and the order changes from round to round."""
    clock = time.process_time if given.clock == "cpu" else time.perf_counter
    for turn in turns.values():
        turn()
    found: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(given.rounds):
        names = list(turns)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = clock()
            for _ in range(given.turns):
                turns[name]()
            found[name].append((clock() - start) / given.turns)
    return found


def faster(mine: list[float], theirs: list[float]) -> float:
    """How many times; the median over rounds, for a round's loops met the same neighbours."""
    return statistics.median(b / a for a, b in zip(mine, theirs, strict=True))


def peak(given: argparse.Namespace, name: str, precision: str) -> float:
    """MiB of one loop in a process of its own."""
    words = [sys.executable, __file__, "--only", name, "--system", given.system, "--batch-size", str(given.batch_size), "--count", str(given.count)]
    words += ["--turns", str(given.turns), "--precision", precision]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["peak"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=SYSTEMS, default="resnet18")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--count", type=int, help="pictures")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, help="turns a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--only", help="one loop, for its peak memory")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="one of the two; bf16 is with channels_last")
    given = parser.parse_args()
    given.batch_size = given.batch_size or (128 if given.system == "resnet18" else 2)
    given.turns = given.turns or (1 if given.system == "resnet18" else 4)
    given.count = given.count or (256 if given.system == "resnet18" else 8)
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    loops = SYSTEMS[given.system]
    kinds = [(precision, precision == "bf16") for precision in ("fp32", "bf16") if given.precision in (None, precision)]
    with tempfile.TemporaryDirectory() as temporary:
        if given.only:
            turn = loops[given.only](given, *kinds[0], Path(temporary))
            for _ in range(given.turns):
                turn()
            print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
            return
        if given.memory:
            for precision, channels_last in kinds:
                told = "  ".join(f"{name} {peak(given, name, precision):,.0f} MiB" for name in loops)
                print(f"{given.system} {precision}{' channels_last' * channels_last}: peak {told}")
            return
        turns = {}
        for precision, channels_last in kinds:
            folder = Path(temporary) / precision
            folder.mkdir()
            turns |= {f"{name} {precision}": make(given, precision, channels_last, folder) for name, make in loops.items()}
        found = measured(turns, given)
    for name, times in found.items():
        seconds = statistics.median(times)
        print(f"{given.system:9} {name:20} {1000 * seconds:9.1f} ms a turn   {given.batch_size / seconds:8.1f} pictures/s")
    first, *others = loops
    for precision, _ in kinds:
        for other in others:
            print(f"{first} against {other}, {precision}: {faster(found[f'{first} {precision}'], found[f'{other} {precision}']):.3f} times")
    if len(kinds) > 1:
        for other in (first, others[0]):
            print(f"{first} bf16 against {other} fp32: {faster(found[f'{first} bf16'], found[f'{other} fp32']):.2f} times")


if __name__ == "__main__":
    main()
