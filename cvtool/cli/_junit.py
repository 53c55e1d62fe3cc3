"""What a CI system reads of an evaluation: JUnit XML, a test case a gate; and Markdown for the summary page of a job."""

from __future__ import annotations

import re
from typing import Any


def cases(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Gates and limits of a report as rows: name, value, passed, why."""
    rows = [{"name": row["gate"], "value": row["value"], "passed": row["passed"], "why": row["why"]} for row in report.get("gates", ())]
    limits = report.get("comparison", {}).get("limits", ())
    return rows + [
        {"name": f"drop of {row['key']} <= {row['largest']:g}", "value": row["drop"], "passed": row["passed"], "why": row["why"]} for row in limits
    ]


def junit(report: dict[str, Any]) -> str:
    """JUnit XML: one suite, a case a gate; a failure says the value."""
    rows = cases(report)
    failures = sum(not row["passed"] for row in rows)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites tests="{len(rows)}" failures="{failures}" errors="0">',
        f'  <testsuite name="cvtool evaluate" tests="{len(rows)}" failures="{failures}" errors="0" skipped="0" time="0">',
    ]
    for row in rows:
        head = f'    <testcase classname="cvtool.evaluate.{_text(report["task"])}" name="{_text(row["name"])}" time="0">'
        if row["passed"]:
            lines.append(f"{head}<system-out>{_text(row['why'])}</system-out></testcase>")
        else:
            lines.append(f'{head}<failure message="{_text(row["why"])}" type="gate">value: {_said(row["value"])}</failure></testcase>')
    return "\n".join([*lines, "  </testsuite>", "</testsuites>"]) + "\n"


def summary(report: dict[str, Any]) -> str:
    """Markdown: verdicts first, then the numbers, with interval and change where they are known."""
    rows = cases(report)
    failed = sum(not row["passed"] for row in rows)
    verdict = "" if not rows else f": {failed} of {len(rows)} gates failed" if failed else f": all {len(rows)} gates passed"
    lines = [f"### cvtool evaluate, {report['task']}{verdict}", ""]
    if rows:
        lines += ["| gate | | |", "| --- | --- | --- |"]
        lines += [f"| `{_cell(row['name'])}` | {'passed' if row['passed'] else '**failed**'} | {_cell(row['why'])} |" for row in rows] + [""]
    spans, changes = report.get("intervals", {}), report.get("comparison", {}).get("metrics", {})
    columns = ["metric", "value", *(["interval"] if spans else []), *(["baseline", "change"] if changes else [])]
    lines += ["| " + " | ".join(columns) + " |", "| " + " | ".join(["---"] + ["---:"] * (len(columns) - 1)) + " |"]
    for key, value in report["metrics"].items():
        if key.startswith("per_class."):
            continue
        cells = [f"{_cell(key)}", _said(value)]
        if spans:
            cells.append(" to ".join(_said(bound) for bound in spans.get(key, ())) or "-")
        if changes:
            row = changes.get(key, {})
            sure = {True: " (significant)", False: " (not significant)"}.get(row.get("significant"), "")
            cells += [_said(row.get("old")), _said(row.get("difference"), sign=True) + sure]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", _cell(report["matching"]), *(f"* {_cell(warning)}" for warning in report["warnings"])]
    return "\n".join(lines) + "\n\n"


def _said(value: float | None, *, sign: bool = False) -> str:
    return "-" if value is None else f"{value:{'+' if sign else ''}.4f}" if isinstance(value, float) else str(value)


def _text(value: Any) -> str:
    """For XML: escaped, without the control characters that XML cannot hold."""
    plain = re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", str(value))
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        plain = plain.replace(sign, name)
    return plain


def _cell(value: Any) -> str:
    return str(value).replace("\n", " ").replace("|", "\\|")
