"""`cvtool data synth`: made-up pictures of text, as tar shards."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from cvtool.cli import _options
from cvtool.cli._console import Console
from cvtool.errors import UsageError

Kind = Annotated[str, typer.Argument(metavar="KIND", help="words (a word a picture), scenes (words in photographs) or pages (print).")]
Count = Annotated[str, typer.Option("-n", metavar="N", help="How many pictures; 1e6 is a million.")]
FontFolder = Annotated[Path | None, typer.Option("--fonts", metavar="DIR", help="Where the fonts lie (default /usr/share/fonts).")]
WordList = Annotated[
    list[str] | None,
    typer.Option("--lexicon", metavar="FILE[=WEIGHT]", help="A list of words (default: the system's); repeatable, taken by their weights."),
]
Backgrounds = Annotated[Path | None, typer.Option("--backgrounds", metavar="DIR", help="Photographs to paint on (default: scikit-image's).")]
Characters = Annotated[str, typer.Option("--charset", metavar="NAME", help="latin, printable, alnum, letters, digits, or the characters themselves.")]
MaxLength = Annotated[int, typer.Option("--max-length", min=1, max=200, metavar="N", help="Longest text, in characters.")]


def synth(
    kind: Kind,
    n: Count,
    output: _options.Output = None,
    fonts: FontFolder = None,
    lexicon: WordList = None,
    backgrounds: Backgrounds = None,
    charset: Characters = "latin",
    max_length: MaxLength = 25,
    part: Annotated[str | None, typer.Option("--split", metavar="NAME", help="The part that these pictures are: train, val ...")] = None,
    seed: _options.Seed = None,
    workers: _options.Workers = None,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Draw pictures of text to train readers and finders of text with: tar shards, the truth beside each picture.

    Picture i depends on the seed, i, the fonts, the lists and the options alone. Fonts without Latin letters and unreadable ones are left out;
    Debian's fonts-liberation, fonts-dejavu, fonts-noto-core, fonts-lato, fonts-open-sans and fonts-urw-base35 make a good start.

        cvtool data synth words -n 1e6 -o shards/ && cvtool train -m crnn --data shards/
        cvtool data synth words -n 20000 --lexicon /usr/share/dict/words=85 --lexicon /usr/share/dict/french=15 --seed 1 -o more/
        cvtool data synth scenes -n 5000 -o streets/ && cvtool train -m east --data streets/
    """
    from cvtool.cli import _output
    from cvtool.tasks import synth as task

    if output is None or output == "-":
        raise UsageError("-o is missing: the folder for the shards", hint="such as: -o shards/")
    count = _count(n)
    name = part or kind
    if name.startswith(".") or Path(name).name != name:
        raise UsageError(f"--split {name} is no file name")
    where = _output.target(output.rstrip("/") + "/", "folder", overwrite=overwrite)
    assert where.path is not None
    console = Console("data synth", quiet=quiet)
    drawing = task.artist(kind, fonts=fonts, lexicon=_lists(lexicon), backgrounds=backgrounds, characters=charset, max_length=max_length)
    console.say(f"{len(drawing.fonts.faces):,} fonts of {drawing.fonts.folder}")
    draft = where.path.with_name(f".{where.path.name}.{os.getpid()}.tmp")
    begun = told = time.monotonic()
    done = 0
    try:
        jobs = os.cpu_count() or 1 if workers is None else workers
        for done in task.write(drawing, draft, count, seed=seed or 0, part=name, workers=min(jobs, -(-count // task.at_once(drawing)))):
            now = time.monotonic()
            if not quiet and now - told > (1 if sys.stderr.isatty() else 30):
                told = now
                console.say(f"{done:,} of {count:,} pictures, {done / (now - begun):,.0f} a second")
        _output.merge_folder(draft, where.path)
    except BaseException:
        _output.remove(draft)
        raise
    console.say(f"{done:,} pictures in {output}, {done / max(time.monotonic() - begun, 1e-3):,.0f} a second")


def _count(text: str) -> int:
    """`300000` or `3e5`. Raises UsageError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 1e9 or value != int(value):
        raise UsageError(f"-n {text} is no number of pictures", hint="such as -n 10000, or -n 1e6")
    return int(value)


def _lists(given: list[str] | None) -> list[tuple[Path, float]]:
    """`words.txt`, `words.txt=0.5` -> paths and weights. Raises UsageError."""
    found = []
    for text in given or ():
        path, equals, weight = text.rpartition("=")
        if not equals or os.path.exists(text):
            found.append((Path(text).expanduser(), 1.0))
            continue
        try:
            share = float(weight)
        except ValueError:
            share = 0.0
        if not 0 < share < 1e9:
            raise UsageError(f"--lexicon {text}: '{weight}' is no weight", hint="such as --lexicon words.txt=0.5")
        found.append((Path(path).expanduser(), share))
    return found
