"""Draw what records say on their pictures: boxes, masks, keypoints, tags, label maps; beside them the truth, or the picture that they match."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cvtool.annotations import rle
from cvtool.errors import InputError
from cvtool.records import Record, choose, collect_categories
from cvtool.render import masks, matches, palette, scene, text
from cvtool.render.grid import ContactSheet

Report = Callable[[str], None]


@dataclass
class Drawing:
    """A record, the picture drawn for it (None where it has an error or no picture was asked for), and how much larger that is than the source."""

    record: Record
    image: Image.Image | None = None
    scale: float = 1.0
    size: tuple[int, int] = (0, 0)  # of the source
    objects: int = 0  # drawn

    @property
    def source(self) -> str | None:
        """The file that the picture comes from."""
        return getattr(self.record, "origin", None) or self.record.get("file_name")

    def saved_as(self, path: str | os.PathLike) -> Record:
        """The record of the new picture: `file_name` is it, `source` the old; annotations are moved into its pixels."""
        if self.image is None:
            return self.record
        moved = [_moved(a, self.size, self.scale, self.image.size) for a in self.record.get("annotations") or ()]
        other = self.record.changed(
            file_name=os.fspath(path),
            source=self.source,
            width=self.image.width,
            height=self.image.height,
            annotations=moved if "annotations" in self.record else None,
            matches=None,  # places in two pictures, of which this is neither
            page=None,
            segmentation_map=None,
        )
        other.data = None
        return other


class Truth:
    """Records of ground truth, found again for a picture: by image id where both have one, else by file name, else by base name, else by its stem."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = list(records)
        self._tables: list[tuple[Callable[[Record], Any], dict[Any, Record | None]]] = []
        for key in (_id, _path, _base, _stem):
            table: dict[Any, Record | None] = {}
            for record in self.records:
                if (name := key(record)) is not None:
                    table[name] = None if name in table else record  # two of a name decide nothing
            self._tables.append((key, table))

    def find(self, record: Record) -> Record | None:
        """The ground truth of a record's picture; None where there is none, or where its name does not decide."""
        for key, table in self._tables:
            if (name := key(record)) is not None and (found := table.get(name)) is not None:
                stems = {_stem(record), _stem(found)} - {None}
                if len(stems) < 2:  # the same id under another name is another data set's picture
                    return found
        return None


FAINT = 0.25  # objects less likely than this are not drawn unless asked for: a detector's list is long, so that its precision can be measured


def visualize(
    records: Iterable[Record],
    *,
    classes: Sequence[str | int] | None = None,
    conf: float | None = None,
    max_det: int | None = None,
    color_by: scene.ColourBy = "category",
    names: bool = True,
    line_width: float | None = None,
    scale: float | None = None,
    truth: Truth | None = None,
    sheet: ContactSheet | None = None,
    pictures: bool = True,
    report: Report | None = None,
) -> Generator[Drawing, None, None]:
    """Each record with its picture drawn, in order, one at a time. A picture that cannot be drawn is a record with `error`; the rest go on.

    classes, conf, max_det: what is drawn; what the records say is left as it is. conf passes over annotations without a score; without it objects
      (not labels) scored under FAINT are left out, which `report` hears of.
    names: tags, legends and what is said of the whole.  scale: None enlarges small pictures, see `render/scene.py`.
    truth: drawn beside each picture.  sheet: gets a cell for each; with `pictures=False` that is all that is drawn.
    Raises UsageError for a class that the records' categories do not have.
    """
    chooser, table, seen = _Chooser(classes), dict[Any, dict](), set[int]()
    bare = total = unmatched = faint = 0
    for record in records:
        if record.failed:
            yield Drawing(record)
            continue
        collect_categories(record, table, seen)
        other = truth.find(record) if truth else None
        if other is not None:
            collect_categories(other, table, seen)
        total += 1
        bare += not any(key in record for key in ("annotations", "labels", "segmentation_map", "neighbors", "matches"))
        unmatched += truth is not None and other is None
        options: dict[str, Any] = {"categories": table, "color_by": color_by, "names": names, "line_width": line_width}
        try:
            pixels = record.pixels()
            size = (pixels.shape[1], pixels.shape[0])
            factor = scene.enlargement(size) if scale is None else scale
            if isinstance(record.get("matches"), list):
                both, lines = _matched(record, pixels, conf, max_det, scale=scale, line_width=line_width, names=names)
                if sheet is not None and not sheet.full:
                    sheet.add(Path(record.name).name, scene.enlarge(both, min(1.0, sheet.scale(both.size))))
                elif sheet is not None:
                    sheet.pass_over()
                yield Drawing(record, both if pictures else None, factor, size, lines)
                continue
            sides: list[_Side | None] = [_chosen(record, size, table, chooser, conf, max_det)]
            if conf is None and sides[0] is not None:
                clear = [a for a in sides[0][0] if _score(a, 1.0) >= FAINT]
                faint += len(sides[0][0]) - len(clear)
                sides[0] = (clear, *sides[0][1:])
            if truth is not None:
                sides.append(_chosen(other, size, table, chooser, None, None) if other is not None else None)
            image = _draw(pixels, sides, factor, options) if pictures else None
            if sheet is not None and sheet.full:
                sheet.pass_over()
            elif sheet is not None:
                small = min(sheet.scale((size[0] * len(sides), size[1])), max(scene.enlargement(size), 2))
                sheet.add(Path(record.name).name, _draw(pixels, sides, small, options | {"line_width": None}))
            if sheet is not None:
                _add_neighbors(sheet, record)
        except InputError as error:
            yield Drawing(record.with_error(error))
            continue
        yield Drawing(record, image, factor, size, len(sides[0][0]) if sides[0] else 0)
    if report is not None:
        _tell(report, total, bare, unmatched, chooser)
        if faint:
            report(f"{faint} object{'s' if faint > 1 else ''} scored under {FAINT} not drawn; --conf 0 draws everything")


def _matched(
    record: Record, pixels: np.ndarray, conf: float | None, max_det: int | None, *, scale: float | None, line_width: float | None, names: bool
) -> tuple[Image.Image, int]:
    """What `embed match` says of two pictures, the best lines of it, and how many. Raises InputError."""
    found = record.get("match")
    said: dict[str, Any] = found if isinstance(found, dict) else {}
    if not isinstance(said.get("file_name"), str):
        raise InputError("its matches name no other picture", where=record.name)
    rows = [row for row in record["matches"] if isinstance(row, list) and len(row) >= 4 and all(isinstance(v, int | float) for v in row)]
    if len(rows) < len(record["matches"]):
        raise InputError("its matches are not rows of x, y, x, y", where=record.name)
    kept = [row for row in rows if conf is None or len(row) < 5 or row[4] >= conf]
    kept = sorted(kept, key=lambda row: -(row[4] if len(row) > 4 else 0.0))[: max_det or matches.MOST]
    note = f"{Path(record.name).name} - {Path(said['file_name']).name}: {len(kept)} of {len(rows)} matches"
    image = matches.draw(
        pixels, Record(file_name=said["file_name"]).pixels(), kept, shift=said.get("shift"), within=said.get("within"), scale=scale,
        line_width=line_width, note=note if names else "",
    )  # fmt: skip
    return image, len(kept)


def _add_neighbors(sheet: ContactSheet, record: Record) -> None:
    """What was found for a picture, behind it on the sheet, best first, each with its score. Pictures that cannot be read are passed over."""
    for hit in record.get("neighbors") or ():
        if sheet.full:
            sheet.pass_over()
            continue
        other = Record(file_name=hit.get("file_name"), **({"page": hit["page"]} if hit.get("page") else {}))
        try:
            pixels = other.pixels()
        except InputError:
            sheet.pass_over()
            continue
        size = pixels.shape[1], pixels.shape[0]
        small = min(sheet.scale(size), max(scene.enlargement(size), 2))
        name = f"{_score(hit, 0.0):.3f} {Path(other.name).name}"
        sheet.add(name, scene.draw(pixels, scale=small))


def _tell(report: Report, total: int, bare: int, unmatched: int, chooser: _Chooser) -> None:
    if bare:
        which = "the picture" if total == 1 else "the pictures" if bare == total else f"{bare} of {total} pictures"
        report(f"nothing is known of {which}, so nothing is drawn there; `cvtool detect ... | cvtool visualize -` draws what was found")
    if unmatched:
        report(f"no ground truth for {unmatched} of {total} pictures")
    if total and chooser.wanted is not None and not chooser.matched:
        report(f"no annotation of the classes {', '.join(map(str, chooser.wanted))}")


class _Chooser:
    """--classes, by name in any case or by id. Names are checked where a record brings the list of all its categories."""

    def __init__(self, wanted: Sequence[str | int] | None) -> None:
        self.wanted = wanted
        self.matched = False
        self._plain = {str(word).strip().lower() for word in wanted or ()}
        self._checked: set[int] = set()

    def check(self, record: Record) -> None:
        lists = [record.dataset.get("categories")] if record.dataset else []
        lists += [entry.get("categories") for entry in record.get("made_by") or ()]
        known = [category for listed in lists for category in listed or () if isinstance(category, dict) and {"id", "name"} <= category.keys()]
        if self.wanted is not None and known and hash(key := frozenset(str(category["name"]) for category in known)) not in self._checked:
            choose(known, self.wanted)
            self._checked.add(hash(key))

    def __call__(self, entry: dict[str, Any], name: str) -> bool:
        if self.wanted is None:
            return True
        fits = name.lower() in self._plain or str(entry.get("category_id")) in self._plain
        self.matched |= fits
        return fits


_Side = tuple[list[dict[str, Any]], list[dict[str, Any]], bool | None]  # annotations, labels, whether they are a map


def _chosen(record: Record, size: tuple[int, int], table: scene.Table, chooser: _Chooser, conf: float | None, max_det: int | None) -> _Side:
    """What is to be drawn of a record."""
    chooser.check(record)
    annotations = list(record.get("annotations") or ())
    semantic = None
    makers = record.get("made_by") or [{}]
    if makers[-1].get("verb") == "segment" and annotations and not any("score" in a or a.get("iscrowd") for a in annotations):
        semantic = all(isinstance(a.get("segmentation"), dict) for a in annotations) and not any("isthing" in a for a in annotations)
    if not annotations and isinstance(record.get("segmentation_map"), str):
        annotations, semantic = _label_map(record["segmentation_map"], table), True
    elif semantic is None:
        semantic = scene.is_map(annotations, size)  # before --classes makes it a part

    def kept(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        good = [e for e in entries if chooser(e, scene.name_of(e, table)) and not (conf is not None and _score(e, 1.0) < conf)]
        if max_det is not None and len(good) > max_det:
            good = sorted(good, key=lambda e: -_score(e, 0.0))[:max_det]
        return good

    return kept(annotations), kept(record.get("labels") or ()), semantic


def _score(entry: dict[str, Any], missing: float) -> float:
    score = entry.get("score")
    return float(score) if isinstance(score, int | float) else missing


def _label_map(path: str, table: scene.Table) -> list[dict[str, Any]]:
    """A label picture as annotations, one a value that is a category (any but 255 where no categories are known)."""
    from cvtool import images

    values = images.labels(path)
    known = [int(v) for v in np.unique(values) if (int(v) in table if table else v != 255)]
    return [{"category_id": value, "segmentation": values == value} for value in known]


def _draw(pixels: np.ndarray, sides: Sequence[_Side | None], scale: float, options: dict[str, Any]) -> Image.Image:
    """The picture, and beside it the one with the truth; names of the two stand below, so that the left one's coordinates stay true."""
    drawn = []
    for side in sides:
        annotations, labels, semantic = side if side is not None else ([], [], None)
        drawn.append(scene.draw(pixels, annotations, labels=labels, semantic=semantic, scale=scale, **options))
    if len(drawn) == 1:
        return drawn[0]
    gap = max(2, round(drawn[0].width / 200))
    titled = []
    for image, side, title in zip(drawn, sides, ("found", "truth"), strict=True):
        count = "none known" if side is None else str(len(side[0]) or len(side[1]))
        size = max(scene.MIN_FONT, round(image.width / 42))
        titled.append(text.below(image, [text.title(image.width, title, count, size)]))
    sheet = Image.new("RGB", (sum(image.width for image in titled) + gap, max(image.height for image in titled)), palette.INK)
    sheet.paste(titled[0], (0, 0))
    sheet.paste(titled[1], (titled[0].width + gap, 0))
    return sheet


def _moved(annotation: dict[str, Any], size: tuple[int, int], scale: float, new: tuple[int, int]) -> dict[str, Any]:
    """An annotation of a picture of `size` in the pixels of one of size `new`, in which it lies `scale` times as large at the top left."""
    if size == new and scale == 1:
        return annotation
    out = dict(annotation)
    if isinstance(out.get("bbox"), list | tuple):
        out["bbox"] = [round(v * scale, 3) for v in out["bbox"]]
    if isinstance(out.get("area"), int | float):
        out["area"] = round(out["area"] * scale * scale, 3)
    if isinstance(out.get("keypoints"), list):
        out["keypoints"] = [v if i % 3 == 2 else round(v * scale, 3) for i, v in enumerate(out["keypoints"])]
    shape = out.get("segmentation")
    if isinstance(shape, list):
        out["segmentation"] = [[round(v * scale, 3) for v in ring] for ring in shape]
    elif isinstance(shape, dict):
        full = np.zeros((new[1], new[0]), bool)
        if (part := masks.region(shape, size, scale)) is not None:
            full[part.y : part.y + part.mask.shape[0], part.x : part.x + part.mask.shape[1]] = part.mask
        out["segmentation"], out["area"] = rle(full)
    return out


def _id(record: Record) -> Any:
    return record.get("id")


def _path(record: Record) -> str | None:
    return os.path.abspath(record["file_name"]) if isinstance(record.get("file_name"), str) else None


def _base(record: Record) -> str | None:
    return os.path.basename(record["file_name"]) if isinstance(record.get("file_name"), str) else None


def _stem(record: Record) -> str | None:
    return os.path.splitext(os.path.basename(record["file_name"]))[0] if isinstance(record.get("file_name"), str) else None
