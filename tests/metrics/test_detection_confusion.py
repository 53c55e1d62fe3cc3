"""Which classes are taken for which, against a plain loop and a worked example."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_objects import made
from PIL import Image

from cvtool.cli import command
from cvtool.errors import UsageError
from cvtool.metrics import detection_confusion, pr_curve
from cvtool.metrics._objects import Objects
from cvtool.render import confusion

A, B, C = [10.0, 10.0, 20.0, 20.0], [60.0, 10.0, 20.0, 20.0], [10.0, 60.0, 20.0, 20.0]
OUTSIDE = [70.0, 70.0, 20.0, 20.0]


def scene(found: list[tuple[int, list[float], float]], *, crowd: bool = False) -> Objects:
    truths = [(1, A), (1, B), (2, C)]
    document = {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": k, "bbox": box, "area": 400.0, "iscrowd": int(crowd and box is C)}
            for i, (k, box) in enumerate(truths, 1)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    return Objects(document, [{"image_id": 1, "category_id": k, "bbox": box, "score": s} for k, box, s in found])


def test_a_worked_example() -> None:
    part = detection_confusion.of_objects(scene([(1, A, 0.9), (2, B, 0.8), (1, OUTSIDE, 0.7), (2, C, 0.1)]))
    assert part.extra["confusion"] == {"categories": ["cat", "dog"], "matrix": [[1, 1], [0, 0]], "none": [0, 1], "background": [1, 0]}
    assert part.metrics == pytest.approx({"right_class": 1 / 3, "wrong_class": 1 / 3, "not_found": 1 / 3, "on_background": 1 / 3})
    assert part.per_class["dog"] == {"right_class": 0.0, "wrong_class": 0.0, "not_found": 1.0, "on_background": 0.0}
    assert detection_confusion.of_objects(scene([(2, C, 0.1)]), min_score=0.1).extra["confusion"]["matrix"] == [[0, 0], [0, 1]]


def test_the_own_class_goes_before_a_better_fit_of_another() -> None:
    near = [14.0, 10.0, 20.0, 20.0]
    part = detection_confusion.of_objects(scene([(1, near, 0.5), (2, A, 0.9)]))
    assert part.extra["confusion"]["matrix"] == [[1, 0], [0, 0]]
    assert part.extra["confusion"]["background"] == [0, 1]


def test_what_lies_in_a_crowd_is_left_out() -> None:
    inside = [12.0, 62.0, 5.0, 5.0]
    part = detection_confusion.of_objects(scene([(2, inside, 0.9), (2, C, 0.8)], crowd=True))
    assert part.extra["confusion"] == {"categories": ["cat", "dog"], "matrix": [[0, 0], [0, 0]], "none": [2, 0], "background": [0, 0]}


@pytest.mark.parametrize("seed", range(4))
def test_sums_and_diagonal(seed: int) -> None:
    """Rows sum to the objects of a class, columns to its detections (but for the spared ones), the diagonal is what `pr-curve` finds right."""
    objects = made(seed, images=12, marks=seed % 2 == 0)
    part = detection_confusion.of_objects(objects, min_score=0.3)
    table = part.extra["confusion"]
    real = [t for t in objects.document["annotations"] if not (t["iscrowd"] or t.get("difficult"))]
    shown = [d for d in objects.results if d["score"] >= 0.3]
    for k in range(3):
        assert sum(table["matrix"][k]) + table["none"][k] == sum(t["category_id"] == k + 1 for t in real)
        column = sum(row[k] for row in table["matrix"]) + table["background"][k]
        assert column <= sum(d["category_id"] == k + 1 for d in shown)
        if seed % 2:
            assert column == sum(d["category_id"] == k + 1 for d in shown)
    right = sum(table["matrix"][k][k] for k in range(3))
    assert part.metrics["right_class"] == right / len(real)
    assert part.metrics["right_class"] == pytest.approx(pr_curve.of_objects(objects, min_score=0.3, iou=0.49999999).metrics["recall"])


def test_the_program_draws_it(tmp_path: Path) -> None:
    objects = made(1)
    gt, dt, plot = tmp_path / "gt.json", tmp_path / "dt.json", tmp_path / "c.png"
    gt.write_text(json.dumps(objects.document))
    dt.write_text(json.dumps(objects.results))
    done = CliRunner().invoke(
        command("evaluate"), ["--gt", str(gt), "--dt", str(dt), "--metric", "detection-confusion:min-score=0.5", "--plot", str(plot)]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["params"]["detection_confusion"] == {"iou": 0.5, "min_score": 0.5}
    with Image.open(plot) as picture:
        assert picture.format == "PNG"
    plain = confusion.draw(["a", "b"], [[1, 0], [0, 1]])
    assert confusion.draw(["a", "b"], [[1, 0], [0, 1]], background=[1, 0]).height > plain.height
    assert confusion.draw(["a", "b"], [[1, 0], [0, 1]], background=[0, 0]).height == plain.height


def test_refusals() -> None:
    with pytest.raises(UsageError, match="iou is above 0"):
        detection_confusion.of_objects(made(), iou=0.0)
