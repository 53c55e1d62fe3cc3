"""Made-up shapes: exact truth, the same for a seed, and readable as COCO."""

from __future__ import annotations

import numpy as np
import pytest

from cvtool.data import formats, source, synth
from cvtool.data.dataset import mask_of


def test_truth_is_exact_and_repeats() -> None:
    records = synth.shapes(6, (64, 80), seed=4)
    again = synth.shapes(8, (64, 80), seed=4)
    assert all(a == b and a.data == b.data for a, b in zip(records, again, strict=False))
    assert synth.shapes(1, (64, 80), seed=5)[0].data != records[0].data
    kinds = set()
    for record in records:
        assert record.pixels().shape == (64, 80, 3)
        assert (record["width"], record["height"]) == (80, 64)
        union = np.zeros((64, 80), int)
        for a in record["annotations"]:
            mask = mask_of(a["segmentation"], 64, 80)
            ys, xs = np.nonzero(mask)
            assert a["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert a["area"] == mask.sum()
            union += mask
            kinds.add(a["category"])
        assert union.max() <= 1
    assert kinds == {"circle", "square", "triangle"}
    with pytest.raises(ValueError, match="at least 32"):
        synth.shapes(1, 16)


def test_outlines() -> None:
    circle = synth.outline(0, 50, 50, 20, 0, 100, 100)
    assert circle.sum() == pytest.approx(np.pi * 400, rel=0.02)
    square = synth.outline(1, 50, 50, 20, 0.7, 100, 100)
    assert square.sum() == pytest.approx((1.7 * 20) ** 2, rel=0.03)
    triangle = synth.outline(2, 50, 50, 20, 2.0, 100, 100)
    assert triangle.sum() == pytest.approx(3 * np.sqrt(3) / 4 * 400, rel=0.03)


def test_written_as_coco(tmp_path) -> None:
    path = synth.write_shapes(tmp_path, 5, 48, seed=1)
    assert formats.recognise(path) == "coco"
    train, val, categories = source.read({"data": str(path)})
    assert [c["name"] for c in categories] == ["circle", "square", "triangle"]
    assert val == []
    for ours, drawn in zip(train, synth.shapes(5, 48, seed=1), strict=True):
        assert np.array_equal(ours.pixels(), drawn.pixels())
        assert [a["bbox"] for a in ours["annotations"]] == [a["bbox"] for a in drawn["annotations"]]
        assert [a["category_id"] for a in ours["annotations"]] == [a["category_id"] for a in drawn["annotations"]]
