"""Read text in pictures: pages and scenes (words found, brought upright, read, put in order), or pictures of one word each."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cvtool import page as pages
from cvtool import records as rec
from cvtool import registry
from cvtool.errors import CvtoolError, InputError, UsageError
from cvtool.page import Block, Line, Page, Word
from cvtool.records import Record
from cvtool.registry import Reference
from cvtool.results import Quads, Text
from cvtool.runtime.pool import Loaded, pool
from cvtool.tasks._predictor import Report, Settings
from cvtool.tasks._runner import decoded
from cvtool.tasks.reading import case, documents, finding, frames, layout, order
from cvtool.tasks.reading.recognise import Reader, believed
from cvtool.tasks.reading.regions import Finder, words
from cvtool.tasks.reading.traces import Traces

CATEGORIES = [{"id": 1, "name": "text"}]
TOGETHER = 64  # crops that wait for those of other pictures until they are read, on a CPU; on a GPU eight times as many
PATIENCE = 8  # pictures that wait, however few words they have: what comes out of a pipe should not stay in it
FAINT = 0.02  # words less likely than this are not taken for words, unless `conf` says otherwise
DOUBTFUL = 0.3  # the same of a picture that is no page, or reads like none: most of what a finder of words on pages finds there is none


def recogniser() -> Reference:
    """The one that is taken where none is named: the first that ships. Raises UsageError where none does."""
    found = [key for key in registry.shipped() if finding.reads(key)]
    if not found:
        raise UsageError("which recogniser? -m is missing", hint="-m takes a checkpoint of `cvtool train -m crnn`, or a run folder")
    return registry.parse(found[0])


def ocr(
    records: Iterable[Record],
    recognizer: str | Reference | None = None,
    *,
    detector: str | Reference | None = None,
    words: bool = False,
    charset: str | None = None,
    dictionary: Sequence[str] | None = None,
    beam: int | None = None,
    conf: float | None = None,
    straighten: bool = True,
    join_hyphens: bool = False,
    decoders: int | None = None,
    rounds: int | None = None,
    output: str | None = None,
    save_rectified: Path | None = None,
    save_attention: Path | None = None,
    tile: int | None = None,
    overlap: float | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    offline: bool = False,
    report: Report | None = None,
    facts: dict[str, str] | None = None,
) -> Generator[Record, None, None]:
    """Each record with `text`, in order; pages and scenes with `annotations`, too: words with their corners, scores, and places in the reading order.

    detector: None or "auto" takes the finder of words on pages for what looks like a page, and the detector that ships for anything else.
    words: every picture is one word or line; its record gets `text` and `score` alone. straighten: bring pages upright.
    charset, dictionary, beam, decoders, rounds, output: as the recogniser's `predict` has them. Without the first two, letters small or large
    by their height alone, and marks, are settled by their lines (`reading/case.py`), if the recogniser tells where each character stands.
    conf: words less likely, as first read, are left out.
    join_hyphens: in `text`, words that a hyphen divides between two lines are one.
    save_rectified, save_attention: folders for pictures of how each word was seen.
    A picture that cannot be read is a record with `error`, and the rest go on. Raises UsageError for what has no effect, ModelError.
    """
    if words:
        for name, value in (("--detector", detector), ("--tile", tile), ("--join-hyphens", join_hyphens or None)):
            if value is not None:
                raise UsageError(f"{name} has no effect with --words: every picture is one word", hint="leave it out")
    if overlap is not None and tile is None:
        raise UsageError("--overlap has no effect without --tile", hint="add --tile N or leave it out")
    chosen = recogniser() if recognizer is None else registry.parse(recognizer) if isinstance(recognizer, str) else recognizer
    options = {
        "charset": charset, "dictionary": dictionary, "beam": beam, "decoders": decoders, "rounds": rounds,
        "output": output, "rectified": save_rectified is not None or None, "attention": save_attention is not None or None,
    }  # fmt: skip
    traces = Traces(save_rectified, save_attention)

    def lease(stack: ExitStack, reference: Reference) -> Loaded:
        return stack.enter_context(pool.lease(reference, device=device, precision=precision, offline=offline))

    return _ocr(records, chosen, options, _Plan(detector, words, conf, straighten, join_hyphens, tile, overlap), lease, traces, batch_size, workers,
                report or (lambda text: None), {} if facts is None else facts)  # fmt: skip


@dataclass(frozen=True)
class _Plan:
    """What `ocr` was told of how to find words."""

    detector: str | Reference | None
    words: bool
    conf: float | None
    straighten: bool
    joined: bool
    tile: int | None
    overlap: float | None


@dataclass
class _Job:
    """A picture on its way. quads: N 4 2 of its words, in its pixels; crops: N, until they are read; answers: N. upright: whether its words are known
    to stand upright. made: more of `made_by`; facts: more of the record."""

    record: Record
    quads: np.ndarray | None = None
    crops: list[np.ndarray] = field(default_factory=list)
    upright: bool = True
    page: bool = True
    answers: list[Text | Exception] = field(default_factory=list)
    made: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    order: np.ndarray | None = None  # N 4 2, corners in the straightened page, from which the order is told


def _ocr(
    records: Iterable[Record], reference: Reference, options: dict[str, Any], plan: _Plan, lease: Callable[[ExitStack, Reference], Loaded],
    traces: Traces, batch_size: int | None, workers: int | None, report: Report, facts: dict[str, str],
) -> Generator[Record, None, None]:  # fmt: skip
    waiting: list[_Job] = []
    with ExitStack() as stack:
        stream = stack.enter_context(closing(decoded(records, workers)))
        looker: _Looker | None = None
        reader: Reader | None = None
        failure: CvtoolError | None = None
        while True:
            try:
                item = next(stream, None)
            except CvtoolError as error:  # the source ends in an error: what came before it is still finished
                failure = error
                break
            if item is None:
                break
            record, pixels = item
            job = _Job(record)
            waiting.append(job)
            if pixels is not None:
                if reader is None:
                    loaded = lease(stack, reference)
                    facts["device"] = str(loaded.device) + ("" if loaded.precision == "fp32" else f" {loaded.precision}")
                    reader = Reader(loaded, options, batch_size, report)
                    looker = None if plan.words else _Looker(plan, lease, stack, reader, report)
                try:
                    if looker is None:
                        job.crops, job.upright = [pixels], False
                    else:
                        looker.look(pixels, job)
                except InputError as error:
                    job.record, job.quads, job.crops = record.with_error(error), None, []
            enough = TOGETHER * (1 if reader is None or reader.loaded.device.type == "cpu" else 8)
            if reader is None or sum(len(one.crops) for one in waiting) >= enough or len(waiting) >= PATIENCE:
                yield from _finished(waiting, reader, plan, traces)
                waiting = []
        yield from _finished(waiting, reader, plan, traces)
        if failure is not None:
            raise failure


class _Looker:
    """Finds the words of pictures. Detectors are loaded when the first picture needs them."""

    def __init__(self, plan: _Plan, lease: Callable[[ExitStack, Reference], Loaded], stack: ExitStack, reader: Reader, report: Report) -> None:
        self.plan, self.lease, self.stack, self.reader, self.report = plan, lease, stack, reader, report
        self.named: Reference | None = None
        if plan.detector is not None and plan.detector != "auto":
            self.named = registry.parse(plan.detector) if isinstance(plan.detector, str) else plan.detector
        self._finders: dict[str, Finder] = {}

    def finder(self, reference: Reference, *, tiled: bool = True) -> Finder:
        key = f"{reference} {tiled}"
        if key not in self._finders:
            loaded = next((one.loaded for one in self._finders.values() if one.loaded.reference == reference), None)
            settings = Settings(tile=self.plan.tile, overlap=self.plan.overlap) if tiled else Settings()
            self._finders[key] = Finder(loaded or self.lease(self.stack, reference), settings, self.report)
        return self._finders[key]

    def look(self, pixels: np.ndarray, job: _Job) -> None:
        """Into the job: where words are, and their pictures."""
        from cvtool.ops.quads import crops

        own = finding.page_detector()
        reference = self.named or finding.fitting(pixels)
        finder = self.finder(reference)
        job.made["detector"] = str(reference)
        if reference == own:
            job.page = self.named is not None or layout.is_page(pixels)
            judge = self.reader.sureness if self.plan.straighten else None
            if self.plan.straighten:
                found = documents.upright(pixels, lambda seen: np.asarray(finder(seen).quads), judge)
            else:
                found = documents.Upright(documents.unturned(pixels), np.asarray(finder(pixels).quads, np.float64))
            job.quads, job.order = found.turned.restored(found.quads), found.quads
            lines = [line for block in order.arranged(found.quads) for line in block]
            job.crops = crops(found.turned.pixels, frames.framed(found.quads, lines))
            job.facts = {key: value for key, value in (("orientation", found.orientation), ("skew", round(found.slant, 2))) if value}
            return
        regions = finder(pixels)
        if isinstance(regions, Quads) and regions.texts is not None:
            job.quads = regions.quads
            job.answers = [Text(text or "", float(score)) for text, score in zip(regions.texts, regions.scores, strict=True)]
            return
        job.quads, _ = words(pixels, regions.quads, self.finder(own, tiled=False))
        job.crops, job.upright = crops(pixels, job.quads), False


def _finished(jobs: Sequence[_Job], reader: Reader | None, plan: _Plan, traces: Traces) -> Generator[Record, None, None]:
    """The crops of some pictures read together; then each picture's record."""
    crops = [crop for job in jobs for crop in job.crops]
    answers = reader(crops) if reader is not None and crops else []
    start = 0
    for job in jobs:
        if job.record.failed:
            yield job.record
            continue
        count = len(job.crops)
        if count:
            job.answers, start = answers[start : start + count], start + count
            if not job.upright and reader is not None:
                job.answers, turns = reader.upright_or_not(job.crops, job.answers)
                job.crops = [np.rot90(crop, quarters) for crop, quarters in zip(job.crops, turns, strict=True)]
                if job.quads is not None:
                    job.quads = np.stack([np.roll(quad, quarters, axis=0) for quad, quarters in zip(job.quads, turns, strict=True)])
        bad = next((answer for answer in job.answers if isinstance(answer, Exception)), None)
        if bad is not None:
            yield job.record.with_error(bad)
            continue
        texts = [answer for answer in job.answers if isinstance(answer, Text)]
        traces.save(job.record, job.crops, texts, alone=plan.words)
        assert reader is not None
        maker = rec.made_by("ocr", reader.loaded.reference, categories=[] if plan.words else CATEGORIES, weights_sha256=reader.loaded.info.sha256,
                            **job.made)  # fmt: skip
        yield _word(job, texts, maker, plan) if plan.words else _page(job, texts, maker, plan, reader)


def _word(job: _Job, texts: Sequence[Text], maker: dict[str, Any], plan: _Plan) -> Record:
    (text,) = texts
    if plan.conf is not None and (text.score or 0.0) < plan.conf:
        text = Text("", text.score)
    return rec.add_result(job.record, text, [], made_by=maker)


def _print(job: _Job, texts: Sequence[Text]) -> bool:
    """Whether what a finder of words on pages has found is print: the picture looks like a page, and reads like one."""
    if job.order is None:  # another finder's, which knows text from what looks like it
        return True
    likely = [believed(text) for text in texts if text.text]
    return job.page and (not likely or float(np.mean(likely)) >= documents.LEAST)


def _counts(text: Text, conf: float | None, is_print: bool) -> bool:
    """Whether it is taken for a word. Where there is no print, any stroke is a character."""
    if conf is None and not is_print and len(text.text) < 2:
        return False
    least = conf if conf is not None else FAINT if is_print else DOUBTFUL
    return text.score is None or text.score >= least


def _page(job: _Job, texts: Sequence[Text], maker: dict[str, Any], plan: _Plan, reader: Reader) -> Record:
    """The record of a picture with the words that were read, in order."""
    assert job.quads is not None
    is_print = _print(job, texts)
    keep = np.array([i for i, text in enumerate(texts) if text.text and _counts(text, plan.conf, is_print)], int)
    places = (job.quads if job.order is None else job.order)[keep]
    texts = [texts[i] for i in keep]
    arranged = order.arranged(places)
    if reader.free and job.crops:
        seen = [case.Seen(text.text, job.crops[i], text.places) for i, text in zip(keep, texts, strict=True)]
        better = case.settled(seen, [line for block in arranged for line in block], reader.charset, clean=job.order is not None)
        texts = [replace(text, text=new) for text, new in zip(texts, better, strict=True)]
    blocks = [Block(tuple(Line(tuple(_read(job.quads[keep[i]], texts[i]) for i in line)) for line in block)) for block in arranged]
    record = job.record.with_annotations(pages.entries(blocks))
    record = record.changed(orientation=None, skew=None, labels=None).changed(**job.facts)
    earlier = record.get("made_by")
    record["made_by"] = [*(earlier if isinstance(earlier, list) else []), maker]
    record["text"] = Page.of(record, joined=plan.joined).text
    return record


def _read(quad: np.ndarray, text: Text) -> Word:
    a, b, c, d = ((float(x), float(y)) for x, y in quad)
    return Word((a, b, c, d), text.text, None if text.score is None else float(text.score))
