"""Nearest neighbours against plain loops: every distance, blocks, halves, ties, pairs, repeats."""

import numpy as np
import pytest

from cvtool.ops import nearest
from cvtool.ops.nearest import duplicates, recall


def plain(query, row, distance):
    if distance == "cosine":
        return query @ row / np.linalg.norm(query) / np.linalg.norm(row)
    return -np.linalg.norm(query - row) if distance == "l2" else ((query > 0.5) == (row > 0.5)).mean()


@pytest.mark.parametrize("distance", nearest.DISTANCES)
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_in_blocks_as_in_a_loop(monkeypatch, distance, kind):
    monkeypatch.setattr(nearest, "QUERIES", 2)
    draw = np.random.default_rng(0)
    rows = (draw.integers(0, 2, (90, 24)) if distance == "hamming" else draw.normal(size=(90, 24))).astype(kind)
    queries = np.concatenate([rows[:3], draw.normal(size=(2, 24)).astype(kind)])
    real = nearest.blocks
    monkeypatch.setattr(nearest, "blocks", lambda *given: real(*given, size=16))
    order, found = nearest.nearest(queries, rows, 7, distance)
    for query, own, scores in zip(queries.astype(float), order, found, strict=True):
        every = np.array([plain(query, row, distance) for row in rows.astype(float)])
        assert scores == pytest.approx(np.sort(every)[::-1][:7], abs=1e-9)
        assert every[own] == pytest.approx(scores, abs=1e-9)
    assert order[:3, 0].tolist() == [0, 1, 2]  # a row finds itself first
    assert nearest.nearest(queries, rows[:2], 7, distance)[0].shape == (5, 2)


def test_equal_rows_come_by_place_and_unit_rows_need_no_second_pass():
    rows = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    order, found = nearest.nearest(np.eye(4, dtype=np.float32)[2:3], rows, 6, "cosine", unit_rows=True)
    assert order[0].tolist() == [10, 11, 12, 13, 14, 0]
    assert found[0].tolist() == [1, 1, 1, 1, 1, 0]
    with pytest.raises(ValueError, match="numbers"):
        nearest.nearest(rows, rows[:, :2], 1)
    with pytest.raises(ValueError, match="no distance"):
        nearest.nearest(rows, rows, 1, "cosin")


@pytest.mark.system("image-retrieval")
def test_recall_is_one_for_pairs_that_agree_and_k_of_n_for_chance():
    draw = np.random.default_rng(0)
    apart = np.eye(60, dtype=np.float32)
    assert recall(apart, apart) == {f"recall@{k}{back}": 1.0 for back in ("", " back") for k in (1, 5, 10)}
    same = np.ones((60, 3), np.float32)  # all equally near: the first k of 60 are found
    assert recall(same, same) == {f"recall@{k}{back}": pytest.approx(k / 60) for back in ("", " back") for k in (1, 5, 10)}
    chance = recall(draw.normal(size=(2000, 16)), draw.normal(size=(2000, 16)), (10, 100))
    assert chance["recall@100"] == pytest.approx(0.05, abs=0.02)
    assert chance["recall@10 back"] == pytest.approx(0.005, abs=0.006)
    a, b = draw.normal(size=(30, 8)), draw.normal(size=(30, 8))
    likeness = np.array([[plain(x, y, "cosine") for y in b] for x in a])
    for name, table in {"": likeness, " back": likeness.T}.items():
        found = np.mean([i in np.argsort(-line)[:5] for i, line in enumerate(table)])
        assert recall(a, b, (5,))[f"recall@5{name}"] == pytest.approx(found)


@pytest.mark.parametrize(("distance", "least"), [("cosine", 0.98), ("l2", -0.3)])
def test_repeats_are_those_of_a_loop(distance, least):
    draw = np.random.default_rng(1)
    rows = np.repeat(draw.normal(size=(12, 6)), 3, axis=0)[draw.permutation(36)]
    rows = (rows + draw.normal(size=rows.shape) * 0.02).astype(np.float32)
    owner, scores = duplicates(rows, least, distance, size=5)
    kept = []
    for i, row in enumerate(rows):
        likeness = [plain(row.astype(float), rows[j].astype(float), distance) for j in kept]
        if likeness and max(likeness) >= least:
            assert owner[i] == kept[int(np.argmax(likeness))]
            assert scores[i] == pytest.approx(max(likeness), abs=1e-6)
        else:
            assert owner[i] == i
            kept.append(i)
    assert len(kept) == 12
