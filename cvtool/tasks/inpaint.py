"""Holes in pictures filled: the hole from masks, boxes or annotations, the filling from a model, everything else as the file has it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvtool import registry
from cvtool.data import holes, rewrite
from cvtool.data.holes import Chooser, Masks
from cvtool.errors import InputError, ModelError, UsageError
from cvtool.ops.freeform import Freeform
from cvtool.records import Record, made_by
from cvtool.registry import Reference
from cvtool.runtime.pool import Loaded, pool
from cvtool.tasks import _surroundings

OPTIONS = ("patch", "temperature")  # of a model's `fill`, where it has them
Report = Callable[[str], None]


@dataclass(frozen=True)
class Hole:
    """Where the hole of each picture comes from: of mask, boxes and freeform all that are given, else the record's own annotations.

    boxes: x, y, w, h in pixels. text: H W 3 uint8 -> N 4 2, the corners of regions. freeform: random strokes over at least that share. invert: of a
    mask, black is hole. dilate, feather: pixels.
    """

    mask: Masks | None = None
    boxes: Sequence[Sequence[float]] = ()
    text: Callable[[np.ndarray], np.ndarray] | None = None
    freeform: float | None = None
    chooser: Chooser = field(default_factory=Chooser)
    invert: bool = False
    dilate: int = 0
    feather: int = 0
    seed: int = 0

    @property
    def told(self) -> bool:
        """Whether it is said apart from the records."""
        return self.mask is not None or bool(self.boxes) or self.freeform is not None or self.text is not None

    def find(self, record: Record, pixels: np.ndarray, number: int) -> np.ndarray:
        """H W bool of a picture H W 3, not grown yet. number: of the picture, for the random strokes. Raises InputError where nothing says what the
        hole is, and for one that is empty or everything though a mask or a box was given; a picture may well have no text."""
        height, width = pixels.shape[:2]
        if not self.told:
            if not isinstance(record.get("annotations"), list):
                raise InputError("nothing says what is to be filled", hint="--mask, --box, --text-boxes, or records with boxes or segmentations")
            return holes.of_annotations(self.chooser(record), width, height)
        found = np.zeros((height, width), bool)
        if self.mask is not None:
            mask = self.mask.find(record, width, height)
            found |= ~mask if self.invert else mask
        for box in self.boxes:
            found |= holes.of_box(box, width, height)
        if self.text is not None:
            found |= holes.of_annotations([{"segmentation": [quad.ravel().tolist()]} for quad in self.text(pixels)], width, height)
        if self.freeform is not None:
            chance = np.random.default_rng((self.seed, number))
            found |= Freeform(share=self.freeform).draw(width, height, chance)
        if not found.any() and self.text is None and not (self.mask is not None and self.mask.annotated):
            hint = "white or 1 is hole; --invert-mask if it is black" if self.mask is not None else f"the picture is {width} x {height}"
            raise InputError("the mask has no hole" if self.mask is not None else "no box lies in the picture", hint=hint)
        return found


@dataclass
class Filled:
    """One picture. record: of the old one, or with `error`. values: as the file has them, filled. changed: H W bool; none of it, and the file can be
    copied as it is."""

    record: Record
    number: int = 0  # of the record among all that came
    original: rewrite.Original | None = None
    values: np.ndarray | None = None
    changed: np.ndarray | None = None
    maker: dict[str, Any] = field(default_factory=dict)
    left: list[dict[str, Any]] | None = None  # annotations of what is still to be seen

    def saved_as(self, path: str | os.PathLike) -> Record:
        """The record of the new picture: `file_name` is it, `source` the old; annotations of what was filled are gone."""
        assert self.values is not None
        height, width = self.values.shape[:2]
        earlier = self.record.get("made_by")
        history = [*(earlier if isinstance(earlier, list) else []), self.maker] if self.maker else earlier
        other = self.record.changed(
            file_name=os.fspath(path), source=self.record.get("file_name"), width=width, height=height, page=None, made_by=history
        )
        if self.left is not None:
            other["annotations"] = self.left
        other.data = None
        return other


def default() -> Reference:
    """The model that is taken where none is named: the first that needs no training."""
    own = [entry.name for entry in registry.catalogue().values() if entry.verb == "inpaint" and not entry.recipe and not entry.weights]
    return registry.parse(own[0])


def inpaint(
    records: Iterable[Record],
    model: str | Reference,
    *,
    hole: Hole,
    seed: int | None = None,
    tile: int | None = None,
    sketch: Masks | None = None,
    options: Mapping[str, Any] | None = None,
    wanted: Callable[[int, Record], bool] | None = None,
    device: str = "auto",
    precision: str = "fp32",
    offline: bool = False,
    report: Report | None = None,
    facts: dict[str, str] | None = None,
) -> Generator[Filled, None, None]:
    """Each record with its hole filled, in order, one at a time; a picture that cannot be used is a record with `error`, and the rest go on.

    A record whose annotations leave no hole comes as it is. seed: of a model that leaves something to chance; default 0. tile: side of the windows in
    which it is shown the picture, in the picture's pixels. sketch: lines that shall be in the hole, paired as masks are. options: some of `OPTIONS`.
    wanted: asked for each record by its number, from 0 on; those that are not are passed over, and what is drawn at random for the others stays.
    Raises UsageError for what the model does not take, ModelError.
    """
    reference = registry.parse(model) if isinstance(model, str) else model
    chosen = {key: value for key, value in (options or {}).items() if value is not None}
    with pool.lease(reference, device=device, precision=precision, offline=offline) as loaded:
        takes = _check(loaded, chosen, seed, hole, sketch)
        if facts is not None:
            facts["device"] = str(loaded.device) + ("" if precision == "fp32" else f" {precision}")
        chosen |= {"seed": seed or 0} if "seed" in takes else {}
        maker = made_by("inpaint", loaded.reference, weights_sha256=loaded.info.sha256, categories=[], **{k: chosen[k] for k in sorted(chosen)})
        for number, record in enumerate(records):
            if wanted is not None and not wanted(number, record):
                continue
            if record.failed:
                yield Filled(record, number)
                continue
            try:
                yield _filled(record, loaded, hole, number, tile, sketch, chosen, maker, report)
            except InputError as error:
                yield Filled(record.with_error(error.what + (f" ({error.hint})" if error.hint else "")), number)


def _check(loaded: Loaded, options: Mapping[str, Any], seed: int | None, hole: Hole, sketch: Masks | None) -> list[str]:
    """What the model's `fill` takes. Raises UsageError for one that fills nothing, or does not take one of the options."""
    if not hasattr(loaded.model, "fill"):
        raise UsageError(f"{loaded.reference} fills no holes", hint="`cvtool models list --verb inpaint` shows what does")
    takes = list(inspect.signature(loaded.model.fill).parameters)
    known = [f"--{name}" for name in OPTIONS if name in takes]
    for name in options:
        if name not in takes:
            hint = f"it takes {', '.join(known)}" if known else "it takes none of that kind"
            raise UsageError(f"--{name} has no effect on {loaded.reference}", hint=hint)
    if sketch is not None and "guidance" not in takes:
        raise UsageError(f"--sketch has no effect on {loaded.reference}", hint="leave it out")
    if seed is not None and "seed" not in takes and hole.freeform is None:
        raise UsageError(f"--seed has no effect on {loaded.reference}, which leaves nothing to chance", hint="leave it out")
    return takes


def _filled(
    record: Record,
    loaded: Loaded,
    hole: Hole,
    number: int,
    tile: int | None,
    sketch: Masks | None,
    options: Mapping[str, Any],
    maker: dict[str, Any],
    report: Report | None,
) -> Filled:
    page = record.get("page", 0)
    original = rewrite.read(record.source(), page=page if isinstance(page, int) else 0)
    height, width = original.seen.shape[:2]
    found = hole.find(record, original.seen, number)
    left = None
    if not hole.told:
        gone = [id(entry) for entry in hole.chooser(record)]
        left = [entry for entry in record["annotations"] if id(entry) not in gone]
    if not found.any():
        if report is not None:
            report(f"{record.name}: no hole, so it stays as it is")
        return Filled(record, number, original, original.values, found, left=left)
    weights = holes.weights(holes.grown(found, hole.dilate), hole.feather)
    changed = weights > 0
    if changed.all():
        raise InputError("the hole is the whole picture, so that nothing is left to go by")

    def show(images: Tensor, masks: Tensor, guidance: Tensor | None) -> Tensor:
        told = {} if guidance is None else {"guidance": guidance.to(loaded.device)}
        with torch.inference_mode(), loaded.autocast():
            made = loaded.model.fill(images.to(loaded.device), masks.to(loaded.device), **options, **told)
        if not made.isfinite().all():
            raise ModelError(
                f"{loaded.reference} made a picture that is NaN or infinite", hint="its weights are damaged, or fp16 is too narrow for it"
            )
        return made

    drawn = None if sketch is None else sketch.find(record, width, height)
    picture = _surroundings.fill(original.seen, changed, loaded.model, show, tile=tile, sketch=drawn)
    return Filled(record, number, original, original.painted(picture, weights), changed, maker, left)
