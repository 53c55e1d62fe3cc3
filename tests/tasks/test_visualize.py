"""Records drawn one at a time, and what becomes of them."""

import numpy as np
import pytest
from PIL import Image

from cvtool.annotations import rle
from cvtool.errors import UsageError
from cvtool.records import Record, made_by
from cvtool.render import palette
from cvtool.render.grid import ContactSheet
from cvtool.tasks.visualize import Drawing, Truth, visualize

TABLE = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


@pytest.fixture
def record(tmp_path):
    Image.new("RGB", (400, 300), (90, 90, 90)).save(tmp_path / "a.png")
    found = [
        {"bbox": [20, 60, 100, 100], "category_id": 1, "category": "cat", "score": 0.9},
        {"bbox": [200, 60, 100, 100], "category_id": 2, "category": "dog", "score": 0.4},
    ]
    made = [made_by("detect", "some-model", categories=TABLE)]
    return Record(file_name=str(tmp_path / "a.png"), width=400, height=300, annotations=found, made_by=made)


def one(record, **options):
    (drawing,) = visualize([record], **options)
    return drawing


def has(drawing, name):
    return bool((np.asarray(drawing.image) == palette.colour(name)).all(axis=2).any())


def test_what_is_drawn_can_be_chosen(record):
    assert has(one(record), "cat")
    assert has(one(record), "dog")
    for options in ({"classes": ["Cat"]}, {"classes": ["1"]}, {"conf": 0.5}, {"max_det": 1}):
        drawing = one(record, **options)
        assert has(drawing, "cat")
        assert not has(drawing, "dog")
        assert drawing.objects == 1
        assert len(drawing.record["annotations"]) == 2


def test_faint_objects_are_drawn_only_where_conf_says_so(record):
    record["annotations"][1]["score"] = 0.1
    said = []
    drawing = one(record, report=said.append)
    assert drawing.objects == 1
    assert not has(drawing, "dog")
    assert said == ["1 object scored under 0.25 not drawn; --conf 0 draws everything"]
    assert has(one(record, conf=0.0), "dog")


def test_an_unknown_class_is_a_usage_error_with_a_suggestion(record):
    with pytest.raises(UsageError, match="did you mean cat"):
        one(record, classes=["cas"])


def test_ground_truth_without_scores_passes_conf(record):
    for annotation in record["annotations"]:
        del annotation["score"]
    assert one(record, conf=0.5).objects == 2


def test_bad_records_go_on_and_the_rest_are_drawn(record, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    damaged = record.with_annotations([{"category": "cat", "segmentation": {"size": [9, 9], "counts": [81]}}])
    records = [Record(file_name="x", error="gone before"), Record(file_name=str(tmp_path / "broken.png")), damaged, record]
    drawings = list(visualize(records))
    assert [drawing.record.failed for drawing in drawings] == [True, True, True, False]
    assert [drawing.image is None for drawing in drawings] == [True, True, True, False]
    assert drawings[0].record["error"] == "gone before"
    assert "9 x 9" in drawings[2].record["error"]


def test_the_new_picture_has_a_record_of_its_own(record):
    drawing = one(record)
    new = drawing.saved_as("seen/a.png")
    assert new["file_name"] == "seen/a.png"
    assert new["source"] == record["file_name"]
    assert new["annotations"] == record["annotations"]
    assert (new["width"], new["height"]) == (400, 300)
    assert record["file_name"] != "seen/a.png"


def test_annotations_move_with_a_picture_that_is_enlarged(record):
    mask = np.zeros((300, 400), bool)
    mask[60:160, 20:120] = True
    record["annotations"][0] |= {"segmentation": rle(mask)[0], "area": 10000, "keypoints": [30, 70, 2]}
    record["annotations"][1] |= {"segmentation": [[200.5, 60, 300, 60, 250, 160]]}
    drawing = one(record, scale=2.0)
    assert drawing.image.size == (800, 600)
    new = drawing.saved_as("b.png")
    first, second = new["annotations"]
    assert first["bbox"] == [40, 120, 200, 200]
    assert first["keypoints"] == [60, 140, 2]
    assert first["area"] == pytest.approx(40000)
    assert first["segmentation"]["size"] == [600, 800]
    assert second["segmentation"] == [[401, 120, 600, 120, 500, 320]]
    again = Drawing(new, drawing.image, 1.0, (800, 600)).saved_as("c.png")
    assert again["annotations"] == new["annotations"]


def test_small_pictures_are_enlarged_unless_told_otherwise(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "s.png")
    record = Record(file_name=str(tmp_path / "s.png"), annotations=[])
    assert one(record).image.size == (416, 416)
    assert one(record, scale=1.0).image.size == (32, 32)


def test_a_label_map_is_drawn_with_its_classes(tmp_path):
    Image.new("RGB", (400, 300), (90, 90, 90)).save(tmp_path / "a.png")
    values = np.zeros((300, 400), np.uint8)
    values[:, 200:] = 1
    values[:20] = 255
    Image.fromarray(values).save(tmp_path / "map.png")
    record = Record(file_name=str(tmp_path / "a.png"), segmentation_map=str(tmp_path / "map.png"))
    record.dataset = {"categories": [{"id": 0, "name": "road"}, {"id": 1, "name": "sky"}]}
    out = np.asarray(one(record, names=False).image).astype(int)
    assert (np.abs(out[250, 50] - (90 + np.array(palette.colour("road"))) / 2) <= 1).all()
    assert (np.abs(out[250, 350] - (90 + np.array(palette.colour("sky"))) / 2) <= 1).all()
    assert (out[5, 50] == 90).all()


def test_a_semantic_result_with_one_class_is_a_map_too(record):
    mask = np.zeros((300, 400), bool)
    mask[60:160, 20:120] = True
    record["annotations"] = [
        {"category_id": 1, "category": "cat", "segmentation": rle(mask)[0], "bbox": [20, 60, 100, 100], "area": 10000, "iscrowd": 0}
    ]
    record["made_by"] = [made_by("segment", "some-model", categories=TABLE)]
    assert one(record).image.height > 300  # the legend


def test_the_truth_stands_beside(record, tmp_path):
    truth = record.with_annotations([{"bbox": [150, 200, 80, 80], "category_id": 1, "category": "cat"}])
    drawing = one(record, truth=Truth([truth]))
    assert drawing.image.width > 800
    left, right = np.asarray(drawing.image)[:300, :400], np.asarray(drawing.image)[:300, -400:]
    assert (left[60, 70] == palette.colour("cat")).all()
    assert (right[200, 190] == palette.colour("cat")).all()
    assert (left[240, 190] == 90).all()
    said = []
    list(visualize([record], truth=Truth([]), report=said.append))
    assert "no ground truth for 1 of 1" in said[0]


def test_truth_is_found_by_id_then_by_name_then_by_stem():
    truth = Truth([Record(id=1, file_name="x/a.jpg"), Record(id=2, file_name="y/b.jpg"), Record(id=3, file_name="z/b.jpg"), Record(id=9)])
    assert truth.find(Record(id=1, file_name="else/a.jpg"))["id"] == 1
    assert truth.find(Record(id=9, file_name="c.jpg"))["id"] == 9
    assert truth.find(Record(id=1, file_name="z/b.jpg"))["id"] == 3  # the id is another data set's
    assert truth.find(Record(file_name="new/a.png"))["id"] == 1
    assert truth.find(Record(file_name="b.png")) is None  # two could be meant
    assert truth.find(Record(file_name="q.png")) is None


def test_the_sheet_gets_a_cell_for_each(record):
    sheet = ContactSheet()
    drawings = list(visualize([record, record], sheet=sheet, pictures=False))
    assert [drawing.image for drawing in drawings] == [None, None]
    assert sheet.count == 2
    assert (np.asarray(sheet.image()) == palette.colour("cat")).all(axis=2).any()


def test_nothing_to_draw_is_said_once(record, tmp_path):
    said = []
    bare = Record(file_name=record["file_name"])
    list(visualize([bare, bare, record], report=said.append))
    assert len(said) == 1
    assert "2 of 3" in said[0]
    said.clear()
    list(visualize([Record(file_name=record["file_name"], annotations=[])], report=said.append))
    assert not said
