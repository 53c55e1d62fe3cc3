"""Make pictures out of nothing: samples of a generator, walks between them, sweeps of a code's numbers, directions.

Sample number I of a seed is the same picture whatever -n and -o say. With -o a folder, the pictures are 0000.png, 0001.png ... and a piped stdout
carries their records; FILE.gif holds all of them as an animation; without -o exactly one picture goes to a pipe, or an animation with -f gif. Each
PNG says what it was made of, and `cvtool repro FILE.png` makes it again.

A code (latent) is what the model makes a picture of. --interpolate goes from sample to sample in --frames steps, --sweep-dim sets one number of the
code (0,1,2 or all) to each value of --range, --direction adds a vector times each value of --alpha. They begin with the samples of --seed, or with
the codes in --latent, which `cvtool embed` makes of pictures and --save-latents of samples, or with those of the pictures in --input: so a picture
becomes another picture, by a diffusion as far as --strength says.

Examples:

    cvtool generate -m vae.small -n 64 --seed 1 -o made/ --grid sheet.png
    cvtool generate -m vae.small --interpolate 0,5,9 --frames 12 -o walk.gif
    cvtool generate -m vae.small --sweep-dim all --grid traversal.png
    cvtool generate -m ddpm@bccd-cells --input cell.png --class WBC --strength 0.6 -n 4 -o like_it/
    cvtool generate -m runs/0004 -n 16 --sampler ddim --steps 50 --guidance 2 -o made/
    cvtool generate --direction-from glasses.npz,plain.npz -o glasses.npy
    cvtool generate -m runs/0003 --direction glasses.npy --alpha -3:3 --grid glasses.png
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cvtool.cli import _options as opt
from cvtool.cli._console import Console
from cvtool.cli._pictures import Target, save, to_stdout, write
from cvtool.errors import UsageError

if TYPE_CHECKING:
    from cvtool.records import Record
    from cvtool.tasks.generate import Made, Walk

Count = Annotated[int | None, typer.Option("-n", "--n", min=1, metavar="N", help="How many samples. [default: 1]")]
Classes = Annotated[list[str] | None, typer.Option("--class", metavar="NAME,...", help="Of these classes in turn, by name or id.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, metavar="N", help="Steps of a model that makes a picture in many.")]
Guidance = Annotated[float | None, typer.Option("--guidance", metavar="F", help="How strongly the class counts, for a model that takes it.")]
Sampler = Annotated[str | None, typer.Option("--sampler", metavar="NAME", help="How a diffusion finds its way: dpm-solver++, ddim or ddpm.")]
Eta = Annotated[float | None, typer.Option("--eta", min=0.0, metavar="F", help="Noise in each step of --sampler ddim. [default: 0]")]
Classifier = Annotated[str | None, typer.Option("--classifier", metavar="REF", help="Guide a diffusion to --class by a classifier.")]
Truncation = Annotated[float | None, typer.Option("--truncation", min=0.0, metavar="F", help="Codes nearer to the mean: 1 = as they are.")]
Temperature = Annotated[float | None, typer.Option("--temperature", min=0.0, metavar="F", help="Of what is drawn value by value.")]
Interpolate = Annotated[str | None, typer.Option("--interpolate", metavar="A,B,...", help="From sample to sample, by their numbers.")]
Frames = Annotated[int | None, typer.Option("--frames", min=2, metavar="N", help="Pictures of a way or a range. [default: 9]")]
Sweep = Annotated[str | None, typer.Option("--sweep-dim", metavar="D,...", help="Set these numbers of the code to each value of --range; or all.")]
Range = Annotated[str | None, typer.Option("--range", metavar="A:B", help="Values of --sweep-dim. [default: -3:3]")]
Direction = Annotated[Path | None, typer.Option("--direction", metavar="FILE.npy", help="Add this to the code, times each value of --alpha.")]
Alpha = Annotated[str | None, typer.Option("--alpha", metavar="A:B", help="Factors of --direction, 0 = the sample. [default: -3:3]")]
From = Annotated[str | None, typer.Option("--direction-from", metavar="A.npz,B.npz", help="Save mean(A) - mean(B) of two files of codes as -o .npy.")]
Latent = Annotated[Path | None, typer.Option("--latent", metavar="FILE", help="Codes to begin with: .npy or .npz.")]
Input = Annotated[list[str] | None, typer.Option("--input", metavar="FILE", help="Begin with the codes of these pictures, a folder or - too.")]
Strength = Annotated[float | None, typer.Option("--strength", metavar="F", help="How much of --input a diffusion makes anew. [default: 0.5]")]
SaveLatents = Annotated[Path | None, typer.Option("--save-latents", metavar="FILE.npz", help="The pictures' codes too.")]
Kind = Annotated[
    Literal["png", "jpg", "webp", "gif"] | None,
    opt.option("format", "-f", metavar="NAME", help="png, jpg, webp or gif (an animation) [default: png]."),
]


def main(
    context: typer.Context,
    model: opt.Model = None,
    n: Count = None,
    seed: opt.Seed = None,
    classes: Classes = None,
    output: opt.Output = None,
    format: Kind = None,
    grid: opt.Grid = None,
    steps: Steps = None,
    guidance: Guidance = None,
    classifier: Classifier = None,
    sampler: Sampler = None,
    eta: Eta = None,
    truncation: Truncation = None,
    temperature: Temperature = None,
    settings: opt.Set = None,
    interpolate: Interpolate = None,
    sweep_dim: Sweep = None,
    span: Range = None,
    direction: Direction = None,
    alpha: Alpha = None,
    frames: Frames = None,
    latent: Latent = None,
    inputs: Input = None,
    strength: Strength = None,
    save_latents: SaveLatents = None,
    direction_from: From = None,
    batch_size: opt.BatchSize = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "fp32",
    overwrite: opt.Overwrite = False,
    deterministic: opt.Deterministic = False,
    offline: opt.Offline = False,
    config: opt.Config = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
) -> None:
    console = Console("generate", quiet=quiet, verbose=verbose)
    if direction_from is not None:
        typed = {name for name in context.params if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"}
        _save_direction(direction_from, output, overwrite, typed, console)
        return
    asked = {"interpolate": interpolate, "sweep-dim": sweep_dim, "range": span, "direction": direction, "alpha": alpha, "frames": frames}
    _agree(asked, n=n, seed=seed, latent=latent, inputs=inputs)
    opt.needs("--strength", strength, "--input or --latent", inputs or latent)
    moving = (output is not None and Path(output).suffix.lower() == ".gif") or (format == "gif" and output in (None, "-", "/dev/stdout"))
    target = Target(output, overwrite, grid, more=(".gif",))
    suffix = _suffix(format, target, moving)
    one = interpolate is None and sweep_dim is None and direction is None and latent is None and inputs is None
    several = n or len(opt.split_commas(classes) or ()) or 1
    if ((one and several > 1) or asked["frames"] or interpolate) and not (target.many or grid or moving):
        raise UsageError("there is more than one picture", hint="add -o made/ (a folder), -o made.gif or --grid sheet.png")
    if save_latents is not None:
        if save_latents.suffix.lower() != ".npz":
            raise UsageError(f"--save-latents {save_latents}: the name does not end in .npz")
        target.free(save_latents)

    from cvtool.tasks._choose import choose

    reference = choose(model, "generate")
    from cvtool import download
    from cvtool.tasks import generate as task

    if deterministic:
        from cvtool.runtime.device import deterministic as settle

        settle()
    download.set_progress(console.transfer)
    walk = None if one else _walk(asked)
    pictures = None
    if inputs is not None:
        from cvtool.data import inputs as given

        pictures = given.read(inputs)
    infos: list[Any] = []
    made = task.generate(
        reference, n=n, seed=seed or 0, classes=opt.split_commas(classes), walk=walk, latents=None if latent is None else task.read_latents(latent),
        inputs=pictures,
        options={
            "steps": steps, "guidance": guidance, "classifier": classifier, "sampler": sampler, "eta": eta, "truncation": truncation,
            "temperature": temperature, "strength": strength, **opt.settings(settings),
        },
        batch_size=batch_size, device=device, precision=precision, offline=offline, command=shlex.join(["cvtool", *sys.argv[1:]]), infos=infos,
        facts=console.facts,
    )  # fmt: skip
    _deliver(made, target, console, suffix=suffix, moving=moving, save_latents=save_latents, infos=infos)


def _agree(asked: dict[str, Any], *, n: int | None, seed: int | None, latent: Path | None, inputs: list[str] | None) -> None:
    """Refuse options that exclude each other or would have no effect."""
    walks = [f"--{name}" for name in ("interpolate", "sweep-dim", "direction") if asked[name] is not None]
    if len(walks) > 1:
        raise UsageError(f"{' and '.join(walks)} exclude each other")
    opt.needs("--range", asked["range"], "--sweep-dim", asked["sweep-dim"])
    opt.needs("--alpha", asked["alpha"], "--direction", asked["direction"])
    if not walks:
        opt.needs("--frames", asked["frames"], "--interpolate, --sweep-dim or --direction", None)
    if n is not None and (asked["interpolate"] is not None or latent is not None):
        raise UsageError(f"-n has no effect with {'--interpolate' if asked['interpolate'] is not None else '--latent'}", hint="leave -n out")
    if latent is not None and inputs is not None:
        raise UsageError("--latent and --input exclude each other", hint="both say which codes to begin with")
    if seed is not None and latent is not None:
        raise UsageError("--seed has no effect with --latent, which holds the codes", hint="leave one out")


def _walk(asked: dict[str, Any]) -> Walk:
    from cvtool.tasks import generate as task

    interpolate, sweep = asked["interpolate"], asked["sweep-dim"]
    ends = _numbers(interpolate, "--interpolate") if interpolate is not None else ()
    if interpolate is not None and len(ends) < 2:
        raise UsageError(f"--interpolate takes the numbers of two samples or more, not '{interpolate}'", hint="such as --interpolate 0,5")
    dims = () if sweep is None else None if sweep.strip().lower() == "all" else _numbers(sweep, "--sweep-dim")
    direction = None if asked["direction"] is None else task.read_latents(asked["direction"])
    span = _span(asked["range"] or asked["alpha"] or "-3:3", "--range" if asked["range"] else "--alpha")
    return task.Walk(ends, dims, direction, span, asked["frames"] or (1 if span[0] == span[1] else task.FRAMES))


def _numbers(text: str, option: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"{option} takes whole numbers from 0 on with commas between, not '{text}'")
    return tuple(map(int, words))


def _span(text: str, option: str) -> tuple[float, float]:
    """`-3:3` -> its ends; one number is both."""
    try:
        found = [float(word) for word in text.split(":")]
        if not 1 <= len(found) <= 2 or any(value - value for value in found):
            raise ValueError(text)
    except ValueError:
        raise UsageError(f"{option} takes FIRST:LAST, such as -3:3, or one number, not '{text}'") from None
    return found[0], found[-1]


def _suffix(format: str | None, target: Target, moving: bool) -> str:
    """Of the pictures' names."""
    if format is not None and target.path is None and target.grid is not None:
        raise UsageError("-f has no effect on --grid, whose name tells the kind of picture", hint="leave it out")
    if format is not None and target.path is not None and not target.many:
        own = {".jpeg": "jpg"}.get(target.path.suffix.lower(), target.path.suffix.lower()[1:])
        if own != format:
            raise UsageError(f"-f {format} and -o {target.path} do not go together", hint="leave -f out: the name tells the kind of picture")
    if format == "gif" and not moving:
        raise UsageError("-f gif is one animation of all pictures", hint="-o FILE.gif, or a pipe")
    return f".{format or 'png'}"


def _deliver(
    made: Iterator[Made], target: Target, console: Console, *, suffix: str, moving: bool, save_latents: Path | None, infos: list[Any]
) -> None:
    """Each picture where it belongs, then the animation, the sheet and the codes, and a line of summary."""
    from cvtool.records import write_line
    from cvtool.render.samples import Sheet

    sheet, frames, latents, count = Sheet(), [], [], 0
    alone = not (target.many or moving) and (target.path is not None or target.grid is None)
    lines = target.path is not None and not sys.stdout.isatty()
    held: Made | None = None
    for one in made:
        if alone and held is not None:
            raise UsageError("there is more than one picture", hint="add -o made/ (a folder), -o made.gif or --grid sheet.png")
        held = one if alone else None
        count += 1
        console.progress(f"generate  {count} pictures")
        if save_latents is not None:
            if one.latent is None:
                raise UsageError("--save-latents has no effect: the model makes its pictures of no codes")
            latents.append(one.latent)
        if target.grid is not None:
            sheet.add(one.pixels, one.row, one.column)
        if moving:
            frames.append(one.pixels)
        elif target.many:
            assert target.path is not None
            path = target.path / f"{count - 1:04d}{suffix}"
            target.free(path)
            _save(one, path)
            if lines:
                write_line(_record(one, path, infos), sys.stdout)
    console.clear()
    if held is not None and target.path is not None:
        _save(held, target.path)
        if lines:
            write_line(_record(held, target.path, infos), sys.stdout)
    elif held is not None:
        to_stdout(_image(held.pixels, held.two_tone), suffix, **_notes(held, suffix))
    if moving:
        data = _animation(frames)
        if target.path is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            write(data, target.path)
    if target.grid is not None:
        save(sheet.image(), target.grid)
    if save_latents is not None:
        from cvtool.tasks.generate import save_latents as keep

        keep(save_latents, latents, str(infos[0].reference))
    places = " and ".join(str(place) for place in (target.path, target.grid, save_latents) if place is not None)
    if places:
        console.say(f"{count} picture{'s' * (count != 1)} in {places}; {console.facts.get('device', '')}")


def _record(made: Made, path: Path, infos: list[Any]) -> Record:
    return made.record(str(path), infos[0])


def _image(pixels: Any, two_tone: bool = False) -> Any:
    from PIL import Image

    return Image.fromarray(pixels).convert("1", dither=Image.Dither.NONE) if two_tone else Image.fromarray(pixels)


def _notes(made: Made, suffix: str) -> dict[str, Any]:
    """What a PNG says of itself."""
    if suffix.lower() != ".png":
        return {}
    from cvtool.tasks.repro import notes

    return {"pnginfo": notes(made.facts)}


def _save(made: Made, path: Path) -> None:
    save(_image(made.pixels, made.two_tone), path, **_notes(made, path.suffix))


def _animation(frames: list[Any], milliseconds: int = 120) -> bytes:
    """A GIF that goes round for ever; a colour table of its own for each picture."""
    from cvtool import images

    pictures = [_image(pixels).quantize(256) for pixels in frames]
    how = {"save_all": True, "append_images": pictures[1:], "duration": milliseconds, "loop": 0, "disposal": 2}
    return images.encoded(pictures[0], "GIF", how)


def _save_direction(text: str, output: str | None, overwrite: bool, typed: set[str], console: Console) -> None:
    """mean(A) - mean(B) as a file."""
    for name in typed - {"direction_from", "output", "overwrite", "quiet", "verbose", "config"}:
        raise UsageError(f"--{ {'classes': 'class', 'span': 'range'}.get(name, name).replace('_', '-') } has no effect with --direction-from")
    files = [word.strip() for word in text.split(",")]
    if len(files) != 2 or not all(files):
        raise UsageError(f"--direction-from takes two files of codes with a comma between, not '{text}'")
    if output is None or Path(output).suffix.lower() != ".npy":
        raise UsageError("where does the direction go?", hint="-o FILE.npy")
    path = Path(output).expanduser()
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists", hint="--overwrite to replace it, or another -o")
    from cvtool.tasks import generate as task

    found = task.direction(Path(files[0]), Path(files[1]))
    task.save_array(path, found)
    console.say(f"{found.size} numbers of length {float((found**2).sum() ** 0.5):.4g} in {path}")
