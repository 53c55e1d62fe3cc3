"""The report page in a real browser (headless Chromium): it sorts, filters and toggles, fits a phone, and reaches for nothing."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from cvtool.render.report import html as render

BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")

EVIL = '<img src=x onerror="window.hacked=1"></script><script>window.hacked=1</script>\''
PROBE = """
<script>
const out = {};
const all = (query, root = document) => [...root.querySelectorAll(query)];
const rows = () => all("#per-class tbody tr").filter((row) => row.offsetParent).map((row) => row.cells[0].textContent);
const column = (n) => all("#per-class tbody tr").map((row) => row.cells[n].textContent);
const cards = () => all("#cards > li").filter((card) => card.offsetParent).length;
const type = (query, text) => { const input = document.querySelector(query); input.value = text; input.dispatchEvent(new Event("input")); };
out.before = rows();
const heads = all("#per-class th button");
heads[1].click(); out.falling = column(1); out.sort = heads[1].closest("th").getAttribute("aria-sort");
heads[1].click(); out.rising = column(1);
heads[0].click(); out.names = rows(); out.only = all("#per-class th[aria-sort]").length;
type("input[data-filter=per-class]", "CLASS 1"); out.filtered = rows();
type("input[data-filter=per-class]", "");
out.cards = cards();
type("input[data-filter=cards]", "picture 2 zebra"); out.found = cards();
type("input[data-filter=cards]", "nowhere"); out.none = [cards(), !document.querySelector(".none").hidden];
type("input[data-filter=cards]", "");
const shown = (query) => all(query).some((one) => getComputedStyle(one).display !== "none");
for (const key of ["truth", "found", "labels"]) {
  const query = key === "labels" ? ".shot .label" : ".shot g." + key;
  const before = shown(query);
  document.getElementById("show-" + key).click();
  out["layer " + key] = [before, shown(query)];
  document.getElementById("show-" + key).click();
}
const image = document.querySelector(".shot img");
out.overlay = [image.getBoundingClientRect().width, document.querySelector(".shot svg").getBoundingClientRect().width];
out.hacked = window.hacked === undefined;
out.requests = performance.getEntriesByType("resource").filter((one) => !one.name.startsWith("data:")).length;
out.width = [document.documentElement.scrollWidth, window.innerWidth];
out.ready = performance.now();
const told = JSON.stringify(out);
document.body.append(Object.assign(document.createElement("pre"), { id: "probe", textContent: told }));
if (parent !== window) parent.postMessage(told, "*");
</script></body>"""
PHONE = """<!DOCTYPE html><body><iframe src="probe.html" style="width:390px;height:800px;border:0"></iframe><script>
addEventListener("message", (event) => document.body.append(Object.assign(document.createElement("pre"), { id: "probe", textContent: event.data })));
</script></body>"""


def picture() -> str:
    out = io.BytesIO()
    Image.new("RGB", (320, 240), (200, 120, 40)).save(out, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


@pytest.fixture(scope="module")
def page() -> str:
    names = [f"class {n}" for n in range(12)] + [EVIL]
    values = [0.5, None, 0.125, 1.0, 0.0, 0.75, 0.25, None, 0.875, 0.375, 0.0625, 0.9, 0.3]
    report = {
        "task": "detection",
        "metrics": {"AP": 0.25, "a very long name of a metric that nobody would choose but somebody will": 0.5},
        "per_class": {name: {"AP": value, "objects": n * 300} for n, (name, value) in enumerate(zip(names, values, strict=True))},
        "params": {"thresholds": list(range(40)), "x" * 90: EVIL},
        "counts": {"images": 5000},
        "matching": "matched " * 30,
        "warnings": [EVIL, "x" * 200],
        "confusion": {"categories": names, "matrix": [[int(i == j) for j in range(13)] for i in range(13)], "none": [1] * 13},
        "cvtool": "1",
        "charts": {
            "curves": [{"name": EVIL, "x": [k / 100 for k in range(101)], "y": [1 - k / 100 for k in range(101)]}],
            "scores": {"edges": [0, 0.5, 1], "right": [1, 2], "wrong": [3, 0]},
        },
    }
    marks = {
        "truth": [{"label": "zebra", "box": [10, 10, 90, 90], "state": "missed"}],
        "found": [{"label": EVIL, "score": 0.5, "box": [0, 0, 50, 50]}],
    }
    gallery = [{"name": f"picture {n}", "values": {"f1": n / 60}, "size": [640, 480], "picture": picture(), **marks} for n in range(60)]
    return render(report, gallery=gallery, title="A page")


def run(folder: Path, *words: str) -> str:
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=3000", *words]
    environment = {**os.environ, "HOME": str(folder)}
    return subprocess.run(command, capture_output=True, timeout=120, env=environment).stdout.decode("utf-8", "replace")


def probe(folder: Path, page: str, name: str) -> dict:
    (folder / "probe.html").write_text(page.replace("</body>", PROBE), encoding="utf-8")
    (folder / "phone.html").write_text(PHONE, encoding="utf-8")
    found = re.search(r'<pre id="probe">(.*?)</pre>', run(folder, "--window-size=1280,900", "--dump-dom", f"file://{folder / name}"), re.DOTALL)
    assert found, "the page's scripts did not come to their end"
    return json.loads(html.unescape(found[1]))


def test_sorts_filters_and_toggles(page: str, tmp_path: Path) -> None:
    out = probe(tmp_path, page, "probe.html")
    assert out["before"] == [f"class {n}" for n in range(12)] + [EVIL]  # as they stand in the report
    measured = [text for text in out["falling"] if text != "–"]
    assert measured == sorted(measured, reverse=True)
    assert out["falling"][-2:] == ["–", "–"] == out["rising"][-2:]  # what was not measured stands last, either way
    assert out["rising"][:-2] == sorted(measured)
    assert out["sort"] == "descending"
    assert out["only"] == 1
    assert out["names"] == [EVIL, *(f"class {n}" for n in range(12))]  # 10 after 9
    assert out["filtered"] == ["class 1", "class 10", "class 11"]
    assert (out["cards"], out["found"], out["none"]) == (60, 15, [0, True])  # 2, 12, 20 .. 29, 32, 42, 52
    assert out["layer truth"] == out["layer found"] == out["layer labels"] == [True, False]
    assert out["overlay"][0] == pytest.approx(out["overlay"][1])
    assert out["hacked"]
    assert out["requests"] == 0
    assert out["width"][0] <= out["width"][1]


def test_fits_a_phone(page: str, tmp_path: Path) -> None:
    out = probe(tmp_path, page, "phone.html")
    assert out["width"] == [390, 390]  # nothing hangs over the edge: wide tables scroll by themselves
    assert out["cards"] == 60


def test_looks_like_something(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    shot = tmp_path / "shot.png"
    run(tmp_path, "--window-size=800,1200", f"--screenshot={shot}", f"file://{tmp_path / 'page.html'}")
    picture = Image.open(shot).convert("RGB")
    assert picture.width == 800
    colours = picture.getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 50  # text, curves and bars, no blank page
