"""Records as a table for people: an image a block, an object a row. What a terminal shows; never parsed by a program."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import Any, TextIO

from cvtool.records import Record


def show(records: Iterable[Record], out: TextIO) -> None:
    """Write each record's block as it comes."""
    for record in records:
        out.write("\n".join(block(record)) + "\n")
        out.flush()


def block(record: Record) -> list[str]:
    """The lines of one record. Bad inputs have been told on stderr; here they are a short line."""
    if record.failed:
        return [f"{record.name}: not usable"]
    size = f"  {record['width']}x{record['height']}" if "width" in record and "height" in record else ""
    page = f" page {record['page']}" if record.get("page") else ""
    objects, labels = record.get("annotations"), record.get("labels")
    rows = [_object(entry) for entry in objects or ()] or [_label(entry) for entry in labels or ()]
    rows += [[str(entry.get("file_name")), f"{entry['score']:.3f}"] for entry in record.get("neighbors") or () if "score" in entry]
    count = f"  {len(objects)} object{'' if len(objects) == 1 else 's'}" if objects is not None else ""
    head = f"{record.name}{page}{size}{count}"
    text = record.get("text")
    extra = [f"  {line}" for line in str(text).splitlines()] if text is not None else []
    return [head, *aligned(rows), *extra]


def _object(entry: dict[str, Any]) -> list[str]:
    score = f"{entry['score']:.3f}" if isinstance(entry.get("score"), int | float) else ""
    box = entry.get("bbox")
    place = [f"{v:.0f}" for v in box] if isinstance(box, list) and len(box) == 4 else ["", "", "", ""]
    cells = [str(entry.get("category", entry.get("category_id", "?"))), score, "at", *place[:2], "size", *place[2:]]
    if not place[0]:
        cells = cells[:2]
    if "segmentation" in entry and isinstance(entry.get("area"), int | float):
        cells += ["mask", f"{entry['area']:.0f} px"]
    if "num_keypoints" in entry:
        cells += ["keypoints", str(entry["num_keypoints"])]
    return cells


def _label(entry: dict[str, Any]) -> list[str]:
    score = entry.get("score")
    return [str(entry.get("category", entry.get("category_id", "?"))), f"{score:.3f}" if isinstance(score, int | float) else ""]


def aligned(rows: list[list[str]], indent: str = "  ") -> list[str]:
    """Rows of cells as lines: the first column to the left, numbers to the right, cut at the terminal's width."""
    if not rows:
        return []
    width = shutil.get_terminal_size().columns
    columns = max(map(len, rows))
    widths = [max(len(row[i]) if i < len(row) else 0 for row in rows) for i in range(columns)]
    lines = []
    for row in rows:
        cells = [f"{cell:<{w}}" if i == 0 or not cell[:1].isdigit() else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=False))]
        lines.append((indent + "  ".join(cells)).rstrip()[:width])
    return lines


def stats(found: dict[str, Any]) -> list[str]:
    """What `cvtool data stats` says of a data set, line by line."""
    lines = [f"{found['path']}  ({found['format']})"]
    words = ("images", "objects", "empty_images", "failed_images", "crowds", "masks", "keypoints", "label_maps")
    rows = [[key.replace("_", " "), f"{found[key]:,}"] for key in words if found[key] or key in ("images", "objects")]
    for key in ("objects_per_image", "width", "height"):
        if found[key]:
            rows.append([key.replace("_", " "), f"{found[key]['min']:g}", f"to {found[key]['max']:g}", f"mean {found[key]['mean']:g}"])
    if found["objects"]:
        rows += [[key, f"{count:,}"] for key, count in found["sizes"].items()]
    rows += [[f"split {key}", f"{count:,}"] for key, count in found.get("splits", {}).items()]
    lines += aligned(rows)
    table = [[row["name"], str(row["id"]), f"{row['objects']:,}", f"{row['images']:,}"] for row in found["categories"]]
    return lines + (["", *aligned([["category", "id", "objects", "images"], *table])] if table else [])
