"""COCO: one JSON document of images, annotations (boxes, polygons, RLE, keypoints, crowds) and categories.

Every key of an image or annotation that is not understood is kept. An image's `id` stays its record's `id`; on writing, records that have ids of
their own keep them (`info.image_ids` = "source"), otherwise images are numbered from 1 ("collected", so that `evaluate` matches by file name).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from cvtool import __version__
from cvtool.data.formats import doctr
from cvtool.data.formats._files import count, opened_text, output_text
from cvtool.data.roots import Roots
from cvtool.errors import InputError
from cvtool.records import Record, collect_categories, is_box, is_shape

DESCRIPTION = "a COCO JSON document"
SUFFIX = ".json"
ORDER = 10
MAX_BYTES = 4 * 1024**3


def recognises(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() != ".json":
        return False
    with path.open("rb") as file:
        head = file.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith(b"{") and not doctr.begins(head)


def splits(path: Path) -> list[str]:
    return []


def categories(path: Path) -> list[dict]:
    return document(path)["categories"]


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record an image, in the document's order, with its annotations; images without any included.

    Raises InputError naming the file and the entry for missing keys, wrong types, NaN, and names that leave the data root.
    """
    path = Path(path)
    yield from records(document(path), path, images=images)


def records(found: dict[str, Any], path: Path, *, images: Path | None = None, resolve: bool = True) -> Iterator[Record]:
    """The records of a document that was read already. `resolve=False` leaves the file names as they are written."""
    roots = Roots(path, images) if resolve else None
    names = {category["id"]: category["name"] for category in found["categories"]}
    by_image: dict[Any, list[dict]] = {}
    known = {image["id"] for image in found["images"]}
    for i, annotation in enumerate(found["annotations"]):
        if annotation["image_id"] not in known:
            raise InputError(f"image_id {annotation['image_id']!r} is none of the images", where=_where(path, "annotations", i, annotation))
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    info: dict[str, Any] = found["info"] if isinstance(found.get("info"), dict) else {}
    dataset = {key: found[key] for key in ("info", "licenses") if key in found} | {"categories": found["categories"], "path": str(path)}
    makers = info.get("made_by") if isinstance(info.get("made_by"), list) else None
    for i, image in enumerate(found["images"]):
        record = Record(image)
        record.dataset = dataset
        if roots is not None:
            roots.put(record, image["file_name"], where=_where(path, "images", i, image))
            if isinstance(label := image.get("segmentation_map"), str):
                record["segmentation_map"] = roots.find(label, where=_where(path, "images", i, image))
        record["annotations"] = [_from_coco(annotation, names) for annotation in by_image.get(image["id"], ())]
        if makers:
            record["made_by"] = [{**maker, "categories": found["categories"]} if isinstance(maker, dict) else maker for maker in makers]
        yield record


def _from_coco(annotation: dict, names: dict[Any, str]) -> dict:
    out = {key: value for key, value in annotation.items() if key != "image_id"}
    if (name := names.get(out.get("category_id"))) is not None:
        out["category"] = name
    return out


def document(path: Path) -> dict[str, Any]:
    """The checked document: `images`, `annotations` and `categories` are lists of objects with the keys that COCO asks for."""
    return parse(text_of(path), Path(path))


def text_of(path: Path) -> bytes:
    """A JSON file's bytes, refused where there are absurdly many."""
    with opened_text(path) as file:
        size = Path(path).stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"the JSON file has {size:,} bytes, more than {MAX_BYTES:,}", where=path)
        return file.read()


def parse(text: bytes | str, path: Path) -> dict[str, Any]:
    """A COCO document from its text; `path` names it in errors."""
    found, strange = load(text, path)
    for where, what in problems(found):
        raise InputError(what, where=f"{path}: {where}")
    if strange:
        raise InputError(f"{strange} is not a JSON number", where=path)
    return found


def load(text: bytes | str, path: Path) -> tuple[dict[str, Any], str | None]:
    """The JSON of a document, unchecked but for its three lists, and the first NaN or Infinity that stands in it."""
    strange: list[str] = []

    def constant(word: str) -> float:
        strange.append(word)
        return float(word.replace("Infinity", "inf"))

    try:
        found = json.loads(text, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error.msg}", where=f"{path}, line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise InputError("the JSON is nested too deeply", where=path) from error
    except (ValueError, MemoryError) as error:
        raise InputError(f"not valid JSON: {error}", where=path) from error
    if isinstance(found, list):
        hint = "these look like COCO results: a bare array without pictures; `cvtool evaluate --gt GT.json --dt THIS` takes it"
        raise InputError("a JSON array, not a COCO document", where=path, hint=hint)
    if not isinstance(found, dict) or not isinstance(found.get("images"), list):
        raise InputError("not a COCO document: there is no list 'images'", where=path)
    for key in ("annotations", "categories"):
        if not isinstance(found.setdefault(key, []), list):
            raise InputError(f"'{key}' is not a list", where=path)
    return found, strange[0] if strange else None


def problems(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(entry, what is wrong with it) for all that keeps a document from being read."""
    for kind, check in (("images", _image_problem), ("categories", _category_problem), ("annotations", problem)):
        for i, entry in enumerate(found[kind]):
            what = check(entry) if isinstance(entry, dict) else " is not an object"
            if what:
                yield _entry(kind, i, entry), f"{kind}[{i}]{what}"


def _image_problem(image: dict) -> str | None:
    if type(image.get("id")) not in (int, str):
        return ".id is missing or no number"
    if not isinstance(image.get("file_name"), str):
        return ".file_name is missing or no text"
    for side in ("width", "height"):
        if not (_number(image.get(side, 0)) and image.get(side, 0) < 1 << 31):
            return f".{side} is no number of pixels: {image[side]!r:.80}"
    return None


def _category_problem(category: dict) -> str | None:
    right = type(category.get("id")) in (int, str) and isinstance(category.get("name"), str)
    return None if right else " needs an id and a name"


def problem(annotation: dict) -> str | None:
    """What is wrong with one annotation, or None. What is merely odd (outside, empty, id 0) is for `data check` to say."""
    if "segments_info" in annotation:
        return " is of a panoptic file (segments_info), which holds no boxes; convert it to COCO's detection format first"
    if type(annotation.get("id", 1)) not in (int, str):
        return ".id is no number"
    if type(annotation.get("image_id")) not in (int, str):
        return ".image_id is missing or no number"
    if type(annotation.get("category_id")) not in (int, str) and "caption" not in annotation:
        return ".category_id is missing or no number"
    box = annotation.get("bbox")
    if box is not None and not is_box(box):
        return f".bbox is not four finite numbers: {box!r:.80}"
    for key in ("score", "area"):
        if not _number(annotation.get(key, 0)):
            return f".{key} is no finite number: {annotation[key]!r:.80}"
    if (shape := annotation.get("segmentation")) is not None and not is_shape(shape):
        return ".segmentation is neither polygons (lists of finite numbers) nor RLE with size [height, width] and counts"
    points = annotation.get("keypoints")
    if points is not None and not (isinstance(points, list) and len(points) % 3 == 0 and all(map(_number, points))):
        return ".keypoints is not a list of x, y, v triples"
    return None


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300


def _where(path: Path, kind: str, i: int, entry: dict) -> str:
    return f"{path}: {_entry(kind, i, entry)}"


def _entry(kind: str, i: int, entry: Any) -> str:
    return f"{kind}[{i}]" + (f" (id {entry['id']})" if isinstance(entry, dict) and "id" in entry else "")


# --- writing ---------------------------------------------------------------------------------------------------------------------------------


def write(records: Iterable[Record], out: Path | IO[str], *, relative: bool = False, description: str | None = None, **options: object) -> list[str]:
    """Collect records into one document. Notes say what had to be renumbered.

    relative: write the data set's own names, relative to its root, not paths from the current folder.
    Image ids: as `number` decides. Annotation ids: the records' own where all are unique positive integers, else numbered from 1.
    """
    listed = list(records)
    notes: list[str] = []
    ids, mode = number(listed, notes)
    table: dict[Any, dict[str, Any]] = {}
    seen: set[int] = set()
    own = [entry.get("id") for record in listed for entry in record.get("annotations") or ()]
    present = [key for key in own if key is not None]
    keep = all(type(key) is int and key > 0 for key in present) and len(set(present)) == len(present)
    if not keep:
        notes.append("annotation ids were renumbered from 1: there were duplicates, zeros or ids that are no positive integers")
    following = (max(present, default=0) if keep else 0) + 1
    images, found = [], []
    makers = _shared_makers(listed)
    for record, key in zip(listed, ids, strict=True):
        collect_categories(record, table, seen)
        images.append(_image(record, key, notes, relative=relative, drop_makers=makers is not None))
        for entry in record.get("annotations") or ():
            identity = entry.get("id") if keep else None
            if identity is None:
                identity, following = following, following + 1
            body = {k: v for k, v in entry.items() if k not in ("id", "image_id", "category")}
            found.append({"id": identity, "image_id": key, **body})
    dataset = next((record.dataset for record in listed if record.dataset), {})
    info = dict(dataset.get("info") or {}) if isinstance(dataset.get("info") or {}, dict) else {}
    info = {"description": description or info.pop("description", None) or "written by cvtool", **info, "image_ids": mode, "cvtool": __version__}
    info.pop("made_by", None)
    if makers:
        info["made_by"] = makers
    result: dict[str, Any] = {"info": info}
    if dataset.get("licenses"):
        result["licenses"] = dataset["licenses"]
    ordered = sorted(table.values(), key=lambda category: (isinstance(category["id"], str), category["id"]))
    result |= {"images": images, "annotations": found, "categories": ordered}
    with output_text(out) as stream:
        _dump(result, stream)
    return list(dict.fromkeys(notes))


def was_numbered(record: Record) -> bool:
    """Whether a writer of ours numbered the images of the document that a record was read from."""
    info = (record.dataset or {}).get("info")
    return isinstance(info, dict) and info.get("image_ids") == "collected"


def number(listed: list[Record], notes: list[str]) -> tuple[list[int], str]:
    """An image id for each record, and whether they are the "source"'s own or were "collected" here or by the document they come from.

    Ids that are integers and unique stay, and records without one get the numbers that follow; otherwise all are numbered from 1.
    """
    own = [record.get("id") for record in listed]
    present = [key for key in own if key is not None]
    if all(type(key) is int for key in present) and len(set(present)) == len(present):
        if len(present) == len(own) and own:
            return own, "collected" if any(map(was_numbered, listed)) else "source"  # type: ignore[return-value]
        following = max(present, default=0)
        ids = []
        for key in own:
            following += key is None
            ids.append(following if key is None else key)
        if present:
            notes.append(f"{count(len(own) - len(present), 'image')} had no id and got the numbers that follow")
        return ids, "collected"
    why = "are not all integers" if not all(type(key) is int for key in present) else "are not unique"
    notes.append(f"images were numbered from 1, because their ids {why}")
    return list(range(1, len(own) + 1)), "collected"


def _image(record: Record, key: int, notes: list[str], *, relative: bool, drop_makers: bool) -> dict[str, Any]:
    image: dict[str, Any] = {"id": key, "file_name": record.name_in_root() if relative else str(record.get("file_name", ""))}
    try:
        image["width"], image["height"] = record.size()
    except InputError:
        image["width"], image["height"] = record.get("width") or 0, record.get("height") or 0
        if not record.failed:
            notes.append("the size of some pictures is not known; it is written as 0 x 0")
    skip = {"annotations", "id", "file_name", "width", "height"} | ({"made_by"} if drop_makers else set())
    image.update((k, v) for k, v in record.items() if k not in skip)
    if relative and "segmentation_map" in image:
        image["segmentation_map"] = record.name_in_root("segmentation_map")
    if not _told(image.get("made_by")):
        image.pop("made_by", None)
    else:
        image["made_by"] = [_maker(maker) for maker in _told(image["made_by"])]
    return image


def _told(makers: Any) -> Any:
    """`made_by` without the entries by which JSON lines carry a data set's categories."""
    kept = [maker for maker in makers if not (isinstance(maker, dict) and maker.get("verb") == "data")] if isinstance(makers, list) else makers
    return kept or None


def _maker(maker: Any) -> Any:
    return {k: v for k, v in maker.items() if k != "categories"} if isinstance(maker, dict) else maker


def _shared_makers(listed: list[Record]) -> list | None:
    """`made_by` without its categories, if all records that were not refused agree on it: it then stands once, in `info`."""
    found = [_told(record.get("made_by")) for record in listed if not record.failed]
    first: Any = found[0] if found else None
    if first is None or any(other is not first and other != first for other in found):
        return None
    return [_maker(maker) for maker in first]


def _dump(result: dict[str, Any], stream: IO[str]) -> None:
    """One entry a line: small enough for machines, and `grep` and `diff` still work."""
    stream.write("{\n")
    for i, (key, value) in enumerate(result.items()):
        stream.write(",\n" if i else "")
        if isinstance(value, list) and key != "licenses":
            stream.write(f"{json.dumps(key)}: [")
            for j, entry in enumerate(value):
                stream.write((",\n" if j else "\n") + _text(entry))
            stream.write("\n]" if value else "]")
        else:
            stream.write(f"{json.dumps(key)}: {_text(value)}")
    stream.write("\n}\n")


def _text(value: Any) -> str:
    from cvtool.records import dumps

    return dumps(value)
