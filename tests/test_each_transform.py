"""What each transform promises, against naive loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from batches import FORM, HAPLOTYPES, LENGTH, MAX_SITES, SEEDS, chance, make, same, sites, some
from hypothesis import given, settings
from hypothesis import strategies as st

from popdl.transforms._base import Examples, Form
from popdl.transforms.rotate import Rotate


@given(seed=SEEDS, num_sites=st.integers(1, MAX_SITES))
@settings(max_examples=25, deadline=None)
def test_crop_keeps_neighbouring_sites_with_their_alleles(seed: int, num_sites: int) -> None:
    examples = some(seed, batch=8)
    cropped = make("crop", sites=num_sites, where="random")(examples, chance(seed))
    for row in range(8):
        genotypes, positions = sites(examples, row)
        kept, kept_positions = sites(cropped, row)
        assert len(kept_positions) == min(num_sites, len(positions))
        if len(kept_positions):
            first = positions.tolist().index(kept_positions[0])
            np.testing.assert_array_equal(kept_positions, positions[first : first + len(kept_positions)])
            np.testing.assert_array_equal(kept, genotypes[:, first : first + len(kept_positions)])


def test_random_crops_reach_both_ends() -> None:
    examples = some(1, batch=400, form=FORM)
    full = examples.num_sites == MAX_SITES
    rows = torch.full((400,), int(full.nonzero()[0]))
    examples = Examples(examples.genotypes[rows], examples.positions[rows], examples.mask[rows])  # type: ignore[index]
    cropped = make("crop", sites=MAX_SITES - 3, where="random")(examples, chance())
    assert cropped.positions is not None and examples.positions is not None
    counts = [(cropped.positions[:, 0] == examples.positions[0, first]).sum().item() for first in range(4)]
    assert sum(counts) == 400 and min(counts) > 60  # 100 each expected


@given(seed=SEEDS, length=st.integers(1, 1000))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("style", ["absolute", "relative"])
def test_crop_by_length_moves_the_start_of_the_window(style: str, seed: int, length: int) -> None:
    plain = some(seed)
    examples, form = plain, FORM
    if style == "relative":
        to_relative = make("reformat", to="relative")
        examples, form = to_relative(plain, None), to_relative.after
    crop = make("crop", form, length=length, where="random")
    cropped = make("reformat", crop.after, to="absolute")(crop(examples, chance(seed)), None)
    for row in range(6):
        genotypes, positions = sites(plain, row)
        kept, kept_positions = sites(cropped, row)
        kept_positions = kept_positions.round(2)
        assert np.all((kept_positions >= 0) & (kept_positions < length))
        if len(kept_positions):
            # The start is known only up to where the first kept site may lie.
            found = [
                start
                for start in range(int(LENGTH) - length + 1)
                if (inside := (positions >= start) & (positions < start + length)).sum() == len(kept_positions)
                and np.allclose(positions[inside] - start, kept_positions, atol=0.01)
            ]
            insides = [(positions >= start) & (positions < start + length) for start in found]
            assert any(np.array_equal(kept, genotypes[:, inside]) for inside in insides)


@pytest.mark.parametrize("ploidy", [1, 2, 4])
def test_subsample_keeps_individuals_whole(ploidy: int) -> None:
    form = Form(**{**FORM.__dict__, "ploidy": ploidy})
    examples = some(4, batch=30, form=form, missing=0)
    number = HAPLOTYPES // ploidy - 1
    labelled = Examples(
        torch.arange(HAPLOTYPES).float().reshape(1, -1, 1).expand(30, -1, MAX_SITES), examples.positions, examples.mask
    )
    for generator in (chance(), None):
        kept = make("subsample", form, individuals=number)(labelled, generator).genotypes[..., 0].long()
        individuals = (kept // ploidy).reshape(30, number, ploidy)
        assert torch.equal(kept % ploidy, torch.arange(ploidy).repeat(30, number))
        assert torch.all(individuals == individuals[..., :1])
        assert torch.all(individuals[:, 1:, 0] > individuals[:, :-1, 0]), "each once, in the order given"
        assert (len(individuals.unique(dim=0)) == 1) == (generator is None)


def test_subsample_draws_every_number_up_to_the_maximum() -> None:
    examples, transform, generator = some(1), make("subsample", individuals=[2, 4]), chance()
    drawn = [transform(examples, generator).genotypes.shape[1] // 2 for _ in range(300)]
    counts = np.bincount(drawn, minlength=6)
    assert counts[:2].sum() == counts[5] == 0
    assert counts[2:5].min() > 70  # 100 each expected, standard deviation 8


def test_subsample_draws_every_individual_alike() -> None:
    genotypes = torch.arange(HAPLOTYPES).float().reshape(1, -1, 1).expand(2000, -1, 1)
    examples = Examples(genotypes, torch.zeros(2000, 1), torch.ones(2000, 1, dtype=torch.bool))
    kept = make("subsample", individuals=1)(examples, chance()).genotypes[:, 0, 0]
    counts = np.bincount(kept.long() // 2, minlength=4)
    assert np.all(np.abs(counts - 500) < 4 * np.sqrt(500 * 0.75))


def test_a_subsample_for_prediction_is_spread_over_the_sample() -> None:
    genotypes = torch.arange(HAPLOTYPES).float().reshape(1, -1, 1)
    examples = Examples(genotypes, torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))
    for number, expected in ((1, [0]), (2, [0, 2]), (3, [0, 1, 2]), (4, [0, 1, 2, 3])):
        kept = make("subsample", individuals=number)(examples, None).genotypes[0, ::2, 0] // 2
        assert kept.tolist() == expected


@given(seed=SEEDS, minimum=st.sampled_from([0.125, 0.2, 0.25, 0.5]), style=st.sampled_from(["absolute", "distance"]))
@settings(max_examples=25, deadline=None)
def test_sites_are_left_out_as_a_naive_loop_does(seed: int, minimum: float, style: str) -> None:
    examples = some(seed, missing=0.3)
    reformat = make("reformat", to=style)
    given_examples, form = reformat(examples, None), reformat.after
    for name, options in (("polymorphic", {}), ("maf", {"minimum": minimum})):
        found = make(name, form, **options)(given_examples, None)
        for row in range(6):
            genotypes, positions = sites(examples, row)
            kept: list[int] = []
            for site in range(genotypes.shape[1]):
                alleles = [allele for allele in genotypes[:, site] if allele >= 0]
                minor = min(alleles.count(0), alleles.count(1))
                if minor > 0 and (name == "polymorphic" or minor / len(alleles) >= minimum):
                    kept.append(site)
            expected = positions[kept]
            if style == "distance":
                expected = np.diff(expected, prepend=0)
            np.testing.assert_array_equal(sites(found, row)[0], genotypes[:, kept])
            np.testing.assert_array_equal(sites(found, row)[1], expected)


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_distances_stay_to_the_bit_where_no_site_goes(seed: int) -> None:
    form = Form(**{**FORM.__dict__, "positions": "distance", "length": 1e8})
    examples = some(seed, missing=0)
    distances = torch.from_numpy(np.random.default_rng(seed).exponential(1e6, (6, MAX_SITES))).float()
    genotypes = examples.genotypes.clone()
    genotypes[:, 0], genotypes[:, 1] = 0, examples.mask.float()
    examples = Examples(genotypes, distances.masked_fill(~examples.mask, 0), examples.mask)
    assert same(make("polymorphic", form)(examples, None), examples)


@given(seed=SEEDS, turns=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_turning_all_the_way_round_changes_nothing(seed: int, turns: int) -> None:
    rotate, examples = make("rotate"), some(seed)
    assert isinstance(rotate, Rotate)
    assert same(rotate.turned(examples, torch.full((6,), turns * LENGTH, dtype=torch.float64)), examples)


@given(seed=SEEDS, style=st.sampled_from(["absolute", "relative"]))
@settings(max_examples=30, deadline=None)
def test_turning_keeps_circular_distances_also_to_targets(seed: int, style: str) -> None:
    reformat = make("reformat", to=style)
    form = reformat.after
    rotate = make("rotate", form, targets=["sweep_position"])
    assert rotate.moves == ["sweep_position"]
    where = torch.from_numpy(np.random.default_rng(seed).random(6) * LENGTH)
    where[3] = torch.nan
    before = reformat(some(seed), None)
    before = Examples(before.genotypes, before.positions, before.mask, {"sweep_position": where, "other": where})
    after = rotate(before, chance(seed))
    scale = LENGTH if style == "relative" else 1.0
    assert torch.equal(after.targets["other"].isnan(), where.isnan()) and torch.equal(
        after.targets["other"][~where.isnan()], where[~where.isnan()]
    )
    moved = after.targets["sweep_position"]
    assert moved[3].isnan() and torch.all((moved[~where.isnan()] >= 0) & (moved[~where.isnan()] < LENGTH))
    for row in range(6):
        genotypes, positions = sites(before, row)
        turned, turned_positions = sites(after, row)
        positions, turned_positions = positions.astype(float) * scale, turned_positions.astype(float) * scale
        assert np.all(np.diff(turned_positions) > 0), "sites stay in the order of their positions"
        if not len(positions):
            continue
        # Which site went where: by the alleles, and the order round the circle.
        offset = np.flatnonzero(
            np.isclose((turned_positions - positions[0]) % LENGTH, (moved[row] - where[row]) % LENGTH)
        )
        if row != 3:
            assert len(offset) == 1
            order = (np.arange(len(positions)) - offset[0]) % len(positions)
            np.testing.assert_array_equal(turned, genotypes[:, order])
            shift = (turned_positions - positions[order]) % LENGTH
            np.testing.assert_allclose(shift, shift[0], atol=0.01)


def test_turns_differ_between_examples_and_cover_the_circle() -> None:
    examples = some(2, batch=500)
    targets = {"place": torch.zeros(500, dtype=torch.float64)}
    examples = Examples(examples.genotypes, examples.positions, examples.mask, targets)
    shifts = make("rotate", targets=["place"])(examples, chance()).targets["place"]
    assert torch.equal(shifts, shifts.floor())
    assert abs(shifts.mean() - LENGTH / 2) < 4 * LENGTH / np.sqrt(12 * 500)
    assert shifts.min() < 20 and shifts.max() > LENGTH - 20


@given(seed=SEEDS, through=st.permutations(["absolute", "relative", "distance"]))
@settings(max_examples=30, deadline=None)
def test_positions_survive_any_way_round(seed: int, through: list[str]) -> None:
    examples = some(seed)
    found, form = examples, FORM
    for style in (*through, "absolute"):
        step = make("reformat", form, to=style)
        found, form = step(found, None), step.after
    assert found.positions is not None and examples.positions is not None
    torch.testing.assert_close(found.positions, examples.positions, rtol=1e-6, atol=1e-3)


@given(seed=SEEDS, by=st.sampled_from(["similarity", "frequency"]))
@settings(max_examples=25, deadline=None)
def test_sorting_is_idempotent_and_forgets_the_order_given(seed: int, by: str) -> None:
    examples, sort = some(seed), make("sort", by=by)
    once = sort(examples, None)
    assert same(sort(once, None), once)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(HAPLOTYPES))
    assert same(sort(Examples(examples.genotypes[:, order], examples.positions, examples.mask), None), once)


@given(seed=SEEDS, of=st.sampled_from(["examples", "sites"]), phased=st.booleans())
@settings(max_examples=40, deadline=None)
def test_folding_forgets_flips(seed: int, of: str, phased: bool) -> None:
    form = Form(**{**FORM.__dict__, "phased": phased})
    examples = some(seed, form=form)
    fold, flip = make("fold", form), make("flip_polarity", form, of=of)
    once = fold(examples, None)
    assert same(fold(flip(examples, chance(seed)), None), once)
    assert same(fold(once, None), once)
    assert torch.all((once.genotypes == 1).sum(dim=1) <= (once.genotypes == 0).sum(dim=1))


@pytest.mark.parametrize("of", ["examples", "sites"])
def test_flips_happen_as_often_as_asked(of: str) -> None:
    form = Form(**{**FORM.__dict__, "max_sites": 200})
    examples = some(5, batch=200, missing=0.1, form=form)
    flipped = make("flip_polarity", form, share=0.3, of=of)(examples, chance()).genotypes
    known = (examples.genotypes >= 0) & examples.mask.unsqueeze(1)
    changed = (flipped != examples.genotypes) & known
    per_site = changed.any(dim=1)
    assert torch.equal(changed, known & per_site.unsqueeze(1)), "a site is flipped in all haplotypes or in none"
    assert torch.equal(flipped[~known], examples.genotypes[~known])
    units = per_site.any(dim=1).float() if of == "examples" else per_site[examples.mask].float()
    assert abs(units.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / len(units)) + 0.01
    full = per_site[units.bool()] if of == "examples" else None
    assert full is None or torch.equal(full, examples.mask[units.bool()] & known[units.bool()].any(dim=1))


def test_alleles_go_missing_as_often_as_asked() -> None:
    form = Form(**{**FORM.__dict__, "max_sites": 200})
    examples = some(6, batch=300, missing=0, form=form)
    real = examples.mask.unsqueeze(1).expand_as(examples.genotypes)
    lost = make("missingness", form, share=0.25)(examples, chance()).genotypes
    hidden = lost[real] == -1
    assert abs(hidden.float().mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / len(hidden))
    assert torch.equal(lost[real][~hidden], examples.genotypes[real][~hidden])
    some_lost = make("missingness", form, share=[0.2, 0.6])(examples, chance()).genotypes
    enough = examples.num_sites > 100
    shares = ((some_lost == -1).sum(dim=(1, 2)) / real.sum(dim=(1, 2)))[enough]
    assert 0.15 < shares.min() < 0.25 and 0.55 < shares.max() < 0.65
    assert torch.equal(make("missingness", share=0)(some(1), chance()).genotypes, some(1).genotypes)
    assert torch.all(
        make("missingness", share=1)(some(1), chance()).genotypes[some(1).mask.unsqueeze(1).expand(-1, 8, -1)] == -1
    )


def test_unphased_alleles_stay_in_their_order() -> None:
    form = Form(**{**FORM.__dict__, "phased": False})
    for name, options in (("missingness", {"share": 0.4}), ("flip_polarity", {"of": "sites"}), ("fold", {})):
        genotypes = make(name, form, **options)(some(7, form=form), chance()).genotypes
        assert torch.all(genotypes[:, 0::2] >= genotypes[:, 1::2])


@pytest.mark.parametrize("ploidy", [2, 4])
@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_shuffling_phase_keeps_each_individuals_alleles(ploidy: int, seed: int) -> None:
    form = Form(**{**FORM.__dict__, "ploidy": ploidy})
    examples = some(seed, form=form)
    shuffled = make("shuffle_phase", form)(examples, chance(seed)).genotypes
    for alleles, kept in zip(examples.genotypes, shuffled, strict=True):
        first, second = (values.reshape(-1, ploidy, MAX_SITES).sort(dim=1).values for values in (alleles, kept))
        assert torch.equal(first, second)


def test_heterozygotes_change_places_half_of_the_time() -> None:
    genotypes = torch.tensor([0.0, 1.0]).reshape(1, 2, 1).expand(20, 2, 200)
    examples = Examples(genotypes, torch.zeros(20, 200), torch.ones(20, 200, dtype=torch.bool))
    changed = make("shuffle_phase")(examples, chance()).genotypes[:, 0] == 1
    assert abs(changed.float().mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)


def test_views() -> None:
    examples = some(8)
    assert examples.positions is not None
    matrix = make("concat")(examples, None).genotypes
    assert torch.equal(matrix[:, :-1], examples.genotypes) and torch.equal(matrix[:, -1], examples.positions)
    product = make("product")(examples, None).genotypes
    assert torch.equal(product, torch.einsum("bhs,bs->bhs", examples.genotypes, examples.positions))
