"""`cvtool ocr`: pages, words, every way of writing them, and input that is bad in every way."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_text import WORDS, Vocabulary, page, paragraph, vocabulary
from PIL import Image

from cvtool.__main__ import main

Run = Callable[..., tuple[int, str, str]]
__all__ = ["vocabulary"]  # a fixture

TEXT = "\n".join(text for _, _, text in paragraph(0, 0, 4))


@pytest.fixture
def run(vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """`run("ocr a.png -f txt")` -> exit code, stdout, stderr; in an empty folder with a.png, a page of four lines."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(page(paragraph(60, 60, 4))).save("a.png")

    def line(words: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfdbinary.readouterr()
        code = main(words.split())
        sys.stdout.flush()
        sys.stderr.flush()
        said = capfdbinary.readouterr()
        return code, said.out.decode("utf-8", "replace"), said.err.decode()

    return line


def records(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_page_in_a_pipe_is_a_record_with_its_words(run):
    code, out, err = run("ocr a.png")
    assert code == 0
    (record,) = records(out)
    assert record["text"] == TEXT
    assert [entry["text"] for entry in record["annotations"]] == TEXT.split()
    first = record["annotations"][0]
    assert {"bbox", "segmentation", "score", "text", "category", "category_id", "block", "line", "word"} <= first.keys()
    assert (first["block"], first["line"], first["word"]) == (1, 1, 1)
    assert [entry["line"] for entry in record["annotations"][::4]] == [1, 2, 3, 4]
    assert record["made_by"][0]["verb"] == "ocr"
    assert record["made_by"][0]["detector"].startswith("page-lines")
    assert "1 image, 16 words" in err
    assert {"orientation", "skew"}.isdisjoint(record)


def test_a_terminal_gets_the_text(run, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run("ocr a.png -q")[1] == TEXT + "\n"
    assert run("ocr a.png a.png -q")[1] == f"--- a.png\n{TEXT}\n\n" * 2


def test_bytes_on_stdin(run):
    data = Path("a.png").read_bytes()
    assert run("ocr - -f txt -q", data)[:2] == (0, TEXT + "\n")
    assert records(run("ocr - -q", data)[1])[0]["file_name"] == "-"


def test_every_format_at_once_in_a_folder(run):
    Image.fromarray(page(paragraph(60, 60, 2, start=8))).save("b.png")
    code, out, err = run("ocr a.png b.png -f txt,tsv,hocr,alto,page,pdf,json,jsonl,icdar -o out/")
    assert (code, out) == (0, "")
    endings = [".alto.xml", ".hocr", ".json", ".jsonl", ".page.xml", ".pdf", ".tsv", ".txt"]
    names = sorted([*(stem + ending for stem in "ab" for ending in endings), "res_a.txt", "res_b.txt"])
    assert sorted(path.name for path in Path("out").iterdir()) == names
    assert Path("out/a.txt").read_text() == TEXT + "\n"
    assert records(Path("out/a.jsonl").read_text())[0]["text"] == TEXT
    assert len(Path("out/res_a.txt").read_text().splitlines()) == 16
    assert "in out" in err


def test_what_is_there_stays_unless_told_otherwise(run):
    assert run("ocr a.png -f txt -o out/ -q")[0] == 0
    Path("out/a.txt").write_text("mine")
    code, _, err = run("ocr a.png -f txt -o out/")
    assert code == 2
    assert "out/a.txt exists" in err
    Image.fromarray(page(paragraph(60, 60, 2))).save("b.png")
    code, _, err = run("ocr a.png b.png -f txt -o out/ --resume")
    assert code == 0
    assert "1 done before" in err
    assert Path("out/a.txt").read_text() == "mine"
    assert Path("out/b.txt").exists()
    assert run("ocr a.png -f txt -o out/ --overwrite -q")[0] == 0
    assert Path("out/a.txt").read_text() == TEXT + "\n"


def test_one_document_of_all_pages(run):
    assert run("ocr a.png a.png -o both.txt -q")[:2] == (0, "")
    assert Path("both.txt").read_text() == f"{TEXT}\n\f{TEXT}\n"
    assert run("ocr a.png a.png -o both.hocr -q")[0] == 0
    assert Path("both.hocr").read_text().count('ocr_page" id') == 2
    assert run("ocr a.png a.png -f txt -q")[1] == f"{TEXT}\n\f{TEXT}\n"
    assert run("ocr a.png -o x.jsonl -q")[0] == 0
    assert records(Path("x.jsonl").read_text())[0]["text"] == TEXT
    assert run("ocr a.png -o coco.json -q")[0] == 0
    assert len(json.loads(Path("coco.json").read_text())["annotations"]) == 16
    code, _, err = run("ocr a.png a.png -f page")
    assert code == 2
    assert "holds one page" in err


def test_the_pages_of_one_file_share_a_document(run):
    sheets = [Image.fromarray(page(paragraph(60, 60, n))) for n in (2, 3)]
    sheets[0].save("book.tif", save_all=True, append_images=sheets[1:])
    assert run("ocr book.tif -f txt,tsv,page,jsonl -o out/ -q")[0] == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["book.jsonl", "book.tsv", "book.txt", "book_page0.page.xml", "book_page1.page.xml"]
    assert Path("out/book.txt").read_text().count("\f") == 1
    assert [record["page"] for record in records(Path("out/book.jsonl").read_text())] == [0, 1]


def test_a_broken_page_in_the_middle_of_a_tiff_leaves_the_others(run):
    sheets = [Image.fromarray(page(paragraph(60, 60, n))).convert("L") for n in (2, 3, 4)]
    sheets[0].save("book.tif", save_all=True, append_images=sheets[1:], compression="tiff_lzw")
    with Image.open("book.tif") as book:
        book.seek(1)
        start = book.tag_v2[273][0]
    data = bytearray(Path("book.tif").read_bytes())
    data[start : start + 400] = bytes([255]) * 400
    Path("book.tif").write_bytes(data)
    code, out, err = run("ocr book.tif")
    assert code == 7
    found = records(out)
    assert ["error" in record for record in found] == [False, True, False]
    assert "page 1" in err
    assert found[2]["text"] == TEXT
    code, _, _ = run("ocr book.tif -f txt -o out/")
    assert code == 7
    assert Path("out/book.txt").read_text().count("\f") == 1


def test_pdf_in(run):
    pytest.importorskip("pypdfium2")
    sheets = [Image.fromarray(page(paragraph(60, 60, n))) for n in (4, 2)]
    sheets[0].save("book.pdf", save_all=True, append_images=sheets[1:], resolution=150)
    code, out, _ = run("ocr book.pdf -q")
    assert code == 0
    found = records(out)
    assert [record["page"] for record in found] == [0, 1]
    assert (found[0]["width"], found[0]["height"]) == pytest.approx((1280, 960), abs=1)
    assert found[0]["text"] == TEXT
    assert records(run("ocr - -q", Path("book.pdf").read_bytes())[1])[1]["page"] == 1
    Path("bad.pdf").write_bytes(b"%PDF-1.4\nnothing")
    code, _, err = run("ocr bad.pdf")
    assert code == 3
    assert "not a PDF that can be read" in err


def test_a_pdf_without_the_package_says_how_to_get_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    Path("x.pdf").write_bytes(b"%PDF-1.4")
    code, _, err = run("ocr x.pdf")
    assert code == 5
    assert "pip install 'cvtool[pdf]'" in err


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_pages_on_their_side_or_head_are_read_where_they_stand(run, quarters):
    Image.fromarray(np.rot90(page(paragraph(60, 60, 4)), quarters)).save("b.png")
    (record,) = records(run("ocr b.png -q")[1])
    assert record["text"] == TEXT
    assert record["orientation"] == 90 * quarters
    assert run("ocr b.png --no-straighten -f txt -q")[1] != TEXT + "\n"


def test_slanted_pages_are_read_where_they_stand(run):
    Image.fromarray(page(paragraph(60, 60, 4))).rotate(-5, expand=True, fillcolor="white", resample=Image.Resampling.BICUBIC).save("b.png")
    (record,) = records(run("ocr b.png -q")[1])
    assert record["text"] == TEXT
    assert record["skew"] == pytest.approx(5, abs=0.3)
    (ring,) = record["annotations"][0]["segmentation"]
    assert np.rad2deg(np.arctan2(ring[3] - ring[1], ring[2] - ring[0])) == pytest.approx(5, abs=0.5)


def test_columns_are_read_one_after_the_other(run):
    Image.fromarray(page([*paragraph(30, 40, 5), *paragraph(420, 40, 5, start=4)], width=800)).save("b.png")
    left, right = ([text for _, _, text in paragraph(0, 0, 5, start=start)] for start in (0, 4))
    (record,) = records(run("ocr b.png -q")[1])
    assert record["text"].split() == " ".join(left + right).split()


def test_hyphens_join_on_request(run, vocabulary):
    vocabulary.__init__([*WORDS, "gee-", "se"])
    Image.fromarray(page([(60, 60, "The quick lazy gee-"), (60, 96, "se jumps over fox")])).save("b.png")
    assert run("ocr b.png -f txt -q")[1] == "The quick lazy gee-\nse jumps over fox\n"
    assert run("ocr b.png -f txt -q --join-hyphens")[1] == "The quick lazy geese\njumps over fox\n"


def word(text: str, name: str, *, quarters: int = 0) -> None:
    image = page([(8, 8, text)], width=20 + 14 * len(text), height=44)
    Image.fromarray(np.ascontiguousarray(np.rot90(image, quarters))).save(name)


def test_words(run, vocabulary):
    Path("words").mkdir()
    for name, text in (("1.png", "quick"), ("2.png", "brown"), ("10.png", "geese")):
        word(text, f"words/{name}")
    code, out, _ = run("ocr words/ --words")
    assert code == 0
    found = records(out)
    assert [(record["file_name"], record["text"]) for record in found] == [
        ("words/1.png", "quick"),
        ("words/2.png", "brown"),
        ("words/10.png", "geese"),
    ]
    assert all(0 < record["score"] <= 1 and "annotations" not in record for record in found)
    assert vocabulary.seen == [3]  # read together
    assert run("ocr words/ --words -f txt -q")[1] == "quick\nbrown\ngeese\n"
    table = run("ocr words/ --words -f tsv -q")[1].splitlines()
    assert table[0] == "file_name\ttext\tscore"
    assert table[1].split("\t")[:2] == ["words/1.png", "quick"]
    assert run("ocr words/ --words -o w.tsv -q")[0] == 0
    assert Path("w.tsv").read_text().splitlines()[0] == table[0]


def test_words_on_their_side(run):
    for quarters in (1, 3):
        word("quick", f"{quarters}.png", quarters=quarters)
        assert records(run(f"ocr {quarters}.png --words -q")[1])[0]["text"] == "quick"


def test_a_dictionary(run):
    word("quick", "w.png")
    Path("names.txt").write_text("brown\ngrey\n", encoding="utf-8")
    assert records(run("ocr w.png --words --dictionary names.txt -q")[1])[0]["text"] in ("brown", "grey")
    for text, code, said in (("", 3, "holds no word"), ("שלום\n", 2, "right to left"), (b"\xff\xfe\xff", 3, "not UTF-8")):
        Path("bad.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        found, _, err = run("ocr w.png --words --dictionary bad.txt")
        assert (found, said in err) == (code, True), err


def test_least_scores(run):
    (record,) = records(run("ocr a.png -q")[1])
    scores = sorted(entry["score"] for entry in record["annotations"])
    assert len(records(run(f"ocr a.png -q --conf {scores[8]}")[1])[0]["annotations"]) == 8


# --- bad input -----------------------------------------------------------------------------------------------------------------------------------


def test_a_blank_page_is_read_and_empty(run):
    for name, value in (("white.png", 255), ("black.png", 0)):
        Image.fromarray(np.full((300, 200, 3), value, np.uint8)).save(name)
        code, out, _ = run(f"ocr {name}")
        assert code == 0
        (record,) = records(out)
        assert (record["annotations"], record["text"]) == ([], "")
    assert run("ocr white.png -f txt -q")[:2] == (0, "")
    assert run("ocr white.png -f txt,hocr,alto,page,pdf,json,tsv,icdar -o out/ -q")[0] == 0
    assert Path("out/white.txt").read_text() == ""


def test_a_picture_without_text(run):
    import skimage.data

    Image.fromarray(skimage.data.coffee()).save("coffee.png")
    code, out, _ = run("ocr coffee.png --conf 0.9")
    assert (code, records(out)[0]["annotations"]) == (0, [])


def test_a_scan_20000_pixels_high(run):
    Image.fromarray(page([(60, y, "The quick brown fox") for y in range(40, 19_900, 2000)], width=400, height=20_000)).save("long.png")
    (record,) = records(run("ocr long.png -q")[1])
    assert record["text"].split() == ["The", "quick", "brown", "fox"] * 10


def test_pictures_a_few_pixels_high(run):
    for size in ((40, 5), (1, 1), (5, 40)):
        Image.new("RGB", size, "white").save("tiny.png")
        for more in ("", " --words"):
            code, out, _ = run(f"ocr tiny.png{more} -q")
            assert (code, records(out)[0]["text"]) == (0, "")


def test_print_from_right_to_left_is_refused(run):
    code, _, err = run("ocr a.png --charset אבג")
    assert code == 2
    assert "right to left" in err


@pytest.mark.parametrize(("words", "code", "said"), [
    ("ocr missing.png -f txt", 3, "no such file"),
    ("ocr", 2, "no input"),
    ("ocr a.png -f txt,hocr", 2, "several formats need a folder"),
    ("ocr a.png -f txt,hocx -o out/", 2, "did you mean hocr"),
    ("ocr a.png -f txt,txt -o out/", 2, "named twice"),
    ("ocr a.png -o out/", 2, "which format"),
    ("ocr a.png -f txt --overwrite", 2, "no effect without -o"),
    ("ocr a.png -f txt -o x.txt --resume", 2, "no effect on one document"),
    ("ocr a.png --words -f hocr", 2, "words have no page"),
    ("ocr a.png --words --detector page-lines", 2, "--detector has no effect with --words"),
    ("ocr a.png --words --no-straighten", 2, "no effect with --words"),
    ("ocr a.png --overlap 0.5", 2, "no effect without --tile"),
    ("ocr a.png -m resnet", 2, "no model for ocr"),
    ("ocr a.png -m page-lines", 2, "reads no text"),
    ("ocr a.png --detector crnn.tiny@none", 2, "finds no text"),
    ("ocr a.png --beam 4", 2, "--beam has no effect"),
    ("ocr a.png --decoders 2", 2, "--decoders has no effect"),
    ("ocr a.png --output fusion", 2, "--output has no effect"),
    ("ocr a.png --save-attention looks", 2, "has no attention"),
    ("ocr a.png -o x.txt -o y.txt", 2, "two places"),
    ("ocr a.png --dictionary nowhere.txt", 3, "cannot read the dictionary"),
])  # fmt: skip
def test_what_cannot_be_is_said(run, words, code, said):
    found, out, err = run(words)
    assert (found, out) == (code, "")
    assert said in err
    assert len(err.splitlines()) <= 3


def test_the_rest_goes_on_when_one_is_bad(run):
    Path("bad.png").write_bytes(b"no picture")
    code, out, err = run("ocr bad.png a.png")
    assert code == 7
    assert ["error" in record for record in records(out)] == [True, False]
    assert "bad.png" in err
    assert run("ocr bad.png -f txt -o out/")[0] == 3


# --- with other verbs ----------------------------------------------------------------------------------------------------------------------------


def test_records_can_be_drawn_and_measured(run):
    out = run("ocr a.png -q")[1]
    Path("read.jsonl").write_text(out)
    assert run("visualize - -o seen/ -q", out.encode())[0] == 0
    drawn, plain = (np.asarray(Image.open(name).convert("RGB"), int) for name in ("seen/a.png", "a.png"))
    assert (np.abs(drawn[:480, :640] - plain) > 60).any(-1).mean() > 0.005
    Path("truth.tsv").write_text("a.png\t" + TEXT.replace("\n", " ") + "\n")
    code, said, _ = run("evaluate --gt truth.tsv --dt read.jsonl --metric wer --json")
    assert code == 0
    assert '"WER": 0.0' in said or '"wer": 0.0' in said


# --- what a model can be told --------------------------------------------------------------------------------------------------------------------


def test_how_words_were_seen_can_be_looked_at(run):
    word("quick", "w.png")
    assert run("ocr w.png a.png --words -m scatter.tiny@none --save-rectified straight --save-attention looks --decoders 1 -q")[0] == 0
    assert sorted(path.name for path in Path("straight").iterdir()) == ["a.png", "w.png"]
    for path in Path("looks").iterdir():  # a row for each character that was read
        assert Image.open(path).height % 48 == 0
    code, _, err = run("ocr w.png --words -m scatter.tiny@none --save-rectified straight")
    assert code == 2
    assert "not an empty folder" in err
    assert run("ocr w.png --words -m scatter.tiny@none --decoders 99 -q")[0] == 2


def test_whose_answer_it_is_and_where_it_goes_are_both_o(run):
    word("quick", "w.png")
    for answer in ("vision", "language", "fusion"):
        assert run(f"ocr w.png --words -m abinet.tiny@none --output {answer} -o {answer}.jsonl -q")[:2] == (0, "")
        assert records(Path(f"{answer}.jsonl").read_text())[0]["file_name"] == "w.png"
    code, _, err = run("ocr w.png --words -m abinet.tiny@none --output vision --output fusion")
    assert code == 2
    assert "two answers" in err


def test_looks_are_warm_where_the_model_looked():
    from cvtool.tasks.reading.traces import ROW, looks

    attention = np.zeros((2, 4, 8), np.float32)
    attention[0, :, :2], attention[1, :, 6:] = 1, 1
    drawn = looks(np.full((24, 96, 3), 200, np.uint8), attention).astype(int)
    assert drawn.shape == (2 * ROW, 192, 3)
    assert drawn[ROW // 2, 10, 2] < 100 < drawn[ROW // 2, 180, 2]
    assert drawn[ROW + ROW // 2, 180, 2] < 100 < drawn[ROW + ROW // 2, 10, 2]
