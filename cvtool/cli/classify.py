"""Say what images show: the likeliest classes of each, best first.

Examples:

    cvtool classify cat.jpg -m timm:resnet50.a1_in1k
    cvtool classify photos/ -m timm:resnet50.a1_in1k --top 1 -o labels.csv
"""

from __future__ import annotations

from typing import Annotated

import typer

from cvtool.cli import _options as opt
from cvtool.cli._predict import predict

Top = Annotated[int, typer.Option("--top", min=1, metavar="N", envvar="CVTOOL_TOP", show_envvar=False, help="How many classes an image.")]


def main(
    inputs: opt.Inputs = None,
    model: opt.Model = None,
    output: opt.Output = None,
    format: opt.Format = None,
    top: Top = 5,
    conf: opt.Conf = None,
    classes: opt.Classes = None,
    img_size: opt.ImgSize = None,
    tta: opt.Tta = None,
    batch_size: opt.BatchSize = None,
    workers: opt.Workers = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "fp32",
    images: opt.Images = None,
    files_from: opt.FilesFrom = None,
    shard: opt.Shard = None,
    overwrite: opt.Overwrite = False,
    resume: opt.Resume = False,
    deterministic: opt.Deterministic = False,
    offline: opt.Offline = False,
    config: opt.Config = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
) -> None:
    predict("classify", locals())
