"""Tree sequences of msprime, SLiM and others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tskit
from pydantic import Field

from popdl import seeds
from popdl.errors import PopdlError
from popdl.formats._base import FileImporter, LabelledExample, Survey
from popdl.tree_files import load_trees, trees_example

__all__ = ["Trees"]


class Trees(FileImporter):
    """Tree sequences, one in each file: `.trees`, or `.tsz` where tszip is installed. Labels come from the file's metadata or
    provenance, or from the row of `table` that names the file in its column `file`."""

    mutation_rate: float | None = Field(default=None, ge=0)
    """Per bp per generation: mutations are added at this rate to tree sequences without sites (null: those are refused)."""

    sources = ("column", "metadata", "folder")

    def survey(self) -> Survey:
        if self.columns:
            self.rows_of_files()
        return {"num_scenarios": self.count_scenarios(len(self.paths)), "left_out": {}}

    def examples(self, survey: Survey, first: int, last: int, *, seed: int) -> Iterator[LabelledExample]:
        table, rows = self.rows_of_files() if self.columns else (None, {})
        for number, path in enumerate(self.paths[first:last], start=first):
            trees = load_trees(path)
            labels = self.path_labels(path)
            for name, label in self.labels.items():
                if label.metadata is not None:
                    labels[name] = label.number(_found(trees, label.metadata, path=path), name=name, where=str(path))
            if table is not None:
                labels |= self.table_labels(table, rows[path])
            example = trees_example(
                trees,
                num_haplotypes=self.num_haplotypes,
                sequence_length=self.sequence_length,
                mutation_rate=self.mutation_rate,
                generator=seeds.generator(seed, "simulation", number),
                where=str(path),
            )
            yield LabelledExample(example, labels, str(path))


def _found(trees: tskit.TreeSequence, key: str, *, path: Path) -> str:
    """A value of the metadata, else of the parameters of the last step in the provenance that has it."""
    try:
        records = [json.loads(provenance.record).get("parameters") for provenance in trees.provenances()]
    except (ValueError, AttributeError):
        records = []
    for values in (trees.metadata, *reversed(records)):
        for part in key.split("."):
            values = values.get(part) if isinstance(values, dict) else None
        if isinstance(values, list) and len(values) == 1:  # SLiM writes every value as a list
            values = values[0]
        if isinstance(values, str | int | float):
            return str(values)
    raise PopdlError(
        f"{path}: there is no number or word {key!r} in the metadata or the provenance{_keys(trees.metadata)}; correct the key."
    )


def _keys(metadata: Any) -> str:
    return f" (metadata: {', '.join(map(str, metadata))})" if isinstance(metadata, dict) and metadata else ""
