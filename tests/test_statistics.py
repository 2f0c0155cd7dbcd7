"""Statistics against tskit, naive loops and theory."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations, pairwise

import msprime
import numpy as np
import pytest
import tskit
from hypothesis import given
from hypothesis import strategies as st

from popdl import statistics
from popdl.statistics import linkage, spectrum
from popdl.statistics._counts import allele_counts
from popdl.statistics.haplotypes import STRETCH, haplotype_statistics
from popdl.statistics.linkage import linkage_by_distance

LENGTH = 2e5


def simulate(seed: int, *, num_individuals: int = 10, **changes: float) -> tskit.TreeSequence:
    settings = {"sequence_length": LENGTH, "recombination_rate": 1e-8, "population_size": 1e4, **changes}
    trees = msprime.sim_ancestry(num_individuals, random_seed=seed, **settings)
    return msprime.sim_mutations(
        trees, rate=1e-8, discrete_genome=False, model=msprime.BinaryMutationModel(), random_seed=seed
    )


@pytest.fixture(scope="session")
def trees() -> tskit.TreeSequence:
    return simulate(5)


@pytest.fixture(scope="session")
def window(trees: tskit.TreeSequence) -> tuple[np.ndarray, np.ndarray]:
    """Genotypes of 20 haplotypes, and positions."""
    return trees.genotype_matrix().astype(np.int8), trees.tables.sites.position


@pytest.fixture(scope="session")
def with_missing(window: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    genotypes = window[0].copy()
    genotypes[np.random.default_rng(1).random(genotypes.shape) < 0.2] = -1
    return genotypes


def by_name(
    genotypes: np.ndarray, positions: np.ndarray, *, derived: bool = False, sequence_length: float = LENGTH
) -> dict[str, float]:
    values = statistics.compute(genotypes, positions, sequence_length=sequence_length, derived=derived)
    return dict(zip(statistics.names(genotypes.shape[1], derived=derived), values.tolist(), strict=True))


def spectrum_of(values: dict[str, float]) -> list[float]:
    return [value for name, value in values.items() if name.startswith("sfs_")]


@pytest.mark.parametrize("derived", [False, True])
def test_equals_tskit(trees: tskit.TreeSequence, window: tuple[np.ndarray, np.ndarray], derived: bool) -> None:
    values = by_name(*window, derived=derived)
    assert values["segregating_sites"] == trees.segregating_sites(span_normalise=False) > 50
    assert values["pi"] == pytest.approx(trees.diversity(), rel=1e-12)
    assert values["tajimas_d"] == pytest.approx(trees.Tajimas_D(), rel=1e-12)
    afs = trees.allele_frequency_spectrum(span_normalise=False, polarised=derived)
    expected = afs[1:-1] if derived else afs[1 : trees.num_samples // 2 + 1]
    assert spectrum_of(values) == expected.tolist()


def test_wattersons_theta(window: tuple[np.ndarray, np.ndarray]) -> None:
    values = by_name(*window)
    harmonic = sum(1 / i for i in range(1, 20))
    assert values["wattersons_theta"] == pytest.approx(values["segregating_sites"] / harmonic / LENGTH, rel=1e-12)


def test_equals_naive_where_alleles_are_missing(
    window: tuple[np.ndarray, np.ndarray], with_missing: np.ndarray
) -> None:
    pi = theta = 0.0
    sites, sizes, bins = 0, [], Counter()
    for row in with_missing.tolist():
        called = [allele for allele in row if allele >= 0]
        ones = sum(called)
        pairs = list(combinations(called, 2))
        pi += sum(a != b for a, b in pairs) / len(pairs)
        if 0 < ones < len(called):
            theta += 1 / sum(1 / i for i in range(1, len(called)))
            sites += 1
            sizes.append(len(called))
            bins[max(1, math.floor(min(ones, len(called) - ones) / len(called) * 20 + 0.5))] += 1
    values = by_name(with_missing, window[1])
    assert values["segregating_sites"] == sites
    assert values["pi"] * LENGTH == pytest.approx(pi, rel=1e-12)
    assert values["wattersons_theta"] * LENGTH == pytest.approx(theta, rel=1e-12)
    assert spectrum_of(values) == [bins[count] for count in range(1, 11)]
    assert values["missing_fraction"] == pytest.approx(np.mean(with_missing < 0), rel=1e-12)
    n = round(float(np.mean(sizes)))
    a1, a2 = sum(1 / i for i in range(1, n)), sum(1 / i**2 for i in range(1, n))
    e1 = ((n + 1) / (3 * (n - 1)) - 1 / a1) / a1
    e2 = (2 * (n**2 + n + 3) / (9 * n * (n - 1)) - (n + 2) / (a1 * n) + a2 / a1**2) / (a1**2 + a2)
    expected = (pi - theta) / math.sqrt(e1 * sites + e2 * sites * (sites - 1))
    assert values["tajimas_d"] == pytest.approx(expected, rel=1e-10)


def test_missing_alleles_bias_neither_estimate_of_theta(window: tuple[np.ndarray, np.ndarray]) -> None:
    """Alleles missing at random leave the expectation of π as it is; over sites that stay polymorphic θ_W too."""
    whole = by_name(*window)
    random = np.random.default_rng(2)
    thinned = []
    for _ in range(40):
        genotypes = window[0].copy()
        genotypes[random.random(genotypes.shape) < 0.3] = -1
        thinned.append(by_name(genotypes, window[1])["pi"])
    error = np.std(thinned, ddof=1) / math.sqrt(len(thinned))
    assert abs(np.mean(thinned) - whole["pi"]) < 4 * error


@pytest.mark.slow
def test_expectations_of_the_neutral_coalescent() -> None:
    """E[S] = θ aₙ, E[π] = θ, E[ξᵢ] = θ / i (Fu 1995), at 10 haplotypes without recombination."""
    n, replicates, population_size, length = 10, 2000, 1e4, 1e4
    theta = 4 * population_size * 1e-8 * length
    ancestries = msprime.sim_ancestry(
        n // 2, sequence_length=length, population_size=population_size, num_replicates=replicates, random_seed=11
    )
    rows = []
    for seed, ancestry in enumerate(ancestries, start=1):
        mutated = msprime.sim_mutations(
            ancestry, rate=1e-8, discrete_genome=False, model=msprime.BinaryMutationModel(), random_seed=seed
        )
        values = by_name(
            mutated.genotype_matrix().astype(np.int8).reshape(-1, n),
            mutated.tables.sites.position,
            derived=True,
            sequence_length=length,
        )
        scaled = [values["pi"] * length, values["wattersons_theta"] * length, values["segregating_sites"]]
        rows.append([*scaled, *spectrum_of(values)])
    harmonic = sum(1 / i for i in range(1, n))
    expected = np.array([theta, theta, theta * harmonic, *(theta / i for i in range(1, n))])
    errors = np.std(rows, axis=0, ddof=1) / math.sqrt(replicates)
    np.testing.assert_array_less(np.abs(np.mean(rows, axis=0) - expected), 4 * errors)


@pytest.mark.parametrize("derived", [False, True])
@given(num_haplotypes=st.integers(2, 6000))
def test_spectrum_bins_cover_every_count_once(derived: bool, num_haplotypes: int) -> None:
    edges = spectrum.bin_edges(num_haplotypes, derived=derived)
    last = num_haplotypes - 1 if derived else num_haplotypes // 2
    assert edges[0] == 1 and edges[-1] == last + 1
    assert np.all(np.diff(edges) > 0)
    assert len(edges) - 1 <= spectrum.MAX_BINS
    if last <= spectrum.MAX_BINS:
        assert np.all(np.diff(edges) == 1)
    if derived:
        np.testing.assert_array_equal(np.diff(edges), np.diff(edges)[::-1])
    else:
        widths = np.diff(edges)[:-1]
        assert np.all(widths[1:] >= widths[:-1] - 1)


def test_binned_spectrum_equals_naive() -> None:
    n = 300
    ones = np.random.default_rng(1).integers(0, n + 1, 5000)
    edges = spectrum.bin_edges(n, derived=True)
    found = spectrum.site_frequency_spectrum(ones, np.full(5000, n), num_haplotypes=n, derived=True)
    expected = [sum(low <= count < high for count in ones) for low, high in pairwise(edges)]
    assert found.tolist() == expected
    widest = int(np.argmax(np.diff(edges)))
    assert f"sfs_{edges[widest]}_{edges[widest + 1] - 1}" in statistics.names(n, derived=True)


def test_haplotype_statistics_by_hand() -> None:
    # Haplotype frequencies 3/6, 2/6 and 1/6.
    genotypes = np.array([[0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1]], dtype=np.int8)
    values = haplotype_statistics(genotypes)
    h1 = (9 + 4 + 1) / 36
    assert values == pytest.approx(
        {"h1": h1, "h12": (25 + 1) / 36, "h2_h1": (h1 - 9 / 36) / h1, "distinct_haplotypes": 3}
    )
    # A missing allele is taken for the more frequent one, be it 0 or 1: nothing changes.
    for with_missing in (genotypes.copy(), 1 - genotypes):
        with_missing[1, 0] = -1
        assert haplotype_statistics(with_missing) == values


def test_haplotypes_are_those_of_the_central_stretch(window: tuple[np.ndarray, np.ndarray]) -> None:
    genotypes = np.tile(window[0], (3, 1))
    first = (len(genotypes) - STRETCH) // 2
    assert len(genotypes) > STRETCH
    rows = Counter(tuple(row) for row in genotypes[first : first + STRETCH].T.tolist())
    frequencies = sorted((count / 20 for count in rows.values()), reverse=True)
    values = haplotype_statistics(genotypes)
    assert values["distinct_haplotypes"] == len(rows)
    assert values["h1"] == pytest.approx(sum(p * p for p in frequencies))
    assert values["h12"] == pytest.approx(sum(frequencies[:2]) ** 2 + sum(p * p for p in frequencies[2:]))


def naive_linkage(genotypes: np.ndarray, positions: np.ndarray, sequence_length: float) -> list[float]:
    """Mean r² by distance, one pair at a time; for fewer common sites than ``MAX_PAIRS``."""
    common = []
    for site, row in enumerate(genotypes.tolist()):
        called = [allele for allele in row if allele >= 0]
        if called and min(sum(called), len(called) - sum(called)) / len(called) >= linkage.MIN_FREQUENCY:
            common.append(site)
    assert len(common) <= linkage.MAX_PAIRS
    means = []
    for low, high in pairwise(linkage.EDGES):
        found = []
        for first in common:
            beyond = [second for second in common if positions[second] >= positions[first] + low * sequence_length]
            if not beyond or positions[beyond[0]] - positions[first] >= high * sequence_length:
                continue
            pairs = [
                (a, b)
                for a, b in zip(genotypes[first].tolist(), genotypes[beyond[0]].tolist(), strict=True)
                if a >= 0 <= b
            ]
            p = sum(a for a, _ in pairs) / len(pairs)
            q = sum(b for _, b in pairs) / len(pairs)
            if 0 < p < 1 and 0 < q < 1:
                d = sum(a * b for a, b in pairs) / len(pairs) - p * q
                found.append(d * d / (p * (1 - p) * q * (1 - q)))
        means.append(sum(found) / len(found) if found else math.nan)
    return means


@pytest.mark.parametrize("missing", [False, True])
def test_linkage_equals_naive(window: tuple[np.ndarray, np.ndarray], with_missing: np.ndarray, missing: bool) -> None:
    genotypes, positions = (with_missing if missing else window[0])[:200], window[1][:200]
    found = linkage_by_distance(genotypes, positions, sequence_length=LENGTH)
    np.testing.assert_allclose(found, naive_linkage(genotypes, positions, LENGTH), rtol=1e-10)
    assert np.isfinite(found[3:]).all()


def test_linkage_of_copied_and_of_independent_sites() -> None:
    positions = np.arange(0, 1000, 5.0)
    copied = np.tile(np.array([0, 1] * 10, dtype=np.int8), (200, 1))
    assert set(linkage_by_distance(copied, positions, sequence_length=1000)[3:]) == {1.0}
    # E[r²] of independent sites is 1 / (n − 1), given their allele frequencies.
    random = np.random.default_rng(3)
    base = np.repeat([0, 1], 50).astype(np.int8)
    shuffled = np.array([random.permutation(base) for _ in positions])
    found = linkage_by_distance(shuffled, positions, sequence_length=1000)[3:]
    assert np.mean(found) == pytest.approx(1 / 99, abs=4 * math.sqrt(2) / 99 / math.sqrt(900))


def test_linkage_falls_with_distance() -> None:
    means = np.nanmean(
        [
            linkage_by_distance(
                mutated.genotype_matrix().astype(np.int8), mutated.tables.sites.position, sequence_length=1e6
            )
            for mutated in (simulate(seed, num_individuals=25, sequence_length=1e6) for seed in (1, 2))
        ],
        axis=0,
    )
    assert means[0] > means[4] > means[6]


def test_distance_cv() -> None:
    genotypes = np.tile(np.array([0, 1], dtype=np.int8), (4, 1))
    distances = [1.0, 2.0, 6.0]
    found = by_name(genotypes, np.array([0.0, 1, 3, 9]))["distance_cv"]
    assert found == pytest.approx(np.std(distances) / 3)
    assert by_name(genotypes, np.array([0.0, 4, 8, 12]))["distance_cv"] == 0


@given(st.integers(0, 2), st.booleans())
def test_hardly_any_site(num_sites: int, derived: bool) -> None:
    genotypes = np.tile(np.array([0, 0, 0, 1], dtype=np.int8), (num_sites, 1))
    values = by_name(genotypes, np.arange(num_sites) * 10.0, derived=derived)
    assert values["segregating_sites"] == sum(spectrum_of(values)) == num_sites
    assert math.isnan(values["tajimas_d"]) == (num_sites == 0)
    assert values["missing_fraction"] == 0 and values["distinct_haplotypes"] == 1 + (num_sites > 0)


def test_folded_statistics_ignore_allele_names(window: tuple[np.ndarray, np.ndarray], with_missing: np.ndarray) -> None:
    flipped = np.where(with_missing >= 0, 1 - with_missing, -1).astype(np.int8)
    before, after = (
        statistics.compute(genotypes, window[1], sequence_length=LENGTH, derived=False)
        for genotypes in (with_missing, flipped)
    )
    np.testing.assert_allclose(before, after, rtol=1e-12)


def test_haplotype_order_is_irrelevant(window: tuple[np.ndarray, np.ndarray], with_missing: np.ndarray) -> None:
    order = np.random.default_rng(1).permutation(20)
    before, after = (
        statistics.compute(genotypes, window[1], sequence_length=LENGTH, derived=True)
        for genotypes in (with_missing, with_missing[:, order])
    )
    np.testing.assert_array_equal(before, after)


def test_allele_counts(with_missing: np.ndarray) -> None:
    ones, called = allele_counts(with_missing)
    assert ones.tolist() == [row.count(1) for row in with_missing.tolist()]
    assert called.tolist() == [len(row) - row.count(-1) for row in with_missing.tolist()]
