"""Word lists as a data set: for models that learn words, not pictures."""

import pytest

from cvtool.data import formats
from cvtool.errors import InputError
from cvtool.records import Record


def test_a_word_a_line_is_recognised_and_read(tmp_path):
    for name in ("words.txt", "words"):
        path = tmp_path / name
        path.write_text("\ufeffapple\n\nGröße\r\nBIG\n", encoding="utf-8")
        assert formats.recognise(path) == "word-list"
        records = list(formats.get("word-list").read(path))
        assert [(record["id"], record["text"]) for record in records] == [(1, "apple"), (3, "Größe"), (4, "BIG")]
        assert all(record.pixels().shape == (1, 1, 3) and record.present() for record in records)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"two words\n", b"\xff\xfe\x00\n", b"x" * 200])
def test_what_is_no_list_of_words(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(InputError):
        formats.recognise(path)


def test_another_encoding_further_down_is_said(tmp_path):
    path = tmp_path / "words"
    path.write_bytes(b"apple\n" * 60 + "Größe\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"not UTF-8 text.*\n?.*line 61"):
        list(formats.get("word-list").read(path))


def test_the_texts_of_any_pictures_can_be_written_as_one(tmp_path):
    records = [Record(file_name="a.png", text="STOP"), Record(file_name="b.png", text="two words"), Record(file_name="c.png")]
    assert formats.get("word-list").write(records, tmp_path / "out.txt") == ["1 picture without text left out"]
    assert (tmp_path / "out.txt").read_text() == "STOP\ntwo words\n"
