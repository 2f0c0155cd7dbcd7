"""Statistics of reads: the reads that networks get, r² and spectrum against naive loops, deep reads, and what they see of recombination."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import combinations, pairwise
from pathlib import Path

import msprime
import numpy as np
import pytest
import torch
from batches import make
from two_populations import LENGTH, by_name, group, make_missing, make_window, naive_r2  # noqa: F401 (fixtures)

from popdl import statistics
from popdl.config.encoding import Encoding
from popdl.config.study import build_study, load_study, study_values
from popdl.dataset import encode_examples
from popdl.encoding import Encoder
from popdl.errors import PopdlError
from popdl.statistics import _pairs, linkage
from popdl.statistics._base import Statistic, describe
from popdl.statistics.optional import recombination
from popdl.statistics.optional.read_linkage import UNIT, read_linkage
from popdl.transforms._base import Examples, Form

GROUP = {"name": "read_linkage", "coverage": 6, "ploidy": 4}
TETRAPLOIDS = 12


def tetraploids(seed: int, *, recombination_rate: float = 1e-8) -> tuple[np.ndarray, np.ndarray]:
    """Genotypes and positions of 12 individuals with four haplotypes each."""
    trees = msprime.sim_ancestry(
        TETRAPLOIDS,
        ploidy=4,
        population_size=5000,
        sequence_length=LENGTH,
        recombination_rate=recombination_rate,
        random_seed=seed,
    )
    model = msprime.BinaryMutationModel()
    trees = msprime.sim_mutations(trees, rate=1.2e-8, discrete_genome=False, model=model, random_seed=seed)
    return trees.genotype_matrix().astype(np.int8), trees.tables.sites.position


@pytest.fixture(scope="module", name="sample")
def make_sample() -> tuple[np.ndarray, np.ndarray]:
    """A window with some missing alleles, and an individual that is missing altogether at some sites."""
    genotypes, positions = tetraploids(3)
    assert 100 < len(positions) < recombination.MAX_SITES
    genotypes[np.random.default_rng(1).random(genotypes.shape) < 0.1] = -1
    genotypes[::5, 8:12] = -1
    return genotypes, positions


def shares(part: Statistic, genotypes: np.ndarray) -> np.ndarray:
    """Shares of reads, NaN for none."""
    found = part.shares(genotypes)
    return np.where(found < 0, np.nan, found / UNIT)


@pytest.mark.parametrize("derived", [True, False])
@pytest.mark.parametrize("num_sites", [0, 1, 2, 3])
def test_hardly_any_site(num_sites: int, derived: bool, window, with_missing: np.ndarray) -> None:
    part = group("read_linkage")
    for genotypes in (window[0], with_missing, np.full_like(with_missing, -1)):
        values = by_name(part, genotypes[:num_sites], window[1][:num_sites], derived=derived)
        assert not any(math.isinf(value) for value in values.values())
        assert 0 <= values["reads_sites"] <= num_sites
        assert all(name.startswith("reads_") for name in values)


def test_reads_are_those_that_networks_predict_from(sample) -> None:
    genotypes, _ = sample
    encoder = Encoder(Encoding(max_sites=500), num_haplotypes=48, ploidy=4, sequence_length=LENGTH)
    padded = np.zeros((2, 48, 500), dtype=np.float32)
    padded[1, :, : len(genotypes)] = genotypes.T
    mask = torch.zeros(2, 500, dtype=torch.bool)
    mask[1, : len(genotypes)] = True
    transform = make("read_counts", Form.of(encoder), coverage=6)
    expected = transform(Examples(torch.from_numpy(padded), None, mask), None).genotypes[1, :, : len(genotypes)].T
    found = shares(group(**GROUP), genotypes)
    np.testing.assert_allclose(np.nan_to_num(found, nan=-1), expected.numpy(), atol=1 / UNIT)
    assert np.isnan(found[::5, 2]).all(), "nobody can have reads of alleles that are missing"


def test_an_example_has_its_own_statistics_in_any_batch_and_order(sample) -> None:
    near = sample[0].copy()
    near[0, 0] = 1 - max(near[0, 0], 0)
    examples = [(genotypes, sample[1], np.random.default_rng(1)) for genotypes in (sample[0], near)]

    def values(*, sort: str, order: list[int]) -> np.ndarray:
        """Haplotypes are sorted in the arrays; statistics see the individuals as they are."""
        encoder = Encoder(
            Encoding(max_sites=50, sort=sort, alleles="derived"),
            num_haplotypes=48,
            ploidy=4,
            sequence_length=LENGTH,
            statistics=[describe(GROUP)],
        )
        return encode_examples(encoder, [examples[index] for index in order])[0]["statistics"]

    together = values(sort="none", order=[0, 1])
    np.testing.assert_array_equal(values(sort="none", order=[1, 0]), together[::-1])
    np.testing.assert_array_equal(values(sort="similarity", order=[0]), together[:1])
    r2 = group(**GROUP).names(48, derived=True).index("reads_r2_rank_1") - len(group(**GROUP).names(48, derived=True))
    assert together[0, r2] != together[1, r2], "other genotypes, other reads"


@pytest.mark.parametrize("derived", [True, False])
def test_spectrum_and_r2_equal_naive(sample, derived: bool) -> None:
    part, (genotypes, positions) = group(**GROUP), sample
    reads = shares(part, genotypes)
    means = np.array([np.mean([share for share in row if not np.isnan(share)]) for row in reads])
    seen = [site for site, mean in enumerate(means) if 0 < mean < 1]
    assert len(seen) < len(means), "at this coverage some rare alleles are in no read"
    spectrum: dict[str, int] = {}
    for mean in means[seen]:
        count = 48 * (mean if derived else min(mean, 1 - mean))
        name = f"reads_sfs_{min(max(math.floor(count + 0.5), 1), 47 if derived else 24)}"
        spectrum[name] = spectrum.get(name, 0) + 1
    common = [site for site in seen if min(means[site], 1 - means[site]) >= linkage.MIN_FREQUENCY]
    bins: dict[str, list[float]] = {}
    for rank, other in combinations(range(len(common)), 2):
        i, j = common[rank], common[other]
        distance = (positions[j] - positions[i]) / LENGTH
        side = "centre" if positions[i] < LENGTH / 2 <= positions[j] else "flanks"
        names = [f"rank_{other - rank}", "rank_3_4" if other - rank in (3, 4) else "none"]
        names += [f"{low:g}" for low, high in pairwise(linkage.EDGES) if low <= distance < high]
        names += [f"{side}_{low:g}" for low, high in pairwise(recombination.DISTANCES) if low <= distance < high]
        r2 = naive_r2(np.nan_to_num(reads[i], nan=-1), np.nan_to_num(reads[j], nan=-1))
        for name in names:
            bins.setdefault(f"reads_r2_{name}", []).append(r2)
    values = by_name(part, genotypes, positions, derived=derived)
    assert values["reads_sites"] == len(seen)
    assert {name: value for name, value in values.items() if "sfs" in name and value} == spectrum
    compared = [name for name in values if name in bins]
    assert len(compared) >= 18
    for name in compared:
        assert values[name] == pytest.approx(np.nanmean(bins[name]), rel=1e-4)


def test_r2_of_large_whole_numbers_is_exact() -> None:
    random = np.random.default_rng(1)
    values = random.integers(-1, UNIT + 1, (6, 400)).astype(np.int32)
    values[5] = UNIT // 3
    r2 = _pairs.r2_matrix(values)
    for i, j in combinations(range(5), 2):
        assert r2[i, j] == pytest.approx(naive_r2(values[i], values[j]), rel=1e-9)
    assert np.isnan(r2[5]).all(), "what does not vary has no correlation, not one of rounding errors"
    np.testing.assert_array_equal(r2, _pairs.r2_matrix(values[:, random.permutation(400)]))


def test_deeper_reads_come_nearer_to_the_dosages() -> None:
    genotypes, positions = tetraploids(5)
    dosages = genotypes.reshape(-1, TETRAPLOIDS, 4).sum(axis=2)
    frequency = dosages.mean(axis=1) / 4
    sites = np.flatnonzero(np.minimum(frequency, 1 - frequency) >= 0.1)[:60]
    expected = np.array([naive_r2(dosages[i], dosages[j]) for i, j in combinations(sites, 2)])
    errors = []
    for coverage in (2, 20, 1000):
        reads = group("read_linkage", coverage=coverage, ploidy=4).shares(genotypes)
        r2 = _pairs.r2_matrix(reads[sites])
        found = np.array([r2[i, j] for i, j in combinations(range(len(sites)), 2)])
        errors.append(np.nanmean(np.abs(found - expected)))
    assert errors[0] > 1.4 * errors[1] > 5 * errors[2] and errors[2] < 0.02
    values = by_name(group("read_linkage", coverage=1000, ploidy=4), genotypes, positions)
    assert values["reads_sites"] == len(positions), "deep reads show every allele"


def test_reads_without_end_are_dosages(window) -> None:
    """Where each share of reads is the share of an individual's alleles, r² is that of unphased genotypes."""
    genotypes, positions = window
    part, endless = group("read_linkage"), _pairs.dosages(genotypes).astype(np.int32) * (UNIT // 2)
    settings = {"sequence_length": LENGTH, "derived": True}
    values = read_linkage(endless, positions, num_haplotypes=14, **settings)
    found = dict(zip(part.names(14, derived=True), values.tolist(), strict=True))
    expected = by_name(group("recombination", phased=False), genotypes, positions)
    assert {name: found[f"reads_{name}"] for name in expected} == pytest.approx(expected, nan_ok=True)
    standard = dict(zip(statistics.names(14, derived=True), statistics.compute(*window, **settings), strict=True))
    assert all(found[f"reads_{name}"] == value for name, value in standard.items() if name.startswith("sfs_"))


def test_r2_of_reads_decays_with_distance_and_recombination() -> None:
    part, names = group("read_linkage", coverage=25, ploidy=4), [f"reads_r2_{low:g}" for low in (0.003, 0.03, 0.3)]
    found = {}
    for rate in (1e-9, 1e-8, 1e-7):
        windows = [by_name(part, *tetraploids(seed, recombination_rate=rate)) for seed in range(1, 7)]
        found[rate] = np.array([np.mean([values[name] for values in windows]) for name in names])
        assert found[rate][0] > found[rate][1] > found[rate][2]
    assert (found[1e-9] > found[1e-8]).all() and (found[1e-8] > found[1e-7]).all()
    assert found[1e-7][2] == pytest.approx(1 / (TETRAPLOIDS - 1), abs=0.03), "unlinked sites"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coverage": 25}, r"statistics\.read_linkage\.ploidy: this key is required"),
        ({"ploidy": 4}, r"statistics\.read_linkage\.coverage: this key is required"),
        ({"coverage": 0, "ploidy": 4}, r"statistics\.read_linkage\.coverage: .*greater than 0"),
        (
            {"coverage": 25, "ploidy": 2},
            r"statistics\.read_linkage\.ploidy: expected that of `simulation`, 4, found 2",
        ),
    ],
)
def test_bad_options_are_refused(root: Path, options: dict, message: str) -> None:
    values = study_values(load_study(root / "config/recombination_rate_tetraploid.yaml"))
    with pytest.raises(PopdlError, match=message):
        build_study({**values, "statistics": [{"name": "read_linkage", **options}]})


def test_a_study_is_read_without_torch(root: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from popdl.config.study import load_study; from popdl.encoding import Encoder; "
        "Encoder.of(load_study(Path('config/recombination_rate_tetraploid.yaml'))); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
