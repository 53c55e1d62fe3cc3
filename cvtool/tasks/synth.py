"""Made-up pictures of text, drawn by several processes and written as tar shards: data to learn reading and finding text from."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tarfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

from cvtool import archives
from cvtool.data.synth_text.engine import Artist
from cvtool.data.synth_text.engine import artist as artist
from cvtool.data.synth_text.words import Words
from cvtool.errors import CvtoolError

SHARD, SHARD_BYTES = 10_000, 1 << 30  # pictures and bytes after which the next shard begins
AT_ONCE = 32  # words that a process draws before it hands them over; of scenes and pages 2


def at_once(drawing: Artist) -> int:
    """Pictures that a process draws before it hands them over."""
    return AT_ONCE if isinstance(drawing, Words) else 2


def write(drawing: Artist, out: Path, n: int, *, seed: int = 0, part: str = "words", workers: int = 1) -> Iterator[int]:
    """Pictures 0 ... n - 1 of a seed as OUT/PART-000000.tar ..., KEY.jpg beside KEY.json; yields how many are written, now and then.

    The shards are the same for any number of workers. Raises InputError where no font shows what the lexicon has.
    """
    out.mkdir(parents=True, exist_ok=True)
    number = done = 0
    with _drawn(drawing, n, seed, workers) as pictures:
        while done < n:
            draft = out / f".{part}-{number:06d}.tar.tmp"
            size = 0
            with tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as archive:
                for key, content, said in islice(pictures, min(SHARD, n - done)):
                    archives.add(archive, f"{key:09d}.jpg", content)
                    archives.add(archive, f"{key:09d}.json", said)
                    size += len(content) + len(said)
                    done += 1
                    if done % AT_ONCE == 0:
                        yield done
                    if size > SHARD_BYTES:
                        break
            os.replace(draft, out / f"{part}-{number:06d}.tar")
            number += 1
    yield done


@contextmanager
def _drawn(drawing: Artist, n: int, seed: int, workers: int) -> Iterator[Iterator[tuple[int, bytes, bytes]]]:
    step = at_once(drawing)
    parts = (range(first, min(first + step, n)) for first in range(0, n, step))
    if workers <= 1:
        yield (one for part in parts for one in _some(part, drawing=drawing, seed=seed))
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _take, (drawing, seed)) as pool:
        try:
            yield _in_order(pool, parts, 4 * workers)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, parts: Iterator[range], ahead: int) -> Iterator[tuple[int, bytes, bytes]]:
    waiting: deque[Future] = deque()
    try:
        for part in chain(parts, repeat(None)):
            if part is not None:
                waiting.append(pool.submit(_own, part))
            if waiting and (part is None or len(waiting) >= ahead):
                yield from waiting.popleft().result()
            elif not waiting:
                return
    except BrokenProcessPool as error:
        raise CvtoolError("a process that draws was ended from outside", hint="-j 1 needs less memory") from error


_held: dict[str, Any] = {}


def _take(drawing: Artist, seed: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends them
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _held["draw"] = partial(_some, drawing=drawing, seed=seed)


def _own(numbers: range) -> list[tuple[int, bytes, bytes]]:
    return _held["draw"](numbers)


def _some(numbers: range, *, drawing: Artist, seed: int) -> list[tuple[int, bytes, bytes]]:
    found = []
    for number in numbers:
        picture = drawing.draw(seed, number)
        said = json.dumps(picture.record(), ensure_ascii=False, sort_keys=True).encode()
        found.append((number, picture.jpeg(), said))
    return found
