"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["whole", "write_text"]


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; the file takes its place at the end, and is removed if anything fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
