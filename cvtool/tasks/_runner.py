"""The runner: records in, records out, for every verb that shows pictures to a model.

Pictures are decoded ahead by a few threads, cut into windows where `tile` asks for it, grouped into batches, and shown to the model; records
come out in the order in which they went in, in constant memory. Only pictures that fill the same batch shape share a batch, so that none sees more
padding than alone and results do not depend on the batch size. A picture that cannot be read is a record with `error`, and the rest go on.
When memory runs out the batch is halved and tried again; a single picture for which even that fails is a record with `error`.

The model is loaded when the first readable picture is there, so that bad input is told at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cvtool import records as rec
from cvtool.annotations import of_result
from cvtool.errors import CvtoolError, InputError, UsageError
from cvtool.records import Record
from cvtool.registry import Reference
from cvtool.results import Boxes, Instances, Labels, Result, SemanticMap
from cvtool.runtime.pool import Loaded
from cvtool.runtime.pool import pool as shared_pool
from cvtool.tasks._choose import choose, examples
from cvtool.tasks._crops import Crops
from cvtool.tasks._predictor import Predictor, Report, Settings
from cvtool.tasks._tiling import Part, Pasted, Window, inside, merge, windows

LOOKAHEAD = 4  # batches that may wait, half filled, for pictures of their own shape


def run(
    records: Iterable[Record],
    model: str | Reference,
    verb: str,
    settings: Settings,
    *,
    device: str = "auto",
    precision: str = "fp32",
    offline: bool = False,
    report: Report | None = None,
    facts: dict[str, str] | None = None,
) -> Generator[Record, None, None]:
    """Each record with what the model says of its picture, in order.

    report: told what the user should know (memory ran out, ...). facts: filled with what a summary may want to tell ("device").
    Raises UsageError for an option without effect on this model, ModelError and whatever loading it raises.
    """
    reference = choose(model, verb) if isinstance(model, str) else model
    if settings.overlap is not None and settings.tile is None:
        raise UsageError("--overlap has no effect without --tile", hint="add --tile N or leave it out")
    return _run(records, reference, verb, settings, device, precision, offline, report or (lambda text: None), {} if facts is None else facts)


def _run(
    records: Iterable[Record],
    reference: Reference,
    verb: str,
    settings: Settings,
    device: str,
    precision: str,
    offline: bool,
    report: Report,
    facts: dict[str, str],
) -> Generator[Record, None, None]:
    waiting: deque[_Image] = deque()  # in order; those at the front leave when they are finished
    shower: _Shower | None = None
    with ExitStack() as stack:
        stream = stack.enter_context(closing(decoded(records, settings.workers)))
        failure: CvtoolError | None = None
        while True:
            try:
                item = next(stream, None)
            except CvtoolError as error:  # the source ends in an error: what came before it is still finished
                failure = error
                break
            if item is None:
                break
            image = _Image(*item)
            if image.pixels is not None:
                if shower is None:
                    loaded = stack.enter_context(shared_pool.lease(reference, device=device, precision=precision, offline=offline))
                    facts["device"] = str(loaded.device) + ("" if precision == "fp32" else f" {precision}")
                    shower = _Shower(loaded, verb, settings, report)
                shower.take(image)
            waiting.append(image)
            yield from _leaving(waiting)
            while shower is not None and len(waiting) > shower.predict.batch_size * LOOKAHEAD:
                shower.show_oldest(waiting[0])
                yield from _leaving(waiting)
        while waiting:
            assert shower is not None
            shower.show_oldest(waiting[0])
            yield from _leaving(waiting)
        if failure is not None:
            raise failure


def _leaving(waiting: deque[_Image]) -> Iterator[Record]:
    while waiting and waiting[0].answer is not None:
        yield waiting.popleft().answer  # type: ignore[misc]


# --- reading ahead -------------------------------------------------------------------------------------------------------------------------------


def decoded(records: Iterable[Record], workers: int | None = None) -> Generator[tuple[Record, np.ndarray | None], None, None]:
    """Each record with its pixels (H W 3 uint8), read ahead by `workers` threads (default 2; 0: each when its turn comes), in order.

    A record that says `error`, or whose picture cannot be read (it gets an `error` then), comes with None. Where `records` ends in an error,
    that is raised when all before it has been handed on.
    """
    count = 2 if workers is None else workers
    if count == 0:
        yield from map(_decode, records)
        return
    ahead: deque[Future[tuple[Record, np.ndarray | None]]] = deque()
    threads = ThreadPoolExecutor(count, thread_name_prefix="cvtool-read")
    try:
        failure: CvtoolError | None = None
        source = iter(records)
        while True:
            try:
                record = next(source)
            except StopIteration:
                break
            except CvtoolError as error:
                failure = error
                break
            ahead.append(threads.submit(_decode, record))
            if len(ahead) > count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
        if failure is not None:
            raise failure
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _decode(record: Record) -> tuple[Record, np.ndarray | None]:
    if record.failed:
        return record, None
    try:
        pixels = record.pixels()
    except (InputError, OSError, MemoryError) as error:
        return record.with_error(error), None
    return record.changed(width=int(pixels.shape[1]), height=int(pixels.shape[0])), pixels


# --- showing to the model ------------------------------------------------------------------------------------------------------------------------


@dataclass
class _Image:
    """A picture on its way. `answer` is set when nothing more is to come."""

    record: Record
    pixels: np.ndarray | None
    answer: Record | None = None
    parts: dict[int, Part] = field(default_factory=dict)
    expected: int = 0

    def __post_init__(self) -> None:
        if self.pixels is None:
            self.answer = self.record


@dataclass
class _Job:
    """One window of one picture."""

    image: _Image
    number: int
    window: Window
    kept: Window | None = None  # the part of the window that is the model's answer; None: all of it

    @property
    def pixels(self) -> np.ndarray:
        assert self.image.pixels is not None
        return self.window.cut(self.image.pixels)


class _Shower:
    """Shows windows to one model and puts its answers together."""

    def __init__(self, loaded: Loaded, verb: str, settings: Settings, report: Report) -> None:
        self.loaded, self.verb, self.settings, self.report = loaded, verb, settings, report
        self.predict = Predictor(loaded, settings, report, verb=verb)
        self.categories = loaded.info.categories
        self.classes = None if settings.classes is None else rec.choose(self.categories, settings.classes)
        known = None if verb == "embed" else self.categories
        self.made_by = rec.made_by(verb, loaded.reference, categories=known, weights_sha256=loaded.info.sha256, **self.predict.made)
        self.groups: dict[Any, list[_Job]] = {}
        self.told = False
        self.crops = Crops(settings.save_crops) if settings.save_crops else None

    def take(self, image: _Image) -> None:
        """Put a picture's windows into the groups of their batch shapes, and show every group that is full."""
        assert image.pixels is not None
        height, width = image.pixels.shape[:2]
        parts = self._windows(width, height)
        image.expected = len(parts)
        for number, (window, kept) in enumerate(parts):
            key = self.predict.shape(window.height, window.width)
            self.groups.setdefault(key, []).append(_Job(image, number, window, kept))
            if len(self.groups[key]) >= self.predict.batch_size:
                self._show(key)
            elif sum(map(len, self.groups.values())) >= self.predict.batch_size * LOOKAHEAD:
                self._show(next(iter(self.groups)))

    def _windows(self, width: int, height: int) -> list[tuple[Window, Window | None]]:
        """The windows over a picture, and what is kept of them: without seams where the model says how much context it takes."""
        tile, overlap = self.settings.tile, self.settings.overlap
        context = None if self.settings.tta else getattr(self.loaded.model, "context", None)  # that of the picture as it is, at its own size
        if tile is not None and overlap is None and context is not None and self.predict.prepare.resize is None and max(width, height) > tile:
            step = self.predict.prepare.multiple_of
            if found := inside(width, height, tile, context, step):
                return list(found)
            if not self.told:
                enough = f"--tile {2 * context + step} or more shows none"
                self.report(f"windows of {tile} pixels may show seams, because a pixel's class depends on {context} around it; {enough}")
                self.told = True
        return [(window, None) for window in windows(width, height, tile, 0.2 if overlap is None else overlap)]

    def show_oldest(self, image: _Image) -> None:
        """Show what a picture is still waiting for."""
        for key in [key for key, jobs in self.groups.items() if any(job.image is image for job in jobs)]:
            self._show(key)

    def _show(self, key: Any) -> None:
        jobs = self.groups.pop(key)
        for job, result in zip(jobs, self.predict([job.pixels for job in jobs]), strict=True):
            image = job.image
            if image.answer is not None:  # another window of it has failed
                continue
            if isinstance(result, Exception):
                image.answer, image.parts, image.pixels = image.record.with_error(result), {}, None
                continue
            part = Part.of(job.window, self._fitting(result)) if image.expected > 1 else Part(job.window, self._fitting(result))
            image.parts[job.number] = part if job.kept is None else part.only(job.kept)
            if len(image.parts) == image.expected:
                self._finish(image)

    def _fitting(self, result: Result) -> Result:
        """What the verb is about, on the CPU. Raises UsageError for a model that says nothing of that."""
        if self.verb == "detect" and isinstance(result, Instances):
            result = replace(result, masks=None)
        segments = isinstance(result, SemanticMap) or (isinstance(result, Instances) and result.masks is not None)
        fits = {"detect": isinstance(result, Boxes), "segment": segments, "classify": isinstance(result, Labels)}.get(self.verb, True)
        if not fits:
            some = examples(self.verb, 2)
            raise UsageError(
                f"{self.loaded.reference} gives {type(result).__name__}, nothing for {self.verb}",
                hint=f"try -m {' or -m '.join(some)}" if some else None,
            )
        if self.settings.tile is not None and isinstance(result, Labels):
            raise UsageError("--tile has no effect where the whole picture gets one answer")
        return result.numpy()

    def _finish(self, image: _Image) -> None:
        assert image.pixels is not None
        masks: list[Pasted] | None = None
        parts = [image.parts[number] for number in sorted(image.parts)]
        height, width = image.pixels.shape[:2]
        result = parts[0].result
        if len(parts) > 1:
            iou = 0.5 if self.settings.iou is None else self.settings.iou
            result, masks = merge(parts, width, height, iou=iou, max_det=self.settings.max_det)
        if masks is None:
            answer = rec.add_result(image.record, result, self.categories, classes=self.classes, made_by=self.made_by)
        else:
            answer = rec.add_result(image.record, result[:0], self.categories, made_by=self.made_by)
            answer["annotations"] = _with_masks(result, masks, (width, height), self.categories, self.classes)
        if isinstance(result, Labels):
            answer["labels"] = answer["labels"][: self.settings.top]
        if self.crops:
            self.crops.save(answer, image.pixels)
        image.answer, image.parts, image.pixels = answer, {}, None


def _with_masks(
    result: Result, masks: Sequence[Pasted], size: tuple[int, int], categories: list, classes: Collection[int] | None
) -> list[dict[str, Any]]:
    """Annotations of objects whose masks lie in parts of the picture: one whole mask exists at a time."""
    found = []
    for i, mask in enumerate(masks):
        one = replace(result[i : i + 1], masks=mask.full(*size)[None])  # type: ignore[call-arg]
        found += of_result(one, categories, classes=classes)
    return found
