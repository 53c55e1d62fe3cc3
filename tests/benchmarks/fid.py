"""The trace of FID against scipy's matrix square root: `python tests/benchmarks/fid.py [DIMENSIONS [SAMPLES]]`.

One thread is what is compared (OMP_NUM_THREADS=1); features as networks give them, rectified and correlated. Prints seconds, the ratio and the
relative difference, for sets of more and of fewer samples than dimensions.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.linalg import sqrtm

from cvtool.metrics import fid


def drawn(count: int, width: int, seed: int) -> np.ndarray:
    mixed = np.random.default_rng(99).normal(size=(width, width)) / np.sqrt(width)
    return np.maximum(np.random.default_rng(seed).normal(size=(count, width)) @ mixed + 0.1 * seed, 0)


def main(width: int, samples: int) -> None:
    a, b = fid.Gaussian.of(drawn(samples, width, 0)), fid.Gaussian.of(drawn(samples, width, 1))
    start = time.perf_counter()
    mine = fid.trace_of_root(a, b)
    own = time.perf_counter() - start
    start = time.perf_counter()
    theirs = float(np.real(np.trace(sqrtm(a.covariance @ b.covariance))))
    other = time.perf_counter() - start
    ratio, off = other / own, abs(mine / theirs - 1)
    print(f"{width} dimensions, {samples} samples: {own:.2f} s, scipy {other:.2f} s: {ratio:.1f} x, relative difference {off:.1e}")
    few = width // 4
    a, b = fid.Gaussian.of(drawn(few, width, 0)), fid.Gaussian.of(drawn(few, width, 1))
    start = time.perf_counter()
    mine = fid.trace_of_root(a, b)
    own = time.perf_counter() - start
    exact = fid.trace_of_root(fid.Gaussian(a.mean, a.covariance), fid.Gaussian(b.mean, b.covariance))
    print(f"{width} dimensions, {few} samples: {own:.3f} s, relative difference from the covariances' own way {abs(mine / exact - 1):.1e}")


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]]
    main(words[0] if words else 2048, words[1] if len(words) > 1 else 5000)
