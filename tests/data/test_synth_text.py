"""Made-up text: the five steps in their order, the same for a seed, characters that fonts have, quads that hold their words."""

from __future__ import annotations

import io
import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from cvtool import registry, weights
from cvtool.charsets import CHARSETS
from cvtool.cli import command
from cvtool.data import formats
from cvtool.data.formats import webdataset
from cvtool.data.synth_text import look, words
from cvtool.data.synth_text.fonts import EM, Fonts, covers
from cvtool.data.synth_text.geometry import Lie, affine, edge, tilted
from cvtool.data.synth_text.lexicon import Lexicon
from cvtool.data.synth_text.pages import Pages
from cvtool.data.synth_text.picture import annotation
from cvtool.data.synth_text.scenes import Scenes
from cvtool.data.synth_text.textures import Textures
from cvtool.data.synth_text.typeset import typeset
from cvtool.data.synth_text.words import Words
from cvtool.errors import InputError, UsageError

FOLDERS = [Path("/usr/share/fonts/truetype") / name for name in ("dejavu", "liberation", "liberation2", "freefont", "noto")]


@pytest.fixture(scope="module")
def folder() -> Path:
    """A small folder of fonts of this machine."""
    found = next((folder for folder in FOLDERS if folder.is_dir()), None)
    if found is None:
        pytest.skip("needs fonts, such as Debian's fonts-dejavu-core")
    return found


@pytest.fixture(scope="module")
def fonts(folder: Path) -> Fonts:
    return Fonts(folder, CHARSETS["latin"])


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory) -> Lexicon:
    path = tmp_path_factory.mktemp("words") / "list.txt"
    path.write_text("apple\nRiver\nstone\nGröße\nit's\nA\nof\nthe\nstreet\nnumber\nmagazine\n", encoding="utf-8")
    return Lexicon([(path, 1.0)])


@pytest.fixture(scope="module")
def textures() -> Textures:
    return Textures()


@pytest.mark.system("synth-text")
def test_the_five_steps_are_done_in_the_papers_order(monkeypatch, fonts, lexicon, textures):
    done: list[str] = []

    def told(owner, name, step):
        real = getattr(owner, name)

        def spy(*args, **options):
            if done[-1:] != [step]:
                done.append(step)
            return real(*args, **options)

        monkeypatch.setattr(owner, name, spy)

    told(words, "typeset", "font")
    told(look, "dressed", "border, shadow, colour")
    told(Lie, "warped", "distortion")
    told(look, "blended", "blending")
    told(look, "photographed", "noise")
    drawing, rng = Words(fonts, lexicon, textures), Random(5)
    for _ in range(12):
        done.clear()
        chosen = fonts.choose(rng, "street")
        assert chosen is not None
        drawing._scene(rng, *chosen)
        steps = [step for step in done if step != "font"]
        assert done[0] == "font"  # and again, where parts of other words stand around this one
        assert steps == ["border, shadow, colour", "distortion", "blending", "noise"]


@pytest.mark.system("synth-text")
def test_a_picture_depends_on_the_seed_and_its_number_alone(fonts, lexicon, textures, folder):
    drawing = Words(fonts, lexicon, textures)
    first = [drawing.draw(3, i) for i in range(6)]
    anew = Words(Fonts(folder, CHARSETS["latin"]), lexicon, Textures())
    again = [anew.draw(3, i) for i in (5, 2)]  # from the files anew, in another order
    for one, other in zip((first[5], first[2]), again, strict=True):
        assert one.text == other.text
        np.testing.assert_array_equal(one.pixels, other.pixels)
    assert any(a.text != b.text or a.pixels.shape != b.pixels.shape for a, b in zip(first, [drawing.draw(4, i) for i in range(6)], strict=True))
    for word in first:
        assert word.pixels.dtype == np.uint8
        assert word.pixels.shape[0] >= 8
        assert set(word.text) <= set(CHARSETS["latin"])
        assert word.pixels.std() > 2  # something is drawn
        assert Image.open(io.BytesIO(word.jpeg())).size == word.pixels.shape[1::-1]


def run(words: str) -> None:
    command("data").main(words.split(), standalone_mode=False)


@pytest.mark.system("synth-text")
def test_shards_hold_the_labels_and_are_the_same_for_any_number_of_processes(tmp_path, folder):
    for jobs in (1, 2):
        run(f"synth words -n 40 --fonts {folder} --seed 9 --charset alnum --max-length 9 -q -j {jobs} -o {tmp_path}/{jobs}/")
    one, other = ((tmp_path / f"{jobs}" / "words-000000.tar").read_bytes() for jobs in (1, 2))
    assert one == other
    records = list(webdataset.read(tmp_path / "1"))
    assert len(records) == 40
    assert all(set(r["text"]) <= set(CHARSETS["alnum"]) and len(r["text"]) <= 9 for r in records)
    assert len({r["text"] for r in records}) > 20
    assert webdataset.categories(tmp_path / "1") == []  # texts are no classes
    assert all(r.pixels().shape[2] == 3 for r in records[:5])
    run(f"synth words -n 2 --fonts {folder} --split val --overwrite -q -j 1 -o {tmp_path}/1/")
    assert sorted(path.name for path in (tmp_path / "1").iterdir()) == ["val-000000.tar", "words-000000.tar"]


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        ("synth words -n 5", UsageError, "-o is missing"),
        ("synth wrods -n 5 -o {}/x/", UsageError, "unknown kind of pictures 'wrods'"),
        ("synth words -n 1.5 -o {}/x/", UsageError, "-n 1.5 is no number"),
        ("synth words -n 5 --fonts {}/none -o {}/x/", InputError, "no such folder of fonts"),
        ("synth words -n 5 --fonts {} -o {}/x/", InputError, "no font with Latin letters"),
        ("synth words -n 5 --lexicon {}/none.txt -o {}/x/", InputError, "the word list cannot be read: No such file"),
        ("synth words -n 5 --lexicon a.txt=much -o {}/x/", UsageError, "'much' is no weight"),
        ("synth words -n 5 --charset lattin -o {}/x/", UsageError, "unknown character set"),
    ],
)
def test_what_cannot_be_drawn_is_said(tmp_path, words, error, told):
    with pytest.raises(error, match=told):
        run(words.replace("{}", str(tmp_path)))
    assert not (tmp_path / "x").exists()
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.system("synth-text")
def test_a_recogniser_trained_on_it_alone_reads_real_words(data):
    """Of web pictures; whoever guesses gets none in a thousand right."""
    reference = next((key for key in registry.shipped() if key.startswith("crnn") and key.endswith("@synth")), None)
    if reference is None:
        pytest.skip("no recogniser trained on made-up words ships yet")
    model, _ = weights.load(reference, offline=True)
    records = list(formats.get("words").read(data / "ocr_words_iiit5k"))[::60]
    with torch.inference_mode():
        read = [model.predict(model.prepare([record.pixels()]))[0].text for record in records]
    right = [plain(text) == plain(record["text"]) for text, record in zip(read, records, strict=True)]
    assert len(right) == 50
    assert np.mean(right) > 0.3


def plain(text: str) -> str:
    return "".join(c for c in text.lower() if c.isascii() and c.isalnum())


# ---- parts -----------------------------------------------------------------------------------------------------------


def test_the_cmap_says_what_a_font_has(folder):
    TTFont = pytest.importorskip("fontTools.ttLib").TTFont
    wanted = frozenset(CHARSETS["latin"] + "ЖΩ中\ud7ff")
    for path in sorted(folder.glob("*.ttf"))[:6]:
        table = TTFont(path, lazy=True).getBestCmap()
        assert covers(path, wanted) == [frozenset(c for c in wanted if ord(c) in table)]
    assert covers(folder / "none.ttf", wanted) == []


def test_characters_that_a_font_lacks_are_not_drawn(fonts):
    assert fonts.choose(Random(0), "中国") is None
    face, text = fonts.choose(Random(0), "Año")
    assert text == "Año"
    assert face.glyph("ñ") is not None
    assert face.glyph("中") is None  # and not the box that stands for it
    with pytest.raises(ValueError, match="has no '中'"):
        typeset(face, "中")


def test_letters_stand_in_their_order_and_spaced_ones_farther_apart(fonts):
    face, _ = fonts.choose(Random(1), "river stone", document=True)
    close, wide = typeset(face, "river stone"), typeset(face, "river stone", spacing=0.2 * EM)
    middles = (close.boxes[:, 0] + close.boxes[:, 2]) / 2
    assert (np.diff(middles) > 0).all()
    assert wide.pixels.shape[1] > close.pixels.shape[1] + 9 * 0.2 * EM
    x0, y0, x1, y1 = close.ink
    assert close.pixels[y0:y1, x0:x1].sum() == close.pixels.sum() > 0


def test_the_way_back_is_the_way_forth():
    points = edge(-100, -20, 100, 20)
    for bend in (0.0, 0.8, -1.5):
        lie = Lie(tilted(affine(0.7, stretch=1.2, slant=0.2, angle=0.3), 0.001, -0.002), bend, 200.0)
        np.testing.assert_allclose(lie.back(lie.forth(points)), points, atol=1e-6)
    hill = Lie(np.eye(3), 1.0, 200.0).forth(np.array([[-100.0, 0], [0, 0], [100, 0]]))
    assert hill[0, 1] > hill[1, 1] + 10  # the middle is highest (rows count downwards)
    np.testing.assert_allclose(hill[1], 0, atol=1e-9)


def test_texts_keep_to_the_characters_and_the_length(tmp_path):
    lexicon = Lexicon(characters=CHARSETS["digits"], max_length=4)
    texts = [lexicon.text(Random(i)) for i in range(300)]
    assert all(1 <= len(text) <= 4 and text.isdigit() for text in texts)
    assert len(set(texts)) > 100
    lexicon = Lexicon()  # the system's list, or words that can be pronounced
    texts = [lexicon.text(Random(i)) for i in range(3000)]
    kinds = {
        "capitals": lambda t: t.isupper() and t.isalpha(), "small": lambda t: t.islower() and t.isalpha(),
        "title": lambda t: t.istitle() and t.isalpha(),
        "number": str.isdigit, "price": lambda t: t[:1] in "$€£¥" and t[1:2].isdigit(), "mark": lambda t: t[-1] in ".,!?:;" and t[:-1].isalpha(),
        "date": lambda t: t.count("/") == 2 and t[0].isdigit(), "address": lambda t: t.startswith("www."),
    }  # fmt: skip
    for name, test in kinds.items():
        assert any(map(test, texts)), name
    assert not any(set(text) - set(CHARSETS["latin"]) for text in texts)


def test_words_of_a_scene_lie_where_it_says(fonts, lexicon, textures):
    drawing = Scenes(fonts, lexicon, textures)
    pictures = [drawing.draw(1, i) for i in range(5)]
    np.testing.assert_array_equal(pictures[3].pixels, Scenes(fonts, lexicon, textures).draw(1, 3).pixels)
    found = [(picture, a) for picture in pictures for a in picture.annotations]
    assert len(found) > 10
    for picture, a in found:
        quad = np.array(a["segmentation"][0]).reshape(4, 2)
        height, width = picture.pixels.shape[:2]
        assert (quad >= -1).all()
        assert (quad <= (width + 1, height + 1)).all()
        turn = np.cross(quad[1] - quad[0], quad[2] - quad[1])
        assert turn > 0  # clockwise, where rows count downwards
        assert (a["text"] == "###") == bool(a["iscrowd"])
        assert a["bbox"] == pytest.approx([*quad.min(0), *np.ptp(quad, axis=0)], abs=0.02)
    json.dumps([picture.record() for picture in pictures])


def test_ink_is_in_the_quads_of_a_page_and_nowhere_else(fonts, lexicon, textures, monkeypatch):
    """A page without rules and pictures, printed without paper and noise: every inked pixel belongs to a word."""
    monkeypatch.setattr(look, "printed", lambda rng, textures, ink, size: np.asarray(ink)[..., None].repeat(3, 2))
    for name in ("rule", "picture"):
        monkeypatch.setattr("cvtool.data.synth_text.pages._Sheet." + name, lambda *args: None)
    page = next(page for page in (Pages(fonts, lexicon, textures).draw(2, i) for i in range(9)) if len(page.annotations) > 40)
    covered = Image.new("1", page.pixels.shape[1::-1])
    for a in page.annotations:
        ImageDraw.Draw(covered).polygon(a["segmentation"][0], fill=1, outline=1, width=3)
    ink = page.pixels[..., 0] > 100
    assert ink[~np.asarray(covered)].sum() < 0.01 * ink.sum()
    read = [a["text"] for a in sorted(page.annotations, key=lambda a: (a["block"], a["line"], a["word"])) if not a["iscrowd"]]
    assert page.text is not None
    assert page.text.split() == read or any(a["iscrowd"] for a in page.annotations)


def test_low_words_need_not_be_found():
    quad = np.array([[0.0, 0], [40, 0], [40, 6], [0, 6]])
    assert annotation(quad, "tiny") | {"text": "###", "iscrowd": 1} == annotation(quad, "tiny")
    assert annotation(quad * 2, "fine", line=3) | {"text": "fine", "iscrowd": 0, "line": 3, "area": 960.0} == annotation(quad * 2, "fine", line=3)
