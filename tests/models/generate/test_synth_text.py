"""Synthetic text from the verb: pictures with their labels, and what `--set` says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.cli import command
from cvtool.errors import UsageError

FONTS = next((folder for name in ("dejavu", "liberation", "freefont") if (folder := Path("/usr/share/fonts/truetype") / name).is_dir()), None)
pytestmark = pytest.mark.skipif(FONTS is None, reason="needs fonts, such as Debian's fonts-dejavu-core")


@pytest.mark.system("synth-text")
def test_pictures_are_seeded_and_of_one_size(tmp_path):
    model = weights.build("synth-text.tiny", categories=[])
    options = {"fonts": str(FONTS), "charset": "digits", "max_length": 5}
    found = model.sample(4, 7, **options)
    assert found.shape == (4, 3, 24, 64)
    assert 0 <= found.min() < found.max() <= 1
    assert torch.equal(model.sample(2, 7, start=2, **options), found[2:])
    assert not torch.equal(model.sample(4, 8, **options), found)
    texts = model.texts(4, 7, **options)
    assert all(text.isdigit() and len(text) <= 5 for text in texts)
    assert model.texts(1, 7, start=3, **options) == texts[3:]
    assert model.sample(1, 7, size="40x30", **options).shape == (1, 3, 30, 40)
    for wrong in ({"size": "40"}, {"max_length": 0}, {"charset": "digitss"}):
        with pytest.raises(UsageError):
            model.sample(1, 7, **{**options, **wrong})


@pytest.mark.system("synth-text")
def test_the_labels_go_along_with_the_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("apple\nriver\n")
    words = f"-m synth-text.tiny -n 6 --seed 2 --set fonts={FONTS} --set lexicon=list.txt --set charset=alnum -o words/ -q"
    command("generate").main(words.split(), standalone_mode=False)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(record["file_name"]).name for record in records] == [f"{i:04d}.png" for i in range(6)]
    assert all(Image.open(record["file_name"]).size == (64, 24) for record in records)
    model = weights.build("synth-text.tiny", categories=[])
    assert [record["text"] for record in records] == model.texts(6, 2, fonts=str(FONTS), lexicon="list.txt", charset="alnum")
    assert any("apple" in record["text"] or "river" in record["text"] for record in records)
