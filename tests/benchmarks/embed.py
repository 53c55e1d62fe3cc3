"""Embedding a folder of JPEGs beside a plain loop and timm's inference loop, and search beside faiss: `python tests/benchmarks/embed.py WHAT [N]`.

WHAT is `folder` (N pictures of 640 x 480, default 96; resnet50 without weights, whose speed is that of any weights) or `search` (N rows of 512,
default 1,000,000; faiss where it is installed). Prints seconds and ratios; for bf16 the least cosine to fp32 too.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def made(folder: Path, count: int) -> list[Path]:
    """JPEGs with edges, gradients and noise, as photographs have."""
    from PIL import Image

    y, x = np.mgrid[0:480, 0:640]
    paths = []
    for i in range(count):
        draw = np.random.default_rng(i)
        pixels = np.stack([x * 255 // 640, y * 255 // 480, (x + y) % 256], 2).astype(np.int16)
        for _ in range(30):
            top, left = draw.integers(0, 400), draw.integers(0, 560)
            pixels[top : top + 80, left : left + 80] = draw.integers(0, 256, 3)
        pixels += draw.integers(-12, 12, pixels.shape, dtype=np.int16)
        paths.append(folder / f"{i:04}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=88)
    return paths


def folder(count: int) -> None:
    import timm
    import torch
    from PIL import Image
    from timm.data import create_dataset, create_loader, create_transform, resolve_model_data_config

    from cvtool.data import inputs
    from cvtool.tasks.embed import embed

    reference, device = "timm:resnet50", "cuda" if torch.cuda.is_available() else "cpu"
    net: Any = timm.create_model("resnet50", num_classes=0).eval().to(device)
    config = resolve_model_data_config(net)

    def plain(paths: list[Path]) -> np.ndarray:
        transform = create_transform(**config)
        with torch.inference_mode():
            return torch.cat([net(transform(Image.open(p).convert("RGB"))[None].to(device)) for p in paths]).cpu().numpy()

    def timms(root: Path) -> np.ndarray:
        loader = create_loader(
            create_dataset("", root), (3, 224, 224), 32, use_prefetcher=device == "cuda", num_workers=2, device=torch.device(device),
            interpolation=config["interpolation"], mean=config["mean"], std=config["std"], crop_pct=config["crop_pct"],
        )  # fmt: skip
        with torch.inference_mode():
            return torch.cat([net(images.to(device)) for images, _ in loader]).float().cpu().numpy()

    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "one").mkdir()
        paths = made(root / "one", count)
        from cvtool.runtime.pool import pool

        def ours(precision: str) -> np.ndarray:
            options: dict[str, Any] = {"batch_size": 8, "workers": 2, "device": device, "precision": precision}
            done = embed(inputs.read([str(root / "one")]), f"{reference}@none", **options)
            return np.array([record["embedding"] for record in done])

        for precision in ("fp32", "bf16"):  # the same weights as timm's
            with pool.lease(f"{reference}@none", device=device, precision=precision) as loaded:
                state = net.state_dict()
                loaded.model.net.load_state_dict(state, strict=False)
        results = {}
        ways: dict[str, Callable[[], np.ndarray]] = {
            "plain loop": lambda: plain(paths), "timm's loop": lambda: timms(root), "cvtool fp32": lambda: ours("fp32"),
            "cvtool bf16": lambda: ours("bf16"),
        }  # fmt: skip
        plain(paths[:4])
        seconds = {}
        for name, way in ways.items():
            start = time.perf_counter()
            results[name] = way()
            seconds[name] = time.perf_counter() - start
        print(f"{count} JPEGs, resnet50, {device}, {torch.get_num_threads()} threads")
        for name, value in seconds.items():
            least = cosine(results[name], results["cvtool fp32"])
            ratio = [f"{seconds[other] / value:.2f} x {other}" for other in ("plain loop", "timm's loop")]
            print(f"{name:12} {value:6.2f} s  {count / value:7.1f} pictures/s  {'  '.join(ratio)}  least cosine to cvtool fp32 {least:.5f}")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def search(count: int) -> None:
    from cvtool.ops.nearest import nearest, unit

    draw = np.random.default_rng(0)
    rows = np.empty((count, 512), np.float32)
    for start in range(0, count, 50_000):
        rows[start : start + 50_000] = unit(draw.standard_normal((min(50_000, count - start), 512), dtype=np.float32))
    queries = unit(rows[:: count // 100][:100] + 0.5 * unit(draw.standard_normal((100, 512), dtype=np.float32)))
    index: Any = None
    with contextlib.suppress(ImportError):
        import faiss

        faiss.omp_set_num_threads(1)
        index = faiss.IndexFlatIP(512)
        index.add(rows)
    for some in (queries[:1], queries):
        start = time.perf_counter()
        order, _ = nearest(some, rows, 10, unit_rows=True)
        mine = time.perf_counter() - start
        line = f"{len(some)} of {count:,} x 512, top 10: {mine:.3f} s"
        if index is not None:
            start = time.perf_counter()
            _, theirs = index.search(np.ascontiguousarray(some), 10)
            other = time.perf_counter() - start
            line += f", faiss flat {other:.3f} s: {other / mine:.2f} x; the same neighbours {(order == theirs).mean():.4f}"
        print(line)


if __name__ == "__main__":
    what, number = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    folder(number or 96) if what == "folder" else search(number or 1_000_000)
