"""Windows of two populations, and naive statistics of pairs, for the tests of optional statistics."""

from __future__ import annotations

import math

import msprime
import numpy as np
import pytest

from popdl.statistics._base import Statistic, build, describe

LENGTH = 1e5
POPULATIONS = {"A": 8, "B": 6}
GROUPS = {
    "windowed": {},
    "haplotype_stretches": {},
    "recombination": {},
    "between_populations": {"populations": POPULATIONS},
    "read_linkage": {"coverage": 25, "ploidy": 2},
}
HAPLOTYPES_OR_INDIVIDUALS = [name for name in GROUPS if name != "read_linkage"]
"""Groups with the option ``phased``, which look at the same alleles whatever their order."""


def simulate(seed: int, *, split: float = 2000, **changes) -> tuple[np.ndarray, np.ndarray]:
    """Genotypes and positions of 14 haplotypes, 8 of one population and 6 of another."""
    demography = msprime.Demography()
    for name in ("A", "B", "C"):
        demography.add_population(name=name, initial_size=1e4)
    demography.add_population_split(time=split, derived=["A", "B"], ancestral="C")
    settings = {"sequence_length": LENGTH, "recombination_rate": 1e-8, "samples": {"A": 4, "B": 3}} | changes
    trees = msprime.sim_ancestry(demography=demography, random_seed=seed, **settings)
    trees = msprime.sim_mutations(
        trees, rate=2e-8, discrete_genome=False, model=msprime.BinaryMutationModel(), random_seed=seed
    )
    return trees.genotype_matrix().astype(np.int8), trees.tables.sites.position


@pytest.fixture(scope="module", name="window")
def make_window() -> tuple[np.ndarray, np.ndarray]:
    genotypes, positions = simulate(3)
    chosen = np.linspace(0, len(positions) - 1, 120).astype(int)
    return np.ascontiguousarray(genotypes[chosen]), positions[chosen]


@pytest.fixture(scope="module", name="with_missing")
def make_missing(window: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    genotypes = window[0].copy()
    genotypes[np.random.default_rng(1).random(genotypes.shape) < 0.15] = -1
    return genotypes


@pytest.fixture(params=["complete", "missing"], name="genotypes")
def choose_genotypes(request: pytest.FixtureRequest, window: tuple[np.ndarray, np.ndarray], with_missing: np.ndarray):
    return window[0] if request.param == "complete" else with_missing


def group(name: str, **options) -> Statistic:
    return build(describe({"name": name, **GROUPS[name], **options}))


def by_name(
    part: Statistic, genotypes: np.ndarray, positions: np.ndarray, *, derived=True, sequence_length=LENGTH
) -> dict[str, float]:
    values = part.compute(genotypes, positions, sequence_length=sequence_length, derived=derived)
    return dict(zip(part.names(genotypes.shape[1], derived=derived), np.asarray(values).tolist(), strict=True))


def naive_r2(a: np.ndarray, b: np.ndarray) -> float:
    known = [(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True) if x >= 0 <= y]
    x, y = np.array(known, dtype=float).reshape(-1, 2).T
    if len(known) == 0 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def naive_distance(a: np.ndarray, b: np.ndarray) -> float:
    known = [(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True) if x >= 0 <= y]
    return sum(x != y for x, y in known) / len(known) * len(a)
