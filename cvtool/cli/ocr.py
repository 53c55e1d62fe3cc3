"""Read the text in pictures: pages, scans, photographs, PDF; as text, tables, hOCR, ALTO, PAGE, or PDF that can be searched.

Without -m a recogniser is taken that comes with the program. Pages are brought upright (slant, quarter turns), their words found by the ink's own
spacing, and lines, columns and blocks put in the order of reading; in photographs a detector finds the words. On a terminal the text is shown, in a
pipe records (JSON lines) go on: a page's words are its `annotations`, its text is `text`. -f with -o FOLDER/ writes documents beside each other,
STEM.txt, .tsv, .hocr, .alto.xml, .page.xml, .pdf, .json, .jsonl and res_STEM.txt (icdar); the pages of one TIFF or PDF go into one document. With
--words each picture is one word. PDF needs the extra `pdf` (pip install 'cvtool[pdf]'). Text from right to left is not supported.

Examples:

    cvtool ocr receipt.jpg
    cvtool ocr scans/*.tif report.pdf -f txt,hocr,pdf -o out/
    cvtool ocr letter.png -f pdf -o letter.pdf
    cat sign.jpg | cvtool ocr - -f txt
    cvtool ocr words/ --words -m crnn --charset alnum -o read.jsonl
    cvtool ocr page.png --join-hyphens | cvtool visualize - -o seen/
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cvtool.cli import _options as opt
from cvtool.cli import _output
from cvtool.cli._console import Console
from cvtool.cli._documents import LINES, Documents, refuse_unread
from cvtool.errors import InputError, UsageError

if TYPE_CHECKING:
    from cvtool.records import Record

ANSWERS = ("vision", "language", "fusion")  # what --output names of a model that reads in several ways, beside a place


def _formats(incomplete: str) -> list[str]:
    from cvtool.data import pages

    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in sorted([*pages.names(), LINES]) if name.startswith(last)]


Recognizer = Annotated[
    str | None,
    opt.option("model", "-m", "--recognizer", metavar="REF", autocompletion=opt._complete_models, help="What reads: NAME, checkpoint or run folder."),
]
BatchSize = Annotated[int | None, opt.option("batch-size", "-b", min=1, metavar="N", help="Words at a time (default 32 on a CPU, 256 on a GPU).")]
Detector = Annotated[
    str | None,
    typer.Option("--detector", metavar="REF", autocompletion=opt._complete_models, help="What finds words: auto (looks at the picture), or a model."),
]
Words = Annotated[bool, typer.Option("--words", help="Every picture is one word or line; nothing is looked for.")]
Charset = Annotated[
    str | None, typer.Option("--charset", metavar="SET", help="What may come out: digits, alnum, letters, printable, latin, or the characters.")
]
Dictionary = Annotated[Path | None, typer.Option("--dictionary", metavar="FILE", help="Every word is one of these, one a line.")]
Beam = Annotated[int | None, typer.Option("--beam", min=1, metavar="N", help="Search for the likeliest text, N candidates at a time.")]
Join = Annotated[bool, typer.Option("--join-hyphens", help="Words that a hyphen divides between two lines are one in the text.")]
Upright = Annotated[bool, typer.Option("--straighten/--no-straighten", help="Bring pages upright first.")]
Decoders = Annotated[int | None, typer.Option("--decoders", min=1, metavar="N", help="Stop after N decoders, of a model that has several in a row.")]
Rounds = Annotated[int | None, typer.Option("--rounds", min=1, metavar="N", help="Correct N times, of a model with a language model.")]
Rectified = Annotated[Path | None, typer.Option("--save-rectified", metavar="DIR", help="Pictures of words as a rectifying part made them.")]
Attention = Annotated[Path | None, typer.Option("--save-attention", metavar="DIR", help="Pictures of where the model looked for each character.")]
Output = Annotated[
    list[str] | None,
    opt.option("output", "-o", metavar="PATH", help="Write here; a name ending in / is a folder. Or vision, language, fusion: whose answer."),
]
Format = Annotated[
    str | None,
    opt.option(
        "format", "-f", metavar="NAME,...", autocompletion=_formats,
        help="txt, tsv, hocr, alto, page, pdf, json, icdar, jsonl (several with -o FOLDER/), coco, csv.",
    ),
]  # fmt: skip


def main(
    context: typer.Context,
    inputs: opt.Inputs = None,
    model: Recognizer = None,
    detector: Detector = None,
    words: Words = False,
    output: Output = None,
    format: Format = None,
    charset: Charset = None,
    dictionary: Dictionary = None,
    beam: Beam = None,
    conf: opt.Conf = None,
    join_hyphens: Join = False,
    straighten: Upright = True,
    decoders: Decoders = None,
    rounds: Rounds = None,
    save_rectified: Rectified = None,
    save_attention: Attention = None,
    tile: opt.Tile = None,
    overlap: opt.Overlap = None,
    batch_size: BatchSize = None,
    workers: opt.Workers = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "fp32",
    images: opt.Images = None,
    files_from: opt.FilesFrom = None,
    shard: opt.Shard = None,
    overwrite: opt.Overwrite = False,
    resume: opt.Resume = False,
    deterministic: opt.Deterministic = False,
    offline: opt.Offline = False,
    config: opt.Config = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
) -> None:
    console = Console("ocr", quiet=quiet, verbose=verbose)
    opt.needs("--overlap", overlap, "--tile", tile)
    if not straighten and words:
        raise UsageError("--no-straighten has no effect with --words", hint="leave it out")
    from_environment = getattr(context.get_parameter_source("output"), "name", "") == "ENVIRONMENT"
    place, answer = _places([os.environ["CVTOOL_OUTPUT"]] if from_environment else list(output or ()))
    part = opt.shard(shard)
    formats = _asked(format, place, words)
    documents = None
    where = _output.Target(None, None)
    if formats is None:
        where = _output.target(place, format, overwrite=overwrite, resume=resume)
    elif not words:
        documents = Documents(formats, place, overwrite=overwrite, resume=resume, joined=join_hyphens)

    from cvtool import charsets
    from cvtool.data import inputs as reading
    from cvtool.tasks._choose import choose

    if charset is not None:
        charsets.check_direction(charsets.charset(charset))
    reference = None if model is None else choose(model, "ocr")
    finder = None if detector in (None, "auto") else choose(detector, "ocr")
    lexicon = None if dictionary is None else _lexicon(dictionary)
    records: Iterable[Record] = reading.read(inputs or [], images=images, files0_from=files_from)
    if part is not None:
        records = (record for i, record in enumerate(records) if i % part[1] == part[0])

    from cvtool import download
    from cvtool.tasks import ocr as task

    if deterministic:
        from cvtool.runtime.device import deterministic as settle

        settle()
    download.set_progress(console.transfer)
    done: Iterable[Record] = task.ocr(
        documents.pending(records) if documents else where.pending(records), reference, detector=finder or detector, words=words, charset=charset,
        dictionary=lexicon, beam=beam, conf=conf, straighten=straighten, join_hyphens=join_hyphens, decoders=decoders, rounds=rounds,
        output=answer, save_rectified=save_rectified, save_attention=save_attention, tile=tile, overlap=overlap, batch_size=batch_size,
        workers=workers, device=device, precision=precision, offline=offline, report=console.say, facts=console.facts,
    )  # fmt: skip
    if documents is not None:
        _deliver(documents.deliver(done), console, documents)
    elif formats is not None:
        _deliver(_word_lines(done, formats[0], place, overwrite), console, None)
    elif where.path is None and where.format is None and sys.stdout.isatty():
        _deliver(_shown(done, words, _several(inputs or [])), console, None)
    else:
        _output.deliver(done, where, console, noun="word")


def _places(given: list[str]) -> tuple[str | None, str | None]:
    """-o apart from --output vision|language|fusion. Raises UsageError."""
    answers = [text for text in given if text in ANSWERS and not os.path.lexists(text)]
    places = [text for text in given if text not in answers]
    for what, some in (("places", places), ("answers", answers)):
        if len(some) > 1:
            raise UsageError(f"-o names two {what}: {some[0]} and {some[1]}")
    return places[0] if places else None, answers[0] if answers else None


def _asked(format: str | None, place: str | None, words: bool) -> list[str] | None:
    """The kinds of documents; None where records are asked for. Raises UsageError."""
    from cvtool.data import pages

    folder = place is not None and (place.endswith(("/", os.sep)) or Path(place).is_dir())
    if format is None:
        if folder:
            raise UsageError(f"which format is the folder {place} to hold?", hint="say -f txt,hocr,pdf ... or give -o a file: .txt, .pdf, .jsonl")
        found = None if place is None else pages.by_suffix(Path(place))
        names = [] if found in (None, "json") else [str(found)]
    else:
        names = [name.strip().lower().replace("_", "-") for name in format.split(",") if name.strip()]
        if len(set(names)) < len(names):
            raise UsageError(f"-f {format}: a format is named twice")
        if len(names) == 1 and names[0] not in pages.names() and not (names[0] == LINES and folder):
            return None
        for name in names:
            if name != LINES:
                pages.get(name)
    if not names:
        return None
    if words and (names[0] not in ("txt", "tsv") or len(names) > 1 or folder):
        raise UsageError(f"-f {','.join(names)}: words have no page", hint="with --words: jsonl, or -f txt or tsv to stdout or a file")
    return names


def _lexicon(path: Path) -> list[str]:
    """The words of a file, one a line. Raises InputError, and UsageError for words that are written from right to left."""
    from cvtool.charsets import check_direction

    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise InputError(f"cannot read the dictionary: {(error.strerror or str(error)).lower()}", where=path) from error
    except UnicodeDecodeError as error:
        raise InputError("the dictionary is not UTF-8 text", where=path) from error
    lexicon = list(dict.fromkeys(word for word in found if word))
    if not lexicon:
        raise InputError("the dictionary holds no word", where=path)
    for word in lexicon:
        check_direction(word)
    return lexicon


def _deliver(records: Iterable[Record], console: Console, documents: Documents | None) -> None:
    tally = _output.Tally(noun="word")
    stream = _output.counted(records, tally, console)
    try:
        for _ in stream:
            pass
    finally:
        stream.close()
        console.clear()
    skipped = documents.skipped if documents is not None else 0
    refuse_unread(tally.images, tally.bad, skipped)
    told = [f"{skipped} done before"] if skipped else []
    if documents is not None and documents.path is not None:
        told.append(f"in {documents.path}")
    if tally.images or skipped:
        console.say(tally.line([*console.facts.values(), *told]))
    _output.conclude(tally, bool(skipped))


def _shown(records: Iterable[Record], words: bool, titled: bool) -> Iterator[Record]:
    """Text for people; `titled` where there may be several pictures."""
    for record in records:
        if not record.failed:
            text = str(record.get("text", ""))
            page = f" page {record['page'] + 1}" if isinstance(record.get("page"), int) else ""
            if words:
                sys.stdout.write(f"{record.name}\t{text}\n")
            elif titled:
                sys.stdout.write(f"--- {record.name}{page}\n{text}\n\n")
            else:
                sys.stdout.write(text + "\n" if text else "")
            sys.stdout.flush()
        yield record


def _several(inputs: list[str]) -> bool:
    """Whether there may be more than one picture."""
    one = len(inputs) == 1 and (inputs[0] == "-" or os.path.isfile(inputs[0]))
    return not one or inputs[0].lower().endswith((".pdf", ".tif", ".tiff", ".json", ".jsonl", ".ndjson", ".tar"))


def _word_lines(records: Iterable[Record], format: str, place: str | None, overwrite: bool) -> Iterator[Record]:
    """Words as text, one a line, or as a table of name, text and score."""
    from cvtool.cli._pictures import write

    path = None if place in (None, "-", "/dev/stdout") else Path(str(place)).expanduser()
    if path is not None and path.is_file() and not overwrite:
        raise UsageError(f"{path} exists", hint="--overwrite to replace it, or name another place")
    lines = ["file_name\ttext\tscore\n"] if format == "tsv" else []
    if path is None:
        sys.stdout.write("".join(lines))
    for record in records:
        if not record.failed:
            line = _word_line(record, format)
            if path is None:
                sys.stdout.write(line)
                sys.stdout.flush()
            else:
                lines.append(line)
        yield record
    if path is not None:
        write("".join(lines).encode("utf-8", "surrogateescape"), path)


def _word_line(record: Record, format: str) -> str:
    text: Any = record.get("text", "")
    return f"{text}\n" if format == "txt" else f"{record.name}\t{text}\t{record.get('score', '')}\n"
