"""Make a generated PNG again from what it says of itself, and compare: the same pixels, or what is different.

`cvtool generate` writes into each PNG which model and weights (by their sha256), seed, number, class and options made it. Other weights are an error
(exit code 4); so is a picture whose pixels differ (1), with what has changed since: cvtool, torch or the device.

Examples:

    cvtool repro made/0003.png
    cvtool repro made/0003.png -m runs/0007 -o again.png
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cvtool.cli import _options as opt
from cvtool.cli._console import Console
from cvtool.cli._pictures import Target, save
from cvtool.errors import CvtoolError, UsageError

Picture = Annotated[Path, typer.Argument(metavar="FILE.png", help="A picture that `cvtool generate` made.")]
Device = Annotated[str | None, opt.option("device", metavar="NAME", help="cpu, cuda, cuda:N or mps (default: as it was made).")]


def main(
    picture: Picture,
    output: opt.Output = None,
    model: opt.Model = None,
    device: Device = None,
    overwrite: opt.Overwrite = False,
    offline: opt.Offline = False,
    config: opt.Config = None,
    quiet: opt.Quiet = False,
) -> None:
    console = Console("repro", quiet=quiet)
    target = None if output is None else Target(output, overwrite, None)
    if target is None:
        opt.needs("--overwrite", overwrite, "-o FILE", output)
    elif target.many or (target.path is not None and target.path.suffix.lower() != ".png"):
        raise UsageError(f"-o {output}: the picture is one PNG", hint="-o again.png")
    from PIL import Image

    from cvtool import download
    from cvtool.tasks import repro as task

    download.set_progress(console.transfer)
    again = task.reproduce(picture, model=model, device=device, offline=offline)
    if target is not None and target.path is not None:
        save(Image.fromarray(again.pixels), target.path, pnginfo=task.notes(again.facts))
    elif target is not None:
        from cvtool.cli._pictures import to_stdout

        to_stdout(Image.fromarray(again.pixels), pnginfo=task.notes(again.facts))
    if again.off:
        share, since = again.off / again.pixels.size, "; ".join(again.other)
        what = f"the pixels differ: {share:.2%} of the values, by {again.most} of 255 at most"
        raise CvtoolError(what, where=picture, hint=f"since then: {since}" if since else "the number of threads or the batch may be another")
    console.say(
        f"{picture}: identical, {again.pixels.shape[1]} x {again.pixels.shape[0]} pixels" + (f" ({'; '.join(again.other)})" * bool(again.other))
    )
    if target is None and not sys.stdout.isatty():
        print(picture)
