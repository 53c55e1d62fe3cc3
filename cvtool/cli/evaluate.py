"""Compare what a model said with ground truth: COCO's average precision of objects, accuracy of classes, mIoU of label maps.

Ground truth of objects is measured by pycocotools' numbers to the last bit, at many times its speed; a class for each picture by accuracy, top-5,
precision, recall, F1, calibration (ECE) and the confusion matrix; label maps by mIoU and the accuracy of pixels. The pictures are not needed. What
was matched, repaired or left out is said on stderr; where nothing can be compared that is an error (exit code 3), never a score of 0. A pipe gets
one JSON object.

--gt takes a COCO file, JSON lines or a data set (VOC, YOLO, class folders, image and mask folders ...); --dt takes COCO results, a COCO file, JSON
lines, CSV or a folder of label maps. Either may be - (stdin).
AP counts the best 100 detections of an image and class (keypoints: 20); --max-det N counts the best N.

Examples:

    cvtool evaluate --gt val.json --dt dt.json
    cvtool detect val/ -m faster-rcnn | cvtool evaluate --gt val.json --dt - --per-class
    cvtool evaluate --gt voc/ --split test --dt dt.json --json | jq .metrics.AP50
    cvtool classify flowers/test/ -m runs/0001 | cvtool evaluate --gt flowers/ --split test --dt - --plot confusion.png
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
IouType = Annotated[Literal["bbox", "segm", "keypoints"] | None, _own("iou-type", "What of objects is compared: boxes (bbox), masks or keypoints.")]
Plot = Annotated[Path | None, _own("plot", "Draw the confusion matrix of classes or label maps.", metavar="FILE.png")]
PerClass = Annotated[bool, _own("per-class", "The numbers of every class too.")]
Backend = Annotated[Literal["auto", "hotcoco", "pycocotools"], _own("backend", "The engine; both give the same numbers.")]

THINGS = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints"}
SIZES = {"s": "small objects, under 32 x 32 pixels", "m": "medium objects, 32 x 32 to 96 x 96", "l": "large objects, over 96 x 96"}


def main(
    gt: GroundTruth,
    dt: Detections,
    iou_type: IouType = None,
    max_det: opt.MaxDet = None,
    classes: opt.Classes = None,
    per_class: PerClass = False,
    split: opt.Split = None,
    data_format: opt.DataFormat = None,
    backend: Backend = "auto",
    plot: Plot = None,
    as_json: opt.Json = False,
    output: opt.Output = None,
    overwrite: opt.Overwrite = False,
    config: opt.Config = None,
    quiet: opt.Quiet = False,
) -> None:
    path = _free(output, overwrite, plot)
    if plot is not None and (plot.is_dir() or (plot.exists() and not overwrite)):
        raise UsageError(f"{plot} exists", hint="--overwrite to replace it, or another --plot" if plot.is_file() else "--plot names a PNG to draw")
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
    if plot is not None:
        _draw(report, plot)
    if path is not None:
        _write(path, text(report))
    if sys.stdout.isatty() and not as_json:
        print("\n".join(table(report)))
    elif path is None:
        print(text(report))


def _free(output: str | None, overwrite: bool, plot: Path | None = None) -> Path | None:
    """Where the report goes, None for stdout; refused before the work begins, not after it."""
    if output in (None, "-", "/dev/stdout"):
        opt.needs("--overwrite", overwrite, "-o FILE or --plot FILE", plot)
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


def _draw(report: dict[str, Any], path: Path) -> None:
    """The confusion matrix. Raises UsageError where there is none."""
    if "confusion" not in report:
        many = report["task"] == "classification"
        hint = "--per-class gives it" if many else "objects have no confusion matrix here"
        raise UsageError("--plot has no effect: the report holds no confusion matrix", hint=hint)
    from cvtool.render.confusion import draw

    found = report["confusion"]
    value = report["metrics"]["accuracy" if report["task"] == "classification" else "mIoU"]
    title = f"{'accuracy' if report['task'] == 'classification' else 'mIoU'} {value:.4f} of {_count(report['counts']['images'], 'picture')}"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    draw(found["categories"], found["matrix"], none=found["none"], title=title).save(draft, format="PNG")
    draft.replace(path)


def text(report: dict[str, Any]) -> str:
    """The report as one JSON object, a line a key."""
    rows = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}" for key, value in report.items())
    return "{" + ",\n ".join(rows) + "}"


def table(report: dict[str, Any]) -> list[str]:
    """The report for people: each number with its name in words, then a row a class if they were asked for."""
    if report["task"] != "detection":
        return _plain_table(report)
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


WORDS = {
    "accuracy": "pictures whose best class is the true one",
    "top5_accuracy": "the true class is among the best five",
    "balanced_accuracy": "mean recall of the classes",
    "precision": "of the pictures found to be of a class, those that are; mean over classes",
    "recall": "of the pictures of a class, those that were found; mean over classes",
    "f1": "harmonic mean of both; mean over classes",
    "ECE": "expected calibration error, 15 bins",
    "mIoU": "intersection over union, mean over classes; void pixels left out",
    "pixel_accuracy": "pixels of the true class",
    "class_accuracy": "the same of each class, mean over classes",
    "frequency_weighted_IoU": "intersection over union, weighted by the classes' pixels",
    "mIoU_void_counted": "mIoU if what was found on void pixels counts as wrong",
}


def _plain_table(report: dict[str, Any]) -> list[str]:
    """Classes of pictures or label maps."""
    counts = report["counts"]
    what = "classes of" if report["task"] == "classification" else "label maps of"
    lines = [f"{what} {_count(counts['images'], 'picture')}: {_count(counts['categories'], 'class', 'classes')}", ""]
    lines += [f"  {key:22} {_number(report['metrics'].get(key))}   {words}" for key, words in WORDS.items() if key in report["metrics"]]
    if rows := report.get("per_class"):
        width, keys = max(len("class"), *map(len, rows)), list(next(iter(rows.values())))
        lines += ["", f"  {'class':{width}}  " + "  ".join(f"{key:>9}" for key in keys)]
        for name, row in rows.items():
            values = (f"{value:9,}" if isinstance(value, int) else f"{_number(value):>9}" for value in row.values())
            lines.append(f"  {name:{width}}  " + "  ".join(values))
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
