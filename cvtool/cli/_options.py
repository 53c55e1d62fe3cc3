"""Every option that two verbs share, defined once: one name, one meaning, one help line. Sorted by name.

A verb takes what it needs, `def main(inputs: Inputs, conf: Conf = None)`, and passes on only what was given: None means "not given",
so that the model's own default holds. Each option can also be set by the environment (`CVTOOL_CONF=0.5`) and by a key of the TOML file
given with -c (`conf = 0.5`): command line > environment > file > built-in. Other spellings that people type are in `SPELLINGS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cvtool.cli import _config
from cvtool.errors import UsageError

SPELLINGS = {  # another spelling -> the option's name, understood by every verb that has the option and none of that spelling
    "amp-dtype": "precision", "batch": "batch-size", "checkpoint": "model", "exist-ok": "overwrite", "gpu": "device", "imgsz": "img-size",
    "image-size": "img-size", "iou-threshold": "iou", "max-detections": "max-det", "num-workers": "workers", "out": "output",
    "overlap-ratio": "overlap", "score-threshold": "conf", "slice-size": "tile", "tile-size": "tile", "weights": "model",
}  # fmt: skip


def option(name: str, *short: str, help: str, **more: Any) -> Any:
    """A typer option `--name` that the environment can set as CVTOOL_NAME."""
    return typer.Option(*short, f"--{name}", help=help, envvar="CVTOOL_" + name.upper().replace("-", "_"), show_envvar=False, **more)


def _complete_models(incomplete: str) -> list[str]:
    from cvtool.tasks.models import names

    return names(incomplete)


def _complete_formats(incomplete: str) -> list[str]:
    from cvtool.data import formats

    return [name for name in formats.names() if name.startswith(incomplete)]


Inputs = Annotated[
    list[str] | None,
    typer.Argument(metavar="INPUT", help="Images, folders, globs, @list.txt, a COCO file, JSON lines, or - (records or image bytes)."),
]

BatchSize = Annotated[int | None, option("batch-size", "-b", min=1, metavar="N", help="Images at a time (default 1 on a CPU, 8 on a GPU).")]
Classes = Annotated[list[str] | None, option("classes", metavar="NAME,...", help="Keep only these categories, by name or id.")]
Conf = Annotated[float | None, option("conf", min=0.0, max=1.0, metavar="F", help="Least score of what is kept.")]
Config = Annotated[
    Path | None,
    option("config", "-c", metavar="FILE.toml", is_eager=True, callback=_config.apply, help="Options from a file: `conf = 0.5`, or under [VERB]."),
]
Data = Annotated[str | None, option("data", metavar="PATH", help="A data set: COCO, YOLO, VOC, lists, image/mask or class folders.")]
DataFormat = Annotated[
    str | None, option("data-format", metavar="NAME", autocompletion=_complete_formats, help="The data set's format, where looking is not enough.")
]
Deterministic = Annotated[bool, option("deterministic", help="Only operations that give the same bits each time; slower.")]
Device = Annotated[str, option("device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
FilesFrom = Annotated[
    Path | None, option("files0-from", metavar="FILE", help="Read input names, each ended by a NUL (find -print0), from FILE or -.")
]
Format = Annotated[
    str | None,
    option(
        "format", "-f", metavar="NAME", autocompletion=_complete_formats, help="jsonl, coco, coco-results, csv, yolo, voc, table (default: by -o)."
    ),
]
Grid = Annotated[Path | None, option("grid", metavar="FILE", help="Also one contact sheet of all pictures.")]
Images = Annotated[Path | None, option("images", metavar="DIR", help="Where the file names inside a COCO, VOC or JSON-lines file lie.")]
ImgSize = Annotated[int | None, option("img-size", min=16, metavar="N", help="Size at which the model sees an image (default: its own).")]
IoU = Annotated[float | None, option("iou", min=0.0, max=1.0, metavar="F", help="Overlap above which of two boxes of a class the weaker goes.")]
Json = Annotated[bool, option("json", help="One JSON object on stdout.")]
MaxDet = Annotated[int | None, option("max-det", min=1, metavar="N", help="At most so many objects an image, best first (evaluate: a category).")]
Model = Annotated[
    str | None,
    option(
        "model", "-m", metavar="REF", autocompletion=_complete_models, help="NAME[.VARIANT][@WEIGHTS], SOURCE:NAME, a checkpoint or a run folder."
    ),
]
Offline = Annotated[bool, option("offline", help="Never touch the network.")]
Output = Annotated[str | None, option("output", "-o", metavar="PATH", help="Write here, not to stdout; a name ending in / is a folder.")]
Overlap = Annotated[float | None, option("overlap", min=0.0, max=0.9, metavar="F", help="Part of a tile that the next one repeats (default 0.2).")]
Overwrite = Annotated[bool, option("overwrite", help="Replace what -o names, if it exists.")]
Precision = Annotated[
    Literal["fp32", "fp16", "bf16"], option("precision", metavar="NAME", help="fp32, fp16 or bf16: what the network computes with.")
]
Quiet = Annotated[bool, option("quiet", "-q", help="Nothing on stderr but errors.")]
Resume = Annotated[bool, option("resume", help="Go on where an interrupted run stopped.")]
SaveCrops = Annotated[Path | None, option("save-crops", metavar="DIR", help="A picture of each object: DIR/CATEGORY/NAME_N.jpg.")]
Seed = Annotated[int | None, option("seed", min=0, metavar="N", help="Seed of everything random.")]
Set = Annotated[list[str] | None, option("set", metavar="KEY=VALUE", help="One setting of the recipe; repeatable.")]
Shard = Annotated[str | None, option("shard", metavar="I/N", help="Do the I-th of N equal parts (1/4 ... 4/4); torchrun does it by itself.")]
Split = Annotated[str | None, option("split", metavar="NAME", help="Part of the data set: train, val, test ...; training: or shares, 80,10,10.")]
Tile = Annotated[int | None, option("tile", min=32, metavar="N", help="Look at windows of N x N pixels, for objects small in a large image.")]
Tta = Annotated[
    str | None,
    option("tta", metavar="VIEW,...", help="Look again and join the answers: hflip, vflip, scale:0.75,1.25; each flip at each size is a look."),
]
Verbose = Annotated[int, option("verbose", "-v", count=True, show_default=False, help="Say more on stderr.")]
Workers = Annotated[int | None, option("workers", "-j", min=0, metavar="N", help="Threads (training: processes) that read images ahead.")]


def split_commas(values: Iterable[str] | None) -> list[str] | None:
    """`--classes person,car --classes dog` -> ["person", "car", "dog"]; None when not given."""
    words = [word.strip() for value in values or () for word in value.split(",")]
    return [word for word in words if word] or None


def settings(values: Sequence[str] | None) -> dict[str, Any]:
    """`--set lr=0.01 --set ema=true --set "steps=[8, 11]"` -> a dict. A value is read as TOML and, where that fails, as plain text."""
    import tomllib

    found: dict[str, Any] = {}
    for text in values or ():
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise UsageError(f"--set takes KEY=VALUE, not '{text}'")
        if key in found:
            raise UsageError(f"--set {key} is given twice")
        try:
            found[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[key] = value.strip()
    return found


def shard(text: str | None) -> tuple[int, int] | None:
    """`2/4` -> (1, 4): the second of four parts, counted from 0 inside the program."""
    if text is None:
        return None
    if not (match := re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)) or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard takes I/N with I from 1 to N, such as 1/4, not '{text}'")
    return int(match[1]) - 1, int(match[2])


def needs(option: str, given: Any, other: str, other_given: Any) -> None:
    """Refuse `option` where it would have no effect because `other` was not given."""
    if given not in (None, False) and other_given in (None, False):
        raise UsageError(f"{option} has no effect without {other}", hint=f"add {other} or leave {option} out")
