"""What the verbs that show pictures to a model share: options in, records out. A verb's file holds its options and its help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cvtool.cli import _options, _output, _ranks
from cvtool.cli._console import Console
from cvtool.errors import UsageError

if TYPE_CHECKING:
    from cvtool.records import Record


def predict(
    verb: str,
    given: dict[str, Any],
    then: Callable[[Iterable[Record]], Iterable[Record]] | None = None,
    pending: Callable[[_output.Target, Iterable[Record]], Iterable[Record]] = _output.Target.pending,
) -> None:
    """Run `cvtool.tasks.<verb>` on the inputs, with the options as the verb's `main` got them (by name), and deliver the records.

    Everything that can be refused is refused before torch is imported. then: what becomes of the records before they are delivered.
    pending: which inputs --resume has still to do.
    """
    console = Console(verb, quiet=given["quiet"], verbose=given["verbose"])
    if "tile" in given:
        _options.needs("--overlap", given["overlap"], "--tile", given["tile"])
    if given.get("tta") is not None:
        from cvtool.tasks import _views

        _views.parse(given["tta"])
    crops = given.get("save_crops")
    if crops is not None and not (given["overwrite"] or given["resume"]) and crops.exists() and (not crops.is_dir() or any(crops.iterdir())):
        raise UsageError(f"--save-crops {crops}: the folder is not empty", hint="name a new one, or add --overwrite")
    ranks = _ranks.from_environment(given["output"], given["shard"])
    part = _options.shard(given["shard"])
    overwrite = given["overwrite"] and not (crops is not None and given["output"] is None)
    where = _output.target(given["output"], given["format"], overwrite=overwrite, resume=given["resume"], part=ranks.part if ranks else None)
    records = _read(given)

    from cvtool.tasks._choose import choose

    reference = choose(given["model"], verb if given.get("layer") is None else None)
    console.detail(f"model {reference}")
    records = _shard(records, ranks.part if ranks else part)
    task = _task(verb)
    if given["deterministic"]:
        from cvtool.runtime.device import deterministic

        deterministic()
    from cvtool import download

    download.set_progress(console.transfer)
    options = {name: given[name] for name in inspect.signature(task).parameters if name in given and name != "model"}
    if "classes" in given:
        options["classes"] = _options.split_commas(given["classes"])
    if ranks:
        options["device"] = ranks.device(given["device"])
    done = task(pending(where, records), reference, **options, report=console.say, facts=console.facts)
    if then is not None:
        done = then(done)
    if ranks:
        ranks.deliver(done, where, console)
    else:
        _output.deliver(done, where, console)


def _read(given: dict[str, Any]) -> Iterable[Record]:
    from cvtool.data import inputs

    return inputs.read(given["inputs"] or [], images=given["images"], files0_from=given["files_from"])


def _shard(records: Iterable[Record], part: tuple[int, int] | None) -> Iterator[Record]:
    """Every N-th record, beginning with the I-th; all without a part."""
    index, count = part or (0, 1)
    return (record for i, record in enumerate(records) if i % count == index)


def _task(verb: str) -> Callable[..., Any]:
    from importlib import import_module

    return getattr(import_module(f"cvtool.tasks.{verb}"), verb)
