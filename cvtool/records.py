"""One image and all that is known about it is a record: one JSON object, one line.

    {"id": 7, "file_name": "a.jpg", "width": 640, "height": 480,
     "annotations": [{"bbox": [x, y, w, h], "category_id": 18, "category": "dog", "score": 0.97, "segmentation": RLE, "area": 1.0, "iscrowd": 0}],
     "made_by": [{"verb": "detect", "model": "faster-rcnn.resnet50@coco", "weights_sha256": "...", "cvtool": "...", "categories": [...]}]}

Annotations are COCO annotations plus the category's name; boxes are xywh in pixels of the upright picture, 0-based. Numbers: pixels are
rounded to a thousandth; scores keep every digit of their float32, so that a written file evaluates to the numbers of the model in memory.
A record of a data set with splits has `split`.
Other verbs add keys of their own; unknown keys pass through. Lines stand alone: files can be concatenated, split, sorted.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import IO, Any, Self

from cvtool import __version__, archives
from cvtool.annotations import exact, of_result, regions
from cvtool.categories import Categories
from cvtool.errors import InputError, UsageError, did_you_mean
from cvtool.results import Embedding, Labels, Quads, Result, Text

MAX_LINE = 512 * 1024 * 1024  # characters of one JSON line: a bound on what a hostile stream can make us hold
_TYPES: dict[str, Any] = {"category_id": (int, str), "category": str, "score": (int, float), "area": (int, float)}
_TYPES |= {"keypoints": list, "iscrowd": int}
STDIN = "-"  # the file name of a picture whose bytes came on stdin


class Record(dict):
    """One image. A dict with the keys above, and three things that are not written:

    data: the picture's own bytes, when it came on stdin.
    dataset: facts of the data set that it was read from, shared by all its records: "categories" (a list), "path", COCO's "info" and "licenses".
    root: the folder in which its data set's names are looked up; `file_name` relative to it is the data set's own name.
    """

    data: bytes | None = None
    dataset: dict[str, Any] | None = None
    root: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the image could not be used; `record["error"]` says why, in one line."""
        return "error" in self

    @property
    def name(self) -> str:
        """The file name for messages, in which a line feed or another control character of it is escaped."""
        name = str(self.get("file_name", self.get("id", "a record without file_name")))
        return name if name.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)

    def pixels(self) -> Any:
        """The picture: H W 3 uint8 RGB numpy array, upright. Raises InputError."""
        from cvtool import images

        if self.failed:
            raise InputError(str(self["error"]), where=self.name)
        page = self.get("page", 0)
        if not isinstance(page, int) or isinstance(page, bool):
            raise InputError("'page' is not a whole number", where=self.name)
        return images.decode(self.source(), page=page)

    def present(self) -> bool:
        """Whether there is a file or bytes to read; they are not opened."""
        return self.data is not None or archives.exists(str(self.get("file_name", "")))

    def size(self) -> tuple[int, int]:
        """(width, height): as the record states it, else as the picture's header does. Raises InputError."""
        width, height = self.get("width"), self.get("height")
        if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
            return width, height
        from cvtool import images

        return images.size(self.source(), page=self.get("page", 0))

    def source(self) -> bytes | str:
        """What `images` reads: the bytes from stdin, or the path."""
        if self.data is not None:
            return self.data
        name = self.get("file_name")
        if not isinstance(name, str) or not name:
            raise InputError("the record has no file_name", where=f"id {self['id']}" if "id" in self else None)
        if name == STDIN:
            raise InputError("the picture came on stdin and is not part of its record", hint="give the first command a file instead")
        return name

    def name_in_root(self, key: str = "file_name") -> str:
        """The data set's own name of the picture (or another file): relative to `root`, where it lies in there, else as it stands."""
        name = str(self.get(key, ""))
        if self.root is None or not name:
            return name
        relative = os.path.relpath(name, self.root)
        return name if relative == ".." or relative.startswith("../") else relative

    def changed(self, **changes: Any) -> Self:
        """A copy with keys set; a value of None removes the key. The unwritten things go along."""
        other = type(self)(self)
        other.__dict__.update(self.__dict__)
        for key, value in changes.items():
            if value is None:
                other.pop(key, None)
            else:
                other[key] = value
        return other

    def with_annotations(self, found: list[dict]) -> Self:
        """A copy with these annotations."""
        return self.changed(annotations=found)

    def with_error(self, error: BaseException | str) -> Self:
        """A copy that says in one line why the image could not be used."""
        text = error if isinstance(error, str) else getattr(error, "what", None) or str(error) or type(error).__name__
        return self.changed(error=" ".join(str(text).split()))


def add_result(
    record: Record, result: Result, categories: Categories, *, classes: Collection[int] | None = None, made_by: dict | None = None
) -> Record:
    """A copy of the record with a result under its key: `labels` for Labels, `embedding` for Embedding, `text` and `score` for Text, else
    `annotations`, of the category "text" for Quads.

    Annotations that the record brought along are replaced: they are another model's, or the ground truth, and would be taken for this model's.
    `made_by` (see the function) is appended to the record's list.
    """
    if isinstance(result, Embedding):
        other = record.changed(embedding=exact(result.numpy().vector))
    elif isinstance(result, Text):
        other = record.changed(text=result.text, score=None if result.score is None else round(float(result.score), 6))
    elif isinstance(result, Quads):
        other = record.with_annotations(regions(result))
    elif isinstance(result, Labels):
        other = record.changed(labels=of_result(result, categories, classes=classes))
    else:
        other = record.with_annotations(of_result(result, categories, classes=classes))
    if made_by is not None:
        earlier = record.get("made_by")
        other["made_by"] = [*(earlier if isinstance(earlier, list) else []), made_by]
    return other


def choose(categories: Iterable[dict | None], wanted: Sequence[str | int]) -> list[int]:
    """`--classes`: names (any case) or ids -> category ids, in the order asked for. Raises UsageError with a suggestion for an unknown one."""
    known = [category for category in categories if category is not None]
    by_name = {str(category["name"]).lower(): category["id"] for category in known}
    ids = {str(category["id"]): category["id"] for category in known}
    chosen: list[int] = []
    for text in wanted:
        key = str(text).strip().lower()
        found = by_name.get(key, ids.get(key))
        if found is None:
            names = [str(category["name"]) for category in known]
            listing = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            raise UsageError(f"unknown class '{text}'", hint=did_you_mean(key, by_name) or f"the classes are: {listing}")
        if found not in chosen:
            chosen.append(found)
    return chosen


def made_by(verb: str, model: Any = None, *, categories: Categories | None = None, weights_sha256: str | None = None, **more: Any) -> dict[str, Any]:
    """An entry of `made_by`: who made what stands in the record.

    model: a reference (text or Reference), or anything with `.reference`, `.sha256` and `.categories` (`weights.Info`).
    categories: all that the model knows, holes (None) left out, so that a class it never found is not lost.
    """
    reference = getattr(model, "reference", model)
    digest = weights_sha256 if weights_sha256 is not None else getattr(model, "sha256", None)
    table = categories if categories is not None else getattr(model, "categories", None)
    entry: dict[str, Any] = {"verb": verb}
    if reference is not None:
        entry["model"] = str(reference)
    if digest:
        entry["weights_sha256"] = digest
    entry["cvtool"] = __version__
    entry.update((key, value) for key, value in more.items() if value is not None)
    if table is not None:
        entry["categories"] = [category for category in table if category is not None]
    return entry


def categories_of(records: Iterable[Record]) -> list[dict[str, Any]]:
    """All categories that records speak of, by id: their data set's, their models', and those that stand on annotations and labels."""
    table: dict[Any, dict[str, Any]] = {}
    seen: set[int] = set()
    for record in records:
        collect_categories(record, table, seen)
    return sorted(table.values(), key=lambda category: (isinstance(category["id"], str), category["id"]))


def collect_categories(record: Record, table: dict[Any, dict[str, Any]], seen: set[int]) -> None:
    """One record's categories into `table` (by id; the first that names an id stays). `seen` remembers the tables of data sets, which all
    their records share, by identity."""
    own = record.dataset.get("categories") if record.dataset else None
    for categories in (own, *(entry.get("categories") for entry in record.get("made_by") or () if isinstance(entry, dict))):
        if isinstance(categories, list) and categories and not (categories is own and id(own) in seen and own[-1].get("id") in table):
            if categories is own:
                seen.add(id(own))
            for category in categories:
                if isinstance(category, dict) and isinstance(key := category.get("id"), (int, str)) and key not in table:
                    table[key] = category if isinstance(category.get("name"), str) else {**category, "name": f"class{key}"}
    for found in (*(record.get("annotations") or ()), *(record.get("labels") or ())):
        key = found.get("category_id")
        if isinstance(key, (int, str)) and key not in table:
            table[key] = {"id": key, "name": str(found.get("category", f"class{key}"))}


def read_lines(stream: Iterable[str] | Iterable[bytes] | IO, *, name: str | None = None, first_line: int = 1) -> Iterator[Record]:
    """Records of a stream of JSON lines, one at a time and in constant memory; blank lines are skipped.

    Raises InputError with the line's number for anything that is not a JSON object, for NaN, and for annotations that are not COCO's.
    """
    for number, line in enumerate(_bounded(stream, name), first_line):
        if isinstance(line, bytes):
            try:
                line = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputError("not UTF-8 text, so not JSON lines", where=f"{name or 'stdin'}, line {number}") from error
        if number == 1:
            line = line.removeprefix("\ufeff")
        if line and not line.isspace():
            yield parse_line(line, where=f"{name or 'stdin'}, line {number}")


def _bounded(stream: Any, name: str | None) -> Iterator[Any]:
    if not hasattr(stream, "readline"):
        yield from stream
        return
    while line := stream.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise InputError(f"a line is longer than {MAX_LINE:,} characters", where=name or "stdin")
        yield line


def parse_line(line: str, *, where: str) -> Record:
    """One JSON line as a record; raises InputError naming `where`."""
    value = parse_json(line, where=where)
    if not isinstance(value, dict):
        raise InputError(f"a record is a JSON object, this is a {_kind(value)}", where=where)
    return checked(Record(value), where=where)


def parse_json(text: str | bytes, *, where: str) -> Any:
    """JSON as the standard has it: NaN, Infinity and absurd nesting are refused. Raises InputError."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except InputError as error:
        raise InputError(error.what, where=where, hint=error.hint) from None
    except json.JSONDecodeError as error:
        column = f", column {error.colno}" if error.lineno == 1 else f" (its line {error.lineno}, column {error.colno})"
        raise InputError(f"not valid JSON: {error.msg}", where=where + column) from error
    except RecursionError as error:
        raise InputError("the JSON is nested too deeply", where=where) from error
    except (UnicodeDecodeError, ValueError) as error:
        raise InputError(f"not valid JSON: {error}", where=where) from error


def _refuse(constant: str) -> float:
    raise InputError(f"{constant} is not a JSON number", hint="the program that wrote this file wrote invalid JSON")


def checked(record: Record, *, where: str) -> Record:
    """The record itself, if what it says of its image has the types that everything downstream relies on. Raises InputError."""
    for key in ("file_name", "split"):
        if (text := record.get(key)) is not None and not isinstance(text, str):
            raise InputError(f"{key} is a {_kind(text)}, not text", where=where)
    for key in ("annotations", "labels", "made_by"):
        found = record.get(key)
        if found is None:
            continue
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise InputError(f"{key} is not a list of objects", where=where)
        for i, entry in enumerate(found):
            if (box := entry.get("bbox")) is not None and not is_box(box):
                raise InputError(f"{key}[{i}].bbox is not four finite numbers: {box!r:.80}", where=where)
            if (shape := entry.get("segmentation")) is not None and not is_shape(shape):
                raise InputError(f"{key}[{i}].segmentation is neither polygons nor RLE", where=where)
            for name, kinds in _TYPES.items():
                if (value := entry.get(name)) is not None and not isinstance(value, kinds):
                    raise InputError(f"{key}[{i}].{name} is a {_kind(value)}", where=where)
    return record


def is_box(box: Any) -> bool:
    """Whether it is [x, y, w, h] of finite numbers (any sign: what is outside or empty is for `data check` to say)."""
    return isinstance(box, (list, tuple)) and len(box) == 4 and all(type(v) in (int, float) and abs(v) < 1e300 for v in box)


def is_shape(shape: Any) -> bool:
    """Whether it is COCO's segmentation: polygons, or RLE, compressed (counts are text) or not (counts are a list)."""
    if isinstance(shape, list):
        return all(isinstance(ring, list) and len(ring) % 2 == 0 and all(type(v) in (int, float) and abs(v) < 1e300 for v in ring) for ring in shape)
    if not isinstance(shape, dict) or not isinstance(size := shape.get("size"), list) or len(size) != 2:
        return False
    counts, whole = shape.get("counts"), all(type(side) is int and 0 <= side < 1 << 31 for side in size)
    return whole and (isinstance(counts, str) or (isinstance(counts, list) and all(type(run) is int and run >= 0 for run in counts)))


def _kind(value: Any) -> str:
    names = {"dict": "object", "list": "list", "str": "text", "int": "number", "float": "number", "bool": "true/false", "NoneType": "null"}
    return names.get(type(value).__name__, type(value).__name__)


def dumps(record: dict) -> str:
    """One record as one line of JSON, without the newline. Raises ValueError for NaN."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, default=_plain)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a file name that is not valid UTF-8 holds lone surrogates, which only an escape can carry
        return json.dumps(record, allow_nan=False, default=_plain)
    return text


def write_line(record: dict, stream: IO[str]) -> None:
    """Write one record as one line and flush, so that the next program of a pipe can begin."""
    stream.write(dumps(record) + "\n")
    stream.flush()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot stand in a record")
