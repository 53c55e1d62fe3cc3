"""The options of `cvtool train` that are settings of its recipe, and how they come together with -c, the environment and --set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from cvtool.cli import _config, _options
from cvtool.errors import UsageError, did_you_mean

_option = _options.option
PATIENCE = 5  # validations, where --early-stop stands alone
SELF_TRAINING = "self-training"  # the step that --self-train names


def _names(folder: str) -> str:
    """The names of the files in one of the program's folders, for a help text."""
    return ", ".join(sorted(path.stem.replace("_", "-") for path in Path(__file__).parents[1].joinpath(folder).glob("[!_]*.py")))


Epochs = Annotated[int | None, _option("epochs", min=1, metavar="N", help="Times that each picture is seen.")]
Steps = Annotated[int | None, _option("steps", min=1, metavar="N", help="Stop after N optimiser turns.")]
Batch = Annotated[int | None, _option("batch-size", "-b", min=1, metavar="N", help="Pictures a batch, of all processes together.")]
Lr = Annotated[float | None, _option("lr", metavar="F", help="Highest learning rate.")]
Optimizer = Annotated[
    str | None,
    _option("optimizer", metavar="NAME", help=f"{_names('train/optimizers')}, torch:NAME, timm:NAME; their arguments as in adam:beta1=0.5."),
]
Debias = Annotated[
    bool | None,
    typer.Option("--debias/--no-debias", envvar="CVTOOL_DEBIAS", show_envvar=False, help="Correct Adam's averages for their start at 0."),
]
Schedule = Annotated[
    str | None,
    _option("schedule", metavar="NAME", help="constant, cosine, exponential, one-cycle, plateau, poly, step; such as poly:0.9 or step:8,11."),
]
AUGMENTATIONS = (
    "flip, flips, vflip, crop, scale, shift, resized-crop, scale-crop-flip, text-crop, rotate, translate, shear, color, brightness, contrast, "
    "saturation, sharpness, grayscale, solarize, posterize, equalize, autocontrast, invert, blur, noise, jpeg, erasing, cutout, randaugment, "
    "mixup, cutmix, repeated"
)
Augment = Annotated[
    str | None,
    _option("augment", metavar="NAME,...", help=f"Such as flip,shift:4,randaugment:2,9; of none, {AUGMENTATIONS}, and torchvision's v2:NAME."),
]
Preprocess = Annotated[
    str | None, _option("preprocess", metavar="NAME", help="Training pictures' statistics to use: mean, standardize, minmax, pca:K, pca-whiten:K.")
]
InputNoise = Annotated[float | None, _option("input-noise", min=0.0, metavar="F", help="Deviation of noise on the normalised pictures.")]
Loss = Annotated[
    str | None, _option("loss", metavar="NAME", help="What is minimised, such as dice+0.5*ce; a wrong name lists all (default: the model's).")
]
LabelSmoothing = Annotated[float | None, _option("label-smoothing", min=0.0, max=1.0, metavar="F", help="Share of a label that the others get.")]
Initializer = Annotated[
    str | None,
    _option("initializer", metavar="NAME", help="How weights start: he, glorot, xavier, trunc-normal, small, large, zeros, bilinear; he:uniform."),
]
InitBias = Annotated[float | None, _option("init-bias", metavar="F", help="Where biases start.")]
L1 = Annotated[float | None, _option("l1", min=0.0, metavar="F", help="Factor of the sum of the weights' absolute values.")]
Dropout = Annotated[float | None, _option("dropout", min=0.0, max=1.0, metavar="F", help="Probability of the model's dropout.")]
DropPath = Annotated[
    float | None, _option("drop-path", min=0.0, max=1.0, metavar="F", help="Stochastic depth: how often the last branch is left out.")
]
SpectralNorm = Annotated[bool | None, _option("spectral-norm", help="Divide each weight by its largest singular value.")]
Ema = Annotated[float | None, _option("ema", metavar="F", help="Average the weights with this decay, such as 0.999; 0 = do not.")]
EarlyStop = Annotated[
    int | None, _option("early-stop", min=0, metavar="[N]", help=f"End after N validations without a better one ({PATIENCE} unless told).")
]
Patience = Annotated[int | None, typer.Option("--patience", min=1, metavar="N", help="The N of --early-stop.")]
Freeze = Annotated[
    str | None, _option("freeze", metavar="NAME,...", help="What keeps its weights: all-but-head, stages:N (the first N), or names with *.")
]
Unfreeze = Annotated[int | None, _option("unfreeze", min=0, metavar="N", help="Only the head and the N stages before it learn.")]
LrScale = Annotated[float | None, _option("lr-scale", min=0.0, metavar="F", help="Learning rate of loaded weights over that of fresh ones.")]
LayerDecay = Annotated[float | None, _option("layer-decay", min=0.0, max=1.0, metavar="F", help="Each layer's learning rate over the next one's.")]
FinalRes = Annotated[int | None, _option("final-res", min=16, metavar="N", help="Picture size of a last fine-tuning (FixRes).")]
FinalEpochs = Annotated[int | None, _option("final-epochs", min=0, metavar="N", help="Epochs of that fine-tuning.")]
Balance = Annotated[
    str | None, _option("balance", metavar="NAME", help="Rare classes: classes or repeat:T (drawn more often), loss (weigh more), none.")
]
Strict = Annotated[bool | None, _option("strict", help="A picture that cannot be read ends the run; else it is left out and counted.")]
Overfit = Annotated[int | None, _option("overfit", min=1, metavar="N", help="A check: learn N pictures by heart, and fail if that does not work.")]
Statistics = Annotated[int | None, _option("statistics", min=0, metavar="N", help="Log gradients, weights and activations every N turns.")]
Compile = Annotated[bool | None, _option("compile", help="Compile the model's forward (torch.compile).")]
Precision = Annotated[str | None, _option("precision", metavar="NAME", help="fp32, bf16 or fp16.")]
Init = Annotated[str | None, _option("init", metavar="REF", help="Start from these weights; heads of another shape start afresh.")]
ValEvery = Annotated[int | None, _option("val-every", min=1, metavar="N", help="Epochs between validations.")]
SaveEvery = Annotated[int | None, _option("save-every", min=1, metavar="N", help="Epochs between states to resume from.")]
Deterministic = Annotated[bool | None, _option("deterministic", help="Only operations that give the same bits each time; slower.")]

SelfTrain = Annotated[
    bool,
    typer.Option("--self-train", help="Learn to read from the pictures of --unlabeled DIR too (--set step=self-training)."),
]

RECIPE_OPTIONS = (
    "epochs", "steps", "batch_size", "lr", "optimizer", "debias", "schedule", "augment", "preprocess", "input_noise", "loss", "label_smoothing",
    "initializer", "init_bias", "l1", "dropout", "drop_path", "spectral_norm", "ema", "early_stop", "freeze", "unfreeze", "lr_scale", "layer_decay",
    "final_res", "final_epochs", "balance", "strict", "overfit", "statistics", "compile", "img_size", "precision", "seed", "deterministic", "init",
    "val_every", "save_every",
)  # fmt: skip


class Command(typer.core.TyperCommand):
    """`--early-stop` may stand alone: the number is then that of --patience, or `PATIENCE`."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        words = list(args)
        for at, word in enumerate(words):
            if word in ("--early-stop", "--early_stop") and (at + 1 == len(words) or words[at + 1].startswith("-")):
                told = any(other.partition("=")[0] == "--patience" for other in words)
                words[at : at + 1] = [] if told else [f"--early-stop={PATIENCE}"]
                break
        return super().parse_args(context, words)


def own_options(context: typer.Context, model: str | None, resume: Path | None) -> dict[str, Any]:
    """Options that only this model or this training step has. Raises UsageError for one that nobody knows."""
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
                takes = _takes(model)
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


def _takes(model: str) -> Iterable[str]:
    """Settings that have no option here: arguments of the model's construction, other keys of a recipe, and those of training steps."""
    from cvtool import registry
    from cvtool.checkpoint import read_info
    from cvtool.train import arguments, steps
    from cvtool.train.recipe import DEFAULTS

    reference = registry.parse(model)
    if reference.path is not None:
        reference = registry.parse(read_info(reference.path).reference.partition("@")[0])
    every = [key for name in steps.names() for key in steps.settings(name)]
    return [*arguments.known(reference.entry, reference.variant), *every, *(key for key in DEFAULTS if key not in RECIPE_OPTIONS)]


def layers(context: typer.Context, values: dict[str, Any], sets: list[str] | None, own: dict[str, Any]) -> list[dict[str, Any]]:
    """Settings of the recipe: from the config file, from the environment, from the command line. An option and its --set together are refused."""
    config, environment, typed = _config.rest(context), dict[str, Any](), dict[str, Any]()
    config.pop("made", None)  # what a run's own recipe.toml says about its making
    where: dict[str, dict[str, Any]] = {"DEFAULT_MAP": config, "ENVIRONMENT": environment, "COMMANDLINE": typed}
    for name in RECIPE_OPTIONS:
        source = context.get_parameter_source(name)
        if source is not None and source.name in where and values[name] is not None:
            where[source.name][name] = values[name]
    if (patience := values.get("patience")) is not None:
        if typed.get("early_stop", patience) != patience:
            raise UsageError(f"--early-stop {typed['early_stop']} and --patience {patience} contradict each other", hint="leave one out")
        typed["early_stop"] = patience
    typed |= own
    given = _options.settings(sets)
    source = context.get_parameter_source("set")
    target = where.get(source.name if source is not None else "COMMANDLINE", typed)
    for key, value in given.items():
        if key in target and target is typed:
            raise UsageError(f"--{key.replace('_', '-')} and --set {key} are given both", hint="they mean the same; leave one out")
        target[key] = value
    if values.get("self_train"):
        source = context.get_parameter_source("self_train")
        target = where.get(source.name if source is not None else "COMMANDLINE", typed)
        if target.get("step", SELF_TRAINING) != SELF_TRAINING:
            raise UsageError(f"--self-train and --set step={target['step']} contradict each other", hint="leave one out")
        target["step"] = SELF_TRAINING
    return [config, environment, typed]


def only_resumable(context: typer.Context, also: Iterable[str]) -> None:
    """Refuse what a resumed run takes from its own recipe. also: options that are no settings and are free."""
    free = {"resume", "set", "config", "patience", *also, *RECIPE_OPTIONS}
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in free and source is not None and source.name == "COMMANDLINE":
            raise UsageError(
                f"--resume cannot change --{name.replace('_', '-')}", hint="the run's own recipe.toml says it; start a new run for another"
            )
