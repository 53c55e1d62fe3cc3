"""The report as one HTML page: whole, escaped, readable without a script, and with every part of the report in it."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from cvtool.render.report import html
from cvtool.render.report._text import escape, number, said

EVIL = "</script><script>alert(1)</script><b onclick=\"x\" a='&'>\x00"
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
VOID = {"meta", "link", "img", "input", "br"}


def report(**more):
    base = {
        "task": "detection",
        "iou_type": "bbox",
        "metrics": {"AP": 0.25, "AP50": None, "per_class.dog.AP": 0.5},
        "per_class": {"dog": {"AP": 0.5, "objects": 1200}, EVIL: {"AP": None, "objects": 3}},
        "params": {"max_dets": [1, 10, 100], "x": EVIL},
        "counts": {"images": 5000, "annotations": 7},
        "matching": EVIL,
        "warnings": ["one thing", EVIL],
        "cvtool": "9.9",
    }
    return base | more


CARD = {
    "name": EVIL,
    "values": {"f1": 0.125, "missed": 2},
    "size": (100, 80),
    "picture": PIXEL,
    "truth": [{"label": EVIL, "box": [1, 2, 30, 40], "state": "missed"}, {"label": "cat", "polygons": [[0, 0, 9, 0, 9, 9]], "state": "met"}],
    "found": [{"label": "dog", "score": 0.5, "box": [90, 2, 30, 40], "state": "wrong"}],
}


class Check(HTMLParser):
    """Every element is closed in order; ids are unique; what is linked to is there."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for key, value in attrs if key == "id"]
        self.links += [value for key, value in attrs if key in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"


def checked(page):
    parser = Check()
    parser.feed(page)
    parser.close()
    assert not parser.open
    assert len(set(parser.ids)) == len(parser.ids)
    assert all(link.startswith("data:") or link.lstrip("#") in parser.ids for link in parser.links)
    return parser


@pytest.fixture(scope="module")
def page():
    everything = report(
        intervals={"AP": [0.2, 0.3]},
        bootstrap={"level": 0.95, "resamples": 1000, "seed": 0, "units": 5000},
        comparison={
            "baseline": "output",
            "metrics": {"AP": {"old": 0.2, "new": 0.25, "difference": 0.05, "interval": [0.01, 0.09], "p": 0.012, "significant": True}},
            "limits": [{"limit": "0.01", "key": "AP", "largest": 0.01, "drop": -0.05, "passed": True, "why": "AP went up"}],
        },
        gates=[{"gate": "AP>=0.3", "key": "AP", "value": 0.25, "passed": False, "why": "AP is 0.25"}],
        slices={"weather": {"rain": {"units": 3, "AP": 0.1}, EVIL: {"units": 2, "AP": None}}},
        confusion={"categories": ["dog", EVIL], "matrix": [[3, 1], [0, 4]], "none": [2, 0], "background": [5, 0]},
        character_confusions=[{"true": "O", "found": "0", "count": 3}, {"true": " ", "found": "", "count": 1}],
        charts={
            "curves": [{"name": "overlap 0.50", "x": [0, 0.5, 1], "y": [1, 0.5, None]}],
            "classes": {"iou": 0.5, "classes": {EVIL: {"objects": 3, "area": 0.25, "recall": [0.1, 0.9], "precision": [1, 0.5]}}},
            "scores": {"edges": [0, 0.5, 1], "right": [1, 2], "wrong": [3, 0]},
            "calibration": {"confidence": [0.2, None], "accuracy": [0.1, None], "count": [4, 0], "ece": 0.1},
            "distribution": {"key": "f1", "edges": [0, 0.5, 1], "count": [7, 1]},
        },
        worst={"rule": "The 3 lowest."},
    )
    cards = [CARD, {"name": "text", "values": {}, "text": [["same", "a"], ["gone", EVIL], ["new", "b"]]}, {"name": "pair", "pair": {"truth": PIXEL}}]
    return html(everything, gallery=cards, title=f"Title {EVIL}")


def test_the_page_is_whole_and_well_formed(page):
    parser = checked(page)
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"""(?:https?:)?//[a-z0-9]|@import|url\(|\bfetch\(|XMLHttpRequest|<iframe""", page.replace("http-equiv", ""))
    policy = next(attrs["content"] for tag, attrs in parser.tags if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in parser.tags if tag == "th")
    assert all(attrs.get("alt") for tag, attrs in parser.tags if tag == "img")
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") for tag, attrs in parser.tags if tag == "svg")
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in parser.tags
    assert "prefers-color-scheme: dark" in page


def test_no_string_gets_out_of_its_place(page):
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<b onclick" not in page
    assert page.count("<script>") == page.count("</script>") == 1
    assert "\x00" not in page


def test_every_part_is_there(page):
    ids = checked(page).ids
    parts = ["gates", "numbers", "charts", "classes", "confusion", "characters", "slices", "worst", "protocol"]
    assert [key for key in ids if key in parts] == parts
    for text in ("0.2000 to 0.3000", "+0.0500", "significant, p = 0.012", "✗ failed", "✓ passed", "AP is 0.25", "1,200", "5,000", "The 3 lowest."):
        assert text in page, text
    for text in ("<del>", "<ins>b</ins>", 'class="missed"', 'class="wrong"', "dog 0.50", "blank", "area 0.2500", "score 0.20, right 10% of 4"):
        assert text in page, text
    assert "average precision" in page  # what AP means
    assert page.count("2 things to know") == 1


def test_what_is_not_there_takes_no_place():
    page = html(report(per_class={}, warnings=[], params={}), gallery=[], title="t")
    assert not {"gates", "charts", "classes", "confusion", "slices", "worst"} & set(checked(page).ids)
    assert "to know" not in page


def test_confused_pairs_and_shares():
    confusion = {"categories": ["a", "b"], "matrix": [[6, 2], [1, 3]], "none": [0, 4]}
    page = html(report(confusion=confusion), gallery=[], title="t")
    rows = re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td><td class="n">(.*?)</td><td class="n">(.*?)</td></tr>', page)
    assert rows == [("b", "nothing found", "4", "50%"), ("a", "b", "2", "25%"), ("b", "a", "1", "12%")]
    assert "a taken for a: 6 (75%)" in page
    many = {"categories": [f"c{i}" for i in range(150)], "matrix": [[int(i == j) for j in range(150)] for i in range(150)], "none": [0] * 150}
    assert "150 right; the matrix of 150 classes is too large to be drawn" in html(report(confusion=many), gallery=[], title="t")


def test_marks_are_bounded_and_a_missing_picture_says_why():
    card = {"name": "a", "size": (10, 10), "picture": None, "why": "not at hand", "truth": [{"label": "x", "box": [0, 0, 1, 1]}] * 500}
    page = html(report(), gallery=[card], title="t")
    assert page.count('<rect class="met"') <= 102
    assert "not at hand" in page
    assert "and 488 more" in page
    checked(page)


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.5, "0.5000"), (12.5, "12.50"), (1234.5, "1,234"), (3, "3"), (12345, "12,345"), ("x", "x"), (True, "True")]
)
def test_numbers(value, shown):
    assert number(value) == shown


def test_settings_in_words():
    assert said({"a": [1, 2.5], "b": None, "c": True}) == "a: 1, 2.5, b: –, c: yes"
    assert escape("a<b>\x07\"'&") == "a&lt;b&gt;\ufffd&quot;&#x27;&amp;"
    assert number(0.25, sign=True) == "+0.2500"


def test_no_torch_is_imported():
    code = "import sys, cvtool.render.report; print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
