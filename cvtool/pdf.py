"""Pages of a PDF as pictures, by PDFium (the extra `pdf`): rendered on white at 300 dots per inch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from cvtool.errors import InputError, MissingDependency

DPI = 300


def pages(source: str | os.PathLike | bytes) -> list[int]:
    """The numbers of its pages, from 0. Raises InputError, MissingDependency."""
    with _opened(source) as document:
        return list(range(len(document)))


def size(source: str | os.PathLike | bytes, page: int, limit: int) -> tuple[int, int]:
    """(width, height) in pixels of a page as `decode` gives it."""
    with _opened(source) as document:
        sheet = _sheet(document, page)
        width, height = sheet.get_size()
        scale = _scale(width, height, limit)
        return -int(-width * scale // 1), -int(-height * scale // 1)


def decode(source: str | os.PathLike | bytes, page: int, limit: int) -> np.ndarray:
    """H W 3 uint8 RGB. A page that would have more than `limit` pixels is rendered smaller. Raises InputError, MissingDependency."""
    with _opened(source) as document:
        sheet = _sheet(document, page)
        width, height = sheet.get_size()
        bitmap = sheet.render(scale=_scale(width, height, limit), rev_byteorder=True)
        pixels = bitmap.to_numpy()
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        return np.ascontiguousarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]).copy()


def _scale(width: float, height: float, limit: int) -> float:
    """Pixels a point."""
    return min(DPI / 72, (limit / max(width * height, 1.0)) ** 0.5 * 0.999)


def _sheet(document: Any, page: int) -> Any:
    if not 0 <= page < len(document):
        raise InputError(f"there is no page {page}: the file has {len(document)}")
    return document[page]


@contextlib.contextmanager
def _opened(source: str | os.PathLike | bytes) -> Iterator[Any]:
    try:
        import pypdfium2
    except ImportError as error:
        raise MissingDependency("a PDF needs the package pypdfium2, which is not installed", hint="pip install 'cvtool[pdf]'") from error
    where = None if isinstance(source, bytes) else os.fspath(source)
    try:
        document = pypdfium2.PdfDocument(source if isinstance(source, bytes) else os.path.abspath(source))
    except FileNotFoundError as error:
        raise InputError("no such file", where=where) from error
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        raise InputError("the PDF is locked by a password" if locked else "not a PDF that can be read, or a damaged one", where=where) from error
    try:
        yield document
    except pypdfium2.PdfiumError as error:
        raise InputError(f"a damaged page of a PDF: {error}", where=where) from error
    finally:
        document.close()
