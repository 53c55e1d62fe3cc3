"""Find objects: each record with boxes (and keypoints, where the model finds them)."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

from cvtool.records import Record
from cvtool.registry import Reference
from cvtool.tasks._predictor import Report, Settings
from cvtool.tasks._runner import run


def detect(
    records: Iterable[Record],
    model: str | Reference,
    *,
    conf: float | None = None,
    iou: float | None = None,
    max_det: int | None = None,
    classes: Sequence[str | int] | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    img_size: int | None = None,
    tta: str | None = None,
    tile: int | None = None,
    overlap: float | None = None,
    save_crops: Path | None = None,
    device: str = "auto",
    precision: str = "fp32",
    offline: bool = False,
    report: Report | None = None,
    facts: dict[str, str] | None = None,
) -> Generator[Record, None, None]:
    """Each record with `annotations`: COCO boxes in the picture's own pixels, best score first. Annotations it had before are replaced.

    model: anything whose result has boxes, instance segmenters included (their masks are dropped; `segment` keeps them).
    tile, overlap: look through windows of `tile` pixels that repeat `overlap` (0.2) of their side; see `tasks/_tiling.py` for how results are joined.
    tta: "hflip,scale:0.75" shows each picture (or window) in those views, too, and joins the answers; see `tasks/_tta.py` for how.
    Other options as on the command line; None leaves them to the model. Raises UsageError for one that has no effect on this model.
    """
    settings = Settings(
        conf=conf, iou=iou, max_det=max_det, classes=classes, batch_size=batch_size, workers=workers, img_size=img_size, tile=tile, overlap=overlap,
        save_crops=save_crops, tta=tta,
    )  # fmt: skip
    return run(records, model, "detect", settings, device=device, precision=precision, offline=offline, report=report, facts=facts)
