"""Where records go: whole files only, nothing lost, nothing replaced unasked."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cvtool.cli import _output, _ranks, _table
from cvtool.cli._console import Console
from cvtool.errors import CvtoolError, InputError, PartialSuccess, UsageError
from cvtool.records import Record


def record(i: int, **more: Any) -> Record:
    found = {"category_id": 3, "category": "cat", "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "score": 0.5}
    made_by = {"verb": "detect", "categories": [{"id": 3, "name": "cat"}]}
    return Record(file_name=f"{i}.png", width=40, height=30, annotations=[found] * i, made_by=[made_by], **more)


def bad(i: int) -> Record:
    return Record(file_name=f"{i}.png", error="truncated")


def deliver(records: Any, output: Path | None, **options: Any) -> None:
    _output.deliver(records, _output.target(None if output is None else str(output), **options), Console("detect"))


def names(path: Path) -> list[str]:
    return [json.loads(line)["file_name"] for line in path.read_text().splitlines()]


def broken(count: int, error: BaseException) -> Iterator[Record]:
    yield from map(record, range(count))
    raise error


def test_the_suffix_tells_the_format(tmp_path: Path) -> None:
    deliver(map(record, range(3)), tmp_path / "x.jsonl")
    assert names(tmp_path / "x.jsonl") == ["0.png", "1.png", "2.png"]
    deliver(map(record, range(3)), tmp_path / "new" / "x.json")
    document = json.loads((tmp_path / "new" / "x.json").read_text())
    assert [len(document[key]) for key in ("images", "annotations", "categories")] == [3, 3, 1]
    deliver(map(record, range(3)), tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text().count(",cat,") == 3
    deliver(map(record, range(3)), tmp_path / "x.txt", format="coco-results")
    assert len(json.loads((tmp_path / "x.txt").read_text())) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "x.csv", "x.jsonl", "x.txt"]  # no temporary file is left


@pytest.mark.parametrize(
    ("output", "format", "said"),
    [
        ("x.bin", None, "does not tell the format"),
        ("out/", None, "which format is the folder"),
        ("x.json", "cocoa", "unknown format 'cocoa'"),
        ("x.json", "json", "-f coco or -f jsonl"),
        ("x.txt", "table", "stdout"),
        ("taken.json", None, "taken.json exists"),
        ("taken.json/x.json", None, "is not a folder"),
    ],
)
def test_what_cannot_be_is_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, format: str | None, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.json").write_text("{}")
    with pytest.raises(UsageError) as caught:
        _output.target(output, format)
    assert said in str(caught.value)
    assert (tmp_path / "taken.json").read_text() == "{}"


@pytest.mark.parametrize("format", ["voc", "words", "png"])
def test_a_folder_of_files_does_not_go_to_stdout(format: str) -> None:
    with pytest.raises(UsageError, match=f"-f {format} is a folder of files"):
        _output.target(None, format)


@pytest.mark.parametrize("option", ["overwrite", "resume"])
def test_options_about_a_file_need_one(option: str) -> None:
    with pytest.raises(UsageError, match=f"--{option} has no effect without -o"):
        _output.target(None, **{option: True})
    with pytest.raises(UsageError, match="exclude"):
        _output.target("x.jsonl", overwrite=True, resume=True)


def test_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")
    deliver([record(1)], path, overwrite=True)
    assert json.loads(path.read_text())["images"]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv"])
def test_a_failed_run_leaves_no_half_file_and_no_old_one_lost(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        deliver(broken(2, KeyboardInterrupt()), path, overwrite=True)
    assert path.read_text() == "old"
    assert names(tmp_path / f"{name}.part") == ["0.png", "1.png"]


def test_a_run_that_failed_at_once_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CvtoolError):
        deliver(broken(0, CvtoolError("no such model")), tmp_path / "x.jsonl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv"])
def test_resume_after_a_kill(tmp_path: Path, name: str) -> None:
    """The journal holds two inputs, one that failed, and half a line."""
    path = tmp_path / name
    with pytest.raises(KeyboardInterrupt):
        deliver(broken(2, KeyboardInterrupt()), path)
    journal = tmp_path / f"{name}.part"
    with journal.open("a") as stream:
        stream.write(json.dumps(bad(2)) + "\n" + json.dumps(record(3))[:40])
    with pytest.raises(UsageError, match="did not finish"):
        _output.target(str(path))
    where = _output.target(str(path), resume=True)
    assert where.done == {("0.png", 0): 1, ("1.png", 0): 1}
    todo = list(where.pending(map(record, range(5))))
    assert [r["file_name"] for r in todo] == ["2.png", "3.png", "4.png"]
    _output.deliver(todo, where, Console("detect", quiet=True))
    assert not journal.exists()
    if name == "x.jsonl":
        assert names(path) == [f"{i}.png" for i in range(5)]
    elif name == "x.json":
        assert len(json.loads(path.read_text())["annotations"]) == 10
    else:
        assert path.read_text().count(",cat,") == 10


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_resume_adds_what_is_new_to_a_finished_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    deliver(map(record, range(2)), path)
    where = _output.target(str(path), resume=True)
    todo = list(where.pending(map(record, range(4))))
    assert [r["file_name"] for r in todo] == ["2.png", "3.png"]
    _output.deliver(todo, where, Console("detect", quiet=True))
    found = names(path) if name == "x.jsonl" else [image["file_name"] for image in json.loads(path.read_text())["images"]]
    assert [Path(n).name for n in found] == [f"{i}.png" for i in range(4)]
    if name == "x.json":
        document = json.loads(path.read_text())
        assert len({a["id"] for a in document["annotations"]}) == len(document["annotations"]) == 6
        assert document["categories"] == [{"id": 3, "name": "cat"}]


def test_resume_cannot_read_every_format_back(tmp_path: Path) -> None:
    deliver(map(record, range(2)), tmp_path / "x.csv")
    with pytest.raises(UsageError, match="cannot read a finished csv"):
        _output.target(str(tmp_path / "x.csv"), resume=True)
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


def test_pages_are_inputs_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    deliver([record(1, page=0), record(1, page=1)], path)
    where = _output.target(str(path), resume=True)
    assert [r.get("page") for r in where.pending([record(1, page=i) for i in range(3)])] == [2]


def test_a_folder_is_moved_into_place_whole(tmp_path: Path, png) -> None:
    images = [record(2).changed(file_name=str(png("a.png", 40, 30))), record(1).changed(file_name=str(png("b.png", 40, 30)))]
    deliver(images, tmp_path / "out", format="yolo")
    labels = sorted(p.name for p in (tmp_path / "out").rglob("*.txt"))
    assert {"a.txt", "b.txt"} <= set(labels)
    with pytest.raises(UsageError, match="exists"):
        _output.target(str(tmp_path / "out"), "yolo")
    (tmp_path / "out" / "mine.md").write_text("kept")
    deliver(images, tmp_path / "out", format="yolo", overwrite=True)
    assert (tmp_path / "out" / "mine.md").read_text() == "kept"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".") or p.suffix == ".part"]


def test_bad_inputs_are_told_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PartialSuccess, match="2 of 5 inputs"):
        deliver([record(0), bad(1), record(2), bad(3), record(4)], tmp_path / "x.jsonl")
    assert len(names(tmp_path / "x.jsonl")) == 5
    told = capsys.readouterr().err
    assert "cvtool detect: 1.png: truncated\n" in told
    assert "3 images, 6 objects, 2 bad inputs" in told
    with pytest.raises(InputError, match="none of the 2 inputs"):
        deliver([bad(1), bad(2)], None)
    deliver([], None)  # nothing to do is no error


def test_quiet_leaves_the_errors(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PartialSuccess):
        _output.deliver([record(0), bad(1)], _output.target(None), Console("detect", quiet=True))
    told = capsys.readouterr()
    assert told.err == "cvtool detect: 1.png: truncated\n"
    assert [json.loads(line)["file_name"] for line in told.out.splitlines()] == ["0.png", "1.png"]


def test_verbose_tells_each_input(capsys: pytest.CaptureFixture[str]) -> None:
    _output.deliver([record(2), record(1)], _output.target(None), Console("detect", verbose=1))
    assert capsys.readouterr().err.startswith("cvtool detect: 2.png: 2 objects\ncvtool detect: 1.png: 1 object\n")


def test_stdout_formats(capsys: pytest.CaptureFixture[str]) -> None:
    deliver([record(2)], None, format="coco")
    assert len(json.loads(capsys.readouterr().out)["annotations"]) == 2
    deliver([record(2)], None, format="table")
    assert capsys.readouterr().out == "2.png  40x30  2 objects\n  cat  0.500  at  1  2  size  3  4\n  cat  0.500  at  1  2  size  3  4\n"


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    deliver([record(1)], None)
    assert screen.getvalue().startswith("1.png  40x30  1 object\n  cat")


def test_table_of_labels_text_and_failures() -> None:
    labels = Record(file_name="a.png", labels=[{"category": "tabby", "score": 0.75}, {"category": "lynx", "score": 0.05}])
    assert _table.block(labels) == ["a.png", "  tabby  0.750", "  lynx   0.050"]
    assert _table.block(Record(file_name="a.png", page=2, text="one\ntwo")) == ["a.png page 2", "  one", "  two"]
    assert _table.block(bad(1)) == ["1.png: not usable"]


def test_devices_are_written_as_they_are() -> None:
    deliver([record(1)], Path("/dev/null"), format="jsonl")
    with pytest.raises(OSError, match="No space left"):
        deliver([record(1)], Path("/dev/full"), format="jsonl")


def test_ranks_meet_in_input_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processes, the last first; rank 0 puts their parts together."""
    path = tmp_path / "x.jsonl"
    records = [record(i) if i != 4 else bad(4) for i in range(8)]
    for rank in (2, 1):
        ranks = _ranks.Ranks(rank, 3, rank)
        where = _output.target(str(path), part=ranks.part)
        ranks.deliver(records[rank::3], where, Console("detect"))
    assert not path.exists()
    ranks = _ranks.Ranks(0, 3, 0)
    where = _output.target(str(path), part=ranks.part)
    with pytest.raises(PartialSuccess, match="1 of 8"):
        ranks.deliver(records[0::3], where, Console("detect"))
    assert names(path) == [f"{i}.png" for i in range(8)]
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]


def test_a_rank_that_died_is_named_and_resume_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVTOOL_RANK_TIMEOUT", "0.3")
    path = tmp_path / "x.json"
    first = _ranks.Ranks(0, 2, 0)
    with pytest.raises(CvtoolError, match="rank 1 did not finish"):
        first.deliver([record(0), record(2)], _output.target(str(path), part=(0, 2)), Console("detect"))
    with pytest.raises(UsageError, match="did not finish"):
        _output.target(str(path), part=(0, 2))
    second = _ranks.Ranks(1, 2, 1)
    second.deliver([record(1)], _output.target(str(path), resume=True, part=(1, 2)), Console("detect"))
    again = _output.target(str(path), resume=True, part=(0, 2))
    assert list(again.pending([record(0), record(2)])) == []
    first.deliver([], again, Console("detect"))
    assert [image["file_name"] for image in json.loads(path.read_text())["images"]] == ["0.png", "1.png", "2.png"]


def test_ranks_are_read_from_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _ranks.from_environment("x.json", None) is None
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert _ranks.from_environment("x.json", None) == _ranks.Ranks(3, 4, 1)
    with pytest.raises(UsageError, match="-o FILE"):
        _ranks.from_environment(None, None)
    with pytest.raises(UsageError, match="--shard"):
        _ranks.from_environment("x.json", "1/2")


def test_a_line_feed_in_a_name_tears_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    records = [Record(file_name="a\n\x1b[2Jb.png", width=1, height=1, annotations=[]), Record(file_name="c\nd.png", error="no such file")]
    assert not any(set("\n\x1b") & set(line) for record in records for line in _table.block(record))
    with pytest.raises(PartialSuccess):
        _output.deliver(records, _output.target(None, "jsonl"), Console("detect"))
    told = capsys.readouterr()
    assert "c\\nd.png: no such file\n" in told.err
    assert len(told.out.splitlines()) == 2


def test_an_input_given_twice_is_done_when_it_was_done_twice(tmp_path):
    from cvtool.records import Record

    (tmp_path / "x.jsonl.part").write_text('{"file_name": "a"}\n{"file_name": "b"}\n')
    where = _output.target(str(tmp_path / "x.jsonl"), resume=True)
    left = where.pending(Record(file_name=name) for name in ("a", "b", "a", "c"))
    assert [record["file_name"] for record in left] == ["a", "c"]
