"""`cvtool visualize` as a program: files, pipes, refusals and exit codes."""

import io
import json
import resource

import numpy as np
import pytest
from PIL import Image

from cvtool.render import palette


@pytest.fixture
def coco(tmp_path):
    """A COCO file with three pictures; the third has the base name of the first."""
    images, annotations = [], []
    for i, name in enumerate(("a.png", "b.jpg", "more/a.png"), 1):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (400, 300), (90, 90, 90)).save(tmp_path / "images" / name)
        images.append({"id": i, "file_name": name, "width": 400, "height": 300})
        annotations.append({"id": i, "image_id": i, "category_id": 18, "bbox": [50, 60, 200, 150], "area": 30000, "iscrowd": 0})
    document = {"images": images, "annotations": annotations, "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}]}
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(document))
    return path


def record(tmp_path, name="images/a.png", **more):
    found = [{"bbox": [50, 60, 200, 150], "category_id": 18, "category": "dog", "score": 0.9}]
    return json.dumps({"file_name": str(tmp_path / name), "annotations": found} | more) + "\n"


def has_dog(picture):
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    return bool((np.abs(pixels - palette.colour("dog")).max(axis=2) < 25).sum() > 100)


def test_a_folder_of_pictures_and_records_of_them(cvtool, coco, tmp_path):
    done = cvtool("visualize", coco, "--images", tmp_path / "images", "-o", "seen/")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == ["a.png", "b.jpg", "more_a.png"]
    assert all(has_dog(path) for path in (tmp_path / "seen").iterdir())
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["file_name"] for r in records] == ["seen/a.png", "seen/b.jpg", "seen/more_a.png"]
    assert all(r["source"].startswith(str(tmp_path / "images")) for r in records)
    assert [r["id"] for r in records] == [1, 2, 3]
    with Image.open(tmp_path / "seen" / "b.jpg") as picture:
        assert picture.format == "JPEG"
        assert all(step == (1, 1) for step in ((c[1], c[2]) for c in picture.layer))  # colour at full resolution


def test_nothing_is_replaced_unasked(cvtool, coco, tmp_path):
    words = ("visualize", "images/a.png", "-o", "seen/")
    assert cvtool(*words).returncode == 0
    again = cvtool(*words)
    assert again.returncode == 2
    assert "exists" in again.stderr
    assert cvtool(*words, "--overwrite").returncode == 0
    itself = cvtool("visualize", "images/a.png", "-o", "images/", "--overwrite")
    assert itself.returncode == 2
    assert "the picture itself" in itself.stderr
    assert not list(tmp_path.rglob("*.tmp"))


def test_one_picture_goes_to_a_pipe(cvtool, coco, tmp_path):
    done = cvtool("visualize", "-", input=record(tmp_path).encode())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"\x89PNG")
    assert has_dog(io.BytesIO(done.stdout))
    two = cvtool("visualize", "-", input=(record(tmp_path) * 2).encode())
    assert two.returncode == 2
    assert two.stdout == b""
    assert b"more than one picture" in two.stderr


def test_image_bytes_on_stdin(cvtool, coco, tmp_path):
    done = cvtool("visualize", "-", input=(tmp_path / "images" / "a.png").read_bytes())
    assert done.returncode == 0, done.stderr
    assert Image.open(io.BytesIO(done.stdout)).size == (400, 300)
    assert b"nothing is known" in done.stderr


def test_one_file(cvtool, coco, tmp_path):
    done = cvtool("visualize", "-", "-o", "out.webp", input=record(tmp_path))
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "out.webp").format == "WEBP"
    assert json.loads(done.stdout)["file_name"] == "out.webp"
    many = cvtool("visualize", coco, "--images", "images", "-o", "all.png")
    assert many.returncode == 2
    assert not (tmp_path / "all.png").exists()
    for name in ("out.txt", "out"):
        assert cvtool("visualize", "images/a.png", "-o", name).returncode == 2


def test_a_contact_sheet(cvtool, coco, tmp_path):
    done = cvtool("visualize", coco, "--images", "images", "--grid", "sheet.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert has_dog(tmp_path / "sheet.png")
    assert cvtool("visualize", coco, "--images", "images", "--grid", "sheet.png").returncode == 2
    both = cvtool("visualize", coco, "--images", "images", "--grid", "sheet.png", "-o", "seen/", "--overwrite")
    assert both.returncode == 0, both.stderr
    assert len(both.stdout.splitlines()) == 3


def test_bad_inputs_go_on_with_exit_code_7_and_alone_with_3(cvtool, coco, tmp_path):
    lines = record(tmp_path) + json.dumps({"file_name": "gone.png", "error": "no such file"}) + "\n" + record(tmp_path, "images/nothing.png")
    some = cvtool("visualize", "-", "-o", "seen/", input=lines)
    assert some.returncode == 7, some.stderr
    records = [json.loads(line) for line in some.stdout.splitlines()]
    assert ["error" in r for r in records] == [False, True, True]
    assert (tmp_path / "seen" / "a.png").exists()
    none = cvtool("visualize", "gone.png", "-o", "other/")
    assert none.returncode == 3
    assert not (tmp_path / "other").exists()


def test_what_is_drawn_can_be_chosen(cvtool, coco, tmp_path):
    for words in (("--conf", "0.95"), ("--classes", "car")):
        done = cvtool("visualize", "-", *words, input=record(tmp_path).encode())
        assert done.returncode == 0, done.stderr
        assert not has_dog(io.BytesIO(done.stdout))
    unknown = cvtool("visualize", coco, "--images", "images", "--classes", "dgo", "-o", "seen/")
    assert unknown.returncode == 2
    assert "did you mean dog" in unknown.stderr


def test_coco_results_need_their_ground_truth(cvtool, coco, tmp_path):
    (tmp_path / "dt.json").write_text(json.dumps([{"image_id": 1, "category_id": 18, "bbox": [50, 60, 200, 150], "score": 0.9}]))
    alone = cvtool("visualize", "dt.json", "-o", "seen/")
    assert alone.returncode == 2
    assert "--gt" in alone.stderr
    done = cvtool("visualize", "dt.json", "--gt", coco, "--images", "images", "-o", "seen/")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "seen" / "a.png").width > 800


def test_a_data_set(cvtool, coco, tmp_path):
    done = cvtool("visualize", "--data", coco, "--images", "images", "-o", "seen/")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert cvtool("visualize", "images/a.png", "--data", coco, "-o", "x/").returncode == 2
    assert cvtool("visualize", "images/a.png", "--split", "val", "-o", "x/").returncode == 2
    assert cvtool("visualize", "-o", "x/").returncode == 2


@pytest.mark.system("roi-pool")
@pytest.mark.system("roi-align")
def test_the_figure_of_regions(cvtool, coco, tmp_path):
    done = cvtool("visualize", "roi", "images/a.png", "--box", "50,60,200,150", "--size", "5", "-o", "roi.png")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "roi.png").width > 1000


@pytest.mark.system("rpn")
def test_the_figure_of_anchors(cvtool, coco):
    done = cvtool("visualize", "anchors", "images/a.png", "--scales", "64,128", input=b"")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "words",
    [
        ("images/a.png", "--box", "1,2,3,4"),
        ("roi", "images/a.png"),
        ("roi", "images/a.png", "--box", "1,2,3,4", "--scales", "8"),
        ("roi", "images/a.png", "--box", "1,2,3,4", "--conf", "0.5"),
        ("roi", "images/a.png", "--box", "1,2,3,4", "--no-labels"),
        ("roi", "images/a.png", "images/b.jpg", "--box", "1,2,3,4"),
        ("roi", "images/a.png", "--box", "1,2,3,4", "-o", "seen/"),
        ("images/a.png", "--scale", "0"),
        ("images/a.png", "--overwrite"),
        ("images/a.png", "--boxes", "1"),
    ],
)
def test_options_without_effect_are_usage_errors(cvtool, coco, words):
    done = cvtool("visualize", *words)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""


def test_a_file_with_a_figure_s_name_is_a_file(cvtool, coco, tmp_path):
    (tmp_path / "images" / "a.png").rename(tmp_path / "roi")
    done = cvtool("visualize", "roi", "-o", "seen.png")
    assert done.returncode == 0, done.stderr


def test_help_lists_the_figures_and_imports_nothing_heavy(cvtool):
    done = cvtool("visualize", "--help")
    assert done.returncode == 0
    assert "cvtool visualize roi IMG --box X,Y,W,H" in done.stdout
    assert "cvtool visualize anchors IMG" in done.stdout
    code = "import sys, cvtool.cli.visualize as v; from cvtool.cli import command; command('visualize'); print(*sys.modules)"
    import subprocess
    import sys

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "PIL"} & set(loaded)


def test_drawing_does_not_import_torch(cvtool, coco, tmp_path, environment):
    import subprocess
    import sys

    code = (
        "import sys; from cvtool.data import inputs; from cvtool.tasks.visualize import visualize; "
        f"print(len(list(visualize(inputs.read([{str(coco)!r}], images={str(tmp_path / 'images')!r}, keep_annotations=True))))); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.startswith("3\n")
    assert "torch" not in done.stdout.split()


def test_real_pictures(cvtool, data, tmp_path):
    folder = data / "coco_sample"
    done = cvtool("visualize", folder / "annotations" / "person_keypoints_tiny_val.json", "--images", folder / "tiny_val", "--grid", "sheet.jpg")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "sheet.jpg").width > 2000


def test_options_set_for_other_commands_are_passed_over(cvtool, coco, tmp_path):
    (tmp_path / "c.toml").write_text('conf = 0.3\nstride = 8\nclasses = "dog"\n')
    figure = cvtool("visualize", "roi", "images/a.png", "--box", "1,2,30,40", "-c", "c.toml", "-o", "roi.png", env={"CVTOOL_MAX_DET": "3"})
    assert figure.returncode == 0, figure.stderr
    plain = cvtool("visualize", "-", "-c", "c.toml", "-o", "out.png", input=record(tmp_path))
    assert plain.returncode == 0, plain.stderr


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp"])
def test_a_full_disk_leaves_no_half_picture(cvtool, png, tmp_path, suffix):
    """A limit on the size of files fails a write half way, as a full disk does."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

    done = cvtool("visualize", png("p.png", 400, 300), "-o", f"out.{suffix}", preexec_fn=limit)
    assert done.returncode == 1, done.stderr
    assert "disk full" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]
