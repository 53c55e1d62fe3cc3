"""Records: results in, JSON lines out and in again, and nothing malformed passes."""

import io
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from cvtool import records
from cvtool.annotations import of_result
from cvtool.categories import coco as coco_categories
from cvtool.errors import InputError, ModelError, UsageError
from cvtool.records import Record
from cvtool.results import Boxes, Embedding, Instances, Labels, SemanticMap

CATEGORIES = [None, {"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, None]


def boxes(*rows, labels=(1,), scores=None):
    return Boxes(np.array(rows, np.float32), np.array(labels), None if scores is None else np.array(scores, np.float32))


def test_boxes_become_coco_annotations():
    (found,) = of_result(boxes([10, 20, 30.5, 60], scores=[0.9]), CATEGORIES)
    assert found == {"bbox": [10, 20, 20.5, 40], "category_id": 7, "category": "dog", "score": 0.9, "area": 820, "iscrowd": 0}


def test_holes_and_labels_out_of_range_never_leave():
    found = of_result(boxes(*[[0, 0, 1, 1]] * 6, labels=[0, 1, 2, 3, 4, -1], scores=[0.5] * 6), CATEGORIES)
    assert [entry["category"] for entry in found] == ["dog", "cat"]
    found = of_result(boxes([0, 0, 1, 1], labels=[11], scores=[0.5]), coco_categories())
    assert found == []  # COCO's id 12 does not exist


def test_classes_filter_by_category_id():
    result = boxes([0, 0, 1, 1], [0, 0, 2, 2], labels=[1, 2], scores=[0.5, 0.6])
    assert [entry["category_id"] for entry in of_result(result, CATEGORIES, classes={3})] == [3]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_scores_keep_every_bit_of_their_float32(scores):
    result = boxes(*[[0, 0, 1, 1]] * len(scores), labels=[1] * len(scores), scores=scores)
    text = json.loads(json.dumps(of_result(result, CATEGORIES)))
    assert [np.float32(entry["score"]) for entry in text] == [np.float32(score) for score in scores]
    assert all(len(repr(entry["score"])) <= 16 for entry in text)


@settings(deadline=None)
@given(arrays.arrays(np.float32, (3, 4), elements=st.floats(0, 640, width=32)))
def test_rounding_keeps_boxes_inside(corners):
    corners = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    for entry, corner in zip(of_result(boxes(*corners, labels=[1] * 3), CATEGORIES), corners, strict=True):
        x, y, w, h = entry["bbox"]
        assert w >= 0
        assert h >= 0
        assert x + w <= 640 + 1e-9
        np.testing.assert_allclose([x, y, x + w, y + h], corner, atol=6e-4)


def test_nan_from_a_model_is_its_fault():
    for result in (boxes([0, 0, np.nan, 1], scores=[0.5]), boxes([0, 0, 1, 1], scores=[np.nan])):
        with pytest.raises(ModelError):
            of_result(result, CATEGORIES)


def test_masks_are_compressed_rle_that_decodes_to_themselves():
    masks = np.random.default_rng(0).random((3, 13, 17)) < 0.4
    result = Instances(np.zeros((3, 4), np.float32), np.array([1, 0, 2]), np.ones(3, np.float32), masks=masks)
    found = of_result(result, CATEGORIES)
    assert len(found) == 2
    for entry, mask in zip(found, masks[[0, 2]], strict=True):
        shape = json.loads(json.dumps(entry["segmentation"]))
        assert shape["size"] == [13, 17]
        assert isinstance(shape["counts"], str)
        np.testing.assert_array_equal(coco.decode(shape), mask)
        assert entry["area"] == mask.sum()


def test_keypoints():
    points = np.array([[[1.5, 2.25, 1], [0, 0, 0]]], np.float32)
    result = Instances(np.array([[0, 0, 4, 4]], np.float32), np.array([1]), np.ones(1, np.float32), keypoints=points, keypoint_scores=np.ones((1, 2)))
    (found,) = of_result(result, CATEGORIES)
    assert found["keypoints"] == [1.5, 2.25, 1, 0, 0, 0]
    assert found["num_keypoints"] == 1
    assert found["keypoint_scores"] == [1, 1]


def test_a_semantic_map_is_one_rle_a_class():
    labels = np.array([[0, 1, 1], [2, 2, 255]])
    found = of_result(SemanticMap(labels), CATEGORIES)
    assert [(entry["category_id"], entry["area"], entry["bbox"]) for entry in found] == [(7, 2, [1, 0, 2, 1]), (3, 2, [0, 1, 2, 1])]
    assert all("score" not in entry for entry in found)
    np.testing.assert_array_equal(coco.decode(found[1]["segmentation"]), labels == 2)


def test_torch_results_are_taken():
    torch = pytest.importorskip("torch")
    result = Boxes(torch.tensor([[0.0, 0, 2, 3]]), torch.tensor([1]), torch.tensor([0.25]))
    assert of_result(result, CATEGORIES)[0]["bbox"] == [0, 0, 2, 3]


def test_no_objects():
    empty = Instances(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32), masks=np.zeros((0, 5, 5), bool))
    assert of_result(empty, CATEGORIES) == []


def test_add_result():
    record = Record(file_name="a.jpg", id=4, note="kept", annotations=[{"bbox": [0, 0, 1, 1]}], made_by=[{"verb": "x"}])
    maker = records.made_by("detect", "m@w", categories=CATEGORIES, weights_sha256="ab")
    other = records.add_result(record, boxes([0, 0, 1, 1], scores=[1]), CATEGORIES, made_by=maker)
    assert len(other["annotations"]) == 1
    assert other["annotations"][0]["category"] == "dog"
    assert other["note"] == "kept"
    assert [entry["verb"] for entry in other["made_by"]] == ["x", "detect"]
    assert other["made_by"][1]["categories"] == [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    assert record["annotations"] == [{"bbox": [0, 0, 1, 1]}]
    labels = records.add_result(record, Labels(np.array([2, 1]), np.array([0.75, 0.25], np.float32)), CATEGORIES)
    assert labels["labels"] == [{"category_id": 3, "category": "cat", "score": 0.75}, {"category_id": 7, "category": "dog", "score": 0.25}]
    assert records.add_result(record, Embedding(np.array([0.1], np.float32)), [])["embedding"] == [0.1]


def test_a_class_that_was_never_found_is_not_lost():
    made = records.made_by("detect", "m", categories=CATEGORIES)
    found = [Record(made_by=[made], annotations=[]), Record(annotations=[{"category_id": 1, "category": "cow"}]), Record(labels=[{"category_id": 0}])]
    assert [(category["id"], category["name"]) for category in records.categories_of(found)] == [(0, "class0"), (1, "cow"), (3, "cat"), (7, "dog")]


def test_choosing_classes():
    assert records.choose(CATEGORIES, ["Cat", "7", 3]) == [3, 7]
    with pytest.raises(UsageError, match="did you mean dog"):
        records.choose(CATEGORIES, ["doge"])


# --- JSON lines ------------------------------------------------------------------------------------------------------------------------------


def lines(text):
    return list(records.read_lines(io.StringIO(text)))


def test_lines_round_trip():
    found = [Record(file_name="ä 日本.jpg", id=1, anything={"deep": [1, None, True]}), Record(file_name="b.jpg", score=0.1)]
    out = io.StringIO()
    for record in found:
        records.write_line(record, out)
    assert out.getvalue().count("\n") == 2
    assert "ä 日本" in out.getvalue()
    assert lines(out.getvalue()) == found
    assert [type(record) for record in lines(out.getvalue())] == [Record, Record]


def test_numpy_values_and_odd_names_can_be_written():
    assert json.loads(records.dumps({"a": np.float32(0.5), "b": np.arange(3)})) == {"a": 0.5, "b": [0, 1, 2]}
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    text = records.dumps({"file_name": name})
    text.encode("utf-8")
    assert json.loads(text)["file_name"] == name


def test_nan_is_never_written():
    with pytest.raises(ValueError, match="JSON"):
        records.dumps({"score": float("nan")})


def test_blank_lines_a_byte_order_mark_and_crlf():
    assert [record["id"] for record in lines('\ufeff{"id": 1}\r\n\n   \n{"id": 2}')] == [1, 2]
    assert [record["id"] for record in records.read_lines(io.BytesIO(b'\xef\xbb\xbf{"id": 1}\n{"id": 2}\n'))] == [1, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"id": 1}\n{"id": 2\n', "line 2.*column"),
        ('{"id": 1}\n[1]\n', "this is a list.*line 2"),
        ('\n"text"\n', "this is a text.*line 2"),
        ('{"score": NaN}\n', "NaN is not a JSON number.*line 1"),
        ('{"score": -Infinity}\n', "Infinity.*line 1"),
        ('{"annotations": [{"bbox": [0, 0, 1e999, 1]}]}\n', r"annotations\[0\].bbox.*line 1"),
        ('{"annotations": [{"bbox": [0, 0, 1]}]}\n', "bbox.*line 1"),
        ('{"annotations": [{"bbox": [0, 0, "1", 1]}]}\n', "bbox"),
        ('{"annotations": {"bbox": 1}}\n', "annotations is not a list"),
        ('{"file_name": 3}\n', "file_name is a number"),
        ("[" * 100_000 + "\n", "nested too deeply"),
    ],
)
def test_what_is_no_record_names_its_line(text, words):
    with pytest.raises(InputError) as caught:
        lines(text)
    assert caught.value.exit_code == 3
    import re

    assert re.search(words, str(caught.value), re.DOTALL), str(caught.value)


def test_bytes_that_are_no_text():
    with pytest.raises(InputError, match=r"UTF-8(.|\n)*x.jsonl, line 1"):
        list(records.read_lines(io.BytesIO(b"\xff\xfe{}\n"), name="x.jsonl"))


def test_an_endless_line_is_bounded(monkeypatch):
    monkeypatch.setattr(records, "MAX_LINE", 1000)
    with pytest.raises(InputError, match="longer than 1,000"):
        lines('{"id": "' + "x" * 5000 + '"}\n')


def test_a_stream_is_read_in_constant_memory():
    line = json.dumps({"file_name": "a.jpg", "annotations": [{"bbox": [0, 0, 1, 1], "category_id": 1}] * 10}) + "\n"

    def stream(count):
        for _ in range(count):
            yield line

    def peak(count):
        tracemalloc.start()
        for _ in records.read_lines(stream(count)):
            pass
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(10)
    assert peak(2000) < peak(100) + 50_000


def test_a_record_without_a_picture_says_so():
    with pytest.raises(InputError, match="no file_name"):
        Record(id=3).pixels()
    with pytest.raises(InputError, match="stdin"):
        Record(file_name="-").pixels()
    with pytest.raises(InputError, match="broken"):
        Record(file_name="a.jpg", error="broken").pixels()
    with pytest.raises(InputError, match="whole number"):
        Record(file_name="a.jpg", page="x").pixels()


def test_records_copy_what_is_not_written():
    record = Record(file_name="/data/set/images/a.jpg")
    record.data, record.root, record.dataset = b"x", "/data/set", {"categories": []}
    other = record.changed(id=1, file_name="/data/set/b.jpg")
    assert (other.data, other.root, other.dataset) == (b"x", "/data/set", {"categories": []})
    assert other.name_in_root() == "b.jpg"
    assert record.changed(file_name="/elsewhere/b.jpg").name_in_root() == "/elsewhere/b.jpg"
    failed = record.with_error(InputError("cannot\nread", where="a.jpg"))
    assert failed.failed
    assert failed["error"] == "cannot read"
