"""Pictures as vectors: each record with its `embedding`. What is done with tables of them is in `tasks/embedding/`."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress

import numpy as np

from cvtool import archives
from cvtool.errors import UsageError
from cvtool.records import Record
from cvtool.registry import Reference
from cvtool.tasks._predictor import Report, Settings
from cvtool.tasks._runner import run
from cvtool.tasks.embedding._encode import Features


def embed(
    records: Iterable[Record],
    model: str | Reference,
    *,
    layer: str | None = None,
    tokens: bool = False,
    normalize: bool = False,
    binary: bool = False,
    batch_size: int | None = None,
    workers: int | None = None,
    img_size: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    offline: bool = False,
    report: Report | None = None,
    facts: dict[str, str] | None = None,
) -> Generator[Record, None, None]:
    """Each record with `embedding`, the numbers of the model's features, and `sha256`, of the picture's bytes. Other options as for `detect`.

    layer: what a forward hook on that module sees, the mean over its positions. tokens: a vector for each position, T D. normalize: of length 1.
    binary: a bit for each number instead, 1 where it lies above the vector's mean: small, and compared by counting (Hamming).
    """
    if binary and normalize:
        raise UsageError("--normalize has no effect with --binary", hint="bits are the same at any length")
    settings = Settings(batch_size=batch_size, workers=workers, img_size=img_size, features=Features(layer, tokens, normalize))
    done = run(_hashed(records), model, "embed", settings, device=device, precision=precision, offline=offline, report=report, facts=facts)
    return _binary(done) if binary else done


def sha256_of(record: Record) -> str | None:
    """Of a picture's bytes, as hexadecimal digits; None where there is none to read."""
    if record.data is not None:
        return hashlib.sha256(record.data).hexdigest()
    with suppress(OSError, ValueError), archives.opened(str(record.get("file_name") or "")) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    return None


def _hashed(records: Iterable[Record]) -> Iterator[Record]:
    for record in records:
        yield record if record.failed else record.changed(sha256=sha256_of(record))


def _binary(records: Iterable[Record]) -> Generator[Record, None, None]:
    for record in records:
        if "embedding" in record:
            *earlier, entry = record["made_by"]
            small = bits(np.asarray(record["embedding"])).astype(int).tolist()
            record = record.changed(embedding=small, made_by=[*earlier, entry | {"binary": True}])
        yield record


def bits(vectors: np.ndarray) -> np.ndarray:
    """... D -> ... D of 0 and 1: above the vector's own mean or not."""
    return (vectors > vectors.mean(-1, keepdims=True)).astype(np.float32)
