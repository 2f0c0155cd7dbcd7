"""Writing a store of raw examples for other programs: dnadna's npz layout, or ms text."""

from __future__ import annotations

import csv
import gzip
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import IO

import numpy as np
import yaml

from popdl.errors import PopdlError
from popdl.files import whole, write_text
from popdl.ms_text import replicate_text
from popdl.simulators._base import Example
from popdl.store import find_shards, read_shard

__all__ = ["FORMATS", "export"]


@dataclass(frozen=True)
class _Stored:
    """One example of a store."""

    number: int
    scenario: int
    example: Example
    labels: list[str]


@dataclass(frozen=True)
class _Store:
    """A store of raw examples, read shard by shard."""

    shards: list[Path]
    parameters: list[str]
    classes: dict[str, list[str]]
    num_haplotypes: int
    sequence_length: float
    num_examples: int

    @classmethod
    def open(cls, path: Path) -> _Store:
        shards = find_shards(path)
        headers = [read_shard(shard, kind="simulations").attributes for shard in shards]
        shared = ("parameters", "classes", "num_haplotypes", "sequence_length")
        for shard, header in zip(shards, headers, strict=True):
            if any(header[key] != headers[0][key] for key in shared):
                raise PopdlError(f"{shard}: it was made with other settings than {shards[0]}; export them apart.")
        num_examples = sum(header["num_examples"] for header in headers)
        return cls(shards, **{key: headers[0][key] for key in shared}, num_examples=num_examples)

    def __iter__(self) -> Iterator[_Stored]:
        for path in self.shards:
            shard = read_shard(path, kind="simulations")
            genotypes, positions, first = shard["genotypes"], shard["positions"], shard.attributes["first_example"]
            rows = zip(pairwise(shard["offsets"]), shard["scenario"], shard["parameters"], strict=True)
            for number, ((start, stop), scenario, labels) in enumerate(rows, start=first):
                example = Example(genotypes[start:stop], positions[start:stop])
                yield _Stored(number, int(scenario), example, self._words(labels))

    def scenarios(self) -> Iterator[tuple[int, Iterator[_Stored]]]:
        """Examples by scenario; those of one scenario follow each other."""
        yield from groupby(self, key=lambda stored: stored.scenario)

    def _words(self, labels: np.ndarray) -> list[str]:
        """Labels as text: words for classes that are words, nothing where missing."""
        words = []
        for name, value in zip(self.parameters, labels.tolist(), strict=True):
            classes = self.classes.get(name, [])
            if np.isnan(value):
                words.append("")
            elif classes and f"{value:g}" not in classes:
                words.append(classes[int(value)])
            else:
                words.append(repr(value))
        return words


def export(store: Path, output: Path, *, to: str) -> int:
    """Write a store of kind ``simulations`` in another format.

    Parameters
    ----------
    store
        The store, or one shard.
    output
        A new folder for ``npz``, a new file for ``ms`` (gzipped if its name ends in ``.gz``).
    to
        One of :data:`FORMATS`.

    Returns
    -------
    int
        Number of examples written.

    Raises
    ------
    PopdlError
        If the output is there already, the store cannot be read, or the format cannot hold what is in it.
    """
    opened = _Store.open(store)
    if to != "trees" and output.exists():
        raise PopdlError(f"{output} is there already; export to a new name.")
    FORMATS[to](opened, output)
    return opened.num_examples


def _npz(store: _Store, output: Path) -> None:
    """dnadna's layout: a folder for each scenario, a file for each replicate, the parameters, and a config of the data set."""
    name = output.name
    replicates = [len(list(examples)) for _, examples in store.scenarios()]
    digits, replicate_digits = len(str(len(replicates) - 1)), len(str(max(replicates) - 1))
    partial = output.with_name(f".{name}.partial-{os.getpid()}")
    rows = [["scenario_idx", *store.parameters, "n_replicates"]]
    try:
        for row, (_, examples) in enumerate(store.scenarios()):
            folder = partial / f"scenario_{row:0{digits}}"
            folder.mkdir(parents=True)
            for replicate, stored in enumerate(examples):
                genotypes = stored.example.genotypes.T
                has_missing = bool(genotypes.size) and genotypes.min() < 0
                np.savez_compressed(
                    folder / f"{name}_{row:0{digits}}_{replicate:0{replicate_digits}}.npz",
                    SNP=genotypes if has_missing else genotypes.astype(np.uint8),
                    POS=stored.example.positions / store.sequence_length,
                )
            rows.append([str(row), *stored.labels, str(replicates[row])])
        write_text(partial / f"{name}_params.csv", _table(rows, separator=","))
        config = {
            "data_root": ".",
            "dataset_name": name,
            "scenario_params_path": f"{name}_params.csv",
            "data_source": {"format": "dnadna"},
            "position_format": {"normalized": True, "distance": False, "chromosome_size": int(store.sequence_length)},
        }
        write_text(partial / f"{name}_dataset.yml", yaml.safe_dump(config, sort_keys=False))
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _ms(store: _Store, output: Path) -> None:
    """One text with all replicates, and beside it a table with one row of labels for each scenario."""
    rows = [store.parameters]
    counts: set[int] = set()
    with ExitStack() as stack:
        partial = stack.enter_context(whole(output))
        file = stack.enter_context(open(partial, "wb"))
        text: IO[bytes] | gzip.GzipFile = file
        if output.suffix == ".gz":  # without a name and a time, equal texts are equal files
            text = gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0)
            stack.callback(text.close)
        text.write(f"popdl {store.num_haplotypes} {store.num_examples}\n0\n\n".encode())
        for _, examples in store.scenarios():
            together = list(examples)
            for stored in together:
                genotypes = stored.example.genotypes
                if genotypes.size and not 0 <= genotypes.min() <= genotypes.max() <= 1:
                    raise PopdlError(
                        f"example {stored.number}: ms text has no way to write {'missing alleles' if genotypes.min() < 0 else 'a third allele'}; "
                        "export to npz."
                    )
                text.write(replicate_text(stored.example, sequence_length=store.sequence_length).encode())
            counts.add(len(together))
            rows.append(together[0].labels)
        if len(counts) > 1:
            raise PopdlError(
                "scenarios differ in their number of replicates, which ms text cannot tell; export to npz."
            )
        # The table first: with the text in place, both are.
        write_text(output.with_name(f"{output.name.split('.')[0]}.labels.tsv"), _table(rows, separator="\t"))


def _trees(store: _Store, output: Path) -> None:
    raise PopdlError(
        "stores hold genotypes, not trees: simulations keep no tree sequences, so there are none to export; export to npz or ms."
    )


def _table(rows: list[list[str]], *, separator: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(rows)
    return text.getvalue()


FORMATS: dict[str, Callable[[_Store, Path], None]] = {"npz": _npz, "ms": _ms, "trees": _trees}
"""What a store can be exported to."""
