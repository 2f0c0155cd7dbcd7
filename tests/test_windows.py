"""Windows of a genome: where they lie, which are predicted, and that they are encoded exactly as simulations are."""

from __future__ import annotations

import msprime
import numpy as np
import pytest

from popdl import seeds
from popdl.check import check_application
from popdl.config.application import Application, Windows
from popdl.config.encoding import Encoding
from popdl.dataset import encode_examples
from popdl.encoding import Encoder
from popdl.errors import PopdlError
from popdl.importers.vcf import ContigGenotypes
from popdl.store import read_shard
from popdl.windows import cut, encode_windows

LENGTH = 20_000


def contig_of(positions, *, length=None, records=None, num_haplotypes=4):
    """A contig with a polymorphic site at each position."""
    genotypes = np.zeros((len(positions), num_haplotypes), dtype=np.int8)
    genotypes[:, 0] = 1
    records = positions if records is None else records
    return ContigGenotypes("1", length, genotypes, np.array(positions, np.int64), np.array(records, np.int64))


def encoder_of(*, num_haplotypes=4, sequence_length=100.0, **settings):
    return Encoder(
        Encoding(**{"max_sites": 5, **settings}),
        num_haplotypes=num_haplotypes,
        ploidy=2,
        sequence_length=sequence_length,
    )


def cut_all(contig, spans=None, **settings):
    return list(cut(contig, Windows(**settings), encoder=encoder_of(), spans=spans))


def places(windows):
    return [(window.start, window.end, window.reason) for window in windows]


# By length


def test_windows_lie_on_a_grid_and_the_data_need_not_start_on_it():
    windows = cut_all(contig_of(range(203, 500, 10)), size=100)
    assert places(windows) == [(200, 300, ""), (300, 400, ""), (400, 500, "")]
    assert [window.positions.tolist() for window in windows] == [list(range(3, 100, 10))] * 3


def test_windows_are_half_open():
    windows = cut_all(contig_of([0, 50, 99, 100, 150, 199]), size=100)
    assert [window.positions.tolist() for window in windows] == [[0, 50, 99], [0, 50, 99]]
    assert [len(window.genotypes) for window in windows] == [3, 3]


def test_data_that_cover_a_window_in_part():
    windows = cut_all(contig_of(range(260, 440, 10)), size=100)
    assert places(windows) == [
        (200, 300, "the data start inside the window"),
        (300, 400, ""),
        (400, 500, "the data end inside the window"),
    ]


def test_records_that_are_left_out_are_data_too():
    """Where a file has monomorphic records, the window is covered although no site is polymorphic there."""
    windows = cut_all(contig_of([150], records=range(0, 300, 5)), size=100)
    assert [window.reason for window in windows] == ["", "", ""]
    assert [len(window.positions) for window in windows] == [0, 1, 0]


def test_a_hole_in_the_data():
    windows = cut_all(contig_of([*range(0, 100, 10), *range(300, 400, 10)]), size=100)
    assert [window.reason for window in windows] == ["", *["no data in the window"] * 2, ""]


def test_a_contig_that_ends_inside_a_window():
    windows = cut_all(contig_of(range(0, 150, 10), length=150), size=100)
    assert places(windows) == [(0, 100, ""), (100, 200, "the contig ends inside the window")]


def test_regions_start_their_own_grid():
    windows = cut_all(contig_of(range(0, 400, 10)), spans=[(30, 250), (300, 400)], size=100)
    assert places(windows) == [
        (30, 130, ""),
        (130, 230, ""),
        (230, 330, "the region ends inside the window"),
        (300, 400, ""),
    ]


def test_steps_shorter_and_longer_than_a_window():
    contig = contig_of(range(0, 300, 10))
    assert [window.start for window in cut_all(contig, size=100, step=50) if not window.reason] == [
        0,
        50,
        100,
        150,
        200,
    ]
    assert [(window.start, window.end) for window in cut_all(contig, size=100, step=150)] == [(0, 100), (150, 250)]


def test_every_window_of_a_naive_loop():
    random = np.random.default_rng(5)
    positions = np.unique(random.integers(0, 5000, size=400))
    windows = cut_all(contig_of(positions), size=300, step=70)
    for window in windows:
        inside = [position - window.start for position in positions if window.start <= position < window.start + 300]
        assert window.positions.tolist() == inside
    assert [window.start for window in windows] == [
        start for start in range(0, 5000, 70) if start <= positions[-1] and start + 300 > positions[0]
    ]


def test_a_region_without_data_has_rows():
    windows = cut_all(contig_of(range(0, 200, 10)), spans=[(0, 200), (300, 500)], size=100)
    assert [window.reason for window in windows] == ["", "", *["no data in the window"] * 2]


# By number of sites


def test_windows_of_sites_tile_the_contig():
    windows = cut_all(contig_of([10, 20, 35, 70, 90, 95, 99]), sites=3)
    assert places(windows) == [
        (10, 36, ""),
        (36, 96, ""),
        (96, 100, "1 sites are left, fewer than windows.sites (3)"),
    ]
    assert [window.positions.tolist() for window in windows] == [[0, 10, 25], [34, 54, 59], [3]]


def test_windows_of_sites_that_overlap():
    windows = cut_all(contig_of([10, 20, 35, 70, 90]), sites=3, step=1)
    assert places(windows) == [(10, 36, ""), (11, 71, ""), (21, 91, "")]


def test_only_sites_that_the_encoder_keeps_count():
    contig = contig_of([10, 20, 35, 70, 90])
    contig.genotypes[1] = 0
    (window,) = cut_all(contig, sites=4)
    assert (window.start, window.end) == (10, 91)
    assert len(window.positions) == 5


def test_windows_of_sites_in_a_region():
    windows = cut_all(contig_of([10, 20, 35, 70, 90]), spans=[(15, 80)], sites=3)
    assert places(windows) == [(15, 71, "")]


def test_a_region_without_sites_has_a_row():
    windows = cut_all(contig_of([10, 20, 35], records=range(100)), spans=[(0, 40), (50, 80)], sites=2)
    assert places(windows) == [
        (0, 21, ""),
        (21, 36, "1 sites are left, fewer than windows.sites (2)"),
        (50, 80, "no sites are left, fewer than windows.sites (2)"),
    ]
    (window,) = cut_all(contig_of([], records=range(5, 90)), sites=2)
    assert (window.start, window.end, bool(window.reason)) == (0, 90, True)


# From tree sequences to VCF and back


@pytest.fixture(scope="module")
def simulated():
    """Three windows of a genome of eight diploid individuals."""
    ancestry = msprime.sim_ancestry(
        8, population_size=10_000, sequence_length=3 * LENGTH, recombination_rate=1e-8, random_seed=11
    )
    return msprime.sim_mutations(ancestry, rate=2e-7, random_seed=12)


@pytest.fixture(scope="module")
def vcf(simulated, tmp_path_factory):
    path = tmp_path_factory.mktemp("simulated") / "genome.vcf"
    with open(path, "w") as file:
        simulated.write_vcf(file, position_transform=lambda positions: np.round(positions).astype(int) + 1)
    return path


def application_of(vcf, **settings):
    return Application.model_validate({"vcf": vcf, "windows": {"size": LENGTH}, **settings})


def wide_encoder(**settings):
    return encoder_of(num_haplotypes=16, sequence_length=LENGTH, **{"max_sites": 60, **settings})


def encode(vcf, tmp_path, *, encoder=None, seed=3, **settings):
    encoder = encoder or wide_encoder()
    encode_windows(
        vcf, application=application_of(vcf, **settings), encoder=encoder, seed=seed, output=tmp_path / "windows"
    )
    return read_shard(tmp_path / "windows", kind="windows")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sort": "similarity", "positions": "relative", "min_maf": 0.1},
        {"sort": "frequency", "positions": "absolute", "crop": "start"},
        {"phase": "ignore", "crop": "random"},
        {"crop_length": 5_000, "crop": "random", "positions": "none"},
        {"alleles": "derived", "max_sites": 500},
    ],
)
def test_a_vcf_is_encoded_as_its_tree_sequence(simulated, vcf, tmp_path, settings):
    """The core promise: the same genotypes give the same arrays, whether simulated or read from a file."""
    encoder = wide_encoder(**settings)
    shard = encode(vcf, tmp_path, encoder=encoder, ancestral="reference")
    pieces = []
    for index in range(3):
        start = index * LENGTH
        piece = simulated.keep_intervals([[start, start + LENGTH]], simplify=False)
        positions = piece.tables.sites.position - start
        pieces.append((piece.genotype_matrix().astype(np.int8), positions, seeds.generator(3, "windows", index)))
    arrays, attributes = encode_examples(encoder, pieces)
    assert simulated.num_sites > 400
    for name in arrays.keys() - {"dropped"}:  # multi-allelic sites are left out by the reader, before the encoder
        np.testing.assert_array_equal(shard[name], arrays[name], err_msg=name)
    assert set(shard.names) == {*arrays, "start", "end"}
    assert shard["start"].tolist() == [0, LENGTH, 2 * LENGTH]
    assert shard["end"].tolist() == [LENGTH, 2 * LENGTH, 3 * LENGTH]
    assert shard.attributes["fingerprint"] == attributes["fingerprint"]
    total = shard["num_sites_window"].sum() + shard["dropped"].sum() + sum(shard.attributes["records"].values())
    if "crop_length" not in settings:
        assert total == simulated.num_sites


def test_what_a_shard_says_of_itself(vcf, tmp_path):
    shard = encode(vcf, tmp_path, samples={"names": [f"tsk_{index}" for index in reversed(range(8))]}, build="mine")
    assert shard.attributes["contigs"] == ["1", "1", "1"]
    assert shard.attributes["reasons"] == ["", "", ""]
    assert shard.attributes["samples"] == [f"tsk_{index}" for index in reversed(range(8))]
    assert shard.attributes["vcf"] == "genome.vcf"
    assert shard.attributes["build"] == "mine"
    assert shard.attributes["records_used"] + sum(shard.attributes["records"].values()) == sum(
        not row.startswith("#") for row in vcf.read_text().splitlines()
    )


def test_a_window_with_too_few_sites_keeps_its_row(vcf, tmp_path):
    counts = encode(vcf, tmp_path)["num_sites_window"]
    limit = int(np.sort(counts)[1]) + 1
    shard = encode(vcf, tmp_path, windows={"size": LENGTH, "min_sites": limit})
    expected = ["" if count >= limit else f"{count} sites, fewer than windows.min_sites ({limit})" for count in counts]
    assert shard.attributes["reasons"] == expected
    assert sum(map(bool, expected)) == 2


def test_windows_by_sites_are_encoded(vcf, tmp_path):
    shard = encode(vcf, tmp_path, windows={"sites": 60})
    reasons = shard.attributes["reasons"]
    assert shard["num_sites_window"][:-1].tolist() == [60] * (len(reasons) - 1)
    assert not any(reasons[:-1])
    np.testing.assert_array_equal(shard["start"][1:], shard["end"][:-1])


def test_a_drawn_subset(vcf, tmp_path):
    encoder = wide_encoder()
    small = Encoder(encoder.settings, num_haplotypes=6, ploidy=2, sequence_length=LENGTH)
    names = {"names": [f"tsk_{index}" for index in range(8)], "number": 3}
    first, again = (encode(vcf, tmp_path, encoder=small, samples=names) for _ in range(2))
    assert len(first.attributes["samples"]) == 3
    assert first.digest == again.digest
    assert first.digest != encode(vcf, tmp_path, encoder=small, samples=names, seed=4).digest


# What is refused


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        ({"samples": {"names": ["tsk_1"]}}, ["1 individuals are chosen, but the networks take 8 .*; choose more"]),
        ({"ploidy": 1}, ["ploidy: 1, but the networks were trained with ploidy 2"]),
        ({"windows": {"size": 10_000}}, ["windows.size: 10000 bp, but the networks were trained on 20000 bp"]),
        ({"regions": ["chr1"]}, ["there is no contig 'chr1'; this file calls it '1'"]),
        (
            {"samples": {"names": ["x"]}, "regions": ["2"], "build": "GRCh37", "ploidy": 1},
            ["ploidy: 1", "contig 1 a length of 60,001 bp", "1 of 1 samples are not in", "no contig '2'"],
        ),
    ],
)
def test_all_problems_are_said_at_once(vcf, tmp_path, settings, messages):
    application = application_of(vcf, **settings)
    problems = check_application(application, encoder=wide_encoder())
    assert len(problems) == len(messages)
    with pytest.raises(PopdlError) as raised:
        encode_windows(vcf, application=application, encoder=wide_encoder(), seed=1, output=tmp_path / "windows")
    for problem, message in zip(problems, messages, strict=True):
        assert problem in str(raised.value)
        with pytest.raises(PopdlError, match=message):
            raise PopdlError(problem)
    assert not (tmp_path / "windows").exists()


def test_too_many_individuals(vcf, tmp_path):
    encoder = Encoder(Encoding(), num_haplotypes=4, ploidy=2, sequence_length=LENGTH)
    with pytest.raises(
        PopdlError, match=r"8 individuals are chosen, but the networks take 2 .*; set samples.number to 2"
    ):
        encode(vcf, tmp_path, encoder=encoder)


@pytest.mark.parametrize(
    ("settings", "windows", "message"),
    [
        ({"alleles": "derived"}, {"size": LENGTH}, "ancestral: the networks take derived alleles"),
        ({"positions": "relative"}, {"sites": 60}, "windows.sites: such windows differ in length"),
        (
            {"crop_length": 15_000},
            {"sites": 60},
            "windows.sites: such windows differ in length, but the networks take a fixed",
        ),
        ({}, {"sites": 59}, "windows.sites: 59, but the networks were trained on up to 60 sites"),
        ({}, {"size": LENGTH, "step": 0.5}, "windows.step: 0.5, expected a whole number"),
        ({"crop_length": 15_000}, {"size": 10_000}, "windows.size: 10000 bp, but the networks take 15000 bp of each"),
    ],
)
def test_settings_that_a_recipe_cannot_give(vcf, settings, windows, message):
    (problem,) = check_application(application_of(vcf, windows=windows), encoder=wide_encoder(**settings))
    assert message in problem


@pytest.fixture
def bare(vcf, tmp_path):
    """The same file without contig lines."""
    path = tmp_path / "bare.vcf"
    path.write_text("".join(row for row in vcf.read_text().splitlines(keepends=True) if "##contig" not in row))
    return path


def test_a_region_without_records(bare, tmp_path):
    with pytest.raises(PopdlError, match="no record lies in that of contig '1'"):
        encode(bare, tmp_path, regions=["1:1000000-2000000"])


def test_a_contig_of_another_name_in_a_file_without_contig_lines(bare, tmp_path):
    with pytest.raises(PopdlError, match="no contig 'chr1'; this file calls it '1'"):
        encode(bare, tmp_path, regions=["chr1"])


def test_a_sound_application_has_no_problems(vcf):
    assert check_application(application_of(vcf), encoder=wide_encoder()) == []


def test_check_reads_the_first_records(vcf, tmp_path):
    unphased = tmp_path / "unphased.vcf"
    unphased.write_text(vcf.read_text().replace("0|1", "0/1"))
    (problem,) = check_application(application_of(unphased), encoder=wide_encoder())
    assert "are not phased" in problem
    assert check_application(application_of(unphased), encoder=wide_encoder(phase="ignore")) == []


# Real files


def test_three_windows_of_chromosome_20(data, tmp_path):
    folder = data / "eur_chr20_b37"
    application = Application.model_validate(
        {
            "vcf": folder / "eur502_chr20_1-4Mb_b37.vcf.gz",
            "build": "hg19",
            "samples": {"panel": folder / "eur502_chr20_1-4Mb_b37.panel", "population": "CEU", "number": 25},
            "windows": {"size": 1e6},
        }
    )
    encoder = Encoder(Encoding(), num_haplotypes=50, ploidy=2, sequence_length=1e6)
    assert check_application(application, encoder=encoder) == []
    encode_windows(application.vcf, application=application, encoder=encoder, seed=1, output=tmp_path / "windows")
    shard = read_shard(tmp_path / "windows", kind="windows")
    assert shard["start"].tolist() == [1_000_000, 2_000_000, 3_000_000]
    assert shard.attributes["reasons"] == ["", "", ""]
    assert shard.attributes["build"] == "GRCh37"
    assert shard.attributes["records_used"] == 23_670
    assert (shard["num_sites_window"] + shard["dropped"].sum(axis=1)).sum() == 23_670


def test_chr20_is_not_20(data):
    folder = data / "eur_chr20_b37"
    application = Application.model_validate(
        {
            "vcf": folder / "eur502_chr20_1-4Mb_b37.vcf.gz",
            "build": "GRCh38",
            "samples": {"panel": folder / "eur502_chr20_1-4Mb_b37.panel", "population": "YRI"},
            "regions": ["chr20:1,000,001-2,000,000"],
            "windows": {"size": 1e6},
        }
    )
    problems = check_application(
        application, encoder=Encoder(Encoding(), num_haplotypes=50, ploidy=2, sequence_length=1e6)
    )
    assert len(problems) == 3
    assert "the header is of GRCh37, but `build` says GRCh38" in problems[0]
    assert "no sample has pop 'YRI'; known: CEU, FIN, GBR, IBS, TSI" in problems[1]
    assert "this file calls it '20'" in problems[2]


def test_missing_alleles_reach_the_shard(data, tmp_path):
    path = data / "unphased_missing/ag1000_allsites_missing.vcf.gz"
    application = Application.model_validate({"vcf": path, "windows": {"size": 10_000}})
    encoder = Encoder(Encoding(phase="ignore", max_sites=200), num_haplotypes=72, ploidy=2, sequence_length=10_000)
    encode_windows(path, application=application, encoder=encoder, seed=1, output=tmp_path / "windows")
    shard = read_shard(tmp_path / "windows", kind="windows")
    assert "missing" in shard
    assert set(shard.attributes["contigs"]) == {"X", "1"}
    carried = np.unpackbits(shard["missing"], axis=-1).sum() / (shard["num_sites"].sum() * 72)
    assert carried == pytest.approx(0.175, abs=0.02)


@pytest.mark.parametrize(
    "samples", [None, {"names": ["x", "y", "z", "w"], "number": 3}, {"panel": "panel.tsv", "population": "A"}]
)
def test_individuals_of_several_populations_must_be_listed_in_order(tmp_path, samples):
    encoder = Encoder(Encoding(), num_haplotypes=6, ploidy=2, sequence_length=1e4, populations={"A": 4, "B": 2})
    windows = {"vcf": tmp_path / "absent.vcf", "windows": {"size": 1e4}}
    message = (
        "in the order of their populations (2 of A, 1 of B); list them in this order in samples.names or samples.file"
    )
    (tmp_path / "list.txt").write_text("x\ny\nz\n")
    for given, refused in (
        (samples, True),
        ({"names": ["x", "y", "z"]}, False),
        ({"file": tmp_path / "list.txt"}, False),
    ):
        problems = check_application(Application.model_validate({**windows, "samples": given}), encoder=encoder)
        assert any(message in problem for problem in problems) == refused
