"""Convert, check, count, divide, cut up and enlarge data sets; learn anchors from one; hand out sample pictures."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cvtool.cli import _options, _synthesis
from cvtool.cli._console import Console
from cvtool.errors import InputError, PartialSuccess, UsageError

app = typer.Typer(no_args_is_help=False)
app.command()(_synthesis.synth)

Source = Annotated[str, typer.Argument(metavar="IN", help="A data set, or - for JSON lines on stdin.")]
Sources = Annotated[list[str], typer.Argument(metavar="PATH...", help="Data sets.")]
Out = Annotated[str, typer.Argument(metavar="OUT", help="A file or folder, or - for stdout.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Pictures by name.")]
CopyImages = Annotated[bool, typer.Option("--copy-images", help="Copy the pictures; without it, folders hold links to them.")]
Deep = Annotated[bool, typer.Option("--deep", help="Also decode every picture, which finds truncated ones.")]
From = Annotated[
    str | None,
    typer.Option(
        "--from", "--data-format", metavar="NAME", autocompletion=_options._complete_formats, help="IN's format, where looking is not enough."
    ),
]
Listing = Annotated[bool, typer.Option("--list", help="List what there is.")]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        "-f",
        "--format",
        metavar="NAME",
        autocompletion=_options._complete_formats,
        help="coco, jsonl, csv, voc, yolo, yolo-seg, masks, folder ...",
    ),
]
BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "coco", ".csv": "csv"}


@app.command()
def convert(
    source: Source,
    out: Out,
    to: To = None,
    from_: From = None,
    images: _options.Images = None,
    split: _options.Split = None,
    copy_images: CopyImages = False,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Write a data set in another format.

    Nothing is lost that the other format can hold; what it cannot is told on stderr, a line each.

        cvtool data convert bccd/ bccd.json
        cvtool data convert val.json val-yolo/ --to yolo --copy-images
        cvtool detect *.jpg -m faster-rcnn | cvtool data convert - boxes.csv
    """
    from cvtool.cli import _output

    name = to or (BY_SUFFIX.get(Path(out).suffix.lower()) if out != "-" and not out.endswith("/") else None)
    if name is None:
        raise UsageError("--to is missing: the name of OUT does not tell the format", hint="such as --to yolo, or end OUT in .json, .jsonl or .csv")

    from cvtool.data import formats
    from cvtool.tasks import data as task

    module = formats.get(name)
    folder = getattr(module, "SUFFIX", None) is None
    if copy_images and not folder:
        raise UsageError(f"--copy-images has no effect with --to {name}", hint="that format is one file, which names the pictures")
    if folder and out == "-":
        raise UsageError(f"{name} is a folder; it cannot go to stdout", hint="name a folder as OUT")
    if from_ is not None and source == "-":
        raise UsageError("--from has no effect on stdin", hint="stdin takes JSON lines or a COCO document")
    where = None if out == "-" else _output.target(out, name, overwrite=overwrite)
    if where is not None and os.path.exists(out) and os.path.exists(source) and os.path.samefile(source, out):
        raise UsageError("OUT is IN", hint="name another OUT")
    found = task.open_data(source, format=from_, images=images, split=split)
    console = Console("data convert", quiet=quiet)
    if where is None:
        count, failed, notes = task.convert(found, sys.stdout, name)
    else:
        assert where.path is not None
        count, failed, notes = _whole(where.path, lambda path: task.convert(found, path, name, copy_images=copy_images))
    for note in notes:
        console.say(note)
    console.say(f"{count:,} image{'' if count == 1 else 's'} written to {out} as {name}")
    if failed:
        raise PartialSuccess(f"{failed:,} of {count:,} images could not be read")


def _whole(path: Path, write: Any) -> Any:
    """Write a file or folder under a temporary name beside it, and rename it when it is whole."""
    from cvtool.cli import _output

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        result = write(temporary)
        if temporary.is_dir():
            _output.merge_folder(temporary, path)
        else:
            temporary.replace(path)
    except BaseException:
        _output.remove(temporary)
        raise
    return result


@app.command()
def check(
    paths: Sources,
    data_format: _options.DataFormat = None,
    images: _options.Images = None,
    split: _options.Split = None,
    deep: Deep = False,
    json_: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Find what is wrong with data sets: ids, categories, boxes, sizes, missing pictures.

    Each finding has a count and its first places: a table on a terminal, JSON lines in a pipe. Exit code 0 if there are no errors (warnings are
    no errors), 3 if there are.

        cvtool data check train.json val.json --images pictures/
        cvtool data check bccd/ | jq -r 'select(.severity == "error") | .where[]'
    """
    from cvtool.tasks import data as task

    found = task.check(paths, format=data_format, images=images, split=split, deep=deep)
    if json_ or not sys.stdout.isatty():
        for finding in found:
            print(json.dumps(finding, ensure_ascii=True))
    else:
        for finding in found:
            print(f"{finding['severity']}: {finding['check']}: {finding['count']:,} {finding['message']}")
            print("".join(f"    {place}\n" for place in finding["where"]), end="")
            if finding["count"] > len(finding["where"]):
                print(f"    and {finding['count'] - len(finding['where']):,} more")
    sys.stdout.flush()
    errors = sum(finding["count"] for finding in found if finding["severity"] == "error")
    warnings = sum(finding["count"] for finding in found if finding["severity"] == "warning")
    told = f"{errors:,} error{'' if errors == 1 else 's'}, {warnings:,} warning{'' if warnings == 1 else 's'}"
    if errors:
        raise InputError(told)
    Console("data check", quiet=quiet).say(told)


@app.command()
def stats(
    source: Annotated[str, typer.Argument(metavar="PATH", help="A data set, a folder of pictures, or - for JSON lines on stdin.")],
    data_format: _options.DataFormat = None,
    images: _options.Images = None,
    split: _options.Split = None,
    json_: _options.Json = False,
) -> None:
    """Count a data set: images, objects by category and size, objects an image.

    A table on a terminal; in a pipe, or with --json, one JSON object.

        cvtool data stats bccd/
        cvtool data stats val.json --json | jq '.categories | map(select(.objects == 0) | .name)'
    """
    from cvtool.tasks import data as task

    if data_format is not None and source == "-":
        raise UsageError("--data-format has no effect on stdin", hint="stdin takes JSON lines or a COCO document")
    found = task.stats(task.open_data(source, format=data_format, images=images, split=split))
    if json_ or not sys.stdout.isatty():
        print(json.dumps(found, ensure_ascii=True))
        return
    from cvtool.cli._table import stats as lines

    print("\n".join(lines(found)))


@app.command()
def split(
    source: Annotated[str, typer.Argument(metavar="IN", help="A data set without parts.")],
    fractions: Annotated[str | None, typer.Argument(metavar="N,N[,N]", help="Shares of train, val and test: 80,10,10 or 80,20.")] = None,
    output: _options.Output = None,
    seed: _options.Seed = None,
    to: To = None,
    from_: From = None,
    images: _options.Images = None,
    part: _options.Split = None,
    copy_images: CopyImages = False,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Divide a data set into parts, every class in the same proportions.

    The parts are those that `cvtool train --split 80,10,10 --seed N` learns from, validates on and leaves out, so that the test part can be
    evaluated on afterwards. Formats of one file give OUT/train.json, OUT/val.json ..., formats of folders one data set with parts.

        cvtool data split flowers/ 80,10,10 --seed 0 -o parts/
        cvtool evaluate --gt parts/ --split test --dt answers.jsonl
    """
    from cvtool.cli import _output
    from cvtool.data import formats
    from cvtool.tasks import data as task

    if fractions is None:  # `--split` is known from training, where it takes shares too
        if part is None or not part.replace(",", "").replace(".", "").isdigit():
            raise UsageError("the shares of the parts are missing", hint="such as: cvtool data split flowers/ 80,10,10 -o parts/")
        fractions, part = part, None
    if output is None or output == "-":
        raise UsageError("-o is missing: the folder for the parts", hint="such as: cvtool data split flowers/ 80,10,10 -o parts/")
    found = task.open_data(source, format=from_, images=images, split=part)
    name = to or (found.module.__name__.rpartition(".")[2] if found.module is not None else "jsonl")
    if copy_images and getattr(formats.get(name), "SUFFIX", None):
        raise UsageError(f"--copy-images has no effect with {name}", hint="that format is one file, which names the pictures")
    where = _output.target(output.rstrip("/") + "/", "folder", overwrite=overwrite)
    assert where.path is not None
    console = Console("data split", quiet=quiet)
    counts, notes = _whole(where.path, lambda path: task.split(found, fractions, path, seed=seed or 0, to=name, copy_images=copy_images))
    for note in notes:
        console.say(note)
    console.say(f"{', '.join(f'{part} {count:,}' for part, count in counts.items())} pictures written to {output} as {name.replace('_', '-')}")


@app.command()
def crops(
    source: Source,
    output: _options.Output = None,
    size: Annotated[int | None, typer.Option("--size", min=1, metavar="N", help="Squares around the boxes, brought to N x N pixels.")] = None,
    margin: Annotated[float, typer.Option("--margin", min=0.0, metavar="F", help="Beyond the box, as a share of its longer side.")] = 0.0,
    from_: From = None,
    images: _options.Images = None,
    part: _options.Split = None,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Cut out the objects of a data set: class folders of pictures, for what learns from one object a picture.

    Parts stay parts, unless --split takes one. Without --size each picture is as large as its box.

        cvtool data crops bccd/ --split trainval --size 64 --margin 0.1 -o cells/
        cvtool detect photos/ -m faster-rcnn | cvtool data crops - -o objects/
    """
    from cvtool.cli import _output
    from cvtool.tasks import _crops
    from cvtool.tasks import data as task

    if output is None or output == "-":
        raise UsageError("-o is missing: the folder for the pictures", hint="such as: -o objects/")
    where = _output.target(output.rstrip("/") + "/", "folder", overwrite=overwrite)
    assert where.path is not None
    found = task.open_data(source, format=from_, images=images, split=part)
    console = Console("data crops", quiet=quiet)
    counts, failed, notes = _whole(where.path, lambda path: _crops.crops(found, path, size=size, margin=margin))
    for note in notes:
        console.say(note)
    console.say(f"{sum(counts.values()):,} pictures in {output}: {', '.join(f'{name} {count:,}' for name, count in sorted(counts.items()))}")
    if failed:
        raise PartialSuccess(f"{failed:,} pictures could not be read")


@app.command()
def augment(
    source: Annotated[str, typer.Argument(metavar="IN", help="A data set of classes of pictures.")],
    n: Annotated[int, typer.Option("-n", min=1, metavar="N", help="Pictures to make for each class.")],
    output: _options.Output = None,
    generator: Annotated[str | None, typer.Option("--generator", metavar="REF", help="A trained generator: a run folder or a checkpoint.")] = None,
    autoencoder: Annotated[str | None, typer.Option("--autoencoder", metavar="REF", help="A trained autoencoder.")] = None,
    op: Annotated[
        Literal["noise", "interpolate", "extrapolate"] | None, typer.Option("--op", help="What is done to its codes (default: interpolate).")
    ] = None,
    strength: Annotated[float | None, typer.Option("--strength", min=0.0, metavar="F", help="How much of it (default 0.5).")] = None,
    classes: _options.Classes = None,
    seed: _options.Seed = None,
    from_: From = None,
    images: _options.Images = None,
    copy_images: CopyImages = False,
    device: _options.Device = "auto",
    offline: _options.Offline = False,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Make a data set larger: its pictures, and N more of each class (or of --classes) that a trained network makes.

    A generator makes pictures out of noise; it is told the class, or was trained on the one class of --classes. An autoencoder draws pictures whose
    codes lie around those of the real ones: with noise, between two of a class, or beyond one of them. OUT is class folders.

        cvtool train -m dcgan --data flowers/ --set conditional=true && cvtool data augment flowers/ --generator runs/0001 -n 200 -o more/
        cvtool data augment flowers/ --autoencoder runs/0002 --op extrapolate -n 100 -o more/
        cvtool train -m resnet18 --data more/
    """
    from cvtool.cli import _output
    from cvtool.tasks import data as task

    if output is None or output == "-":
        raise UsageError("-o is missing: the folder for the larger data set", hint="such as: -o more/")
    if (generator is None) == (autoencoder is None):
        raise UsageError("--generator or --autoencoder says what makes the pictures", hint="give one of them")
    _options.needs("--op", op, "--autoencoder", autoencoder)
    _options.needs("--strength", strength, "--autoencoder", autoencoder)
    where = _output.target(output.rstrip("/") + "/", "folder", overwrite=overwrite)
    assert where.path is not None
    found = task.open_data(source, format=from_, images=images)
    console = Console("data augment", quiet=quiet)
    counts, notes = _whole(
        where.path,
        lambda path: task.augment(
            found, path, generator=generator, autoencoder=autoencoder, op=op, strength=strength, n=n, seed=seed or 0,
            classes=_options.split_commas(classes), copy_images=copy_images, device=device, offline=offline,
        ),
    )  # fmt: skip
    for note in notes:
        console.say(note)
    console.say(f"{sum(counts.values()):,} pictures made, of {', '.join(f'{name} {count:,}' for name, count in counts.items())}; all in {output}")


@app.command()
def anchors(
    source: Annotated[str, typer.Argument(metavar="IN", help="A data set of boxes.")],
    k: Annotated[int, typer.Option("-k", min=1, max=100, metavar="K", help="How many anchors.")] = 9,
    img_size: _options.ImgSize = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw boxes, anchors and the fit for 1 ... K.")] = None,
    data_format: _options.DataFormat = None,
    images: _options.Images = None,
    part: _options.Split = None,
    seed: _options.Seed = None,
    overwrite: _options.Overwrite = False,
    json_: _options.Json = False,
) -> None:
    """Learn anchors from a data set's boxes: k-means over width and height with the distance 1 - IoU.

    With --img-size the boxes are measured as they are when the longer side of their picture is made that long. A table on a terminal; in a pipe, or
    with --json, one JSON object.

        cvtool data anchors bccd/ -k 9 --img-size 416
        cvtool data anchors train.json -k 5 --plot anchors.png | jq -c .anchors
    """
    from cvtool.tasks import data as task

    if plot is not None and plot.exists() and (plot.is_dir() or not overwrite):
        raise UsageError(f"{plot} exists", hint="--plot names a PNG to draw; --overwrite replaces it")
    _options.needs("--overwrite", overwrite, "--plot", plot)
    found = task.anchors(task.open_data(source, format=data_format, images=images, split=part), k, img_size=img_size or 0, seed=seed or 0, plot=plot)
    if json_ or not sys.stdout.isatty():
        print(json.dumps(found, ensure_ascii=True))
        return
    for w, h in found["anchors"]:
        print(f"{w:8.1f} x {h:.1f}")
    print(f"mean IoU {found['mean_iou']:.4f} with the best of {k}; {100 * found['recall']:.1f} % of {found['boxes']:,} boxes above 0.5")


@app.command()
def sample(
    names: Names = None,
    output: _options.Output = None,
    listing: Listing = False,
    overwrite: _options.Overwrite = False,
) -> None:
    """Hand out sample pictures that scikit-image and scikit-learn carry; no network.

    Copies go to the current folder, or to -o DIR; their paths are printed, one a line. `-o -` gives one picture's bytes to a pipe. Without a name
    (or with --list) the names are listed.

        cvtool data sample astronaut coffee -o pictures/
        cvtool data sample astronaut -o - | cvtool detect - -m viola-jones
    """
    from cvtool.tasks import data as task

    if listing or not names:
        for option, given in (("NAME", listing and names), ("--output", output), ("--overwrite", overwrite)):
            if given:
                raise UsageError(f"{option} has no effect on a listing", hint="name pictures, without --list, to have copies of them")
        _list(task.samples())
        return
    if output in ("-", "/dev/stdout"):
        if len(names) > 1:
            raise UsageError("-o - takes one picture", hint="name a folder with -o")
        if sys.stdout.isatty():
            raise UsageError("a picture's bytes are not for a terminal", hint="pipe them on, or leave -o - out")
        if overwrite:
            raise UsageError("--overwrite has no effect with -o -")
        sys.stdout.buffer.write(task.sample(names[0]).read_bytes())
        return
    folder = Path(output or ".").expanduser()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {output} is a file", hint="name a folder")
    for path in task.hand_out(names, folder, overwrite=overwrite):
        print(path)


def _list(found: dict[str, tuple[Path, str]]) -> None:
    if not found:
        raise InputError("no sample pictures on this machine", hint="they come with scikit-image and scikit-learn: pip install scikit-image")
    width = max(map(len, found))
    for name, (_, text) in found.items():
        print(f"{name:{width}}  {text}" if sys.stdout.isatty() else name)
