"""Outline what is in images: a mask for each object, or for each class of region.

An instance segmenter (mask-rcnn) gives one annotation an object; a semantic one (fcn, deeplab-v3) one annotation a class present, without score.
Masks are COCO's run-length code in the records; `-f png -o FOLDER/` writes label maps.

Examples:

    cvtool segment street.jpg -m mask-rcnn | cvtool visualize - -o seen/
    cvtool segment val/ -m deeplab-v3 -f png -o labels/
    cvtool segment street.jpg -m mask-rcnn --classes person -o people.json
"""

from __future__ import annotations

from cvtool.cli import _options as opt
from cvtool.cli._predict import predict


def main(
    inputs: opt.Inputs = None,
    model: opt.Model = None,
    output: opt.Output = None,
    format: opt.Format = None,
    conf: opt.Conf = None,
    iou: opt.IoU = None,
    max_det: opt.MaxDet = None,
    classes: opt.Classes = None,
    img_size: opt.ImgSize = None,
    tta: opt.Tta = None,
    tile: opt.Tile = None,
    overlap: opt.Overlap = None,
    save_crops: opt.SaveCrops = None,
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
    predict("segment", locals())
