"""Turn images into vectors; find the nearest of a table of them; group one into clusters.

A vector is what a model sees before it decides: any classifier embeds, trained here or published, and `handcrafted` needs no weights. Tables are
.npz (vectors, file_name) or JSON lines with `embedding`. Search results are `neighbors` of the query's record.

Examples:

    cvtool embed photos/ -m timm:resnet18.a1_in1k -o photos.npz
    cvtool embed --search photos.npz query.png --top 5
    cvtool embed photos/ -m handcrafted --binary -o bits.npz
    cvtool embed --cluster photos.npz -k 20 --grid clusters.png -o clusters.jsonl
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cvtool.cli import _options as opt
from cvtool.cli import _output
from cvtool.cli._console import Console
from cvtool.cli._predict import predict
from cvtool.errors import InputError, UsageError

if TYPE_CHECKING:
    from cvtool.records import Record

Binary = Annotated[bool, typer.Option("--binary", help="Bits instead of numbers (above the mean or not), for Hamming search.")]
Cluster = Annotated[Path | None, typer.Option("--cluster", metavar="TABLE", help="Group this table into -k clusters.")]
Count = Annotated[int | None, typer.Option("-k", min=1, metavar="N", help="How many clusters.")]
Distance = Annotated[str | None, typer.Option("--distance", metavar="NAME", help="cosine, l2 or hamming (default: hamming for bits, else cosine).")]
Search = Annotated[Path | None, typer.Option("--search", metavar="TABLE", help="For each INPUT, the nearest of this table.")]
Top = Annotated[int, typer.Option("--top", min=1, metavar="N", help="How many neighbors.")]


def main(
    inputs: opt.Inputs = None,
    model: opt.Model = None,
    output: opt.Output = None,
    format: opt.Format = None,
    search: Search = None,
    top: Top = 5,
    cluster: Cluster = None,
    k: Count = None,
    distance: Distance = None,
    grid: opt.Grid = None,
    binary: Binary = False,
    img_size: opt.ImgSize = None,
    batch_size: opt.BatchSize = None,
    workers: opt.Workers = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "fp32",
    images: opt.Images = None,
    files_from: opt.FilesFrom = None,
    shard: opt.Shard = None,
    seed: opt.Seed = None,
    overwrite: opt.Overwrite = False,
    resume: opt.Resume = False,
    deterministic: opt.Deterministic = False,
    offline: opt.Offline = False,
    config: opt.Config = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
) -> None:
    given = locals()
    if search is not None and cluster is not None:
        raise UsageError("--search and --cluster exclude each other")
    for option, value in (("-k", k), ("--grid", grid), ("--seed", seed)):
        opt.needs(option, value, "--cluster", cluster)
    if cluster is None and search is None and distance is not None:
        raise UsageError("--distance has no effect without --search or --cluster")
    if cluster is not None:
        if inputs or model:
            raise UsageError("--cluster reads a table and takes no INPUT and no model", hint="first: cvtool embed PHOTOS -m REF -o photos.npz")
        _cluster(given)
        return
    if binary and search is not None:
        raise UsageError("--binary has no effect with --search", hint="a table of bits is searched by bits anyway")
    if search is not None:
        table = _table(search)
        given["model"] = given["model"] or table.model
        if given["model"] is None:
            raise UsageError("which model embeds the query? the table does not say", hint="-m the one that made it")
        predict("embed", given, then=lambda records: _found(table, records, top, distance))
        return
    predict("embed", given)


def _table(path: Path) -> Any:
    """A table of embeddings from .npz or JSON lines."""
    from cvtool.data import formats
    from cvtool.tasks.embed import Table

    if not path.is_file():
        raise InputError("no such table", where=path, hint="`cvtool embed PHOTOS -m REF -o FILE.npz` makes one")
    name = "npz" if path.suffix.lower() == ".npz" else "jsonl"
    return Table.of(formats.get(name).read(path), where=path)


def _found(table: Any, records: Iterable[Record], top: int, distance: str | None) -> Iterator[Record]:
    from cvtool.tasks.embed import search

    for record in search(table, records, top=top, distance=distance):
        yield record.changed(embedding=None) if "neighbors" in record else record


def _cluster(given: dict[str, Any]) -> None:
    from cvtool.tasks import embed as task

    if given["k"] is None:
        raise UsageError("how many clusters? -k is missing", hint="such as -k 20")
    console = Console("embed", quiet=given["quiet"], verbose=given["verbose"])
    where = _output.target(given["output"], given["format"], overwrite=given["overwrite"], resume=given["resume"])
    grid = given["grid"]
    if grid is not None and grid.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UsageError(f"--grid {grid}: the name does not tell the kind of picture", hint="end it in .png or .jpg")
    if grid is not None and grid.exists() and not given["overwrite"]:
        raise UsageError(f"{grid} exists", hint="--overwrite to replace it, or name another")
    table = _table(given["cluster"])
    records, found = task.cluster(table, given["k"], distance=given["distance"] or "l2", seed=given["seed"] or 0)
    if grid is not None and (lost := task.sheet(records, grid)):
        console.say(f"{lost} of {len(records)} pictures cannot be read, so {grid} lacks them")
    _output.deliver(iter(records), where, console)
    console.say(
        f"{len(records)} in {given['k']} clusters after {len(found.inertia)} rounds; inertia {found.inertia[0]:.4g} -> {found.inertia[-1]:.4g}"
    )
