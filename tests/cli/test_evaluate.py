"""`cvtool evaluate` as a program: what goes to stdout and stderr, exit codes, pipes and files."""

import json
import subprocess
import sys

import pytest

BOX = [10, 10, 20, 20]
TRUTH = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 100}],
    "annotations": [{"id": 0, "image_id": 1, "category_id": 1, "bbox": BOX, "area": 400, "iscrowd": 0}],
    "categories": [{"id": 1, "name": "dog"}],
}
FOUND = [{"image_id": 1, "category_id": 1, "bbox": BOX, "score": 0.9}]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "gt.json").write_text(json.dumps(TRUTH))
    (tmp_path / "dt.json").write_text(json.dumps(FOUND))
    return tmp_path


def test_a_pipe_gets_one_json_object(cvtool, files) -> None:
    done = cvtool("evaluate", "--gt", "gt.json", "--dt", "dt.json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert list(report) == ["task", "iou_type", "metrics", "params", "counts", "matching", "warnings", "backend", "cvtool"]
    assert report["metrics"]["AP"] == pytest.approx(1)
    assert report["metrics"]["APl"] is None
    lines = done.stderr.splitlines()
    assert lines[0] == "cvtool evaluate: matched 1 of 1 detected image by image id; 0 of 1 ground-truth image without detections"
    assert lines[1].startswith("cvtool evaluate: warning: annotation id 0 in the ground truth")
    assert all(line.startswith("cvtool evaluate: warning: ") for line in lines[1:])


def test_quiet(cvtool, files) -> None:
    assert cvtool("evaluate", "--gt", "gt.json", "--dt", "dt.json", "-q").stderr == ""


def test_stdin(cvtool, files) -> None:
    line = json.dumps({"file_name": "x/a.jpg", "annotations": [{"bbox": BOX, "category_id": 5, "category": "dog", "score": 0.5}]})
    done = cvtool("evaluate", "--gt", "gt.json", "--dt", "-", input=line + "\n")
    assert done.returncode == 0
    assert json.loads(done.stdout)["metrics"]["AP"] == pytest.approx(1)
    assert "matched by name: dog 5 -> 1" in done.stderr


def test_empty_results_end_well(cvtool, files) -> None:
    (files / "dt.json").write_text("[]")
    done = cvtool("evaluate", "--gt", "gt.json", "--dt", "dt.json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["metrics"]["AP"] == 0
    assert "warning: there are no detections" in done.stderr


def test_output_file(cvtool, files) -> None:
    words = ("evaluate", "--gt", "gt.json", "--dt", "dt.json", "-o", "report.json")
    done = cvtool(*words)
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads((files / "report.json").read_text())["metrics"]["AP50"] == pytest.approx(1)
    again = cvtool(*words)
    assert again.returncode == 2
    assert "report.json exists" in again.stderr
    assert "--overwrite" in again.stderr
    assert cvtool(*words, "--overwrite").returncode == 0
    assert sorted(path.name for path in files.iterdir()) == ["dt.json", "gt.json", "report.json"]
    assert cvtool(*words[:-1], "/dev/null").returncode == 0
    assert cvtool(*words[:-1], "-", "-q").stdout.startswith("{")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--gt", "gt.json"], 2, "--dt is missing"),
        (["--gt", "gt.json", "--dt", "none.json"], 3, "no such file"),
        (["--gt", "gt.json", "--dt", "bad.json"], 3, "score"),
        (["--gt", "gt.json", "--dt", "other.json"], 3, "no category in common"),
        (["--gt", "dt.json", "--dt", "gt.json"], 3, "swapped"),
        (["--gt", "gt.json", "--dt", "dt.json", "--classes", "dgo"], 2, "did you mean dog?"),
        (["--gt", "gt.json", "--dt", "dt.json", "--iou-type", "box"], 2, "bbox"),
        (["--gt", "gt.json", "--dt", "dt.json", "--max-det", "0"], 2, "--max-det"),
        (["--gt", "gt.json", "--dt", "dt.json", "--split", "val"], 2, "no effect"),
        (["--gt", "gt.json", "--dt", "dt.json", "--overwrite"], 2, "--overwrite has no effect"),
        (["--gt", "-", "--dt", "-"], 2, "only once"),
    ],
)
def test_errors_are_short_lines_and_codes(cvtool, files, words: list, code: int, text: str) -> None:
    (files / "bad.json").write_text(json.dumps([FOUND[0] | {"score": None}]))
    (files / "other.json").write_text(json.dumps([FOUND[0] | {"category_id": 18}]))
    done = cvtool("evaluate", *words)
    assert done.returncode == code
    assert text in done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("cvtool evaluate: ")
    assert len(done.stderr.splitlines()) <= 3


def test_nan_names_the_entry(cvtool, files) -> None:
    (files / "dt.json").write_text('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, NaN, 4], "score": 0.5}]')
    done = cvtool("evaluate", "--gt", "gt.json", "--dt", "dt.json")
    assert done.returncode == 3
    assert "dt.json: entry 0 of the array" in done.stderr


def test_numbers_need_neither_torch_nor_pictures(files) -> None:
    code = (
        "import sys; from cvtool.__main__ import main; main(sys.argv[1:]); "
        "print([m for m in ('torch', 'PIL', 'pydantic', 'rich', 'pycocotools') if m in sys.modules], file=sys.stderr)"
    )
    gt = TRUTH | {"annotations": [TRUTH["annotations"][0] | {"id": 1}]}
    (files / "gt.json").write_text(json.dumps(gt))
    command = [sys.executable, "-c", code, "evaluate", "--gt", str(files / "gt.json"), "--dt", str(files / "dt.json"), "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_terminal_gets_a_table(files) -> None:
    from cvtool.cli.evaluate import table
    from cvtool.tasks.evaluate import evaluate

    report = evaluate(files / "gt.json", files / "dt.json", per_class=True)
    lines = table(report)
    assert lines[0] == "boxes in 1 image: 1 detection against 1 object of 1 class"
    assert lines[2].split() == ["AP", "1.0000", "average", "precision,", "overlap", "0.50", "to", "0.95"]
    assert any(line.split()[:2] == ["APl", "-"] for line in lines)
    assert lines[-1].split()[:2] == ["dog", "1.0000"]


def test_keypoint_table(files) -> None:
    from cvtool.cli._evaluation import _words

    assert _words("AR", [20]) == "average recall, overlap 0.50 to 0.95"
    assert _words("AR50", [20]) == "average recall, overlap of 0.50 or more"
    assert _words("AR10", [1, 10, 100]) == "average recall, the best 10 detections of an image and class"
    assert _words("APm", [20]).startswith("average precision, medium objects")


def test_gates_decide_after_everything_is_written(cvtool, files) -> None:
    words = [
        "evaluate",
        "--gt",
        "gt.json",
        "--dt",
        "dt.json",
        "--gate",
        "AP>=0.9",
        "--gate",
        "per_class.dog.AP50 > 0.5",
        "--gate",
        "per_class.cat.AP>0",
    ]
    done = cvtool(*words, "--junit", "out/report.xml", "--summary", "out/summary.md", "-o", "report.json")
    assert done.returncode == 2  # a key that nothing has is a slip of the pen; 6 is a figure that did not pass
    lines = done.stderr.splitlines()
    assert "cvtool evaluate: passed: AP>=0.9: AP is 1" in lines
    assert lines[-2:] == [
        "cvtool evaluate: 1 of 3 gates failed",
        "  per_class.cat.AP>0: the report has no 'per_class.cat.AP': did you mean per_class.dog.AP or per_class.dog.APs or per_class.dog.APm?",
    ]
    report = json.loads((files / "report.json").read_text())
    assert [(row["passed"], row["value"] is None) for row in report["gates"]] == [(True, False), (True, False), (False, True)]
    assert 'failures="1"' in (files / "out/report.xml").read_text()
    assert "**failed**" in (files / "out/summary.md").read_text()
    assert cvtool(*words[:6], "AP>1", "-q").returncode == 6
    again = cvtool(*words, "--junit", "out/report.xml", "-q")
    assert (again.returncode, again.stdout) == (2, "")
    assert "report.xml exists" in again.stderr
    assert json.loads(cvtool(*words[:-2], "-q", "--summary", "out/summary.md").stdout)["gates"][1]["passed"]
    assert (files / "out/summary.md").read_text().count("### cvtool evaluate") == 2


def run_in(*words: str) -> tuple[int, str]:
    """Exit code and stderr of one command line, in this process."""
    import contextlib
    import io

    from cvtool.__main__ import main

    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
        code = main(["evaluate", *words])
    return code, err.getvalue()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--junit", "x.xml"], "--junit has no effect without --gate"),
        (["--resamples", "10"], "--resamples has no effect without --interval"),
        (["--seed", "1"], "--seed has no effect without --interval"),
        (["--gate", "AP=0.5"], "'AP==0.5'"),
        (["--max-drop", "0.1"], "--max-drop has no effect without --baseline"),
        (["--metric", "accuracy,miou"], "accuracy is of classes and mean-iou of maps"),
        (["--interval", "95"], "between 0 and 1"),
        (["--max-drop", "x", "--baseline", "dt.json"], "is no drop"),
    ],
)
def test_what_cannot_be_is_said_before_the_work(files, monkeypatch, words: list[str], text: str) -> None:
    monkeypatch.chdir(files)
    code, err = run_in("--gt", "gt.json", "--dt", "none.json", *words)
    assert code == 2
    assert text in err
    assert len(err.splitlines()) <= 3


def test_a_table_with_intervals_slices_and_a_comparison(files) -> None:
    from cvtool.cli.evaluate import table
    from cvtool.tasks.evaluate import evaluate

    gt = TRUTH | {"images": [TRUTH["images"][0] | {"weather": "rain"}, {"id": 2, "file_name": "b.jpg", "weather": "sun"}]}
    (files / "gt.json").write_text(json.dumps(gt))
    paths = files / "gt.json", files / "dt.json"
    lines = table(evaluate(*paths, interval=0.9, resamples=20, slices=["weather"], baseline=paths[1]))
    assert "[1.0000, 1.0000]" in next(line for line in lines if line.split()[:1] == ["AP"])
    assert any(line.split()[:4] == ["weather", "units", "AP", "AP50"] for line in lines)
    assert any(line.split()[:3] == ["rain", "1", "1.0000"] for line in lines)
    assert any(line.endswith("p = 1.000, not significant") for line in lines)


def test_xml_of_odd_names() -> None:
    import xml.etree.ElementTree as ElementTree

    from cvtool.cli._junit import junit, summary

    row = {"gate": 'a<"&\x01>b>=1', "value": None, "passed": False, "why": "the report has no '<|>'"}
    report = {"task": "detection", "metrics": {"a|b": None}, "gates": [row], "matching": "x", "warnings": ["one\ntwo"]}
    case = ElementTree.fromstring(junit(report))[0][0]
    assert case.attrib["name"] == 'a<"&?>b>=1'
    assert case[0].attrib["message"] == "the report has no '<|>'"
    assert "a\\|b" in summary(report)
    assert "one two" in summary(report)
