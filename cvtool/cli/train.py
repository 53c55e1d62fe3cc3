"""Train a model on a data set; stop and resume it at any moment."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cvtool.cli import _chains, _options, _recipe
from cvtool.cli._console import Console
from cvtool.cli._progress import reporter
from cvtool.errors import UsageError
from cvtool.runtime import torchrun

_option = _options.option

Resume = Annotated[Path | None, typer.Option("--resume", metavar="RUN", help="Go on with a run's folder where it was saved last.")]
DataVal = Annotated[str | None, _option("data-val", metavar="PATH", help="Another data set to validate on.")]
SplitVal = Annotated[str | None, _option("split-val", metavar="NAME", help="The part to validate on (default: val, if there is one); none = do not.")]
Fold = Annotated[str | None, _option("fold", metavar="I/K", help="Validate on the I-th of K equal parts and train on the others.")]
Runs = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", envvar="CVTOOL_OUTPUT", show_envvar=False, help="Runs are made in here: DIR/0001 ...")
]
Workers = Annotated[int, _option("workers", "-j", min=0, metavar="N", help="Processes that make batches (0: this one).")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Print the resolved recipe as TOML and stop.")]

FindLr = Annotated[bool, typer.Option("--find-lr", help="Print a good --lr, found by 100 turns (or --steps) at growing rates; -o gets the curve.")]
Diff = Annotated[Path | None, typer.Option("--diff", metavar="RUN RUN", help="Print what differs in two runs' recipes, and stop.")]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write the log for TensorBoard too, in the run's folder.")]

FREE = ("device", "workers", "offline", "quiet", "verbose", "dry_run", "tensorboard")  # no settings; a resumed run may have others

app = typer.Typer()


@app.command("train", cls=_recipe.Command, epilog=_chains.EPILOG, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def main(
    context: typer.Context,
    model: _options.Model = None,
    data: _options.Data = None,
    data_val: DataVal = None,
    data_format: _options.DataFormat = None,
    images: _options.Images = None,
    split: _options.Split = None,
    split_val: SplitVal = None,
    fold: Fold = None,
    output: Runs = Path("runs"),
    epochs: _recipe.Epochs = None,
    steps: _recipe.Steps = None,
    batch_size: _recipe.Batch = None,
    lr: _recipe.Lr = None,
    optimizer: _recipe.Optimizer = None,
    debias: _recipe.Debias = None,
    schedule: _recipe.Schedule = None,
    loss: _recipe.Loss = None,
    label_smoothing: _recipe.LabelSmoothing = None,
    augment: _recipe.Augment = None,
    preprocess: _recipe.Preprocess = None,
    input_noise: _recipe.InputNoise = None,
    balance: _recipe.Balance = None,
    strict: _recipe.Strict = None,
    initializer: _recipe.Initializer = None,
    init_bias: _recipe.InitBias = None,
    l1: _recipe.L1 = None,
    dropout: _recipe.Dropout = None,
    drop_path: _recipe.DropPath = None,
    spectral_norm: _recipe.SpectralNorm = None,
    ema: _recipe.Ema = None,
    early_stop: _recipe.EarlyStop = None,
    patience: _recipe.Patience = None,
    init: _recipe.Init = None,
    freeze: _recipe.Freeze = None,
    unfreeze: _recipe.Unfreeze = None,
    lr_scale: _recipe.LrScale = None,
    layer_decay: _recipe.LayerDecay = None,
    final_res: _recipe.FinalRes = None,
    final_epochs: _recipe.FinalEpochs = None,
    img_size: _options.ImgSize = None,
    precision: _recipe.Precision = None,
    compile: _recipe.Compile = None,
    device: _options.Device = "auto",
    workers: Workers = 0,
    seed: _options.Seed = None,
    deterministic: _recipe.Deterministic = None,
    val_every: _recipe.ValEvery = None,
    save_every: _recipe.SaveEvery = None,
    overfit: _recipe.Overfit = None,
    statistics: _recipe.Statistics = None,
    config: _options.Config = None,
    set: _options.Set = None,
    resume: Resume = None,
    self_train: _recipe.SelfTrain = False,
    find_lr: FindLr = False,
    diff: Diff = None,
    tensorboard: TensorBoard = False,
    pretrain_synthetic: _chains.Synthetic = None,
    finetune: _chains.FineTune = None,
    update: _chains.Update = None,
    base: _chains.Base = None,
    data_old: _chains.DataOld = None,
    search: _chains.SearchSpace = None,
    trials: _chains.Trials = None,
    offline: _options.Offline = False,
    dry_run: DryRun = False,
    quiet: _options.Quiet = False,
    verbose: _options.Verbose = 0,
) -> None:
    """Train a model on a data set. The run's folder is printed on stdout.

    What is not given comes from the model's own recipe. A run that was stopped (Ctrl-C, SIGTERM, a crash) goes on with --resume, to the bit.
    Under `torchrun --max-restarts N -m cvtool train ...` a run whose process died goes on by itself, where it was saved last.

        cvtool train -m faster-rcnn.small --data bccd/ -o runs/
        run=$(cvtool train -m faster-rcnn.small --data train.json --data-val val.json --epochs 40 --set warmup=0.1)
        cvtool train --resume runs/0001
        cvtool train -m faster-rcnn.small --data bccd/ --lr 5e-4 --dry-run > recipe.toml
        cvtool train -m resnet18 --data flowers/ --overfit 1
        cvtool train -m resnet18 --data flowers/ --find-lr
        cvtool train --diff runs/0001 runs/0002

    What a model's construction takes (`cvtool models show NAME`: variants) is an option too: --mask-loss softmax is --set mask_loss=softmax.
    """
    if diff is not None:
        if len(context.args) != 1 or context.args[0].startswith("-"):
            raise UsageError("--diff takes two run folders", hint="cvtool train --diff RUN RUN")
        _print_difference(context, diff, Path(context.args[0]))
        return
    _chains.check(context.params)
    data = data if finetune is None else finetune
    own = _recipe.own_options(context, base if update is not None else model, resume)
    layers = _recipe.layers(context, context.params, set, own)
    first = torchrun.place().rank == 0  # of several processes one speaks
    console = Console("train", quiet=quiet or not first, verbose=verbose)
    if resume is not None:
        _recipe.only_resumable(context, FREE)
        if dry_run:
            raise UsageError("--dry-run has no effect with --resume", hint=f"the run's recipe is {resume}/recipe.toml")
    else:
        for name, value in (("--model", model or update), ("--data", data or dry_run)):
            if not value:
                raise UsageError(f"{name} is missing", hint="such as: cvtool train -m faster-rcnn.small --data bccd/")

    from cvtool.tasks import train as task

    if resume is not None:
        settings = {key: value for layer in layers for key, value in layer.items()}
        folder = task.resume(
            resume, settings=settings, device=device, workers=workers, offline=offline, reporter=reporter(console), tensorboard=tensorboard
        )
    else:
        where: dict[str, Any] = {
            "data_val": data_val, "data_format": data_format, "images": images, "split": split, "split_val": split_val, "fold": fold,
            "data_old": data_old, "layers": layers, "asked": layers[-1], "command": ["cvtool", *sys.argv[1:]],
        }  # fmt: skip
        if search is not None:
            assert model is not None
            assert data is not None
            more: dict[str, Any] = {"device": device, "workers": workers, "offline": offline, "reporter": reporter(console)}
            print(_chains.search(model, data, search, trials, output=output, **where, **more))
            return
        if update is not None:
            from cvtool.tasks import update as updating

            planned = updating.plan(update, base or "", data, **where)
        else:
            assert model is not None
            planned = task.plan(model, data, pretrain_synthetic=pretrain_synthetic, **where)
        if dry_run:
            if find_lr or tensorboard:
                raise UsageError(f"{'--find-lr' if find_lr else '--tensorboard'} has no effect with --dry-run", hint="leave one out")
            print(planned.to_toml(), end="")
            return
        if find_lr:
            if tensorboard:
                raise UsageError("--tensorboard has no effect with --find-lr", hint="leave it out")
            found = task.find_lr(planned, output=output, device=device, workers=workers, offline=offline, reporter=reporter(console))
            console.say(f"the loss falls fastest at {found.steepest:.2g}, and is least at {found.least:.2g}; the curve is {task.finder(output)}")
            print(f"{found.steepest:.2g}")
            return
        folder = task.start(
            planned, output=output, device=device, workers=workers, offline=offline, reporter=reporter(console), tensorboard=tensorboard
        )
    if first:
        print(folder if update is None else updating.answer(update, base or "", folder))


def _print_difference(context: typer.Context, one: Path, other: Path) -> None:
    """A line a key: key, its value in the first run, in the second, with tabs between them; "-" where there is none."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in ("diff", "quiet", "verbose") and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"--{name.replace('_', '-')} has no effect with --diff", hint="cvtool train --diff RUN RUN")

    from cvtool.tasks.train import difference

    for key, old, new in difference(one, other):
        print(key, *("-" if value is None else value for value in (old, new)), sep="\t")
