"""Draw boxes, masks, keypoints and labels on their pictures: to files, as a contact sheet, or one picture to a pipe.

INPUT is records of other verbs (- or .jsonl), a COCO file (its ground truth is drawn), or COCO results together with --gt; or --data names a data
set. With -o the pictures keep their names and kind of file, and a piped stdout carries records of the new pictures; without -o exactly one
picture goes to a pipe as PNG. Colours belong to the categories' names. Pictures under 320 pixels are enlarged; --scale 1 leaves every size.
Objects scored under 0.25 are not drawn unless --conf says so.
--augment shows each picture as training would see it, --samples times, with its boxes, masks and keypoints moved along: a.jpg gives a-1.jpg ...

Examples:

    cvtool detect street.jpg -m faster-rcnn | cvtool visualize - -o seen/
    cvtool visualize val.json --images val2017/ --classes person,car --grid sheet.jpg
    cvtool visualize dt.json --gt val.json --conf 0.3 -o compared/
    cvtool segment cat.jpg -m mask-rcnn | cvtool visualize - > cat.png
    cvtool visualize val.json --augment flip,randaugment:2,9 --grid sheet.png
    cvtool visualize runs/0007 runs/0008 -o curves.png
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable, Iterator
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cvtool.cli import _curves, _output
from cvtool.cli import _options as opt
from cvtool.cli._console import Console
from cvtool.cli._pictures import KINDS, Target, save, to_stdout
from cvtool.errors import InputError, UsageError
from cvtool.render import figures

if TYPE_CHECKING:
    from cvtool.records import Record

ColorBy = Annotated[
    Literal["category", "instance"] | None,
    typer.Option("--color-by", help="A colour for each category (neighbours in shades of it), or for each object. [default: category]"),
]
Augment = Annotated[str | None, typer.Option("--augment", metavar="NAME,...", help="Draw what training would see, such as flip,randaugment:2,9.")]
GroundTruth = Annotated[str | None, typer.Option("--gt", metavar="PATH", help="This ground truth beside it: a COCO file, JSON lines or a data set.")]
LabelNames = Annotated[bool, typer.Option("--labels/--no-labels", help="Names and scores, legends.")]
LineWidth = Annotated[float | None, typer.Option("--line-width", min=1.0, max=1000.0, metavar="N", help="Pixels (default: by the picture's size).")]
Samples = Annotated[int | None, typer.Option("--samples", min=1, metavar="N", help="Pictures made of each with --augment. [default: 8]")]
Scale = Annotated[float | None, typer.Option("--scale", min=0.01, max=64.0, metavar="N", help="The picture N times as large (default: see above).")]


def main(
    context: typer.Context,
    inputs: opt.Inputs = None,
    output: opt.Output = None,
    classes: opt.Classes = None,
    conf: opt.Conf = None,
    max_det: opt.MaxDet = None,
    gt: GroundTruth = None,
    grid: opt.Grid = None,
    names: LabelNames = True,
    color_by: ColorBy = None,
    line_width: LineWidth = None,
    scale: Scale = None,
    augment: Augment = None,
    samples: Samples = None,
    seed: opt.Seed = None,
    smooth: _curves.Smooth = None,
    data: opt.Data = None,
    split: opt.Split = None,
    data_format: opt.DataFormat = None,
    images: opt.Images = None,
    files_from: opt.FilesFrom = None,
    overwrite: opt.Overwrite = False,
    config: opt.Config = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
    **figure_options: Any,
) -> None:
    console = Console("visualize", quiet=quiet, verbose=verbose)
    given = list(inputs or ())
    varying = {"augment": augment, "samples": samples, "seed": seed}
    drawing = {"classes": opt.split_commas(classes), "conf": conf, "max_det": max_det, "color_by": color_by, "line_width": line_width, "scale": scale}
    reading = {"gt": gt, "data": data, "split": split, "data_format": data_format, "images": images, "files0_from": files_from}
    name = given[0] if given and given[0] in figures.catalogue() and not os.path.lexists(given[0]) else None
    typed = {option for option in context.params if getattr(context.get_parameter_source(option), "name", "") == "COMMANDLINE"}
    known = figures.catalogue()[name][1] if name is not None else {}
    chosen = _figure_options(name, figure_options | {option: value for option, value in varying.items() if option in known}, typed)
    target = Target(output, overwrite, grid)
    if given and given[0] == "augment" and not os.path.lexists("augment"):
        raise UsageError("no such figure: augment", hint="pictures as training sees them: cvtool visualize IMG --augment flip --grid s.png")
    if name is not None:
        spelt = {"files_from": "files0-from", "names": "labels"}
        for option in [*(drawing | reading | varying), "files_from", "grid", "names", "smooth"]:
            if option in typed and option not in chosen:
                raise UsageError(f"--{spelt.get(option, option).replace('_', '-')} has no effect on the figure '{name}'")
        _draw_figure(name, given[1:], chosen, target)
        return
    if _curves.are_runs(given):
        if target.many:
            raise UsageError("curves of runs are one picture; give -o a file", where=f"-o {target.path}")
        target.put(_curves.draw(given, smooth, typed))
        return
    if smooth is not None:
        raise UsageError("--smooth has no effect without run folders", hint="such as: cvtool visualize runs/0001 runs/0002 -o curves.png")
    records = _varied(_records(given, reading), varying, gt, typed)
    if not target.many and (target.path is not None or grid is None):
        records = _exactly_one(records)
    _draw(records, target, console, drawing | {"color_by": color_by or "category", "names": names}, reading)


def _varied(records: Iterable[Record], varying: dict[str, Any], gt: str | None, typed: set[str]) -> Iterable[Record]:
    """The records as they are, or augmented."""
    if varying["augment"] is None:
        for option in ("samples", "seed"):
            if option in typed:
                raise UsageError(f"--{option} has no effect without --augment", hint="such as --augment randaugment:2,9")
        return records
    if gt is not None:
        raise UsageError("--gt and --augment exclude each other: the truth beside the picture would not move with it")
    from cvtool.tasks.augment import augmented

    return augmented(records, varying["augment"], samples=varying["samples"] or 8, seed=varying["seed"] or 0)


def _with_figures(function: Any) -> str:
    """Add the options of all figures to the command; returns the help that lists the figures."""
    merged: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    lines = []
    for figure, (summary, options) in figures.catalogue().items():
        needed = "".join(f" --{name} {facts['metavar']}" for name, facts in options.items() if facts["default"] is None)
        lines += [f"    cvtool visualize {figure}{' IMG' if figures.pictured(figure) else ''}{needed}", f"        {summary}"]
        for name, facts in options.items():
            merged.setdefault(name, []).append((figure, facts))
    signature = inspect.signature(function, eval_str=True)
    own = {p.name: p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD}
    parameters = []
    for name, uses in merged.items():
        kind: Any = int | None if all(isinstance(facts["default"], int) for _, facts in uses) else str | None
        text = "; ".join(f"{figure}: {facts['help']}" + (f" [default: {d}]" if (d := facts["default"]) is not None else "") for figure, facts in uses)
        if name in own:  # one option for the command and the figures
            shared = copy(own[name].annotation.__metadata__[0])
            shared.help = f"{shared.help} {text}"
            own[name] = own[name].replace(annotation=Annotated[kind, shared])
            continue
        option = typer.Option(f"--{name.replace('_', '-')}", metavar=uses[0][1].get("metavar", "N"), help=text)
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]))
    function.__signature__ = signature.replace(parameters=[*own.values(), *parameters])
    return "\nFigures that explain, with the options marked by their names:\n\n" + "\n".join(lines) + "\n"


__doc__ = (__doc__ or "") + _with_figures(main)


def _figure_options(figure: str | None, given: dict[str, Any], typed: set[str]) -> dict[str, Any]:
    """The options of the figure, defaults filled in. Raises UsageError for those of another figure, or of none, that were `typed`: a config file
    or the environment may set them for other commands."""
    known = figures.catalogue()[figure][1] if figure is not None else {}
    for name, value in given.items():
        if value is not None and name in typed and name not in known:
            owners = [owner for owner, (_, options) in figures.catalogue().items() if name in options]
            option = f"--{name.replace('_', '-')}"
            what = f"{option} has no effect without a figure" if figure is None else f"{option} has no effect on the figure '{figure}'"
            raise UsageError(what, hint=f"it belongs to `cvtool visualize {owners[0]} IMG`")
    chosen = {name: given[name] if given.get(name) is not None else facts["default"] for name, facts in known.items()}
    for name, value in chosen.items():
        if value is None:
            option = f"--{name.replace('_', '-')} {known[name].get('metavar', 'N')}"
            raise UsageError(f"the figure '{figure}' needs {option}", hint=known[name]["help"])
    return chosen


def _records(given: list[str], reading: dict[str, Any]) -> Iterable[Record]:
    """What is to be drawn on: INPUTs, or a data set."""
    from cvtool.data import formats, inputs

    data, images = reading["data"], reading["images"]
    if data is not None:
        if given or reading["files0_from"] is not None:
            raise UsageError("INPUT and --data exclude each other")
        return _data_set(data, reading)
    for option in ("split", "data_format"):
        opt.needs(f"--{option.replace('_', '-')}", reading[option], "--data or --gt", reading["gt"])
    results = [text for text in given if text.lower().endswith(".json") and formats.get("coco-results").recognises(Path(text))]
    if not results:
        return inputs.read(given, images=images, files0_from=reading["files0_from"], keep_annotations=True)
    if len(given) > 1 or reading["files0_from"] is not None:
        raise UsageError(f"{results[0]} is COCO results, which is drawn alone", hint="give it as the only input, with --gt")
    if reading["gt"] is None:
        raise UsageError(f"{results[0]} is COCO results, which name no pictures", hint="add --gt with the COCO file that it belongs to")
    return _results(Path(results[0]), Path(reading["gt"]), images)


def _results(path: Path, gt: Path, images: Path | None) -> Iterator[Record]:
    """COCO results with the pictures and names of their ground truth."""
    from cvtool.data import formats

    if not formats.get("coco").recognises(gt):
        raise InputError("COCO results belong to a COCO file, which this is not", where=gt)
    found = formats.get("coco-results").read(path, images=gt)
    if images is None:
        yield from found
        return
    by_id = {record.get("id"): record for record in formats.get("coco").read(gt, images=images)}
    for record in found:
        yield record.changed(file_name=by_id[record.get("id")].get("file_name"))


def _data_set(path: str, reading: dict[str, Any]) -> Iterable[Record]:
    from cvtool.data import formats

    name = reading["data_format"] or formats.recognise(path)
    return formats.get(name).read(Path(path), images=reading["images"], split=reading["split"])


def _truth(reading: dict[str, Any]) -> Any:
    if reading["gt"] is None:
        return None
    from cvtool.tasks.visualize import Truth

    if str(reading["gt"]).lower().endswith((".jsonl", ".ndjson")):
        from cvtool.data import inputs

        return Truth(inputs.read([reading["gt"]], images=reading["images"], keep_annotations=True))
    return Truth(_data_set(reading["gt"], reading))


def _exactly_one(records: Iterable[Record]) -> Iterator[Record]:
    """The records, if there is one only; waits for the second or the end before the first is drawn."""
    stream = iter(records)
    first = next(stream, None)
    if first is not None and next(stream, None) is not None:
        raise UsageError("there is more than one picture", hint="add -o seen/ (a folder) or --grid sheet.png")
    return iter(() if first is None else (first,))


def _draw(records: Iterable[Record], target: Target, console: Console, options: dict[str, Any], reading: dict[str, Any]) -> None:
    from cvtool.records import write_line
    from cvtool.render.grid import ContactSheet
    from cvtool.tasks.visualize import visualize

    sheet = ContactSheet() if target.grid is not None else None
    wanted = target.path is not None or target.grid is None
    drawn = visualize(records, **options, truth=_truth(reading), sheet=sheet, pictures=wanted, report=console.say)
    tally = _output.Tally()
    objects: list[int] = []
    stream = _output.counted(_saved(drawn, target, objects), tally, console)
    lines = target.path is not None and not sys.stdout.isatty()
    try:
        for record in stream:
            if lines:
                write_line(record, sys.stdout)
    finally:
        stream.close()
        console.clear()
    if sheet is not None and sheet.count and target.grid is not None:
        save(sheet.image(), target.grid)
    if not tally.images and not tally.bad:
        raise InputError("there is no picture to draw on")
    places = [str(place) for place in (target.path, target.grid) if place is not None]
    tally.objects = sum(objects)  # those drawn, which --conf and others may have made fewer than there are
    if tally.images and places:
        console.say(tally.line([f"in {' and '.join(places)}"]))
    _output.conclude(tally)


def _saved(drawn: Iterator[Any], target: Target, objects: list[int]) -> Iterator[Record]:
    """Each picture written, as the record of the new one; bad ones as they are."""
    from cvtool.data.names import Names

    names = Names()
    for drawing in drawn:
        record = drawing.record
        objects.append(drawing.objects)
        if drawing.image is None:
            yield record
            continue
        if target.path is None:
            to_stdout(drawing.image)
            yield record
            continue
        path = target.path
        if target.many:
            suffix = Path(str(record.get("file_name"))).suffix
            path = target.path / names.take(record, suffix=suffix if suffix.lower() in KINDS else ".png")
        target.free(path, None if record.data is not None else drawing.source)
        save(drawing.image, path)
        yield drawing.saved_as(path)


def _draw_figure(name: str, given: list[str], options: dict[str, Any], target: Target) -> None:
    from cvtool.data import inputs

    if target.many:
        raise UsageError(f"the figure '{name}' is one picture; give -o a file", where=f"-o {target.path}")
    if not figures.pictured(name):
        if given:
            raise UsageError(f"the figure '{name}' is drawn of numbers, not of a picture", hint=f"leave {given[0]} out")
        source, image = None, figures.draw(name, None, options)
    else:
        record = next(iter(_exactly_one(inputs.read(given))))
        source, image = record.get("file_name"), figures.draw(name, record.pixels(), options)
    target.put(image, source)
