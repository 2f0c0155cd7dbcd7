"""Which files a config means; kept free of everything heavy, since the Snakefile asks it in every job."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from popdl.errors import PopdlError

__all__ = ["expand", "matches"]


def expand(patterns: Sequence[str | Path]) -> list[Path]:
    """Every file that the patterns name, each once; those of one pattern sorted, numbers as numbers.

    Raises
    ------
    PopdlError
        If a pattern fits no file, or a file is named twice.
    """
    found: list[Path] = []
    for pattern in map(str, patterns):
        paths = matches(pattern)
        if not paths:
            raise PopdlError(f"import.files: there is no file {pattern}; give paths from the project's root.")
        found += paths
    if len(set(found)) < len(found):
        twice = next(path for path in found if found.count(path) > 1)
        raise PopdlError(f"import.files: {twice} is named twice; name each file once.")
    return found


def matches(pattern: str) -> list[Path]:
    """The files that a path or a pattern means; empty if there are none."""
    if Path(pattern).exists():
        return [Path(pattern)]
    return [Path(path) for path in sorted(glob.glob(pattern), key=_natural)]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
