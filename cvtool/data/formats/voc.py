"""Pascal VOC: one XML a picture in Annotations/, split lists in ImageSets/Main/, pictures in JPEGImages/.

Corners are 1-based and inclusive: x = xmin - 1, w = xmax - xmin + 1, and back. The picture of an XML is the one with the XML's stem (many data
sets carry wrong <filename>s); only where there is none is <filename> looked up. Boxes are read as they stand: what touches or leaves the edge
is clipped where it is used, and `cvtool data check` reports it. VOC holds no category ids: classes are numbered from 1 in the order of
classes.txt, where there is one, else of their names.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cvtool.data.formats._files import count, output_text, place, reason
from cvtool.data.names import Names
from cvtool.data.roots import Roots
from cvtool.errors import InputError
from cvtool.records import Record, categories_of

DESCRIPTION = "Pascal VOC: Annotations/*.xml, ImageSets/Main/*.txt, JPEGImages/"
SUFFIX = None
ORDER = 30
HOLDS = {"file_name", "width", "height", "annotations", "split"}
HOLDS_OF_OBJECTS = {"bbox", "category", "pose", "truncated", "difficult", "occluded", "score"}
HOLDS_OF_CATEGORIES = {"id", "name"}
MAX_XML = 64 * 1024 * 1024
_EXTRAS = ("pose", "truncated", "difficult", "occluded")
_FLAGS = ("truncated", "difficult", "occluded")


def recognises(path: Path) -> bool:
    return path.is_dir() and _annotations(path) is not None


def _annotations(path: Path) -> Path | None:
    """The folder of XML files: `Annotations/`, or the path itself."""
    for folder in (path / "Annotations", path):
        files = (Path(entry.path) for entry in os.scandir(folder) if entry.name.lower().endswith(".xml")) if folder.is_dir() else ()
        first = next(iter(files), None)
        if first is not None and (folder != path or _is_annotation(first)):
            return folder
    return None


def _is_annotation(file: Path) -> bool:
    with file.open("rb") as stream:
        return b"<annotation" in stream.read(4096)


def splits(path: Path) -> list[str]:
    folder = Path(path) / "ImageSets" / "Main"
    if not folder.is_dir():
        return []
    # `aeroplane_train.txt` lists one class with 1, 0 or -1 a line; it is no split
    found = sorted(file.stem for file in folder.glob("*.txt"))
    return [name for name in found if "_" not in name or name.rpartition("_")[2] not in found]


def categories(path: Path) -> list[dict]:
    path = Path(path)
    listed = path / "classes.txt"
    if listed.is_file():
        names = [line.strip() for line in listed.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    else:
        names = sorted({_text(found, "name") for file in _files(path) for found in _parse(file).findall("object")} - {""})
    return [{"id": i, "name": name} for i, name in enumerate(dict.fromkeys(names), 1)]


def _files(path: Path) -> list[Path]:
    from cvtool.data.inputs import natural

    folder = _annotations(path)
    if folder is None:
        raise InputError("no XML files in Annotations/", where=path)
    found = (file for file in folder.iterdir() if file.suffix.lower() == ".xml" and not file.name.startswith("."))
    return sorted(found, key=lambda file: natural(file.name))


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record an XML, in the order of the split's list, or of the file names where no split is asked for.

    <pose>, <truncated>, <difficult> and <occluded> stay on the annotations. Raises InputError naming the file.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError("no such folder", where=path)
    table = categories(path)
    ids = {category["name"]: category["id"] for category in table}
    dataset = {"categories": table, "path": str(path)}
    files = _files(path) if split is None else _listed(path, split)
    belongs = {} if split is not None else _belongs(path)
    finder = _Pictures(path, images)
    for file in files:
        record = _record(file, ids, finder)
        record.dataset, record.root = dataset, str(images or path)
        if (name := split or belongs.get(file.stem)) is not None:
            record["split"] = name
        yield record


def _belongs(path: Path) -> dict[str, str]:
    """Stem -> split; `trainval` counts only for what no narrower list names."""
    found: dict[str, str] = {}
    for name in sorted(splits(path), key=lambda name: (name == "trainval", name)):
        for file in _listed(path, name):
            found.setdefault(file.stem, name)
    return found


def _listed(path: Path, split: str) -> list[Path]:
    known = splits(path)
    if split not in known:
        raise InputError(f"no split '{split}'", where=path, hint="its splits: " + (", ".join(known) or "none"))
    lines = (path / "ImageSets" / "Main" / f"{split}.txt").read_text(encoding="utf-8-sig").splitlines()
    stems = [line.split()[0] for line in lines if line.strip()]
    folder = _annotations(path) or path
    for stem in stems:
        if "/" in stem or "\\" in stem or stem in ("..", "."):
            raise InputError(f"the name '{stem}' leads out of the data root", where=f"{path}/ImageSets/Main/{split}.txt")
    return [folder / f"{stem.removesuffix('.jpg')}.xml" for stem in stems]


class _Pictures:
    """Finds the picture of an XML: by its stem, else by <filename> under the data root."""

    def __init__(self, path: Path, images: Path | None) -> None:
        from cvtool.images import SUFFIXES

        self.roots = Roots(path, images)
        folders = [images] if images is not None else [path / "JPEGImages", path / "images", path]
        self.folder = next((Path(folder) for folder in folders if folder is not None and Path(folder).is_dir()), path)
        self.by_stem: dict[str, str] = {}
        for entry in os.scandir(self.folder):
            stem, suffix = os.path.splitext(entry.name)
            if suffix.lower() in SUFFIXES and not entry.name.startswith("."):
                self.by_stem[stem] = entry.path

    def find(self, stem: str, named: str, where: str) -> str:
        if found := self.by_stem.get(stem):
            return found
        return self.roots.find(named, where=where) if named else str(self.folder / f"{stem}.jpg")


def _record(file: Path, ids: dict[str, int], finder: _Pictures) -> Record:
    root = _parse(file)
    record = Record(file_name=finder.find(file.stem, _text(root, "filename"), where=f"{file}: filename"))
    size = root.find("size")
    if size is not None:
        width, height = (_number(size, side, file) for side in ("width", "height"))
        if width > 0 and height > 0:
            record["width"], record["height"] = int(width), int(height)
    if "width" not in record:  # some tools write 0 x 0
        with contextlib.suppress(InputError):
            record["width"], record["height"] = record.size()
    found = []
    for i, entry in enumerate(root.findall("object"), 1):
        where = f"{file}: object {i}"
        name = _text(entry, "name")
        if not name:
            raise InputError("an object without a <name>", where=where)
        if name not in ids:
            raise InputError(f"the class '{name}' is not in classes.txt", where=where)
        corners = entry.find("bndbox")
        if corners is None:
            raise InputError("an object without a <bndbox>", where=where)
        x0, y0, x1, y1 = (_number(corners, key, where) for key in ("xmin", "ymin", "xmax", "ymax"))
        box = from_corners(x0, y0, x1, y1)
        annotation: dict[str, Any] = {"bbox": box, "area": round(box[2] * box[3], 6), "iscrowd": 0, "category_id": ids[name], "category": name}
        for key in _EXTRAS:
            if text := _text(entry, key):
                annotation[key] = int(text) if key in _FLAGS and re.fullmatch(r"-?\d+", text) else text
        if text := _text(entry, "score"):
            annotation["score"] = _number(entry, "score", where)
        found.append(annotation)
    record["annotations"] = found
    return record


def from_corners(xmin: float, ymin: float, xmax: float, ymax: float) -> list[float]:
    """1-based inclusive corners -> COCO's [x, y, w, h]."""
    return [_tidy(xmin - 1), _tidy(ymin - 1), _tidy(xmax - xmin + 1), _tidy(ymax - ymin + 1)]


def to_corners(box: list[float]) -> list[float]:
    """COCO's [x, y, w, h] -> 1-based inclusive (xmin, ymin, xmax, ymax)."""
    x, y, w, h = box
    return [_tidy(x + 1), _tidy(y + 1), _tidy(x + w), _tidy(y + h)]


def _tidy(value: float) -> float:
    """Without the last bits that adding and subtracting 1 leaves behind."""
    return round(float(value), 6)


def _parse(file: Path) -> ElementTree.Element:
    try:
        if file.stat().st_size > MAX_XML:
            raise InputError(f"the XML file has more than {MAX_XML:,} bytes", where=file)
        text = file.read_bytes()
    except OSError as error:
        raise InputError(reason(error), where=file) from error
    plain = text.replace(b"\0", b"")  # UTF-16 too
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:  # entities can blow a small file up to any size
        raise InputError("the XML declares a document type, which annotations have no use for; it is refused", where=file)
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise InputError(f"not valid XML: {error}", where=file) from error
    if root.tag.lower() != "annotation":
        raise InputError(f"not a VOC annotation: the outermost element is <{root.tag[:40]}>, not <annotation>", where=file)
    return root


def _text(element: ElementTree.Element, key: str) -> str:
    return (element.findtext(key) or "").strip()


def _number(element: ElementTree.Element, key: str, where: object) -> float:
    text = _text(element, key)
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"<{key}> is {'missing' if not text else f'no number: {text!r}'}", where=where) from error
    if not abs(value) < 1e300:
        raise InputError(f"<{key}> is {text}, not a finite number", where=where)
    return value


# --- writing ---------------------------------------------------------------------------------------------------------------------------------


def write(records: Iterable[Record], out: Path, *, split: str = "train", copy_images: bool = False, **options: object) -> list[str]:
    """A VOC folder with links to the pictures (or, with `copy_images`, copies), and classes.txt, so that the classes keep their order.

    split: the list's name in ImageSets/Main for records that have none of their own.
    """
    out = Path(out)
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    names = Names()
    listed: list[Record] = []
    lists: dict[str, list[str]] = {}
    lost = {"crowd": 0, "mask": 0, "keypoints": 0, "box": 0, "picture": 0, "size": 0}
    for record in records:
        # a shell of the record is enough for the table of categories, so that masks need not stay in memory
        listed.append(Record(annotations=[{k: a[k] for k in ("category_id", "category") if k in a} for a in record.get("annotations") or ()]))
        listed[-1].dataset, listed[-1]["made_by"] = record.dataset, record.get("made_by") or []
        stem, suffix = os.path.splitext(names.take(record))
        target = out / "JPEGImages" / (stem + (suffix or ".jpg"))
        if not place(record, target, copy=copy_images):
            lost["picture"] += 1
        with output_text(out / "Annotations" / f"{stem}.xml") as stream:
            stream.write(_xml(record, target.name, lost))
        lists.setdefault(str(record.get("split") or split), []).append(stem)
    if "train" in lists and "val" in lists and "trainval" not in lists:
        lists["trainval"] = sorted(lists["train"] + lists["val"])
    for name, stems in lists.items():
        if name == ".." or Path(name).name != name:
            raise InputError(f"the split's name '{name}' is no file name")
        with output_text(out / "ImageSets" / "Main" / f"{name}.txt") as stream:
            stream.writelines(f"{stem}\n" for stem in stems)
    table = categories_of(listed)
    with output_text(out / "classes.txt") as stream:
        stream.writelines(f"{category['name']}\n" for category in table)
    return names.note() + _notes(lost, table)


def _notes(lost: dict[str, int], table: list[dict]) -> list[str]:
    notes = []
    if [category["id"] for category in table] != list(range(1, len(table) + 1)):
        notes.append("VOC holds no category ids: classes.txt keeps the order, and they read back as 1, 2, 3, ...")
    if lost["crowd"]:
        notes.append(f"VOC knows no crowds: {count(lost['crowd'], 'crowd region')} written as difficult objects")
    if lost["mask"]:
        notes.append(f"VOC's XML holds boxes only: {count(lost['mask'], 'mask')} left out")
    if lost["keypoints"]:
        notes.append(f"VOC's XML holds boxes only: the keypoints of {count(lost['keypoints'], 'object')} left out")
    if lost["box"]:
        notes.append(f"{count(lost['box'], 'annotation')} without a box left out")
    if lost["picture"]:
        notes.append(f"{count(lost['picture'], 'picture')} not found, so JPEGImages/ lacks them (--images DIR says where they are)")
    if lost["size"]:
        notes.append(f"the size of {count(lost['size'], 'picture')} is not known; it is written as 0 x 0")
    return notes


def _xml(record: Record, name: str, lost: dict[str, int]) -> str:
    root = ElementTree.Element("annotation")
    _child(root, "folder", "JPEGImages")
    _child(root, "filename", name)
    try:
        width, height = record.size()
    except InputError:
        width = height = 0
        lost["size"] += 1
    size = ElementTree.SubElement(root, "size")
    for key, value in (("width", width), ("height", height), ("depth", 3)):
        _child(size, key, value)
    _child(root, "segmented", 0)
    for annotation in record.get("annotations") or ():
        if annotation.get("bbox") is None or "category_id" not in annotation:
            lost["box"] += 1
            continue
        crowd = bool(annotation.get("iscrowd"))
        lost["crowd"] += crowd
        lost["mask"] += bool(annotation.get("segmentation"))
        lost["keypoints"] += bool(annotation.get("keypoints"))
        entry = ElementTree.SubElement(root, "object")
        _child(entry, "name", annotation.get("category", f"class{annotation['category_id']}"))
        flags: dict[str, Any] = {"pose": "Unspecified", "truncated": 0, "difficult": int(crowd)} | {
            key: annotation[key] for key in _EXTRAS if key in annotation
        }
        for key, value in flags.items():
            _child(entry, key, value)
        corners = ElementTree.SubElement(entry, "bndbox")
        for key, corner in zip(("xmin", "ymin", "xmax", "ymax"), to_corners(annotation["bbox"]), strict=True):
            _child(corners, key, _shown(corner))
        if "score" in annotation:
            _child(entry, "score", annotation["score"])
    ElementTree.indent(root, "\t")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _shown(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _child(parent: ElementTree.Element, key: str, value: object) -> None:
    ElementTree.SubElement(parent, key).text = str(value)
