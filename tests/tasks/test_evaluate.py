"""The front of the evaluator: what belongs together is found, what is broken is repaired or named, and nothing scores 0 in silence."""

import io
import json

import pytest

from cvtool.errors import InputError, UsageError
from cvtool.tasks.evaluate import evaluate

NAMES = {1: "person", 2: "dog", 3: "cat"}
BOXES = [[10, 10, 20, 20], [50, 40, 30, 50], [5, 60, 40, 30]]
RLE = {"size": [100, 100], "counts": "ZX3l0R2"}  # a valid, if meaningless, run


def truth(**changes) -> dict:
    """Three images, an object on each of the first two."""
    annotations = [
        {"id": n, "image_id": n, "category_id": n, "bbox": BOXES[n - 1], "area": BOXES[n - 1][2] * BOXES[n - 1][3], "iscrowd": 0} for n in (1, 2)
    ]
    images = [{"id": n, "file_name": f"val/{n:03}.jpg", "width": 100, "height": 100} for n in (1, 2, 3)]
    categories = [{"id": i, "name": name} for i, name in NAMES.items()]
    return {"images": images, "annotations": annotations, "categories": categories} | changes


def found(**changes) -> list[dict]:
    """Both objects found exactly."""
    return [{"image_id": n, "category_id": n, "bbox": BOXES[n - 1], "score": 0.9} | changes for n in (1, 2)]


def document(*, names: dict | None = None, image_ids: str | None = "collected", files: str = "out/val/{:03}.jpg", first_id: int = 51) -> dict:
    """The same detections as a COCO document, images numbered by its writer."""
    names = NAMES if names is None else names
    images = [{"id": first_id + n, "file_name": files.format(n), "width": 100, "height": 100} for n in (1, 2)]
    annotations = [
        {"id": n, "image_id": first_id + n, "category_id": list(names)[n - 1], "bbox": BOXES[n - 1], "score": 0.8, "iscrowd": 0} for n in (1, 2)
    ]
    info = {} if image_ids is None else {"info": {"image_ids": image_ids}}
    return info | {"images": images, "annotations": annotations, "categories": [{"id": i, "name": name} for i, name in names.items()]}


def lines(**changes) -> str:
    records = []
    for n in (1, 2, 3):
        entries = [{"bbox": BOXES[n - 1], "category_id": n, "category": NAMES[n], "score": 0.7}] if n < 3 else []
        records.append({"file_name": f"/data/val/{n:03}.jpg", "width": 100, "height": 100, "annotations": entries} | changes)
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def run(tmp_path):
    """Writes both sides (JSON, or text as it stands) and evaluates them."""

    def call(gt, dt, **options) -> dict:
        paths = []
        for name, value in (("gt", gt), ("dt", dt)):
            is_lines = isinstance(value, str) and value.startswith("{")
            path = tmp_path / f"{name}{'.jsonl' if is_lines else '.json'}"
            path.write_text(value if isinstance(value, str) else json.dumps(value))
            paths.append(path)
        report = evaluate(*paths, **options)
        json.dumps(report, allow_nan=False)
        return report

    return call


def said(report: dict, words: str) -> bool:
    return any(words in warning for warning in report["warnings"])


def test_clean_results(run) -> None:
    report = run(truth(), found())
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert report["task"] == "detection"
    assert report["matching"] == "matched 2 of 2 detected images by image id; 1 of 3 ground-truth images without detections"
    assert report["counts"] | {"images": 3, "images_matched": 2, "annotations": 2, "detections": 2, "categories": 3} == report["counts"]
    assert report["params"]["max_dets"] == [1, 10, 100]
    assert list(report["params"]["area_ranges"]) == ["all", "small", "medium", "large"]
    assert report["metrics"]["APl"] is None
    assert said(report, "nothing to measure for APl, ARl")
    assert report["backend"].startswith("hotcoco ")


def test_both_ways_and_both_engines_agree(run) -> None:
    dt = [*found(), {"image_id": 1, "category_id": 2, "bbox": [1, 2, 30, 40], "score": 0.95}]
    reports = [
        run(truth(), dt),
        run(truth(), dt, backend="pycocotools"),
        run(truth(annotations=[a | {"ignore": 0} for a in truth()["annotations"]]), dt),
    ]
    assert reports[1]["backend"].startswith("pycocotools ")
    assert reports[0]["metrics"] == reports[1]["metrics"] == reports[2]["metrics"]
    assert reports[0]["counts"] == reports[1]["counts"] == reports[2]["counts"]
    assert reports[0]["matching"] == reports[1]["matching"] == reports[2]["matching"]


# --- the traps of the reference --------------------------------------------------------------------------------------------------------------


def test_annotation_id_0_is_renumbered_and_said(run) -> None:
    gt = truth()
    gt["annotations"][0]["id"] = 0
    report = run(gt, found())
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert said(report, "annotation id 0")


def test_repeated_annotation_ids(run) -> None:
    gt = truth()
    gt["annotations"][0]["id"] = 2
    report = run(gt, found())
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert said(report, "annotation ids repeat")


@pytest.mark.parametrize("dt", [[], document() | {"annotations": []}, lines(annotations=[])], ids=["array", "document", "lines"])
def test_empty_results_score_0_with_a_warning(run, dt) -> None:
    report = run(truth(), dt)
    assert report["metrics"]["AP"] == 0
    assert report["counts"]["detections"] == 0
    assert said(report, "there are no detections")


def test_empty_truth_measures_nothing(run) -> None:
    report = run(truth(annotations=[]), found())
    assert report["metrics"]["AP"] is None
    assert said(report, "no objects")


@pytest.mark.parametrize(("identity", "words"), [(str, "text in the detections"), (float, None), ("{:012}".format, "text in the detections")])
def test_image_ids_of_another_type(run, identity, words) -> None:
    report = run(truth(), [d | {"image_id": identity(d["image_id"])} for d in found()])
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert words is None or said(report, words)


def test_text_ids_in_the_ground_truth(run) -> None:
    gt = json.loads(json.dumps(truth()).replace('"image_id": 1', '"image_id": "a"').replace('"image_id": 2', '"image_id": "b"'))
    for image, key in zip(gt["images"], "abc", strict=True):
        image["id"] = key
    report = run(gt, [d | {"image_id": "ab"[n]} for n, d in enumerate(found())])
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert said(report, "are text")


def test_ids_that_are_file_names(run) -> None:
    report = run(truth(), [d | {"image_id": f"{d['image_id']:03}.jpg"} for d in found()])
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert report["counts"]["matched_by"] == "file name"


def test_a_text_id_that_is_the_number_of_one_and_the_name_of_another(run) -> None:
    gt = truth()
    gt["images"][0]["file_name"], gt["images"][1]["file_name"] = "2.jpg", "1.jpg"
    report = run(gt, [d | {"image_id": str(3 - d["image_id"])} for d in found()])
    assert report["counts"]["matched_by"] == "file stem"
    assert report["metrics"]["AP"] == pytest.approx(1)


def test_unknown_images_are_listed_and_left_out(run) -> None:
    extra = [{"image_id": n, "category_id": 1, "bbox": BOXES[0], "score": 0.99} for n in range(70, 78)]
    report = run(truth(), [*found(), *extra])
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert said(report, "8 detected images of 10 are not in the ground truth and left out: 70, 71, 72, 73, 74, ...")
    assert report["counts"]["detections_left_out"] == 8


def test_only_unknown_images_stop(run) -> None:
    with pytest.raises(InputError, match=r"2 detected images, 3 ground-truth images.*detected: 91, 92; ground truth: 1, 2, 3"):
        run(truth(), [d | {"image_id": d["image_id"] + 90} for d in found()])


def test_unknown_categories_are_listed(run) -> None:
    report = run(truth(), [*found(), found()[0] | {"category_id": 0}, found()[0] | {"category_id": 77}])
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert said(report, "2 categories of the detections unknown to the ground truth and left out: 0, 77")
    assert said(report, "numbered from 0")


def test_only_unknown_categories_stop(run) -> None:
    with pytest.raises(InputError, match=r"no category in common; detections: 18; ground truth: 1 \(person\), 2 \(dog\), 3 \(cat\)"):
        run(truth(), found(category_id=18))


def test_limit_of_detections(run) -> None:
    many = [{"image_id": 1, "category_id": 1, "bbox": [60, 60, 5, 5 + n % 7], "score": 1 - n / 1000} for n in range(130)]
    for dt in (many + found(score=0.1), many + found(score=0.1, category="person")[:1]):
        report = run(truth(), dt)
        assert said(report, "31 detections beyond the best 100 of their image and category were not counted")
        assert report["counts"]["detections_beyond_max_det"] == 31
    assert report["metrics"]["AP"] == 0
    wide = run(truth(), many + found(score=0.1), max_det=300)
    assert not said(wide, "beyond")
    assert wide["metrics"]["AP"] > 0
    assert "AR300" in wide["metrics"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score": float("nan")}, "score that is no finite number: nan"),
        ({"score": "0.5"}, "score that is no finite number: '0.5'"),
        ({"score": True}, "score that is no finite number"),
        ({"bbox": [1, 2, float("inf"), 4]}, "not four finite numbers"),
        ({"bbox": [1, 2, 3]}, "not four finite numbers"),
    ],
)
def test_numbers_that_are_none_stop_and_name_the_entry(run, changes: dict, words: str) -> None:
    dt = [*found(), found()[1] | changes]
    with pytest.raises(InputError, match=words) as stop:
        run(truth(), dt)
    assert "entry 2 of the array" in str(stop.value)


@pytest.mark.parametrize("key", ["score", "bbox", "image_id", "category_id"])
def test_missing_keys_stop_and_name_the_entry(run, key: str) -> None:
    dt = [*found(), {k: v for k, v in found()[1].items() if k != key}]
    with pytest.raises(InputError, match=key) as stop:
        run(truth(), dt)
    assert "entry 2 of the array" in str(stop.value)


def test_how_often_and_where_next(run) -> None:
    with pytest.raises(InputError, match=r"a detection has no bbox \(2 such; the next: 3\)"):
        run(truth(), [*found(), *({k: v for k, v in d.items() if k != "bbox"} for d in found())])


def test_scores_in_percent_are_said(run) -> None:
    for dt in (found(score=93), found(score=93, category="person")[:1]):
        report = run(truth(), dt)
        assert said(report, "scores lie outside [0, 1]")
        assert report["metrics"]["AP"] > 0


def test_negative_sizes_are_said(run) -> None:
    assert said(run(truth(), [*found(), found(category="person", bbox=[9, 9, -3, 4])[0]]), "negative width or height")


@pytest.mark.parametrize("box", [[-9, -9, 30, 40.5], [1e-05, 9, 3, 4e-05], [9, 9, -3, 4], [9, 9, 3, -4]])
def test_negative_numbers_are_looked_at_in_clean_files_too(run, box) -> None:
    report = run(truth(), found(bbox=box))
    assert said(report, "negative width or height") == (min(box[2:]) < 0)
    assert said(run(truth(), found(score=-0.5)), "scores lie outside [0, 1] (from -0.5 to")


# --- masks -----------------------------------------------------------------------------------------------------------------------------------


def rle(box: list[float], size: int = 100) -> dict:
    from pycocotools import mask

    x, y, w, h = box
    found = mask.frPyObjects([[x, y, x + w, y, x + w, y + h, x, y + h]], size, size)[0]
    return {"size": [size, size], "counts": found["counts"].decode()}


def masked_truth() -> dict:
    gt = truth()
    for a in gt["annotations"]:
        x, y, w, h = a["bbox"]
        a["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return gt


def test_boxes_beside_masks_do_not_decide_the_area(run) -> None:
    dt = [d | {"segmentation": rle(d["bbox"]), "bbox": [0, 0, 100, 100]} for d in found()]
    report = run(masked_truth(), dt, iou_type="segm")
    plain = run(masked_truth(), [{k: v for k, v in d.items() if k != "bbox"} for d in dt], iou_type="segm")
    assert report["metrics"] == plain["metrics"]
    assert said(report, "areas (APs, APm, APl) are taken from the masks")
    assert not plain["warnings"][:-1]


def test_polygons_and_plain_runs_as_detections(run) -> None:
    shapes = [masked_truth()["annotations"][0]["segmentation"], {"size": [100, 100], "counts": [5040, *([50, 50] * 30)[:-1], 10000 - 5040 - 50 * 59]}]
    dt = [{"image_id": n, "category_id": n, "score": 0.9, "segmentation": shape} for n, shape in enumerate(shapes, 1)]
    report = run(masked_truth(), dt, iou_type="segm")
    assert report["metrics"]["AP50"] == pytest.approx(0.5, abs=0.51)
    assert report["per_class"]["person"]["AP"] == pytest.approx(1) if "per_class" in report else report["metrics"]["AP"] > 0


def test_a_mask_of_another_size_stops(run) -> None:
    with pytest.raises(InputError, match=r"mask of 80 x 80 .* in an image of 100 x 100"):
        run(masked_truth(), [{**d, "segmentation": rle(d["bbox"], 80)} for d in found()], iou_type="segm")


def test_truth_without_masks_stops(run) -> None:
    with pytest.raises(InputError, match="ground-truth annotation has no segmentation"):
        run(truth(), [{**d, "segmentation": rle(d["bbox"])} for d in found()], iou_type="segm")


def test_boxes_only_cannot_be_compared_as_masks(run) -> None:
    with pytest.raises(InputError, match="no 'segmentation'") as stop:
        run(masked_truth(), found(), iou_type="segm")
    assert "--iou-type bbox" in str(stop.value)


def test_masks_only_are_compared_as_their_boxes(run) -> None:
    dt = [{"image_id": d["image_id"], "category_id": d["category_id"], "score": 0.5, "segmentation": rle(d["bbox"])} for d in found()]
    assert run(truth(), dt)["metrics"]["AP50"] == pytest.approx(1)


def test_area_is_computed_where_it_is_missing(run) -> None:
    gt = masked_truth()
    for a in gt["annotations"]:
        del a["area"]
    for iou_type, dt in (("bbox", found()), ("segm", [{**d, "segmentation": rle(d["bbox"])} for d in found()])):
        report = run(gt, dt, iou_type=iou_type)
        assert report["metrics"]["APs"] == pytest.approx(1)
        assert said(report, "have no area")


def test_keypoints(run) -> None:
    points = [v for n in range(17) for v in (12 + n, 11 + n, 2)]
    gt = truth()
    for a in gt["annotations"]:
        a["keypoints"] = points
    gt["annotations"][0] |= {"area": 4000}
    gt["annotations"][1] |= {"area": 4000}
    report = run(gt, [{"image_id": n, "category_id": n, "keypoints": points, "score": 0.5} for n in (1, 2)], iou_type="keypoints")
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert report["params"]["max_dets"] == [20]
    with pytest.raises(InputError, match="17 body points"):
        run(gt, [{"image_id": 1, "category_id": 1, "keypoints": [1, 2, 2], "score": 0.5}], iou_type="keypoints")


# --- other shapes of both sides --------------------------------------------------------------------------------------------------------------


def test_a_document_whose_writer_numbered_the_images_is_matched_by_name(run) -> None:
    report = run(truth(), document(first_id=0))
    assert report["counts"]["matched_by"] == "file name"
    assert report["metrics"]["AP"] == pytest.approx(1)
    shifted = run(truth(), document(first_id=1))
    assert shifted["metrics"]["AP"] == pytest.approx(1)


def test_a_document_with_the_sources_ids_is_matched_by_id(run) -> None:
    for image_ids in ("source", None):
        report = run(truth(), document(first_id=0, image_ids=image_ids))
        assert report["counts"]["matched_by"] == "image id"
        assert report["metrics"]["AP"] == pytest.approx(1)


def test_ids_that_belong_to_other_names_do_not_count(run) -> None:
    report = run(truth(), document(first_id=1, image_ids="source"))
    assert report["counts"]["matched_by"] == "file name"
    assert report["metrics"]["AP"] == pytest.approx(1)


def test_by_stem(run) -> None:
    report = run(truth(), document(files="{:03}.png"))
    assert report["counts"]["matched_by"] == "file stem"
    assert report["metrics"]["AP"] == pytest.approx(1)


def test_lines_from_a_file_and_from_stdin(run, tmp_path) -> None:
    report = run(truth(), lines())
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert report["matching"] == "matched 3 of 3 detected images by file name; 0 of 3 ground-truth images without detections"
    piped = evaluate(tmp_path / "gt.json", "-", stdin=io.BytesIO(lines().encode()))
    assert piped["metrics"] == report["metrics"]
    single = evaluate(tmp_path / "gt.json", "-", stdin=io.BytesIO(lines().splitlines()[0].encode()))
    assert single["counts"]["detections"] == 1
    array = evaluate(tmp_path / "gt.json", "-", stdin=io.BytesIO(json.dumps(found()).encode()))
    assert array["metrics"]["AP"] == pytest.approx(1)
    with pytest.raises(InputError, match="stdin is empty"):
        evaluate(tmp_path / "gt.json", "-", stdin=io.BytesIO(b""))
    with pytest.raises(UsageError, match="only once"):
        evaluate("-", "-")


def test_a_table_of_detections_in_pictures_that_are_elsewhere(run, tmp_path) -> None:
    head = "file_name,category_id,category,x,y,width,height,score"
    rows = [f"/elsewhere/val/{n:03}.jpg,{n},{NAMES[n]},{','.join(map(str, BOXES[n - 1]))},0.9" for n in (1, 2)]
    (tmp_path / "gt.json").write_text(json.dumps(truth()))
    (tmp_path / "dt.csv").write_text("\n".join([head, *rows, "../003.jpg,,,,,,,"]))
    report = evaluate(tmp_path / "gt.json", tmp_path / "dt.csv")
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert report["counts"]["images_matched"] == 3


def test_lines_as_ground_truth_keep_unused_classes(run) -> None:
    gt = lines(made_by=[{"verb": "data", "categories": [{"id": i, "name": n} for i, n in NAMES.items()]}]).replace('"score": 0.7, ', "")
    report = run(gt, document())
    assert report["counts"]["categories"] == 3
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert run(gt, lines())["metrics"]["AP"] == pytest.approx(1)


def test_results_by_id_against_a_truth_without_ids(run) -> None:
    with pytest.raises(InputError, match="no detected image") as stop:
        run(lines(), found())
    assert "no image ids" in str(stop.value)


def test_unreadable_images_of_the_detector_are_said(run) -> None:
    broken = json.dumps({"file_name": "val/003.jpg", "error": "truncated"}) + "\n"
    report = run(truth(), "".join(line + "\n" for line in lines().splitlines()[:2]) + broken)
    assert said(report, "1 image could not be read")
    assert not said(report, "counted as missed")


def test_images_that_the_detector_never_saw_are_said(run) -> None:
    report = run(truth(), document(first_id=0))
    assert said(report, "1 ground-truth image not among those of the detections")


def test_the_same_image_twice_stops(run) -> None:
    with pytest.raises(InputError, match="stands twice"):
        run(truth(), lines() + lines())


def test_swapped_sides_are_recognised(run) -> None:
    with pytest.raises(InputError) as stop:
        run(found(), truth())
    assert "swapped" in str(stop.value)
    report = run(truth(), truth())  # another annotation of the same images, or ground truth by mistake
    assert said(report, "no scores")
    assert said(report, "swapped")
    with pytest.raises(InputError, match="no scores") as stop:
        run(truth(), truth(), metrics="coco")
    assert "swapped" in str(stop.value)


def test_labels_are_not_objects(run) -> None:
    text = json.dumps({"file_name": "val/001.jpg", "labels": [{"category_id": 1, "score": 0.5}]}) + "\n"
    with pytest.raises(InputError, match="one label an image"):
        run(truth(), text + text.replace("001", "002"))


@pytest.mark.parametrize("text", ["", "[", '{"a": 1}', "nonsense", "3"])
def test_files_that_are_neither(run, text: str) -> None:
    with pytest.raises(InputError):
        run(truth(), text)
    with pytest.raises(InputError):
        run(text, found())


def test_missing_file(tmp_path) -> None:
    with pytest.raises(InputError, match="no such file"):
        evaluate(tmp_path / "gt.json", tmp_path / "dt.json")


def test_names_outrank_ids(run) -> None:
    swapped = document(names={1: "dog", 2: "person"})
    swapped["annotations"][0]["category_id"], swapped["annotations"][1]["category_id"] = 2, 1
    report = run(truth(), swapped)
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert said(report, "matched by name: person 2 -> 1, dog 1 -> 2")


def test_names_that_are_not_there_are_listed(run) -> None:
    report = run(truth(), document(names={1: "Person", 2: "wolf"}))
    assert report["metrics"]["AP"] == pytest.approx(0.5)
    assert said(report, "1 category of the detections unknown to the ground truth and left out: 2 (wolf)")


def test_no_name_in_common_stops(run) -> None:
    with pytest.raises(InputError, match=r"no category in common; detections: 1 \(wolf\), 2 \(fox\); ground truth: 1 \(person\)"):
        run(truth(), document(names={1: "wolf", 2: "fox"}))


def test_names_in_results(run) -> None:
    report = run(truth(), [d | {"category_id": d["category_id"] - 1, "category": NAMES[d["category_id"]]} for d in found()])
    assert report["metrics"]["AP"] == pytest.approx(1)


def test_text_category_ids(run) -> None:
    report = run(truth(), [d | {"category_id": str(d["category_id"])} for d in found()])
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert said(report, "category ids are text")


def test_truth_without_a_table_of_categories(run) -> None:
    gt = truth()
    del gt["categories"]
    report = run(gt, found())
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert said(report, "no table of categories")


def test_truth_that_points_outside_itself(run) -> None:
    gt = truth()
    gt["annotations"] += [gt["annotations"][0] | {"id": 8, "image_id": 55}, gt["annotations"][0] | {"id": 9, "category_id": 44}]
    report = run(gt, found())
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert said(report, "not in the table of images: 55")
    assert said(report, "not in the table of categories: 44")


def test_two_images_of_one_id_stop(run) -> None:
    gt = truth()
    gt["images"].append(gt["images"][0])
    with pytest.raises(InputError, match="two images of the ground truth have the id 1"):
        run(gt, found())


def test_classes(run) -> None:
    for dt in (found(), document()):
        report = run(truth(), dt, classes=["Dog"], per_class=True)
        assert list(report["per_class"]) == ["dog"]
        assert report["metrics"]["per_class.dog.AP"] == report["metrics"]["AP"] == pytest.approx(1)
        assert (report["counts"]["categories"], report["counts"]["annotations"], report["counts"]["detections"]) == (1, 1, 1)
    with pytest.raises(UsageError, match="unknown class 'dgo'"):
        run(truth(), found(), classes=["dgo"])


def test_per_class_of_a_class_without_truth_is_null(run) -> None:
    report = run(truth(), found(), per_class=True)
    assert report["metrics"]["per_class.cat.AP"] is None
    assert report["per_class"]["cat"]["AP"] is None


def test_real_detections_of_a_real_model(data) -> None:
    folder = data / "coco_sample"
    report = evaluate(folder / "annotations" / "instances_tiny_val.json", folder / "reference" / "fastestdet_tiny_val_dets.json")
    assert [round(report["metrics"][key], 4) for key in ("AP", "AP50", "AR100")] == [0.1551, 0.2834, 0.2261]
    assert report["counts"]["detections_beyond_max_det"] == 66


def test_oracle_with_text_ids(data) -> None:
    folder = data / "coco_eval_oracle" / "dataset"
    report = evaluate(folder / "gt_ignore_test.json", folder / "dt_ignore_test.json")
    assert report["metrics"]["AP"] > 0
    assert said(report, "image ids are text") or said(report, "are text, such as")
    with pytest.raises(InputError, match="17 body points"):
        evaluate(folder / "example_crowdpose_val.json", folder / "example_crowdpose_preds.json", iou_type="keypoints")


def test_crowdpose_is_faster_coco_evals(data) -> None:
    """The figures are those of faster-coco-eval 1.8 (`keypoints_crowd`, CrowdPose's sigmas, without areas) on the same files."""
    folder = data / "coco_eval_oracle" / "dataset"
    files = folder / "example_crowdpose_val.json", folder / "example_crowdpose_preds.json"
    report = evaluate(*files, iou_type="keypoints", metrics="crowdpose")
    expected = (0.7877215935879303, 0.9881188118811886, 0.7314356435643564, 0.8222222222222223, 1.0, 0.7777777777777778)
    assert [report["metrics"][f"crowd_{key}"] for key in ("AP", "AP50", "AP75", "AR", "AR50", "AR75")] == pytest.approx(expected, abs=1e-12)
    assert [report["metrics"][f"crowd_AP_{key}"] for key in ("easy", "medium", "hard")] == pytest.approx((1.0, 0.9802, 0.4116), abs=5e-5)
    with pytest.raises(InputError, match="have no 'bbox'"):
        evaluate(*files, metrics="crowdpose")
