"""Each system learns a handful of real pictures through the command line, and its verb finds in them what it was shown.

Eight pictures, seen until they are known: what cannot do that has a wrong loss, a wrong target or a wrong decoding.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def subset(source: Path, target: Path, *, count: int = 8, least: int = 32**2, keypoints: bool = False) -> Path:
    """`count` pictures of a COCO file with its largest objects, those of `least` pixels up (for keypoints: persons with at least 8 of them)."""
    document = json.loads(source.read_text())
    enough = [a for a in document["annotations"] if not a.get("iscrowd") and a["area"] >= least and (not keypoints or a.get("num_keypoints", 0) >= 8)]
    chosen = list(dict.fromkeys(a["image_id"] for a in sorted(enough, key=lambda a: -a["area"])))[:count]
    document["images"] = [image for image in document["images"] if image["id"] in chosen]
    document["annotations"] = [a for a in enough if a["image_id"] in chosen]
    used = {a["category_id"] for a in document["annotations"]}
    document["categories"] = [c for c in document["categories"] if c["id"] in used]
    target.write_text(json.dumps(document))
    return target


def cells(data: Path, folder: Path, cvtool) -> tuple[Path, Path]:
    """Eight pictures of BCCD and where they lie."""
    whole = folder / "whole.json"
    done = cvtool("data", "convert", data / "bccd", whole, "--split", "train", "-q")
    assert done.returncode == 0, done.stderr
    return subset(whole, folder / "cells.json", least=0), data / "bccd"


def trained(cvtool, *words) -> Path:
    done = cvtool("train", *words, "-o", "runs", "--precision", "bf16", "--set", "augment=none", "--set", "ema=0.9", timeout=500)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def score(cvtool, folder: Path, verb: str, truth: Path, images: Path, run: Path, kind: str = "bbox") -> dict[str, float]:
    found = cvtool(verb, truth, "--images", images, "-m", run, "-o", "found.json", "-q", cwd=folder)
    assert found.returncode == 0, found.stderr
    done = cvtool("evaluate", "--gt", truth, "--dt", "found.json", "--iou-type", kind, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "epochs", "least"),
    [
        pytest.param("faster-rcnn.small", 40, 0.9, marks=pytest.mark.system("fpn")),
        pytest.param("retinanet.small", 100, 0.9, marks=pytest.mark.system("retinanet")),
    ],
)
def test_detectors_learn_eight_pictures_of_cells(data, cvtool, tmp_path, model, epochs, least):
    truth, images = cells(data, tmp_path, cvtool)
    run = trained(cvtool, "-m", model, "--data", truth, "--images", images, "--epochs", epochs, "-b", 4)
    assert score(cvtool, tmp_path, "detect", truth, images, run)["AP50"] > least


@pytest.mark.slow
@pytest.mark.system("mask-rcnn")
def test_mask_rcnn_learns_eight_photographs(data, cvtool, tmp_path):
    images = data / "coco_sample" / "tiny_train"
    truth = subset(data / "coco_sample" / "annotations" / "instances_tiny_train.json", tmp_path / "truth.json")
    run = trained(cvtool, "-m", "mask-rcnn.small", "--data", truth, "--images", images, "--epochs", 50, "-b", 4)
    metrics = score(cvtool, tmp_path, "segment", truth, images, run, "segm")
    assert metrics["AP50"] > 0.6, metrics


@pytest.mark.slow
@pytest.mark.system("keypoint-rcnn")
def test_keypoint_rcnn_learns_eight_photographs(data, cvtool, tmp_path):
    images = data / "coco_sample" / "tiny_train"
    source = data / "coco_sample" / "annotations" / "person_keypoints_tiny_train.json"
    truth = subset(source, tmp_path / "truth.json", keypoints=True)
    run = trained(cvtool, "-m", "keypoint-rcnn.small", "--data", truth, "--images", images, "--epochs", 50, "-b", 4)
    metrics = score(cvtool, tmp_path, "detect", truth, images, run, "keypoints")
    assert metrics["AP50"] > 0.5, metrics


@pytest.mark.slow
@pytest.mark.system("rpn")
def test_rpn_proposes_the_cells_it_was_shown(data, cvtool, tmp_path):
    """Nearly every cell is among the hundred boxes most likely to hold something."""
    import torch

    from cvtool.ops.boxes import iou, xywh_to_xyxy

    truth, images = cells(data, tmp_path, cvtool)
    run = trained(cvtool, "-m", "rpn.small", "--data", truth, "--images", images, "--epochs", 40, "-b", 4)
    found = cvtool("detect", truth, "--images", images, "-m", run, "--max-det", 100, "-q")
    assert found.returncode == 0, found.stderr
    proposals = {record["id"]: record["annotations"] for record in map(json.loads, found.stdout.splitlines())}
    assert {a["category"] for some in proposals.values() for a in some} == {"object"}
    hits = []
    for a in json.loads(truth.read_text())["annotations"]:
        boxes = torch.tensor([p["bbox"] for p in proposals[a["image_id"]]])
        hits.append(iou(xywh_to_xyxy(torch.tensor([a["bbox"]])), xywh_to_xyxy(boxes)).max() >= 0.5)
    assert sum(hits) / len(hits) > 0.9


@pytest.mark.slow
@pytest.mark.system("deeplab-v3")
def test_deeplab_learns_eight_street_scenes(data, cvtool, tmp_path):
    """Trained at output stride 16, the same weights draw label maps at the pictures' own size."""
    import numpy as np
    from PIL import Image

    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "classes.txt").write_bytes((data / "camvid" / "classes.txt").read_bytes())
    for name in (data / "camvid" / "train.txt").read_text().split("\n")[:8]:
        for kind, path in zip(("images", "masks"), name.split(), strict=True):
            target = tmp_path / "scenes" / kind / Path(path).name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((data / "camvid" / path).read_bytes())
    run = trained(cvtool, "-m", "deeplab-v3.tiny-s16", "--data", "scenes", "--epochs", 60, "-b", 4, "--img-size", 160)
    drawn = cvtool("segment", "scenes/images", "-m", run, "-f", "png", "-o", "maps/", "-q")
    assert drawn.returncode == 0, drawn.stderr
    right = total = 0
    for path in sorted((tmp_path / "scenes" / "masks").iterdir()):
        truth, found = np.asarray(Image.open(path)), np.asarray(Image.open(tmp_path / "maps" / path.name))
        assert truth.shape == found.shape
        seen = truth != 11  # the void of CamVid
        right, total = right + (truth == found)[seen].sum(), total + seen.sum()
    assert right / total > 0.7
