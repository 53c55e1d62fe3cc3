"""Where the pictures named inside an annotation file are, and that no name leads out of there.

A name is looked up under `--images DIR` where that is given; else beside the annotation file, in the usual folders next to it
(`images/`, `JPEGImages/`, `val2017/` for `annotations/instances_val2017.json`), and in the other folders there. A name that would leave the
data root (`../../etc/passwd`, `/etc/passwd`) is an InputError. With `--images` such a name is still found by its base name, inside DIR.
Links inside the root are the owner's own and are followed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from cvtool.errors import InputError
from cvtool.records import Record

MAX_INDEX = 2_000_000  # files that the search by base name looks at
_FOLDERS = ("images", "JPEGImages", "img", "imgs", "data", "frames")
_KINDS = r"^(instances|person_keypoints|captions|panoptic|stuff|image_info|annotations?|labels?)[_-]"


class Roots:
    """The folders in which one annotation file's names are looked up."""

    def __init__(self, file: Path, images: str | Path | None = None) -> None:
        self.file = Path(file)
        self.images = None if images is None else Path(images)
        if self.images is not None and not self.images.is_dir():
            raise InputError("no such folder of images", where=self.images)
        self._candidates = [self.images] if self.images is not None else self._around()
        self._last = self._candidates[0]
        self._index: dict[str, str] | None = None

    def _around(self) -> list[Path]:
        folder = self.file if self.file.is_dir() else self.file.parent
        stem = re.sub(_KINDS, "", self.file.stem)
        found = [folder]
        beside = [folder]
        if re.fullmatch(r"(?i)annot\w*|labels?|gt|json|anno\w*|meta\w*", folder.resolve().name):
            beside.append(folder / ".." if folder.name in ("", "..") else folder.parent)
        for base in beside:
            for name in (stem, f"images/{stem}", f"{stem}/images", *_FOLDERS):
                found.append(base / name)
        found += beside[1:]
        for base in beside:
            try:
                found += sorted(Path(entry.path) for entry in os.scandir(base) if entry.is_dir() and not entry.name.startswith("."))[:200]
            except OSError:
                continue
        # last, the current folder: names in documents that `-o out/x.json` wrote are paths from there
        unique = dict.fromkeys(path for path in [*found, Path(".")] if path.is_dir())
        return list(unique)

    def put(self, record: Record, name: str, *, where: str) -> None:
        """`find` into the record, with the folder that it was found in."""
        record["file_name"] = self.find(name, where=where)
        record.root = str(self._last)

    def find(self, name: str, *, where: str) -> str:
        """The path of a picture as it can be opened from the current folder; where none exists, the path at which it was expected.

        where: the file and entry, for the error. Raises InputError for an empty name and for one that leaves the root.
        """
        if not name or "\0" in name:
            raise InputError("the file name is empty" if not name else "the file name holds a NUL byte", where=where)
        plain = name.replace("\\", "/") if "\\" in name and "/" not in name else name
        inside = _inside(plain)
        if inside is None:
            if os.path.isabs(plain):
                for root in self._candidates:
                    relative = os.path.relpath(os.path.normpath(plain), os.path.abspath(root))
                    if _inside(relative) is not None:
                        return os.path.normpath(plain)
            if self.images is not None and (found := self._by_base_name(plain)):
                return found
            hint = f"names must stay inside {self._root_name()}; `--images DIR` looks them up by base name in DIR"
            raise InputError(f"the name '{name}' leads out of the data root", where=where, hint=hint)
        for root in (self._last, *self._candidates):
            path = inside if str(root) == "." else os.path.join(root, inside)
            if os.path.isfile(path):
                self._last = root
                return path
        if self.images is not None and (found := self._by_base_name(plain)):
            return found
        return inside if str(self._last) == "." else os.path.join(self._last, inside)

    def _root_name(self) -> str:
        return str(self._candidates[0]) if str(self._candidates[0]) != "." else "the current folder"

    def _by_base_name(self, name: str) -> str | None:
        if self._index is None:
            self._index = {}
            twice: set[str] = set()
            seen = 0
            for folder, folders, files in os.walk(self.images or "."):
                folders.sort()
                for file in files:
                    if file in self._index:
                        twice.add(file)
                    self._index[file] = os.path.join(folder, file)
                seen += len(files)
                if seen > MAX_INDEX:
                    break
            for file in twice:  # two pictures of one name: which is meant cannot be known
                del self._index[file]
        return self._index.get(os.path.basename(name))


def _inside(name: str) -> str | None:
    """The name, normalised, or None where it would leave the folder it is joined to."""
    if os.path.isabs(name) or re.match(r"^[A-Za-z]:", name):
        return None
    plain = os.path.normpath(name)
    return None if plain == ".." or plain.startswith("../") or plain == "." else plain
