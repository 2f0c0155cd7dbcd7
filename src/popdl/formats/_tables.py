"""Tables of labels: TSV, CSV or JSON, every value kept as the text it was written as."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popdl.config.base import suggestion
from popdl.errors import PopdlError

__all__ = ["Table", "read_table"]

VALUE = "value"
"""Name of the only column of a JSON list of numbers."""


@dataclass(frozen=True)
class Table:
    """A table with a header."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int] | None
    """Line of each row in the file; None for JSON."""

    @property
    def num_rows(self) -> int:
        return len(next(iter(self.columns.values())))

    def where(self, row: int) -> str:
        """A row's place, for messages."""
        return f"{self.path}, line {self.lines[row]}" if self.lines else f"{self.path}, entry {row + 1}"

    def need(self, names: Sequence[str]) -> None:
        """Refuse the table if a column is not there."""
        for name in names:
            if name not in self.columns:
                raise PopdlError(f"{self.path}: there is no column {name!r}; {suggestion(name, self.columns)}.")


def read_table(path: Path) -> Table:
    """Read a table: JSON by its ending, else text with tabs or, where its header has none, commas.

    JSON may be a list of numbers (one column, `value`), a list of objects, or an object of lists.

    Raises
    ------
    PopdlError
        If the file cannot be read, is empty, or its rows differ in length.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PopdlError(f"{path}: cannot read the table of labels: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise PopdlError(f"{path}: not a text file; expected a table of labels.") from None
    table = _json(path, text) if path.suffix == ".json" else _text(path, text)
    if not table.columns or not table.num_rows:
        raise PopdlError(f"{path}: the table is empty; expected a header and one row for each scenario.")
    return table


def _text(path: Path, text: str) -> Table:
    header_line = text.partition("\n")[0]
    reader = csv.reader(text.splitlines(), delimiter="\t" if "\t" in header_line else ",")
    rows: list[list[str]] = []
    lines: list[int] = []
    for row in reader:
        if any(item.strip() for item in row):
            rows.append([item.strip() for item in row])
            lines.append(reader.line_num)
    if not rows:
        return Table(path, {}, None)
    header = rows[0]
    if len(set(header)) < len(header):
        raise PopdlError(f"{path}, line 1: a column is there twice: {', '.join(header)}.")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise PopdlError(f"{path}, line {line}: {len(row)} columns, expected {len(header)}.")
    return Table(path, {name: [row[i] for row in rows[1:]] for i, name in enumerate(header)}, lines[1:])


def _json(path: Path, text: str) -> Table:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PopdlError(f"{path}: not valid JSON: {error}.") from None
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        if any(item.keys() != value[0].keys() for item in value):
            raise PopdlError(f"{path}: the entries of the list have different keys; give each the same.")
        value = {key: [item[key] for item in value] for key in value[0]}
    elif isinstance(value, list):
        value = {VALUE: value}
    columns = value if isinstance(value, dict) else {}
    if not columns or not all(isinstance(column, list) for column in columns.values()):
        raise PopdlError(f"{path}: expected a list of numbers, a list of objects, or an object of lists.")
    if len({len(column) for column in columns.values()}) > 1:
        raise PopdlError(f"{path}: the columns differ in length.")
    return Table(path, {name: [_word(item) for item in column] for name, column in columns.items()}, None)


def _word(item: Any) -> str:
    return "" if item is None else item if isinstance(item, str) else json.dumps(item)
