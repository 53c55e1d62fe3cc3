"""One training run from its plan to its folder: model, step, data and loop, made in the order in which they can fail."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvtool import losses, registry, weights
from cvtool.categories import numbered
from cvtool.data import source
from cvtool.errors import CvtoolError, InputError, ModelError, UsageError
from cvtool.runtime.device import check_precision, deterministic, seed_everything
from cvtool.tasks import _fit
from cvtool.tasks._predictor import out_of_memory
from cvtool.tasks._sets import WITHOUT_CLASSES, Sets, kind_of, measured_by, needs_of
from cvtool.tasks._start import start_from
from cvtool.tasks.chain import LOOKS_FIRST
from cvtool.train import arguments, compiled, environment, find_lr, initialize, regularize, sanity, schedule, sharded, steps, synced, transfer
from cvtool.train import recipe as recipes
from cvtool.train.distributed import World
from cvtool.train.log import Log, Nowhere, Reporter, before
from cvtool.train.loop import Loop
from cvtool.train.noise import InputNoise
from cvtool.train.recipe import Plan
from cvtool.train.run import LAST, LOG, STATE, Nobody, Run
from cvtool.train.state import rng_state, set_rng_state
from cvtool.train.statistics import Statistics
from cvtool.train.tensorboard import TensorBoard
from cvtool.train.validate import FIGURES, Validation


class Job:
    """What a run needs. Raises UsageError, InputError, ModelError before anything is written."""

    model: nn.Module
    loaded: Sequence[str] = ()  # names of the tensors that came from `init`
    groups: list[dict[str, Any]] | None = None  # of parameters with learning rates of their own

    def __init__(self, planned: Plan, *, device: str, workers: int, reporter: Reporter | None, tensorboard: bool = False, world: World | None = None
    ) -> None:  # fmt: skip
        self.world = world or World()
        self.sharded: sharded.Sharded | None = None
        self.synced: list[nn.Module] = []
        self.plan, self.workers, self.reporter, self.tensorboard = planned, workers, reporter or Reporter(), tensorboard
        self.recipe = planned.recipe
        if "data" not in planned.data:
            raise UsageError("no data set to train on", hint="--data names it")
        self.device = self.world.device(device)
        check_precision(self.device, self.recipe["precision"])
        if self.recipe["compile"]:
            compiled.check(self.device)
        where = {**planned.located(), "seed": self.recipe["seed"], "strict": self.recipe["strict"]}
        self.sets = Sets(*source.read(where))
        if not self.sets.val and not self.recipe["overfit"]:
            self._check_without_validation()
        deterministic(self.recipe["deterministic"])
        seed_everything(self.recipe["seed"])

    def _check_without_validation(self) -> None:
        hint = "--data-val, --split-val or --split 80,20 names what to validate on"
        for key in ("val_every", "early_stop"):
            if key in self.plan.asked:
                raise UsageError(f"--{key.replace('_', '-')} has no effect: there is nothing to validate on", hint=hint)
        if hasattr(schedule.make(self.recipe["schedule"], turns=1), "observe"):
            raise UsageError(f"the schedule {self.recipe['schedule']} goes by validations, and there is nothing to validate on", hint=hint)

    def build(self, *, offline: bool, state: Mapping[str, Any] | None = None) -> None:
        """The model with fresh weights or those of `init`, its step and its data; for a run that goes on from `state`, weights are its affair."""
        recipe = self.recipe
        model = self.constructed()
        if not self.sets.categories and (kind_of(model) not in WITHOUT_CLASSES or "labels" in needs_of(model)):
            hint = "a folder for each class makes a classifier's data set; `cvtool train --help` shows others"
            raise InputError("the data set has no categories: nothing to learn", where=self.plan.data["data"], hint=hint)
        if self.sets.add_background(model):
            model = self.constructed()
        if _fit.is_fitted(model):
            _fit.check(self.plan.asked, recipe, self.plan.model)
        elif not hasattr(model, "losses"):
            raise ModelError(f"{self.plan.model} cannot be trained: it has nothing to learn")
        if getattr(model, "merges_categories", None) is not None:
            self.sets.merged, self.sets.categories = True, [dict(category) for category in model.categories]
        if recipe["img_size"]:
            model.prepare = model.prepare.sized(recipe["img_size"])
        if recipe["initializer"]:
            initialize.apply(model, recipe["initializer"])
        if recipe["init_bias"]:
            initialize.init_bias(model, recipe["init_bias"])
        set_losses(model, recipe, self.plan.model, offline=offline)
        if state is not None:
            self.loaded = list(state["settled"].get("loaded", ()))
        elif recipe["init"]:
            self._start(model, offline=offline)
        regularize.apply(model, recipe, self.plan.model)
        place = torch.device("cpu") if recipe["fsdp"] else self.device  # sharded, it goes there in parts
        self.model = model.to(place, memory_format=torch.channels_last if recipe["channels_last"] else torch.preserve_format)
        notes: list[str] = []
        part = (self.world.rank, self.world.size)
        self.loader, self.val_loader = self.sets.loaders(self.model, recipe, device=self.device, workers=self.workers, notes=notes, part=part)
        self.world.check(recipe, self.loader, fitted=_fit.is_fitted(model))
        self.spread()
        if not _fit.is_fitted(model):
            found = {key: self.found(key, value) for key, value in recipe.items()}
            self._choose_what_learns()
            self.step = steps.make(self.model, found | {"groups": self.groups}, offline=offline)  # last, for it copies the model
        for note in [f"{self.plan.model}, {notes[0]}", *notes[1:]]:
            self.reporter.note(note)

    def _start(self, model: nn.Module, *, offline: bool) -> None:
        """Take the weights of the recipe's `init`; published ones that nobody has asked for by name may be out of reach."""
        init = self.recipe["init"]
        try:
            said, self.loaded = start_from(model, self.plan.find(init), lambda: self._head(model), offline=offline)
        except ModelError as error:
            if not self.plan.by_default:
                raise
            self.recipe["init"] = ""
            said = f"from scratch, for {error.what}; `cvtool models pull {init}` gets the weights of {init} to start from, @none says not to"
        self.reporter.note(said)

    def _head(self, model: nn.Module) -> list[str]:
        return transfer.head_of(model, self.plan.model, self.plan.arguments)

    def _choose_what_learns(self) -> None:
        """Freeze what the recipe freezes, and find the groups of parameters with rates of their own."""
        recipe, self.groups = self.recipe, None
        if not (recipe["freeze"] or recipe["unfreeze"] or recipe["lr_scale"] != 1 or recipe["layer_decay"] != 1):
            return
        head = self._head(self.model)
        trained, everything = transfer.freeze(self.model, recipe, head)
        if trained < everything:
            self.reporter.note(f"{trained:,} of {everything:,} parameters learn, the others keep their values")
        self.groups = transfer.groups(self.model, recipe, head, self.loaded)

    def spread(self) -> None:
        """The model among several processes."""
        if self.world.alone:
            return
        if self.recipe["sync_batch_norm"]:
            self.synced = synced.convert(self.model, self.world.group())
            if not self.synced:
                raise UsageError(f"sync_batch_norm has no effect on {self.plan.model}: it normalises over no batch", hint="leave it out")
        if self.recipe["fsdp"]:
            sharded.check(self.recipe)
            self.sharded = sharded.Sharded(self.model, self.device, self.world.size)
        else:
            self.world.align_model(self.model)

    def found(self, key: str, value: Any) -> Any:
        """A setting of the training step as it is here: a path may have been typed in another folder."""
        own = key in steps.settings(self.recipe["step"])
        return self.plan.find(value) if own and isinstance(value, str) and value else value

    def constructed(self) -> Any:
        """The model for the data's categories and, where it has any, its keypoints. Raises UsageError for arguments that it refuses."""
        reference = registry.parse(self.plan.model)
        takes = arguments.known(reference.entry, reference.variant)
        points = self.sets.points = source.keypoints(self.sets.categories, self.sets.train) if "keypoints" in takes else 0
        if "keypoints" in takes:
            if not points:
                raise InputError(f"{reference.name} learns keypoints, and the data set has none", where=self.plan.data["data"])
            if self.plan.arguments.setdefault("keypoints", points) != points:
                typed = self.plan.arguments["keypoints"]
                raise UsageError(f"keypoints={typed} contradicts the data set, whose objects have {points}", hint="leave it out")
            if points == takes["keypoints"]:
                del self.plan.arguments["keypoints"]
        try:
            model = weights.build(reference, categories=self.sets.categories or numbered(1), **self.plan.arguments)
            model.categories = list(self.sets.categories)
            return model
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            if not self.plan.arguments:
                raise
            told = ", ".join(f"{key}={value}" for key, value in self.plan.arguments.items())
            raise UsageError(f"{reference} cannot be built with {told}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error

    def loop(self, keeper: Any, log: Log, *, hint: str | None = None) -> Loop:
        """The loop as the recipe describes it."""
        recipe, loader = self.recipe, self.loader
        per_epoch = -(-len(loader) // recipe["accumulate"])
        turns = min(per_epoch * recipe["epochs"], recipe["steps"] or per_epoch * recipe["epochs"])
        warmup = schedule.warmup_turns(recipe["warmup"], turns=turns, per_epoch=per_epoch)
        loop = Loop(
            step=self.step, loader=loader, keeper=keeper, log=log, device=self.device, epochs=recipe["epochs"], turns=recipe["steps"],
            schedule=schedule.make(recipe["schedule"], turns=turns, warmup=warmup, per_epoch=per_epoch), precision=recipe["precision"],
            clip=recipe["clip"], accumulate=recipe["accumulate"], channels_last=recipe["channels_last"], val_every=recipe["val_every"],
            save_every=recipe["save_every"], patience=recipe["early_stop"], reporter=self.reporter, resume_hint=hint,
            statistics=Statistics(self.model, recipe["statistics"]) if recipe["statistics"] else None, begin=self.begin,
            world=self.world, sharded=self.sharded, synced=self.synced,
            change=InputNoise(recipe["input_noise"], seed=recipe["seed"]) if recipe["input_noise"] else None,
        )  # fmt: skip
        if getattr(self.model, "rivals", False):
            loop.better = ()  # what two players lose to each other says nothing of what they make
        if self.sets.val:
            loop.validate = Validation(
                self.val_loader,
                device=self.device,
                precision=recipe["precision"],
                kind=measured_by(self.model),
                check=loop.check,
                world=self.world,
                in_step=self.sharded is not None,
            )
        return loop

    def begin(self, batch: Any) -> None:
        """With the first batch in hand: compile the model."""
        if self.recipe["compile"]:
            fixed = getattr(self.model, "prepare", None) is not None and self.model.prepare.resize in ("stretch", "crop")
            names = compiled.apply(self.model, lambda: self.model.losses(batch), fixed=fixed)  # type: ignore[operator]
            self.reporter.detail("compiled: " + ", ".join(name or "the model" for name in names))

    def go(self, run: Run, state: dict[str, Any] | None) -> Path:
        """Train in `run`, from `state` on."""
        changed = environment.keep(run.folder, self.device) if self.world.first else []
        if _fit.is_fitted(self.model):
            return _fit.fit(self, run)
        run.info, run.settled = self.info(), self.settled()
        if state is not None:
            with self.world.agreed():
                run.compare(state)
        if state is not None and changed:
            self.reporter.note(f"resumed elsewhere, so that the last bits may differ: {'; '.join(changed)}")
        told = self.tensorboard and self.world.first
        board = TensorBoard(run.folder / "tensorboard", turn=state["position"]["turn"] if state else 0) if told else None
        log = Log(run.folder / LOG, keep=state["log_bytes"] if state else before(run.folder / LOG), also=board) if self.world.first else Nowhere()
        loop = self.loop(run if self.world.first else Nobody(), log, hint=f"go on with: cvtool train --resume {shlex.quote(str(run.folder))}")
        if self.world.rank:  # what is drawn from the global generators differs among the processes
            seed_everything(self.recipe["seed"] + 1_000_003 * self.world.rank)
        if state is not None:
            if (saved := 1 + len(state.get("rng_of_others", ()))) != self.world.size:
                text = f"saved by {saved} processes, resumed by {self.world.size}: the data and their order stay, other random numbers differ"
                self.reporter.note(text)
            try:
                loop.load_state_dict(state)
            except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
                what = f"the saved state does not fit its recipe: {str(error).splitlines()[0]}"
                raise self.world.spoken(CvtoolError(what, where=run.folder / STATE)) from error
        if self.reporter.detailed:
            for line in sanity.report(self.model, self.loader, kind=kind_of(self.model), device=self.device, precision=self.recipe["precision"]):
                self.reporter.detail(line)
        if state is None and LOOKS_FIRST in self.plan.made and loop.validate is not None:
            self.look_first(loop, log)
        check = sanity.Overfit(loop, measured_by(self.model)) if self.recipe["overfit"] else None
        try:
            loop.run()
        except (RuntimeError, MemoryError) as error:
            if (better := self.explained(error, first=not loop.at.turn)) is None:
                raise
            raise better from error
        finally:
            log.close()
            for one in (self.loader, self.val_loader, board):
                if one is not None:
                    one.close()
        if not self.world.first:
            return run.folder
        run.finish()
        for part, loader in (("to learn from", self.loader), ("to validate on", self.val_loader)):
            if loader.skipped:
                self.reporter.note(f"{loader.skipped:,} of {len(loader.dataset):,} pictures {part} could not be read (--strict stops at the first)")
        if check is not None:
            self.reporter.note(check.verdict(run.folder))
        elif loop.at.best is not None and loop.at.best_epoch is not None:
            figures = words(weights.read_info(run.folder).metrics)
            if loop.at.best_epoch:
                self.reporter.note(f"best: epoch {loop.at.best_epoch}, {figures}")
            else:
                now = words(weights.read_info(run.folder / LAST).metrics)
                self.reporter.note(f"best: the weights that it started from, {figures}; training made them worse ({now})")
        return run.folder

    def explained(self, error: Exception, *, first: bool) -> CvtoolError | None:
        """What a user can do about an error that torch raised, in the first turn or later; None where that is not known."""
        recipe = self.recipe
        if out_of_memory(error):
            hint = "a smaller --batch-size (with --set accumulate=N, so that a turn has as many), a smaller --img-size or --precision bf16 may help"
            return CvtoolError(f"out of memory with batches of {recipe['batch_size']} pictures", hint=hint)
        if first and recipe["img_size"]:
            what = f"{self.plan.model} cannot learn from pictures of {recipe['img_size']} pixels: {str(error).splitlines()[0]}"
            return UsageError(what, hint="leave --img-size out, or take another size")
        return None

    def look_first(self, loop: Loop, log: Any) -> None:
        """Validate the weights that the run starts from: they are its best until it has better ones."""
        values = loop.validated()
        line = {"kind": "start", "epoch": 0, "iteration": 0, **values}
        log.write(**line)
        if loop.at.judge(values, 0.0, loop.better):
            assert loop.at.best is not None
            loop.at.best, loop.at.best_epoch = math.nextafter(loop.at.best, -math.inf), 0  # what is as good after it is the better: it was asked for
            loop.keeper.epoch(self.sharded.whole() if self.sharded else self.step.evaluated, line, best=True)
            size = f" at {self.recipe['img_size']} pixels" if self.recipe["img_size"] else ""
            self.reporter.note(f"before{size}: {words(values)}")
        loop.at.bad = 0

    def find_lr(self, turns: int) -> find_lr.Finding:
        """The range test; weights, optimiser and running statistics are put back."""
        if _fit.is_fitted(self.model):
            raise UsageError(f"--find-lr has no effect on {self.plan.model}: it is fitted in one go, not by gradient")
        before, state = deepcopy(self.step.state_dict()), rng_state()
        loop = self.loop(None, Nowhere())
        loop.step.model.train()
        loop.statistics = None
        base = loop.rates[0][0]
        if not base:
            raise UsageError("lr=0 cannot be varied", hint="--lr says from which rate the groups' ratios are taken")

        def turn(rate: float, group: Any) -> float:
            loop.schedule = lambda n: rate / base
            values, _ = loop.one_turn(group)
            loop.at.turn += 1
            self.reporter.turn(epoch=0, turn=loop.at.turn, losses=values, lr=rate, images=sum(len(item.batch) for item in group))
            return sum(values.values())

        def groups() -> Iterator[Any]:
            for epoch in count():
                items = self.loader.epoch(epoch)
                while group := list(islice(items, loop.accumulate)):
                    yield group

        self.reporter.start(epochs=1, turns=turns, done=0)
        try:
            return find_lr.search(turn, groups(), find_lr.rates(turns=turns))
        finally:
            self.reporter.stop()
            self.loader.close()
            self.step.load_state_dict(before)
            set_rng_state(state)

    def settled(self) -> dict[str, Any]:
        """What may not change when the run is resumed: all but `recipe.RESUMABLE` and where the data lie."""
        recipe = {key: value for key, value in self.recipe.items() if key not in recipes.RESUMABLE}
        names = ", ".join(category["name"] if category else "-" for category in self.sets.categories)
        kept = {"loaded": list(self.loaded)} if recipe["lr_scale"] != 1 else {}
        return {"model": self.plan.model, **recipe, **kept, **self.plan.arguments, "pictures": len(self.sets.train), "categories": names}

    def info(self) -> weights.Info:
        """What the run's checkpoints say of themselves, metrics aside."""
        counts = {"train_images": len(self.sets.train), "val_images": len(self.sets.val)}
        if kind_of(self.model) == "boxes":
            counts["train_objects"] = sum(len(record.get("annotations") or ()) for record in self.sets.train)
        told = self.plan.arguments | getattr(self.model, "rebuilt", {})  # and what it has found out itself
        return weights.Info(
            reference=self.plan.model, arguments=told, categories=self.sets.categories, prepare=self.model.prepare,
            recipe=self.recipe, data=self.plan.data | counts, seed=self.recipe["seed"], versions=weights.versions(),
            command=self.plan.made.get("command"),
        )  # fmt: skip


def set_losses(model: Any, recipe: Mapping[str, Any], name: str, *, offline: bool) -> None:
    """What the recipe says of the model's losses: `loss`, `label_smoothing`. Raises UsageError for a model that has no such choice, ModelError."""
    if recipe["loss"]:
        if not (kind := getattr(model, "criterion_kind", None)):
            raise UsageError(f"{name} has losses of its own: --loss has no effect on it", hint="leave --loss out")
        criterion = losses.compose(recipe["loss"], kind).ready(offline=offline)
        if hasattr(model, "check_criterion"):
            model.check_criterion(criterion)
        model.criterion = criterion
    if recipe["label_smoothing"]:
        if not hasattr(model, "label_smoothing"):
            raise UsageError(f"--label-smoothing has no effect on {name}: it is for classes of pictures", hint="leave it out")
        model.label_smoothing = recipe["label_smoothing"]


def words(metrics: Mapping[str, float]) -> str:
    """A validation's figures for a person: what there is of `FIGURES`, else the loss."""
    found = {key: metrics[key] for key in FIGURES if key in metrics} or {"val_loss": metrics["val_loss"]}
    return " ".join(f"{key} {value:.4f}" for key, value in found.items())
