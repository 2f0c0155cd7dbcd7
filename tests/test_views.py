"""Individuals, reads and pools in place of haplotypes: what they promise, against naive loops and theory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import FORM, MAX_SITES, SEEDS, chance, make, same, some
from hypothesis import given, settings
from scipy import stats

from popdl.config.encoding import Encoding
from popdl.encoding import Encoder
from popdl.transforms._base import Examples, Form
from popdl.uniforms import uniforms

TETRAPLOID = replace(FORM, ploidy=4)
TWO = replace(FORM, populations=(6, 2))


def permuted(examples: Examples, order: list[int]) -> Examples:
    return replace(examples, genotypes=examples.genotypes[:, order])


def constant(ones: int, *, ploidy: int = 4, individuals: int = 3, sites: int = 2000, seed: int = 0) -> Examples:
    """One example of individuals that all have so many 1s, at sites whose alleles lie in random order."""
    alleles = torch.zeros(individuals, ploidy, sites)
    alleles[:, :ones] = 1
    order = torch.rand(alleles.shape, generator=chance(seed)).argsort(dim=1)
    genotypes = alleles.gather(1, order).flatten(0, 1).unsqueeze(0)
    return Examples(genotypes, torch.zeros(1, sites), torch.ones(1, sites, dtype=torch.bool))


# Genotypes and pools.


@pytest.mark.parametrize("ploidy", [1, 2, 4])
@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_genotypes_are_the_shares_of_ones_among_called_alleles(ploidy: int, seed: int) -> None:
    form = replace(FORM, ploidy=ploidy)
    examples = some(seed, missing=0.4, form=form)
    genotypes = make("genotypes", form)
    found = genotypes(examples, None).genotypes
    assert found.shape[1] == genotypes.after.num_haplotypes == 8 // ploidy
    for example in range(6):
        for site in range(MAX_SITES):
            for individual in range(8 // ploidy):
                rows = slice(individual * ploidy, (individual + 1) * ploidy)
                called = [allele for allele in examples.genotypes[example, rows, site].tolist() if allele >= 0]
                expected = sum(called) / len(called) if called else -1.0
                if not examples.mask[example, site]:
                    expected = 0.0
                assert found[example, individual, site].item() == pytest.approx(expected)


@pytest.mark.parametrize("form", [FORM, TWO])
def test_pools_are_the_frequencies_of_each_population(form: Form) -> None:
    examples = some(3, missing=0.4, form=form)
    examples.genotypes[1, 6:, 2] = -1
    pool = make("pool", form)
    found = pool(examples, None).genotypes
    counts = form.populations or (8,)
    assert found.shape[1] == pool.after.num_haplotypes == len(counts)
    ends = np.cumsum(counts)
    for example in range(6):
        for site in torch.nonzero(examples.mask[example]).flatten().tolist():
            for population, (count, end) in enumerate(zip(counts, ends, strict=True)):
                alleles = examples.genotypes[example, end - count : end, site]
                called = alleles[alleles >= 0]
                expected = called.mean().item() if len(called) else -1.0
                assert found[example, population, site].item() == pytest.approx(expected)
    assert (found == -1).any() or form is FORM


@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_views_forget_what_they_must(seed: int) -> None:
    """Phase is lost within individuals, and in a pool also who carries what."""
    examples = some(seed, missing=0.2, form=TETRAPLOID)
    shuffled = permuted(examples, [2, 0, 3, 1, 4, 7, 6, 5])
    mixed = permuted(examples, [7, 0, 3, 1, 4, 2, 6, 5])
    for name, options in (("genotypes", {}), ("read_counts", {"coverage": 5})):
        view = make(name, TETRAPLOID, **options)
        assert same(view(shuffled, None), view(examples, None))
    assert same(make("pool")(mixed, None), make("pool")(examples, None))


def test_the_form_follows_the_rows() -> None:
    for name, options in (("genotypes", {}), ("read_counts", {"coverage": 2})):
        form = make(name, TWO, **options).after
        assert (form.num_haplotypes, form.fewest_haplotypes, form.populations, form.ploidy) == (4, 4, (3, 1), 1)
        assert form.frequencies
    pooled = make("pool", TWO).after
    assert (pooled.num_haplotypes, pooled.populations, pooled.frequencies) == (2, (1, 1), True)
    assert make("pool", FORM).after.populations == ()
    assert make("concat", TWO).after.populations == () and make("product", TWO).after.populations == (6, 2)
    encoder = Encoder(Encoding(), num_haplotypes=14, ploidy=2, sequence_length=1e4, populations={"A": 8, "B": 6})
    assert Form.of(encoder).populations == (8, 6)
    assert Form.of(Encoder(Encoding(), num_haplotypes=14, ploidy=2, sequence_length=1e4)).populations == ()


# Reads.


@pytest.mark.parametrize("generator", [None, 7])
@pytest.mark.parametrize("ones", [1, 3])
def test_reads_have_the_distribution_of_sequencing(ones: int, generator: int | None) -> None:
    """The ratios of reads at low coverage tell how many reads there were: a binomial number out of a Poisson number."""
    coverage, share = 1.5, ones / 4
    examples = constant(ones, sites=4000)
    found = make("read_counts", TETRAPLOID, coverage=coverage)(
        examples, None if generator is None else chance(generator)
    ).genotypes.flatten()
    expected: dict[float, float] = {}
    for reads in range(25):
        for derived in range(reads + 1):
            value = round(derived / reads, 6) if reads else -1.0
            probability = stats.poisson.pmf(reads, coverage) * stats.binom.pmf(derived, reads, share)
            expected[value] = expected.get(value, 0.0) + float(probability)
    values, counts = np.unique(np.round(found.double().numpy(), 6), return_counts=True)
    assert set(values.tolist()) <= set(expected)
    counted = dict(zip(values.tolist(), counts.tolist(), strict=True))
    frequent = [value for value, probability in expected.items() if probability * len(found) > 5]
    rest = 1 - sum(expected[value] for value in frequent)
    seen = [counted.get(value, 0) for value in frequent]
    chances = [expected[value] for value in frequent]
    result = stats.chisquare([*seen, len(found) - sum(seen)], np.array([*chances, rest]) * len(found))
    assert result.pvalue > 1e-4


def test_deep_reads_are_the_genotypes() -> None:
    examples = some(4, missing=0.3, form=TETRAPLOID)
    truth = make("genotypes", TETRAPLOID)(examples, None).genotypes
    found = make("read_counts", TETRAPLOID, coverage=1000)(examples, None).genotypes
    assert torch.equal(found == -1, truth == -1)
    inside = (truth > 0) & (truth < 1)
    assert torch.equal(found[~inside], truth[~inside]), "without errors, homozygotes show one allele"
    assert torch.all((found - truth)[inside].abs() < 5 * 0.5 / np.sqrt(1000))
    assert not torch.equal(found, truth)


def test_reads_of_an_example_are_its_own() -> None:
    """The same in any batch and under any padding; other ones for another example, however near."""
    reads = make("read_counts", TETRAPLOID, coverage=4)
    examples = some(5, batch=6, missing=0.1, form=TETRAPLOID)
    together = reads(examples, None).genotypes
    wide = Examples(
        torch.nn.functional.pad(examples.genotypes, (0, 9)), None, torch.nn.functional.pad(examples.mask, (0, 9))
    )
    assert torch.equal(reads(wide, None).genotypes[..., :MAX_SITES], together)
    one = examples.genotypes[1].clone()
    near = one.clone()
    near[0, 3] = 1 - near[0, 3].clamp(min=0)
    pair = Examples(torch.stack([one, near]), None, examples.mask[[1, 1]])
    first, second = reads(pair, None).genotypes
    assert torch.equal(first, together[1])
    assert (first != second).float().mean() > 0.2


def test_numbers_from_content_are_uniform_and_unlike_their_neighbours() -> None:
    """Also for examples that differ in a single allele, whose numbers must not be those of the other one, moved."""
    content = torch.zeros(40, 5, 50, dtype=torch.int64)
    content[torch.arange(40), 0, torch.arange(40)] = 1
    drawn = uniforms(content, torch.ones(40, 50, dtype=torch.bool), number=2, generator=None)
    assert drawn.shape == (2, 40, 5, 50) and drawn.dtype == torch.float64
    assert drawn.min() >= 0 and drawn.max() < 1
    assert len(drawn.unique()) == drawn.numel()
    assert stats.kstest(drawn.flatten().numpy(), "uniform").pvalue > 1e-4
    table = np.corrcoef(drawn.movedim(1, 0).reshape(40, -1).numpy())
    assert np.abs(table[~np.eye(40, dtype=bool)]).max() < 5 / np.sqrt(500)
    across = np.corrcoef(drawn.movedim(3, 0).reshape(50, -1).numpy())
    assert np.abs(across[~np.eye(50, dtype=bool)]).max() < 5 / np.sqrt(400)


def test_numbers_from_content_stay_as_they_are() -> None:
    """They are part of every prediction: they may not change with torch, the machine, or popdl."""
    content = torch.arange(6).reshape(1, 2, 3)
    drawn = uniforms(content, torch.tensor([[True, True, False]]), number=1, generator=None)
    assert [round(value, 6) for value in drawn.flatten().tolist()] == naive_uniforms(content[0].tolist(), num_sites=2)


def naive_uniforms(content: list[list[int]], *, num_sites: int) -> list[float]:
    """The same with whole numbers that have no end."""
    word, increment = 2**64, 0x9E3779B97F4A7C15

    def mixed(value: int) -> int:
        value %= word
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % word
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB % word
        return value ^ (value >> 31)

    cells = [[(row << 32) + site for site in range(len(values))] for row, values in enumerate(content)]
    key = mixed(
        sum(
            mixed((cell + 1) * increment) * value
            for row, values in zip(cells, content, strict=True)
            for cell, value in list(zip(row, values, strict=True))[:num_sites]
        )
    )
    return [round((mixed(key + (cell + 1) * increment) >> 11) / 2**53, 6) for row in cells for cell in row]
