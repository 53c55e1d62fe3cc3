"""Outline objects or regions: each record with masks."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

from cvtool.records import Record
from cvtool.registry import Reference
from cvtool.tasks._predictor import Report, Settings
from cvtool.tasks._runner import run


def segment(
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
    """Each record with `annotations` that hold `segmentation` (COCO's compressed RLE over the picture's own pixels).

    An instance segmenter gives one annotation an object, with box and score; a semantic one gives one annotation a class present, without score.
    Annotations that the record had before are replaced. Options as for `detect`.
    """
    settings = Settings(
        conf=conf, iou=iou, max_det=max_det, classes=classes, batch_size=batch_size, workers=workers, img_size=img_size, tile=tile, overlap=overlap,
        save_crops=save_crops, tta=tta,
    )  # fmt: skip
    return run(records, model, "segment", settings, device=device, precision=precision, offline=offline, report=report, facts=facts)
