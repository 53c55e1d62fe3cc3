"""Train a model on a data set: `train("faster-rcnn.small", "bccd/")` returns the run's folder; `resume(folder)` goes on with it."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cvtool import losses, registry, weights
from cvtool.data import augment, balance, preprocess
from cvtool.errors import ModelError, UsageError
from cvtool.render import curves
from cvtool.runtime import torchrun
from cvtool.runtime.device import check_precision
from cvtool.tasks import chain
from cvtool.tasks._job import Job
from cvtool.tasks._sets import cache_bytes
from cvtool.train import arguments, distributed, initialize, optim, sanity, schedule, steps
from cvtool.train import recipe as recipes
from cvtool.train.find_lr import TURNS, Finding
from cvtool.train.log import Reporter
from cvtool.train.recipe import Plan
from cvtool.train.run import LOG, Run

FINDER = "lr-finder.png"


def plan(
    model: str,
    data: str | Path | None,
    *,
    data_val: str | Path | None = None,
    data_format: str | None = None,
    images: str | Path | None = None,
    split: str | None = None,
    split_val: str | None = None,
    fold: str | None = None,
    data_old: str | Path | None = None,
    pretrain_synthetic: str | Path | None = None,
    layers: Sequence[Mapping[str, Any]] = (),
    asked: Collection[str] = (),
    command: Sequence[str] = (),
) -> Plan:
    """Resolve a run without touching data or network. `layers`: settings over the model's recipe, later ones win; what no
    recipe has but the model's `build` takes goes into its construction. `asked`: settings that are refused where they have no effect.

    A model given as a checkpoint, a run folder or NAME@WEIGHTS starts from those weights (`init`); one of another name from the first that are
    published for it, if they can be had; NAME@none from none. Raises UsageError, ModelError.
    """
    reference, init = registry.parse(model), ""
    changes: dict[str, Any] = {}
    if reference.path is not None:
        info = weights.read_info(reference.path)
        init, reference = str(reference.path), registry.parse(info.reference.partition("@")[0])
        changes = {key: value for key, value in info.arguments.items() if key != "keypoints"}  # those are the data's affair
    elif "@" in model and reference.weights != "none":
        init = str(reference)
    entry = reference.entry
    own = recipes.of_model(entry.recipe, reference.variant) if entry else {}
    try:
        recipes.resolve(own)
    except UsageError as error:
        raise ModelError(f"the recipe of {reference.name} is wrong: {error.what}", where=entry and entry.path) from error
    takes = arguments.known(entry, reference.variant)
    loss = next((str(layer["loss"]) for layer in reversed(layers) if "loss" in layer), "")
    if (needed := losses.needs_step(loss)) and not any("step" in layer for layer in layers):
        layers = (*layers, {"step": needed})  # an adversarial term brings its training step
    step = recipes.step_of(own, *layers)
    settings = {**recipes.DEFAULTS, **steps.settings(step)}
    for layer in layers:
        changes |= {key: value for key, value in layer.items() if key not in settings}
    changes = recipes.built_with(changes, takes, reference.name)
    own = {key: value for key, value in own.items() if key in settings}  # its own step's settings go where another step is asked for
    recipe = recipes.resolve(own, {"init": init}, *({k: v for k, v in layer.items() if k in settings} for layer in layers))
    if recipe["img_size"] and "image_size" in changes and any("image_size" in layer for layer in layers):
        raise UsageError("img_size and image_size are given both", hint="they say how large a picture enters; leave image_size out")
    if init and recipe["init"] != init:
        raise UsageError(f"-m {model} and init={recipe['init']} both say where to start", hint="leave one out")
    check_names(recipe)
    check_effects(recipe, {key for layer in layers for key in layer})
    if recipe["overfit"]:
        for option, value in (("--data-val", data_val), ("--split-val", split_val), ("--fold", fold)):
            if value is not None:
                raise UsageError(f"{option} has no effect with --overfit, which validates on what it learns", hint=f"leave {option} out")
        recipe = sanity.overfitting(recipe, layers[-1] if layers else {})
    where = {
        "pretrain_synthetic": pretrain_synthetic, "data": data, "data_old": data_old, "data_val": data_val, "data_format": data_format,
        "images": images, "split": split, "split_val": split_val, "fold": fold,
    }  # fmt: skip
    given = {key: str(value) for key, value in where.items() if value is not None}
    made = {"command": shlex.join(command)} if command else {}
    name, by_default = str(replace(reference, weights=None)), False
    fresh = "@" in model or reference.path is not None or recipe["initializer"] or any("init" in layer for layer in layers)
    if not fresh and (usual := recipes.published(name)):
        recipe["init"], by_default = usual, True
    return Plan(name, given, recipe, made, changes, frozenset(asked), by_default)


def check_names(recipe: Mapping[str, Any]) -> None:
    """Every name in a recipe is known. Raises UsageError."""
    steps.get(recipe["step"])
    optim.make(recipe["optimizer"], lr=recipe["lr"])
    schedule.make(recipe["schedule"], turns=1)
    augment.parse(recipe["augment"])
    balance.check(recipe["balance"])
    for key, check in (("initializer", initialize.check), ("preprocess", preprocess.check)):
        if recipe[key]:
            check(recipe[key])
    cache_bytes(recipe["cache"], ())
    if (step := losses.needs_step(recipe["loss"])) and recipe["step"] != step:
        raise UsageError(f"the loss {recipe['loss']} needs the training step {step}", hint=f"add --set step={step}")
    check_precision(torch.device("cuda:0") if recipe["precision"] == "fp16" else torch.device("cpu"), recipe["precision"])


def check_effects(recipe: Mapping[str, Any], asked: Collection[str]) -> None:
    """Refuse settings that were asked for and that others leave without effect. Raises UsageError."""
    for key in sorted(set(optim.KEYS) - optim.takes(recipe["optimizer"])):
        if key in asked:
            raise UsageError(f"{key} has no effect with {recipe['optimizer']}", hint="it goes with " + ", ".join(optim.taking(key)))
    needs = {"final_epochs": "final_res", "final_res": "final_epochs"}
    for key, other in needs.items():
        if key in asked and recipe[key] and not recipe[other]:
            option = f"--{key.replace('_', '-')}"
            raise UsageError(f"{option} has no effect without --{other.replace('_', '-')}", hint=f"leave {option} out")


def train(
    model: str,
    data: str | Path,
    *,
    output: str | Path = "runs",
    device: str = "auto",
    workers: int = 0,
    offline: bool = False,
    reporter: Reporter | None = None,
    tensorboard: bool = False,
    **options: Any,
) -> Path:
    """Train and return the run's folder (a new one under `output`). `options` are those of `plan`. tensorboard: its files too, in the folder.

    Raises UsageError, InputError, ModelError before anything is written; CvtoolError for a loss that is not finite or a full disk;
    Terminated or Interrupted after a signal, with everything saved.
    """
    planned = plan(model, data, **options)
    return start(planned, output=output, device=device, workers=workers, offline=offline, reporter=reporter, tensorboard=tensorboard)


def start(
    planned: Plan,
    *,
    output: str | Path = "runs",
    device: str = "auto",
    workers: int = 0,
    offline: bool = False,
    reporter: Reporter | None = None,
    tensorboard: bool = False,
) -> Path:
    """Train as planned, in a new run folder under `output`; a chain's stages in one each, of which the last is returned."""
    world = distributed.join(device)
    given: dict[str, Any] = {"device": device, "workers": workers, "offline": offline, "reporter": reporter, "tensorboard": tensorboard}
    if (begun := world.remembered()) is not None:
        return _through(_reopened(Path(begun), None, world, **given), given)
    return _through(_made(planned, Path(output), world, **given), given)


@dataclass
class _Stage:
    """One training of a chain, ready to run."""

    planned: Plan
    job: Job
    run: Run
    state: dict[str, Any] | None = None


def _made(planned: Plan, output: Path, world: distributed.World, *, offline: bool, earlier: bytes = b"", **given: Any) -> _Stage:
    """A new run under `output`. earlier: what its log begins with."""
    with world.agreed():
        if (now := chain.current(planned)) is not planned:
            after = chain.following(planned, Path())
            assert after is not None
            Job(after, **given, world=world)  # what is wrong with the second data set is told before the first is learned
        job = Job(now, **given, world=world)
        job.build(offline=offline)
    planned.recipe["init"] = job.recipe["init"]
    planned.made = {"folder": str(Path.cwd())} | planned.made | weights.versions()
    made = ""
    with world.agreed():
        if world.first:
            made = str(Run.make(output, planned).folder)
            if earlier:
                Path(made, LOG).write_bytes(earlier)
            world.remember(str(Path(made).resolve()))
    return _Stage(planned, job, Run(Path(world.told(made))))


def _through(stage: _Stage, given: Mapping[str, Any]) -> Path:
    """Run a stage and what follows it; the last one's folder."""
    world = stage.job.world
    folder = stage.job.go(stage.run, stage.state)
    while (after := chain.following(stage.planned, folder)) is not None:
        there = world.told(str(chain.begun(folder) or "") if world.first else "")
        earlier = chain.lines(stage.planned, folder) if world.first else b""
        stage = _reopened(Path(there), None, world, **given) if there else _made(after, folder.parent, world, earlier=earlier, **given)
        folder = stage.job.go(stage.run, stage.state)
    world.close()  # after an error it is the process's end that the others notice, when the error has been told
    return folder


def find_lr(
    planned: Plan, *, output: str | Path = "runs", device: str = "auto", workers: int = 0, offline: bool = False, reporter: Reporter | None = None
) -> Finding:
    """The learning-rate range test of a run, which starts from the same weights and data and leaves them alone. The curve is drawn to
    `output`, a .png or a folder that gets lr-finder.png.

    It takes `steps` turns, 100 unless told. Raises CvtoolError where the loss falls at no rate.
    """
    for key in ("lr", "epochs", "schedule", "warmup", "ema", "val_every", "save_every", "early_stop", "statistics", "overfit"):
        if key in planned.asked:
            raise UsageError(f"--{key.replace('_', '-')} has no effect with --find-lr", hint="leave it out; --steps says how many turns are taken")
    if torchrun.place().count > 1:
        raise UsageError("--find-lr has no effect under torchrun: one process finds the rate", hint="leave torchrun out")
    job = Job(planned, device=device, workers=workers, reporter=reporter)
    job.build(offline=offline)
    found = job.find_lr(planned.recipe["steps"] or TURNS)
    target = finder(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    curves.save_finding(target, found.rates, found.losses, found.smoothed, found.steepest)
    return found


def finder(output: str | Path) -> Path:
    """Where `find_lr` draws its curve."""
    path = Path(output)
    return path if path.suffix.lower() == ".png" and not path.is_dir() else path / FINDER


def difference(one: str | Path, other: str | Path) -> list[tuple[str, Any, Any]]:
    """(key, its value in one run, in the other) of all that differs in their recipes, data and versions; None where a run does not have it."""
    plans = [Run.open(Path(folder))[1] for folder in (one, other)]
    tables = [{"model": p.model, **p.data, **p.recipe, **p.arguments, **{f"made.{k}": v for k, v in p.made.items()}} for p in plans]
    keys = dict.fromkeys([*tables[0], *tables[1]])
    found = [(key, tables[0].get(key), tables[1].get(key)) for key in keys if key not in ("made.command", "made.folder")]
    return [(key, old, new) for key, old, new in found if old != new]


def resume(
    folder: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    workers: int = 0,
    offline: bool = False,
    reporter: Reporter | None = None,
    tensorboard: bool = False,
) -> Path:
    """Go on with a run where it was saved last; before its first save it starts again. `settings`: some of `recipe.RESUMABLE`."""
    given: dict[str, Any] = {"device": device, "workers": workers, "offline": offline, "reporter": reporter, "tensorboard": tensorboard}
    return _through(_reopened(Path(folder), settings, distributed.join(device), **given), given)


def _reopened(folder: Path, settings: Mapping[str, Any] | None, world: distributed.World, *, offline: bool, **given: Any) -> _Stage:
    with world.agreed():
        run, planned = Run.open(folder)
        if world.first:
            run.tidy()
        if settings:
            wanted = recipes.resolve(planned.recipe, settings)
            changed = {key: value for key, value in wanted.items() if value != planned.recipe[key]}
            if fixed := [key for key in changed if key not in recipes.RESUMABLE]:
                said = ", ".join(f"{key} (it was {planned.recipe[key]}, not {changed[key]})" for key in fixed)
                hint = "a resumed run may change " + ", ".join(recipes.RESUMABLE) + ", device and workers; start a new run for anything else"
                raise UsageError(f"--resume cannot change {said}", where=run.folder, hint=hint)
            planned.recipe, planned.asked = wanted, frozenset(settings)
        state = run.state()
        job = Job(chain.current(planned), **given, world=world)
        job.build(offline=offline, state=state)
    if settings and world.first:
        run.write(planned)
    return _Stage(planned, job, run, state)
