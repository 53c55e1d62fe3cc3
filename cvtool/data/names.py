"""Names of the pictures that are written to one folder."""

from __future__ import annotations

from pathlib import Path

from cvtool.records import STDIN, Record


class Names:
    """Unique base names for the pictures of one folder: `a/1.jpg` and `b/1.jpg` become `1.jpg` and `b_1.jpg`."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self.renamed = 0

    def take(self, record: Record, *, suffix: str | None = None) -> str:
        """A base name for the record's picture whose stem no other record has; `suffix` replaces its own."""
        path = Path(str(record.get("file_name") or f"{record.get('id', 'image')}.jpg"))
        if str(path) == STDIN:
            path = Path("stdin.jpg")
        stem = path.stem + (f"_page{record['page']}" if record.get("page") else "")
        ending = path.suffix if suffix is None else suffix
        wished = [stem, *("_".join([*path.parent.parts[-depth:], stem]) for depth in range(1, len(path.parent.parts) + 1))]
        for candidate in wished:
            candidate = candidate.replace("/", "_").replace("\\", "_")
            if candidate.lower() not in self._taken:
                break
        else:
            count = 2
            while f"{stem}_{count}".lower() in self._taken:
                count += 1
            candidate = f"{stem}_{count}"
        self.renamed += candidate != path.stem
        self._taken.add(candidate.lower())
        return candidate + ending

    def note(self) -> list[str]:
        return [f"{self.renamed:,} picture{'' if self.renamed == 1 else 's'} renamed, because their base names were taken"] if self.renamed else []
