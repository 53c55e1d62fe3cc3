"""The tables of the report page: the numbers with interval and change, gates, classes, confusion, slices, settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cvtool.metrics import words
from cvtool.render.report._text import escape, number, said

PAIRS = 20  # confused pairs listed
MATRIX = 100  # classes up to which the matrix is drawn
THINGS = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints", "boundary": "masks and their boundaries"}


def table(head: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], caption: str, *, sortable: bool = False) -> str:
    """head: (heading, "" or "n" for numbers, "s" for what is not broken over lines); rows: cells of ready HTML, the first of which names the row."""
    kinds = [kind for _, kind in head]
    heads = "".join(f'<th scope="col"{_kind(kind)}>{escape(name)}</th>' for name, kind in head)
    body = "\n".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td{_kind(kind)}>{cell}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table{" data-sort" if sortable else ""}>'
        f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _kind(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def metrics(report: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the whole, without the classes' own."""
    return {key: value for key, value in report["metrics"].items() if not key.startswith("per_class.")}


def head(report: Mapping[str, Any]) -> str:
    """What was compared, in a line."""
    counts, task = report.get("counts", {}), str(report["task"])
    parts = [f"{THINGS.get(report.get('iou_type', ''), '')} ({task})" if report.get("iou_type") in THINGS else task]
    for key, one in (("images", "pictures"), ("annotations", "true objects"), ("detections", "found"), ("categories", "classes")):
        if counts.get(key):
            parts.append(f"{counts[key]:,} {one}")
    return " · ".join(parts)


def headline(report: Mapping[str, Any]) -> str:
    """The first numbers, large."""
    spans, changes = report.get("intervals", {}), report.get("comparison", {}).get("metrics", {})
    tiles = []
    for key, value in list(metrics(report).items())[:4]:
        more = ""
        if key in spans:
            more += f'<span class="span">{number(spans[key][0])} to {number(spans[key][1])}</span>'
        if (change := changes.get(key, {}).get("difference")) is not None:
            sure = {True: "significant", False: "not significant"}.get(changes[key].get("significant"), "")
            more += f'<span class="span">{number(change, sign=True)}{f", {sure}" if sure else ""}</span>'
        tiles.append(f"<div><dt>{escape(key)}</dt><dd>{number(value)}{more}</dd></div>")
    return f'<dl class="tiles">{"".join(tiles)}</dl>'


def warnings(report: Mapping[str, Any]) -> str:
    """What is to be known before a number is believed."""
    lines = report.get("warnings", ())
    if not lines:
        return ""
    rows = "".join(f"<li>{escape(line)}</li>" for line in lines)
    told = f"{len(lines)} {'thing' if len(lines) == 1 else 'things'} to know"
    return f'<aside class="warn" aria-label="Warnings"><strong>{told}</strong><ul>{rows}</ul></aside>'


def summary(report: Mapping[str, Any]) -> str:
    """Every number with its words, interval, baseline and change."""
    values, spans = metrics(report), report.get("intervals", {})
    changes = report.get("comparison", {}).get("metrics", {})
    told = words(list(values))
    columns = [("metric", ""), ("value", "n")] + ([("interval", "n"), ("from 0 to 1", "s")] if spans else [])
    columns += [("baseline", "n"), ("change", "n"), ("how sure", "s")] if changes else []
    columns.append(("what it is", ""))
    rows = []
    for key, value in values.items():
        row = [escape(key), f"<b>{number(value)}</b>"]
        if spans:
            low, high = spans.get(key, (None, None))
            row += [f"{number(low)} to {number(high)}" if key in spans else "–", _strip(value, low, high)]
        if changes:
            change = changes.get(key, {})
            sure = {True: "significant", False: "not significant"}.get(change.get("significant"), "")
            p = f", p = {change['p']:.3f}" if change.get("p") is not None else ""
            row += [number(change.get("old")), number(change.get("difference"), sign=True), escape(f"{sure}{p}" if sure else "")]
        rows.append([*row, escape(told.get(key, ""))])
    boot = report.get("bootstrap")
    how = (
        f"Intervals of {boot['level']:.0%} from {boot['resamples']:,} drawings of {boot['units']:,} units."
        if boot
        else "Each number with its meaning."
    )
    return table(columns, rows, how)


def _strip(value: float | None, low: float | None, high: float | None) -> str:
    """An interval on a line from 0 to 1."""
    if None in (value, low, high) or not 0 <= low <= high <= 1:  # type: ignore[operator]
        return ""
    x, left, right = (120 * v for v in (value, low, high))  # type: ignore[operator]
    return (
        f'<svg class="strip" viewBox="0 0 120 12" aria-hidden="true"><path class="grid" d="M0 6H120"/>'
        f'<rect class="fill1" x="{left:.1f}" y="3" width="{max(1.0, right - left):.1f}" height="6" rx="2"/>'
        f'<path class="mark" d="M{x:.1f} 0V12"/></svg>'
    )


def gates(report: Mapping[str, Any]) -> str:
    """What had to hold, and whether it did."""
    rows = [(row["gate"], row["passed"], row["why"]) for row in report.get("gates", ())]
    limits = report.get("comparison", {}).get("limits", ())
    rows += [(f"drop of {row['key']} at most {row['largest']:g}", row["passed"], row["why"]) for row in limits]
    if not rows:
        return ""
    failed = sum(not passed for _, passed, _ in rows)
    told = f"{failed} of {len(rows)} failed" if failed else f"all {len(rows)} passed"
    marks = {True: '<span class="ok">✓ passed</span>', False: '<span class="bad">✗ failed</span>'}
    return table([("gate", ""), ("verdict", ""), ("why", "")], [(f"<code>{escape(a)}</code>", marks[bool(b)], escape(c)) for a, b, c in rows], told)


def classes(report: Mapping[str, Any]) -> str:
    """The numbers of each class; sorted by a click."""
    found = report.get("per_class")
    if not found:
        return ""
    keys = list(dict.fromkeys(key for row in found.values() for key in row))
    rows = [[escape(name), *(_sorted(row.get(key)) for key in keys)] for name, row in found.items()]
    note = '<p class="tools" hidden><label>Classes with <input type="search" data-filter="per-class" placeholder="part of a name"></label></p>'
    body = table([("class", ""), *((key, "n") for key in keys)], rows, f"{len(found):,} classes; a heading sorts.", sortable=True)
    return f'{note}<div id="per-class">{body}</div>'


def _sorted(value: Any) -> str:
    """A number, with a bar behind it if it is a fraction."""
    if isinstance(value, float) and 0 <= value <= 1:
        return f'<span class="bar" style="--v:{value:.3f}">{number(value)}</span>'
    return number(value)


def slices(report: Mapping[str, Any]) -> str:
    """The numbers of each part of the data."""
    parts = []
    for key, groups in report.get("slices", {}).items():
        keys = list(dict.fromkeys(name for row in groups.values() for name in row))
        rows = [[escape(value), *(_sorted(row.get(name)) for name in keys)] for value, row in groups.items()]
        parts.append(table([(key, ""), *((name, "n") for name in keys)], rows, f"By {key}.", sortable=True))
    return "\n".join(parts)


def characters(found: Sequence[Mapping[str, Any]] | None) -> str:
    """Which character was read as which."""
    if not found:
        return ""
    rows = [[_glyph(row["true"]) or "<i>nothing</i>", _glyph(row["found"]) or "<i>nothing</i>", number(row["count"])] for row in found]
    return table([("there stands", ""), ("was read as", ""), ("times", "n")], rows, "The most frequent ones.", sortable=True)


def _glyph(text: str) -> str:
    shown = {" ": "blank", "\n": "line end", "\t": "tab"}.get(text)
    return f"<i>{shown}</i>" if shown else f"<code>{escape(text)}</code>" if text else ""


def confusion(found: Mapping[str, Any] | None) -> str:
    """What was taken for what: the matrix as a picture, the most confused pairs as a table."""
    if not found:
        return ""
    names, matrix, none = list(found["categories"]), found["matrix"], found.get("none") or []
    rows = [[*row, missed] for row, missed in zip(matrix, none or [0] * len(matrix), strict=True)]
    rights = [(name, row[i]) for i, (name, row) in enumerate(zip(names, rows, strict=True))]
    across, down = [*names, "nothing found"], list(names)
    if background := found.get("background"):
        rows, down = [*rows, [*background, 0]], [*names, "background"]
    pairs = [
        (row[j], down[i], across[j], row[j] / max(1, sum(row)))
        for i, row in enumerate(rows)
        for j in range(len(row))
        if row[j] and (i != j or i >= len(names))
    ]
    pairs.sort(key=lambda pair: -pair[0])
    shown = [[escape(true), escape(other), number(times), f"{share:.0%}"] for times, true, other, share in pairs[:PAIRS]]
    head = [("it is", ""), ("it was taken for", ""), ("times", "n"), ("of those", "n")]
    listed = table(head, shown, f"The {min(PAIRS, len(pairs))} most frequent of {len(pairs):,} confusions." if pairs else "Nothing was confused.")
    note = f'<p class="about">{escape(found["note"])}</p>' if found.get("note") else ""
    if len(names) > MATRIX or not names:
        right = sum(times for _, times in rights)
        return f'{note}{listed}<p class="about">{right:,} right; the matrix of {len(names)} classes is too large to be drawn.</p>'
    return f'{note}<div class="two">{_matrix(rows, down, across)}{listed}</div>'


def _matrix(rows: Sequence[Sequence[float]], down: Sequence[str], across: Sequence[str]) -> str:
    """Cells shaded by their share of the row."""
    cell = 26 if len(down) <= 12 else 16 if len(down) <= 30 else 10 if len(down) <= 60 else 7
    longest = max(map(len, [*down, *across]))
    edge = min(150, 7 * longest + 12) if cell >= 16 else 8
    small = cell >= 16
    marks = []
    for i, row in enumerate(rows):
        total = sum(row) or 1
        y = edge + i * cell
        if small:
            marks.append(f'<text x="{edge - 6}" y="{y + cell / 2 + 4}" text-anchor="end">{escape(_short(down[i]))}</text>')
        for j, value in enumerate(row):
            if not value:
                continue
            x, share = edge + j * cell, value / total
            label, side = escape(f"{down[i]} taken for {across[j]}: {number(value)} ({share:.0%})"), cell - 1
            kind = "right" if i == j else "wrong"
            marks.append(
                f'<g><title>{label}</title><rect class="{kind}" x="{x}" y="{y}" width="{side}" height="{side}" opacity="{0.15 + 0.85 * share:.2f}"/>'
            )
            if cell >= 26:
                marks.append(f'<text class="in" x="{x + cell / 2 - 0.5}" y="{y + cell / 2 + 4}" text-anchor="middle">{_brief(value)}</text>')
            marks.append("</g>")
    if small:
        marks += [
            f'<text transform="translate({edge + j * cell + cell / 2 + 4} {edge - 6}) rotate(-90)">{escape(_short(name))}</text>'
            for j, name in enumerate(across)
        ]
    width, height = edge + len(across) * cell + 2, edge + len(down) * cell + 2
    grid = f'<rect class="box" x="{edge - 0.5}" y="{edge - 0.5}" width="{len(across) * cell}" height="{len(down) * cell}"/>'
    told = f"Confusion matrix of {len(down)} rows (what it is) and {len(across)} columns (what it was taken for)"
    return (
        f'<figure class="wide" tabindex="0"><svg class="matrix" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{told}">{grid}{"".join(marks)}</svg><figcaption>Rows: what it is. Columns: what it was taken for.</figcaption></figure>'
    )


def _short(name: str) -> str:
    return name if len(name) <= 19 else f"{name[:18]}…"


def _brief(value: float) -> str:
    return f"{value:,.0f}" if value < 1000 else f"{value / 1000:.0f}k" if value < 1e6 else f"{value / 1e6:.0f}M"


def protocol(report: Mapping[str, Any]) -> str:
    """Settings and counts."""
    parts = [f"<p>{escape(report.get('matching', ''))}</p>"]
    for key, name in (("params", "Settings"), ("counts", "Counts")):
        if report.get(key):
            rows = [[escape(one), escape(number(value) if type(value) is int else said(value))] for one, value in report[key].items()]
            parts.append(table([("", ""), ("", "")], rows, name))
    if report.get("backend"):
        parts.append(f'<p class="about">Engine: {escape(report["backend"])}</p>')
    return f'<div class="pair">{"".join(parts)}</div>'
