"""Small labelled data sets of other programs' making, for the tests of importers, export and workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msprime
import numpy as np

from popdl.config.study import import_section
from popdl.formats._base import Importer, LabelledExample
from popdl.importing import read_examples, survey
from popdl.simulators._base import Example

LENGTH = 20_000
HAPLOTYPES = 8


def simulated(size: float, seed: int, *, num_haplotypes: int = HAPLOTYPES) -> Example:
    """One window under constant size, infinite sites."""
    ancestry = msprime.sim_ancestry(
        num_haplotypes, ploidy=1, population_size=size, sequence_length=LENGTH, random_seed=seed, discrete_genome=False
    )
    mutated = msprime.sim_mutations(ancestry, rate=1e-7, random_seed=seed, discrete_genome=False)
    return Example(mutated.genotype_matrix().astype(np.int8), mutated.sites_position)


def dnadna_dataset(
    folder: Path, *, scenarios: int, replicates: int = 2, digits: int = 3
) -> dict[tuple[int, int], Example]:
    """A data set as dnadna's own simulator writes it; returns the examples by scenario and replicate."""
    sizes = np.random.default_rng(3).uniform(1000, 20_000, scenarios)
    written = {}
    for scenario, size in enumerate(sizes):
        for replicate in range(replicates):
            example = simulated(size, 1 + scenario * replicates + replicate)
            written[scenario, replicate] = example
            path = folder / f"scenario_{scenario:0{digits}}/mine_{scenario:0{digits}}_{replicate:02}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, SNP=example.genotypes.T.astype(np.uint8), POS=example.positions / LENGTH)
    rows = [f"{scenario},{size!r},{replicates}" for scenario, size in enumerate(sizes.tolist())]
    (folder / "mine_params.csv").write_text("\n".join(["scenario_idx,size,n_replicates", *rows]) + "\n")
    return written


def dnadna_section(root: Path, **changes: Any) -> dict[str, Any]:
    """The config section of :func:`dnadna_dataset`."""
    return {
        "format": "dnadna",
        "folder": str(root),
        "dataset_name": "mine",
        "table": str(root / "mine_params.csv"),
        "parameters": ["size"],
        "num_haplotypes": HAPLOTYPES,
        "sequence_length": LENGTH,
        "num_scenarios": 6,
        "replicates": 2,
        **changes,
    }


def imported(values: dict[str, Any]) -> list[LabelledExample]:
    """Every example that a section imports."""
    importer: Importer = import_section(values)
    return read_examples(importer, survey(importer), 0, importer.num_examples, seed=1)


def assert_same(found: Example, expected: Example) -> None:
    """Genotypes are equal, positions to the last digits."""
    assert found.genotypes.dtype == np.int8
    np.testing.assert_array_equal(found.genotypes, expected.genotypes)
    np.testing.assert_allclose(found.positions, expected.positions, rtol=1e-12)
