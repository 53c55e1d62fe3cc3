"""Boundaries: of masks against a plain loop, of label maps against the same, and of detections against the field's package."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from made_objects import made
from PIL import Image

from cvtool.cli import command
from cvtool.errors import UsageError
from cvtool.metrics import _boundary_ap, boundary_iou, dice
from cvtool.metrics._objects import Objects
from cvtool.metrics.coco import score
from cvtool.metrics.mean_iou import MeanIoU
from cvtool.tasks.evaluate import evaluate


def edge(mask: np.ndarray, steps: int) -> np.ndarray:
    """Pixels of the mask from which something else, or the outside, is at most so many steps away."""
    height, width = mask.shape
    out = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask), strict=True):
        for v in range(y - steps, y + steps + 1):
            for u in range(x - steps, x + steps + 1):
                if not (0 <= v < height and 0 <= u < width) or not mask[v, u]:
                    out[y, x] = True
    return out


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_edge_of_a_mask(steps: int) -> None:
    draw = np.random.default_rng(steps)
    mask = np.zeros((23, 31), bool)
    mask[3:20, 2:28] = True
    mask[8:11, 12:15] = False
    mask[:6, 20:] = draw.random((6, 11)) < 0.8
    np.testing.assert_array_equal(boundary_iou.edge(mask, steps), edge(mask, steps))
    assert not boundary_iou.edge(np.zeros((4, 4), bool), 1).any()
    full = boundary_iou.edge(np.ones((9, 9), bool), steps)
    assert full.sum() == 81 - max(0, 9 - 2 * steps) ** 2  # the picture's border is an edge too


def test_the_width_is_two_per_cent_of_the_diagonal() -> None:
    assert boundary_iou.width((300, 400)) == 10
    assert boundary_iou.width((10, 10)) == 1


def counted(module: object, pairs: list[tuple[np.ndarray, np.ndarray]], classes: int) -> np.ndarray:
    rows = []
    for found, true in pairs:
        joint = MeanIoU(classes)
        joint.update(found, true)
        rows.append(module.counts(found, true, joint.confusion))  # type: ignore[attr-defined]
    return np.sum(rows, 0)


def maps(seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(seed)
    pairs = []
    for _ in range(3):
        true = np.kron(draw.integers(0, 3, (4, 5)), np.ones((9, 8), int))
        true[draw.random(true.shape) < 0.03] = 255
        found = np.roll(np.where(true == 255, 0, true), 2, 1)
        found[:4] = 4  # no class
        pairs.append((found, true))
    return pairs


def test_boundary_iou_of_maps_is_that_of_a_plain_loop() -> None:
    pairs = maps()
    both, either = np.zeros(4), np.zeros(4)
    for found, true in pairs:
        for k in range(4):
            one, other = edge(found == k, 1) & (true != 255), edge(true == k, 1)
            both[k] += (one & other).sum()
            either[k] += (one | other).sum()
    sums = counted(boundary_iou, pairs, 4)
    np.testing.assert_array_equal(sums, [both, either])
    assert boundary_iou.figures(sums)["boundary_IoU"] == pytest.approx(np.mean(both[:3] / either[:3]))
    assert boundary_iou.rows(sums)[3] == {"boundary_IoU": None}
    assert boundary_iou.figures(np.zeros((2, 4))) == {}


def test_dice_is_that_of_a_plain_loop() -> None:
    pairs = maps(1)
    values = []
    for k in range(3):
        right = sum(int(((found == k) & (true == k)).sum()) for found, true in pairs)
        every = sum(int((true == k).sum() + ((found == k) & (true != 255)).sum()) for found, true in pairs)
        values.append(2 * right / every)
    sums = counted(dice, pairs, 4)
    assert dice.figures(sums)["Dice"] == pytest.approx(np.mean(values))
    assert [row["Dice"] for row in dice.rows(sums)] == [*(pytest.approx(value) for value in values), None]
    assert dice.figures(np.zeros((2, 4))) == {}


def data_set(folder: Path, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for part in ("gt/images", "gt/labels", "dt"):
        (folder / part).mkdir(parents=True)
    (folder / "gt" / "classes.txt").write_text("0 sky\n1 road\n2 car\n3 bus\n255 void\n")
    for n, (found, true) in enumerate(pairs):
        Image.fromarray(np.zeros((*true.shape, 3), np.uint8)).save(folder / "gt" / "images" / f"{n}.png")
        Image.fromarray(true.astype(np.uint8)).save(folder / "gt" / "labels" / f"{n}.png")
        Image.fromarray(found.astype(np.uint8)).save(folder / "dt" / f"{n}.png")


@pytest.mark.system("miou")
def test_counts_are_added_over_the_data_set(tmp_path: Path) -> None:
    """mIoU from counts of the whole data set, void left out, by the program: equal to a confusion matrix, and for two half-right pictures another
    number than the mean of the pictures' own. (A printed form sums over C in the inner sum; it runs over the pictures.)"""
    first = np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 0]])  # found, true: class 0 half right
    second = np.array([[1, 1, 1, 1, 1, 1, 0, 0, 2, 2]]), np.array([[1, 1, 1, 0, 0, 0, 255, 255, 2, 2]])  # class 1 half right
    data_set(tmp_path, [first, second])
    report = evaluate(tmp_path / "gt", tmp_path / "dt", metrics="miou,dice,boundary-iou", per_class=True)
    matrix = np.zeros((3, 3))
    for found, true in (first, second):
        for f, t in zip(found.ravel(), true.ravel(), strict=True):
            if t != 255:
                matrix[t, f] += 1
    iou = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
    np.testing.assert_allclose(iou, [2 / 7, 3 / 8, 1.0])
    assert report["metrics"]["mIoU"] == pytest.approx(iou.mean())
    np.testing.assert_array_equal(np.array(report["confusion"]["matrix"])[:3, :3], matrix)
    assert report["counts"]["void_pixels"] == 2
    each = []
    for found, true in (first, second):
        one = MeanIoU(3)
        one.update(found, true)
        each.append(one.compute()["mIoU"])
    assert np.mean(each) != pytest.approx(report["metrics"]["mIoU"], abs=0.05)
    assert report["metrics"]["Dice"] == pytest.approx(np.mean(2 * iou / (1 + iou)))
    assert report["per_class"]["road"]["Dice"] == pytest.approx(2 * iou[1] / (1 + iou[1]))
    assert report["metrics"]["boundary_IoU"] == pytest.approx(iou.mean())  # of a single line every pixel is boundary


def test_miou_of_many_classes_and_of_bytes_is_one() -> None:
    """Up to 254 classes are counted as pairs of bytes, more the long way: the same matrix, and a stray label of the truth is an error in both."""
    draw = np.random.default_rng(3)
    found, true = draw.integers(-2, 300, (50, 60)), draw.integers(0, 7, (50, 60))
    true[:4] = 255
    few, many = MeanIoU(7), MeanIoU(260)
    few.update(found, true)
    many.update(np.where((found < 0) | (found >= 7), 999, found), true)
    np.testing.assert_array_equal(few.confusion[:7, :7], many.confusion[:7, :7])
    assert few.confusion[-1].sum() == 240
    assert few.confusion.sum() == many.confusion.sum() == 3000
    bytes_ = MeanIoU(7)
    bytes_.update(np.where((found < 0) | (found > 255), 255, found).astype(np.uint8), true.astype(np.uint8))
    np.testing.assert_array_equal(few.confusion, bytes_.confusion)
    with pytest.raises(ValueError, match="neither one of 7 classes nor void"):
        few.update(np.zeros((2, 2), int), np.full((2, 2), 9))


# --- average precision by boundaries ---------------------------------------------------------------------------------------------------------


def boundaries(objects: Objects) -> Objects:
    for entry in objects.document["annotations"]:
        entry.pop("difficult", None)
    return Objects(objects.document, objects.results, "boundary")


@pytest.mark.parametrize("seed", [0, 1])
def test_boundary_ap_is_that_of_faster_coco_eval(seed: int) -> None:
    peer = pytest.importorskip("faster_coco_eval")
    objects = boundaries(made(seed, images=6, kind="segm"))
    metrics = _boundary_ap.of_objects(objects).metrics
    with contextlib.redirect_stdout(io.StringIO()):
        truth = peer.COCO(json.loads(json.dumps({"info": {}, **objects.document})))
        found = [{key: value for key, value in entry.items() if key != "bbox"} for entry in objects.results]
        run = peer.COCOeval_faster(truth, truth.loadRes(found), "boundary", print_function=lambda *_: None)
        run.evaluate()
        run.accumulate()
        run.summarize()
    known = [np.nan if value < 0 else value for value in run.stats[:12]]
    assert list(metrics.values()) == pytest.approx(known, abs=1e-9, nan_ok=True)


def test_boundaries_ask_for_more_than_masks(tmp_path: Path) -> None:
    objects = boundaries(made(2, kind="segm"))
    masks = score(objects.document, objects.results, "segm").summary()
    gt, dt = tmp_path / "gt.json", tmp_path / "dt.json"
    gt.write_text(json.dumps(objects.document))
    dt.write_text(json.dumps(objects.results))
    words = ["--gt", str(gt), "--dt", str(dt), "--iou-type", "boundary", "--max-det", "7", "--per-class"]
    done = CliRunner().invoke(command("evaluate"), words)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["iou_type"] == "boundary"
    assert report["params"]["max_dets"] == [1, 7]
    assert 0 < report["metrics"]["AP"] < masks["AP"]
    assert report["metrics"]["AR1"] <= report["metrics"]["AR7"]
    assert set(report["per_class"]) == {"thing1", "thing2", "thing3"}
    perfect = [{**entry, "score": 0.9} for entry in objects.document["annotations"] if not entry["iscrowd"]]
    assert _boundary_ap.of_objects(Objects(objects.document, perfect, "boundary")).metrics["AP"] == pytest.approx(1.0)


def test_options_without_effect_are_refused() -> None:
    objects = boundaries(made(kind="segm"))
    objects.backend = "pycocotools"
    with pytest.raises(UsageError, match="no effect on --iou-type boundary"):
        _boundary_ap.of_objects(objects)
