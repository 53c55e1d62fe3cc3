"""Train a model on a data set: `train("faster-rcnn.small", "bccd/")` returns the run's folder; `resume(folder)` goes on with it."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvtool import registry, weights
from cvtool.data import augment, source
from cvtool.data.dataset import Dataset, decoded_bytes
from cvtool.data.loader import Loader
from cvtool.errors import CvtoolError, InputError, ModelError, UsageError
from cvtool.records import Record
from cvtool.runtime.device import check_precision, deterministic, pick_device, seed_everything
from cvtool.train import arguments, optim, schedule, steps
from cvtool.train import recipe as recipes
from cvtool.train.log import Log, Reporter
from cvtool.train.loop import Loop
from cvtool.train.recipe import Plan
from cvtool.train.run import LOG, STATE, Run
from cvtool.train.validate import FIGURES, Validation

AUTO_CACHE = 1 << 30  # bytes


def plan(
    model: str,
    data: str | Path | None,
    *,
    data_val: str | Path | None = None,
    data_format: str | None = None,
    images: str | Path | None = None,
    split: str | None = None,
    split_val: str | None = None,
    layers: Sequence[Mapping[str, Any]] = (),
    asked: Collection[str] = (),
    command: Sequence[str] = (),
) -> Plan:
    """Resolve a run without touching data or network. `layers`: settings over the model's recipe, later ones win; what no
    recipe has but the model's `build` takes goes into its construction. `asked`: settings that are refused where they have no effect.

    A model given as a checkpoint, a run folder or NAME@WEIGHTS starts from those weights (`init`). Raises UsageError, ModelError.
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
    for layer in layers:
        changes |= {key: value for key, value in layer.items() if key not in recipes.DEFAULTS}
    changes = recipes.built_with(changes, takes, reference.name)
    recipe = recipes.resolve(own, {"init": init}, *({k: v for k, v in layer.items() if k in recipes.DEFAULTS} for layer in layers))
    if recipe["img_size"] and "image_size" in changes and any("image_size" in layer for layer in layers):
        raise UsageError("img_size and image_size are given both", hint="they say how large a picture enters; leave image_size out")
    if init and recipe["init"] != init:
        raise UsageError(f"-m {model} and init={recipe['init']} both say where to start", hint="leave one out")
    if any("momentum" in layer for layer in layers) and recipe["optimizer"] not in optim.MOMENTUM:
        raise UsageError(f"momentum has no effect with {recipe['optimizer']}", hint="it goes with " + ", ".join(sorted(optim.MOMENTUM)))
    check_names(recipe)
    where = {"data": data, "data_val": data_val, "data_format": data_format, "images": images, "split": split, "split_val": split_val}
    given = {key: str(value) for key, value in where.items() if value is not None}
    made = {"command": shlex.join(command)} if command else {}
    return Plan(str(replace(reference, weights=None)), given, recipe, made, changes, frozenset(asked))


def check_names(recipe: Mapping[str, Any]) -> None:
    """Every name in a recipe is known. Raises UsageError."""
    steps.get(recipe["step"])
    optim.make(recipe["optimizer"], lr=recipe["lr"])
    schedule.make(recipe["schedule"], turns=1)
    augment.pipeline(recipe["augment"])
    cache_bytes(recipe["cache"], ())
    check_precision(torch.device("cuda:0") if recipe["precision"] == "fp16" else torch.device("cpu"), recipe["precision"])


def train(
    model: str,
    data: str | Path,
    *,
    output: str | Path = "runs",
    device: str = "auto",
    workers: int = 0,
    offline: bool = False,
    reporter: Reporter | None = None,
    **options: Any,
) -> Path:
    """Train and return the run's folder (a new one under `output`). `options` are those of `plan`.

    Raises UsageError, InputError, ModelError before anything is written; CvtoolError for a loss that is not finite or a full disk;
    Terminated or Interrupted after a signal, with everything saved.
    """
    return start(plan(model, data, **options), output=output, device=device, workers=workers, offline=offline, reporter=reporter)


def start(
    planned: Plan, *, output: str | Path = "runs", device: str = "auto", workers: int = 0, offline: bool = False, reporter: Reporter | None = None
) -> Path:
    """Train as planned, in a new run folder under `output`."""
    job = Job(planned, device=device, workers=workers, reporter=reporter)
    job.build(offline=offline)
    planned.made |= {"folder": str(Path.cwd()), **weights.versions()}
    return job.go(Run.make(Path(output), planned), None)


def resume(
    folder: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    workers: int = 0,
    offline: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """Go on with a run where it was saved last; before its first save it starts again. `settings`: some of `recipe.RESUMABLE`."""
    run, planned = Run.open(Path(folder))
    for key in settings or {}:
        if key not in recipes.RESUMABLE:
            hint = "a resumed run may change " + ", ".join(recipes.RESUMABLE) + ", device and workers; start a new run for anything else"
            raise UsageError(f"--resume cannot change {key}", hint=hint)
    if settings:
        planned.recipe, planned.asked = recipes.resolve(planned.recipe, settings), frozenset(settings)
    state = run.state()
    job = Job(planned, device=device, workers=workers, reporter=reporter)
    job.build(offline=offline, init=state is None)
    if settings:
        run.write(planned)
    return job.go(run, state)


class Job:
    """What a run needs, made in the order in which it can fail: names, data, model, step, then the folder."""

    model: nn.Module

    def __init__(self, planned: Plan, *, device: str, workers: int, reporter: Reporter | None) -> None:
        self.plan, self.workers, self.reporter = planned, workers, reporter or Reporter()
        self.recipe = planned.recipe
        check_names(self.recipe)
        if "data" not in planned.data:
            raise UsageError("no data set to train on", hint="--data names it")
        self.device = pick_device(device)
        check_precision(self.device, self.recipe["precision"])
        self.train_records, self.val_records, self.categories = source.read(planned.located())
        if not self.val_records and "val_every" in planned.asked:
            raise UsageError("--val-every has no effect: there is nothing to validate on", hint="--data-val or --split-val names what to validate on")
        deterministic(self.recipe["deterministic"])
        seed_everything(self.recipe["seed"])

    def build(self, *, offline: bool, init: bool = True) -> None:
        """The model with fresh weights or those of `init`, and its step."""
        recipe = self.recipe
        model = self.constructed()
        if not hasattr(model, "losses"):
            raise ModelError(f"{self.plan.model} cannot be trained by gradient: it has no losses")
        self.merged = getattr(model, "merges_categories", None) is not None
        if self.merged:
            self.categories = [dict(category) for category in model.categories]
        if recipe["img_size"]:
            model.prepare = model.prepare.sized(recipe["img_size"])
        if recipe["init"] and init:
            self.reporter.note(start_from(model, self.plan.find(recipe["init"]), offline=offline))
        self.model = model.to(self.device, memory_format=torch.channels_last if recipe["channels_last"] else torch.preserve_format)
        self.step = steps.get(recipe["step"]).make(self.model, recipe)
        self.loader, self.val_loader = self.loaders()

    def constructed(self) -> Any:
        """The model for the data's categories and, where it has any, its keypoints. Raises UsageError for arguments that it refuses."""
        reference = registry.parse(self.plan.model)
        takes = arguments.known(reference.entry, reference.variant)
        self.points = source.keypoints(self.categories, self.train_records) if "keypoints" in takes else 0
        if "keypoints" in takes:
            if not self.points:
                raise InputError(f"{reference.name} learns keypoints, and the data set has none", where=self.plan.data["data"])
            if self.plan.arguments.setdefault("keypoints", self.points) != self.points:
                typed = self.plan.arguments["keypoints"]
                raise UsageError(f"keypoints={typed} contradicts the data set, whose objects have {self.points}", hint="leave it out")
            if self.points == takes["keypoints"]:
                del self.plan.arguments["keypoints"]
        try:
            return weights.build(reference, categories=self.categories, **self.plan.arguments)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            if not self.plan.arguments:
                raise
            told = ", ".join(f"{key}={value}" for key, value in self.plan.arguments.items())
            raise UsageError(f"{reference} cannot be built with {told}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error

    def loaders(self) -> tuple[Loader, Loader]:
        """For training and for validation; the cache's budget goes to training first."""
        recipe, model = self.recipe, self.model
        budget = cache_bytes(recipe["cache"], self.train_records + self.val_records)
        points = next((c["keypoints"] for c in self.categories if c.get("keypoints")), None)
        pipeline = augment.pipeline(recipe["augment"], swap=augment.swapped(points) if points else None)
        common: dict[str, Any] = {"needs": needs_of(model), "merged": self.merged, "keypoints": self.points}
        trained = Dataset(self.train_records, self.categories, cache_bytes=budget, **common)
        validated = Dataset(self.val_records, self.categories, cache_bytes=max(0, budget - decoded_bytes(self.train_records)), **common)
        trained.check()
        norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
        more = {"batch_size": recipe["batch_size"], "seed": recipe["seed"], "workers": self.workers, "ahead": 2 if self.device.type == "cuda" else 0}
        held = "decoded pictures stay in memory" if budget else "pictures are decoded each time (--set cache=2GB keeps them in memory)"
        val = f", {len(validated)} to validate" if len(validated) else ""
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        pictures = f"{len(trained)} picture{'s' * (len(trained) > 1)}"
        classes = f"{len(self.categories)} class{'es' * (len(self.categories) > 1)}"
        self.reporter.note(f"{self.plan.model} ({millions:.1f} M parameters) on {self.device}: {pictures}{val}, {classes}; {held}")
        return (
            Loader(trained, model.prepare, augment=pipeline, single=not norms, **more),  # type: ignore[arg-type]
            Loader(validated, model.prepare, shuffle=False, **more),  # type: ignore[arg-type]
        )

    def go(self, run: Run, state: dict[str, Any] | None) -> Path:
        """Train in `run`, from `state` on."""
        recipe = self.recipe
        loader, val_loader = self.loader, self.val_loader
        per_epoch = -(-len(loader) // recipe["accumulate"])
        turns = min(per_epoch * recipe["epochs"], recipe["steps"] or per_epoch * recipe["epochs"])
        warmup = schedule.warmup_turns(recipe["warmup"], turns=turns, per_epoch=per_epoch)
        run.info, run.settled = self.info(), self.settled()
        if state is not None:
            run.compare(state)
        log = Log(run.folder / LOG, keep=state["log_bytes"] if state else 0)
        loop = Loop(
            step=self.step, loader=loader, keeper=run, log=log, device=self.device, epochs=recipe["epochs"], turns=recipe["steps"],
            schedule=schedule.make(recipe["schedule"], turns=turns, warmup=warmup), precision=recipe["precision"], clip=recipe["clip"],
            accumulate=recipe["accumulate"], channels_last=recipe["channels_last"], val_every=recipe["val_every"], save_every=recipe["save_every"],
            reporter=self.reporter, resume_hint=f"go on with: cvtool train --resume {shlex.quote(str(run.folder))}",
        )  # fmt: skip
        if self.val_records:
            loop.validate = Validation(
                val_loader, device=self.device, precision=recipe["precision"], kind=kind_of(self.model), check=loop.check_signal
            )
        if state is not None:
            try:
                loop.load_state_dict(state)
            except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
                raise CvtoolError(f"the saved state does not fit its recipe: {str(error).splitlines()[0]}", where=run.folder / STATE) from error
        try:
            loop.run()
        finally:
            log.close()
            for one in (loader, val_loader):
                one.close()
        run.finish()
        if loop.at.best is not None and loop.at.best_epoch is not None:
            self.reporter.note(f"best: epoch {loop.at.best_epoch}, {' '.join(f'{k} {v:.4f}' for k, v in shown(run).items())}")
        return run.folder

    def settled(self) -> dict[str, Any]:
        """What may not change when the run is resumed: all but `recipe.RESUMABLE` and where the data lie."""
        recipe = {key: value for key, value in self.recipe.items() if key not in recipes.RESUMABLE}
        names = ", ".join(category["name"] if category else "-" for category in self.categories)
        return {"model": self.plan.model, **recipe, **self.plan.arguments, "pictures": len(self.train_records), "categories": names}

    def info(self) -> weights.Info:
        """What the run's checkpoints say of themselves, metrics aside."""
        counts = {"train_images": len(self.train_records), "val_images": len(self.val_records)}
        if kind_of(self.model) == "boxes":
            counts["train_objects"] = sum(len(record.get("annotations") or ()) for record in self.train_records)
        return weights.Info(
            reference=self.plan.model, arguments=self.plan.arguments, categories=self.categories, prepare=self.model.prepare,
            recipe=self.recipe, data=self.plan.data | counts, seed=self.recipe["seed"], versions=weights.versions(),
            command=self.plan.made.get("command"),
        )  # fmt: skip


def shown(run: Run) -> dict[str, float]:
    """The best checkpoint's figures for a person: what there is of `FIGURES`, else the validation's loss."""
    metrics = weights.read_info(run.folder).metrics
    return {key: metrics[key] for key in FIGURES if key in metrics} or {"val_loss": metrics["val_loss"]}


def start_from(model: nn.Module, reference: str, *, offline: bool) -> str:
    """Copy the weights of `reference` where names and shapes agree; returns a line that says what was taken."""
    loaded, info = weights.load(reference, offline=offline)
    theirs, own = loaded.state_dict(), model.state_dict()
    fits = {key: value for key, value in theirs.items() if key in own and own[key].shape == value.shape}
    if not fits:
        raise ModelError(f"nothing of {reference} fits this model", hint="--init takes the weights of the same model, whatever its classes")
    model.load_state_dict(fits, strict=False)
    fresh = [key for key in own if key not in fits]
    rest = f"; {len(fresh)} start afresh: {', '.join(fresh[:4])}{', ...' if len(fresh) > 4 else ''}" if fresh else ""
    return f"starting from {info.reference or reference}: {len(fits)} of {len(own)} tensors{rest}"


def needs_of(model: Any) -> tuple[str, ...]:
    """What a model's losses read of the truth: its `needs`, else what its result type says."""
    if needs := getattr(model, "needs", None):
        return tuple(needs)
    kinds = {"Labels": ("labels",), "SemanticMap": ("semantic",), "Instances": ("boxes", "masks")}
    return kinds.get(getattr(getattr(model, "result", None), "__name__", ""), ("boxes",))


def kind_of(model: Any) -> str:
    """What its validation measures: "boxes", "semantic" (classes of pixels) or "labels" (of pictures)."""
    return next((kind for kind in ("semantic", "labels") if kind in needs_of(model)), "boxes")


def cache_bytes(text: str, records: Sequence[Record]) -> int:
    """`auto` (all of it, if that is at most 1 GiB), `none`, or a size such as 500MB. Raises UsageError."""
    word = text.strip().lower()
    if word in ("none", "0"):
        return 0
    if word == "auto":
        need = decoded_bytes(records)
        return need if need <= AUTO_CACHE else 0
    number = word.rstrip("ibkmgt")
    scale = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}.get(word[len(number) :].rstrip("ib"))
    try:
        return int(float(number) * scale)  # type: ignore[operator]
    except (ValueError, TypeError):
        raise UsageError(f"cache is auto, none or a size such as 2GB, not '{text}'") from None
