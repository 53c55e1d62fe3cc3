"""Say what a picture shows: each record with its likeliest classes."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence

from cvtool.records import Record
from cvtool.registry import Reference
from cvtool.tasks._predictor import Report, Settings
from cvtool.tasks._runner import run


def classify(
    records: Iterable[Record],
    model: str | Reference,
    *,
    top: int | None = 5,
    conf: float | None = None,
    classes: Sequence[str | int] | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    img_size: int | None = None,
    tta: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    offline: bool = False,
    report: Report | None = None,
    facts: dict[str, str] | None = None,
) -> Generator[Record, None, None]:
    """Each record with `labels`: `{"category_id", "category", "score"}`, best first, at most `top` (None: all).

    classes: only these, taken from all that the model knows before the best `top` are chosen. Other options as for `detect`.
    """
    settings = Settings(top=top, conf=conf, classes=classes, batch_size=batch_size, workers=workers, img_size=img_size, tta=tta)
    return run(records, model, "classify", settings, device=device, precision=precision, offline=offline, report=report, facts=facts)
