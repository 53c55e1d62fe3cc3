"""The worst units of the report page: pictures with what is there and what was found, texts with what was misread, pairs of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cvtool.render.report._text import escape, number

STATES = {"met": "true, found", "missed": "true, missed", "right": "found, right", "wrong": "found, wrong", "spared": "need not be found"}
MARKS = 100  # drawn of a side
LINES = 12  # of the list below a picture


def section(report: Mapping[str, Any], gallery: Sequence[Mapping[str, Any]]) -> str:
    """Cards, worst first, and what shows and hides their layers: plain check boxes that need no script."""
    if not gallery:
        return ""
    layers = any(card.get("truth") or card.get("found") for card in gallery)
    sides = layers or any(card.get("pair") for card in gallery)
    boxes = (
        (("truth", "what is there"), ("found", "what was found"), ("labels", "labels"))
        if layers
        else (("truth", "what is there"), ("found", "what was found"))
    )
    tools = "".join(f'<label><input type="checkbox" id="show-{key}" checked> {name}</label>' for key, name in boxes) if sides else ""
    search = '<label hidden class="search">only with <input type="search" data-filter="cards" placeholder="a name, a class"></label>'
    states = {mark.get("state") for card in gallery for side in ("truth", "found") for mark in card.get(side, ())}
    legend = "".join(
        f'<li><svg viewBox="0 0 16 12" aria-hidden="true"><rect class="{key}" x="2" y="2" width="12" height="8"/></svg>{name}</li>'
        for key, name in STATES.items()
        if key in states
    )
    rule = report.get("worst", {}).get("rule", "")
    note = f'<p class="about">{escape(rule)}</p>' if rule else ""
    legend = f'<ul class="legend marks">{legend}</ul>' if legend else ""
    cards = "\n".join(_card(card, place) for place, card in enumerate(gallery, 1))
    none = '<p class="none" hidden>None of them.</p>'
    return f'{note}<div class="tools">{tools}{search}</div>{legend}\n<ol id="cards" class="cards">\n{cards}\n</ol>{none}'


def _card(card: Mapping[str, Any], place: int) -> str:
    values = "".join(f"<div><dt>{escape(key)}</dt><dd>{number(value)}</dd></div>" for key, value in card.get("values", {}).items())
    marks = [mark for side in ("truth", "found") for mark in card.get(side, ())]
    line = f"<p>{escape(card['line'])}</p>" if card.get("line") else ""
    words = " ".join(dict.fromkeys([str(card["name"]), str(card.get("line", "")), *(str(mark.get("label", "")) for mark in marks)]))
    body = _pair(card, place) if card.get("pair") else _picture(card, place) if "picture" in card or marks else ""
    return (
        f'<li class="card" data-words="{escape(words.lower())}"><article>{body}{_reading(card)}<h3>{escape(card["name"])}</h3>{line}'
        f"<dl>{values}</dl>{_listed(card)}</article></li>"
    )


def _picture(card: Mapping[str, Any], place: int) -> str:
    """The picture, or a place for it, with the marks of both sides over it."""
    width, height = card.get("size") or (4, 3)
    truth, found = card.get("truth", ()), card.get("found", ())
    told = f"{card['name']}: {len(truth)} true, {len(found)} found"
    under = (
        f'<img src="{escape(card["picture"])}" alt="{escape(told)}" loading="lazy">'
        if card.get("picture")
        else f'<p class="empty">{escape(card.get("why") or "no picture")}</p>'
    )
    unit = max(width / 250, height / 187)  # of the picture for one on the screen, where a card is about so large
    layers = "".join(
        f'<g class="{side}">' + "".join(_mark(mark, unit, (width, height), side) for mark in marks[:MARKS]) + "</g>"
        for side, marks in (("truth", truth), ("found", found))
        if marks
    )
    over = f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{layers}</svg>' if layers and card.get("size") else ""
    return f'<div class="shot">{under}{over}</div>'


def _mark(mark: Mapping[str, Any], unit: float, size: tuple[float, float], side: str) -> str:
    """A box or polygons and its label."""
    kind = mark.get("state") or ("met" if side == "truth" else "right")
    label = escape(_label(mark))
    x, y = 0.0, 0.0
    if polygons := mark.get("polygons"):
        shape = "".join(f'<polygon class="{kind}" points="{" ".join(f"{v:g}" for v in ring)}"/>' for ring in polygons)
        x, y = min(v for ring in polygons for v in ring[::2]), min(v for ring in polygons for v in ring[1::2])
    elif box := mark.get("box"):
        x, y, w, h = box
        shape = f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}"/>'
    else:
        return ""
    if kind in ("met", "spared"):  # what found it says the same
        return f"<g><title>{label}</title>{shape}</g>"
    font = 10 * unit
    wide = 0.62 * font * len(_label(mark)) + font * 0.5
    left = min(max(0.0, x), max(0.0, size[0] - wide))
    top = y - font * 1.15 if side == "found" and y > font * 1.2 else max(0.0, y)
    text = (
        f'<g class="label"><rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{font * 1.15:.1f}"/>'
        f'<text x="{left + font * 0.25:.1f}" y="{top + font * 0.9:.1f}" style="font-size:{font:.1f}px">{label}</text></g>'
    )
    return f"<g><title>{label}</title>{shape}{text}</g>"


def _label(mark: Mapping[str, Any]) -> str:
    score = mark.get("score")
    name = str(mark.get("label", ""))
    name = name if len(name) <= 24 else f"{name[:23]}…"
    return f"{name} {score:.2f}".strip() if isinstance(score, (int, float)) else name


def _pair(card: Mapping[str, Any], place: int) -> str:
    """Two pictures side by side."""
    parts = []
    for side, name in (("truth", "what is there"), ("found", "what was found")):
        source = card["pair"].get(side)
        told = escape(f"{name}: {card['name']}")
        shown = f'<img src="{escape(source)}" alt="{told}" loading="lazy">' if source else '<p class="empty">no picture</p>'
        parts.append(f'<figure class="{side}">{shown}<figcaption>{name}</figcaption></figure>')
    return f'<div class="sides">{"".join(parts)}</div>'


def _reading(card: Mapping[str, Any]) -> str:
    """A text with what was misread; what is missing is struck through, what is too much underlined."""
    if "text" not in card:
        return ""
    names = {"same": "span", "gone": "del", "new": "ins"}
    parts = "".join(f"<{names[kind]}>{escape(text)}</{names[kind]}>" for kind, text in card["text"])
    return f'<p class="reading">{parts or "<i>nothing</i>"}</p>'


def _listed(card: Mapping[str, Any]) -> str:
    """The marks in words, those that went wrong first: for who cannot see them, or the picture."""
    marks = [(mark, side) for side in ("truth", "found") for mark in card.get(side, ())]
    if not marks:
        return ""
    order = ("missed", "wrong", "right", "met", "spared")
    ranked = sorted(marks, key=lambda item: order.index(item[0].get("state") or ("met" if item[1] == "truth" else "right")))
    rows = "".join(
        f'<li class="{side}">{escape(STATES.get(mark.get("state", ""), "there" if side == "truth" else "found"))}: {escape(_label(mark))}</li>'
        for mark, side in ranked[:LINES]
    )
    more = f"<li>and {len(ranked) - LINES} more</li>" if len(ranked) > LINES else ""
    return f"<details><summary>{len(marks)} marks in words</summary><ul>{rows}{more}</ul></details>"
