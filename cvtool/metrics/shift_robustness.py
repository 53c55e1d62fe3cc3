"""Shift robustness: does a model see the thing or a cue beside it? Clean, cue-marked and cue-swapped pictures (Geirhos 2020, arXiv:2004.07780)."""

from __future__ import annotations

import numpy as np

KIND = "shift"
ALIASES = ("shortcut",)
KEYS = {
    "accuracy_clean": "accuracy on the pictures as they are",
    "accuracy_cue": "accuracy where each picture carries its own class's cue",
    "accuracy_swapped": "accuracy where each picture carries another class's cue",
    "cue_gain": "what the cue gives: accuracy with it less that on clean pictures",
    "cue_drop": "what the wrong cue takes: accuracy on clean pictures less that on swapped ones",
    "cue_reliance": "accuracy with the right cue less that with the wrong one: 0 for a model that sees the thing alone",
}
LOWER = ("cue_gain", "cue_drop", "cue_reliance")
SETS = ("clean", "cue", "swapped")


def compute(right: dict[str, np.ndarray], weights: np.ndarray | None = None) -> dict[str, float]:
    """Of each set N, whether the pictures were told rightly (the same ones in the same order) -> the keys, those of sets that are there."""
    values: dict[str, float] = {}
    for name in SETS:
        if name in right:
            w = np.ones(len(right[name])) if weights is None else weights
            values[f"accuracy_{name}"] = float(w @ right[name] / w.sum()) if w.sum() > 0 else float("nan")
    clean, cue, swapped = (values.get(f"accuracy_{name}") for name in SETS)
    if clean is not None and cue is not None:
        values["cue_gain"] = cue - clean
    if clean is not None and swapped is not None:
        values["cue_drop"] = clean - swapped
    if cue is not None and swapped is not None:
        values["cue_reliance"] = cue - swapped
    return values
