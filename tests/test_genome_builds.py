"""Which build a header is of."""

import pytest

from popdl.genome_builds import CHROMOSOME_LENGTHS, canonical, check_build, find_builds, other_name


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("hg18", "NCBI36"),
        ("b36", "NCBI36"),
        ("1000GenomesPilot-NCBI36", "NCBI36"),
        ("GRCh37", "GRCh37"),
        ("GRCh37.p13", "GRCh37"),
        ("hg19", "GRCh37"),
        ("b37", "GRCh37"),
        ("file:///references/human_g1k_v37.fasta", "GRCh37"),
        ("hs37d5", "GRCh37"),
        ("grch38", "GRCh38"),
        ("GRCh38_full_analysis_set_plus_decoy_hla.fa", "GRCh38"),
        ("hg38", "GRCh38"),
        ("AgamP4", "AgamP4"),
        ("sub37", "sub37"),
        ("hg380", "hg380"),
    ],
)
def test_names_mean_builds(name, build):
    assert canonical(name) == build


def test_no_two_builds_share_a_length():
    """So that one chromosome's length is enough to tell the build."""
    for chromosome in CHROMOSOME_LENGTHS["GRCh37"]:
        assert len({lengths[chromosome] for lengths in CHROMOSOME_LENGTHS.values()}) == 3


def test_lengths_are_those_of_stdpopsim():
    """An independent copy of the lengths of GRCh38."""
    stdpopsim = pytest.importorskip("stdpopsim")
    genome = stdpopsim.get_species("HomSap").genome
    known = {chromosome.id: int(chromosome.length) for chromosome in genome.chromosomes if chromosome.id != "MT"}
    assert CHROMOSOME_LENGTHS["GRCh38"] == known


@pytest.mark.parametrize("build", sorted(CHROMOSOME_LENGTHS))
@pytest.mark.parametrize("prefix", ["", "chr"])
def test_build_is_found_by_the_length_of_any_chromosome(build, prefix):
    for chromosome, length in CHROMOSOME_LENGTHS[build].items():
        contigs = {prefix + chromosome: length, "decoy": 12, "MT": None}
        assert find_builds(contigs, []) == {build}
        assert check_build(build, contigs, []) is None
        assert check_build(None, contigs, []) is None


def test_a_header_that_tells_nothing_agrees_with_every_build():
    assert find_builds({"20": None, "chr1": 1_000_000}, ["Btau"]) == set()
    assert check_build("GRCh37", {"20": None}, ["Btau"]) is None
    assert check_build("AgamP4", {"3L": 41_963_435}, ["AgamP4"]) is None


def test_another_build_is_refused():
    assert "the header is of GRCh37, but `build` says GRCh38" in (
        check_build("GRCh38", {"20": CHROMOSOME_LENGTHS["GRCh37"]["20"]}, []) or ""
    )
    assert "the header is of NCBI36" in (check_build("hg19", {}, ["1000GenomesPilot-NCBI36"]) or "")
    assert "GRCh37" in (check_build("AgamP4", {}, ["b37"]) or "")


def test_a_header_that_contradicts_itself_is_refused():
    contigs = {"1": CHROMOSOME_LENGTHS["GRCh37"]["1"], "2": CHROMOSOME_LENGTHS["GRCh38"]["2"]}
    assert "GRCh37 and GRCh38" in (check_build("GRCh37", contigs, []) or "")


def test_a_length_of_no_build_is_refused():
    assert "a length of 87,216,183 bp, but it has 133,851,895 bp in GRCh37" in (
        check_build("b37", {"chr12": 87_216_183}, []) or ""
    )


def test_the_other_style_of_names():
    assert other_name("chr20") == "20"
    assert other_name("20") == "chr20"
