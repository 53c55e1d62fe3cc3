"""Verification: are two pictures of the same? AUC, equal error, accuracy and TAR at a FAR, over pairs (Huang 2007, LFW; Fawcett 2006 on ROC)."""

from __future__ import annotations

import numpy as np

KIND = "embeddings"
ALIASES = ("roc", "tar-at-far")
KEYS = {
    "AUC": "area under the ROC curve: a pair of the same is more alike than one of different",
    "EER": "error where as many of the same are refused as different ones accepted",
    "verification_accuracy": "pairs judged rightly at the best threshold",
    "TAR@FAR=F": "pairs of the same accepted where the share F of different ones is",
}
LOWER = ("EER",)


class Curve:
    """The ROC curve of pairs' likenesses and truths. order: from the most alike; ends: the last pair of each threshold, for equal ones go
    together."""

    def __init__(self, scores: np.ndarray, same: np.ndarray) -> None:
        self.order = np.argsort(-scores, kind="stable")
        self.same = same[self.order].astype(bool)
        self.scores = scores[self.order]
        self.ends = np.flatnonzero(np.append(np.diff(self.scores) != 0, True)) if len(scores) else np.zeros(0, np.int64)

    def rates(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(FAR, TAR) at each threshold from strict to lax, beginning with (0, 0); nan where one sort of pairs has no weight."""
        w = np.ones(len(self.order)) if weights is None else weights[self.order].astype(float)
        right, wrong = (np.append(0.0, np.cumsum(w * one)[self.ends]) for one in (self.same, ~self.same))
        with np.errstate(invalid="ignore", divide="ignore"):
            return wrong / wrong[-1], right / right[-1]

    def measure(self, *, far: float = 0.01, weights: np.ndarray | None = None) -> dict[str, float]:
        """far: the share of different pairs that may be accepted, in [0, 1]. Raises ValueError."""
        if not 0 <= far <= 1:
            raise ValueError(f"a false accept rate lies in [0, 1], not {far}")
        accepted, hit = self.rates(weights)
        w = np.ones(len(self.order)) if weights is None else weights
        same = float((w[self.order] * self.same).sum())
        total = float(w.sum())
        names = ("AUC", "EER", "verification_accuracy", f"TAR@FAR={far:g}")
        if not 0 < same < total:
            return dict.fromkeys(names, float("nan"))
        auc = float(np.trapezoid(hit, accepted))
        gap = accepted - (1 - hit)
        after = int(np.argmax(gap >= 0))  # the rates cross between two thresholds
        share = -gap[after - 1] / (gap[after] - gap[after - 1])
        error = float(accepted[after - 1] + share * (accepted[after] - accepted[after - 1]))
        accuracy = float((hit * same + (1 - accepted) * (total - same)).max() / total)
        return dict(zip(names, (auc, error, accuracy, float(hit[accepted <= far + 1e-12].max())), strict=True))
