"""Optional groups of statistics against naive loops and theory; what holds for every group."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import msprime
import numpy as np
import pytest
import scipy.stats
import yaml
from two_populations import (  # noqa: F401 (fixtures)
    GROUPS,
    HAPLOTYPES_OR_INDIVIDUALS,
    LENGTH,
    by_name,
    choose_genotypes,
    group,
    make_missing,
    make_window,
    naive_distance,
    naive_r2,
    simulate,
)

from popdl import plugins, statistics
from popdl.config.study import build_study
from popdl.errors import PopdlError
from popdl.statistics import _pairs
from popdl.statistics._base import FOLDER
from popdl.statistics.haplotypes import frequencies, homozygosities
from popdl.statistics.optional import haplotype_stretches, recombination, windowed


def test_every_group_is_found_and_has_a_test() -> None:
    assert set(plugins.known(FOLDER)) == set(GROUPS)


@pytest.mark.parametrize("name", HAPLOTYPES_OR_INDIVIDUALS)
@pytest.mark.parametrize("phased", [True, False])
@pytest.mark.parametrize("num_sites", [0, 1, 2, 3])
def test_hardly_any_site(name: str, phased: bool, num_sites: int, window, with_missing: np.ndarray) -> None:
    part = group(name, phased=phased)
    unknown = np.full_like(with_missing, -1)
    unknown[:, [0, 8]] = window[0][:, [0, 8]]
    for genotypes in (window[0], with_missing, unknown):
        for derived in (True, False):
            values = by_name(part, genotypes[:num_sites], window[1][:num_sites], derived=derived)
            assert not any(math.isinf(value) for value in values.values())
            if name in ("windowed", "haplotype_stretches"):
                assert not any(math.isnan(value) for value in values.values())


@pytest.mark.parametrize("name", HAPLOTYPES_OR_INDIVIDUALS)
def test_the_order_of_haplotypes_is_irrelevant(name: str, genotypes: np.ndarray, window) -> None:
    random = np.random.default_rng(2)
    part, diploid = group(name), group(name, phased=False)
    within = np.concatenate([random.permutation(8), 8 + random.permutation(6)])
    individuals = np.concatenate([2 * index + np.array([0, 1]) for index in [2, 0, 3, 1, 6, 4, 5]])
    settings = {"sequence_length": LENGTH, "derived": True}
    np.testing.assert_allclose(
        part.compute(genotypes, window[1], **settings),
        part.compute(np.ascontiguousarray(genotypes[:, within]), window[1], **settings),
        rtol=1e-9,
        atol=1e-12,
    )
    swapped = genotypes[:, individuals]
    flip = random.random((len(swapped), 7)) < 0.5
    swapped[:, 0::2], swapped[:, 1::2] = (
        np.where(flip, swapped[:, 1::2], swapped[:, 0::2]),
        np.where(flip, swapped[:, 0::2], swapped[:, 1::2]),
    )
    np.testing.assert_allclose(
        diploid.compute(genotypes, window[1], **settings),
        diploid.compute(swapped, window[1], **settings),
        rtol=1e-9,
        atol=1e-12,
    )


def test_groups_come_after_the_standard_statistics(window) -> None:
    groups = [group(name) for name in GROUPS]
    settings = {"sequence_length": LENGTH, "derived": False}
    values = statistics.compute(*window, **settings, groups=groups)
    names = statistics.names(14, derived=False, groups=groups)
    assert len(values) == len(names) == len(set(names))
    np.testing.assert_array_equal(
        values[: len(statistics.names(14, derived=False))], statistics.compute(*window, **settings)
    )


@pytest.mark.parametrize("diploid", [False, True])
def test_r2_and_distances_equal_naive(genotypes: np.ndarray, diploid: bool) -> None:
    samples = _pairs.dosages(genotypes) if diploid else genotypes
    if diploid:
        for (site, individual), value in np.ndenumerate(samples[:20]):
            both = genotypes[site, 2 * individual : 2 * individual + 2].tolist()
            assert value == (-1 if -1 in both else sum(both))
    r2, distances = _pairs.r2_matrix(samples[:40]), _pairs.distances(samples)
    for i, j in combinations(range(40), 2):
        assert r2[i, j] == r2[j, i] or math.isnan(r2[i, j])
        assert r2[i, j] == pytest.approx(naive_r2(samples[i], samples[j]), nan_ok=True, abs=1e-12)
    for i, j in combinations(range(samples.shape[1]), 2):
        assert distances[i, j] == distances[j, i] == pytest.approx(naive_distance(samples[:, i], samples[:, j]))


def naive_omega(r2: np.ndarray) -> float:
    best = 0.0
    for cut in range(2, len(r2) - 1):
        within, across = [], []
        for i, j in combinations(range(len(r2)), 2):
            if not math.isnan(r2[i, j]):
                (across if i < cut <= j else within).append(r2[i, j])
        if within and across and sum(across) > 0:
            best = max(best, np.mean(within) / np.mean(across))
    return best


def test_omega_equals_naive(genotypes: np.ndarray) -> None:
    for size in (2, 3, 4, 5, 25):
        r2 = _pairs.r2_matrix(genotypes[:size])
        assert _pairs.max_omega(r2) == pytest.approx(naive_omega(r2))
    blocks = np.full((6, 6), 0.1)
    blocks[:3, :3] = blocks[3:, 3:] = 0.8
    assert _pairs.max_omega(blocks) == pytest.approx(8)


@pytest.mark.parametrize("phased", [True, False])
def test_sub_window_statistics_equal_naive(genotypes: np.ndarray, phased: bool) -> None:
    found = windowed.sub_window_statistics(genotypes[:30], derived=True, phased=phased)
    names = [name[9:-5] for name in windowed.names(derived=True, num_windows=2)[::3]]
    values = dict(zip(names, found, strict=True))
    samples = genotypes[:30] if phased else _pairs.dosages(genotypes[:30])
    theta_h, highest = 0.0, 0.0
    for row in genotypes[:30].tolist():
        called = [allele for allele in row if allele >= 0]
        theta_h += sum(called) ** 2 / math.comb(len(called), 2)
        highest = max(highest, sum(called) / len(called))
    r2 = [naive_r2(a, b) for a, b in combinations(samples, 2)]
    distances = [naive_distance(a, b) for a, b in combinations(samples.T, 2)]
    assert values["theta_h"] == pytest.approx(theta_h)
    assert values["fay_wu_h"] == pytest.approx(values["pi"] - theta_h)
    assert values["highest_frequency"] == pytest.approx(highest)
    assert values["zns"] == pytest.approx(np.nanmean(r2))
    assert values["max_omega"] == pytest.approx(naive_omega(_pairs.r2_matrix(samples)))
    assert values["distance_variance"] == pytest.approx(np.var(distances))
    assert values["distance_skewness"] == pytest.approx(scipy.stats.skew(distances))
    assert values["distance_kurtosis"] == pytest.approx(scipy.stats.kurtosis(distances))
    if not (genotypes < 0).any():
        assert values["distinct_haplotypes"] == len({tuple(column) for column in samples.T.tolist()})


def naive_normalise(values: list[float]) -> list[float]:
    """As diploS/HIC does it."""
    if min(values) < 0:
        values = [value - min(values) for value in values]
    if sum(values) == 0:
        return [1 / len(values)] * len(values)
    return [value / sum(values) for value in values]


@pytest.mark.parametrize("num_windows", [11, 4])
def test_windows_are_normalised_statistics_of_their_sites(window, num_windows: int) -> None:
    values = by_name(group("windowed", num_windows=num_windows), *window)
    edges = np.linspace(0, LENGTH, num_windows + 1)
    parts = [window[0][(window[1] >= low) & (window[1] < high)] for low, high in pairwise(edges)]
    rows = np.array([windowed.sub_window_statistics(part, derived=True, phased=True) for part in parts]).T
    names = [name[9:-5] for name in windowed.names(derived=True, num_windows=num_windows) if name.endswith("_mean")]
    assert len(names) == 15 and any(row.min() < 0 for row in rows)
    for name, row in zip(names, rows.tolist(), strict=True):
        assert values[f"windowed_{name}_mean"] == pytest.approx(np.mean(row))
        shares = [values[f"windowed_{name}_{index + 1}"] for index in range(num_windows)]
        assert shares == pytest.approx(naive_normalise(row))
        assert sum(shares) == pytest.approx(1) and min(shares) >= 0


def test_folded_windows_have_the_twelve_statistics_of_diploshic() -> None:
    assert len(windowed.names(derived=False, num_windows=11)) == 12 * (1 + 11)


def test_expectation_of_theta_h() -> None:
    """E[θ_H] = θ under neutrality (Fay & Wu 2000), and so E[H] = 0."""
    found = []
    for trees in msprime.sim_ancestry(6, sequence_length=1e4, population_size=1e4, num_replicates=600, random_seed=4):
        seed = len(found) + 1
        mutated = msprime.sim_mutations(
            trees, rate=2e-8, discrete_genome=False, model=msprime.BinaryMutationModel(), random_seed=seed
        )
        genotypes = mutated.genotype_matrix().astype(np.int8).reshape(-1, 12)
        found.append(windowed.sub_window_statistics(genotypes, derived=True, phased=True)[3:5])
    errors = np.std(found, axis=0, ddof=1) / math.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - [8, 0]) < 4 * errors).all()


def test_homozygosities_by_hand() -> None:
    genotypes = np.array([[0, 0, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 1, 1]], dtype=np.int8)  # 3, 2, 1 and 1 of 7
    found = homozygosities(frequencies(genotypes))
    assert found["h1"] == pytest.approx((9 + 4 + 1 + 1) / 49)
    assert found["h12"] == pytest.approx((25 + 1 + 1) / 49)
    assert found["h123"] == pytest.approx((36 + 1) / 49)
    assert found["h2_h1"] == pytest.approx(6 / 15)
    values = by_name(group("haplotype_stretches"), genotypes, np.arange(2.0))
    assert values["haplotype_diversity_25_sites"] == pytest.approx((1 - 15 / 49) * 7 / 6)
    genotypes = np.array([[0, 2, 1, -1], [0, 0, 0, 0]], dtype=np.int8)
    assert frequencies(genotypes).tolist() == [0.5, 0.25, 0.25], "a missing dosage counts as the most frequent one"


def test_stretches_are_central(window) -> None:
    values = by_name(group("haplotype_stretches"), *window)
    first = (len(window[0]) - 25) // 2
    columns = [tuple(column) for column in window[0][first : first + 25].T.tolist()]
    assert values["distinct_haplotypes_25_sites"] == len(set(columns))
    counts = [columns.count(column) for column in set(columns)]
    assert values["h1_25_sites"] == pytest.approx(sum((count / 14) ** 2 for count in counts))
    assert len(haplotype_stretches.names()) == 30


def test_four_gametes_and_recombination_by_pair(genotypes: np.ndarray, window) -> None:
    positions = window[1]
    recombined = _pairs.four_gametes(genotypes)
    common = []
    for site, row in enumerate(genotypes.tolist()):
        called = [allele for allele in row if allele >= 0]
        if min(sum(called), len(called) - sum(called)) / len(called) >= 0.05:
            common.append(site)
    bins: dict[str, list[tuple[float, bool]]] = {name: [] for name in recombination.names(phased=True)}
    for rank, other in combinations(range(len(common)), 2):
        i, j = common[rank], common[other]
        gametes = {pair for pair in zip(genotypes[i].tolist(), genotypes[j].tolist(), strict=True) if -1 not in pair}
        assert recombined[i, j] == recombined[j, i] == (len(gametes) == 4)
        distance = (positions[j] - positions[i]) / LENGTH
        found = naive_r2(genotypes[i], genotypes[j]), len(gametes) == 4
        places = [f"rank_{other - rank}", "rank_3_4" if other - rank in (3, 4) else ""]
        side = "centre" if positions[i] < LENGTH / 2 <= positions[j] else "flanks"
        places += [f"{side}_{low:g}" for low, high in pairwise(recombination.DISTANCES) if low <= distance < high]
        if distance <= recombination.REACH:
            places += [f"span_{k}" for k in range(1, 12) if positions[i] < k * LENGTH / 12 <= positions[j]]
        for place in places:
            if f"r2_{place}" in bins:
                bins[f"r2_{place}"].append(found)
    values = by_name(group("recombination"), genotypes, positions)
    compared = [name for name, pairs in bins.items() if pairs]
    assert len(compared) >= 20
    for name in compared:
        assert values[name] == pytest.approx(np.nanmean([r2 for r2, _ in bins[name]]))
        four = values[name.replace("r2", "four_gametes")]
        assert four == pytest.approx(np.mean([flag for _, flag in bins[name]]))
    differences = [values[f"r2_centre_{low:g}"] - values[f"r2_flanks_{low:g}"] for low in recombination.DISTANCES[:-1]]
    assert values["r2_contrast"] == pytest.approx(np.nanmean(differences))


def apart(intervals: tuple[tuple[int, int], ...]) -> bool:
    return all(a[1] <= b[0] or b[1] <= a[0] for a, b in combinations(intervals, 2))


def test_least_recombinations_by_brute_force() -> None:
    random = np.random.default_rng(5)
    found = []
    for _ in range(40):
        matrix = np.triu(random.random((7, 7)) < 0.2, 1)
        intervals = list(zip(*(indices.tolist() for indices in np.nonzero(matrix)), strict=True))
        found.append(max(size for size in range(7) for chosen in combinations(intervals, size) if apart(chosen)))
        assert recombination.least_recombinations(matrix | matrix.T) == found[-1]
    assert len(set(found)) > 2


def test_without_recombination_there_are_no_four_gametes() -> None:
    genotypes, positions = simulate(1, recombination_rate=0)
    values = by_name(group("recombination"), genotypes, positions)
    assert values["least_recombinations"] == 0 == values["four_gametes_rank_1"]


def test_a_hotspot_shows_in_the_contrast() -> None:
    centre, half = LENGTH / 2, 1000
    hot = msprime.RateMap(position=[0, centre - half, centre + half, LENGTH], rate=[5e-9, 1e-6, 5e-9])
    contrasts = [
        [
            by_name(group("recombination"), *simulate(seed, recombination_rate=rate, samples={"A": 25}))["r2_contrast"]
            for seed in range(1, 9)
        ]
        for rate in (hot, 5e-9)
    ]
    assert np.mean(contrasts[0]) < -0.05 < np.mean(contrasts[1])


def config() -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).parents[1] / "config" / "test.yaml").read_text())


@pytest.mark.parametrize(
    ("groups", "encoding", "message"),
    [
        (["windowed"], {"phase": "ignore", "sort": "none"}, "statistics.windowed.phased: .* set `phased: false`"),
        ([{"name": "between_populations"}], {}, "populations"),
        (
            [{"name": "between_populations", "populations": {"A": 5, "B": 4}}],
            {},
            "statistics.between_populations.populations: expected 12 haplotypes in all .simulation., found 9",
        ),
        ([{"name": "windowed", "num_windows": 1}], {}, "num_windows"),
        (["window"], {}, "windowed"),
    ],
)
def test_options_that_do_not_fit_are_refused(groups, encoding, message: str) -> None:
    values = config()
    values |= {"statistics": groups, "encoding": values["encoding"] | encoding}
    with pytest.raises(PopdlError, match=message):
        build_study(values)


def test_populations_must_be_those_of_the_simulation() -> None:
    values = config()
    values["statistics"] = [{"name": "between_populations", "populations": {"A": 6, "B": 6}}]
    study = build_study(values)
    study = study.model_copy(
        update={"simulation": study.simulation.model_copy(update={"num_haplotypes": {"B": 6, "A": 6}})}
    )
    problems = group("between_populations", populations={"A": 6, "B": 6}).problems(study)
    assert problems == [
        "populations: expected those of simulation.num_haplotypes, {'B': 6, 'A': 6}, found {'A': 6, 'B': 6}"
    ]
