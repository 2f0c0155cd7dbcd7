"""Reading VCF and BCF: what is kept, what is counted, what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import cyvcf2
import numpy as np
import pytest

from popdl.errors import PopdlError
from popdl.importers.vcf import GenotypeReader, check_regions
from popdl.importers.vcf_header import read_header

HEADER = """##fileformat=VCFv4.2
##FILTER=<ID=PASS,Description="All filters passed">
##FILTER=<ID=low,Description="x">
##INFO=<ID=AA,Number=1,Type=String,Description="x">
##FORMAT=<ID=GT,Number=1,Type=String,Description="x">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="x">
##contig=<ID=1,length=1000>
##contig=<ID=2,length=2000>
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\tc
"""


def line(position, genotypes="0|1 1|0 0|0", *, contig="1", ref="A", alt="C", filter_="PASS", info=".", layout="GT"):
    return "\t".join([contig, str(position), ".", ref, alt, ".", filter_, info, layout, *genotypes.split(" ")]) + "\n"


@pytest.fixture
def write(tmp_path):
    def write(*lines, header=HEADER, name="some.vcf") -> Path:
        path = tmp_path / name
        path.write_bytes((header + "".join(lines)).encode())
        return path

    return write


def read(path, *, samples=None, ploidy=2, **options):
    header = read_header(path)
    reader = GenotypeReader(header, samples or header.samples, ploidy, **options)
    return list(reader.contigs()), reader


def read_one(path, **options):
    (contig,), reader = read(path, **options)
    return contig, +reader.left_out


def with_cyvcf2(path):
    """The same by htslib alone: biallelic single-nucleotide variants as (num_sites, num_individuals, 2)."""
    positions, genotypes = [], []
    for variant in cyvcf2.VCF(str(path)):
        if variant.is_snp and len(variant.ALT) == 1 and variant.FILTER is None:
            positions.append(variant.POS - 1)
            genotypes.append(variant.genotype.array()[:, :2].astype(np.int8))
    return np.array(positions), np.maximum(np.array(genotypes), -1)


# What is read


def test_genotypes_positions_and_the_order_of_haplotypes(write):
    contig, left_out = read_one(write(line(1, "0|1 1|0 0|0"), line(10, "1|1 .|. 0|1"), line(1000, ". 0|0 .|1")))
    assert contig.name == "1" and contig.length == 1000
    assert contig.positions.tolist() == [0, 9, 999]
    assert contig.genotypes.dtype == np.int8
    assert contig.genotypes.tolist() == [[0, 1, 1, 0, 0, 0], [1, 1, -1, -1, 0, 1], [-1, -1, 0, 0, -1, 1]]
    assert not left_out


def test_samples_come_in_the_order_asked_for(write):
    contig, _ = read_one(write(line(1, "0|1 1|1 0|0")), samples=["c", "a"])
    assert contig.genotypes.tolist() == [[0, 0, 0, 1]]


@pytest.mark.parametrize("layout", ["GT:DP", "GT"])
def test_fields_after_the_genotype_are_skipped(write, layout):
    genotypes = "0|1:12 .:. 1|1" if layout == "GT:DP" else "0|1 . 1|1"
    contig, _ = read_one(write(line(1, genotypes, layout=layout)))
    assert contig.genotypes.tolist() == [[0, 1, -1, -1, 1, 1]]


@pytest.mark.parametrize(("ploidy", "genotypes"), [(1, "0 1 ."), (3, "0|1|1 1|1|1 ."), (4, "0|0|0|1 . 1|.|1|1")])
def test_any_ploidy(write, ploidy, genotypes):
    contig, _ = read_one(write(line(5, genotypes)), ploidy=ploidy)
    expected = [
        -1 if allele == "." else int(allele)
        for genotype in genotypes.split()
        for allele in (genotype.split("|") if genotype != "." else "." * ploidy)
    ]
    assert contig.genotypes.tolist() == [expected]


def test_contigs_are_read_one_by_one(write):
    contigs, _ = read(write(line(7), line(5, contig="2"), line(6, contig="2")))
    assert [(contig.name, contig.positions.tolist()) for contig in contigs] == [("1", [6]), ("2", [4, 5])]


def test_a_file_without_contig_lines_and_without_a_last_newline(write):
    header = "".join(row for row in HEADER.splitlines(keepends=True) if "contig" not in row)
    contig, _ = read_one(write(line(7).rstrip("\n"), header=header))
    assert contig.length is None and contig.positions.tolist() == [6]


def test_windows_line_ends(write):
    path = write(line(7), line(8))
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_one(path)[0].genotypes.shape == (2, 6)


def test_reasons_are_counted_once_each(write):
    path = write(
        line(1, filter_="low", alt="C,G"),
        line(2, filter_="."),
        line(3, alt="."),
        line(4, alt="C,G", genotypes="0|2 1|1 0|0"),
        line(5, ref="AC", alt="A"),
        line(6, alt="<DEL>"),
        line(7, ref="AC", alt="GT"),
        line(8, alt="*"),
        line(9, ref="N"),
        line(10, layout="DP", genotypes="1 2 3"),
        line(11, ref="a", alt="c"),
        line(20),
        line(20, alt="G"),
        line(21, alt="AT"),
        line(21),
    )
    contig, left_out = read_one(path)
    assert contig.positions.tolist() == [1, 10, 20]
    assert left_out == {
        "filtered": 1,
        "invariant": 1,
        "multi_allelic": 1,
        "not_snv": 6,
        "no_genotypes": 1,
        "duplicate_position": 2,
    }
    assert len(contig.record_positions) == 15


def test_regions(write):
    path = write(*(line(position) for position in (9, 10, 20, 21, 30, 31)), line(5, contig="2"))
    regions = check_regions(["1:10-20", "1:31-40"], {"1": 1000, "2": None}, path=path)
    contig, left_out = read_one(path, regions=regions)
    assert contig.positions.tolist() == [9, 19, 30]
    assert left_out == {"outside_regions": 4}


def test_ancestral_alleles(write):
    path = write(
        line(1, info="AA=A"),
        line(2, info="DP=3;AA=c|||"),
        line(3, info="AA=G"),
        line(4, info="AA=."),
        line(5),
        line(6, info="AA=C", genotypes="1|1 .|0 0|1"),
        line(7, info="AA=-"),
        line(8, info="XAA=C"),
    )
    contig, left_out = read_one(path, ancestral="INFO/AA")
    assert contig.positions.tolist() == [0, 1, 5]
    assert contig.genotypes.tolist() == [[0, 1, 1, 0, 0, 0], [1, 0, 0, 1, 1, 1], [0, 0, -1, 1, 1, 0]]
    assert left_out == {"no_ancestral_allele": 5}
    assert read_one(path, ancestral="reference")[0].genotypes[1].tolist() == [0, 1, 1, 0, 0, 0]


def test_more_records_than_a_batch_holds(write, monkeypatch):
    lines = [line(position, f"{position % 2}|0 0|1 .|1") for position in range(1, 50)]
    whole, _ = read_one(write(*lines))
    monkeypatch.setattr("popdl.importers.vcf._BATCH_BYTES", 40)
    small, _ = read_one(write(*lines))
    np.testing.assert_array_equal(whole.genotypes, small.genotypes)
    assert whole.genotypes[:, 0].tolist() == [position % 2 for position in range(1, 50)]


# Phase


def test_only_heterozygotes_need_phase(write):
    path = write(line(1, "0/0 1/1 ./."), line(2, "0|1 1/1 ."))
    assert read_one(path)[0].genotypes.shape == (2, 6)


def test_unphased_heterozygotes(write):
    path = write(line(1, "0/0 0/1 1/0"), line(2, "0|1 ./1 0|0"))
    with pytest.raises(
        PopdlError, match="3 heterozygous genotypes in contig '1' are not phased, the first at 1:1, sample 'b'"
    ):
        read(path)
    assert read_one(path, unphased_allowed=True)[0].genotypes[1].tolist() == [0, 1, -1, 1, 0, 0]
    assert read_one(path, samples=["a"])[0].genotypes.tolist() == [[0, 0], [0, 1]]


# What is refused


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line("x")], "line 10: position 'x', expected a whole number above 0"),
        ([line(0)], "line 10: position '0'"),
        ([line("٣")], "line 10: position '٣'"),
        ([line("1" * 5000)], "line 10: position '1111"),
        ([line(1), line(2, "0|1 0|1")], "line 11: 11 columns, expected 12"),
        ([line(1), "\n"], "line 11: 1 columns, expected 12"),
        ([line(1), line(2)[:20]], "line 11: .* columns, expected 12; the file is cut short"),
        ([line(1001)], "1:1001 is beyond the end of the contig, which has 1000 bp"),
        ([line(1, ref="")], "line 10: contig '1', REF ''"),
        ([line(1, alt="")], "ALT ''"),
        ([line(1, contig="")], "contig ''"),
        ([line(2), line(1)], "line 11: position 1:1 after 1:2; the file is not sorted"),
        ([line(1), line(1, contig="2"), line(2)], "line 12: contig '1' again, after '2'"),
        ([line(1, "0|1 0 0|0")], "line 10: genotype '0' of sample 'b' at 1:1; expected 2 alleles"),
        ([line(1, "0|1 0|1|1 0|0")], "sample 'b' at 1:1; expected 2 alleles"),
        ([line(1, "0|1 0|2 0|0")], "genotype '0|2' of sample 'b'"),
        ([line(1, "0|1 0|11 0|0")], "sample 'b'"),
        ([line(1, "0|1 0|0 01")], "genotype '01' of sample 'c'"),
        ([line(1, "0|1  0|0")], "genotype '' of sample 'b'"),
        ([line(1, "0|1 x 0|0")], "genotype 'x' of sample 'b'"),
    ],
)
def test_malformed_records(write, lines, message):
    with pytest.raises(PopdlError, match=message.replace("|", r"\|")):
        read(write(*lines))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("VCFv4.2", "VCFv3.3"), "line 1: found '##fileformat=VCFv3.3'"),
        (("REF\t", ""), "line 9: column 'ALT', expected 'REF'"),
        (("\tFORMAT\ta\tb\tc", ""), "line 9: the file has no samples"),
        (("\ta\tb\tc", ""), "line 9: the file has no samples"),
        (("\tb\t", "\ta\t"), "line 9: the sample 'a' is there twice"),
        (("length=2000", "length=long"), "line 8: the contig's length 'long' is not a number"),
        (("length=2000", "length=²"), "line 8: the contig's length '²' is not a number"),
        (("ID=2,", ""), "line 8: a contig without ID"),
        ((HEADER.splitlines()[-1] + "\n", ""), "line 9: a record before the line that starts with #CHROM"),
    ],
)
def test_malformed_headers(write, change, message):
    with pytest.raises(PopdlError, match=message):
        read(write(line(1), header=HEADER.replace(*change)))


def test_a_header_that_stops(write):
    with pytest.raises(PopdlError, match="the header has no line that starts with #CHROM"):
        read(write(header="##fileformat=VCFv4.2\n"))


def test_no_such_file(tmp_path):
    with pytest.raises(PopdlError, match=r"nowhere.vcf: there is no such file"):
        read_header(tmp_path / "nowhere.vcf")


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("chr1", "no contig 'chr1'; this file calls it '1'; contigs of this file: 1, 2"),
        ("3:1-10", "no contig '3'; contigs of this file"),
        ("1:10-1001", "1:10-1001 ends beyond the contig, which has 1000 bp"),
    ],
)
def test_regions_of_other_contigs(region, message):
    with pytest.raises(PopdlError, match=message):
        check_regions([region], {"1": 1000, "2": None}, path=Path("some.vcf"))


def test_overlapping_regions():
    with pytest.raises(PopdlError, match="two of them overlap, at 1:20"):
        check_regions(["1:20-30", "1:10-20"], {"1": None}, path=Path("some.vcf"))


def test_a_contig_whose_name_has_a_colon():
    assert check_regions(["HLA:1-5", "HLA:1"], {"HLA:1-5": 9, "HLA:1": 9}, path=Path("x")) == {
        "HLA:1-5": [(0, None)],
        "HLA:1": [(0, None)],
    }


# Compressed files


@pytest.fixture
def compressed(tmp_path, write):
    """The same records as text, gzip, bgzip and BCF."""
    plain = write(
        *(line(position, f"0|1 {position % 2}|{position % 3 % 2} .|.", info="AA=C") for position in range(1, 900)),
        line(950, ".|0 1|1 0|.", alt="C,G"),
        line(1, "0|0 1|1 0|1", contig="2"),
    )
    paths = {"plain": plain, "gzip": tmp_path / "gzip.vcf.gz"}
    paths["gzip"].write_bytes(gzip.compress(plain.read_bytes()))
    for name, mode in [("bgzip.vcf.gz", "wz"), ("some.bcf", "wb"), ("plain.bcf", "wbu")]:
        paths[name] = tmp_path / name
        source = cyvcf2.VCF(str(plain))
        writer = cyvcf2.Writer(str(paths[name]), source, mode)
        for variant in source:
            writer.write_record(variant)
        writer.close()
    return paths


@pytest.mark.parametrize("kind", ["gzip", "bgzip.vcf.gz", "some.bcf", "plain.bcf"])
@pytest.mark.parametrize("options", [{}, {"samples": ["c", "a"], "ancestral": "INFO/AA"}])
def test_every_container_gives_the_same(compressed, kind, options):
    contigs, reader = read(compressed["plain"], **options)
    others, other_reader = read(compressed[kind], **options)
    assert reader.left_out == other_reader.left_out
    for contig, other in zip(contigs, others, strict=True):
        assert (contig.name, contig.length) == (other.name, other.length)
        np.testing.assert_array_equal(contig.genotypes, other.genotypes)
        np.testing.assert_array_equal(contig.positions, other.positions)


@pytest.mark.parametrize("kind", ["gzip", "bgzip.vcf.gz", "some.bcf"])
@pytest.mark.parametrize("lost", [1, 10, 28, 200])
def test_truncated_files(compressed, kind, lost):
    path = compressed[kind]
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(PopdlError, match="cut short"):
        read(path)


@pytest.mark.parametrize("kind", ["gzip", "bgzip.vcf.gz"])
def test_a_flipped_byte(compressed, kind):
    path = compressed[kind]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(PopdlError, match=r"cut short or damaged|not text|columns|found"):
        read(path)


@pytest.mark.parametrize("kind", ["plain", "gzip", "bgzip.vcf.gz"])
def test_no_damage_leads_to_another_error(compressed, kind):
    """Bytes changed, cut out and put in at random: the file is read or refused, nothing else."""
    path = compressed[kind]
    whole = path.read_bytes()
    random = np.random.default_rng(8)
    outcomes = set()
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            place = int(random.integers(len(content)))
            replacement = bytes(random.integers(0, 256, size=random.integers(0, 4), dtype=np.uint8))
            content[place : place + int(random.integers(0, 4))] = replacement
        path.write_bytes(content)
        try:
            read(path)
            outcomes.add("read")
        except PopdlError:
            outcomes.add("refused")
    assert "refused" in outcomes


def test_bcf_of_another_ploidy_or_phase(tmp_path, write):
    def as_bcf(*lines):
        source = cyvcf2.VCF(str(write(*lines)))
        writer = cyvcf2.Writer(str(tmp_path / "some.bcf"), source, "wb")
        for variant in source:
            writer.write_record(variant)
        writer.close()
        return tmp_path / "some.bcf"

    with pytest.raises(PopdlError, match="record 1: genotype '1' of sample 'b' at 1:3; expected 2 alleles"):
        read(as_bcf(line(3, "0|1 1 0|0")))
    with pytest.raises(PopdlError, match="sample 'a' at 1:3; expected 1 allele"):
        read(as_bcf(line(3, "0|1 1|1 0|0")), ploidy=1)
    with pytest.raises(PopdlError, match="1 heterozygous genotypes in contig '1' are not phased"):
        read(as_bcf(line(3, "0/1 1/1 0|1")))
    assert read_one(as_bcf(line(3, "0|1 . 1|1")))[0].genotypes.tolist() == [[0, 1, -1, -1, 1, 1]]
    assert read_one(as_bcf(line(3, "0 . 1")), ploidy=1)[0].genotypes.tolist() == [[0, -1, 1]]


# Real files


@pytest.mark.parametrize(
    ("name", "unphased", "left_out"),
    [
        ("lct_1kg_b37/lct_1kg_b37.vcf.gz", False, {"not_snv": 376, "multi_allelic": 35}),
        ("unphased_missing/cattle_bta12_phased.vcf.gz", False, {}),
        ("unphased_missing/ag1000g_3L_unphased.vcf.gz", True, {}),
        ("unphased_missing/Msi01genes.vcf", True, {"multi_allelic": 5, "invariant": 1}),
    ],
)
def test_real_files_against_htslib(data, name, unphased, left_out):
    contig, counted = read_one(data / name, unphased_allowed=unphased)
    positions, genotypes = with_cyvcf2(data / name)
    np.testing.assert_array_equal(contig.positions, positions)
    np.testing.assert_array_equal(contig.genotypes, genotypes.reshape(len(positions), -1))
    assert counted == left_out


def test_unphased_mosquitoes_are_refused_where_phase_matters(data):
    with pytest.raises(
        PopdlError, match="11763 heterozygous genotypes in contig '3L' are not phased, the first at 3L:9790"
    ):
        read(data / "unphased_missing/ag1000g_3L_unphased.vcf.gz")


def test_missing_genotypes_stay_missing(data):
    contigs, _ = read(data / "unphased_missing/ag1000_allsites_missing.vcf.gz", unphased_allowed=True)
    assert [contig.name for contig in contigs] == ["X", "1"]
    for contig in contigs:
        assert contig.genotypes.shape == (894, 72)
        assert np.mean(contig.genotypes == -1) == pytest.approx(0.1747, abs=1e-4)


def test_an_unsorted_radseq_file(data):
    with pytest.raises(PopdlError, match="line 17: position S1:77004 after S1:77116; the file is not sorted"):
        read(data / "unphased_missing/iraptus_radseq.vcf", unphased_allowed=True)
