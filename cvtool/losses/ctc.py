"""CTC: the surprise at a text whose characters stand nobody knows where, summed over all places they may stand (Graves 2006, ICML, eq. 14)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from cvtool.losses._reduce import reduced
from cvtool.ops.ctc import surprise


def ctc(logits: Tensor, labels: Sequence[Tensor], steps: Tensor | None = None, *, reduction: str = "mean") -> Tensor:
    """-ln P of each text in nats, the mean over the texts: P is the sum over all paths of one label a step that come to it (`ops/ctc.py`).

    logits: B T K, before the softmax, which is taken here, in float32; label 0 is the blank. labels: B texts, int64 each, in 1..K-1. steps: B, how
    many of each one's count (all where None). Two equal neighbours need a blank between them, so "hello" takes 6 steps; a text that has fewer steps
    than it takes costs 0 and teaches nothing, where it would cost infinity.
    """
    return reduced(surprise(logits.float().log_softmax(2), labels, steps, impossible=0.0), reduction)
