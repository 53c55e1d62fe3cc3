"""Speed of adding a picture to mIoU: one 1024 x 512 pair of label maps with 19 classes and void, against torchmetrics and the usual NumPy recipe.

    OMP_NUM_THREADS=1 python tests/benchmarks/miou.py

Prints milliseconds a pair (the best of many) and the ratios; the values are compared too.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from cvtool.metrics.mean_iou import MeanIoU

CLASSES, ROUNDS = 19, 15


def maps() -> tuple[np.ndarray, np.ndarray]:
    """Blocks of labels with 5 % void, and the same with a tenth of the blocks changed; uint8."""
    draw = np.random.default_rng(0)
    true = draw.integers(0, CLASSES, (32, 64)).astype(np.uint8)
    true[draw.random(true.shape) < 0.05] = 255
    found = np.where((draw.random(true.shape) < 0.1) | (true == 255), draw.integers(0, CLASSES, true.shape), true).astype(np.uint8)
    return np.kron(found, np.ones((16, 16), np.uint8)), np.kron(true, np.ones((16, 16), np.uint8))


def best(call: Callable[[], object]) -> float:
    """Milliseconds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def recipe(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The fully convolutional networks' own: mask, int64 codes, bincount."""
    known = true < CLASSES
    return np.bincount(CLASSES * true[known].astype(int) + found[known], minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def main() -> None:
    found, true = maps()
    ours = MeanIoU(CLASSES)
    rows = {"cvtool": best(lambda: ours.update(found, true)), "numpy recipe": best(lambda: recipe(found, true))}
    once = MeanIoU(CLASSES)
    once.update(found, true)
    assert (once.confusion[:-1, :-1] == recipe(found, true)).all()
    try:
        import torch
        from torchmetrics.classification import MulticlassJaccardIndex
    except ImportError:
        print("torchmetrics is not installed")
    else:
        torch.set_num_threads(1)
        pair = torch.from_numpy(found.astype(np.int64))[None], torch.from_numpy(true.astype(np.int64))[None]
        for name, checks in (("torchmetrics", True), ("without checks", False)):
            peer = MulticlassJaccardIndex(num_classes=CLASSES, ignore_index=255, validate_args=checks)
            rows[name] = best(lambda peer=peer: peer.update(*pair))  # type: ignore[misc]
            assert abs(float(peer.compute()) - once.compute()["mIoU"]) < 1e-6
    for name, spent in rows.items():
        print(f"{name:14} {spent:7.2f} ms a pair {spent / rows['cvtool']:7.1f} x")


if __name__ == "__main__":
    main()
