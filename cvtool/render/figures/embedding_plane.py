"""Embeddings of two numbers as a plane, a colour a class; with templates the circle that ArcFace works on, each class's template drawn as a radius.

The tables are side by side, so that what two losses make of the same pictures can be compared: softmax spreads a class along a direction, a metric
loss draws it together. The class of a picture is its label, else the folder that it lies in.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cvtool.checkpoint import checkpoint_of, read_info
from cvtool.data.formats import npz
from cvtool.errors import InputError, ModelError, UsageError
from cvtool.render import text
from cvtool.render.canvas import Canvas
from cvtool.render.figures._page import FAINT, Panel, page
from cvtool.render.palette import Colour, instance

PICTURE = False
OPTIONS = {
    "tables": {"default": None, "metavar": "FILE.npz,...", "help": "embeddings of two numbers, of `cvtool embed`; several are compared"},
    "templates": {
        "default": "",
        "metavar": "REF,...",
        "help": "the id-classifiers that made them, in their order: draw the unit circle and their templates",
    },
}
SIDE, FIELD = 460, (32, 34, 39)


def figure(*, tables: str, templates: str) -> Image.Image:
    """A panel a table. Raises UsageError, InputError, ModelError."""
    paths = [Path(part.strip()) for part in tables.split(",") if part.strip()]
    models = [part.strip() for part in templates.split(",") if part.strip()]
    if models and len(models) != len(paths):
        raise UsageError(f"--templates names {len(models)} models for {len(paths)} tables", hint="one for each, in their order")
    panels = []
    for number, path in enumerate(paths):
        vectors, classes = read(path)
        order = {name: i for i, name in enumerate(sorted(set(classes)))}
        labels = np.array([order[name] for name in classes])
        if models:
            rows, names = templates_of(models[number])
            image = _circle(vectors, labels, rows, [instance(order[name]) if name in order else FAINT for name in names])
            words = [(f"{angle(vectors, classes, rows, names):.1f} degrees to the template of its class, on average", None)]
        else:
            image = _plane(vectors, labels)
            words = [(f"spread {spread(vectors, labels):.2f}: distance within a class over distance between centres", None)]
        shown: list[tuple[str, Colour | None]] = [(name, instance(i)) for name, i in list(order.items())[:12]]
        panels.append(Panel(image, path.name, [*words, *shown]))
    return page("Embeddings in the plane", "on the unit circle, templates as radii" if models else "a point a picture, a colour a class", panels)


def read(path: Path) -> tuple[np.ndarray, list[str]]:
    """N 2, and the class of each. Raises InputError."""
    found = npz.table(path)
    if found.vectors.ndim != 2 or found.vectors.shape[1] != 2:
        what = f"embeddings of {found.vectors.shape[-1]} numbers do not lie in a plane"
        raise InputError(what, where=path, hint="train with --set dimensions=2, such as siamese.plane")
    return np.asarray(found.vectors, np.float64), [_class(record) for record in found.records]


def templates_of(reference: str) -> tuple[np.ndarray, list[str]]:
    """K 2 and the classes' names, of a checkpoint or a run folder. Raises ModelError."""
    from safetensors import safe_open

    path = checkpoint_of(Path(reference))
    with safe_open(path, "numpy") as held:
        if "templates" not in set(held.keys()):
            raise ModelError("this model has no templates of classes", where=path, hint="-m id-classifier learns them")
        rows = held.get_tensor("templates").astype(np.float64)
    return rows, [str(category["name"]) if category else "" for category in read_info(path).categories]


def spread(vectors: np.ndarray, labels: np.ndarray) -> float:
    """The mean distance to the own class's centre, over the mean distance between two centres; NaN of a single class."""
    centres = np.stack([vectors[labels == label].mean(0) for label in np.unique(labels)])
    _, places = np.unique(labels, return_inverse=True)
    own = np.linalg.norm(vectors - centres[places], axis=1).mean()
    between = np.linalg.norm(centres[:, None] - centres, axis=2)[np.triu_indices(len(centres), 1)]
    return float(own / between.mean()) if len(between) else math.nan


def angle(vectors: np.ndarray, classes: list[str], templates: np.ndarray, names: list[str]) -> float:
    """The mean angle between an embedding and its class's template, in degrees; NaN where no class has one."""
    rows = [i for i, name in enumerate(classes) if name in names]
    own = templates[[names.index(classes[i]) for i in rows]]
    cosine = (_unit(vectors[rows]) * _unit(own)).sum(1)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()) if rows else math.nan


def _class(record: Any) -> str:
    labels = record.get("labels") or []
    if len(labels) == 1 and "category" in labels[0]:
        return str(labels[0]["category"])
    return Path(str(record.get("file_name", ""))).parent.name


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _plane(vectors: np.ndarray, labels: np.ndarray) -> Image.Image:
    canvas = Canvas(Image.new("RGB", (SIDE, SIDE), FIELD))
    low, high = vectors.min(0), vectors.max(0)
    scale = 0.92 * SIDE / max(float((high - low).max()), 1e-12)
    points = (vectors - (low + high) / 2) * scale * (1, -1) + SIDE / 2
    for (x, y), label in zip(points, labels.tolist(), strict=True):
        canvas.disc(x, y, 2.5, instance(label), opacity=0.7)
    return canvas.image


def _circle(vectors: np.ndarray, labels: np.ndarray, templates: np.ndarray, colours: list[Colour]) -> Image.Image:
    canvas = Canvas(Image.new("RGB", (SIDE, SIDE), FIELD))
    middle, radius = SIDE / 2, 0.42 * SIDE
    canvas.circle(middle, middle, radius, 1.5, FAINT, opacity=0.6)
    for number, ((x, y), colour) in enumerate(zip(_unit(templates), colours, strict=True)):
        canvas.line([(middle, middle), (middle + radius * x, middle - radius * y)], 3, colour)
        text.write(canvas, middle + 1.09 * radius * x - 4, middle - 1.09 * radius * y, str(number), 14, colour)
    inward = np.random.default_rng(0).uniform(0.9, 1.0, len(vectors))  # else they would lie upon each other
    for (x, y), r, label in zip(_unit(vectors), inward, labels.tolist(), strict=True):
        canvas.disc(middle + r * radius * x, middle - r * radius * y, 2.5, instance(label), opacity=0.7)
    return canvas.image
