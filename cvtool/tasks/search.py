"""Search for an architecture, child after child: `search("simple-cnn", "flowers/", {"depth": [2, 3], "width": [16, 32]})`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvtool import registry, weights
from cvtool.data import source
from cvtool.errors import InputError, UsageError
from cvtool.tasks import train as trains
from cvtool.train import arguments
from cvtool.train import recipe as recipes
from cvtool.train.log import Reporter
from cvtool.train.nas import Search
from cvtool.train.validate import FIGURES

LOG = "search.jsonl"


def space_of(text: str) -> dict[str, list[Any]]:
    """`depth=2|3|4;width=16|32` -> {"depth": [2, 3, 4], "width": [16, 32]}. Raises UsageError."""
    import tomllib

    found: dict[str, list[Any]] = {}
    for piece in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, values = piece.partition("=")
        options = [value.strip() for value in values.split("|") if value.strip()]
        if not name.strip() or not equals or len(options) < 2:
            raise UsageError(f"--search: '{piece}' is no choice", hint="such as 'depth=2|3|4;width=16|32'")
        read: list[Any] = []
        for option in options:
            try:
                read.append(tomllib.loads(f"value = {option}")["value"])
            except tomllib.TOMLDecodeError:
                read.append(option)
        found[name.strip().replace("-", "_")] = read
    if not found:
        raise UsageError("--search names no choice", hint="such as 'depth=2|3|4;width=16|32'")
    return found


def search(
    model: str,
    data: str | Path,
    space: Mapping[str, Sequence[Any]],
    *,
    trials: int = 20,
    output: str | Path = "runs",
    reporter: Reporter | None = None,
    layers: Sequence[Mapping[str, Any]] = (),
    **options: Any,
) -> tuple[Path, dict[str, Any], float]:
    """Train at most `trials` children, each with values of `space` (arguments of the model's construction, or settings), under `output`.

    A child's reward is its best validation figure. An architecture that was trained before is not trained again. Every trial is a line of
    `search.jsonl`, and those that stand there already are not trained again.
    Returns the run folder, the values and the figure of the best child. Other options are those of `train`.
    """
    reporter = reporter or Reporter()
    reference = registry.parse(model)
    takes = arguments.known(reference.entry, reference.variant)
    for name in space:
        if name not in takes and name not in recipes.DEFAULTS:
            recipes.built_with({name: space[name][0]}, takes, reference.name)  # says what there is
    _check_validation(model, data, layers, options)
    output = Path(output)
    known: dict[str, float] = {}
    best: tuple[Path, dict[str, Any], float] | None = None
    output.mkdir(parents=True, exist_ok=True)
    for line in (output / LOG).read_text(encoding="utf-8").splitlines() if (output / LOG).exists() else ():
        done = json.loads(line)  # of a search that was stopped
        if done["values"].keys() == space.keys() and all(value in space[name] for name, value in done["values"].items()):
            known[json.dumps(done["values"], sort_keys=True)] = done["reward"]
            if best is None or done["reward"] > best[2]:
                best = (output / done["run"], done["values"], done["reward"])
    controller = Search(space, seed=int(next((layer["seed"] for layer in reversed(layers) if "seed" in layer), 0)), batch=1)

    def reward(values: dict[str, Any]) -> float:
        nonlocal best
        key = json.dumps(values, sort_keys=True)
        if key not in known:
            folder = trains.train(model, data, output=output, layers=[*layers, values], **options)
            known[key] = figure(folder)
            if best is None or known[key] > best[2]:
                best = (folder, values, known[key])
            line = {"values": values, "reward": known[key], "run": folder.name}
            with (output / LOG).open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            reporter.note(f"trial {len(known)}: {' '.join(f'{k}={v}' for k, v in values.items())} -> {known[key]:.4f}")
        return known[key]

    size = 1
    for values in space.values():
        size *= len(values)
    for _ in range(20 * trials):  # a controller that has made up its mind draws what it knows
        if len(known) >= min(trials, size):
            break
        controller.turn(reward)
    assert best is not None
    return best


def _check_validation(model: str, data: str | Path, layers: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> None:
    """Raises UsageError where there is nothing to validate on, before a child is trained for nothing."""
    takes = inspect.signature(trains.plan).parameters
    planned = trains.plan(model, data, layers=layers, **{key: value for key, value in options.items() if key in takes})
    _, val, _ = source.read({**planned.located(), "seed": planned.recipe["seed"], "strict": planned.recipe["strict"]})
    if not val:
        raise UsageError("a search goes by validation, and there is nothing to validate on", hint="--data-val, or --split 80,20")


def figure(folder: Path) -> float:
    """The best value of the run's first figure. Raises InputError where nothing was validated."""
    metrics = weights.read_info(folder).metrics
    for name in FIGURES:
        if name in metrics:
            return float(metrics[name])
    if "val_loss" in metrics:
        return -float(metrics["val_loss"])
    raise InputError("a search goes by validation, and there is nothing to validate on", where=folder, hint="--data-val, or --split 80,20")
