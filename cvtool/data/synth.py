"""Made-up pictures with exact truth: coloured shapes on textured noise. The same for a seed everywhere; for tests and demonstrations.

Masks are the pixels that can be seen (a later shape covers an earlier one), boxes are the masks' own bounds.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cvtool.annotations import rle
from cvtool.records import Record

CATEGORIES = [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}, {"id": 3, "name": "triangle"}]
VISIBLE = 0.4  # a shape of which less can be seen is no object
MIN_SIDE = 8


def shapes(count: int, size: int | tuple[int, int] = 96, seed: int = 0) -> list[Record]:
    """`count` records with their pictures in memory (PNG bytes in `data`), COCO annotations with masks, and the table of categories.

    size: a side, or (height, width), of at least 32.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 32:
        raise ValueError(f"a picture of shapes is at least 32 x 32, not {width} x {height}")
    dataset: dict[str, Any] = {"categories": CATEGORIES}
    found = []
    for number in range(count):
        pixels, annotations = scene(np.random.default_rng((seed, number)), height, width)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG")
        record = Record(id=number + 1, file_name=f"{number:05d}.png", width=width, height=height, annotations=annotations)
        record.data, record.dataset = file.getvalue(), dataset
        found.append(record)
    return found


def write_shapes(folder: Path | str, count: int, size: int | tuple[int, int] = 96, seed: int = 0, *, name: str = "shapes") -> Path:
    """The same on disk: FOLDER/images/NAME-00000.png ... and FOLDER/NAME.json (COCO), whose path is returned."""
    from cvtool.data.formats import coco

    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    records = shapes(count, size, seed)
    for record in records:
        record["file_name"] = f"{name}-{record['file_name']}"
        assert record.data is not None
        (folder / "images" / record["file_name"]).write_bytes(record.data)
    coco.write(records, folder / f"{name}.json")
    return folder / f"{name}.json"


def scene(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """One picture (H W 3 uint8) and its annotations."""
    canvas = background(rng, height, width)
    labels = np.zeros((height, width), np.int64)  # 0 or the number of the shape on top
    drawn = []
    for number in range(1, int(rng.integers(2, 6)) + 1):
        kind = int(rng.integers(len(CATEGORIES)))
        radius = rng.uniform(max(MIN_SIDE / 2, 0.07 * min(height, width)), 0.22 * min(height, width))
        x, y = rng.uniform(0.6 * radius, width - 0.6 * radius), rng.uniform(0.6 * radius, height - 0.6 * radius)
        mask = outline(kind, x, y, radius, rng.uniform(0, 2 * np.pi), height, width)
        shade = 1 + 0.15 * np.sin(rng.uniform(0, 6) + np.arange(width) * rng.uniform(0.1, 0.6))
        canvas[mask] = (rng.uniform(0.15, 1.0, 3) * 255 * shade[None, :, None] * np.ones((height, 1, 1)))[mask]
        labels[mask] = number
        drawn.append((kind, int(mask.sum())))
    annotations = []
    for number, (kind, whole) in enumerate(drawn, 1):
        mask = labels == number
        ys, xs = np.nonzero(mask)
        if len(xs) < VISIBLE * whole or not len(xs) or min(np.ptp(xs), np.ptp(ys)) < MIN_SIDE - 2:
            continue
        encoded, area = rle(mask)
        box = [float(xs.min()), float(ys.min()), float(np.ptp(xs) + 1), float(np.ptp(ys) + 1)]
        category = CATEGORIES[kind]
        annotations.append(
            {"bbox": box, "category_id": category["id"], "category": category["name"], "segmentation": encoded, "area": area, "iscrowd": 0}
        )
    return (canvas + rng.normal(0, 6, canvas.shape)).clip(0, 255).astype(np.uint8), annotations


def outline(kind: int, x: float, y: float, radius: float, angle: float, height: int, width: int) -> np.ndarray:
    """H W bool: pixels whose centre lies in a circle (0), a square (1) or an equilateral triangle (2) around (x, y), turned by `angle`."""
    rows, cols = np.mgrid[0:height, 0:width] + 0.5
    u = np.cos(angle) * (cols - x) + np.sin(angle) * (rows - y)
    v = -np.sin(angle) * (cols - x) + np.cos(angle) * (rows - y)
    if kind == 0:
        return u**2 + v**2 <= radius**2
    if kind == 1:
        return np.maximum(abs(u), abs(v)) <= 0.85 * radius
    return (v >= -radius / 2) & (np.sqrt(3) * abs(u) + v <= radius)


def background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """H W 3 float in 0..255: noise of three wavelengths about a dull colour."""
    out = np.full((height, width, 3), rng.uniform(50, 200, 3))
    for cells, strength in ((3, 30.0), (9, 14.0), (27, 7.0)):
        coarse = Image.fromarray(rng.uniform(0, 255, (cells, cells, 3)).astype(np.uint8))
        out += (np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64) / 127.5 - 1) * strength
    return out
