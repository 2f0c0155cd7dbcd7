"""Files that appear whole or not at all."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["whole", "write_table", "write_text"]

ROWS_AT_ONCE = 4096
"""Rows of a table that are text in memory."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; the file takes its place at the end, and is removed if anything fails.

    What a killed process of this machine left there is removed. Processes may write the same file side by side: the last stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = f".{path.name}.partial-{os.uname().nodename}-"
    for left in path.parent.glob(f"{glob.escape(beside)}*"):
        number = left.name.removeprefix(beside)
        if number.isdecimal() and not _runs(int(number)):
            left.unlink(missing_ok=True)
    partial = path.with_name(f"{beside}{os.getpid()}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as TSV, whole: `.` where there is nothing, and floats so that they are read back as they were."""
    with whole(path) as partial:
        table.to_csv(
            partial, sep="\t", index=False, na_rep=".", lineterminator="\n", encoding="utf-8", chunksize=ROWS_AT_ONCE
        )


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
