"""Reading text by lines, plain or compressed, with one clear message when the file is damaged."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from popdl.errors import PopdlError

__all__ = ["GZIP", "open_lines", "quoted", "reading"]

GZIP = b"\x1f\x8b"
"""The bytes with which a gzipped or bgzipped file begins."""
BUFFER = 2**20


def quoted(text: bytes | str, length: int = 40) -> str:
    """A piece of a file, short enough for a message."""
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return repr(shown if len(shown) <= length else shown[:length] + "…")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong inside a damaged file into a :class:`PopdlError`."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PopdlError(f"{path}: the compressed file is cut short or damaged ({error}); get it again.") from None
    except OSError as error:
        raise PopdlError(f"{path}: cannot read the file: {error.strerror or error}.") from None


def open_lines(path: Path) -> BinaryIO:
    """Open a plain, gzipped or bgzipped text file for reading by lines."""
    file = open(path, "rb")  # noqa: SIM115 - the caller closes what this returns
    if file.peek(2)[:2] != GZIP:
        return file
    return io.BufferedReader(gzip.GzipFile(fileobj=file), BUFFER)
