"""Every data set format: what goes out comes back, as far as the format can hold it, and what it cannot hold is said."""

import collections
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cvtool.data import formats
from cvtool.data.formats import _polygons, coco, voc, yolo
from cvtool.errors import InputError, UsageError
from cvtool.records import Record, categories_of

NUMBER = st.floats(-500, 4000, allow_nan=False).map(lambda v: round(v, 3))
SIDE = st.floats(0.001, 4000).map(lambda v: round(v, 3))


def loaded(data, name="instances_tiny_val"):
    return list(coco.read(data / "coco_sample/annotations" / f"{name}.json"))


def out_of(folder, name):
    return folder / (f"out{formats.get(name).SUFFIX or ''}")


def through(records, name, folder, **options):
    """(what comes back, notes) of a write and a read."""
    out = out_of(folder, name)
    notes = formats.get(name).write(iter(records), out, relative=True)
    assert formats.recognise(out) == {"yolo-seg": "yolo", "yolo-pose": "yolo"}.get(name, name)
    return list(formats.get(name).read(out, **options)), notes


def plain(record, *without):
    """A record without what stands for its place on this disk and for who wrote it."""
    kept = {key: value for key, value in record.items() if key not in ("made_by", "split", *without)}
    return kept | {"file_name": os.path.basename(record["file_name"])}


def by_name(records):
    return {os.path.basename(record["file_name"]): record for record in records}


# --- the real thing --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["instances_tiny_val", "person_keypoints_tiny_val", "instances_coco64", "captions_tiny_val"])
def test_coco_through_coco_is_the_same(data, tmp_path, name):
    source = json.loads((data / f"coco_sample/annotations/{name}.json").read_text())
    records = loaded(data, name)
    out = tmp_path / "out.json"
    assert coco.write(records, out, relative=True) == []
    back = json.loads(out.read_text())
    assert back["images"] == [{"id": i["id"], "file_name": i["file_name"], **i} for i in source["images"]]
    order = {image["id"]: i for i, image in enumerate(source["images"])}
    assert back["annotations"] == sorted(source["annotations"], key=lambda a: order[a["image_id"]])
    assert back["categories"] == source.get("categories", [])
    assert back["licenses"] == source["licenses"]
    assert back["info"] == source["info"] | {"image_ids": "source", "cvtool": back["info"]["cvtool"]}


def test_coco_through_json_lines_is_the_same(data, tmp_path):
    records = loaded(data)
    back, _ = through(records, "jsonl", tmp_path)
    assert [dict(r) | {"made_by": 0} for r in back] == [dict(r) | {"made_by": 0} for r in records]
    assert categories_of(back) == records[0].dataset["categories"]
    again, _ = through(back, "coco", tmp_path, images=data / "coco_sample/tiny_val")
    assert [plain(r) for r in again] == [plain(r) for r in records]
    assert "made_by" not in (tmp_path / "out.json").read_text()


def test_coco_through_csv_keeps_boxes_ids_and_empty_images(data, tmp_path):
    records = loaded(data)
    back, notes = through(records, "csv", tmp_path, images=data / "coco_sample/tiny_val")
    assert notes == [
        "CSV names categories beside objects only: 32 categories without an object left out",
        "CSV holds boxes only: 382 masks left out",
    ]
    keys = ("bbox", "category_id", "category", "iscrowd")
    for got, want in zip(back, records, strict=True):
        assert [got[key] for key in ("id", "file_name", "width", "height")] == [want[key] for key in ("id", "file_name", "width", "height")]
        assert [[a[key] for key in keys] for a in got["annotations"]] == [[a[key] for key in keys] for a in want["annotations"]]
    assert sum(not record["annotations"] for record in back) == 2


def test_coco_through_voc_keeps_boxes_and_names(data, tmp_path):
    records = loaded(data)
    back, notes = through(records, "voc", tmp_path)
    found = by_name(back)
    assert len(found) == 50
    for want in records:
        got = found[os.path.basename(want["file_name"])]
        assert (got["width"], got["height"]) == (want["width"], want["height"])
        assert [a["category"] for a in got["annotations"]] == [a["category"] for a in want["annotations"]]
        assert [a["difficult"] for a in got["annotations"]] == [a["iscrowd"] for a in want["annotations"]]
        np.testing.assert_allclose([a["bbox"] for a in got["annotations"]], [a["bbox"] for a in want["annotations"]], atol=1e-6)
        assert got.pixels().shape == (want["height"], want["width"], 3)
    assert [category["name"] for category in voc.categories(tmp_path / "out")] == [c["name"] for c in records[0].dataset["categories"]]
    assert any("5 crowd regions" in note for note in notes)
    assert any("382 masks left out" in note for note in notes)
    assert any("category ids" in note for note in notes)
    again, _ = through(back, "voc", tmp_path / "again")
    assert [plain(r) for r in again] == [plain(r) for r in back]


def test_coco_through_yolo_keeps_boxes_and_names(data, tmp_path):
    records = loaded(data)
    back, notes = through(records, "yolo", tmp_path)
    found = by_name(back)
    for want in records:
        got = found[os.path.basename(want["file_name"])]
        kept = [a for a in want["annotations"] if not a["iscrowd"]]
        assert [a["category"] for a in got["annotations"]] == [a["category"] for a in kept]
        if kept:
            np.testing.assert_allclose([a["bbox"] for a in got["annotations"]], [a["bbox"] for a in kept], atol=2e-4)
    assert [c["id"] for c in yolo.categories(tmp_path / "out")] == list(range(80))
    assert {"YOLO knows no crowds: 5 crowd regions left out", "377 masks left out (--to yolo-seg keeps them)"} <= set(notes)
    again, _ = through(back, "yolo", tmp_path / "again")
    assert [plain(r) for r in again] == [plain(r) for r in back]


def test_coco_through_yolo_seg_keeps_the_masks(data, tmp_path):
    records = loaded(data)
    back, notes = through(records, "yolo-seg", tmp_path)
    found, same = by_name(back), 0
    for want in records:
        kept = [a for a in want["annotations"] if not a["iscrowd"]]
        width, height = want.size()
        for got, a in zip(found[os.path.basename(want["file_name"])]["annotations"], kept, strict=True):
            if len(a["segmentation"]) == 1:
                np.testing.assert_allclose(got["segmentation"][0], a["segmentation"][0], atol=2e-4)
                same += 1
            else:
                ours, theirs = (_polygons.mask(entry["segmentation"], width, height).astype(bool) for entry in (got, a))
                assert (ours ^ theirs).sum() <= 0.02 * theirs.sum() + 4 * len(a["segmentation"])
    assert same == 355
    assert any("the parts of 22 objects joined" in note for note in notes)


def test_coco_keypoints_through_yolo_pose(data, tmp_path):
    records = loaded(data, "person_keypoints_tiny_val")
    back, _ = through(records, "yolo-pose", tmp_path)
    found = by_name(back)
    for want in records:
        kept = [a for a in want["annotations"] if not a["iscrowd"]]
        for got, a in zip(found[os.path.basename(want["file_name"])]["annotations"], kept, strict=True):
            np.testing.assert_allclose(got["keypoints"], a["keypoints"], atol=2e-4)
            assert got["num_keypoints"] == a["num_keypoints"]


def test_coco_results_hold_detections_only(data, tmp_path):
    truth = data / "coco_sample/annotations/instances_tiny_val.json"
    source = data / "coco_sample/reference/fastestdet_tiny_val_dets.json"
    module = formats.get("coco-results")
    records = list(module.read(source, images=truth))
    assert len(records) == 50
    assert records[0]["annotations"][0]["category"] == "person"
    out = tmp_path / "out.json"
    notes = module.write(records, out)
    assert any("file names" in note for note in notes)
    listed, want = json.loads(out.read_text()), json.loads(source.read_text())
    kept = ("image_id", "category_id", "bbox", "score")
    assert sorted([a[k] for k in kept] for a in listed) == sorted([a[k] for k in kept] for a in want)
    from pycocotools.coco import COCO

    assert len(COCO(str(truth)).loadRes(str(out)).anns) == len(want)


def test_coco_masks_through_results_are_the_same_masks(data, tmp_path):
    records = loaded(data)
    formats.get("coco-results").write(records, tmp_path / "out.json")
    from pycocotools import mask as tools
    from pycocotools.coco import COCO

    truth = COCO(str(data / "coco_sample/annotations/instances_tiny_val.json"))
    listed = json.loads((tmp_path / "out.json").read_text())
    want = [a for record in records for a in truth.loadAnns([a["id"] for a in record["annotations"]])]
    for got, a in zip(listed, want, strict=True):
        np.testing.assert_array_equal(tools.decode(got["segmentation"]), truth.annToMask(a))


def test_coco_through_masks(data, tmp_path):
    records = loaded(data)
    back, notes = through(records, "masks", tmp_path)
    from cvtool import images

    want = next(r for r in records if len(r["annotations"]) == 1)
    got = by_name(back)[os.path.basename(want["file_name"])]
    a = want["annotations"][0]
    values = images.labels(got["segmentation_map"])
    np.testing.assert_array_equal(values, _polygons.mask(a["segmentation"], *want.size()) * a["category_id"])
    assert [(c["id"], c["name"]) for c in back[0].dataset["categories"]] == [(c["id"], c["name"]) for c in records[0].dataset["categories"]]
    assert any("merged" in note for note in notes)
    formats.get("png").write(records, tmp_path / "maps")
    assert len(list((tmp_path / "maps").glob("*.png"))) == 50
    maps = {os.path.basename(r["file_name"]): r for r in formats.get("png").read(tmp_path / "maps", images=data / "coco_sample/tiny_val")}
    np.testing.assert_array_equal(images.labels(maps[os.path.basename(want["file_name"])]["segmentation_map"]), values)


def test_bccd_is_read_whole(data):
    path = data / "bccd"
    assert formats.recognise(path) == "voc"
    records = list(voc.read(path))
    assert len(records) == 364
    assert collections.Counter(a["category"] for r in records for a in r["annotations"]) == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert collections.Counter(r["split"] for r in records) == {"train": 205, "val": 87, "test": 72}
    assert {name: sum(1 for _ in voc.read(path, split=name)) for name in voc.splits(path)} == {"train": 205, "val": 87, "trainval": 292, "test": 72}
    assert all(os.path.isfile(r["file_name"]) for r in records)


def test_bccd_through_coco_and_yolo_and_back(data, tmp_path):
    records = list(voc.read(data / "bccd"))
    first, _ = through(records, "coco", tmp_path, images=data / "bccd")
    second, _ = through(first, "yolo", tmp_path)
    third, _ = through(second, "voc", tmp_path / "v")
    want, got = by_name(records), by_name(third)
    assert want.keys() == got.keys()
    for name, record in want.items():
        assert got[name]["split"] == record["split"]
        assert [a["category"] for a in got[name]["annotations"]] == [a["category"] for a in record["annotations"]]
        np.testing.assert_allclose([a["bbox"] for a in got[name]["annotations"]], [a["bbox"] for a in record["annotations"]], atol=2e-4)
    assert sorted(voc.splits(tmp_path / "v/out")) == sorted(voc.splits(data / "bccd"))


def test_camvid(data, tmp_path):
    from cvtool import images

    path = data / "camvid"
    assert formats.recognise(path) == "masks"
    module = formats.get("masks")
    assert module.splits(path) == ["train", "val", "test"]
    assert [sum(1 for _ in module.read(path, split=s)) for s in ("train", "val", "test")] == [367, 101, 233]
    assert [(c["id"], c["name"]) for c in module.categories(path)][:2] == [(0, "sky"), (1, "building")]
    assert len(module.categories(path)) == 11
    record = next(module.read(path, split="val"))
    assert record["file_name"].endswith("val/0016E5_07959.jpg")
    coco.write([record], tmp_path / "x.json", relative=True)
    (image,) = json.loads((tmp_path / "x.json").read_text())["images"]
    assert image["segmentation_map"] == "valannot/0016E5_07959.png"
    assert next(coco.read(tmp_path / "x.json", images=path))["segmentation_map"] == record["segmentation_map"]
    assert images.labels(record["segmentation_map"]).shape == (360, 480)


def test_orl_faces_are_class_folders(data, tmp_path):
    path = data / "faces_orl"
    assert formats.recognise(path) == "folder"
    records = list(formats.get("folder").read(path))
    assert len(records) == 400
    assert records[0]["labels"] == [{"category_id": 1, "category": "s1"}]
    back, _ = through(records, "folder", tmp_path)
    count = collections.Counter(r["labels"][0]["category"] for r in back)
    assert len(count) == 40
    assert set(count.values()) == {10}
    (tmp_path / "csv").mkdir()
    again, _ = through(records, "csv", tmp_path / "csv", images=path)
    assert [(r["file_name"], r["labels"]) for r in again] == [(r["file_name"], r["labels"]) for r in records]


# --- numbers ---------------------------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 5000), st.integers(0, 5000))
def test_voc_corners_are_one_based_and_inclusive(xmin, ymin, w, h):
    x, y, width, height = voc.from_corners(xmin, ymin, xmin + w, ymin + h)
    assert (x, y, width, height) == (xmin - 1, ymin - 1, w + 1, h + 1)
    assert voc.to_corners([x, y, width, height]) == [xmin, ymin, xmin + w, ymin + h]


@settings(deadline=None)
@given(NUMBER, NUMBER, SIDE, SIDE)
def test_voc_holds_fractions(x, y, w, h):
    assert voc.from_corners(*voc.to_corners([x, y, w, h])) == pytest.approx([x, y, w, h], abs=2e-6)


@settings(deadline=None)
@given(NUMBER, NUMBER, SIDE, SIDE, st.integers(1, 8000), st.integers(1, 8000))
def test_yolo_fractions_hold_a_thousandth_of_a_pixel(x, y, w, h, width, height):
    from cvtool.data.formats import _yolo_write

    line = _yolo_write._line({"bbox": [x, y, w, h], "category_id": 5}, {5: 0}, width, height, "detect", 0, collections.Counter())
    got = yolo._object(line.encode().split(), ["a"], None, width, height, "here")
    assert got["bbox"] == pytest.approx([x, y, w, h], abs=1e-3)


@settings(deadline=None)
@given(st.lists(st.tuples(NUMBER, NUMBER), min_size=3, max_size=9), st.integers(1, 4000), st.integers(1, 4000))
def test_yolo_polygons(points, width, height):
    from cvtool.data.formats import _yolo_write

    ring = [v for point in points for v in point]
    line = _yolo_write._line({"segmentation": [ring], "category_id": 1}, {1: 0}, width, height, "segment", 0, collections.Counter())
    got = yolo._object(line.encode().split(), ["a"], None, width, height, "here")
    assert got["segmentation"][0] == pytest.approx(ring, abs=1e-3)
    assert got["area"] == pytest.approx(_polygons.area(ring), rel=1e-3, abs=10)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_traced_outlines_enclose_the_mask(seed):
    from scipy.ndimage import binary_fill_holes

    mask = np.random.default_rng(seed).random((8, 9)) < 0.6
    rings = _polygons.outlines(mask)
    assert sum(map(_polygons.area, rings)) == binary_fill_holes(mask).sum()
    if len(rings) > 1:
        assert _polygons.area(_polygons.joined(rings)) == pytest.approx(sum(map(_polygons.area, rings)))


@settings(deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "bbox": st.tuples(NUMBER, NUMBER, SIDE, SIDE).map(list),
                "category_id": st.integers(1, 3),
                "score": st.floats(0, 1),
                "note": st.text(max_size=3),
            }
        ),
        max_size=4,
    ),
    st.one_of(st.none(), st.integers(1, 9)),
)
def test_coco_holds_every_number_and_key(tmp_path_factory, annotations, key):
    record = Record(file_name="a.jpg", width=5, height=4, annotations=annotations, extra=[1, {"b": None}])
    if key is not None:
        record["id"] = key
    out = tmp_path_factory.mktemp("x") / "a.json"
    coco.write([record], out)
    (back,) = coco.read(out)
    assert back["id"] == (1 if key is None else key)
    assert back["extra"] == record["extra"]
    kept = [{k: v for k, v in a.items() if k not in ("id", "category")} for a in back["annotations"]]
    assert kept == annotations
    assert [a["id"] for a in back["annotations"]] == list(range(1, len(annotations) + 1))


# --- COCO ids --------------------------------------------------------------------------------------------------------------------------------


def written(tmp_path, *records):
    notes = coco.write([Record(width=1, height=1, annotations=[], **r) for r in records], tmp_path / "x.json")
    return json.loads((tmp_path / "x.json").read_text()), notes


def test_ids_of_the_source_stay(tmp_path):
    found, notes = written(tmp_path, {"file_name": "a", "id": 70}, {"file_name": "b", "id": 3})
    assert [image["id"] for image in found["images"]] == [70, 3]
    assert found["info"]["image_ids"] == "source"
    assert notes == []


def test_images_without_ids_are_numbered_from_1(tmp_path):
    found, notes = written(tmp_path, {"file_name": "a"}, {"file_name": "b"})
    assert [image["id"] for image in found["images"]] == [1, 2]
    assert found["info"]["image_ids"] == "collected"
    assert notes == []
    again = list(coco.read(tmp_path / "x.json"))
    assert [record["id"] for record in again] == [1, 2]  # whoever reads the file means these numbers
    coco.write(again, tmp_path / "y.json")
    assert json.loads((tmp_path / "y.json").read_text())["info"]["image_ids"] == "collected"  # but they never become a data set's own
    assert any("only that file" in note for note in formats.get("coco-results").write(again, tmp_path / "z.json"))


@pytest.mark.parametrize(
    ("ids", "want", "words"),
    [([7, None, 5, None], [7, 8, 5, 9], "2 images had no id"), ([4, 4], [1, 2], "not unique"), (["a", "b"], [1, 2], "not all integers")],
)
def test_ids_that_cannot_stay(tmp_path, ids, want, words):
    found, notes = written(tmp_path, *({"file_name": f"{i}.jpg"} | ({"id": key} if key is not None else {}) for i, key in enumerate(ids)))
    assert [image["id"] for image in found["images"]] == want
    assert found["info"]["image_ids"] == "collected"
    assert words in notes[0]


def test_annotation_ids_0_and_duplicates_are_renumbered(tmp_path):
    boxes = [{"id": key, "bbox": [0, 0, 1, 1], "category_id": 1} for key in (0, 5)]
    notes = coco.write([Record(file_name="a.jpg", width=1, height=1, annotations=boxes)], tmp_path / "x.json")
    assert [a["id"] for a in json.loads((tmp_path / "x.json").read_text())["annotations"]] == [1, 2]
    assert "renumbered" in notes[0]


def test_models_stand_once_in_info(tmp_path):
    maker = {"verb": "detect", "model": "m", "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}
    records = [Record(file_name=f"{i}.jpg", width=1, height=1, annotations=[], made_by=[dict(maker)]) for i in range(3)]
    coco.write(records, tmp_path / "x.json")
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["info"]["made_by"] == [{"verb": "detect", "model": "m"}]
    assert [c["name"] for c in found["categories"]] == ["a", "b"]
    assert all("made_by" not in image for image in found["images"])
    assert next(coco.read(tmp_path / "x.json"))["made_by"] == [maker]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def records():
        yield Record(file_name="a.jpg", width=1, height=1)
        raise RuntimeError("stop")

    for name in ("coco", "csv", "jsonl", "coco-results"):
        with pytest.raises(RuntimeError):
            formats.get(name).write(records(), tmp_path / "x.out")
        assert list(tmp_path.iterdir()) == []


# --- shapes that other programs write --------------------------------------------------------------------------------------------------------


def picture(path, size=(20, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def test_yolo_as_others_write_it(tmp_path):
    for part in ("train", "valid"):
        picture(tmp_path / part / "images" / "a.jpg")
        (tmp_path / part / "labels").mkdir()
    (tmp_path / "train/labels/a.txt").write_text("\ufeff1 0.5 0.5 0.2 0.4\r\n\n0 0.1 0.1 0.2 0.2 0.75\n")
    (tmp_path / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n")  # Roboflow's way
    assert formats.recognise(tmp_path) == "yolo"
    assert formats.recognise(tmp_path / "data.yaml") == "yolo"
    assert yolo.splits(tmp_path) == ["train", "val"]
    (record,) = yolo.read(tmp_path, split="train")
    assert [(a["category"], a["bbox"]) for a in record["annotations"]] == [("dog", [8, 3, 4, 4]), ("cat", [0, 0, 4, 2])]
    assert record["annotations"][1]["score"] == 0.75
    (other,) = yolo.read(tmp_path, split="val")
    assert other["annotations"] == []


def test_yolo_lists_tables_of_names_and_a_declared_path(tmp_path):
    picture(tmp_path / "set/images/train/a.jpg")
    picture(tmp_path / "set/images/train/b.jpg")
    (tmp_path / "set/labels/train").mkdir(parents=True)
    (tmp_path / "set/labels/train/b.txt").write_text("2 0.5 0.5 1 1\n")
    (tmp_path / "set/train.txt").write_text("./images/train/b.jpg\n./images/train/a.jpg\n")
    (tmp_path / "c.yaml").write_text("path: set\ntrain: train.txt\nval:\ntest:\nnames:\n  0: a\n  2: c\n")
    assert yolo.splits(tmp_path / "c.yaml") == ["train"]
    assert [c["name"] for c in yolo.categories(tmp_path / "c.yaml")] == ["a", "class1", "c"]
    found = list(yolo.read(tmp_path / "c.yaml"))
    assert [os.path.basename(r["file_name"]) for r in found] == ["b.jpg", "a.jpg"]
    assert found[0]["annotations"][0]["bbox"] == [0, 0, 20, 10]


def test_yolo_without_data_yaml(tmp_path):
    picture(tmp_path / "images/a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("3 .5 .5 .5 .5\n")
    assert formats.recognise(tmp_path) == "yolo"
    (record,) = yolo.read(tmp_path)
    assert record["annotations"][0]["category"] == "class3"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("7 .5 .5 .1 .1", "class 7"),
        ("0 .5 .5", "3 numbers"),
        ("0 a b c d", "not numbers"),
        ("0 nan .5 .1 .1", "not finite"),
        ("0.5 .5 .5 .1 .1", "class 0.5"),
    ],
)
def test_a_malformed_label_names_file_and_line(tmp_path, line, words):
    picture(tmp_path / "images/a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "data.yaml").write_text("train: images\nnames: [x]\n")
    (tmp_path / "labels/a.txt").write_text("0 .5 .5 .1 .1\n" + line + "\n")
    with pytest.raises(InputError) as caught:
        list(yolo.read(tmp_path))
    assert words in str(caught.value)
    assert "a.txt, line 2" in str(caught.value)


@pytest.mark.parametrize("entry", ["/etc", "../../etc", "train.txt"])
def test_yolo_names_may_not_leave_the_root(tmp_path, entry):
    root = tmp_path / "set"
    root.mkdir()
    (root / "train.txt").write_text("../../etc/passwd.jpg\n")
    (root / "data.yaml").write_text(f"train: {entry}\nnames: [x]\n")
    with pytest.raises(InputError, match="leads out of the data root"):
        list(yolo.read(root))
    (root / "train.txt").write_text("secret\n")
    (root / "data.yaml").write_text("train: train.txt\nnames: [x]\n")
    with pytest.raises(InputError, match="no picture's name"):
        list(yolo.read(root))


def test_yaml_bombs_are_refused(tmp_path):
    (tmp_path / "data.yaml").write_text("a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\n")
    with pytest.raises(InputError, match="aliases"):
        yolo.categories(tmp_path / "data.yaml")


XML = """<annotation><filename>{name}</filename><size><width>20</width><height>10</height><depth>3</depth></size>
<object><name>cat</name><pose>Left</pose><truncated>1</truncated><difficult>1</difficult><occluded>0</occluded>
<bndbox><xmin>{xmin}</xmin><ymin>1</ymin><xmax>20</xmax><ymax>10</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object></annotation>"""


def xml(folder, text):
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    (folder / "Annotations" / "a.xml").write_text(text, encoding="utf-16" if "utf-16" in text else "utf-8")
    return folder


def test_voc_goes_by_the_stem_not_by_filename(tmp_path):
    picture(tmp_path / "JPEGImages/a.png")
    (record,) = voc.read(xml(tmp_path, XML.format(name="../../etc/passwd", xmin=1)))
    assert record["file_name"].endswith("JPEGImages/a.png")
    (a,) = record["annotations"]
    assert a["bbox"] == [0, 0, 20, 10]
    assert (a["pose"], a["truncated"], a["difficult"], a["occluded"], a["category_id"]) == ("Left", 1, 1, 0, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (XML.format(name="../../etc/passwd", xmin=1), "leads out of the data root"),
        (XML.format(name="a.jpg", xmin="nan"), "not a finite number"),
        (XML.format(name="a.jpg", xmin="left"), "no number"),
        (XML.format(name="a.jpg", xmin=""), "missing"),
        ("<annotation><object><name>x</name></object></annotation>", "bndbox"),
        ("<annotation><object></object></annotation>", "<name>"),
        ("<annotation>", "not valid XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "document type"),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "document type"),
        ("<html><annotation/></html>", "not a VOC annotation"),
    ],
)
def test_malformed_voc_names_the_file(tmp_path, text, words):
    with pytest.raises(InputError) as caught:
        list(voc.read(xml(tmp_path, text)))
    assert words in str(caught.value)
    assert "a.xml" in str(caught.value)


def test_voc_lists_may_not_leave_the_root(tmp_path):
    xml(tmp_path, XML.format(name="a.jpg", xmin=1))
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("../../etc/passwd\n")
    with pytest.raises(InputError, match="leads out"):
        list(voc.read(tmp_path, split="train"))


def test_csv_as_tensorflow_writes_it(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,20,10,dog,1,2,5,9\nb.jpg,20,10,cat,0,0,1,1\na.jpg,20,10,cat,3,3,4,4\n")
    assert formats.recognise(path) == "csv"
    first, second = formats.get("csv").read(path)
    assert (first["width"], first["height"]) == (20, 10)
    assert [(a["category"], a["category_id"], a["bbox"]) for a in first["annotations"]] == [("dog", 2, [1, 2, 4, 7]), ("cat", 1, [3, 3, 1, 1])]
    assert second["file_name"] == str(tmp_path / "b.jpg")


@pytest.mark.parametrize(
    ("row", "words"), [("a.jpg,x,1,1,1,c", "x is no number"), ("a.jpg,nan,1,1,1,c", "not a finite"), (",1,1,1,1,c", "without a file name")]
)
def test_malformed_csv_names_the_line(tmp_path, row, words):
    (tmp_path / "a.csv").write_text("file_name,x,y,width,height,category\nb.jpg,1,1,1,1,c\n" + row + "\n")
    with pytest.raises(InputError) as caught:
        list(formats.get("csv").read(tmp_path / "a.csv"))
    assert words in str(caught.value)
    assert "a.csv, line 3" in str(caught.value)


@pytest.mark.parametrize("layout", [("images", "masks"), ("images/train", "masks/train"), ("train/images", "train/masks"), ("train", "trainannot")])
def test_layouts_of_pictures_and_masks(tmp_path, layout):
    picture(tmp_path / layout[0] / "a.jpg")
    picture(tmp_path / layout[0] / "unlabelled.jpg")
    path = tmp_path / layout[1] / "a_mask.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.array([[0, 3], [255, 3]], np.uint8)).save(path)
    assert formats.recognise(tmp_path) == "masks"
    (record,) = formats.get("masks").read(tmp_path)
    assert record["segmentation_map"] == str(path)
    assert record.get("split") == ("train" if "train" in "".join(layout) else None)
    assert [c["id"] for c in formats.get("masks").categories(tmp_path)] == [0, 3]


def test_class_folders_with_splits(tmp_path):
    for name in ("train/cat/1.jpg", "train/dog/deep/2.jpg", "val/cat/3.jpg", "val/dog/4.jpg"):
        picture(tmp_path / name)
    assert formats.recognise(tmp_path) == "folder"
    module = formats.get("folder")
    assert module.splits(tmp_path) == ["train", "val"]
    assert [r["labels"][0]["category"] for r in module.read(tmp_path, split="train")] == ["cat", "dog"]
    with pytest.raises(InputError, match="its splits: train, val"):
        list(module.read(tmp_path, split="test"))


# --- recognition -----------------------------------------------------------------------------------------------------------------------------


def test_two_that_fit_name_the_option(tmp_path):
    xml(tmp_path, XML.format(name="a.jpg", xmin=1))
    picture(tmp_path / "images/a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 .5 .5 .1 .1\n")
    with pytest.raises(UsageError, match=r"yolo and voc.*\n.*--data-format"):
        formats.recognise(tmp_path)


def test_none_that_fits(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        formats.recognise(tmp_path / "none")
    (tmp_path / "x.bin").write_bytes(b"?")
    with pytest.raises(InputError, match="known: coco"):
        formats.recognise(tmp_path / "x.bin")
    (tmp_path / "val.json").write_text("{}")
    with pytest.raises(InputError, match=r"name the annotation file, such as .*val\.json"):
        formats.recognise(tmp_path)


def test_names_and_unknown_names():
    assert {"coco", "coco-results", "csv", "folder", "jsonl", "masks", "voc", "yolo", "yolo-pose", "yolo-seg"} <= set(formats.names())
    for name in formats.names():
        module = formats.get(name)
        assert module.DESCRIPTION
        assert "\n" not in module.DESCRIPTION
        assert all(callable(getattr(module, key)) for key in ("recognises", "splits", "categories", "read", "write"))
    with pytest.raises(UsageError, match="did you mean yolo"):
        formats.get("yollo")


def test_equal_base_names_are_told_apart(tmp_path):
    records = [Record(file_name=str(picture(tmp_path / f"{part}/1.jpg", (i, 5))), annotations=[]) for i, part in enumerate("ab", 6)]
    for name in ("voc", "yolo"):
        back, notes = through(records, name, tmp_path / name)
        assert sorted(os.path.basename(r["file_name"]) for r in back) == ["1.jpg", "b_1.jpg"]
        assert sorted(r.pixels().shape[1] for r in back) == [6, 7]
        assert any("renamed" in note for note in notes)


@pytest.mark.parametrize("copy", [True, False])
def test_links_and_copies(tmp_path, copy):
    record = Record(file_name=str(picture(tmp_path / "a.jpg")), annotations=[])
    for name in ("voc", "yolo", "masks"):
        formats.get(name).write([record], tmp_path / name, copy_images=copy)
        (placed,) = (tmp_path / name).rglob("a.jpg")
        assert placed.is_symlink() != copy
        assert placed.read_bytes() == (tmp_path / "a.jpg").read_bytes()
