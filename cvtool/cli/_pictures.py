"""Where pictures go that verbs make: a folder, one file, or bytes to a pipe; refused before anything is made, and written whole or not at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from cvtool.errors import CvtoolError, UsageError

# suffix -> how Pillow writes it; a source of any other kind becomes a PNG
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), ("JPEG", {"quality": 95, "subsampling": 0})),
    ".png": ("PNG", {"compress_level": 4}),
    ".webp": ("WEBP", {"quality": 95, "method": 4}),
    ".bmp": ("BMP", {}),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF", {"compression": "tiff_lzw"})),
}  # fmt: skip


class Target:
    """Where pictures go: a folder (`many`), one file, or stdout as PNG. Checked before anything is drawn. more: suffixes besides `KINDS`."""

    def __init__(self, output: str | None, overwrite: bool, grid: Path | None, *, more: tuple[str, ...] = ()) -> None:
        self.overwrite, self.grid = overwrite, grid
        stdout = output in (None, "-", "/dev/stdout")
        self.path = None if stdout or output is None else Path(output).expanduser()
        self.many = self.path is not None and output is not None and (output.endswith(("/", os.sep)) or self.path.is_dir())
        if grid is not None:
            kind_of(grid, "--grid")
            self.free(grid)
        elif overwrite and self.path is None:
            raise UsageError("--overwrite has no effect without -o or --grid", hint="add -o PATH or leave it out")
        if self.path is None:
            if (output is not None or grid is None) and sys.stdout.isatty():
                raise UsageError("a picture does not go to a terminal", hint="add -o seen/ (a folder), -o seen.png, or a pipe")
            return
        if self.many:
            if self.path.exists() and not self.path.is_dir():
                raise UsageError(f"{self.path} is not a folder", where=f"-o {output}")
            return
        kind_of(self.path, "-o", more)
        if grid is not None and grid.absolute() == self.path.absolute():
            raise UsageError("-o and --grid name the same file")
        self.free(self.path)

    def free(self, path: Path, source: str | None = None) -> None:
        """Refuse to replace a file without --overwrite, and the very picture that is drawn on in any case."""
        if not path.exists():
            return
        if source is not None and os.path.exists(source) and os.path.samefile(source, path):
            raise UsageError(f"{path} is the picture itself", hint="name another folder or file with -o")
        if path.is_dir():
            raise UsageError(f"{path} is a folder", hint="name a file in it")
        if not self.overwrite and path.is_file():
            raise UsageError(f"{path} exists", hint="--overwrite to replace it, or name another place")

    def put(self, image: Any, source: str | None = None) -> None:
        """Write the one picture there is."""
        if self.path is None:
            to_stdout(image)
        else:
            self.free(self.path, source)
            save(image, self.path)


def kind_of(path: Path, option: str, more: tuple[str, ...] = ()) -> None:
    """Refuse a name that does not tell the kind of picture."""
    known = (*KINDS, *more)
    if path.suffix.lower() not in known and not (path.exists() and not path.is_file() and not path.is_dir()):
        folder = ", or in / for a folder" if option == "-o" else ""
        raise UsageError(f"{option} {path}: the name does not tell the kind of picture", hint=f"end it in {', '.join(known)}{folder}")


def to_stdout(image: Any, suffix: str = ".png", **more: Any) -> None:
    """The picture's bytes. more: what Pillow is told besides."""
    sys.stdout.buffer.write(_encoded(image, suffix, more))
    sys.stdout.buffer.flush()


def save(image: Any, path: Path, **more: Any) -> None:
    """Write a picture under a temporary name and rename it when it is whole. more: what Pillow is told besides, such as `pnginfo`."""
    write(_encoded(image, path.suffix, more, where=path), path)


def _encoded(image: Any, suffix: str, more: dict[str, Any], where: Path | None = None) -> bytes:
    from cvtool import images

    kind, how = KINDS.get(suffix.lower(), KINDS[".png"]) if suffix.lower() != ".gif" else ("GIF", {})
    try:
        return images.encoded(image, kind, how | more)
    except (OSError, ValueError) as error:
        what = f"{where}: " if where is not None else ""
        raise CvtoolError(f"{what}{image.width} x {image.height} pixels cannot be written as {kind}", hint="use a name in .png") from error


def write(data: bytes, path: Path) -> None:
    """All of it or nothing."""
    if path.exists() and not path.is_file():  # /dev/null, a named pipe: nothing to rename over
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
