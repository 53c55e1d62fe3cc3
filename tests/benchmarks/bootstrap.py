"""1,000 bootstrap resamples of COCO's figures, counted in evaluations of pycocotools on the same files.

    python tests/benchmarks/bootstrap.py                       # 5,000 images, 100 detections each
    python tests/benchmarks/bootstrap.py --detections 7        # as sparse as a detector's confident output
    python tests/benchmarks/bootstrap.py --resamples 96        # scaled up to 1,000

Prints the seconds of matching, of resampling and of one evaluation by pycocotools (matching, accumulation; without reading), and their ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from coco_eval import make

from cvtool.metrics._objects import Objects
from cvtool.metrics._resample import Matches
from cvtool.metrics.bootstrap import weightings
from cvtool.metrics.coco import score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="of an image")
    parser.add_argument("--resamples", type=int, default=1000, help="measured; the time is scaled to 1,000")
    parser.add_argument("--no-peer", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        truth, results = make(Path(folder), arguments.images, arguments.detections, masks=False)
        gt, dt = json.loads(truth.read_bytes()), json.loads(results.read_bytes())
    expected = score(gt, dt).summary()
    start = time.perf_counter()
    matches = Matches.of(Objects(gt, dt), list(expected))
    matched = time.perf_counter() - start
    whole = matches.weighted(np.ones((1, arguments.images)))
    worst = max(abs(whole[key][0] - value) for key, value in expected.items())
    start = time.perf_counter()
    for weights in weightings(arguments.images, arguments.resamples, 0):
        matches.weighted(weights)
    drawn = (time.perf_counter() - start) * 1000 / arguments.resamples
    print(f"{arguments.images:,} images, {len(dt):,} detections; weights of one differ from the figures by {worst:.1e} at most")
    print(f"matching {matched:.1f} s, 1,000 resamples {drawn:.1f} s (measured: {arguments.resamples:,})", flush=True)
    if arguments.no_peer:
        return
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        peer = COCO()
        peer.dataset = gt
        peer.createIndex()
        scorer = COCOeval(peer, peer.loadRes(dt), "bbox")
        start = time.perf_counter()
        scorer.evaluate()
        scorer.accumulate()
        one = time.perf_counter() - start
    print(f"pycocotools, one evaluation {one:.1f} s: 1,000 resamples are {(matched + drawn) / one:.1f} of them")


if __name__ == "__main__":
    main()
