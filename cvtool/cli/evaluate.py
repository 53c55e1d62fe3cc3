"""Compare what a model said with ground truth: detections, classes, label maps, pictures, text, embeddings; gate a CI job on it.

What is measured follows from the ground truth (COCO's average precision of objects, accuracy of classes, mIoU of label maps), or --metric names it;
--list explains every metric in a line. Objects are measured by pycocotools' numbers to the last bit, at many times its speed. What was matched,
repaired or left out is said on stderr; where nothing can be compared that is an error (exit code 3), never a score of 0. A pipe gets one JSON
object.

--gt takes a COCO file, JSON lines or a data set (VOC, YOLO, class folders, image and mask folders ...); --dt takes COCO results, a COCO file, JSON
lines, CSV or a folder of label maps. Either may be - (stdin).
AP counts the best 100 detections of an image and class (keypoints: 20); --max-det N counts the best N.
--gate KEY>=NUMBER fails the job (exit code 6) after everything is written; KEY is any key of the report's metrics, such as per_class.dog.AP50. With
--baseline the pictures are resampled: a drop beyond --max-drop fails only if it is significant.

Examples:

    cvtool evaluate --gt val.json --dt dt.json
    cvtool detect val/ -m faster-rcnn | cvtool evaluate --gt val.json --dt - --per-class
    cvtool evaluate --gt voc/ --split test --dt dt.json --json | jq .metrics.AP50
    cvtool classify flowers/test/ -m runs/0001 | cvtool evaluate --gt flowers/ --split test --dt - --plot confusion.png
    cvtool evaluate --gt val.json --dt dt.json --gate 'AP>=0.40' --junit report.xml
    cvtool evaluate --gt val.json --dt new.json --baseline old.json --max-drop 0.005
    cvtool evaluate --gt val.json --dt dt.json --per-class --report report.html --images val2017/
    cvtool evaluate --gt words.tsv --dt ocr.jsonl --metric cer,wer,word-accuracy:case=false,alnum=true
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cvtool.cli import _options as opt
from cvtool.cli._console import Console
from cvtool.cli._evaluation import count, listed, listing, table, text
from cvtool.errors import GateFailed, UsageError
from cvtool.tasks.evaluation import own_options


def _own(name: str, help: str, **more: Any) -> Any:
    """An option that only this verb has; CVTOOL_NAME sets it too."""
    return typer.Option(f"--{name}", help=help, envvar="CVTOOL_" + name.upper().replace("-", "_"), show_envvar=False, **more)


GroundTruth = Annotated[str | None, _own("gt", "Ground truth: a COCO file, JSON lines, a data set, or -.", metavar="PATH")]
Detections = Annotated[str | None, _own("dt", "Detections: COCO results, a COCO file, JSON lines, or -.", metavar="PATH")]
Metric = Annotated[list[str] | None, _own("metric", "What is measured: miou, or recall@1,map:k=5; --list shows all.", metavar="NAME,...")]
List = Annotated[bool, _own("list", "Explain every metric in a line.")]
IouType = Annotated[
    Literal["bbox", "segm", "keypoints", "boundary"] | None,
    _own("iou-type", "What of objects is compared: boxes (bbox), masks, keypoints or masks and their boundaries."),
]
Plot = Annotated[Path | None, _own("plot", "Draw the confusion matrix, or precision over recall (--metric pr-curve).", metavar="FILE.png")]
PerClass = Annotated[bool, _own("per-class", "The numbers of every class too.")]
Backend = Annotated[Literal["auto", "hotcoco", "pycocotools"], _own("backend", "The engine; both give the same numbers.")]
Slice = Annotated[list[str] | None, _own("slice", "Also of each value of this key of the ground truth's images; repeatable.", metavar="KEY")]
Interval = Annotated[float | None, _own("interval", "Bootstrap intervals of this level, such as 0.95.", metavar="LEVEL")]
Resamples = Annotated[int | None, _own("resamples", "How often the pictures are drawn again (default 1000).", min=1, metavar="N")]
Baseline = Annotated[Path | None, _own("baseline", "Older output, or an older report, to compare with.", metavar="FILE")]
MaxDrop = Annotated[
    list[str] | None, _own("max-drop", "Fail on a larger significant drop: 0.005 of the main metric, or AP50=0.01; repeatable.", metavar="[KEY=]F")
]
FailInsignificant = Annotated[bool, _own("fail-insignificant", "Fail on a larger drop even if it is not significant.")]
Gate = Annotated[list[str] | None, _own("gate", "Fail (exit code 6) unless this holds: 'AP>=0.40'; repeatable.", metavar="CONDITION")]
Junit = Annotated[Path | None, _own("junit", "The gates as JUnit XML, a test case each.", metavar="FILE.xml")]
Summary = Annotated[Path | None, _own("summary", "Append the report as Markdown, to $GITHUB_STEP_SUMMARY for one.", metavar="FILE.md")]

Report = Annotated[
    Path | None, _own("report", "The report as one HTML page: curves, classes, the worst pictures. It needs no other file.", metavar="FILE.html")
]


def main(
    gt: GroundTruth = None,
    dt: Detections = None,
    metric: Metric = None,
    iou_type: IouType = None,
    max_det: opt.MaxDet = None,
    classes: opt.Classes = None,
    per_class: PerClass = False,
    slice: Slice = None,
    split: opt.Split = None,
    data_format: opt.DataFormat = None,
    backend: Backend = "auto",
    interval: Interval = None,
    baseline: Baseline = None,
    max_drop: MaxDrop = None,
    fail_insignificant: FailInsignificant = False,
    resamples: Resamples = None,
    seed: opt.Seed = None,
    gate: Gate = None,
    junit: Junit = None,
    summary: Summary = None,
    plot: Plot = None,
    report: Report = None,
    images: opt.Images = None,
    as_json: opt.Json = False,
    output: opt.Output = None,
    overwrite: opt.Overwrite = False,
    list_all: List = False,
    config: opt.Config = None,
    quiet: opt.Quiet = False,
    **own: Any,
) -> None:
    if list_all:
        print(json.dumps(listed(), ensure_ascii=False, indent=1) if as_json else "\n".join(listing()))
        return
    for name, given in (("--gt", gt), ("--dt", dt)):
        if given is None:
            raise UsageError(f"{name} is missing", hint="--gt names the ground truth, --dt what was found; --list shows what can be measured")
    assert gt is not None
    assert dt is not None
    path = _free(output, overwrite, plot, junit, report)
    opt.needs("--junit", junit, "--gate or --max-drop", gate or max_drop)
    opt.needs("--resamples", resamples, "--interval or --baseline", interval or baseline)
    opt.needs("--seed", seed, "--interval or --baseline", interval or baseline)
    opt.needs("--images", images, "--report", report)
    files = (("--plot", plot, "a PNG to draw"), ("--junit", junit, "an XML file to write"), ("--report", report, "an HTML file to write"))
    for name, file, what in files:
        if file is not None and (file.is_dir() or (file.is_file() and not overwrite)):
            raise UsageError(f"{file} exists", hint=f"--overwrite to replace it, or another {name}" if file.is_file() else f"{name} names {what}")
    from cvtool.tasks.evaluate import evaluate, failed

    done = evaluate(
        gt,
        dt,
        metrics=metric,
        iou_type=iou_type,
        max_det=max_det,
        classes=opt.split_commas(classes),
        per_class=per_class,
        split=split,
        data_format=data_format,
        backend=backend,
        interval=interval,
        resamples=resamples or 1000,
        seed=seed or 0,
        slices=slice or (),
        baseline=baseline,
        max_drop=max_drop or (),
        fail_insignificant=fail_insignificant,
        gates=gate or (),
        html=report,
        images=images,
        **{key: value for key, value in own.items() if value is not None},
    )
    console = Console("evaluate", quiet=quiet)
    console.say(done["matching"])
    for warning in done["warnings"]:
        console.say(f"warning: {warning}")
    if plot is not None:
        _draw(done, plot)
    if junit is not None or summary is not None:
        _for_ci(done, junit, summary)
    if path is not None:
        _write(path, text(done) + "\n")
    if sys.stdout.isatty() and not as_json:
        print("\n".join(table(done)))
    elif path is None:
        print(text(done), flush=True)
    _judge(done, failed(done), console)


def _judge(report: dict[str, Any], reasons: list[str], console: Console) -> None:
    """Says what passed; raises GateFailed for what did not, once everything is written, and UsageError where a gate names no key of the report."""
    from cvtool.cli._junit import cases

    rows = cases(report)
    for row in rows:
        if row["passed"]:
            console.say(f"passed: {row['name']}: {row['why']}")
    if reasons:
        shown = "; ".join(reasons[:5]) + (f"; and {len(reasons) - 5} more" if len(reasons) > 5 else "")
        unknown = any(row.get("unknown") for row in report.get("gates", ()))
        raise (UsageError if unknown else GateFailed)(f"{len(reasons)} of {count(len(rows), 'gate')} failed", hint=shown)


def _for_ci(report: dict[str, Any], junit: Path | None, summary: Path | None) -> None:
    from cvtool.cli import _junit

    if junit is not None:
        _write(junit, _junit.junit(report))
    if summary is not None:
        summary.parent.mkdir(parents=True, exist_ok=True)
        with summary.open("a", encoding="utf-8") as stream:
            stream.write(_junit.summary(report))


def _free(output: str | None, overwrite: bool, *others: Path | None) -> Path | None:
    """Where the report goes, None for stdout; refused before the work begins, not after it."""
    if output in (None, "-", "/dev/stdout"):
        opt.needs("--overwrite", overwrite, "-o, --plot, --junit or --report FILE", next((path for path in others if path is not None), None))
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
        path.write_text(content, encoding="utf-8")
        return
    with output_text(path) as stream:
        stream.write(content)


def _draw(report: dict[str, Any], path: Path) -> None:
    """Precision over recall where it was measured, else the confusion matrix. Raises UsageError where there is neither."""
    key, value = next(iter(report["metrics"].items()))
    title = f"{key} {'-' if value is None else f'{value:.4f}'} of {count(report['counts'].get('images', 0), 'picture')}"
    if "curves" in report:
        from cvtool.render import edf

        picture = edf.draw(report["curves"], {"gt": "--gt", "dt": "--dt"}, title=f"models of two spaces: {report['matching']}")
    elif "pr_curve" in report:
        from cvtool.render import pr

        found = report["pr_curve"]
        area = report["metrics"]["PR_area"]
        words = f"area {'-' if area is None else f'{area:.4f}'}, mean over classes; {count(report['counts']['images'], 'picture')}"
        picture = pr.draw(found["classes"], title="precision over recall", note=f"overlap above {found['iou']:g}; {words}")
    elif "confusion" in report:
        from cvtool.render.confusion import draw

        found = report["confusion"]
        picture = draw(found["categories"], found["matrix"], none=found["none"], background=found.get("background"), title=title)
    else:
        hint = (
            "--per-class gives it"
            if report["task"] == "classification"
            else "--metric pr-curve and --metric detection-confusion can be drawn of objects"
        )
        raise UsageError("--plot has no effect: the report holds neither a curve nor a confusion matrix", hint=hint)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    picture.save(draft, format="PNG")
    draft.replace(path)


_METAVARS = {str: "TEXT", int: "N", float: "F"}


def _with_own_options(function: Any) -> Any:
    """The options that single kinds of evaluation declare, as parameters of the command."""
    signature = inspect.signature(function, eval_str=True)
    fixed = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    more = []
    for key, own in sorted(own_options().items()):
        kind: Any = str if own.default is None else type(own.default)
        option = _own(key.replace("_", "-"), _told(own), metavar=_METAVARS.get(kind))
        more.append(inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]))
    function.__signature__ = signature.replace(parameters=[*fixed, *more])
    function.__annotations__ = {p.name: p.annotation for p in (*fixed, *more)}
    return function


def _told(own: Any) -> str:
    """Words for an option of a kind: whose it is, and its default."""
    default = "" if own.default in (None, False) else f" (default {own.default:g})" if isinstance(own.default, float) else f" (default {own.default})"
    return f"{own.help.rstrip('.')}{default}; {', '.join(own.kinds)}."


_with_own_options(main)
