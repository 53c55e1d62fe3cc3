"""One-shot accuracy: which of N classes, each shown once, is this picture of? (Lake 2015, doi:10.1126/science.aab3050)."""

from __future__ import annotations

import numpy as np

from cvtool.metrics._neighbours import similarity

KIND = "embeddings"
ALIASES = ("oneshot", "few-shot")
KEYS = {"one_shot": "queries whose class is that of the nearest class mean of the examples shown, over random episodes"}


def episodes(
    vectors: np.ndarray, labels: np.ndarray, distance: str, *, ways: int = 20, shots: int = 1, episodes: int = 400, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(of each episode the row of its query, whether it was answered rightly).

    An episode draws `ways` classes of more than `shots` pictures, `shots` examples of each, and one query of another picture of the first; the
    nearest mean of examples answers. vectors: N D, labels: N whole numbers. Raises ValueError where there are not enough classes.
    """
    rows = {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}
    rows = {label: some for label, some in rows.items() if len(some) > shots}
    if len(rows) < max(2, ways):
        raise ValueError(f"{ways} ways of {shots} shots need as many classes of more than {shots} pictures, and there are {len(rows)}")
    if shots < 1 or episodes < 1 or ways < 2:
        raise ValueError("one-shot needs two ways, a shot and an episode at least")
    draw, known = np.random.default_rng(seed), list(rows)
    queries, right = np.zeros(episodes, np.int64), np.zeros(episodes)
    for number in range(episodes):
        shown = [draw.permutation(rows[known[i]])[: shots + 1] for i in draw.choice(len(known), ways, replace=False)]
        queries[number] = shown[0][shots]
        means = np.stack([vectors[one[:shots]].mean(0) for one in shown])
        right[number] = similarity(vectors[queries[number]][None], means, distance)[0].argmax() == 0
    return queries, right
