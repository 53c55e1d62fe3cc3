"""Precision and recall over the confidence, against a plain loop, and the picture of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from made_objects import made
from PIL import Image

from cvtool.cli import command
from cvtool.errors import UsageError
from cvtool.metrics import pr_curve
from cvtool.metrics._objects import Objects
from cvtool.render import pr


def overlap(a: list[float], b: list[float], crowd: bool) -> float:
    width, height = (min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    both = max(0.0, width) * max(0.0, height)
    return both / (a[2] * a[3] if crowd else a[2] * a[3] + b[2] * b[3] - both)


def verdicts(objects: Objects, rho: float) -> list[tuple[int, float, bool]]:
    """(class, score, right) of every detection that is right or wrong."""
    found = []
    taken: set[int] = set()
    for entry in sorted(objects.results, key=lambda d: -d["score"]):
        fits: list[tuple[bool, float, int]] = []
        for truth in objects.document["annotations"]:
            if (truth["image_id"], truth["category_id"]) != (entry["image_id"], entry["category_id"]):
                continue
            value = overlap(entry["bbox"], truth["bbox"], bool(truth["iscrowd"]))
            spared = bool(truth["iscrowd"] or truth.get("difficult"))
            if value > rho and (truth["id"] not in taken or truth["iscrowd"]):
                fits.append((not spared, value, truth["id"]))
        if not fits:
            found.append((entry["category_id"], entry["score"], False))
            continue
        real, _, key = max(fits)
        taken.add(key)
        if real:
            found.append((entry["category_id"], entry["score"], True))
    return found


@pytest.mark.parametrize(("seed", "rho", "least"), [(0, 0.5, 0.0), (1, 0.5, 0.4), (2, 0.7, 0.6), (3, 0.0, 0.2)])
def test_precision_and_recall_are_those_of_a_plain_loop(seed: int, rho: float, least: float) -> None:
    objects = made(seed, images=12)
    part = pr_curve.of_objects(objects, iou=rho, min_score=least)
    judged = [row for row in verdicts(objects, rho) if row[1] >= least]
    right = sum(row[2] for row in judged)
    there = sum(not (t["iscrowd"] or t.get("difficult")) for t in objects.document["annotations"])
    assert part.metrics["precision"] == pytest.approx(right / len(judged))
    assert part.metrics["recall"] == pytest.approx(right / there)
    assert part.metrics["F1"] == pytest.approx(2 * right / (len(judged) + there))
    whole = verdicts(objects, rho)
    best = []
    for key in (1, 2, 3):
        count = sum(not (t["iscrowd"] or t.get("difficult")) for t in objects.document["annotations"] if t["category_id"] == key)
        mine = [row for row in whole if row[0] == key]
        f1 = {s: 2 * sum(r for _, v, r in mine if v >= s) / (sum(v >= s for _, v, _ in mine) + count) for _, s, _ in mine}
        best.append(max(f1.values(), default=0.0))
        row = part.per_class[f"thing{key}"]
        assert row["best_F1"] == pytest.approx(best[-1])
        assert row["best_score"] == (pytest.approx(max(f1, key=lambda s: (f1[s], s))) if f1 else None)
    assert part.metrics["best_F1"] == pytest.approx(np.mean(best))


def one(truths: list[tuple[int, list[float]]], found: list[tuple[int, list[float], float]]) -> Objects:
    document = {
        "images": [{"id": 1, "width": 100, "height": 100, "file_name": "1.jpg"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": label, "bbox": box, "iscrowd": 0, "area": box[2] * box[3]}
            for i, (label, box) in enumerate(truths, 1)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    return Objects(document, [{"image_id": 1, "category_id": label, "bbox": box, "score": score} for label, box, score in found])


@pytest.mark.system("pr-curve")
def test_every_rule_of_matching_and_the_picture(tmp_path: Path) -> None:
    """Right iff of the class and above rho; an object is found once, in the order of confidence; rho_min is a setting of its own, and recall never
    rises with it; `--plot` writes the PNG."""
    box, half = [10.0, 10.0, 20.0, 20.0], [10.0, 10.0, 10.0, 20.0]  # half overlaps box by exactly 0.5

    def counts(objects: Objects, **more: float) -> tuple[float, float]:
        metrics = pr_curve.of_objects(objects, **more).metrics
        return metrics["precision"], metrics["recall"]

    assert counts(one([(1, box)], [(1, box, 0.5)])) == (1.0, 1.0)
    assert counts(one([(1, box)], [(2, box, 0.5)])) == (0.0, 0.0)  # another class
    assert counts(one([(1, box)], [(1, half, 0.5)])) == (0.0, 0.0)  # rho itself is not enough
    assert counts(one([(1, box)], [(1, half, 0.5)]), iou=0.4999) == (1.0, 1.0)
    assert counts(one([(1, box)], [(1, box, 0.5), (1, box, 0.9)])) == (0.5, 1.0)  # once only
    near = [12.0, 10.0, 20.0, 20.0]
    part = pr_curve.of_objects(one([(1, box)], [(1, box, 0.2), (1, near, 0.9)]))  # the surer one has it, although the other fits better
    assert part.extra["pr_curve"]["classes"]["cat"]["precision"] == [1.0, 0.5]
    assert counts(one([(1, box)], [(1, box, 0.2), (1, near, 0.9)]), min_score=0.5) == (1.0, 1.0)

    objects = made(11, images=10)
    rows = [pr_curve.of_objects(objects, min_score=least) for least in np.linspace(0, 1, 21)]
    recalls = [row.metrics["recall"] for row in rows]
    assert recalls == sorted(recalls, reverse=True)
    assert recalls[0] > recalls[10] > recalls[-1]
    precisions = np.array([row.metrics["precision"] for row in rows[:-1]])
    assert (np.diff(precisions) < 0).any()
    assert (np.diff(precisions) > 0).any()
    assert len({row.metrics["PR_area"] for row in rows}) == 1  # the curve is of all confidences, whatever rho_min is

    gt, dt, plot = tmp_path / "gt.json", tmp_path / "dt.json", tmp_path / "pr.png"
    gt.write_text(json.dumps(objects.document))
    dt.write_text(json.dumps(objects.results))
    done = CliRunner().invoke(
        command("evaluate"), ["--gt", str(gt), "--dt", str(dt), "--metric", "pr-curve:iou=0.5,min-score=0.3", "--plot", str(plot)]
    )
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["metrics"] == pytest.approx(pr_curve.of_objects(objects, min_score=0.3).metrics)
    for curve in report["pr_curve"]["classes"].values():
        assert curve["recall"] == sorted(curve["recall"])
        assert curve["score"] == sorted(curve["score"], reverse=True)
    with Image.open(plot) as picture:
        assert picture.format == "PNG"
        drawn = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in ((31, 111, 235), (232, 89, 12)):  # two classes have curves
        assert (np.abs(drawn.astype(int) - colour).max(1) < 60).sum() > 100


def test_detections_of_one_score_come_and_go_together() -> None:
    box, other = [10.0, 10.0, 20.0, 20.0], [60.0, 60.0, 20.0, 20.0]
    row = pr_curve.of_objects(one([(1, box), (1, other)], [(1, box, 0.5), (1, [0.0, 70.0, 5.0, 5.0], 0.5), (1, other, 0.3)])).extra["pr_curve"][
        "classes"
    ]["cat"]
    assert (row["score"], row["precision"], row["recall"]) == ([0.5, 0.3], [0.5, 0.666667], [0.5, 1.0])
    assert (row["best_F1"], row["best_score"]) == (pytest.approx(0.8), 0.3)


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    boxes = [[float(i % 60), float(i // 60), 0.9, 0.9] for i in range(3000)]
    objects = one([(1, box) for box in boxes], [(1, box, 1 - i / 4000) for i, box in enumerate(boxes)])
    row = pr_curve.of_objects(objects).extra["pr_curve"]["classes"]["cat"]
    assert len(row["score"]) == pr_curve.POINTS
    assert (row["score"][0], row["recall"][-1]) == (1.0, 1.0)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="below 1"):
        pr_curve.of_objects(made(), iou=1.0)


def test_a_picture_of_many_classes_and_of_none() -> None:
    row: dict[str, Any] = {
        "objects": 3,
        "recall": [0.5, 1.0],
        "precision": [1.0, 0.8],
        "score": [0.9, 0.1],
        "area": 0.9,
        "best_F1": 0.9,
        "best_score": 0.1,
    }
    none = {"objects": 2, "recall": [], "precision": [], "score": [], "area": 0.0, "best_F1": None, "best_score": None}
    sizes = {pr.draw({f"a very long name of a class {n}" * 2: row for n in range(count)} | {"nothing": none}, title="t").size for count in (0, 3, 30)}
    assert len(sizes) == 1
