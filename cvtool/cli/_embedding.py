"""What `cvtool embed` does besides embedding, an action a function; each takes the options as `main` got them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvtool.cli import _output
from cvtool.cli._console import Console
from cvtool.cli._predict import predict
from cvtool.errors import UsageError

if TYPE_CHECKING:
    from cvtool.records import Record

OPTIONS = ("cluster", "dedupe", "pairs", "knn_labels", "search")  # options that are actions
WORDS = ("search", "gallery", "identify", "verify", "match", "match3d")  # words that are, in front of the inputs

_COMMON = {"output", "format", "overwrite", "config", "quiet", "verbose"}
_SHOWING = {"model", "batch_size", "workers", "device", "precision", "images", "files_from", "shard", "deterministic", "offline"}
_HOW = {"layer", "normalize", "binary", "img_size"}
EFFECTS = {  # action -> options that mean something to it
    "embed": _COMMON | _SHOWING | _HOW | {"tokens", "resume"},
    "search": _COMMON | _SHOWING | {"search", "top", "k", "distance", "ann", "recall", "json", "resume"},
    "cluster": _COMMON | {"cluster", "k", "distance", "grid", "seed"},
    "dedupe": _COMMON | {"dedupe", "threshold", "distance"},
    "pairs": _COMMON | _SHOWING | _HOW | {"pairs", "threshold", "distance", "json"},
    "knn_labels": _COMMON | _SHOWING | {"knn_labels", "search", "k", "threshold", "distance", "json", "resume"},
    "gallery add": _COMMON | _SHOWING | _HOW | {"gallery", "name"},
    "gallery remove": {"gallery", "name", "config", "quiet", "verbose"},
    "gallery list": {"gallery", "json", "config", "quiet", "verbose"},
    "identify": _COMMON | _SHOWING | {"gallery", "k", "threshold", "distance", "resume"},
    "verify": _COMMON | _SHOWING | _HOW | {"threshold", "distance"},
    "match": _COMMON | {"model", "layer", "img_size", "device", "precision", "images", "offline"},
    "match3d": _COMMON,
}
_WHOLE = ("npz", "npy", "safetensors", "parquet")  # formats that are files, not streams

Given = dict[str, Any]


def embed(given: Given) -> None:
    format = given["format"] or _output.BY_SUFFIX.get(Path(given["output"] or "").suffix.lower())
    if format in _WHOLE and given["output"] in (None, "-"):
        raise UsageError(f"-f {format} is a file, not a stream", hint=f"add -o FILE.{format}")
    if format == "parquet":
        from cvtool.data.formats import parquet

        parquet.require()
    earlier: list[Any] = []

    def pending(where: _output.Target, records: Iterable[Record]) -> Iterable[Record]:
        if not where.resume:
            return records
        from cvtool.tasks.embedding.resume import Earlier

        earlier.append(Earlier(where.journal))
        return earlier[0].remaining(records)

    predict("embed", given, then=lambda records: earlier[0].completed(records) if earlier else records, pending=pending)


def search(given: Given) -> None:
    from cvtool.tasks.embedding import search as task

    table = _table(given["search"])
    if given["top"] is not None and given["k"] is not None:
        raise UsageError("--top and -k mean the same here", hint="give one of them")
    top = given["top"] or given["k"] or 5
    given["k"] = None
    if given["recall"] or given["json"]:
        if not (given["recall"] and given["json"]) and given["json"]:
            raise UsageError("--json has no effect without --recall", hint="neighbors are JSON lines in a pipe")
        if len(given["inputs"]) != 1 or not _arrays(given["inputs"]):
            raise UsageError("--recall compares two tables", hint="cvtool embed --search images.npz texts.npz --recall")
        if given["ann"]:
            raise UsageError("--ann has no effect on --recall, which is exact")
        _figures(task.recall(_table(Path(given["inputs"][0])), table, distance=given["distance"]), given, ())
        return
    find = None
    if given["ann"]:
        from cvtool.tasks.embedding._ann import approximate

        console = Console("embed", quiet=given["quiet"], verbose=given["verbose"])
        find = approximate(table, given["distance"], console.say)
    _queried(given, table, lambda records: task.search(table, records, top=top, distance=given["distance"], nearest=find))


def knn(given: Given) -> None:
    from cvtool.tasks.embedding import knn as task

    queries = bool(given["search"])
    if not queries and not (len(given["inputs"]) == 1 and _arrays(given["inputs"])):
        raise UsageError(
            "--knn judges a table's own pictures, or others by --search TABLE",
            hint="cvtool embed photos.npz --knn labels.csv, or cvtool embed new/ --knn labels.csv --search photos.npz",
        )
    if queries and given["json"]:
        raise UsageError("--json has no effect with --search", hint="labels are JSON lines in a pipe")
    if not queries and given["threshold"] is not None:
        raise UsageError("--threshold has no effect without --search TABLE", hint="leave it out")
    table = _table(given["search"] if queries else Path(given["inputs"][0]))
    labels, notes = task.labels_of(table, given["knn_labels"])
    for note in notes:
        Console("embed", quiet=given["quiet"]).say(note)
    k = given["k"] or 5
    if queries:
        far = _distance(given)
        _queried(given, table, lambda records: task.classify(table, labels, records, k=k, threshold=far, distance=given["distance"]))
        return
    records, accuracy = task.leave_one_out(table, labels, k=k, distance=given["distance"])
    _figures({"leave_one_out_accuracy": accuracy, "k": k, "pictures": len(records)}, given, records)


def cluster(given: Given) -> None:
    from cvtool.tasks.embedding import cluster as task

    if given["inputs"]:
        raise UsageError("--cluster reads a table and takes no INPUT", hint="first: cvtool embed PHOTOS -m REF -o photos.npz")
    if given["k"] is None:
        raise UsageError("how many clusters? -k is missing", hint="such as -k 20")
    console = Console("embed", quiet=given["quiet"], verbose=given["verbose"])
    where = _output.target(given["output"], given["format"], overwrite=given["overwrite"])
    grid = given["grid"]
    if grid is not None and grid.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UsageError(f"--grid {grid}: the name does not tell the kind of picture", hint="end it in .png or .jpg")
    if grid is not None and grid.exists() and not given["overwrite"]:
        raise UsageError(f"{grid} exists", hint="--overwrite to replace it, or name another")
    records, found = task.cluster(_table(given["cluster"]), given["k"], distance=given["distance"] or "l2", seed=given["seed"] or 0)
    if grid is not None and (lost := task.sheet(records, grid)):
        console.say(f"{lost} of {len(records)} pictures cannot be read, so {grid} lacks them")
    _output.deliver(iter(records), where, console)
    console.say(
        f"{len(records)} in {given['k']} clusters after {len(found.inertia)} rounds; inertia {found.inertia[0]:.4g} -> {found.inertia[-1]:.4g}"
    )


def dedupe(given: Given) -> None:
    from cvtool.tasks.embedding import cluster as task

    if given["inputs"]:
        raise UsageError("--dedupe reads a table and takes no INPUT", hint="first: cvtool embed PHOTOS -m REF -o photos.npz")
    console = Console("embed", quiet=given["quiet"], verbose=given["verbose"])
    where = _output.target(given["output"], given["format"], overwrite=given["overwrite"])
    records = task.dedupe(_table(given["dedupe"]), _distance(given), distance=given["distance"])
    _output.deliver(iter(records), where, console)
    console.say(f"{sum('duplicate_of' in record for record in records):,} of {len(records):,} repeat an earlier one")


def pairs(given: Given) -> None:
    from cvtool.tasks.embedding import pairs as task
    from cvtool.tasks.embedding.table import Table

    if given["json"] and given["output"] is not None:
        raise UsageError("--json and -o exclude each other: the one tells figures, the other records")
    truth = task.read(given["pairs"])
    how = {"threshold": given["threshold"], "distance": given["distance"]}
    if how["threshold"] not in (None, *task.RULES):
        task.number(how["threshold"])
    if given["inputs"]:
        if len(given["inputs"]) != 1 or not _arrays(given["inputs"]):
            raise UsageError("--pairs names the pictures; INPUT can only be a table of their embeddings", hint="leave INPUT out")
        table = _table(Path(given["inputs"][0]))
        records, figures, notes = task.verify(truth, table, task.rows_of(truth, table), **how)
        _figures(figures, given, records, notes)
        return
    names = task.places(truth, given["images"])
    given["inputs"], given["images"] = names, None

    def judged(done: Iterable[Record]) -> Iterator[Record]:
        kept = []
        for record in done:
            if "embedding" in record:
                kept.append(record)
            else:
                yield record
        table = Table.of(kept, where=truth.where)
        row = {str(record["file_name"]): number for number, record in enumerate(kept)}
        records, figures, notes = task.verify(truth, table, [row.get(name) for name in names], **how)
        _say(figures, given, notes)
        yield from () if given["json"] else records

    predict("embed", given, then=judged)


def gallery_add(given: Given) -> None:
    from cvtool.tasks.embedding import gallery as task
    from cvtool.tasks.embedding.table import Table

    path = _gallery(given)
    if path.exists():
        table = Table.read(path)
        for option, key in (("layer", "layer"), ("normalize", "normalized"), ("binary", "binary"), ("img_size", "img_size")):
            if given[option] and given[option] != table.manifest.get(key):
                what = f"--{option.replace('_', '-')} is not how the gallery was made ({key}: {table.manifest.get(key)})"
                raise UsageError(what, where=path, hint="leave it out")
        _as_made(given, table)

    def added(done: Iterable[Record]) -> Iterator[Record]:
        listed = list(done)
        count, _ = task.add(path, listed, given["name"])
        for record in listed:
            yield record if record.failed else record.changed(embedding=None, labels=[{"category": task.who(record, given["name"])}])
        Console("embed", quiet=given["quiet"]).say(f"{count} new in {path}: " + ", ".join(f"{who} {n}" for who, n in task.names(path).items()))

    predict("embed", given, then=added)


def gallery_remove(given: Given) -> None:
    from cvtool.tasks.embedding import gallery as task

    names = [*given["inputs"], *([given["name"]] if given["name"] else [])]
    if len(names) != 1:
        raise UsageError("who is to be removed? one name is needed", hint="cvtool embed gallery remove NAME --gallery FILE.npz")
    count = task.remove(_gallery(given), names[0])
    Console("embed", quiet=given["quiet"]).say(f"{names[0]} removed, {count} picture{'s' * (count != 1)}")


def gallery_list(given: Given) -> None:
    from cvtool.tasks.embedding import gallery as task

    if given["inputs"]:
        raise UsageError("`gallery list` takes no INPUT")
    found = task.names(_gallery(given))
    if given["json"]:
        print(json.dumps(found))
        return
    for name, count in found.items():
        print(f"{name}\t{count}")


def identify(given: Given) -> None:
    from cvtool.tasks.embedding import gallery, knn

    table = gallery.read(_gallery(given))
    far, k = _distance(given), given["k"] or 5
    _queried(given, table, lambda records: knn.classify(table, knn.known(table), records, k=k, threshold=far, distance=given["distance"]))


def verify(given: Given) -> None:
    from cvtool.tasks.embedding import pairs as task

    if len(given["inputs"]) != 2:
        raise UsageError("verify compares two pictures", hint="cvtool embed verify a.jpg b.jpg -m REF --threshold F")
    if (far := _distance(given)) is None:
        raise UsageError("how far apart is another? --threshold is missing", hint="`cvtool embed --pairs pairs.tsv -m REF` finds it in known pairs")

    def judged(done: Iterable[Record]) -> Iterator[Record]:
        kept = []
        for record in done:
            if "embedding" in record:
                kept.append(record)
            else:
                yield record
        if len(kept) == 2:
            yield task.two(kept[0], kept[1], threshold=far, distance=given["distance"])

    predict("embed", given, then=judged)


def match(given: Given) -> None:
    from cvtool.data import inputs
    from cvtool.tasks._choose import choose

    console = Console("embed", quiet=given["quiet"], verbose=given["verbose"])
    where = _output.target(given["output"], given["format"], overwrite=given["overwrite"])
    records = list(inputs.read(given["inputs"], images=given["images"])) if given["inputs"] else []
    if len(records) != 2:
        raise UsageError(f"match compares two pictures, not {len(records)}", hint="cvtool embed match a.png b.png -m REF")
    model = choose(given["model"], "embed" if given["layer"] is None else None)

    from cvtool.tasks.embedding.match import match as task

    options = {name: given[name] for name in ("layer", "img_size", "device", "precision", "offline")}
    _output.deliver(iter([task(records[0], records[1], model, **options)]), where, console)


def match3d(given: Given) -> None:
    from cvtool.tasks.embedding.match import match3d as task

    if len(given["inputs"]) != 2:
        raise UsageError("match3d compares two point clouds", hint="cvtool embed match3d a.ply b.ply")
    console = Console("embed", quiet=given["quiet"], verbose=given["verbose"])
    where = _output.target(given["output"], given["format"], overwrite=given["overwrite"])
    _output.deliver(iter([task(*map(Path, given["inputs"]))]), where, console)


ACTIONS = {
    "embed": embed, "search": search, "cluster": cluster, "dedupe": dedupe, "pairs": pairs, "knn_labels": knn, "gallery add": gallery_add,
    "gallery remove": gallery_remove, "gallery list": gallery_list, "identify": identify, "verify": verify, "match": match, "match3d": match3d,
}  # fmt: skip


# --- what they share -----------------------------------------------------------------------------------------------------------------------------


def _table(path: Path, *, queries: bool = False) -> Any:
    from cvtool.tasks.embedding.table import Table

    return Table.read(path, queries=queries)


def _arrays(inputs: Iterable[str]) -> bool:
    """Whether all inputs are tables, by their names."""
    return all(Path(text).suffix.lower() in (".npz", ".npy", ".safetensors", ".parquet", ".csv", ".jsonl") for text in inputs)


def _queried(given: Given, table: Any, then: Any) -> None:
    """Deliver what `then` makes of the queries: pictures, embedded as the table was, or the rows of other tables."""

    def without(records: Iterable[Record]) -> Iterator[Record]:
        for record in then(records):
            yield record.changed(embedding=None)

    inputs = given["inputs"]
    if inputs and all(Path(text).suffix.lower() in (".npz", ".npy", ".safetensors", ".parquet") for text in inputs):
        if given["model"]:
            raise UsageError("-m has no effect on queries that are embedded", hint="leave it out")
        from cvtool.data.formats import _vectors

        console = Console("embed", quiet=given["quiet"], verbose=given["verbose"])
        where = _output.target(given["output"], given["format"], overwrite=given["overwrite"], resume=given["resume"])
        tables = [_table(Path(text), queries=True) for text in inputs]
        for other in tables:
            table.accept(other.manifest, other.where)
        rows = chain.from_iterable(_vectors.records(_vectors.Vectors(other.vectors, other.records)) for other in tables)
        _output.deliver(without(where.pending(rows)), where, console)
        return
    _as_made(given, table)
    predict("embed", given, then=without)


def _as_made(given: Given, table: Any) -> None:
    """Embed as the table was embedded. Raises InputError where -m names another model, UsageError where nothing tells which."""
    made = table.manifest
    if given["model"] is not None:
        from cvtool.tasks._choose import choose

        table.accept({**made, "model": str(choose(given["model"], None if made.get("layer") else "embed"))} if made.get("model") else {}, table.where)
    given["model"] = given["model"] or table.model
    if given["model"] is None:
        raise UsageError("which model embeds the query? the table does not say", hint="-m the one that made it")
    if made.get("model"):
        given |= {"layer": made.get("layer"), "normalize": bool(made.get("normalized")), "img_size": made.get("img_size")}
        given |= {"binary": bool(made.get("binary"))}


def _gallery(given: Given) -> Path:
    if given["gallery"] is None:
        raise UsageError("which gallery? --gallery is missing", hint="--gallery people.npz; `gallery add` makes it")
    return given["gallery"]


def _distance(given: Given) -> float | None:
    """--threshold as a distance."""
    from cvtool.tasks.embedding.pairs import number

    return None if given["threshold"] is None else number(given["threshold"])


def _say(figures: dict[str, Any], given: Given, notes: Iterable[str]) -> None:
    """Figures on stderr, or with --json as one object on stdout."""
    console = Console("embed", quiet=given["quiet"], verbose=given["verbose"])
    for note in notes:
        console.say(note)
    if given["json"]:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    console.say(
        ", ".join(f"{name.replace('_', ' ')} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items())
    )


def _figures(figures: dict[str, Any], given: Given, records: Iterable[Record], notes: Iterable[str] = ()) -> None:
    """Figures and, without --json, the records they are of."""
    if given["json"] and given["output"] is not None:
        raise UsageError("--json and -o exclude each other: the one tells figures, the other records")
    listed = list(records)
    if listed and not given["json"]:
        console = Console("embed", quiet=True)
        where = _output.target(given["output"], given["format"], overwrite=given["overwrite"])
        _output.deliver(iter(listed), where, console)
    _say(figures, given, notes)
