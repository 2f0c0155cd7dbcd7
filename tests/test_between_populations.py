"""Statistics of pairs of populations against tskit and naive loops."""

from __future__ import annotations

from itertools import combinations, pairwise, product

import msprime
import numpy as np
import pytest
from two_populations import (  # noqa: F401 (fixtures)
    LENGTH,
    by_name,
    choose_genotypes,
    group,
    make_missing,
    make_window,
    naive_distance,
    simulate,
)

from popdl.statistics import _pairs
from popdl.statistics.optional import between_populations as between


def test_divergence_equals_tskit() -> None:
    trees = msprime.sim_ancestry(7, sequence_length=LENGTH, population_size=1e4, random_seed=2, recombination_rate=1e-8)
    trees = msprime.sim_mutations(
        trees, rate=2e-8, discrete_genome=False, model=msprime.BinaryMutationModel(), random_seed=2
    )
    sets = [list(range(8)), list(range(8, 14))]
    values = by_name(group("between_populations"), trees.genotype_matrix().astype(np.int8), trees.tables.sites.position)
    assert values["dxy_A_B"] == pytest.approx(trees.divergence(sets))
    within = trees.diversity(sets)
    assert [values["pi_A"], values["pi_B"]] == pytest.approx(within.tolist())
    assert values["tajimas_d_A"] == pytest.approx(trees.Tajimas_D(sets[0]))
    assert values["fst_A_B"] == pytest.approx(1 - within.mean() / trees.divergence(sets))
    assert values["segregating_sites_B"] == trees.segregating_sites(sets[1], span_normalise=False)


def test_between_populations_equals_naive(genotypes: np.ndarray, window) -> None:
    positions = window[1]
    values = by_name(group("between_populations"), genotypes, positions)
    shared = fixed = private = 0
    for row in genotypes.tolist():
        a, b = ({allele for allele in part if allele >= 0} for part in (row[:8], row[8:]))
        shared += len(a) == len(b) == 2
        fixed += len(a) == len(b) == 1 and a != b
        private += len(a) == 2 and len(b) < 2
    assert shared > 0 < private
    assert [values[f"{name}_A_B"] for name in ("shared_sites", "fixed_differences")] == [shared, fixed]
    assert values["private_sites_A"] == private
    distances = {
        (i, j): naive_distance(genotypes[:, i], genotypes[:, j]) / LENGTH for i, j in product(range(14), repeat=2)
    }
    dmin = min(distances[pair] for pair in product(range(8), range(8, 14)))
    within = [distances[pair] for pair in combinations(range(8), 2)]
    assert values["dmin_A_B"] == pytest.approx(dmin)
    assert values["gmin_A_B"] == pytest.approx(dmin / values["dxy_A_B"])
    assert values["dmin_rank_A_B"] == pytest.approx(np.mean([distance < dmin for distance in within]))
    assert values["dmin_over_pi_B_A"] == pytest.approx(dmin / values["pi_B"])
    shares = []
    for i in range(14):
        nearest = min(distances[i, j] for j in range(14) if j != i)
        neighbours = [j for j in range(14) if j != i and distances[i, j] == nearest]
        shares.append(np.mean([(i < 8) == (j < 8) for j in neighbours]))
    assert values["nearest_neighbours_A_B"] == pytest.approx(np.mean(shares))
    longest = []
    for i, j in product(range(8), range(8, 14)):
        pairs = zip(genotypes[:, i].tolist(), genotypes[:, j].tolist(), strict=True)
        at = [place for place, (x, y) in zip(positions, pairs, strict=True) if x >= 0 <= y and x != y]
        longest.append(max(b - a for a, b in pairwise([0, *at, LENGTH])) / LENGTH)
    assert values["longest_shared_A_B"] == pytest.approx(max(longest))
    assert values["mean_longest_shared_A_B"] == pytest.approx(np.mean(longest))
    zns = [np.nanmean(_pairs.pairs(_pairs.r2_matrix(part))) for part in (genotypes[:, :8], genotypes[:, 8:], genotypes)]
    assert values["zx_A_B"] == pytest.approx((zns[0] + zns[1]) / 2 / zns[2])


def test_an_introgressed_haplotype_is_seen(window) -> None:
    genotypes, positions = simulate(8, split=50000)
    before = by_name(group("between_populations"), genotypes, positions)
    genotypes[:, 0] = genotypes[:, 8]  # a haplotype of B is now in A
    after = by_name(group("between_populations"), genotypes, positions)
    assert before["dmin_A_B"] > 0 == after["dmin_A_B"] == after["dmin_rank_A_B"]
    assert before["longest_shared_A_B"] < 1 == after["longest_shared_A_B"]
    assert after["pi_A"] > before["pi_A"] and before["nearest_neighbours_A_B"] == 1 > after["nearest_neighbours_A_B"]


def test_the_order_of_populations_is_irrelevant(genotypes: np.ndarray, window) -> None:
    values = by_name(group("between_populations"), genotypes, window[1])
    turned = by_name(
        group("between_populations", populations={"B": 6, "A": 8}), np.roll(genotypes, 6, axis=1), window[1]
    )
    for name, value in values.items():
        other = name if name in turned else name.replace("_A_B", "_B_A")
        assert turned[other] == pytest.approx(value)


def test_without_phase_nothing_is_said_of_haplotypes(window) -> None:
    values = by_name(group("between_populations"), *window)
    unphased = by_name(group("between_populations", phased=False), *window)
    assert set(values) - set(unphased) == {
        *(f"{name}_A_B" for name in between.PHASED),
        *(f"{name}_{pair}" for name in between.DIRECTED for pair in ("A_B", "B_A")),
    }
    assert all(values[name] == value for name, value in unphased.items())


def test_three_populations_have_three_pairs(window) -> None:
    populations = {"A": 8, "B": 3, "C": 3}
    values = by_name(group("between_populations", populations=populations), *window)
    alone = np.concatenate([window[0][:, :8], window[0][:, 11:]], axis=1)
    pair = by_name(group("between_populations", populations={"A": 8, "C": 3}), alone, window[1])
    assert "fst_B_C" in values
    for name, value in pair.items():
        if not name.startswith("private"):
            assert values[name] == pytest.approx(value, nan_ok=True), name
