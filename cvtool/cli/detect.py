"""Find objects in images: boxes with categories and scores (keypoints too, where the model has them).

Records go to stdout as JSON lines (a table on a terminal) or to -o as JSON lines, a COCO document, CSV, YOLO or VOC. A bad image is reported and
the others go on (exit code 7).

Examples:

    cvtool detect street.jpg -m faster-rcnn
    cvtool detect val/ -m runs/0007 --conf 0.3 --classes person,car -o found.json
    cvtool detect aerial.tif -m faster-rcnn --tile 1024 --overlap 0.25 | cvtool visualize - -o seen/
    find photos -name '*.jpg' -print0 | cvtool detect --files0-from - -m viola-jones -o faces.jsonl --resume
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
    predict("detect", locals())
