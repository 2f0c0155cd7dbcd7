"""What holds for all transforms, against the encoding where that does the same, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from batches import FORM, LENGTH, SEEDS, chance, make, rows_of, same, some
from hypothesis import given, settings

from popdl import plugins
from popdl.config.encoding import Encoding
from popdl.encoding import Encoder
from popdl.transforms._base import Examples, Form, View
from popdl.transforms.sort import Sort
from popdl.transforms.subsample import Subsample

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
    ("genotypes", {}),
    ("read_counts", {"coverage": 3}),
    ("pool", {}),
]
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
        alleles = after.genotypes.unique().tolist()
        assert set(alleles) <= {-1.0, 0.0, 1.0} or form.frequencies
        assert all(allele == -1 or 0 <= allele <= 1 for allele in alleles)
        assert after.positions is not None and after.positions.dtype == torch.float32
        assert not torch.any(after.positions[~after.mask])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_chance_is_the_generators_alone(name: str, options: dict[str, Any]) -> None:
    transform, examples = make(name, **options), some(3, batch=20)
    state = torch.random.get_rng_state()
    first, again, other = (transform(examples, chance(seed)) for seed in (1, 1, 2))
    assert same(first, again)
    assert torch.equal(torch.random.get_rng_state(), state)
    # A fixed number of individuals, and reads, need chance in training, and can do without.
    assert same(first, other) == (transform.chance is None and name not in ("subsample", "read_counts"))


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


@pytest.mark.parametrize("by", ["similarity", "frequency"])
def test_individuals_are_sorted_by_their_shares(by: str) -> None:
    """Against a loop over pairs; with few sites there are ties, and the order given must not matter."""
    form = replace(FORM, num_haplotypes=6, fewest_haplotypes=6, ploidy=1, frequencies=True, max_sites=10)
    random = np.random.default_rng(3)
    for num_sites in (1, 4, 10):
        shares = random.integers(-1, 5, (6, 10)) / 4
        shares[shares < 0], shares[:, num_sites:] = -1, 0
        batch = torch.from_numpy(np.stack([shares, shares[random.permutation(6)]])).float()
        examples = Examples(batch, torch.zeros(2, 10), (torch.arange(10) < num_sites).expand(2, -1))
        found = Sort(Sort.Settings(by=by), form)(examples, None).genotypes
        assert torch.equal(found[0], found[1])
        assert sorted(found[0].tolist()) == sorted(batch[0].tolist())
        rows = found[0, :, :num_sites].double().numpy()
        if by == "frequency":
            assert np.all(np.diff(np.maximum(rows, 0).sum(axis=1)) <= 1e-9)
            continue
        distances = np.ones((6, 6))
        for i, j in np.ndindex(6, 6):
            both = (rows[i] >= 0) & (rows[j] >= 0)
            distances[i, j] = np.abs(rows[i] - rows[j])[both].mean() if both.any() else 1.0
        medoids = np.flatnonzero(np.isclose(distances.sum(axis=1), distances.sum(axis=1).min()))
        assert any(np.all(np.diff(distances[medoid]) >= -1e-9) for medoid in medoids)


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
        ("sort", {}, {"populations": (4, 4)}, "haplotypes of one population, found 2"),
        ("subsample", {"individuals": 2}, {"populations": (4, 4)}, "haplotypes of one population, found 2"),
        ("sort", {}, {"phased": False}, "cannot be sorted where phase is ignored"),
        ("shuffle_phase", {}, {"ploidy": 1}, "ploidy 1 have no phase"),
        ("shuffle_phase", {}, {"phased": False}, "has removed the phase already"),
        ("shuffle_phase", {}, {"individuals": False}, "haplotypes of each individual side by side"),
        ("missingness", {"share": [0.5, 0.2]}, {}, r"expected \[lowest, highest\] in this order, found \[0\.5, 0\.2\]"),
        ("concat", {}, {"positions": "none"}, "it needs positions"),
        ("genotypes", {}, {"individuals": False}, "haplotypes of each individual side by side"),
        ("read_counts", {"coverage": 5}, {"individuals": False}, "haplotypes of each individual side by side"),
        ("read_counts", {"coverage": 0}, {}, "greater than 0"),
        *(
            (name, options, {"frequencies": True}, "it takes haplotypes, found rows of individuals or populations")
            for name, options in CASES
            if name not in ("crop", "rotate", "reformat", "sort", "concat", "product")
        ),
    ],
)
def test_what_cannot_be_done_is_refused(
    name: str, options: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, Form(**{**FORM.__dict__, **changes}), **options)


def test_one_number_of_individuals_is_the_range_of_one() -> None:
    assert (Subsample.Settings(individuals=3).fewest, Subsample.Settings(individuals=3).most) == (3, 3)
