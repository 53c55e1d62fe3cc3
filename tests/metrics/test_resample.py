"""COCO's figures under image weights, against pycocotools on a data set that really holds its images so often; and how often an interval is right."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cvtool.metrics._objects import Objects
from cvtool.metrics._resample import Matches
from cvtool.metrics.bootstrap import interval, p_value, weightings
from cvtool.metrics.coco import score


def made(seed: int, images: int = 9, *, coarse: bool = False) -> tuple[dict, list[dict]]:
    """Objects of three classes and all sizes, crowds, images without either side; no two scores of one image and class are equal."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for image in range(1, images + 1):
        for _ in range(int(rng.integers(0, 7)) if image > 1 else 0):
            side = rng.choice([12.0, 50.0, 140.0], 2) * rng.uniform(0.7, 1.1, 2)
            box = [*(rng.random(2) * 300).tolist(), *side.tolist()]
            label, crowd = int(rng.integers(1, 4)), int(rng.random() < 0.15)
            truths.append({"id": len(truths) + 1, "image_id": image, "category_id": label, "bbox": box, "area": side.prod() * 0.9, "iscrowd": crowd})
            for _ in range(int(rng.integers(0, 4)) if image != 3 else 0):
                moved = (np.array(box) + rng.normal(0, 0.1, 4) * np.tile(side, 2)).tolist()
                found.append({"image_id": image, "category_id": label if rng.random() < 0.9 else 2, "bbox": moved, "score": float(rng.random())})
        for _ in range(int(rng.integers(0, 3))):
            box = [*(rng.random(2) * 300).tolist(), *(rng.random(2) * 150 + 5).tolist()]
            found.append({"image_id": image, "category_id": int(rng.integers(1, 4)), "bbox": box, "score": float(rng.random())})
    if coarse:  # equal scores in different images
        levels: dict[tuple[int, int], list[float]] = {}
        for entry in found:
            free = levels.setdefault((entry["image_id"], entry["category_id"]), [k / 40 for k in range(40)])
            entry["score"] = free.pop(int(rng.integers(0, len(free))))
    images_ = [{"id": n, "width": 480, "height": 480} for n in range(1, images + 1)]
    return {"images": images_, "annotations": truths, "categories": [{"id": k, "name": str(k)} for k in (1, 2, 3)]}, found


def repeated(gt: dict, dt: list[dict], weights: np.ndarray) -> tuple[dict, list[dict]]:
    """The data set with every image as often as its weight says, under fresh ids, copies side by side."""
    images, truths, found = [], [], []
    for image, times in zip(gt["images"], weights.astype(int), strict=True):
        for _ in range(times):
            fresh = len(images) + 1
            images.append({**image, "id": fresh})
            truths += [{**a, "id": 0, "image_id": fresh} for a in gt["annotations"] if a["image_id"] == image["id"]]
            found += [{**d, "image_id": fresh} for d in dt if d["image_id"] == image["id"]]
    return {**gt, "images": images, "annotations": [{**a, "id": n} for n, a in enumerate(truths, 1)]}, found


def theirs(gt: dict, dt: list[dict], keys: list[str]) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = copy.deepcopy({"info": {}, **gt})
        truth.createIndex()
        found = truth.loadRes(copy.deepcopy(dt)) if dt else truth
        scorer = COCOeval(truth, found, "bbox")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return dict(zip(keys, np.where(scorer.stats < 0, np.nan, scorer.stats).tolist(), strict=True))


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.booleans())
def test_weights_are_repeated_images(seed: int, coarse: bool) -> None:
    gt, dt = made(seed, coarse=coarse)
    if not gt["annotations"] or not dt:
        return
    keys = list(score(gt, dt).summary())
    matches = Matches.of(Objects(gt, dt), keys)
    draw = np.random.default_rng(seed)
    weights = np.stack([np.ones(9), draw.multinomial(9, [1 / 9] * 9), draw.integers(0, 2, 9), draw.integers(0, 5, 9)])
    mine = matches.weighted(weights)
    assert list(mine) == keys
    for row, one in enumerate(weights):
        more, found = repeated(gt, dt, one)
        if not more["annotations"] or not found:
            continue
        reference = theirs(more, found, keys)
        for key in keys:
            assert mine[key][row] == pytest.approx(reference[key], abs=1e-12, nan_ok=True), (key, one)


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("limit", [None, 3, 300])
def test_weights_of_one_are_the_figures(backend: str, limit: int | None) -> None:
    gt, dt = made(3, 20)
    limits = [1, 10, 100] if limit is None else [1, limit] if limit == 3 else [1, 10, limit]
    expected = score(gt, dt, max_dets=limits).summary()
    mine = Matches.of(Objects(gt, dt, limits=limits, backend=backend), list(expected)).weighted(np.ones((1, 20)))
    for key, value in expected.items():
        assert mine[key][0] == pytest.approx(value, abs=1e-12, nan_ok=True), key


@pytest.mark.parametrize("iou_type", ["segm", "keypoints"])
def test_masks_and_keypoints_too(iou_type: str) -> None:
    gt, dt = made(5, 12)
    draw = np.random.default_rng(0)
    for entry in (*gt["annotations"], *dt):
        x, y, w, h = entry["bbox"]
        if iou_type == "segm":
            entry["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            if "score" in entry:
                from pycocotools import mask

                rle = mask.merge(mask.frPyObjects(entry["segmentation"], 480, 480))
                entry["segmentation"] = {"size": [480, 480], "counts": rle["counts"].decode()}
                del entry["bbox"]
        else:
            entry["keypoints"] = np.column_stack([draw.random((17, 2)) * [w, h] * 0.2 + [x, y], np.full(17, 2)]).ravel().tolist()
            entry["num_keypoints"] = 17
    limits = [20] if iou_type == "keypoints" else [1, 10, 100]
    expected = score(gt, dt, iou_type, max_dets=limits).summary()
    matches = Matches.of(Objects(gt, dt, iou_type, limits), list(expected))
    twice = np.arange(12) % 2 * 2.0
    mine = matches.weighted(np.stack([np.ones(12), twice]))
    more, found = repeated(gt, dt, twice)
    for row, reference in enumerate((expected, score(more, found, iou_type, max_dets=limits).summary())):
        for key, value in reference.items():
            assert mine[key][row] == pytest.approx(value, abs=1e-12, nan_ok=True), key


def test_only_some_classes_and_nothing_found() -> None:
    gt, dt = made(3, 20)
    expected = score(gt, dt, category_ids=[2]).summary()
    mine = Matches.of(Objects(gt, dt, category_ids=[2]), list(expected)).weighted(np.ones((1, 20)))
    assert mine["AP"][0] == pytest.approx(expected["AP"], abs=1e-12)
    none = Matches.of(Objects(gt, []), list(expected))
    assert none.weighted(np.ones((1, 20)))["AP"][0] == 0
    assert np.isnan(none.weighted(np.zeros((1, 20)))["AP"][0])


def test_worst_images_by_hand() -> None:
    def box(x: float) -> list[float]:
        return [x, 10.0, 40.0, 40.0]

    truths = [{"id": n, "image_id": n, "category_id": 1, "bbox": box(10), "area": 1600, "iscrowd": 0} for n in (1, 2, 3)]
    found = [{"image_id": 1, "category_id": 1, "bbox": box(11), "score": 0.9}, {"image_id": 2, "category_id": 1, "bbox": box(100), "score": 0.8}]
    found += [{"image_id": 2, "category_id": 1, "bbox": box(10), "score": 0.7}, {"image_id": 3, "category_id": 1, "bbox": box(200), "score": 0.1}]
    images = [{"id": n, "width": 300, "height": 100} for n in (1, 2, 3, 4)]
    each = Matches.of(Objects({"images": images, "annotations": truths, "categories": [{"id": 1, "name": "a"}]}, found), ["AP"]).per_image()
    # the best F1, 2 * 2 / (3 + 3), is at 0.7: the last detection is below it
    assert each["f1"].tolist()[:3] == [1, pytest.approx(2 / 3), 0]
    assert np.isnan(each["f1"][3])
    assert each["missed"].tolist() == [0, 0, 1, 0]
    assert each["false_positives"].tolist() == [0, 1, 0, 0]


# --- the bootstrap itself --------------------------------------------------------------------------------------------------------------------


def test_drawings_are_seeded_and_add_up() -> None:
    one, again, other = (np.concatenate(list(weightings(50, 40, seed))) for seed in (1, 1, 2))
    assert one.shape == (40, 50)
    assert (one.sum(1) == 50).all()
    assert (one == again).all()
    assert (one != other).any()


def test_an_interval_of_the_mean_holds_it_as_often_as_it_says() -> None:
    """300 samples of 80 from a known distribution; the percentile interval of 90 % holds its mean in about 90 % of them (binomial: 0.865 to 0.935
    is two standard errors)."""
    draw = np.random.default_rng(7)
    held = 0
    for run in range(300):
        values = draw.gamma(4, 1, 80)
        weights = np.concatenate(list(weightings(80, 400, run)))
        low, high = interval(weights @ values / 80, 0.9)
        held += low <= 4 <= high
    assert 0.84 <= held / 300 <= 0.945


def test_an_interval_of_average_precision_holds_what_many_images_give() -> None:
    """A detector with a fixed chance to find, place and invent: its AP50 over 3,000 images is the truth, samples of 150 give intervals."""
    draw = np.random.default_rng(11)

    def images(count: int) -> tuple[dict, list[dict]]:
        truths, found = [], []
        for image in range(1, count + 1):
            for place in range(3):
                box = [place * 100.0, 10.0, 60.0, 60.0]
                truths.append({"id": len(truths) + 1, "image_id": image, "category_id": 1, "bbox": box, "area": 3600, "iscrowd": 0})
                kind = draw.random()
                if kind < 0.9:  # found, or beside it; surer where right
                    right = kind < 0.6
                    score_ = float(draw.beta(4, 2) if right else draw.beta(2, 4))
                    found.append({"image_id": image, "category_id": 1, "bbox": box if right else [box[0], 80.0, 60.0, 60.0], "score": score_})
        table = [{"id": n, "width": 400, "height": 200} for n in range(1, count + 1)]
        return {"images": table, "annotations": truths, "categories": [{"id": 1, "name": "a"}]}, found

    gt, dt = images(3000)
    truth = score(gt, dt).summary()["AP50"]
    held = 0
    for run in range(60):
        gt, dt = images(150)
        matches = Matches.of(Objects(gt, dt), ["AP50"])
        values = np.concatenate([matches.weighted(weights)["AP50"] for weights in weightings(150, 150, run)])
        low, high = interval(values, 0.9)
        held += low <= truth <= high
    assert 0.78 <= held / 60 <= 0.98


def test_p_values() -> None:
    assert p_value(np.linspace(-1, 1, 999)) == pytest.approx(1)
    assert p_value(np.full(999, -0.3)) == pytest.approx(0.002)
    assert p_value(np.r_[np.full(989, 0.1), np.full(10, -0.1)]) == pytest.approx(0.022)
    assert np.isnan(p_value(np.full(5, np.nan)))
