"""The encoder against a naive one, and the symmetries that it promises."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import msprime
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popdl.config.encoding import Encoding
from popdl.encoding import DROPPED_REASONS, ENCODING_VERSION, EncodedExample, Encoder
from popdl.errors import PopdlError

LENGTH = 1000.0
HAPLOTYPES = 6


def encoder(num_haplotypes: int = HAPLOTYPES, sequence_length: float = LENGTH, **options: Any) -> Encoder:
    return Encoder(
        Encoding(**{"max_sites": 5, **options}),
        num_haplotypes=num_haplotypes,
        ploidy=2,
        sequence_length=sequence_length,
    )


def generator(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@st.composite
def windows(draw: st.DrawFn, *, missing: bool = True, max_allele: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Genotypes and sorted positions; ties, monomorphic sites and repeated positions are common."""
    num_sites = draw(st.integers(0, 12))
    alleles = st.integers(-1 if missing else 0, max_allele)
    rows = draw(st.lists(st.lists(alleles, min_size=6, max_size=6), min_size=num_sites, max_size=num_sites))
    where = draw(st.lists(st.integers(0, int(LENGTH) - 1), min_size=num_sites, max_size=num_sites))
    return np.array(rows, dtype=np.int8).reshape(num_sites, HAPLOTYPES), np.sort(np.array(where, dtype=np.float64))


def same(first: EncodedExample, second: EncodedExample) -> bool:
    return (
        np.array_equal(first.genotypes, second.genotypes)
        and np.array_equal(first.positions, second.positions)  # type: ignore[arg-type]
        and first.num_sites == second.num_sites
    )


def naive_filter(
    genotypes: np.ndarray, positions: np.ndarray, *, min_maf: float
) -> tuple[list[list[int]], list[float], dict[str, int]]:
    """Minor-allele coding, one allele at a time."""
    kept, where, dropped = [], [], dict.fromkeys(DROPPED_REASONS, 0)
    for site, (row, position) in enumerate(zip(genotypes.tolist(), positions.tolist(), strict=True)):
        called = [allele for allele in row if allele >= 0]
        ones = sum(allele == 1 for allele in called)
        if site > 0 and position == positions[site - 1]:
            dropped["duplicate_position"] += 1
        elif any(allele > 1 for allele in called):
            dropped["multiallelic"] += 1
        elif ones in (0, len(called)):
            dropped["monomorphic"] += 1
        elif min(ones, len(called) - ones) / len(called) < min_maf:
            dropped["rare"] += 1
        else:
            if 2 * ones > len(called) or (2 * ones == len(called) and called[0] == 1):
                row = [1 - allele if allele >= 0 else allele for allele in row]
            kept.append(row)
            where.append(position)
    return kept, where, dropped


@given(windows(max_allele=2), st.sampled_from([0.0, 0.2, 0.34]))
def test_filter_equals_naive(window: tuple[np.ndarray, np.ndarray], min_maf: float) -> None:
    filtered = encoder(min_maf=min_maf).filter_sites(*window)
    kept, where, dropped = naive_filter(*window, min_maf=min_maf)
    assert filtered.genotypes.tolist() == kept
    assert filtered.positions.tolist() == where
    assert filtered.dropped == dropped
    assert len(kept) + sum(dropped.values()) == len(window[1])


@given(windows(), st.sampled_from(["keep", "ignore"]), st.data())
def test_allele_names_are_irrelevant(window: tuple[np.ndarray, np.ndarray], phase: str, data: st.DataObject) -> None:
    genotypes, positions = window
    flip = np.array(data.draw(st.lists(st.booleans(), min_size=len(positions), max_size=len(positions))), dtype=bool)
    flipped = np.where(flip[:, np.newaxis] & (genotypes >= 0), 1 - genotypes, genotypes).astype(np.int8)
    encode = encoder(phase=phase).encode
    assert same(encode(genotypes, positions, generator()), encode(flipped, positions, generator()))


@given(windows(), st.sampled_from(["minor", "derived"]), st.data())
def test_phase_is_irrelevant_where_ignored(
    window: tuple[np.ndarray, np.ndarray], alleles: str, data: st.DataObject
) -> None:
    genotypes, positions = window
    shape = (len(positions), HAPLOTYPES // 2, 1)
    swaps = st.lists(st.booleans(), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
    swap = np.array(data.draw(swaps), dtype=bool).reshape(shape)
    pairs = genotypes.reshape(len(positions), HAPLOTYPES // 2, 2)
    swapped = np.where(swap, pairs[:, :, ::-1], pairs).reshape(genotypes.shape)
    encode = encoder(phase="ignore", alleles=alleles).encode
    assert same(encode(genotypes, positions, generator()), encode(swapped, positions, generator()))


@pytest.mark.parametrize("heterozygote", [(0, 1), (1, 0)])
@pytest.mark.parametrize("flip", [False, True])
def test_heterozygotes_do_not_settle_ties(heterozygote: tuple[int, int], flip: bool) -> None:
    site = np.array([[*heterozygote, 1, 1, 0, 0]], dtype=np.int8)
    example = encoder(phase="ignore").encode(1 - site if flip else site, np.array([1.0]), generator())
    assert example.genotypes[:, 0].tolist() == [1, 0, 0, 0, 1, 1]


def test_ignored_phase_writes_heterozygotes_as_one_zero() -> None:
    genotypes = np.array([[0, 1, 1, 0, 0, 0], [-1, 1, 0, 0, 0, -1]], dtype=np.int8)
    example = encoder(phase="ignore").encode(genotypes, np.array([1.0, 2.0]), generator())
    assert example.genotypes[:, :2].T.tolist() == [[1, 0, 1, 0, 0, 0], [1, -1, 0, 0, 0, -1]]


@given(windows(), st.sampled_from(["similarity", "frequency"]), st.permutations(range(HAPLOTYPES)))
def test_sorting_forgets_the_order_of_haplotypes(
    window: tuple[np.ndarray, np.ndarray], sort: str, order: list[int]
) -> None:
    genotypes, positions = window
    encode = encoder(sort=sort, alleles="derived").encode
    assert same(encode(genotypes, positions, generator()), encode(genotypes[:, order], positions, generator()))


@pytest.mark.parametrize("missing", [False, True])
def test_sort_by_similarity_equals_naive(missing: bool) -> None:
    genotypes = generator().integers(-1 if missing else 0, 2, size=(20, HAPLOTYPES)).astype(np.int8)
    example = encoder(sort="similarity", max_sites=20).encode(genotypes, np.arange(20.0), generator())
    haplotypes = [row.tobytes() for row in np.ascontiguousarray(example.window.genotypes.T)]

    def distance(a: bytes, b: bytes) -> Fraction:
        known = [(x, y) for x, y in zip(a, b, strict=True) if x != 255 and y != 255]
        return Fraction(sum(x != y for x, y in known), len(known))

    medoid = min(haplotypes, key=lambda a: (sum(distance(a, b) for b in haplotypes), a))
    expected = sorted(haplotypes, key=lambda a: (distance(medoid, a), a))
    assert len(set(haplotypes)) == HAPLOTYPES and haplotypes != expected
    written = np.ascontiguousarray(example.genotypes[:, : example.num_sites])
    assert [row.tobytes() for row in written] == expected


def test_sort_of_many_haplotypes_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    genotypes = generator().integers(-1, 2, size=(30, 40)).astype(np.int8)
    whole = encoder(40, sort="similarity", max_sites=30).encode(genotypes, np.arange(30.0), generator())
    monkeypatch.setattr("popdl.encoding.BLOCK_WORDS", 100)
    assert same(whole, encoder(40, sort="similarity", max_sites=30).encode(genotypes, np.arange(30.0), generator()))


def test_sort_by_frequency_puts_most_ones_first() -> None:
    genotypes = np.array([[0, 0, 1, 1], [0, 1, 1, 0], [0, 1, 1, 0]], dtype=np.int8)
    example = encoder(4, sort="frequency", alleles="derived").encode(genotypes, np.arange(3.0), generator())
    assert (example.genotypes == 1).sum(axis=1).tolist() == [3, 2, 1, 0]


@given(windows(), st.sampled_from(["start", "centre", "random"]), st.sampled_from([None, 300.0, LENGTH]))
def test_crops_keep_a_run_of_usable_sites(
    window: tuple[np.ndarray, np.ndarray], crop: str, crop_length: float | None
) -> None:
    genotypes, positions = window
    example = encoder(crop=crop, crop_length=crop_length, positions="absolute").encode(
        genotypes, positions, generator()
    )
    usable = example.window
    assert example.num_sites == min(5, len(usable.positions))
    assert np.all((usable.positions >= 0) & (usable.positions < (crop_length or LENGTH)))
    kept = example.positions[: example.num_sites].tolist()  # type: ignore[index]
    first = usable.positions.tolist().index(kept[0]) if kept else 0
    assert kept == usable.positions[first : first + example.num_sites].tolist()
    surplus = len(usable.positions) - example.num_sites
    assert {"start": first == 0, "centre": first == surplus // 2, "random": 0 <= first <= surplus}[crop]
    assert not example.genotypes[:, example.num_sites :].any()
    assert not example.positions[example.num_sites :].any()  # type: ignore[index]


@pytest.mark.parametrize(
    ("positions", "first"),
    [
        ([10, 20, 30, 40, 50, 60, 510, 520, 530], 4),  # two before the middle and three after it
        ([10, 20, 480, 490, 500, 510, 520, 530, 540], 2),  # a site in the middle lies after it
        ([10, 20, 30, 40, 50, 60, 70, 80, 510], 4),  # too few after it
        ([490, 510, 520, 530, 540, 550, 560, 570, 580], 0),
    ],
)
def test_midpoint_keeps_the_sites_round_the_middle_in_bp(positions: list[float], first: int) -> None:
    genotypes = np.tile(np.array([0, 0, 0, 0, 0, 1], dtype=np.int8), (9, 1))
    example = encoder(crop="midpoint", positions="absolute").encode(genotypes, np.array(positions), generator())
    assert example.positions.tolist() == positions[first : first + 5]  # type: ignore[union-attr]


@pytest.mark.parametrize(("crop", "start"), [("start", 0), ("centre", 350), ("midpoint", 350)])
def test_crop_to_length_is_exact(crop: str, start: int) -> None:
    positions = np.array([0.0, 299, 300, 349, 350, 649, 650, 999])
    genotypes = np.tile(np.array([0, 0, 0, 0, 0, 1], dtype=np.int8), (8, 1))
    window = encoder(crop=crop, crop_length=300).encode(genotypes, positions, generator()).window
    assert window.positions.tolist() == [p - start for p in positions if start <= p < start + 300]


def test_random_crops_cover_every_start() -> None:
    genotypes = np.tile(np.array([0, 0, 0, 0, 0, 1], dtype=np.int8), (8, 1))
    encode = encoder(crop="random", positions="absolute").encode
    random = generator()
    firsts = {float(encode(genotypes, np.arange(8.0), random).positions[0]) for _ in range(200)}  # type: ignore[index]
    assert firsts == {0.0, 1.0, 2.0, 3.0}


def test_positions_styles() -> None:
    genotypes = np.tile(np.array([0, 0, 0, 0, 0, 1], dtype=np.int8), (7, 1))
    positions = np.array([10.0, 30, 60, 100, 150, 210, 280])
    written = {
        style: encoder(positions=style).encode(genotypes, positions, generator()).positions
        for style in ("none", "absolute", "relative", "distance")
    }
    assert written["none"] is None
    np.testing.assert_array_equal(written["absolute"], np.float32([30, 60, 100, 150, 210]))
    np.testing.assert_array_equal(written["relative"], np.float32([0.03, 0.06, 0.1, 0.15, 0.21]))
    # The first distance is that from a usable site outside the array, not from the start of the window.
    np.testing.assert_array_equal(written["distance"], np.float32([20, 30, 40, 50, 60]))
    cropped = encoder(crop_length=500, positions="relative").encode(genotypes, positions, generator())
    np.testing.assert_array_equal(cropped.positions, np.float32([0.06, 0, 0, 0, 0]))  # 280 − 250 bp of 500
    other = encoder(positions="relative").encode(genotypes, positions, generator(), sequence_length=500)
    np.testing.assert_array_equal(other.positions, np.float32([0.06, 0.12, 0.2, 0.3, 0.42]))


@pytest.mark.parametrize("num_sites", [0, 1])
@pytest.mark.parametrize("sort", ["none", "similarity", "frequency"])
def test_window_with_hardly_any_site(num_sites: int, sort: str) -> None:
    genotypes = np.tile(np.array([0, 0, 1, 0, 0, 0], dtype=np.int8), (num_sites, 1))
    example = encoder(sort=sort).encode(genotypes, np.full(num_sites, 7.0), generator())
    assert example.num_sites == len(example.window.positions) == num_sites
    assert example.genotypes.shape == (HAPLOTYPES, 5) and example.genotypes.sum() == num_sites
    assert example.positions is not None and example.positions.sum() == 7 * num_sites


def test_minor_allele_of_exactly_min_maf_is_kept() -> None:
    genotypes = np.zeros((1, 20), dtype=np.int8)
    genotypes[0, 3] = 1
    counts = [
        encoder(20, min_maf=maf).filter_sites(genotypes, np.array([1.0])).dropped["rare"] for maf in (0.05, 0.0501)
    ]
    assert counts == [0, 1]


def test_simulated_window_equals_tskit_alleles() -> None:
    trees = msprime.sim_ancestry(10, sequence_length=1e5, recombination_rate=1e-8, population_size=1e4, random_seed=3)
    trees = msprime.sim_mutations(trees, rate=1e-8, model=msprime.BinaryMutationModel(), random_seed=3)
    example = encoder(20, 1e5, alleles="derived", max_sites=1000, positions="absolute").encode(
        trees.genotype_matrix(), trees.tables.sites.position, generator()
    )
    variants = [variant for variant in trees.variants() if len(set(variant.genotypes.tolist())) == 2]
    assert example.num_sites == len(variants) > 50
    for column, variant in enumerate(variants):
        assert example.genotypes[:, column].tolist() == variant.genotypes.tolist()
        assert example.positions[column] == np.float32(variant.site.position)  # type: ignore[index]


@settings(max_examples=20)
@given(
    st.sampled_from(["minor", "derived"]),
    st.sampled_from(["none", "similarity", "frequency"]),
    st.sampled_from([None, 100.0]),
)
def test_recipe_round_trip(alleles: str, sort: str, crop_length: float | None) -> None:
    first = encoder(alleles=alleles, sort=sort, crop_length=crop_length)
    second = Encoder.from_recipe(first.recipe)
    assert second.recipe == first.recipe and second.fingerprint == first.fingerprint


def test_fingerprint_changes_with_every_part_of_the_recipe() -> None:
    variants = [
        encoder(),
        encoder(8),
        encoder(sequence_length=2000),
        encoder(sort="frequency"),
        encoder(values="-1/1"),
        Encoder(Encoding(max_sites=5), num_haplotypes=6, ploidy=1, sequence_length=LENGTH),
    ]
    assert len({variant.fingerprint for variant in variants}) == len(variants)


def test_recipe_of_another_version_is_refused() -> None:
    with pytest.raises(PopdlError, match=f"version {ENCODING_VERSION}, found version 99"):
        Encoder.from_recipe({**encoder().recipe, "version": 99})


def test_damaged_recipe_is_refused() -> None:
    recipe = encoder().recipe
    del recipe["ploidy"]
    with pytest.raises(PopdlError, match="lacks 'ploidy'"):
        Encoder.from_recipe(recipe)


def test_bad_windows_are_refused() -> None:
    with pytest.raises(PopdlError, match=r"expected 6 haplotypes .* \(3, 4\)"):
        encoder().encode(np.zeros((3, 4), dtype=np.int8), np.arange(3.0), generator())
    with pytest.raises(PopdlError, match="one for each of 3 sites"):
        encoder().encode(np.zeros((3, 6), dtype=np.int8), np.arange(2.0), generator())
    with pytest.raises(PopdlError, match="in the order of their positions"):
        encoder().encode(np.zeros((2, 6), dtype=np.int8), np.array([5.0, 1.0]), generator())
    with pytest.raises(PopdlError, match="shorter than encoding"):
        encoder(crop_length=500).encode(np.zeros((0, 6), dtype=np.int8), np.zeros(0), generator(), sequence_length=400)


def test_settings_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(PopdlError, match="needs diploid individuals"):
        Encoder(Encoding(phase="ignore"), num_haplotypes=6, ploidy=1, sequence_length=LENGTH)
    with pytest.raises(PopdlError, match="longer than the window"):
        encoder(crop_length=2 * LENGTH)


@pytest.mark.parametrize("sort", ["similarity", "frequency"])
def test_populations_are_sorted_apart(sort: str) -> None:
    """As if each were alone, so that a haplotype never leaves its population."""
    random = np.random.default_rng(5)
    genotypes = random.integers(0, 2, (30, 10)).astype(np.int8)
    positions = np.arange(30.0)
    settings = Encoding(sort=sort, alleles="derived", max_sites=30)  # type: ignore[arg-type]
    keys: dict[str, Any] = {"ploidy": 1, "sequence_length": 30}
    together = Encoder(settings, num_haplotypes=10, populations={"B": 6, "A": 4}, **keys)
    encoded = together.encode(genotypes, positions, random).genotypes
    usable = together.filter_sites(genotypes, positions)
    for block in (slice(0, 6), slice(6, 10)):
        part = np.ascontiguousarray(usable.genotypes[:, block].T)
        alone = Encoder(settings, num_haplotypes=len(part), **keys)
        np.testing.assert_array_equal(encoded[block, : len(usable.positions)], part[alone._order(part)])
    shuffled = np.concatenate([random.permutation(6), 6 + random.permutation(4)])
    again = together.encode(genotypes[:, shuffled], positions, random).genotypes
    np.testing.assert_array_equal(again, encoded)


def test_recipe_of_populations() -> None:
    keys: dict[str, Any] = {"num_haplotypes": 10, "ploidy": 1, "sequence_length": 30}
    plain, two = Encoder(Encoding(), **keys), Encoder(Encoding(), populations={"B": 6, "A": 4}, **keys)
    assert "populations" not in plain.recipe  # as it was written before there were populations
    assert Encoder(Encoding(), populations={"B": 10}, **keys).fingerprint == plain.fingerprint
    read = Encoder.from_recipe(json.loads(json.dumps(two.recipe, sort_keys=True)))
    assert list(read.populations.items()) == [("B", 6), ("A", 4)]
    assert read.fingerprint == two.fingerprint
    other = Encoder(Encoding(), populations={"A": 4, "B": 6}, **keys)
    assert len({plain.fingerprint, two.fingerprint, other.fingerprint}) == 3
    with pytest.raises(PopdlError, match="do not add up to 10 haplotypes"):
        Encoder(Encoding(), populations={"B": 6, "A": 6}, **keys)
