"""What importers of real or simulated genomes share: one example is a file, or a region of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from popdl.config.application import Samples, parse_region
from popdl.errors import PopdlError
from popdl.formats._base import FileImporter, LabelledExample, Survey
from popdl.simulators._base import Example

__all__ = ["GenomeImporter", "Span", "VariantImporter"]

REGION = "region"
"""The column of the table that says which part of a file is an example."""

Span = tuple[str, int, int]
"""Contig, first and last position: 1-based, both inclusive."""


class GenomeImporter(FileImporter):
    """One example for each row of `table`, which names a file in its column `file` and perhaps a part of it in its column
    `region` (`contig:start-end`, 1-based); without a table, one for each file. A file without region holds one contig, of which
    the first `sequence_length` bp are the example."""

    samples: Samples | None = None
    """Which individuals (null: all)."""

    def survey(self) -> Survey:
        return {"num_scenarios": self.count_scenarios(len(self._windows())), "left_out": {}}

    def examples(self, survey: Survey, first: int, last: int, *, seed: int) -> Iterator[LabelledExample]:
        table = self.read_table() if self.table else None
        for number, (path, span) in enumerate(self._windows()[first:last], start=first):
            where = str(path) if span is None else f"{path}, {span[0]}:{span[1]}-{span[2]}"
            example, left_out = self.read_window(path, span, seed=seed)
            labels = self.path_labels(path)
            if table is not None:
                labels |= self.table_labels(table, number)
            yield LabelledExample(example, labels, where, left_out)

    def read_window(self, path: Path, span: Span | None, *, seed: int) -> tuple[Example, dict[str, int]]:
        """Genotypes of one window, and how many records of it were left out, by reason."""
        raise NotImplementedError

    def _windows(self) -> list[tuple[Path, Span | None]]:
        """File and part of each example."""
        if self.table is None:
            return [(path, None) for path in self.paths]
        table = self.read_table()
        files = self.named_files(table)
        if REGION not in table.columns:
            return [(path, None) for path in files]
        spans: list[Span | None] = []
        for row, text in enumerate(table.columns[REGION]):
            try:
                contig, start, end = parse_region(text)
            except ValueError as error:
                raise PopdlError(f"{table.where(row)}: {REGION}: {error}.") from None
            if start is None or end is None or end - start + 1 != self.sequence_length:
                raise PopdlError(
                    f"{table.where(row)}: the {REGION} {text} must be contig:start-end of {self.sequence_length:g} bp "
                    "(import.sequence_length), both ends included."
                )
            spans.append((contig, start, end))
        return list(zip(files, spans, strict=True))


class VariantImporter(GenomeImporter):
    """What VCF holds, in any of its file formats."""

    unphased: bool = False
    """Genotypes may be unphased; the encoding must then be `phase: ignore`."""
    ancestral: Literal["reference", "INFO/AA"] = "reference"
    """What a 0 means: the reference allele, or the one that INFO/AA names (records without it are left out)."""

    @property
    def phased(self) -> bool:
        return not self.unphased
