"""boxlines: one box a line, FILE CATEGORY X Y WIDTH HEIGHT, separated by tabs."""

from itertools import groupby
from pathlib import Path

from cvtool.data.roots import Roots
from cvtool.errors import InputError
from cvtool.records import Record

DESCRIPTION = "boxlines, one box a line"
SUFFIX = ".boxlines"


def recognises(path: Path) -> bool:
    return path.suffix == SUFFIX


def splits(path: Path) -> list[str]:
    return []


def categories(path: Path) -> list[dict]:
    return [{"id": i, "name": name} for i, name in enumerate(sorted({category for _, category, _ in _rows(path)}), 1)]


def _rows(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            name, category, x, y, width, height = line.split("\t")
            yield name, category, [float(x), float(y), float(width), float(height)]
        except ValueError as error:
            raise InputError("not FILE CATEGORY X Y WIDTH HEIGHT", where=f"{path}, line {number}") from error


def read(path: Path, *, images=None, split=None):
    known, roots = categories(path), Roots(path, images)
    ids = {category["name"]: category["id"] for category in known}
    for name, rows in groupby(_rows(path), key=lambda row: row[0]):
        record = Record(annotations=[{"bbox": b, "area": b[2] * b[3], "iscrowd": 0, "category_id": ids[c], "category": c} for _, c, b in rows])
        record.dataset = {"categories": known, "path": str(path)}
        roots.put(record, name, where=str(path))  # refuses names that lead out of the data root
        yield record


def write(records, out, **options) -> list[str]:
    rows = [[record["file_name"], box["category"], *map(str, box["bbox"])] for record in records for box in record.get("annotations", ())]
    lines = ["\t".join(row) + "\n" for row in rows]
    out.writelines(lines) if hasattr(out, "write") else Path(out).write_text("".join(lines), encoding="utf-8")
    return ["boxlines holds boxes only: scores, masks and ids were left out"]
