"""The report of an evaluation as one HTML file that needs nothing else: no server, no network, no other file; and hardly a script.

Numbers, charts and pictures are in the page as it stands; the script (`page.js`) only sorts tables and filters. Colours follow the reader's choice of
light or dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvtool.render.report import _charts, _gallery, _tables
from cvtool.render.report._text import escape

_HERE = Path(__file__).parent
# nothing may be fetched, and nothing but the page's own lines runs: a name in a data set cannot reach out either
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def html(report: Mapping[str, Any], *, gallery: Sequence[Mapping[str, Any]], title: str) -> str:
    """The page.

    report: as `cvtool.tasks.evaluate` returns it. `charts`, where it is there, is drawn too: `curves` (name, x, y), `classes` (as of the metric
    pr-curve), `scores` (edges, right, wrong), `calibration` (confidence, accuracy, count, ece), `distribution` (key, edges, count) and `confusion`.
    gallery: units, worst first, as of `cvtool.tasks.evaluation._page`. title: of the page. Every string is escaped.
    """
    charts = dict(report.get("charts", {}))
    parts = [
        ("gates", "Gates", _tables.gates(report)),
        ("numbers", "Numbers", _tables.summary(report)),
        ("charts", "Charts", _charts.section(report, charts)),
        ("classes", "Classes", _tables.classes(report)),
        ("confusion", "Confusion", _tables.confusion(report.get("confusion") or charts.get("confusion"))),
        ("characters", "Characters misread", _tables.characters(report.get("character_confusions"))),
        ("slices", "Slices", _tables.slices(report)),
        ("worst", "Worst first", _gallery.section(report, gallery)),
        ("protocol", "How it was measured", _tables.protocol(report)),
    ]
    shown = [(key, name, body) for key, name, body in parts if body]
    links = "".join(f'<a href="#{key}">{escape(name)}</a>' for key, name, _ in shown)
    body = "\n".join(
        f'<section id="{key}" aria-labelledby="{key}-h"><h2 id="{key}-h">{escape(name)}</h2>\n{part}\n</section>' for key, name, part in shown
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="generator" content="cvtool {escape(report.get("cvtool", ""))}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{(_HERE / "page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="about">{escape(_tables.head(report))}</p>
{_tables.headline(report)}
</header>
<nav aria-label="Parts of the report">{links}</nav>
<main>
{_tables.warnings(report)}
{body}
</main>
<footer><p>Written by cvtool {escape(report.get("cvtool", ""))}. The page is whole: it loads nothing from anywhere.</p></footer>
<script>
{(_HERE / "page.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""
