"""`cvtool data`: real subprocesses, exit codes, what goes to stdout and what to stderr."""

import json
import os

import pytest
from PIL import Image

from cvtool.data.check import check
from cvtool.errors import InputError, UsageError
from cvtool.tasks import data as task


def coco_file(path, **changes):
    base = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 2, 10, 10], "area": 100, "iscrowd": 0}],
        "categories": [{"id": 2, "name": "dog"}],
    }
    path.write_text(json.dumps(base | changes))
    return path


def checks(path, **options):
    return {finding["check"]: finding for finding in check([path], **options)}


# --- check -----------------------------------------------------------------------------------------------------------------------------------


def annotation(key=1, image=1, category=2, box=(1, 2, 10, 10), **more):
    return {"id": key, "image_id": image, "category_id": category, "bbox": list(box), "area": box[2] * box[3], "iscrowd": 0, **more}


def test_a_sound_set_has_no_findings(tmp_path, png):
    png("a.png")
    assert check([coco_file(tmp_path / "x.json")]) == []


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("outside-box", {"annotations": [annotation(box=(64, 0, 5, 5))]}),
        ("outside-box", {"annotations": [annotation(box=(-9, 0, 5, 5))]}),
        ("over-edge-box", {"annotations": [annotation(box=(60, 0, 5, 5))]}),
        ("over-edge-box", {"annotations": [annotation(box=(-1, 0, 5, 5))]}),
        ("empty-box", {"annotations": [annotation(box=(1, 1, 0, 5))]}),
        ("empty-box", {"annotations": [annotation(box=(9, 1, -4, 5))]}),
        ("duplicate-annotation-id", {"annotations": [annotation(), annotation(box=(5, 5, 5, 5))]}),
        ("duplicate-image-id", {"images": [{"id": 1, "file_name": n, "width": 64, "height": 48} for n in ("a.png", "./a.png")]}),
        ("duplicate-category-id", {"categories": [{"id": 2, "name": "dog"}, {"id": 2, "name": "cat"}]}),
        ("duplicate-category-name", {"categories": [{"id": 2, "name": "dog"}, {"id": 3, "name": "dog"}]}),
        ("duplicate-file", {"images": [{"id": i, "file_name": "a.png", "width": 64, "height": 48} for i in (1, 2)]}),
        ("duplicate-box", {"annotations": [annotation(), annotation(key=2)]}),
        ("annotation-id-0", {"annotations": [annotation(key=0)]}),
        ("unknown-category", {"annotations": [annotation(category=9)]}),
        ("unknown-image", {"annotations": [annotation(), annotation(key=2, image=9)]}),
        ("unused-category", {"categories": [{"id": 2, "name": "dog"}, {"id": 3, "name": "cat"}]}),
        ("no-objects", {"annotations": []}),
        ("no-images", {"images": [], "annotations": []}),
        ("missing-file", {"images": [{"id": 1, "file_name": "none.png", "width": 64, "height": 48}]}),
        ("unreadable-file", {"images": [{"id": 1, "file_name": "bad.png", "width": 64, "height": 48}]}),
        ("unsafe-name", {"images": [{"id": 1, "file_name": "../../etc/passwd", "width": 64, "height": 48}]}),
        ("unsafe-name", {"images": [{"id": 1, "file_name": "", "width": 64, "height": 48}]}),
        ("size-mismatch", {"images": [{"id": 1, "file_name": "a.png", "width": 48, "height": 64}]}),
        ("malformed", {"annotations": [annotation(), annotation(key=2, box=(float("nan"), 1, 1, 1))]}),
        ("malformed", {"annotations": [annotation(segmentation=[[1, 1, 2, 2]])]}),
        ("area-mismatch", {"annotations": [annotation(segmentation=[[1, 2, 11, 2, 11, 12, 1, 12]], area=500)]}),
        ("mask-mismatch", {"annotations": [annotation(segmentation=[[1, 2, 21, 2, 21, 12, 1, 12]], area=200)]}),
    ],
)
def test_each_fault_is_found(tmp_path, png, name, changes):
    png("a.png")
    (tmp_path / "bad.png").write_text("text")
    found = checks(coco_file(tmp_path / "x.json", **changes))
    assert name in found
    assert found[name]["count"] >= 1
    assert found[name]["where"]


def test_a_size_before_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png", exif=exif)
    found = checks(coco_file(tmp_path / "x.json"))
    assert "stated 64 x 48, is 48 x 64: EXIF turns the picture" in found["size-mismatch"]["where"][0]


def test_truncated_pictures_are_found_when_asked_for(tmp_path, png):
    path = png("a.png")
    path.write_bytes(path.read_bytes()[:-40])
    document = coco_file(tmp_path / "x.json")
    assert checks(document) == {}
    assert "unreadable-file" in checks(document, deep=True)


def test_what_was_found_before_an_unreadable_entry_is_told(tmp_path, png):
    for name, line in (("a", "0 0.5 0.5 0 0.1"), ("b", "0 0.5 ? 0.1 0.1"), ("c", "0 0.5 0.5 0.1 0.1")):
        png(f"images/train/{name}.png")
        (tmp_path / "labels/train").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"labels/train/{name}.txt").write_text(line)
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [dog, dog]\n")
    found = checks(tmp_path)
    assert set(found) == {"empty-box", "malformed", "duplicate-category-name"}
    assert "b.txt" in found["malformed"]["where"][0]


def test_label_maps_are_measured(tmp_path, png):
    png("images/a.png")
    (tmp_path / "masks").mkdir()
    Image.new("L", (9, 9), 1).save(tmp_path / "masks/a.png")
    assert "map-mismatch" in checks(tmp_path)


def test_check_on_the_command_line(cvtool, tmp_path, png):
    png("a.png")
    sound = coco_file(tmp_path / "x.json", categories=[{"id": 2, "name": "dog"}, {"id": 3, "name": "cat"}])
    done = cvtool("data", "check", sound)
    assert done.returncode == 0
    assert [json.loads(line)["check"] for line in done.stdout.splitlines()] == ["unused-category"]
    assert "0 errors, 1 warning" in done.stderr
    coco_file(tmp_path / "y.json", annotations=[annotation(box=(1, 1, 0, 0)), annotation(key=2, category=5)])
    done = cvtool("data", "check", sound, "y.json")
    assert done.returncode == 3
    assert "2 errors" in done.stderr
    assert {json.loads(line)["check"] for line in done.stdout.splitlines()} == {"empty-box", "unknown-category", "unused-category"}


def test_bccd_and_coco_are_sound(data):
    assert check([data / "bccd"]) == []
    found = checks(data / "coco_sample/annotations/instances_tiny_val.json")
    assert set(found) <= {"unused-category", "area-mismatch"}


# --- convert ---------------------------------------------------------------------------------------------------------------------------------


def test_convert(cvtool, tmp_path, png):
    png("a.png")
    coco_file(tmp_path / "x.json")
    done = cvtool("data", "convert", "x.json", "y/", "--to", "yolo")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "category ids are not held" in done.stderr
    assert "yolo has no place for these keys of images: id" in done.stderr
    assert "1 image written to y/ as yolo" in done.stderr
    assert (tmp_path / "y/labels/train/a.txt").read_text().startswith("0 0.09375 0.145833333 0.15625 0.2083333")
    assert (tmp_path / "y/images/train/a.png").resolve() == tmp_path / "a.png"
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
    again = cvtool("data", "convert", "x.json", "y", "--to", "yolo")
    assert again.returncode == 2
    assert "exists" in again.stderr
    assert cvtool("data", "convert", "x.json", "y", "--to", "yolo", "--overwrite", "--copy-images", "-q").stderr == ""
    assert not (tmp_path / "y/images/train/a.png").is_symlink()
    done = cvtool("data", "convert", "y", "-", "--to", "csv")
    assert done.stdout.splitlines()[1].startswith("images/train/a.png,,0,dog,1,2,10,10,,0,64,48,train")


def test_convert_from_a_pipe(cvtool, tmp_path):
    line = (
        '{"file_name": "q.jpg", "width": 9, "height": 9, "annotations": [{"bbox": [0, 0, 3, 3], "category_id": 1, "category": "x", "score": 0.5}]}\n'
    )
    done = cvtool("data", "convert", "-", "out.json", input=line)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["images"] == [{"id": 1, "file_name": "q.jpg", "width": 9, "height": 9}]
    assert found["info"]["image_ids"] == "collected"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["x.json", "out"], 2, "--to is missing"),
        (["x.json", "out", "--to", "yollo"], 2, "did you mean yolo"),
        (["x.json", "-", "--to", "voc"], 2, "cannot go to stdout"),
        (["x.json", "out.csv", "--copy-images"], 2, "no effect"),
        (["none.json", "out.csv"], 3, "no such file"),
        (["x.json", "x.json", "--overwrite"], 2, "OUT is IN"),
        (["x.json", "out.csv", "--split", "val"], 2, "has no splits"),
        (["evil.json", "out.csv"], 3, "leads out of the data root"),
        (["nan.json", "out.csv"], 3, "annotations[0].bbox"),
    ],
)
def test_convert_refuses(cvtool, tmp_path, words, code, told):
    coco_file(tmp_path / "x.json")
    coco_file(tmp_path / "evil.json", images=[{"id": 1, "file_name": "../../etc/passwd"}])
    coco_file(tmp_path / "nan.json", annotations=[annotation(box=(float("nan"), 0, 1, 1))])
    before = sorted(os.listdir(tmp_path))
    done = cvtool("data", "convert", *words)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert sorted(os.listdir(tmp_path)) == before


def test_pictures_that_cannot_be_read_are_a_partial_success(cvtool, tmp_path, png):
    for name in ("images/a.png", "images/b.png"):
        png(name)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 .5 .5 .5 .5\n")
    (tmp_path / "images/b.png").write_bytes(b"")
    done = cvtool("data", "convert", ".", "out.json", "--from", "yolo")
    assert done.returncode == 7
    assert "1 of 2 images" in done.stderr
    assert len(json.loads((tmp_path / "out.json").read_text())["images"]) == 2


# --- stats -----------------------------------------------------------------------------------------------------------------------------------


def test_stats(cvtool, tmp_path, png):
    png("a.png")
    boxes = [annotation(1, box=(0, 0, 10, 10)), annotation(2, box=(0, 0, 40, 40)), annotation(3, box=(0, 0, 100, 100), iscrowd=1)]
    coco_file(tmp_path / "x.json", annotations=boxes, categories=[{"id": 2, "name": "dog"}, {"id": 5, "name": "cat"}])
    done = cvtool("data", "stats", "x.json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["images"], found["objects"], found["crowds"]) == (1, 3, 1)
    assert found["sizes"] == {"small": 1, "medium": 1, "large": 1}
    assert found["categories"] == [{"id": 2, "name": "dog", "objects": 3, "images": 1}, {"id": 5, "name": "cat", "objects": 0, "images": 0}]
    assert found["objects_per_image"] == {"min": 3, "mean": 3.0, "max": 3}
    done = cvtool("data", "stats", "-", input='{"file_name": "q", "width": 4, "height": 4, "annotations": []}\n')
    assert json.loads(done.stdout)["empty_images"] == 1


def test_stats_of_pictures_alone(tmp_path, png):
    png("a.png")
    png("b.png", 32, 16)
    found = task.stats(task.open_data(tmp_path))
    assert (found["format"], found["images"], found["width"]["min"], found["height"]["max"]) == ("pictures", 2, 32, 48)


def test_stats_of_bccd(data):
    found = task.stats(task.open_data(data / "bccd"))
    assert (found["images"], found["objects"]) == (364, 4888)
    assert {row["name"]: row["objects"] for row in found["categories"]} == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert found["splits"] == {"train": 205, "val": 87, "test": 72}


# --- sample ----------------------------------------------------------------------------------------------------------------------------------


def test_samples_come_from_what_is_installed():
    from cvtool import images

    found = task.samples()
    assert "astronaut" in found
    for file, text in found.values():
        assert images.size(file)
        assert text
    assert images.decode(task.sample("astronaut")).shape == (512, 512, 3)
    assert task.sample("Chelsea.png") == task.sample("cat")
    with pytest.raises(UsageError, match="did you mean astronaut"):
        task.sample("astronout")


def test_a_sample_that_is_not_there(monkeypatch):
    monkeypatch.setattr(task, "samples", dict)
    with pytest.raises(InputError, match="pip install scikit-image"):
        task.sample("astronaut")


def test_sample_on_the_command_line(cvtool, tmp_path):
    done = cvtool("data", "sample", "astronaut", "chelsea", "-o", "pictures")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [os.path.join("pictures", name) for name in ("astronaut.png", "chelsea.png")]
    assert (tmp_path / "pictures/astronaut.png").read_bytes() == task.sample("astronaut").read_bytes()
    (tmp_path / "coffee.png").write_text("mine")
    done = cvtool("data", "sample", "astronaut", "coffee")
    assert done.returncode == 2
    assert (tmp_path / "coffee.png").read_text() == "mine"
    assert not (tmp_path / "astronaut.png").exists()
    assert cvtool("data", "sample", "coffee", "--overwrite").returncode == 0
    assert cvtool("data", "sample", "coffee").returncode == 0  # the same file: nothing to refuse
    done = cvtool("data", "sample", "coins", "-o", "-", input=b"")
    assert done.stdout == task.sample("coins").read_bytes()
    assert "astronaut" in cvtool("data", "sample").stdout.splitlines()
