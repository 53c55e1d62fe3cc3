"""INPUT in all its forms."""

import io
import json
import os

import pytest
from PIL import Image

from cvtool.data import inputs
from cvtool.errors import InputError, UsageError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """a/img1.png img2.png img10.png, a/deep/x.jpg, a hidden picture, a text file."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/img10.png", "a/img2.png", "a/img1.png", "a/deep/x.jpg", "a/.hidden.png", "a/.git/y.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(path)
    (tmp_path / "a/notes.txt").write_text("no picture")
    return tmp_path


def names(*given, **options):
    return [record["file_name"] for record in inputs.read(given, **options)]


class Pipe(io.RawIOBase):
    """A stream that gives what is written as it comes, like a pipe."""

    def __init__(self, chunks):
        self.chunks, self.taken = list(chunks), 0

    def readable(self):
        return True

    def readinto(self, buffer):
        if not self.chunks:
            return 0
        part = self.chunks[0][: len(buffer)]
        self.chunks[0] = self.chunks[0][len(part) :]
        if not self.chunks[0]:
            self.chunks.pop(0)
            self.taken += 1
        buffer[: len(part)] = part
        return len(part)


def stdin(*chunks):
    return io.BufferedReader(Pipe(chunks), buffer_size=512)


def test_files_keep_their_order(folder):
    assert names("a/img2.png", "a/img1.png", "a/img2.png") == ["a/img2.png", "a/img1.png", "a/img2.png"]


def test_a_folder_is_walked_in_natural_order(folder):
    assert names("a") == ["a/img1.png", "a/img2.png", "a/img10.png", "a/deep/x.jpg"]


def test_a_link_upwards_does_not_loop(folder):
    os.symlink("..", folder / "a" / "up")
    assert len(names("a")) == 4


def test_a_link_to_itself_is_passed_over(folder):
    (folder / "a" / "self").symlink_to("self")
    assert names("a") == ["a/img1.png", "a/img2.png", "a/img10.png", "a/deep/x.jpg"]


def test_patterns(folder):
    assert names("a/*.png") == ["a/img1.png", "a/img2.png", "a/img10.png"]
    assert sorted(names("a/**/*.[jp][pn]g")) == ["a/deep/x.jpg", "a/img1.png", "a/img10.png", "a/img2.png"]
    assert names("a/**/x.*") == ["a/deep/x.jpg"]
    assert sorted(names("a/**")) == ["a/deep/x.jpg", "a/img1.png", "a/img10.png", "a/img2.png"]
    with pytest.raises(InputError, match="matches no picture"):
        names("a/*.gif")


def test_a_name_with_brackets_is_a_name(folder):
    os.rename("a/img1.png", "a/img[1].png")
    assert names("a/img[1].png") == ["a/img[1].png"]


def test_a_missing_path_is_a_record_with_error(folder):
    found = list(inputs.read(["a/img1.png", "nothing.png", "a/img2.png"]))
    assert [record.failed for record in found] == [False, True, False]
    assert found[1] == {"file_name": "nothing.png", "error": "no such file"}


def test_an_empty_folder_is_an_error(folder):
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures in this folder") as caught:
        names("empty")
    assert caught.value.exit_code == 3
    (folder / "empty" / "val.json").write_text("{}")
    with pytest.raises(InputError, match=r"did you mean empty/val\.json"):
        names("empty")


def test_lists(folder):
    (folder / "list.txt").write_text("a/img2.png\n\na/img1.png\r\nmissing.png\n")
    found = list(inputs.read(["@list.txt"]))
    assert [record["file_name"] for record in found] == ["a/img2.png", "a/img1.png", "missing.png"]
    assert found[2].failed
    (folder / "list.txt").write_text("")
    with pytest.raises(InputError, match="empty"):
        names("@list.txt")
    with pytest.raises(InputError, match="cannot read the list"):
        names("@none.txt")


def test_files0_from(folder):
    (folder / "list0").write_bytes(b"a/img2.png\0a/img\xe9.png\0a/img1.png")
    found = names(files0_from="list0")
    assert found[0] == "a/img2.png"
    assert os.fsencode(found[1]) == b"a/img\xe9.png"
    assert names("a/deep", files0_from="-", stdin=stdin(b"a/img1.p", b"ng\0")) == ["a/deep/x.jpg", "a/img1.png"]
    with pytest.raises(InputError, match="names no file"):
        names(files0_from="-", stdin=stdin(b""))


def test_nothing_or_too_much_of_stdin():
    with pytest.raises(UsageError, match="no input"):
        inputs.read([])
    with pytest.raises(UsageError, match="only once"):
        inputs.read(["-", "-"])
    with pytest.raises(UsageError, match="only once"):
        inputs.read(["-"], files0_from="-")


def test_pages_of_a_tiff_are_records(folder):
    pages = [Image.new("L", (4, 4), i) for i in range(3)]
    pages[0].save("a/scan.tif", save_all=True, append_images=pages[1:])
    found = list(inputs.read(["a/scan.tif"]))
    assert [record.get("page") for record in found] == [0, 1, 2]
    assert [int(record.pixels()[0, 0, 0]) for record in found] == [0, 1, 2]
    (folder / "a/bad.tif").write_bytes(b"II*\0nothing")
    assert next(inputs.read(["a/bad.tif"])).failed


# --- annotation files ------------------------------------------------------------------------------------------------------------------------


def document(**changes):
    base = {
        "images": [{"id": 9, "file_name": "img1.png", "width": 4, "height": 3}, {"id": 4, "file_name": "img2.png", "width": 4, "height": 3}],
        "annotations": [{"id": 1, "image_id": 4, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    return json.dumps(base | changes)


def test_a_coco_document_gives_its_images(folder):
    (folder / "a/val.json").write_text(document())
    found = list(inputs.read(["a/val.json"]))
    assert [(record["id"], record["file_name"]) for record in found] == [(9, "a/img1.png"), (4, "a/img2.png")]
    assert all("annotations" not in record for record in found)
    kept = list(inputs.read(["a/val.json"], keep_annotations=True))
    assert kept[1]["annotations"] == [{"id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0, "category": "dog"}]


def test_pictures_are_found_beside_the_document(folder):
    os.makedirs("set/annotations")
    os.rename("a", "set/val")
    (folder / "set/annotations/instances_val.json").write_text(document())
    assert names("set/annotations/instances_val.json") == ["set/val/img1.png", "set/val/img2.png"]
    os.rename("set/val", "set/other")
    assert names("set/annotations/instances_val.json") == ["set/other/img1.png", "set/other/img2.png"]
    os.rename("set/other", "far")
    assert names("set/annotations/instances_val.json", images="far") == ["far/img1.png", "far/img2.png"]


def test_names_that_our_own_documents_hold_are_found_from_the_current_folder(folder):
    os.makedirs("out")
    (folder / "out/dt.json").write_text(document(images=[{"id": 1, "file_name": "a/img1.png"}], annotations=[]))
    assert names("out/dt.json") == ["a/img1.png"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../x.png", "..", "C:\\x.png"])
def test_a_name_may_not_leave_the_data_root(folder, name):
    (folder / "a/val.json").write_text(document(images=[{"id": 5, "file_name": name}], annotations=[]))
    for options in ({}, {"images": "a"}):
        with pytest.raises(InputError) as caught:
            names("a/val.json", **options)
        assert caught.value.exit_code == 3
        assert name in str(caught.value)
        assert "images[0] (id 5)" in str(caught.value)


def test_a_foreign_absolute_name_is_found_by_base_name_under_images(folder):
    (folder / "val.json").write_text(document(images=[{"id": 5, "file_name": "/home/she/pictures/x.jpg"}], annotations=[]))
    assert names("val.json", images="a") == ["a/deep/x.jpg"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": [{"id": 1}]}, "file_name is missing"),
        ({"images": [{"file_name": "a.jpg"}]}, "images[0].id"),
        ({"images": [7]}, "images[0] is not an object"),
        ({"images": "x"}, "no list 'images'"),
        ({"annotations": {}}, "'annotations' is not a list"),
        (
            {"annotations": [{"id": 3, "image_id": 4, "category_id": 1, "bbox": [float("nan"), 0, 1, 1]}]},
            "annotations[0].bbox is not four finite numbers",
        ),
        ({"annotations": [{"id": 3, "image_id": 4, "category_id": 1, "bbox": [0, 0, 1]}]}, "annotations[0].bbox"),
        ({"annotations": [{"id": 3, "image_id": 4, "bbox": [0, 0, 1, 1]}]}, "category_id is missing"),
        ({"annotations": [{"id": 3, "image_id": 77, "category_id": 1}]}, "image_id 77 is none of the images"),
        ({"annotations": [{"id": 3, "image_id": 4, "category_id": 1, "segmentation": {"size": [3, 4]}}]}, "segmentation"),
        ({"annotations": [{"id": 3, "image_id": 4, "category_id": 1, "segmentation": [[0, 0, "x"]]}]}, "segmentation"),
        ({"annotations": [{"id": 3, "image_id": 4, "category_id": 1, "score": float("inf")}]}, "score is no finite number"),
        ({"annotations": [{"id": 3, "image_id": 4, "segments_info": []}]}, "panoptic"),
        ({"categories": [{"id": 1}]}, "categories[0] needs an id and a name"),
        ({"info": {"x": float("nan")}}, "NaN is not a JSON number"),
    ],
)
def test_a_malformed_document_names_the_entry(folder, changes, words):
    (folder / "a/val.json").write_text(document(**changes))
    with pytest.raises(InputError) as caught:
        list(inputs.read(["a/val.json"]))
    assert words in str(caught.value)
    assert "a/val.json" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"), [('{"images": [', "line 1, column"), ("[]", "JSON array"), ("{" * 9, "not valid JSON"), ('{"a":' * 99999, "deeply")]
)
def test_what_is_no_document(folder, text, words):
    (folder / "x.json").write_text(text)
    with pytest.raises(InputError, match=words):
        names("x.json")


def test_json_lines_pass_through(folder):
    (folder / "x.jsonl").write_text('{"file_name": "q.jpg", "annotations": [{"bbox": [0, 0, 1, 1]}], "mine": 1}\n{"file_name": "r.jpg"}\n')
    found = list(inputs.read(["x.jsonl"]))
    assert found[0] == {"file_name": "q.jpg", "annotations": [{"bbox": [0, 0, 1, 1]}], "mine": 1}
    assert names("x.jsonl", images="a") == ["a/q.jpg", "a/r.jpg"]


# --- stdin -----------------------------------------------------------------------------------------------------------------------------------


def test_a_picture_on_stdin(folder):
    out = io.BytesIO()
    Image.new("RGB", (6, 5), "red").save(out, "PNG")
    data = out.getvalue()
    (record,) = inputs.read(["-"], stdin=stdin(data[:10], data[10:]))
    assert record["file_name"] == "-"
    assert record.pixels().shape == (5, 6, 3)
    assert record.size() == (6, 5)
    (plain,) = inputs.read(["-"], stdin=io.BytesIO(data))
    assert plain.pixels().shape == (5, 6, 3)


def test_pages_on_stdin(folder):
    frames = [Image.new("RGB", (4 + i, 3), (i, 0, 0)) for i in range(3)]
    frames[0].save("many.tif", save_all=True, append_images=frames[1:])
    records = list(inputs.read(["-"], stdin=stdin((folder / "many.tif").read_bytes())))
    assert [(record["file_name"], record["page"], record.pixels().shape[1]) for record in records] == [("-", 0, 4), ("-", 1, 5), ("-", 2, 6)]


def test_lines_on_stdin_are_passed_on_as_they_come():
    line = b'{"file_name": "%d.jpg"}\n'
    pipe = Pipe([line % i for i in range(100)])
    found = inputs.read(["-"], stdin=io.BufferedReader(pipe, buffer_size=64))
    assert next(found)["file_name"] == "0.jpg"
    assert pipe.taken < 10
    assert len(list(found)) == 99


@pytest.mark.parametrize("indent", [None, 2])
def test_a_document_on_stdin(folder, indent):
    text = json.dumps(json.loads(document()), indent=indent).encode()
    found = list(inputs.read(["-"], stdin=stdin(text), images="a"))
    assert [(record["id"], record["file_name"]) for record in found] == [(9, "a/img1.png"), (4, "a/img2.png")]


def test_a_record_that_has_a_key_called_images_is_a_record():
    (found,) = inputs.read(["-"], stdin=stdin(b'{"file_name": "a.jpg", "images": 3}\n'))
    assert found == {"file_name": "a.jpg", "images": 3}


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "stdin is empty"), (b"a.jpg\nb.jpg\n", "neither a picture nor"), (b"[1]", "array"), (b'{"a": 1\n', "not valid JSON|no list")],
)
def test_what_stdin_may_not_be(data, words):
    with pytest.raises(InputError, match=words):
        list(inputs.read(["-"], stdin=stdin(data) if data else io.BytesIO()))


def test_the_line_of_an_error_on_stdin():
    with pytest.raises(InputError, match=r"stdin, line 3"):
        list(inputs.read(["-"], stdin=stdin(b'{"id": 1}\n{"id": 2}\n{"id": NaN}\n')))
