"""Pictures with label maps: one gray or palette PNG a picture, whose pixel values are the classes.

Layouts: `train/` beside `trainannot/` (CamVid); `images/` beside `masks/` (or labels, annotations, gt, SegmentationClass), each with split folders
or not; `train/images` beside `train/masks`; and lists `train.txt` of "picture label" a line, which then decide order and membership.

A record's `segmentation_map` is the path of its label map, opened only where it is used. Category ids are the pixel values. Names come from
classes.txt ("index name ..." or a name a line), else the values found; void, unlabelled and ignore are no categories, and neither is 255.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cvtool.data.formats._files import count, output_text, place
from cvtool.data.names import Names
from cvtool.data.roots import Roots
from cvtool.errors import InputError
from cvtool.records import Record, categories_of

if TYPE_CHECKING:
    import numpy as np

DESCRIPTION = "pictures and label maps: images/ and masks/, train/ and trainannot/, or lists of both"
SUFFIX = None
ORDER = 50
HOLDS = {"file_name", "width", "height", "annotations", "segmentation_map", "split"}
HOLDS_OF_OBJECTS = {"segmentation", "category_id", "category"}
IGNORE = 255
_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
_IMAGES = ("images", "image", "imgs", "img", "rgb", "JPEGImages")
_MASKS = ("masks", "mask", "labels", "label", "annotations", "gt", "SegmentationClass")
_VOID = re.compile(r"(?i)^(void|un-?label+ed|ignored?)$")
_ENDINGS = ("", "_mask", "_masks", "_label", "_labels", "_gt", "_labelIds", "_L", "_seg")
_MAPS = (".png", ".bmp", ".tif", ".tiff", ".gif")


def recognises(path: Path) -> bool:
    from cvtool.data.formats import instances

    return path.is_dir() and "masks" in instances.kinds(path)


def splits(path: Path) -> list[str]:
    path = Path(path)
    if lists := _lists(path):
        for file in (path / f"{name}.txt" for name in _SPLITS if name not in lists):
            if file.is_file():
                raise InputError("a line is the names of a picture and of its label map", where=f"{file}:1")
    found = [name for name in (lists or _pairs(path)) if name]
    return sorted(found, key=lambda name: (_SPLITS.index(name) if name in _SPLITS else len(_SPLITS), name))


def _lists(path: Path) -> dict[str, Path]:
    """Split -> its list of "picture label" lines."""
    from cvtool.images import SUFFIXES

    found = {}
    for file in sorted(path.glob("*.txt")):
        with file.open(encoding="utf-8", errors="replace") as lines:
            words = lines.readline().split()
        ends = [os.path.splitext(word)[1].lower() for word in words]
        if len(words) == 2 and ends[0] in SUFFIXES and ends[1] in _MAPS:
            found[file.stem] = file
    return found


def _pairs(path: Path) -> dict[str, tuple[Path, Path]]:
    """Split ("" where there are none) -> folders of pictures and of label maps."""
    folders = {entry.name: Path(entry.path) for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith(".")}
    camvid = {name: (folder, folders[name + "annot"]) for name, folder in folders.items() if name + "annot" in folders}
    if camvid:
        return camvid
    pictures = next((folders[name] for name in _IMAGES if name in folders), None)
    maps = next((folders[name] for name in _MASKS if name in folders and _holds_maps(folders[name])), None)
    if pictures and maps:
        inner = [name for name in _SPLITS if (pictures / name).is_dir() and (maps / name).is_dir()]
        return {name: (pictures / name, maps / name) for name in inner} or {"": (pictures, maps)}
    found = {}
    for name in _SPLITS:
        if name in folders and (pair := _pairs(folders[name]).get("")):
            found[name] = pair
    return found


def _holds_maps(folder: Path) -> bool:
    from cvtool.data.inputs import walk

    return any(file.lower().endswith(_MAPS) for file in walk(str(folder)))


def categories(path: Path) -> list[dict]:
    path = Path(path)
    for name in ("classes.txt", "labels.txt"):
        if (path / name).is_file():
            return _named(path / name)
    return counted(label for _, label, _ in _all(path, None, None))


def counted(maps: Iterable[str]) -> list[dict]:
    """Categories of label maps that nobody named: the values found in them, but 255."""
    import numpy as np

    from cvtool import images

    values: set[int] = set()
    for label in maps:
        values.update(np.unique(images.labels(label)).tolist())
    return [{"id": value, "name": f"class{value}"} for value in sorted(values - {IGNORE})]


def void(path: Path) -> list[int] | None:
    """The pixel values that are no class where classes.txt says which are: those it calls void, 255, and 0 unless it names it; else None."""
    file = next((path / name for name in ("classes.txt", "labels.txt") if (path / name).is_file()), None)
    if file is None:
        return None
    named = _listed(file)
    return sorted({IGNORE, *({0} - named.keys()), *(index for index, name in named.items() if _VOID.match(name))})


def table(index: Mapping[int, int], void: Sequence[int] | None) -> np.ndarray:
    """Pixel value -> label, 65536 int64, of `index` (category id -> label). 255 where `void` says so, -1 for any other value that is no category;
    with `void` None every value that is no category is 255."""
    import numpy as np

    found = np.full(65536, IGNORE if void is None else -1, np.int64)
    found[[*(void or ()), IGNORE]] = IGNORE
    for number, label in index.items():
        found[number] = label
    return found


def _named(file: Path) -> list[dict]:
    return [{"id": index, "name": name} for index, name in sorted(_listed(file).items()) if not _VOID.match(name) and index != IGNORE]


def _listed(file: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for line in file.read_text(encoding="utf-8-sig").splitlines():
        words = line.split()
        if not words or line.lstrip().startswith("#"):
            continue
        if len(words) >= 2 and words[0].isdecimal():
            colour = len(words) >= 5 and all(word.isdecimal() for word in words[-3:])
            index, name = int(words[0]), " ".join(words[1:-3] if colour else words[1:])
        else:
            index, name = len(found), line.strip()
        if index in found:
            raise InputError(f"class {index} is named twice", where=file)
        found[index] = name
    return found


def _all(path: Path, images: Path | None, split: str | None) -> Iterator[tuple[str, str, str]]:
    """(picture, label map, split) of every picture that has a map."""
    lists, pairs = _lists(path), {} if _lists(path) else _pairs(path)
    if not lists and not pairs:
        raise InputError("no folders of pictures and label maps, and no lists of them", where=path)
    roots = Roots(path, images)
    for name in [split] if split is not None else splits(path) or [""]:
        if name in lists:
            with lists[name].open(encoding="utf-8-sig", errors="surrogateescape") as lines:
                for number, line in enumerate(lines, 1):
                    words = line.split()
                    where = f"{lists[name]}, line {number}"
                    if words and len(words) != 2:
                        raise InputError("not 'picture label'", where=where)
                    if words:
                        yield _found(roots, path, words[0], where), _found(roots, path, words[1], where), name
        else:
            yield from _matched(*pairs[name], name)


def _found(roots: Roots, path: Path, name: str, where: str) -> str:
    """SegNet's lists begin every name with /SegNet/CamVid/, a folder of their author's; what follows is looked up as well."""
    parts = name.replace("\\", "/").split("/")
    for start in range(1, len(parts)) if os.path.isabs(name) else ():
        if ".." not in parts and (path / "/".join(parts[start:])).is_file():
            return str(path / "/".join(parts[start:]))
    return roots.find(name, where=where)


def _matched(pictures: Path, maps: Path, name: str) -> Iterator[tuple[str, str, str]]:
    from cvtool.data.inputs import walk

    by_stem: dict[str, str] = {}
    for file in walk(str(maps)):
        stem = os.path.splitext(os.path.relpath(file, maps))[0]
        if file.lower().endswith(_MAPS) and by_stem.setdefault(stem, file) != file:
            raise InputError(f"two maps of one name, {os.path.basename(by_stem[stem])} and {os.path.basename(file)}", where=file)
    owners: dict[str, str] = {}
    for picture in walk(str(pictures)):
        stem = os.path.splitext(os.path.relpath(picture, pictures))[0]
        label = next((by_stem[stem + ending] for ending in _ENDINGS if stem + ending in by_stem), None)
        if label is not None:
            if owners.setdefault(label, picture) != picture:
                raise InputError(f"{os.path.basename(owners[label])} and {os.path.basename(picture)} have the same map, {label}", where=picture)
            yield picture, label, name


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a picture that has a label map; pictures without one are no part of the data set."""
    path = Path(path)
    if not path.is_dir():
        raise InputError("no such folder", where=path)
    known = splits(path)
    if split is not None and split not in known:
        raise InputError(f"no split '{split}'", where=path, hint="its splits: " + (", ".join(known) or "none"))
    dataset = {"categories": categories(path), "path": str(path), "void": void(path)}
    for picture, label, name in _all(path, images, split):
        record = Record(file_name=picture, segmentation_map=label)
        record.dataset, record.root = dataset, str(images or path)
        if name:
            record["split"] = name
        yield record


def write(records: Iterable[Record], out: Path, *, split: str | None = None, copy_images: bool = False, **options: object) -> list[str]:
    """images/[SPLIT/] with links to the pictures (or copies), masks/[SPLIT/]*.png and classes.txt; the maps are as `write_maps` says."""

    def put(record: Record, stem: str, suffix: str) -> Path | None:
        part = str(record.get("split") or split or "")
        if part and (part == ".." or Path(part).name != part):
            raise InputError(f"the split's name '{part}' is no file name")
        if not place(record, out / "images" / part / (stem + (suffix or ".jpg")), copy=copy_images):
            missing.append(stem)
        return out / "masks" / part / f"{stem}.png"

    out, missing = Path(out), list[str]()
    notes = write_maps(list(records), out, put)
    if missing:
        notes.append(f"{count(len(missing), 'picture')} not found, so images/ lacks them (--images DIR says where they are)")
    return notes


def write_maps(listed: list[Record], out: Path, put: Callable[[Record, str, str], Path | None]) -> list[str]:
    """A label map a record, where `put(record, stem, suffix)` says, and classes.txt in `out`; returns notes.

    A pixel's value is its category id; 0 where nothing is, unless a category has id 0: then 255. Later objects cover earlier ones, crowds lie
    below all others. A record that has a label map already brings it along. Maps up to 255 carry VOC's colours as a palette, for the eye.
    """
    import numpy as np

    from cvtool import images as pictures
    from cvtool.data.formats import _polygons

    table = [category for category in categories_of(listed) if isinstance(category["id"], int)]
    ids = [category["id"] for category in table] or [1]
    if max(ids) > 65535 or min(ids) < 0:
        raise InputError("a label map holds category ids 0..65535 only", hint="renumber the categories first")
    kind = np.uint8 if max(ids) < IGNORE else np.uint16
    empty = IGNORE if 0 in ids else 0
    names = Names()
    lost = dict.fromkeys(("box", "size", "object"), 0)
    for record in listed:
        stem, suffix = os.path.splitext(names.take(record))
        target = put(record, stem, suffix)
        if record.get("segmentation_map"):
            values = pictures.labels(record["segmentation_map"])
        else:
            try:
                width, height = record.size()
                _polygons.bounded(width, height)
            except InputError:
                lost["size"] += 1
                continue
            values = np.full((height, width), empty, dtype=kind)
            found = [entry for entry in record.get("annotations") or () if entry.get("segmentation") and isinstance(entry.get("category_id"), int)]
            lost["box"] += len(record.get("annotations") or ()) - len(found)
            lost["object"] += len(found)
            for entry in sorted(found, key=lambda entry: not entry.get("iscrowd")):
                values[_polygons.mask(entry["segmentation"], width, height).astype(bool)] = entry["category_id"]
        if target is not None:
            _save(values, target)
    with output_text(out / "classes.txt") as stream:
        stream.writelines(["0 void\n"] * (0 not in ids) + [f"{category['id']} {category['name']}\n" for category in table])
    notes = names.note()
    if lost["object"]:
        notes.append(f"label maps hold one class a pixel: {count(lost['object'], 'mask')} merged; where they overlap, the later one stays")
    if lost["box"]:
        notes.append(f"{count(lost['box'], 'annotation')} without a mask left out")
    if lost["size"]:
        notes.append(f"the size of {count(lost['size'], 'picture')} is not known, so there is no map of them")
    return notes


def _save(values: np.ndarray, target: Path) -> None:
    from PIL import Image

    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    image = Image.fromarray(values)
    if image.mode == "L":
        image.putpalette(_palette())
    image.save(temporary, "PNG")
    os.replace(temporary, target)


def _palette() -> list[int]:
    """VOC's colours: the bits of the index, dealt out to red, green and blue from the top."""
    return [sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for index in range(256) for channel in range(3)]
