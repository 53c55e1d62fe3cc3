"""Evaluate what a model said: find out what is compared, have it measured, and say what was done.

What is measured is named (`metrics`), or follows from the ground truth: objects, a class for each picture, label maps, panoptic files, embeddings;
each is a file of `cvtool/tasks/evaluation/`. Nothing is mis-scored in silence: whatever was left out, renumbered or matched otherwise than by equal
ids is a line of `warnings`, and where nothing can be compared it is an error and not a 0.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cvtool.errors import InputError, UsageError
from cvtool.tasks.evaluation import Kind, Options, kinds, refuse_without_effect

if TYPE_CHECKING:
    from cvtool.calls import Call
    from cvtool.tasks.evaluation._measured import Measured

BARE = "pictures without annotations"
TASKS = {"detection": "objects", "classification": "classes", "segmentation": "maps"}


def evaluate(
    gt: str | os.PathLike,
    dt: str | os.PathLike,
    *,
    metrics: str | Sequence[str] | None = None,
    iou_type: str | None = None,
    max_det: int | None = None,
    classes: Sequence[str | int] | None = None,
    per_class: bool = False,
    split: str | None = None,
    data_format: str | None = None,
    backend: str = "auto",
    interval: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
    slices: Sequence[str] = (),
    baseline: str | os.PathLike | None = None,
    max_drop: Sequence[str | float] = (),
    fail_insignificant: bool = False,
    gates: Sequence[str] = (),
    html: str | os.PathLike | None = None,
    images: str | os.PathLike | None = None,
    stdin: IO[bytes] | None = None,
    **own: Any,
) -> dict[str, Any]:
    """Scores what was found against ground truth; returns a report that can be written as JSON.

    gt: a COCO document, a data set that `cvtool.data.formats` knows (with `split`), JSON lines, or "-"; of other metrics what they compare.
    dt: COCO results, a COCO document, CSV or JSON lines with scores, a folder of label maps, or "-".
    metrics: `"recall@1,map:k=5"`; without any they follow from the ground truth. iou_type, max_det and backend are for objects: "bbox" (unless
    given), "segm" or "keypoints"; how many detections an image and category count (COCO's 100; keypoints 20).
    classes: names or ids of the ground truth's categories; the others are not measured. data_format: of `gt`, where looking is not enough.
    interval: the level of bootstrap intervals, from `resamples` drawings of the units (pictures) seeded by `seed`. slices: keys of the ground
    truth's images; the metrics of each value. baseline: older output to compare with, or an older report. max_drop: `0.005` (of the primary metric)
    or `"AP50=0.01"`. gates: `"AP>=0.40"`. html: a file for the report as a page with curves and the worst pictures, which lie in `images` (None:
    around the ground truth). own: options of single kinds.

    The report: task, metrics (flat: AP, AP50 ... as fractions, None where nothing could be measured), per_class (if asked), params, counts,
    matching (in words), warnings (lines), cvtool; intervals, slices, comparison and gates where asked for; parts of the kind, such as
    confusion (categories, matrix: true by found, none: true and no class found). Raises InputError and UsageError; gates that fail are told
    by `failed(report)` alone.
    """
    from cvtool.tasks import gates as gating

    wanted = [gating.gate(text) for text in gates]
    limits = [gating.limit(text) for text in max_drop]
    _refuse(interval, resamples, baseline, limits, fail_insignificant)
    if images is not None and html is None:
        raise UsageError("--images has no effect without --report", hint="the pictures are needed for the HTML page alone")
    if os.fspath(gt) == os.fspath(dt) == "-":
        raise UsageError("stdin can be read only once: either the ground truth or the detections come from it")
    options = Options(classes, per_class, split, data_format, iou_type, max_det, backend, bool(slices), stdin, own)
    by_class = any(each.key.startswith("per_class.") for each in wanted)
    measured = measure(gt, dt, metrics=metrics, options=options, by_class=by_class)
    from cvtool.tasks.evaluation._measured import plain, report

    done = report(measured)
    if slices:
        from cvtool.tasks.evaluation._slices import sliced

        done["slices"] = plain(sliced(measured, slices))
    if baseline is not None:
        from cvtool.tasks.compare import compare

        done |= plain(compare(measured, done, _baseline(gt, baseline, metrics, options), limits, interval, resamples, seed, fail_insignificant))
    elif interval is not None:
        from cvtool.tasks.compare import intervals

        done |= plain(intervals(measured, interval, resamples, seed))
    if "intervals" in done:
        from cvtool.tasks.compare import outside

        done["warnings"] += [words] if (words := outside(done)) else []
    if wanted:
        done["gates"] = gating.verdicts(wanted, done)
    if html is not None:
        from cvtool.tasks.evaluation._page import write

        write(Path(html), measured, done, gt, images)
    return done


def failed(report: dict[str, Any]) -> list[str]:
    """What did not pass, a line each: gates, and drops against the baseline."""
    lines = [f"{row['gate']}: {row['why']}" for row in report.get("gates", ()) if not row["passed"]]
    return lines + [row["why"] for row in report.get("comparison", {}).get("limits", ()) if not row["passed"]]


def measure(gt: Any, dt: Any, *, metrics: str | Sequence[str] | None = None, options: Options, by_class: bool = False) -> Measured:
    """What one evaluation gives before it becomes a report. by_class: with the classes' own figures, where the kind has them.

    Raises InputError and UsageError.
    """
    from cvtool.tasks.evaluation._asked import asked, kind_of

    calls: list[Call] = asked(metrics)
    kind = kind_of(calls)
    if kind is None:
        kind, gt = _look(gt, dt, options)
    named = f"--metric {calls[0].name} is of {kind.name}" if calls else None
    refuse_without_effect(
        kind, options, named or f"the ground truth is for {next((task for task, name in TASKS.items() if name == kind.name), kind.name)}"
    )
    options.per_class = options.per_class or (by_class and "per_class" in kind.takes)
    options.extra = {key: default for key, (_, default) in kind.own.items()} | options.extra
    return kind.load().score(gt, dt, metrics=calls, options=options)


def _look(gt: Any, dt: Any, options: Options) -> tuple[Kind, Any]:
    """(the kind that the ground truth is of, the ground truth: read, if that was needed to know)."""
    known = kinds()
    if os.fspath(gt) != "-" and Path(gt).suffix.lower() == ".npz" and "embeddings" in known:
        return known["embeddings"], gt
    from cvtool.tasks.evaluation import objects

    if (both := objects.open_both(gt, dt, options)) is not None:  # the engine itself has read them, where nothing is wrong with them
        return known["objects"], both
    from cvtool.data.sides import PanopticError, no_collection, read_truth

    try:
        with no_collection():
            truth = read_truth(gt, split=options.split, data_format=options.data_format, stdin=options.stdin)
    except PanopticError:
        if "panoptic" not in known or os.fspath(gt) == "-":
            raise
        return known["panoptic"], gt
    except InputError as error:
        raise _which(gt, error) from error
    if os.fspath(gt) != "-" and Path(gt).is_dir() and not (truth.entries or truth.categories):
        raise _which(gt, InputError(BARE, where=gt))
    return known[TASKS[truth.task]], truth


def _which(gt: Any, error: InputError) -> InputError:
    """The same error, and which metrics fit where the file is none that says what it is."""
    path = Path(gt)
    if error.what not in (BARE, "not a data set in any known format", "pictures of one class only") or os.fspath(gt) == "-":
        return error
    from cvtool.metrics import catalogue

    look = "pictures" if error.what == BARE else "folder" if path.is_dir() else path.suffix.lower()
    fits = {kind.name for kind in kinds().values() if look in kind.fits}
    names = [metric.name for metric in catalogue().values() if metric.kind in fits]
    if not names:
        return error
    return InputError(f"what to measure of it cannot be told: {error.what}", where=path, hint=f"--metric says it; these fit: {', '.join(names)}")


def _refuse(interval: float | None, resamples: int, baseline: Any, limits: Sequence[Any], fail_insignificant: bool) -> None:
    """What would have no effect, or cannot be."""
    if interval is not None and not 0 < interval < 1:
        raise UsageError(f"--interval is a level between 0 and 1, such as 0.95, not {interval:g}")
    if resamples < 1:
        raise UsageError(f"--resamples must be at least 1, not {resamples}")
    if limits and baseline is None:
        raise UsageError("--max-drop has no effect without --baseline", hint="--baseline names older detections, or an older report")
    if fail_insignificant and not limits:
        raise UsageError("--fail-insignificant has no effect without --max-drop")


def _baseline(gt: Any, baseline: str | os.PathLike, metrics: Any, options: Options) -> Any:
    """An older report (a dict), or what the older output gives by the same options."""
    from dataclasses import replace

    from cvtool.tasks.compare import read_report

    if (old := read_report(baseline)) is not None:
        return old
    if os.fspath(gt) == "-" or os.fspath(baseline) == "-":
        raise UsageError("--baseline FILE needs a ground truth that can be read twice, and a file", hint="save what comes from stdin first")
    return measure(gt, baseline, metrics=metrics, options=replace(options, extra=dict(options.extra)))
