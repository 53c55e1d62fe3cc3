"""Fill holes in pictures: what a mask, a box or another verb's objects mark is painted over from its surroundings.

White or 1 is hole. --mask names one mask for all pictures, a folder whose masks are paired by stem (a.png or a_mask.png for a.jpg), a COCO file, or
JSON lines; --text-boxes finds the text. Without any of these the objects in the records that come in are the holes. --dilate makes holes larger,
--feather blends around them; beyond that every pixel stays as it is, to the bit in lossless files. Format, EXIF (upright), colour profile and
transparency are kept, and a JPEG is written with its own tables. Without -m a model is taken that needs no weights.

With -o a folder the pictures keep their names, and a piped stdout carries their records; --resume passes over those that the folder has already.
Without -o exactly one picture goes to a pipe.

Examples:

    cvtool inpaint photo.jpg --mask hole.png -o clean.jpg
    cvtool detect street.jpg -m faster-rcnn --classes car | cvtool inpaint - --dilate 8 -o empty/
    cvtool inpaint photos/ --mask masks/ --feather 4 -o clean/
    cvtool inpaint scan.png --box 40,60,200,30 > clean.png
    cvtool inpaint poster.jpg --text-boxes --dilate 3 -o without_words.jpg
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cvtool.cli import _options as opt
from cvtool.cli import _output, _ranks
from cvtool.cli._console import Console
from cvtool.cli._pictures import KINDS, Target, write
from cvtool.errors import CvtoolError, InputError, UsageError

if TYPE_CHECKING:
    from cvtool.data.names import Names
    from cvtool.records import Record
    from cvtool.tasks.inpaint import Filled

Mask = Annotated[str | None, typer.Option("--mask", metavar="PATH", help="A mask, a folder of masks, a COCO file, JSON lines, or -.")]
Box = Annotated[list[str] | None, typer.Option("--box", metavar="X,Y,W,H", help="A box of pixels is hole; repeatable.")]
TextBoxes = Annotated[bool, typer.Option("--text-boxes", help="Text is hole, wherever it is found.")]
Detector = Annotated[str | None, typer.Option("--detector", metavar="REF", help="What finds the text (default: auto, looks at the picture).")]
FreeForm = Annotated[float | None, typer.Option("--freeform", metavar="SHARE", help="Random strokes over this share of the picture are hole.")]
Invert = Annotated[bool, typer.Option("--invert-mask", help="Black or 0 is hole.")]
Dilate = Annotated[int | None, typer.Option("--dilate", min=0, max=10000, metavar="N", help="The hole is larger by N pixels all around.")]
Feather = Annotated[int | None, typer.Option("--feather", min=0, max=10000, metavar="N", help="Blend old and new over N pixels around the hole.")]
Sketch = Annotated[Path | None, typer.Option("--sketch", metavar="PATH", help="White lines that shall be in the hole, paired as masks are.")]
Patch = Annotated[int | None, typer.Option("--patch", metavar="N", help="Side of the patches, odd, for a model that compares patches.")]
Temperature = Annotated[float | None, typer.Option("--temperature", min=0.0, metavar="F", help="Of what is drawn value by value.")]
Kind = Annotated[
    Literal["jpg", "png", "webp", "tif", "bmp"] | None,
    opt.option("format", "-f", metavar="NAME", help="jpg, png, webp, tif or bmp (default: as the picture is)."),
]


def main(
    inputs: opt.Inputs = None,
    mask: Mask = None,
    box: Box = None,
    text_boxes: TextBoxes = False,
    detector: Detector = None,
    freeform: FreeForm = None,
    classes: opt.Classes = None,
    conf: opt.Conf = None,
    invert_mask: Invert = False,
    dilate: Dilate = None,
    feather: Feather = None,
    model: opt.Model = None,
    output: opt.Output = None,
    format: Kind = None,
    seed: opt.Seed = None,
    sketch: Sketch = None,
    patch: Patch = None,
    temperature: Temperature = None,
    tile: opt.Tile = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "fp32",
    images: opt.Images = None,
    files_from: opt.FilesFrom = None,
    shard: opt.Shard = None,
    overwrite: opt.Overwrite = False,
    resume: opt.Resume = False,
    deterministic: opt.Deterministic = False,
    offline: opt.Offline = False,
    config: opt.Config = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
) -> None:
    console = Console("inpaint", quiet=quiet, verbose=verbose)
    opt.needs("--invert-mask", invert_mask, "--mask", mask)
    opt.needs("--detector", detector, "--text-boxes", text_boxes or None)
    boxes = [_box(text) for text in box or ()]
    if freeform is not None and not 0 < freeform <= 0.9:
        raise UsageError(f"--freeform {freeform:g} is not a share above 0 and at most 0.9")
    if mask == "-" and ("-" in (inputs or ()) or str(files_from) == "-"):
        raise UsageError("stdin can be read only once")
    ranks = _ranks.from_environment(output, shard)
    target = Target(output, overwrite, None)
    if overwrite and resume:
        raise UsageError("--overwrite and --resume exclude each other")
    if resume and not target.many:
        raise UsageError("--resume has no effect without -o DIR/", hint="a folder that holds what is done already")
    if ranks is not None and not target.many:
        raise UsageError("a run under torchrun needs -o DIR/", hint="its processes put their pictures together there")
    if format is not None and target.path is not None and not target.many:
        raise UsageError("-f has no effect on -o FILE, whose name tells the kind of picture", hint="leave it out")

    from cvtool.data import inputs as reading
    from cvtool.tasks._choose import choose

    records: Iterable[Record] = reading.read(inputs or [], images=images, files0_from=files_from, keep_annotations=True)
    reference = choose(model, "inpaint") if model is not None else None
    from cvtool import download
    from cvtool.data.holes import Chooser, Masks
    from cvtool.tasks import inpaint as task

    chooser = Chooser(opt.split_commas(classes), conf)
    masks = None if mask is None else Masks(mask, chooser)
    lines = None if sketch is None else Masks(str(sketch), Chooser(), "sketch")
    if (mask is not None or boxes or text_boxes or freeform is not None) and not (masks is not None and masks.annotated):
        for name, value in (("--classes", classes), ("--conf", conf)):
            if value is not None:
                raise UsageError(f"{name} has no effect where the hole is told without objects", hint="leave it out")
    if invert_mask and masks is not None and masks.annotated:
        raise UsageError("--invert-mask has no effect on annotations, which say where objects are", hint="leave it out")
    if deterministic:
        from cvtool.runtime.device import deterministic as settle

        settle()
    download.set_progress(console.transfer)
    texts = None
    if text_boxes:
        from cvtool.tasks.reading.finding import TextFinder

        texts = TextFinder(detector or "auto", device=device, offline=offline, report=console.say)
    hole = task.Hole(masks, boxes, texts, freeform, chooser, invert_mask, dilate or 0, feather or 0, seed or 0)
    if not target.many:
        records = _exactly_one(records)
    places = _Places(target, None if format is None else f".{format}", ranks.part if ranks else opt.shard(shard), resume)
    done = task.inpaint(
        records, reference or task.default(), hole=hole, seed=seed, tile=tile, sketch=lines, options={"patch": patch, "temperature": temperature},
        wanted=places.wanted, device=ranks.device(device) if ranks else device, precision=precision, offline=offline, report=console.say,
        facts=console.facts,
    )  # fmt: skip
    with texts or nullcontext():
        _deliver(done, places, console)


@dataclass
class _Places:
    """Where each picture goes: what it is called depends on all that came before it, whoever does those. part: (I, N), every N-th is done here.
    resume: what lies in the folder is done; `before` counts it."""

    target: Target
    suffix: str | None
    part: tuple[int, int] | None
    resume: bool
    before: int = 0
    stems: dict[int, str] = field(default_factory=dict)
    names: Names | None = None

    def wanted(self, number: int, record: Record) -> bool:
        """Whether a record is to be done here and now. Asked once for each, in order."""
        from cvtool.data.names import Names

        index, count = self.part or (0, 1)
        mine = number % count == index
        if not self.target.many or record.failed:
            return mine
        self.names = self.names or Names()
        stem = self.names.take(record, suffix="")
        if not mine:
            return False
        if self.resume and self._done(stem, None if record.data is not None else str(record.get("file_name"))):
            self.before += 1
            return False
        self.stems[number] = stem
        return True

    def _done(self, stem: str, source: str | None) -> bool:
        """Whether the folder has the picture, and it is not the source itself."""
        found = next((path for ending in ([self.suffix] if self.suffix else KINDS) if (path := self._path(stem + ending)).is_file()), None)
        return found is not None and not (source is not None and os.path.exists(source) and os.path.samefile(source, found))

    def _path(self, name: str) -> Path:
        assert self.target.path is not None
        return self.target.path / name

    def of(self, filled: Filled) -> tuple[Path | None, str]:
        """The file, None for stdout, and how its name ends."""
        ending = self.suffix or _suffix(filled)
        if self.target.many:
            return self._path(self.stems.pop(filled.number) + ending), ending
        path = self.target.path
        return path, ending if path is None else path.suffix.lower()


def _box(text: str) -> list[float]:
    try:
        found = [float(word) for word in text.split(",")]
        if len(found) != 4 or any(value - value for value in found) or found[2] <= 0 or found[3] <= 0:
            raise ValueError(text)
    except ValueError:
        raise UsageError(f"--box takes X,Y,WIDTH,HEIGHT in pixels, not '{text}'") from None
    return found


def _exactly_one(records: Iterable[Record]) -> Iterator[Record]:
    """The records, if there is one only; waits for the second or the end before the first is filled."""
    stream = iter(records)
    first = next(stream, None)
    if first is not None and next(stream, None) is not None:
        raise UsageError("there is more than one picture", hint="add -o clean/ (a folder)")
    return iter(() if first is None else (first,))


def _deliver(done: Iterator[Filled], places: _Places, console: Console) -> None:
    from cvtool.records import write_line

    tally, most, target = _output.Tally(), [0], places.target
    stream = _output.counted(_saved(done, places, console, most), tally, console)
    lines = target.path is not None and not sys.stdout.isatty()
    try:
        for record in stream:
            if lines:
                write_line(record, sys.stdout)
    finally:
        stream.close()
        console.clear()
    if not tally.images and not tally.bad and not places.before and not places.part:
        raise InputError("there is no picture to fill")
    if tally.images or places.before:
        tally.objects = 0  # those of the records are not what was done here
        told = [f"in {target.path}"] if target.path is not None else []
        told += [f"{places.before} done before"] if places.before else []
        told += [f"outside the holes changed by {most[0]} of 255 at most, because the format rounds"] if most[0] else []
        console.say(tally.line([*console.facts.values(), *told]))
    _output.conclude(tally, bool(places.before))


def _saved(done: Iterator[Filled], places: _Places, console: Console, most: list[int]) -> Iterator[Record]:
    """Each picture written, as the record of the new one; bad ones as they are. most: gets the largest change outside the holes."""
    for filled in done:
        if filled.original is None:
            yield filled.record
            continue
        path, ending = places.of(filled)
        try:
            data, changed = _encoded(filled, ending)
        except InputError as error:
            yield filled.record.with_error(error)
            continue
        if changed:
            console.detail(f"{filled.record.name}: outside the hole changed by {changed} of 255 at most")
            most[0] = max(most[0], changed)
        if path is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            yield filled.record
            continue
        places.target.free(path, None if filled.record.data is not None else str(filled.record.get("file_name")))
        write(data, path)
        yield filled.saved_as(path)


def _suffix(filled: Filled) -> str:
    """That of the source, if it tells the truth and is one that is written; else that of its kind, or .png."""
    assert filled.original is not None
    own, kind = Path(str(filled.record.get("file_name"))).suffix.lower(), filled.original.kind
    if own in KINDS and KINDS[own][0] == kind:
        return own
    return next((suffix for suffix, (known, _) in KINDS.items() if known == kind), ".png")


def _encoded(filled: Filled, suffix: str) -> tuple[bytes, int]:
    """The new file's bytes, and the largest change outside the hole. A picture without a hole is copied, where its kind stays."""
    from cvtool import archives
    from cvtool.data import rewrite

    assert filled.original is not None
    assert filled.values is not None
    assert filled.changed is not None
    kind, how = KINDS.get(suffix, KINDS[".png"])
    if kind == filled.original.kind and not filled.changed.any() and not filled.record.get("page"):
        source = filled.record.source()
        if isinstance(source, bytes):
            return source, 0
        with archives.opened(source) as file:
            return file.read(), 0
    try:
        data = filled.original.encoded(filled.values, kind, how)
    except (OSError, ValueError) as error:
        raise CvtoolError(f"{filled.record.name} cannot be written as {kind}", hint="use a name in .png") from error
    return data, 0 if rewrite.keeps(filled.original, kind) else rewrite.change(filled.original, data, ~filled.changed)
