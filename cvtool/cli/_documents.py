"""Where documents of pages go that were read: a folder with a file a picture and format, one file of all, or stdout."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvtool.cli._pictures import write
from cvtool.errors import InputError, UsageError

if TYPE_CHECKING:
    from cvtool.records import Record

LINES = "jsonl"  # the records themselves, which may stand beside documents in a folder


class Documents:
    """formats: names of `cvtool.data.pages`, and `jsonl`. output: None is stdout. Refuses what cannot be before anything is read."""

    def __init__(self, formats: list[str], output: str | None, *, overwrite: bool, resume: bool, joined: bool) -> None:
        from cvtool.data import pages
        from cvtool.data.names import Names

        self.formats, self.overwrite, self.resume, self.joined = formats, overwrite, resume, joined
        self.modules: dict[str, Any] = {name: pages.get(name) for name in formats if name != LINES}
        stdout = output in (None, "-", "/dev/stdout")
        self.path = None if stdout or output is None else Path(output).expanduser()
        self.folder = self.path is not None and output is not None and (output.endswith(("/", os.sep)) or self.path.is_dir())
        if not self.folder and len(formats) > 1:
            raise UsageError(f"-f {','.join(formats)}: several formats need a folder", hint="add -o out/")
        for option, given in (("--overwrite", overwrite), ("--resume", resume)):
            if given and self.path is None:
                raise UsageError(f"{option} has no effect without -o", hint="add -o out/ or leave it out")
        if resume and not self.folder:
            raise UsageError("--resume has no effect on one document of all pages", hint="-o out/ makes a document of each picture")
        if overwrite and resume:
            raise UsageError("--overwrite and --resume exclude each other")
        if self.folder and self.path is not None and self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is not a folder", where=f"-o {output}")
        if not self.folder and self.path is not None and self.path.is_file() and not overwrite:
            raise UsageError(f"{self.path} exists", hint="--overwrite to replace it, or name another place")
        if formats == ["pdf"] and self.path is None and sys.stdout.isatty():
            raise UsageError("a PDF does not go to a terminal", hint="add -o x.pdf, or a pipe")
        self._names = Names()
        self.skipped = 0

    def pending(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records, each told which document it belongs to: pages of one file share one. --resume leaves out those whose documents are there."""
        last: tuple[str, str, bool] | None = None
        for record in records:
            name = str(record.get("file_name"))
            if last is None or last[0] != name or "page" not in record:
                stem = self._names.take(record.changed(page=None), suffix="")
                there = [path for path in self._paths(stem) if path.exists()] if self.folder else []
                done = self.resume and len(there) == len(self.formats)
                if there and not self.overwrite and not self.resume:
                    raise UsageError(f"{there[0]} exists", hint="--overwrite to replace it, --resume to read what is new, or another -o")
                last = (name, stem, done)
                self.skipped += done
            if not last[2]:
                record.__dict__["document"] = last[1]
                yield record

    def _paths(self, stem: str) -> list[Path]:
        assert self.path is not None
        return [self.path / self._name(stem, name) for name in self.formats]

    def _name(self, stem: str, format: str) -> str:
        if format == LINES:
            return f"{stem}.jsonl"
        module = self.modules[format]
        return getattr(module, "PREFIX", "") + stem + module.SUFFIX

    def deliver(self, records: Iterable[Record]) -> Iterator[Record]:
        """Each record when it is written, or, in one document, taken in."""
        group: list[Record] = []
        many = self.path is None and self.formats == ["txt"]
        first = True
        for record in records:
            if many:
                if not record.failed:
                    self._speak(record, first)
                    first = False
            else:
                if group and self.folder and group[0].__dict__.get("document") != record.__dict__.get("document"):
                    self._write(group)
                    group = []
                group.append(record)
                single = next((name for name, module in self.modules.items() if not module.MANY), None)
                if single and not self.folder and sum(not one.failed for one in group) > 1:
                    raise UsageError(f"-f {single} holds one page, and there are more", hint="add -o out/ (a folder)")
            yield record
        if group or not (self.folder or many):
            self._write(group)

    def _speak(self, record: Record, first: bool) -> None:
        """A page of text on stdout as soon as it is read, a form feed before all but the first."""
        from cvtool.page import Page

        text = Page.of(record, joined=self.joined).text
        sys.stdout.write(("" if first else "\f") + (text + "\n" if text else ""))
        sys.stdout.flush()

    def _write(self, group: list[Record]) -> None:
        from cvtool.page import Page
        from cvtool.records import dumps

        good = [record for record in group if not record.failed]
        if not good:
            return
        sheets = [Page.of(record, joined=self.joined) for record in good]
        for name in self.formats:
            if name == LINES:
                data = "".join(dumps(record) + "\n" for record in good).encode("utf-8", "surrogateescape")
                self._put(data, good[0], name, "")
                continue
            module = self.modules[name]
            parts = [sheets] if module.MANY or len(sheets) == 1 else [[sheet] for sheet in sheets]
            for part in parts:
                buffer = io.BytesIO()
                module.write(part, buffer)
                self._put(buffer.getvalue(), good[0], name, f"_page{part[0].number - 1}" if len(parts) > 1 else "")

    def _put(self, data: bytes, record: Record, name: str, page: str) -> None:
        if self.path is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        write(data, self.path / self._name(record.__dict__["document"] + page, name) if self.folder else self.path)


def refuse_unread(tally_images: int, tally_bad: int, skipped: int) -> None:
    """Raise InputError where there was no picture at all."""
    if not tally_images and not tally_bad and not skipped:
        raise InputError("there is no picture to read")
