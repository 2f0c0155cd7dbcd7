"""Writing a store of raw examples for other programs: dnadna's npz layout, ms text, or tree sequences."""

from __future__ import annotations

import csv
import gzip
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby, islice, pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import yaml

from popdl.config.study import simulation_section
from popdl.errors import PopdlError
from popdl.files import whole, write_text
from popdl.ms_text import replicate_text
from popdl.seeds import generator
from popdl.simulation import MAX_DRAWS, draws
from popdl.simulators._base import Example, Failed, Redrawn, Simulator
from popdl.store import find_shards, read_shard

if TYPE_CHECKING:
    import tskit

__all__ = ["FORMATS", "export"]


@dataclass(frozen=True)
class _Stored:
    """One example of a store."""

    number: int
    scenario: int
    example: Example
    labels: list[str]
    values: np.ndarray
    """The labels as numbers."""


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
                yield _Stored(number, int(scenario), example, self._words(labels), labels)

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
        A new folder for ``npz`` and ``trees``, a new file for ``ms`` (gzipped if its name ends in ``.gz``).
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
    if output.exists():
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
    """A tree sequence for each example, and a table of labels.

    Stores keep no trees, but an example is made of its seed and number: it is simulated again, and is its tree sequence only
    if it has the very genotypes of the store.
    """
    digits = len(str(store.num_examples - 1))
    partial = output.with_name(f".{output.name}.partial-{os.getpid()}")
    rows = [["example", "scenario", *store.parameters]]
    try:
        partial.mkdir(parents=True)
        for stored, trees in _simulated_again(store):
            trees.dump(partial / f"example_{stored.number:0{digits}}.trees")
            rows.append([str(stored.number), str(stored.scenario), *stored.labels])
        write_text(partial / "labels.tsv", _table(rows, separator="\t"))
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _simulated_again(store: _Store) -> Iterator[tuple[_Stored, tskit.TreeSequence]]:
    examples = iter(store)
    for path in store.shards:
        made = read_shard(path, kind="simulations").attributes
        if "simulation" not in made:
            raise PopdlError(
                f"{path}: these examples were imported, so there are no trees of them; export to npz or ms."
            )
        simulation = simulation_section({**made["simulation"], "num_scenarios": 1})
        for _ in range(made["num_examples"]):
            stored = next(examples)
            parameters, random = _drawn(simulation, stored, seed=made["seed"])
            try:
                trees = _with_genotypes(simulation, parameters, random, stored.example)
            except TypeError:
                raise PopdlError(
                    f"{path}: simulator {simulation.simulator} makes no tree sequences; export to npz or ms."
                ) from None
            if trees is None:
                raise PopdlError(
                    f"{path}: example {stored.number} comes out differently when it is simulated again, so its trees are not known; "
                    f"use the versions that made it: {', '.join(f'{name} {number}' for name, number in made['versions'].items())}."
                )
            yield stored, trees


def _drawn(simulation: Simulator, stored: _Stored, *, seed: int) -> tuple[dict[str, float], np.random.Generator]:
    """The parameters of an example, draws that were given up among those before them, and its generator."""
    first: tuple[dict[str, float], np.random.Generator] | None = None
    for parameters, random in islice(draws(simulation, seed=seed, scenario=stored.scenario), MAX_DRAWS):
        if stored.number % simulation.replicates:
            random = generator(seed, "simulation", stored.number)
        first = first or (parameters, random)
        labels = list(simulation.labels(parameters).values())
        if np.array_equal(labels, stored.values[: len(labels)], equal_nan=True):
            return parameters, random
    assert first is not None
    return first  # made by other versions: the genotypes will tell


def _with_genotypes(
    simulation: Simulator, parameters: dict[str, float], random: np.random.Generator, example: Example
) -> tskit.TreeSequence | None:
    """The first tree sequence that a simulation gives with these genotypes, draws that were not used among those left out."""
    for _ in range(MAX_DRAWS):
        try:
            trees = simulation.tree_sequence(parameters, random)
        except (Failed, Redrawn):
            continue
        if simulation.keep_sites is not None:
            trees = trees.delete_sites(np.flatnonzero(~np.isin(trees.sites_position, example.positions)))
        if np.array_equal(trees.sites_position, example.positions) and np.array_equal(
            trees.genotype_matrix(), example.genotypes
        ):
            return trees
        if simulation.keep_sites is None and simulation.min_sites is None:
            return None
    return None


def _table(rows: list[list[str]], *, separator: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(rows)
    return text.getvalue()


FORMATS: dict[str, Callable[[_Store, Path], None]] = {"npz": _npz, "ms": _ms, "trees": _trees}
"""What a store can be exported to."""
