"""Compare detections with ground truth: COCO's average precision and recall of boxes, masks or keypoints.

The numbers are those of pycocotools to the last bit, at many times its speed, and the pictures are not needed. What was matched, repaired
or left out is said on stderr; where nothing can be compared that is an error (exit code 3), never a score of 0. A pipe gets one JSON object.

--gt takes a COCO file, JSON lines or a data set (VOC, YOLO ...); --dt takes COCO results, a COCO file or JSON lines. Either may be - (stdin).
AP counts the best 100 detections of an image and class (keypoints: 20); --max-det N counts the best N.

Examples:

    cvtool evaluate --gt val.json --dt dt.json
    cvtool detect val/ -m faster-rcnn | cvtool evaluate --gt val.json --dt - --per-class
    cvtool evaluate --gt voc/ --split test --dt dt.json --json | jq .metrics.AP50
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cvtool.cli import _options as opt
from cvtool.cli._console import Console
from cvtool.errors import UsageError


def _own(name: str, help: str, **more: Any) -> Any:
    """An option that only this verb has; CVTOOL_NAME sets it too."""
    return typer.Option(f"--{name}", help=help, envvar="CVTOOL_" + name.upper().replace("-", "_"), show_envvar=False, **more)


GroundTruth = Annotated[str, _own("gt", "Ground truth: a COCO file, JSON lines, a data set, or -.", metavar="PATH")]
Detections = Annotated[str, _own("dt", "Detections: COCO results, a COCO file, JSON lines, or -.", metavar="PATH")]
IouType = Annotated[Literal["bbox", "segm", "keypoints"], _own("iou-type", "What is compared: boxes, masks or keypoints.")]
PerClass = Annotated[bool, _own("per-class", "The numbers of every class too.")]
Backend = Annotated[Literal["auto", "hotcoco", "pycocotools"], _own("backend", "The engine; both give the same numbers.")]

THINGS = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints"}
SIZES = {"s": "small objects, under 32 x 32 pixels", "m": "medium objects, 32 x 32 to 96 x 96", "l": "large objects, over 96 x 96"}


def main(
    gt: GroundTruth,
    dt: Detections,
    iou_type: IouType = "bbox",
    max_det: opt.MaxDet = None,
    classes: opt.Classes = None,
    per_class: PerClass = False,
    split: opt.Split = None,
    data_format: opt.DataFormat = None,
    backend: Backend = "auto",
    as_json: opt.Json = False,
    output: opt.Output = None,
    overwrite: opt.Overwrite = False,
    config: opt.Config = None,
    quiet: opt.Quiet = False,
) -> None:
    path = _free(output, overwrite)
    from cvtool.tasks.evaluate import evaluate

    report = evaluate(
        gt,
        dt,
        iou_type=iou_type,
        max_det=max_det,
        classes=opt.split_commas(classes),
        per_class=per_class,
        split=split,
        data_format=data_format,
        backend=backend,
    )
    console = Console("evaluate", quiet=quiet)
    console.say(report["matching"])
    for warning in report["warnings"]:
        console.say(f"warning: {warning}")
    if path is not None:
        _write(path, text(report))
    if sys.stdout.isatty() and not as_json:
        print("\n".join(table(report)))
    elif path is None:
        print(text(report))


def _free(output: str | None, overwrite: bool) -> Path | None:
    """Where the report goes, None for stdout; refused before the work begins, not after it."""
    if output in (None, "-", "/dev/stdout"):
        opt.needs("--overwrite", overwrite, "-o FILE", None)
        return None
    assert output is not None
    path = Path(output).expanduser()
    if output.endswith("/") or path.is_dir():
        raise UsageError(f"{output} is a folder", hint="-o names the JSON file to write")
    if path.is_file() and not overwrite:
        raise UsageError(f"{path} exists", hint="--overwrite to replace it, or another -o")
    return path


def _write(path: Path, content: str) -> None:
    from cvtool.data.formats._files import output_text

    if path.exists() and not path.is_file():  # /dev/null, a named pipe
        path.write_text(content + "\n", encoding="utf-8")
        return
    with output_text(path) as stream:
        stream.write(content + "\n")


def text(report: dict[str, Any]) -> str:
    """The report as one JSON object, a line a key."""
    rows = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}" for key, value in report.items())
    return "{" + ",\n ".join(rows) + "}"


def table(report: dict[str, Any]) -> list[str]:
    """The report for people: each number with its name in words, then a row a class if they were asked for."""
    counts, limits = report["counts"], report["params"]["max_dets"]
    images, found, objects = (
        _count(counts[key], word) for key, word in (("images", "image"), ("detections", "detection"), ("annotations", "object"))
    )
    classes = _count(counts["categories"], "class", "classes")
    lines = [f"{THINGS[report['iou_type']]} in {images}: {found} against {objects} of {classes}", ""]
    metrics = {key: value for key, value in report["metrics"].items() if not key.startswith("per_class.")}
    lines += [f"  {key:6} {_number(value)}   {_words(key, limits)}" for key, value in metrics.items()]
    rows = report.get("per_class")
    if rows:
        width = max(len("class"), *map(len, rows))
        lines += ["", f"  {'class':{width}}  " + "  ".join(f"{key:>6}" for key in metrics)]
        lines += [f"  {name:{width}}  " + "  ".join(_number(value) for value in row.values()) for name, row in rows.items()]
    return lines


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _number(value: float | None) -> str:
    return "     -" if value is None else f"{value:6.4f}"


def _words(key: str, limits: list[int]) -> str:
    kind, rest = ("average precision" if key.startswith("AP") else "average recall"), key[2:]
    if rest in SIZES:
        return f"{kind}, {SIZES[rest]}"
    if kind == "average recall" and rest.isdigit() and int(rest) in limits:
        return f"{kind}, {'the best detection' if rest == '1' else f'the best {rest} detections'} of an image and class"
    return f"{kind}, overlap {f'of 0.{rest} or more' if rest else '0.50 to 0.95'}"
