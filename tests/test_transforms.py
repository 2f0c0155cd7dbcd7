"""Every transform: what it promises, against naive loops and against the encoding where that does the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from popdl import plugins
from popdl.config.encoding import Encoding
from popdl.encoding import Encoder
from popdl.transforms._base import Examples, Form, Transform, View
from popdl.transforms.rotate import Rotate
from popdl.transforms.subsample import Subsample

HAPLOTYPES = 8
MAX_SITES = 21
LENGTH = 1000.0
FORM = Form(
    num_haplotypes=HAPLOTYPES,
    fewest_haplotypes=HAPLOTYPES,
    max_sites=MAX_SITES,
    positions="absolute",
    length=LENGTH,
    whole=True,
    ploidy=2,
    individuals=True,
    phased=True,
)
CASES: list[tuple[str, dict[str, Any]]] = [
    *(("crop", {"sites": 7, "where": where}) for where in ("start", "centre", "random")),
    *(("crop", {"length": 400, "where": where}) for where in ("start", "centre", "random")),
    ("subsample", {"individuals": 3}),
    ("subsample", {"individuals": [1, 4]}),
    ("polymorphic", {}),
    ("maf", {"minimum": 0.3}),
    ("rotate", {}),
    *(("reformat", {"to": style}) for style in ("absolute", "relative", "distance")),
    *(("sort", {"by": by}) for by in ("similarity", "frequency")),
    ("fold", {}),
    *(("flip_polarity", {"of": of}) for of in ("examples", "sites")),
    ("missingness", {"share": [0.1, 0.6]}),
    ("shuffle_phase", {}),
    ("concat", {}),
    ("product", {}),
]
SEEDS = st.integers(0, 2**32 - 1)


def some(seed: int, *, batch: int = 6, missing: float = 0.1, form: Form = FORM) -> Examples:
    """Examples with from 0 to ``max_sites`` sites at whole bp; the first two have none and all."""
    random = np.random.default_rng(seed)
    num_sites = random.integers(0, form.max_sites + 1, batch)
    num_sites[:2] = 0, form.max_sites
    genotypes = np.zeros((batch, form.num_haplotypes, form.max_sites), dtype=np.float32)
    positions = np.zeros((batch, form.max_sites), dtype=np.float32)
    for row, count in enumerate(num_sites):
        frequency = random.random(count)
        alleles = (random.random((form.num_haplotypes, count)) < frequency).astype(np.float32)
        alleles[random.random(alleles.shape) < missing] = -1
        if not form.phased:
            first, second = alleles[0::2].copy(), alleles[1::2].copy()
            alleles[0::2], alleles[1::2] = np.maximum(first, second), np.minimum(first, second)
        genotypes[row, :, :count] = alleles
        positions[row, :count] = np.sort(random.choice(int(LENGTH), count, replace=False))
    mask = np.arange(form.max_sites) < num_sites[:, np.newaxis]
    return Examples(*(torch.from_numpy(array) for array in (genotypes, positions, mask)))


def make(name: str, form: Form = FORM, **options: Any) -> Transform:
    part = plugins.load("transforms", name, Transform)
    return part(part.Settings(**options), form)


def chance(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sites(examples: Examples, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Genotypes and positions of the real sites of one example."""
    assert examples.positions is not None
    real = examples.mask[row]
    return examples.genotypes[row][:, real].numpy(), examples.positions[row][real].numpy()


def same(first: Examples, second: Examples) -> bool:
    both = zip(
        (first.genotypes, first.positions, first.mask), (second.genotypes, second.positions, second.mask), strict=True
    )
    return all((a is None and b is None) or (a is not None and b is not None and torch.equal(a, b)) for a, b in both)


def rows_of(examples: Examples, rows: slice) -> Examples:
    positions = None if examples.positions is None else examples.positions[rows]
    return Examples(examples.genotypes[rows], positions, examples.mask[rows])


# What holds for all of them.


def test_every_transform_is_tested() -> None:
    assert {name for name, _ in CASES} == set(plugins.known("transforms"))


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_padding_stays_empty_and_the_form_tells_what_comes(name: str, options: dict[str, Any], seed: int) -> None:
    transform = make(name, **options)
    before, untouched = some(seed), some(seed)
    after = transform(before, chance(seed))
    assert same(before, untouched), "changed in place"
    form = transform.after
    batch, haplotypes, columns = after.genotypes.shape
    assert (batch, columns) == (6, form.max_sites)
    assert form.fewest_haplotypes <= haplotypes <= form.num_haplotypes
    assert after.mask.shape == (6, form.max_sites) and after.mask.dtype == torch.bool
    assert torch.equal(after.mask, after.mask.sort(dim=1, descending=True).values), "real sites come first"
    hidden = (~after.mask).unsqueeze(1).expand_as(after.genotypes)
    assert after.genotypes.dtype == torch.float32 and not torch.any(after.genotypes[hidden])
    assert not torch.any(torch.signbit(after.genotypes[hidden])), "−0 is another byte than 0"
    assert (after.positions is None) == (form.positions == "none")
    if not isinstance(transform, View):
        assert set(after.genotypes.unique().tolist()) <= {-1.0, 0.0, 1.0}
        assert after.positions is not None and after.positions.dtype == torch.float32
        assert not torch.any(after.positions[~after.mask])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_chance_is_the_generators_alone(name: str, options: dict[str, Any]) -> None:
    transform, examples = make(name, **options), some(3, batch=20)
    state = torch.random.get_rng_state()
    first, again, other = (transform(examples, chance(seed)) for seed in (1, 1, 2))
    assert same(first, again)
    assert torch.equal(torch.random.get_rng_state(), state)
    # A fixed number of individuals needs chance in training, and can do without.
    assert same(first, other) == (transform.chance is None and name != "subsample")


@pytest.mark.parametrize(("name", "options"), [case for case in CASES if make(case[0], **case[1]).chance is None])
@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_without_chance_an_example_does_not_depend_on_its_batch(name: str, options: dict[str, Any], seed: int) -> None:
    transform, examples = make(name, **options), some(seed)
    whole = transform(examples, None)
    for rows in (slice(0, 1), slice(1, 4), slice(5, 6)):
        assert same(transform(rows_of(examples, rows), None), rows_of(whole, rows))


# Against the encoding.


def encoded(windows: list[tuple[np.ndarray, np.ndarray]], **options: Any) -> tuple[Examples, Form]:
    defaults = {"alleles": "derived", "positions": "absolute", "max_sites": 60}
    encoder = Encoder(Encoding(**{**defaults, **options}), num_haplotypes=10, ploidy=2, sequence_length=LENGTH)
    found = [encoder.encode(*window, np.random.default_rng(0)) for window in windows]
    genotypes = torch.from_numpy(np.stack([example.genotypes for example in found])).float()
    positions = None
    if found[0].positions is not None:
        positions = torch.from_numpy(np.stack([example.positions for example in found]))
    num_sites = torch.tensor([example.num_sites for example in found]).unsqueeze(1)
    return Examples(genotypes, positions, torch.arange(genotypes.shape[2]) < num_sites), Form.of(encoder)


def windows(seed: int, missing: float = 0.1) -> list[tuple[np.ndarray, np.ndarray]]:
    """Windows with from 0 to 49 sites at whole bp, that no allele repeats too regularly."""
    random = np.random.default_rng(seed)
    made = []
    for count in (0, 1, 9, *random.integers(10, 50, 4)):
        genotypes = (random.random((count, 10)) < random.random((count, 1))).astype(np.int8)
        genotypes[random.random(genotypes.shape) < missing] = -1
        made.append((genotypes, np.sort(random.choice(int(LENGTH), count, replace=False)).astype(float)))
    return made


@pytest.mark.parametrize(
    ("name", "options", "before", "after"),
    [
        *(
            ("crop", {"sites": 8, "where": where}, {"positions": style}, {"max_sites": 8, "crop": where})
            for where in ("start", "centre")
            for style in ("absolute", "relative", "distance", "none")
        ),
        *(
            ("crop", {"length": 300, "where": where}, {}, {"crop_length": 300, "crop": where})
            for where in ("start", "centre")
        ),
        *(("maf", {"minimum": 0.2}, {"positions": style}, {"min_maf": 0.2}) for style in ("absolute", "distance")),
        ("maf", {"minimum": 0.1}, {}, {"min_maf": 0.1}),
        ("fold", {}, {}, {"alleles": "minor"}),
        ("fold", {}, {"phase": "ignore"}, {"alleles": "minor"}),
        ("sort", {"by": "frequency"}, {}, {"sort": "frequency"}),
        ("sort", {"by": "similarity"}, {}, {"sort": "similarity"}),
        ("reformat", {"to": "relative"}, {}, {"positions": "relative"}),
        ("reformat", {"to": "distance"}, {}, {"positions": "distance"}),
        ("reformat", {"to": "absolute"}, {"positions": "distance"}, {"positions": "absolute"}),
        ("polymorphic", {}, {}, {}),
    ],
)
@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_a_transform_does_what_the_encoding_does(
    name: str, options: dict[str, Any], before: dict[str, Any], after: dict[str, Any], missing: float
) -> None:
    for seed in range(5):
        raw = windows(seed, missing)
        examples, form = encoded(raw, **before)
        found = make(name, form, **options)(examples, None)
        expected, _ = encoded(raw, **{**before, **after})
        assert torch.equal(found.mask, expected.mask)
        assert torch.equal(found.genotypes, expected.genotypes)
        assert (found.positions is None) == (expected.positions is None)
        if found.positions is not None and expected.positions is not None:
            torch.testing.assert_close(found.positions, expected.positions, rtol=1e-6, atol=0)


@pytest.mark.parametrize("num_haplotypes", [2, 7, 8, 13, 64, 129, 300])
@pytest.mark.parametrize("by", ["similarity", "frequency"])
def test_sorting_is_the_encodings_for_any_number_of_haplotypes(num_haplotypes: int, by: str) -> None:
    """With few sites there are ties, which content and the rounding of sums decide."""
    random = np.random.default_rng(num_haplotypes)
    for num_sites in (3, 45, 100):
        genotypes = (random.random((num_sites, num_haplotypes)) < 0.4).astype(np.int8)
        genotypes[random.random(genotypes.shape) < 0.05] = -1
        genotypes[:, :2] = 0, 1
        positions = np.arange(num_sites, dtype=float)
        arrays = {}
        for sort in ("none", by):
            encoder = Encoder(
                Encoding(sort=sort, max_sites=100, alleles="derived"),  # type: ignore[arg-type]
                num_haplotypes=num_haplotypes,
                ploidy=1,
                sequence_length=LENGTH,
            )
            arrays[sort] = encoder.encode(genotypes, positions, random).genotypes
        batch = torch.from_numpy(np.stack([arrays["none"], arrays["none"][::-1]])).float()
        mask = (torch.arange(100) < num_sites).expand(2, -1)
        found = make("sort", by=by)(Examples(batch, torch.zeros(2, 100), mask), None)
        assert torch.equal(found.genotypes[0], torch.from_numpy(arrays[by]).float())
        assert torch.equal(found.genotypes[1], found.genotypes[0]), "the order given must not matter"


# One by one.


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


# Bad options and batches that a transform cannot take.


@pytest.mark.parametrize(
    ("name", "options", "changes", "message"),
    [
        ("crop", {}, {}, "give exactly one of sites and length"),
        ("crop", {"sites": 3, "length": 3}, {}, "give exactly one of sites and length"),
        ("crop", {"sites": 22}, {}, "sites: 22 are more than there are at most, 21"),
        ("crop", {"length": 1001}, {}, r"length: 1001 bp is longer than the window \(1000 bp\)"),
        (
            "crop",
            {"length": 10},
            {"positions": "distance"},
            r"set encoding\.positions: absolute, and put .*reformat, to: distance",
        ),
        ("crop", {"length": 10}, {"positions": "none"}, r"it needs positions: set encoding\.positions"),
        ("subsample", {"individuals": [3, 2]}, {}, r"expected \[fewest, most\] in this order, found \[3, 2\]"),
        ("subsample", {"individuals": 0}, {}, "greater than or equal to 1"),
        (
            "subsample",
            {"individuals": [2, 5]},
            {},
            r"individuals: 5 are more than there are, 4 \(8 haplotypes of ploidy 2\)",
        ),
        ("subsample", {"individuals": 3}, {"fewest_haplotypes": 4}, "individuals: 3 are more than there are, 2"),
        (
            "subsample",
            {"individuals": 3},
            {"individuals": False},
            r"use `encoding\.sort: none`, and the transform `sort` behind it",
        ),
        ("maf", {"minimum": 0}, {}, "greater than 0"),
        ("rotate", {}, {"whole": False}, "only a whole genome can be turned"),
        ("rotate", {}, {"positions": "distance"}, "does not say where a window starts"),
        ("reformat", {"to": "distance"}, {"positions": "none"}, "it needs positions"),
        ("sort", {}, {"populations": 2}, "haplotypes of one population, found 2"),
        ("subsample", {"individuals": 2}, {"populations": 2}, "haplotypes of one population, found 2"),
        ("sort", {}, {"phased": False}, "cannot be sorted where phase is ignored"),
        ("shuffle_phase", {}, {"ploidy": 1}, "ploidy 1 have no phase"),
        ("shuffle_phase", {}, {"phased": False}, "has removed the phase already"),
        ("shuffle_phase", {}, {"individuals": False}, "haplotypes of each individual side by side"),
        ("missingness", {"share": [0.5, 0.2]}, {}, r"expected \[lowest, highest\] in this order, found \[0\.5, 0\.2\]"),
        ("concat", {}, {"positions": "none"}, "it needs positions"),
    ],
)
def test_what_cannot_be_done_is_refused(
    name: str, options: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, Form(**{**FORM.__dict__, **changes}), **options)


def test_one_number_of_individuals_is_the_range_of_one() -> None:
    assert (Subsample.Settings(individuals=3).fewest, Subsample.Settings(individuals=3).most) == (3, 3)
