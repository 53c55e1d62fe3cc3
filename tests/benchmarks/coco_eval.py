"""COCO evaluation against pycocotools, both as whole processes: start-up, reading, checking and scoring included.

    python tests/benchmarks/coco_eval.py                 # bbox on 5,000 images and 500,000 detections, segm on 1,000 and 36,000
    python tests/benchmarks/coco_eval.py --images 500    # a smaller set, the same density
    python tests/benchmarks/coco_eval.py --make DIR      # only writes the files

Prints wall and CPU seconds, peak memory, the ratio, and whether the twelve numbers agree to the last bit.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEER = """
import contextlib, io, json, sys
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
gt, dt, iou_type = sys.argv[1:]
with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO(gt)
    scorer = COCOeval(truth, truth.loadRes(dt), iou_type)
    scorer.evaluate(); scorer.accumulate(); scorer.summarize()
print(json.dumps({"metrics": scorer.stats.tolist()}))
"""
NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def make(folder: Path, images: int, detections_an_image: int, *, masks: bool, seed: int = 20261120) -> tuple[Path, Path]:
    """Seeded ground truth (about 7.4 objects an image, 80 classes, 2 % crowds) and detections: jittered truths, wrong classes, noise."""
    import numpy as np

    rng = np.random.default_rng(seed)
    name = "segm" if masks else "bbox"
    truth_path, results_path = folder / f"gt_{name}_{images}.json", folder / f"dt_{name}_{images}.json"
    if truth_path.exists() and results_path.exists():
        return truth_path, results_path
    ids = rng.permutation(600_000)[:images] + 1
    truths, results, number = [], [], 0
    for image in ids.tolist():
        count = min(40, 1 + int(rng.geometric(1 / 6.4)))
        side = np.exp(rng.normal(4.2, 1.0, (count, 2))).clip(4, 400)
        corner = rng.random((count, 2)) * (640, 480)
        boxes = np.round(np.concatenate([corner, side], 1), 2)
        classes = np.minimum(80, rng.geometric(0.06, count))
        crowd = rng.random(count) < 0.02
        for box, c, is_crowd in zip(boxes.tolist(), classes.tolist(), crowd.tolist(), strict=True):
            number += 1
            area = box[2] * box[3]
            polygon = ellipse(box)
            entry = {"id": number, "image_id": image, "category_id": c, "bbox": box, "area": round(area * 0.78, 3), "iscrowd": int(is_crowd)}
            entry["segmentation"] = encode(polygon) if masks and is_crowd else [polygon]
            truths.append(entry)
        pick = rng.integers(0, count, detections_an_image)
        near = rng.random(detections_an_image) < 0.45
        moved = boxes[pick] + rng.normal(0, 0.12, (detections_an_image, 4)) * np.tile(side[pick], 2)
        noise = np.concatenate([rng.random((detections_an_image, 2)) * (600, 440), np.exp(rng.normal(4.0, 1.0, (detections_an_image, 2)))], 1)
        found = np.where(near[:, None], moved, noise)
        found[:, 2:] = found[:, 2:].clip(2, 600)
        kinds = np.where(rng.random(detections_an_image) < 0.8, classes[pick], rng.integers(1, 81, detections_an_image))
        scores = np.round(np.where(near, rng.beta(4, 3, detections_an_image), rng.beta(1.2, 6, detections_an_image)), 4)
        for box, c, score in zip(np.round(found, 2).tolist(), kinds.tolist(), scores.tolist(), strict=True):
            entry = {"image_id": image, "category_id": c, "bbox": box, "score": score}
            if masks:
                del entry["bbox"]
                entry["segmentation"] = encode(ellipse(box))
            results.append(entry)
    table = [{"id": i, "width": 640, "height": 480, "file_name": f"{i:012d}.jpg"} for i in sorted(ids.tolist())]
    classes = [{"id": i, "name": f"class {i}", "supercategory": "thing"} for i in range(1, 81)]
    truth_path.write_text(json.dumps({"info": {}, "images": table, "annotations": truths, "categories": classes}))
    results_path.write_text(json.dumps(results))
    return truth_path, results_path


def ellipse(box: list[float], corners: int = 24) -> list[float]:
    """A polygon of the ellipse that touches the box, clipped to 640 x 480."""
    from math import cos, pi, sin

    x, y, w, h = box
    points = []
    for k in range(corners):
        t = 2 * pi * k / corners
        points += [round(min(640.0, max(0.0, x + w / 2 + w / 2 * cos(t))), 2), round(min(480.0, max(0.0, y + h / 2 + h / 2 * sin(t))), 2)]
    return points


def encode(polygon: list[float]) -> dict:
    """The polygon as compressed RLE."""
    from pycocotools import mask

    rle = mask.frPyObjects([polygon], 480, 640)[0]
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def measured(command: list[str]) -> tuple[float, float, float, dict | list]:
    """(wall s, CPU s, peak MiB, the metrics printed) of one process, started by a fork of its own so that usage is that command's alone."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, env=environment)
        wall, usage = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.stderr.write(f"{' '.join(command[:4])} ended with {done.returncode}: {done.stderr.decode()[-2000:]}\n")
            os._exit(1)
        answer = [wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, json.loads(done.stdout)["metrics"]]
        os.write(write, json.dumps(answer).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    if not text:
        sys.exit(1)
    return tuple(json.loads(text))


def compare(kind: str, truth: Path, results: Path, rounds: int) -> None:
    ours = [sys.executable, "-m", "cvtool", "evaluate", "--gt", str(truth), "--dt", str(results), "--iou-type", kind, "--json"]
    peer = [sys.executable, "-c", PEER, str(truth), str(results), kind]
    mine = sorted((measured(ours) for _ in range(rounds)), key=lambda run: run[0])[rounds // 2]
    theirs = measured(peer)
    same = [mine[3][name] for name in NAMES] == theirs[3]
    for name, run, ap in (("cvtool", mine, mine[3]["AP"]), ("pycocotools", theirs, theirs[3][0])):
        print(f"{kind:5} {name:12} wall {run[0]:7.2f} s   cpu {run[1]:7.2f} s   peak {run[2]:6.0f} MiB   AP {ap:.6f}")
    ratios = [theirs[i] / mine[i] for i in range(3)]
    print(f"{kind:5} {ratios[0]:.1f} times by wall, {ratios[1]:.1f} by CPU, {ratios[2]:.1f} by memory; equal to the last bit: {same}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3, help="runs of cvtool; the median counts")
    parser.add_argument("--make", type=Path, help="write the files here and stop")
    parser.add_argument("--no-segm", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.make or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        boxes = make(folder, arguments.images, 100, masks=False)
        masks = None if arguments.no_segm else make(folder, max(1, arguments.images // 5), 36, masks=True)
        if arguments.make:
            return
        compare("bbox", *boxes, arguments.rounds)
        if masks:
            compare("segm", *masks, arguments.rounds)


if __name__ == "__main__":
    main()
