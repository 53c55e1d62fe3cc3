"""Documents of pages: each format says what the page says, in the shape that its schema asks for."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvtool.data import pages
from cvtool.data.pages import _glyphless
from cvtool.page import Block, Line, Page, Quad, Word, entries
from cvtool.records import Record
from cvtool.tasks.evaluation import _text_files


def box(x0: float, y0: float, x1: float, y1: float) -> Quad:
    return (x0, y0), (x1, y0), (x1, y1), (x0, y1)


SLANTED: Quad = ((400, 200), (480, 240), (471, 258), (391, 218))
BLOCKS = (
    Block((
        Line((Word(box(50, 40, 120, 60), "Größe", 0.91), Word(box(130, 40, 200, 66), "“x<y&z”", 0.8))),
        Line((Word(box(50, 80, 120, 100), "wea-", 0.9),)),
    )),
    Block((Line((Word(box(50, 140, 120, 160), "ther,", 0.75), Word(box(130, 140, 150, 160), "a,b", None))),)),
    Block((Line((Word(SLANTED, "𝛼slant", 0.5),)),)),
)  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> Page:
    path = tmp_path / 'p"1.png'
    Image.new("RGB", (600, 300), "white").save(path, dpi=(100, 100))
    record = Record(file_name=str(path), width=600, height=300, annotations=entries(BLOCKS), made_by=[{"verb": "ocr", "model": "crnn.small@x"}])
    return Page.of(record)


def written(name: str, *sheets: Page) -> bytes:
    out = io.BytesIO()
    pages.get(name).write(sheets, out)
    return out.getvalue()


def test_names_and_suffixes():
    assert pages.names() == ["alto", "hocr", "icdar", "json", "page", "pdf", "tsv", "txt"]
    found = {name: pages.by_suffix(Path("a" + pages.get(name).SUFFIX)) for name in pages.names() if name != "icdar"}
    assert found == {name: name for name in found}
    assert all(pages.get(name).DESCRIPTION for name in pages.names())
    with pytest.raises(Exception, match="unknown format 'hoc'"):
        pages.get("hoc")


def test_txt(page):
    assert written("txt", page).decode() == "Größe “x<y&z”\nwea-\n\nther, a,b\n\n𝛼slant\n"
    assert written("txt", page, Page("b", 1, 1), page).decode().count("\f") == 2
    assert written("txt", Page("b", 1, 1)) == b""


def test_tsv_has_tesseracts_columns_and_levels(page):
    rows = [line.split("\t") for line in written("tsv", page, page).decode().splitlines()]
    assert rows[0] == "level page_num block_num par_num line_num word_num left top width height conf text".split()
    assert all(len(row) == 12 for row in rows)
    assert rows[1] == ["1", "1", "0", "0", "0", "0", "0", "0", "600", "300", "-1", ""]
    words = [row for row in rows if row[0] == "5"]
    assert [row[11] for row in words] == 2 * [word.text for word in page.words]
    assert words[0] == ["5", "1", "1", "1", "1", "1", "50", "40", "70", "20", "91", "Größe"]
    assert {row[10] for row in rows[1:] if row[0] != "5"} == {"-1"}
    assert [row[1] for row in rows if row[0] == "1"] == ["1", "2"]


# What the schema says of the elements that are written: attributes that must be there, others that may, and the order of children as an expression
# over their names, each followed by a blank. ALTO: alto-4-2.xsd of the Library of Congress. PAGE: pagecontent.xsd of 2019-07-15.
_PLACE = "HPOS VPOS WIDTH HEIGHT"
ALTO = {
    "alto": ("", "SCHEMAVERSION schemaLocation", "(Description )?(Styles )?(Tags )?Layout "),
    "Description": ("", "", "MeasurementUnit (sourceImageInformation )?(OCRProcessing )*(Processing )*"),
    "MeasurementUnit": ("", "", ""),
    "sourceImageInformation": ("", "", "(fileName )?(fileIdentifier )*"),
    "fileName": ("", "", ""),
    "Processing": (
        "ID", "", "(processingCategory )?(processingDateTime )?(processingAgency )?(processingStepDescription )*(processingStepSettings )?"
        "(processingSoftware )?",
    ),
    "processingCategory": ("", "", ""),
    "processingStepSettings": ("", "", ""),
    "processingSoftware": ("", "", "(softwareCreator )?(softwareName )?(softwareVersion )?(applicationDescription )?"),
    "softwareName": ("", "", ""),
    "softwareVersion": ("", "", ""),
    "Layout": ("", "", "(Page )+"),
    "Page": ("ID PHYSICAL_IMG_NR", "WIDTH HEIGHT PC", "(TopMargin )?(LeftMargin )?(RightMargin )?(BottomMargin )?(PrintSpace )?"),
    "PrintSpace": ("", f"ID {_PLACE}", "(Shape )?(TextBlock |Illustration |GraphicalElement |ComposedBlock )*"),
    "TextBlock": ("ID", _PLACE, "(Shape )?(TextLine )*"),
    "TextLine": ("", f"ID {_PLACE} BASELINE", "(Shape )?(String (SP )?)+(HYP )?"),
    "String": ("CONTENT", f"ID {_PLACE} WC SUBS_TYPE SUBS_CONTENT", "(Shape )?(ALTERNATIVE )*(Glyph )*"),
    "SP": ("", f"ID {_PLACE}", ""),
    "Shape": ("", "", "(Polygon |Ellipse |Circle )"),
    "Polygon": ("POINTS", "", ""),
}  # fmt: skip
PAGE = {
    "PcGts": ("", "schemaLocation pcGtsId", "Metadata Page "),
    "Metadata": ("", "externalRef", "Creator Created LastChange (Comments )?(UserDefined )?(MetadataItem )*"),
    "Creator": ("", "", ""),
    "Created": ("", "", ""),
    "LastChange": ("", "", ""),
    "Page": (
        "imageFilename imageWidth imageHeight", "orientation conf", "(AlternativeImage )*(Border )?(PrintSpace )?(ReadingOrder )?(Layers )?"
        "(Relations )?(TextStyle )?(UserDefined )?(Labels )*(TextRegion )*",
    ),
    "ReadingOrder": ("", "conf", "(OrderedGroup |UnorderedGroup )"),
    "OrderedGroup": ("id", "", "(RegionRefIndexed |OrderedGroupIndexed |UnorderedGroupIndexed )+"),
    "RegionRefIndexed": ("index regionRef", "", ""),
    "TextRegion": ("id", "type orientation", "(AlternativeImage )*Coords (TextLine )*(TextEquiv )*"),
    "TextLine": ("id", "index", "(AlternativeImage )*Coords (Baseline )?(Word )*(TextEquiv )*"),
    "Word": ("id", "", "(AlternativeImage )*Coords (Glyph )*(TextEquiv )*"),
    "Coords": ("points", "conf", ""),
    "Baseline": ("points", "conf", ""),
    "TextEquiv": ("", "index conf", "(PlainText )?Unicode "),
    "Unicode": ("", "", ""),
}  # fmt: skip


def checked(text: bytes, space: str, shapes: dict[str, tuple[str, str, str]]) -> ET.Element:
    """The document, if all of its elements are as `shapes` says and its ids are there once."""
    root = ET.fromstring(text)
    for element in root.iter():
        assert element.tag.startswith(f"{{{space}}}"), element.tag
        must, may, children = shapes[element.tag.removeprefix(f"{{{space}}}")]
        names = {name.rpartition("}")[2] for name in element.attrib}
        assert set(must.split()) <= names <= {*must.split(), *may.split()}, (element.tag, names)
        inside = "".join(child.tag.rpartition("}")[2] + " " for child in element)
        assert re.fullmatch(children, inside), (element.tag, inside)
    ids = [value for element in root.iter() for name, value in element.attrib.items() if name in ("ID", "id")]
    assert len(ids) == len(set(ids)) > 5
    return root


def test_alto_is_as_its_schema_says(page):
    space = pages.get("alto").SPACE
    root = checked(written("alto", page, page), space, ALTO)
    strings = list(root.iter(f"{{{space}}}String"))
    assert [string.get("CONTENT") for string in strings] == 2 * [word.text for word in page.words]
    assert [strings[0].get(key) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT", "WC")] == ["50", "40", "70", "20", "0.9100"]
    assert "WC" not in strings[4].attrib
    assert strings[5].find(f".//{{{space}}}Polygon").get("POINTS") == "400,200 480,240 471,258 391,218"
    assert not any("SUBS_TYPE" in string.attrib for string in strings)


def test_alto_tells_the_parts_of_a_divided_word_where_hyphens_are_joined(page):
    space = pages.get("alto").SPACE
    joined = Page.of(page.record, joined=True)
    parts = [s for s in checked(written("alto", joined), space, ALTO).iter(f"{{{space}}}String") if "SUBS_TYPE" in s.attrib]
    assert [(s.get("CONTENT"), s.get("SUBS_TYPE"), s.get("SUBS_CONTENT")) for s in parts] == [
        ("wea-", "HypPart1", "weather,"), ("ther,", "HypPart2", "weather,"),
    ]  # fmt: skip


def test_page_xml_is_as_its_schema_says(page):
    space = pages.get("page").SPACE
    root = checked(written("page", page), space, PAGE)
    points = [element.get("points") for element in root.iter() if "points" in element.attrib]
    assert all(re.fullmatch(r"(\d+,\d+ )+\d+,\d+", text) for text in points)
    said = [word.findtext(f".//{{{space}}}Unicode") for word in root.iter(f"{{{space}}}Word")]
    assert said == [word.text for word in page.words]
    order = [ref.get("regionRef") for ref in root.iter(f"{{{space}}}RegionRefIndexed")]
    assert order == [region.get("id") for region in root.iter(f"{{{space}}}TextRegion")] == ["region_1", "region_2", "region_3"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", root.findtext(f".//{{{space}}}Created"))
    with pytest.raises(ValueError, match="unpack"):
        written("page", page, page)


def test_page_xml_against_the_schema_itself(page):
    etree = pytest.importorskip("lxml.etree")
    validators = importlib.util.find_spec("ocrd_validators")  # a package that brings it
    if validators is None or validators.origin is None:
        pytest.skip("needs the schema that comes with ocrd_validators")
    schema = etree.XMLSchema(etree.parse(str(Path(validators.origin).with_name("page.xsd"))))
    schema.assertValid(etree.fromstring(written("page", page)))


def test_hocr(page):
    text = written("hocr", page, page).decode()
    root = ET.fromstring(text.replace('xmlns="http://www.w3.org/1999/xhtml"', ""))
    assert [meta.get("name") for meta in root.iter("meta")][1:] == ["ocr-system", "ocr-capabilities"]
    chain = ["ocr_page", "ocr_carea", "ocr_par", "ocr_line", "ocrx_word"]
    tags = ["div", "div", "p", "span", "span"]
    parents = {child: parent for parent in root.iter() for child in parent}
    for element in root.iter():
        if element.get("class") in chain:
            level = chain.index(element.get("class"))
            assert element.tag == tags[level]
            assert re.search(r"bbox \d+ \d+ \d+ \d+", element.get("title"))
            assert level == 0 or parents[element].get("class") == chain[level - 1]
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert {"page_1", "block_1_1", "par_1_1", "line_1_1", "word_1_1", "page_2", "word_2_6"} <= set(ids)
    words = [element for element in root.iter("span") if element.get("class") == "ocrx_word"]
    assert [word.text for word in words] == 2 * [word.text for word in page.words]
    assert words[0].get("title") == "bbox 50 40 120 60; x_wconf 91"
    lines = [element.get("title") for element in root.iter("span") if element.get("class") == "ocr_line"]
    assert "baseline 0.000 0" in lines[1]
    slope, offset = map(float, re.search(r"baseline (\S+) (\S+);", lines[3]).groups())
    assert slope == pytest.approx(0.5, abs=0.01)
    assert offset == pytest.approx(-40, abs=2)  # at the left end of the box, whose lower side is 40 pixels under the line's beginning


def test_json_is_nested_as_doctrs_is(page):
    value = json.loads(written("json", page))
    (sheet,) = value["pages"]
    assert sheet["dimensions"] == [300, 600]
    assert {"page_idx", "dimensions", "orientation", "language", "blocks"} <= sheet.keys()
    assert sheet["blocks"][0].keys() == {"geometry", "lines", "artefacts"}
    word = sheet["blocks"][0]["lines"][0]["words"][0]
    assert word == {"value": "Größe", "confidence": 0.91, "geometry": [[round(50 / 600, 6), round(40 / 300, 6)], [0.2, 0.2]]}
    assert len(sheet["blocks"][2]["lines"][0]["words"][0]["geometry"]) == 4


def test_icdar_can_be_measured(page, tmp_path):
    lines = written("icdar", page).decode().splitlines()
    assert lines[0] == "50,40,120,40,120,60,50,60,Größe"
    assert lines[4] == "130,140,150,140,150,160,130,160,a,b"
    assert pages.get("icdar").PREFIX == "res_"


def test_tables_and_texts_can_be_read_by_evaluate(page, tmp_path):
    (tmp_path / "p.txt").write_bytes(written("txt", page))
    assert _text_files.read(tmp_path / "p.txt", truth=False).texts == [page.text + "\n"]


def tool(name: str, *arguments: str) -> str:
    if not shutil.which(name):
        pytest.skip(f"needs {name}")
    done = subprocess.run([name, *arguments], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.stdout


def test_a_pdf_can_be_searched_word_for_word_at_its_place(page, tmp_path):
    path = tmp_path / "x.pdf"
    path.write_bytes(written("pdf", page, page))
    text = tool("pdftotext", "-layout", str(path), "-")
    assert text.count("\f") == 2
    for word in ("Größe", "“x<y&z”", "wea-", "ther,", "a,b"):
        assert word in text
    assert text.index("Größe") < text.index("wea-") < text.index("ther,")
    found = re.findall(r'xMin="(\S+)" yMin="(\S+)" xMax="(\S+)" yMax="(\S+)">([^<]*)<', tool("pdftotext", "-bbox", str(path), "-"))
    boxes = {text: [float(v) for v in values] for *values, text in found}
    scale = 72 / 100
    for word in list(page.words)[:5]:
        name = word.text.replace("&", "&amp;").replace("<", "&lt;")
        assert boxes[name] == pytest.approx([v * scale for v in word.box], abs=0.6), word.text
    assert "GlyphlessFont" in tool("pdffonts", str(path))


def test_words_that_touch_and_words_of_a_slanted_line_stay_words_in_a_pdf(tmp_path):
    Image.new("RGB", (600, 300), "white").save(tmp_path / "a.png")
    touching = Block((Line((Word(box(50, 40, 120, 60), "fox", 0.9), Word(box(120, 40, 200, 60), "jumps", 0.9))),))
    slanted = Block((Line((Word(((50, 200), (250, 186), (252, 206), (52, 220)), "seventeen", 0.9),)),))
    record = Record(file_name=str(tmp_path / "a.png"), width=600, height=300, annotations=entries((touching, slanted)))
    (tmp_path / "x.pdf").write_bytes(written("pdf", Page.of(record)))
    assert tool("pdftotext", str(tmp_path / "x.pdf"), "-").split() == ["fox", "jumps", "seventeen"]


@pytest.mark.parametrize("turn", [0, 90])
def test_pdfium_finds_the_text_where_it_stands(page, tmp_path, turn):
    pdfium = pytest.importorskip("pypdfium2")
    page.record["orientation"] = turn
    (tmp_path / "x.pdf").write_bytes(written("pdf", Page.of(page.record)))
    text = pdfium.PdfDocument(tmp_path / "x.pdf")[0].get_textpage()
    assert text.get_text_range().startswith("Größe")
    assert "a,b" in text.get_text_range()
    left, bottom, right, top = text.get_charbox(0)
    assert sorted((right - left, top - bottom)) == pytest.approx([10, 14.4], abs=0.5)  # 70/5 and 20 pixels at 100 to the inch


def test_a_pdf_shows_the_picture_and_none_of_the_text(page, tmp_path):
    path = tmp_path / "x.pdf"
    path.write_bytes(written("pdf", page))
    tool("pdftoppm", "-r", "50", "-png", str(path), str(tmp_path / "seen"))
    (drawn,) = tmp_path.glob("seen*.png")
    assert np.asarray(Image.open(drawn).convert("L")).min() > 250
    assert Image.open(drawn).size == pytest.approx((300, 150), abs=1)


@pytest.mark.parametrize(("mode", "space", "bits", "filter"), [
    ("1", "DeviceGray", 1, "FlateDecode"), ("L", "DeviceGray", 8, "DCTDecode"), ("RGB", "DeviceRGB", 8, "DCTDecode"),
])  # fmt: skip
def test_scans_are_kept_as_small_as_they_are(tmp_path, mode, space, bits, filter):
    from cvtool.data.pages._scan import scan

    values = np.random.default_rng(0).integers(0, 256, (64, 50, 3), np.uint8)
    image = Image.fromarray(values).convert("RGB").convert(mode)
    image.save(tmp_path / "a.tif", dpi=(300, 300))
    found = scan(Record(file_name=str(tmp_path / "a.tif")))
    assert (found.space, found.bits, found.filter, found.dpi, found.width, found.height) == (space, bits, filter, 300, 50, 64)
    if mode == "L":
        image.save(tmp_path / "a.jpg")
        assert scan(Record(file_name=str(tmp_path / "a.jpg"))).data == (tmp_path / "a.jpg").read_bytes()  # not encoded again
        assert scan(Record(file_name=str(tmp_path / "a.jpg"))).dpi == 200


def test_a_page_that_was_read_on_its_side_is_shown_upright(page, tmp_path):
    page.record["orientation"] = 90
    (tmp_path / "x.pdf").write_bytes(written("pdf", Page.of(page.record)))
    assert b"/Rotate 90" in (tmp_path / "x.pdf").read_bytes()


def test_the_invisible_font_is_one(tmp_path):
    from PIL import ImageFont

    font = ImageFont.truetype(io.BytesIO(_glyphless.font()), 100)
    assert font.getlength("ab") == 100
    assert font.getbbox("ab")[2:] == (100, 0) or font.getmask("ab").getbbox() is None
