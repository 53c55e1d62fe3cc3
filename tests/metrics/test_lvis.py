"""LVIS's protocol: lvis-api's numbers, and each of its rules by itself."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from made_objects import made

from cvtool.errors import InputError
from cvtool.metrics import lvis
from cvtool.metrics._objects import Objects


def federated(objects: Objects, seed: int = 0) -> Objects:
    """With frequencies, and for each image some classes known to be absent and some not looked for to the end."""
    draw = np.random.default_rng(seed)
    keys = [category["id"] for category in objects.document["categories"]]
    for n, category in enumerate(objects.document["categories"]):
        category |= {"frequency": "rcf"[n % 3], "synset": "x", "image_count": 1}
    for image in objects.document["images"]:
        here = {entry["category_id"] for entry in objects.document["annotations"] if entry["image_id"] == image["id"]}
        image["neg_category_ids"] = [key for key in keys if key not in here and draw.random() < 0.6]
        image["not_exhaustive_category_ids"] = [key for key in sorted(here) if draw.random() < 0.4]
    return objects


@pytest.mark.parametrize(("seed", "kind"), [(0, "bbox"), (1, "segm"), (2, "bbox")])
def test_the_numbers_are_those_of_lvis_api(seed: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = pytest.importorskip("lvis")
    monkeypatch.setattr(np, "float", float, raising=False)  # gone from NumPy, and the package uses it still
    logging.getLogger("lvis").setLevel(logging.ERROR)
    objects = federated(made(seed, images=14, classes=6, kind=kind), seed)
    for entry in objects.document["annotations"]:
        entry["ignore"] = int(entry.pop("difficult", 0))
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(objects.document))
    results = [dict(entry) for entry in objects.results]
    for entry in results:
        entry.pop("segmentation" if kind == "bbox" else "bbox", None)
    run = peer.LVISEval(peer.LVIS(str(path)), json.loads(json.dumps(results)), kind)
    run.run()
    for entry in objects.document["annotations"]:
        entry["difficult"] = entry["ignore"]
    metrics = lvis.of_objects(Objects(objects.document, results, kind)).metrics
    theirs = {("AR300" if key == "AR@300" else key.replace("@300", "")): value for key, value in run.results.items()}
    assert metrics == pytest.approx({key: np.nan if value < 0 else value for key, value in theirs.items()}, abs=1e-12, nan_ok=True)


def test_the_numbers_that_lvis_api_gave() -> None:
    """lvis 0.5.3 of the same made-up images, for where the package is not installed."""
    metrics = lvis.of_objects(federated(made(0, images=14, classes=6), 0)).metrics
    known = {
        "AP": 0.142712,
        "AP50": 0.34504,
        "AP75": 0.063021,
        "APs": 0.153829,
        "APm": 0.2,
        "APr": 0.106519,
        "APc": 0.21914,
        "APf": 0.102475,
        "AR300": 0.236343,
        "ARs": 0.256448,
        "ARm": 0.2,
    }
    assert {key: round(value, 6) for key, value in metrics.items() if not np.isnan(value)} == pytest.approx(known, abs=2e-6)


def scene(*, negative: list[int], open_: list[int], found: list[tuple[int, float]]) -> Objects:
    """One object of class 1, found; and further detections elsewhere, of (class, score)."""
    box, nowhere = [10.0, 10.0, 20.0, 20.0], [60.0, 60.0, 20.0, 20.0]
    document = {
        "images": [{"id": 1, "width": 100, "height": 100, "neg_category_ids": negative, "not_exhaustive_category_ids": open_}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 400.0, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "a", "frequency": "r"}, {"id": 2, "name": "b", "frequency": "f"}],
    }
    results = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.5}]
    return Objects(document, results + [{"image_id": 1, "category_id": key, "bbox": nowhere, "score": score} for key, score in found])


def test_the_rules_of_a_federated_data_set() -> None:
    wrong = lvis.of_objects(scene(negative=[], open_=[], found=[(1, 0.9)]))
    assert wrong.metrics["AP"] == pytest.approx(0.5)  # its own class was looked for
    spared = lvis.of_objects(scene(negative=[], open_=[1], found=[(1, 0.9)]))
    assert spared.metrics["AP"] == spared.metrics["APr"] == pytest.approx(1.0)  # but not to the end
    unknown = lvis.of_objects(scene(negative=[], open_=[], found=[(2, 0.9)]))
    assert unknown.extra["lvis"]["detections_not_judged"] == 1
    judged = lvis.of_objects(scene(negative=[2], open_=[], found=[(2, 0.9)]))
    assert judged.extra["lvis"] == {"detections_not_judged": 0, "frequency": {"a": "r", "b": "f"}}
    assert np.isnan(judged.metrics["APf"])  # a class without objects has no precision, whatever was found
    few = lvis.of_objects(scene(negative=[2], open_=[], found=[(2, 0.9), (2, 0.8)]), max_det=2)
    assert few.metrics["AP"] == 0.0  # the best two of the image are of another class
    assert "AR2" in few.metrics


def test_ground_truth_of_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match="has no frequency, and LVIS needs r, c or f"):
        lvis.of_objects(made())
    objects = federated(made())
    del objects.document["images"][2]["neg_category_ids"]
    with pytest.raises(InputError, match="image 3 has no neg_category_ids"):
        lvis.of_objects(objects)
