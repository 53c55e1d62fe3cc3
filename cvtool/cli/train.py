"""Train a model on a data set; stop and resume it at any moment."""

import contextlib
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from cvtool.cli import _config, _options
from cvtool.cli._console import Console
from cvtool.errors import UsageError

Model = _options.Model
Resume = Annotated[Path | None, typer.Option("--resume", metavar="RUN", help="Go on with a run's folder where it was saved last.")]
_option = _options.option

DataVal = Annotated[str | None, _option("data-val", metavar="PATH", help="Another data set to validate on.")]
SplitVal = Annotated[str | None, _option("split-val", metavar="NAME", help="The part to validate on (default: val, if there is one); none = do not.")]
Runs = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", envvar="CVTOOL_OUTPUT", show_envvar=False, help="Runs are made in here: DIR/0001 ...")
]
Epochs = Annotated[int | None, _option("epochs", min=1, metavar="N", help="Times that each picture is seen.")]
Steps = Annotated[int | None, _option("steps", min=1, metavar="N", help="Stop after N optimiser turns.")]
Batch = Annotated[int | None, _option("batch-size", "-b", min=1, metavar="N", help="Pictures a batch.")]
Lr = Annotated[float | None, _option("lr", metavar="F", help="Highest learning rate.")]
Optimizer = Annotated[str | None, _option("optimizer", metavar="NAME", help="adamw or sgd.")]
Schedule = Annotated[str | None, _option("schedule", metavar="NAME", help="one-cycle, cosine, step or constant.")]
Augment = Annotated[str | None, _option("augment", metavar="NAME,...", help="none, flip, flips, crop, scale, color; joined by commas.")]
Ema = Annotated[float | None, _option("ema", metavar="F", help="Average the weights with this decay, such as 0.999; 0 = do not.")]
Precision = Annotated[str | None, _option("precision", metavar="NAME", help="fp32, bf16 or fp16.")]
Init = Annotated[str | None, _option("init", metavar="REF", help="Start from these weights; heads of another shape start afresh.")]
Workers = Annotated[int, _option("workers", "-j", min=0, metavar="N", help="Processes that make batches (0: this one).")]
ValEvery = Annotated[int | None, _option("val-every", min=1, metavar="N", help="Epochs between validations.")]
SaveEvery = Annotated[int | None, _option("save-every", min=1, metavar="N", help="Epochs between states to resume from.")]
Deterministic = Annotated[bool | None, _option("deterministic", help="Only operations that give the same bits each time; slower.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Print the resolved recipe as TOML and stop.")]

RECIPE_OPTIONS = (
    "epochs", "steps", "batch_size", "lr", "optimizer", "schedule", "augment", "ema", "img_size", "precision", "seed", "deterministic", "init",
    "val_every", "save_every",
)  # fmt: skip


app = typer.Typer()


@app.command("train", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def main(
    context: typer.Context,
    model: Model = None,
    data: _options.Data = None,
    data_val: DataVal = None,
    data_format: _options.DataFormat = None,
    images: _options.Images = None,
    split: _options.Split = None,
    split_val: SplitVal = None,
    output: Runs = Path("runs"),
    epochs: Epochs = None,
    steps: Steps = None,
    batch_size: Batch = None,
    lr: Lr = None,
    optimizer: Optimizer = None,
    schedule: Schedule = None,
    augment: Augment = None,
    ema: Ema = None,
    img_size: _options.ImgSize = None,
    precision: Precision = None,
    init: Init = None,
    device: _options.Device = "auto",
    workers: Workers = 0,
    seed: _options.Seed = None,
    deterministic: Deterministic = None,
    val_every: ValEvery = None,
    save_every: SaveEvery = None,
    config: _options.Config = None,
    set: _options.Set = None,
    resume: Resume = None,
    offline: _options.Offline = False,
    dry_run: DryRun = False,
    quiet: _options.Quiet = False,
    verbose: _options.Verbose = 0,
) -> None:
    """Train a model on a data set. The run's folder is printed on stdout.

    What is not given comes from the model's own recipe. A run that was stopped (Ctrl-C, SIGTERM, a crash) goes on with --resume, to the bit.

        cvtool train -m faster-rcnn.small --data bccd/ -o runs/
        run=$(cvtool train -m faster-rcnn.small --data train.json --data-val val.json --epochs 40 --set warmup=0.1)
        cvtool train --resume runs/0001
        cvtool train -m faster-rcnn.small --data bccd/ --lr 5e-4 --dry-run > recipe.toml

    What a model's construction takes (`cvtool models show NAME`: variants) is an option too: --mask-loss softmax is --set mask_loss=softmax.
    """
    own = _own_options(context, model, resume)
    layers = _layers(context, context.params, set, own)
    console = Console("train", quiet=quiet, verbose=verbose)
    if resume is not None:
        _only_resumable(context)
        if dry_run:
            raise UsageError("--dry-run has no effect with --resume", hint=f"the run's recipe is {resume}/recipe.toml")
    else:
        for name, value in (("--model", model), ("--data", data or dry_run)):
            if not value:
                raise UsageError(f"{name} is missing", hint="such as: cvtool train -m faster-rcnn.small --data bccd/")

    from cvtool.tasks import train as task

    if resume is not None:
        settings = {key: value for layer in layers for key, value in layer.items()}
        folder = task.resume(resume, settings=settings, device=device, workers=workers, offline=offline, reporter=_reporter(console))
    else:
        assert model is not None
        words = ["cvtool", *sys.argv[1:]]
        planned = task.plan(
            model, data, data_val=data_val, data_format=data_format, images=images, split=split, split_val=split_val, layers=layers,
            asked=layers[-1], command=words,
        )  # fmt: skip
        if dry_run:
            print(planned.to_toml(), end="")
            return
        folder = task.start(planned, output=output, device=device, workers=workers, offline=offline, reporter=_reporter(console))
    print(folder)


def _own_options(context: typer.Context, model: str | None, resume: Path | None) -> dict[str, Any]:
    """Options that only this model has: arguments of its construction. Raises UsageError for one that nobody knows."""
    from cvtool import registry
    from cvtool.errors import CvtoolError, did_you_mean

    found: dict[str, Any] = {}
    words = list(context.args)
    takes: Iterable[str] | None = None
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word == "-":
            raise UsageError(f"unexpected argument '{word}'", hint="train takes options only; --data names the data set")
        option, equals, value = word.partition("=")
        if takes is None:
            takes = ()
            if model is not None and resume is None and option.startswith("--"):
                with contextlib.suppress(CvtoolError):  # a wrong model is an error of its own
                    takes = _takes(registry.parse(model))
        key = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--") or key not in takes:
            known = [o for p in context.command.params for o in p.opts if o.startswith("--")] + [f"--{name.replace('_', '-')}" for name in takes]
            hint = "the run's own recipe.toml says all the rest" if resume is not None else "`cvtool train --help` shows how it is used"
            raise UsageError(f"no such option {option}", hint=did_you_mean(option, known) or hint)
        if not equals:
            if not words:
                raise UsageError(f"{option} needs a value", hint=f"{option} VALUE is --set {key}=VALUE")
            value = words.pop(0)
        if key in found:
            raise UsageError(f"{option} is given twice")
        found |= _options.settings([f"{key}={value}"])
    return found


def _takes(reference: Any) -> Iterable[str]:
    """The arguments of a model's construction that are no settings of a recipe."""
    from cvtool import registry
    from cvtool.checkpoint import read_info
    from cvtool.train import arguments

    if reference.path is not None:
        reference = registry.parse(read_info(reference.path).reference.partition("@")[0])
    return arguments.known(reference.entry, reference.variant)


def _layers(context: typer.Context, values: dict[str, Any], sets: list[str] | None, own: dict[str, Any]) -> list[dict[str, Any]]:
    """Settings of the recipe: from the config file, from the environment, from the command line. An option and its --set together are refused."""
    config, environment, typed = _config.rest(context), dict[str, Any](), dict[str, Any]()
    config.pop("made", None)  # what a run's own recipe.toml says about its making
    where: dict[str, dict[str, Any]] = {"DEFAULT_MAP": config, "ENVIRONMENT": environment, "COMMANDLINE": typed}
    for name in RECIPE_OPTIONS:
        source = context.get_parameter_source(name)
        if source is not None and source.name in where and values[name] is not None:
            where[source.name][name] = values[name]
    typed |= own
    given = _options.settings(sets)
    source = context.get_parameter_source("set")
    target = where.get(source.name if source is not None else "COMMANDLINE", typed)
    for key, value in given.items():
        if key in target and target is typed:
            raise UsageError(f"--{key.replace('_', '-')} and --set {key} are given both", hint="they mean the same; leave one out")
        target[key] = value
    return [config, environment, typed]


def _only_resumable(context: typer.Context) -> None:
    """Refuse what a resumed run takes from its own recipe."""
    free = {"resume", "device", "workers", "offline", "quiet", "verbose", "set", "config", "dry_run", *RECIPE_OPTIONS}
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in free and source is not None and source.name == "COMMANDLINE":
            raise UsageError(
                f"--resume cannot change --{name.replace('_', '-')}", hint="the run's own recipe.toml says it; start a new run for another"
            )


def _reporter(console: Console) -> Any:
    """What the loop tells, on stderr: a bar on a terminal, a line an epoch elsewhere, nothing with -q."""
    from cvtool.train.log import Reporter
    from cvtool.train.validate import FIGURES

    class Lines(Reporter):
        """One line an epoch."""

        epochs = 0
        bar: Any = None

        def start(self, *, epochs: int, turns: int, done: int) -> None:
            self.epochs, self.begun, self.turns, self.done = epochs, time.monotonic(), turns, done
            self.last = done  # a run that was stopped after an epoch's last turn tells of that epoch first
            if not console.quiet and sys.stderr.isatty():
                self.bar = _bar(turns, done)

        def turn(self, *, epoch: int, turn: int, losses: dict[str, float], lr: float, images: int) -> None:
            self.last = turn
            if self.bar is not None:
                progress, task = self.bar
                progress.update(task, completed=turn, description=f"epoch {epoch + 1}/{self.epochs}  loss {sum(losses.values()):.4f}")

        def epoch(self, *, epoch: int, values: dict[str, Any], best: bool) -> None:
            parts = [f"loss {values['loss']:.4f}"]
            parts += [f"val_loss {values['val_loss']:.4f}"] if "val_loss" in values else []
            parts += [f"{name.removeprefix('val_')} {values[name]:.4f}" for name in FIGURES if name in values]
            if console.verbose:
                shown = {"loss", "val_loss", "seconds", *FIGURES}
                parts += [f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, float) and name not in shown]
            left = (time.monotonic() - self.begun) / max(1, self.last - self.done) * (self.turns - self.last)
            text = f"epoch {epoch}/{self.epochs}  {'  '.join(parts)}  {values['seconds']:.0f} s, {_span(left)} left{'  (best)' if best else ''}"
            if self.bar is not None:
                self.bar[0].console.print(text, highlight=False)
            else:
                console.say(text)

        def note(self, text: str) -> None:
            if self.bar is not None:
                self.bar[0].console.print(text, highlight=False)
            else:
                console.say(text)

        def stop(self) -> None:
            if self.bar is not None:
                self.bar[0].stop()
                self.bar = None

    return Lines()


def _bar(turns: int, done: int) -> tuple[Any, Any]:
    from rich.console import Console as Rich
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Rich(stderr=True), transient=True)
    task = progress.add_task("starting", total=turns, completed=done)
    progress.start()
    return progress, task


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
