"""VCF and PLINK as labelled examples, against real data read another way, and against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cyvcf2
import numpy as np
import pytest
from imported import imported

from popdl.config.study import build_study, import_section
from popdl.errors import PopdlError
from popdl.importing import import_shard, survey
from popdl.store import read_shard

VCF = """\
##fileformat=VCFv4.2
##contig=<ID=1,length=5000>
##contig=<ID=2,length=5000>
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\tc
1\t101\t.\tA\tC\t.\t.\t.\tGT\t0|1\t0|0\t1|1
1\t150\t.\tA\tC,G\t.\t.\t.\tGT\t0|1\t0|0\t1|1
1\t1000\t.\tG\tT\t.\t.\t.\tGT\t0|0\t0|1\t.|.
1\t1001\t.\tG\tT\t.\t.\t.\tGT\t1|0\t0|1\t0|0
2\t2000\t.\tG\tT\t.\t.\t.\tGT\t1|0\t0|0\t0|0
"""
# The same genotypes, without the site of three alleles: bits from the lowest up, individuals a, b, c; A1 is the first allele.
BIM = "1\tx\t0\t101\tC\tA\n1\tx\t0\t1000\tT\tG\n1\tx\t0\t1001\tT\tG\n2\tx\t0\t2000\tT\tG\n"
FAM = "f a 0 0 0 -9\nf b 0 0 0 -9\nf c 0 0 0 -9\n"
BED = bytes([0x6C, 0x1B, 1, 0b00_11_10, 0b01_10_11, 0b11_10_10, 0b11_11_10])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.vcf").write_text(VCF)
    (tmp_path / "a.bed").write_bytes(BED)
    (tmp_path / "a.bim").write_text(BIM)
    (tmp_path / "a.fam").write_text(FAM)
    return tmp_path


def section(folder: Path, kind: str, rows: list[str], **changes: Any) -> dict[str, Any]:
    ending = {"vcf": "vcf", "plink": "bed"}[kind]
    (folder / "labels.tsv").write_text("\n".join(["file\tregion\tsize", *(f"a.{ending}\t{row}" for row in rows)]))
    return {
        "format": kind,
        "files": str(folder / f"a.{ending}"),
        "table": str(folder / "labels.tsv"),
        "parameters": ["size"],
        "num_haplotypes": 6,
        "sequence_length": 1000,
        "num_scenarios": len(rows),
        **changes,
    }


ROWS = ["1:1-1,000\t10", "1:1001-2000\t20", "2:1001-2000\t30", "2:1-1000\t40"]


def test_regions_of_a_vcf(folder: Path, tmp_path: Path) -> None:
    values = section(folder, "vcf", ROWS)
    first, second, third, empty = imported(values)
    np.testing.assert_array_equal(first.example.genotypes, [[0, 1, 0, 0, 1, 1], [0, 0, 0, 1, -1, -1]])
    np.testing.assert_array_equal(first.example.positions, [100, 999])
    np.testing.assert_array_equal(second.example.genotypes, [[1, 0, 0, 1, 0, 0]])
    np.testing.assert_array_equal(second.example.positions, [0])
    np.testing.assert_array_equal(third.example.positions, [999])
    assert empty.example.genotypes.shape == (0, 6)
    assert [labelled.labels["size"] for labelled in (first, second, third, empty)] == [10, 20, 30, 40]
    importer = import_section(values)
    import_shard(importer, survey(importer), seed=1, shard=0, output=tmp_path / "shard_0")
    assert read_shard(tmp_path / "shard_0", kind="simulations").attributes["left_out"] == {"multi_allelic": 1}


def test_plink_says_what_the_vcf_says(folder: Path) -> None:
    """Apart from phase: alleles of an individual are compared in falling order."""
    expected = imported(section(folder, "vcf", ROWS))
    found = imported(section(folder, "plink", ROWS))
    for one, other in zip(found, expected, strict=True):
        pairs = -np.sort(-other.example.genotypes.reshape(-1, 3, 2), axis=2)
        np.testing.assert_array_equal(one.example.genotypes, pairs.reshape(-1, 6))
        np.testing.assert_array_equal(one.example.positions, other.example.positions)
        assert one.labels == other.labels


@pytest.mark.parametrize("kind", ["vcf", "plink"])
def test_individuals_are_chosen(folder: Path, kind: str) -> None:
    values = section(folder, kind, ROWS[:1], num_haplotypes=4, samples={"names": ["c", "b"]})
    (found,) = imported(values)
    expected = [[1, 1, 0, 0], [-1, -1, 0, 1] if kind == "vcf" else [-1, -1, 1, 0]]
    np.testing.assert_array_equal(found.example.genotypes, expected)


def test_files_in_folders_of_their_class(folder: Path) -> None:
    one_contig = "\n".join(line for line in VCF.splitlines() if not line.startswith("2\t"))
    for name in ("hard/1.vcf", "soft/1.vcf"):
        (folder / name).parent.mkdir()
        (folder / name).write_text(one_contig)
    values = section(folder, "vcf", [], files=str(folder / "*/1.vcf"), num_scenarios=2, sequence_length=5000)
    del values["table"]
    found = imported({**values, "parameters": {"kind": {"folder": ["soft", "hard"]}}})
    assert [labelled.labels["kind"] for labelled in found] == [1, 0]
    np.testing.assert_array_equal(found[0].example.positions, [100, 999, 1000])


def test_real_vcf_against_cyvcf2(data: Path, tmp_path: Path) -> None:
    path = data / "lct_1kg_b37/lct_1kg_b37.vcf.gz"
    (tmp_path / "labels.tsv").write_text(f"file\tregion\tx\n{path.name}\t2:136500001-136600000\t1\n")
    values = {
        "format": "vcf",
        "files": str(path),
        "table": str(tmp_path / "labels.tsv"),
        "parameters": ["x"],
        "samples": {"panel": str(data / "lct_1kg_b37/lct_1kg_b37.panel"), "population": "CEU"},
        "num_haplotypes": 198,
        "sequence_length": 100_000,
        "num_scenarios": 1,
    }
    (found,) = imported(values)
    lines = (data / "lct_1kg_b37/lct_1kg_b37.panel").read_text().splitlines()
    wanted = {line.split()[0] for line in lines if line.split()[1] == "CEU"}
    file = cyvcf2.VCF(str(path))
    columns = [index for index, name in enumerate(file.samples) if name in wanted]
    by_position: dict[int, list[np.ndarray]] = {}
    for variant in file:
        if 136500001 <= variant.POS <= 136600000 and variant.is_snp and len(variant.ALT) == 1:
            alleles = variant.genotype.array()[columns, :2]
            by_position.setdefault(variant.POS, []).append(alleles.reshape(-1))
    expected = {position: rows[0] for position, rows in by_position.items() if len(rows) == 1}
    np.testing.assert_array_equal(found.example.positions, np.array(list(expected)) - 136500001)
    np.testing.assert_array_equal(found.example.genotypes, np.array(list(expected.values())))


def test_real_plink_has_its_frequencies(data: Path, tmp_path: Path) -> None:
    """Over all of chromosome 1, allele counts equal a loop over the bytes."""
    folder = data / "ancestry_1kg"
    (tmp_path / "labels.tsv").write_text("file\tregion\tx\nkg_phase1.bed\t1:1-250000000\t1\n")
    values = section(tmp_path, "plink", [], files=str(folder / "kg_phase1.bed"), num_haplotypes=2184, num_scenarios=1)
    (tmp_path / "labels.tsv").write_text("file\tregion\tsize\nkg_phase1.bed\t1:1-250000000\t1\n")
    (found,) = imported({**values, "sequence_length": 250_000_000})
    rows = [line.split() for line in (folder / "kg_phase1.bim").read_text().splitlines()]
    kept = [index for index, row in enumerate(rows) if row[0] == "1"]
    assert len(found.example.positions) == len(kept) > 500
    content = (folder / "kg_phase1.bed").read_bytes()[3:]
    for site in (0, 17, len(kept) - 1):
        packed = content[kept[site] * 273 : (kept[site] + 1) * 273]
        genotypes = [packed[person // 4] >> (2 * (person % 4)) & 3 for person in range(1092)]
        assert 1 not in genotypes  # none missing
        ones = 2 * genotypes.count(0) + genotypes.count(2)
        assert (found.example.genotypes[site] == 1).sum() == ones


@pytest.mark.parametrize(
    ("kind", "rows", "changes", "message"),
    [
        ("vcf", ["1:1-999\t1"], {}, r"labels\.tsv, line 2: the region 1:1-999 must be contig:start-end of 1000 bp"),
        ("vcf", ["1\t1"], {}, "the region 1 must be contig:start-end"),
        ("vcf", ["1:9-1\t1"], {}, "expected contig or contig:start-end"),
        ("vcf", ["3:1-1000\t1"], {}, "there is no contig '3'"),
        ("vcf", ["1:1-1000\t1"], {"num_haplotypes": 4}, r"genotypes are int8 \(2, 6\), expected int8 \(2, 4\)"),
        ("vcf", ["1:1-1000\t1"], {"ploidy": 1}, "genotype '0|1' of sample 'a'"),
        ("vcf", ["1:1-1000\t1"], {"samples": {"names": ["d"]}}, "samples are not in"),
        ("plink", ["3:1-1000\t1"], {}, "there is no contig '3'; contigs: 1, 2"),
        ("plink", ["1:1-1000\t1"], {"samples": {"names": ["d"]}}, "samples are not in"),
        ("plink", ["1:1-1000\t1"], {"ploidy": 1}, "ploidy"),
    ],
)
def test_bad_sections(folder: Path, kind: str, rows: list[str], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        imported(section(folder, kind, rows, **changes))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bed", BED[:-1], r"a\.bed: 6 bytes, expected 7 for the 4 variants and 3 individuals"),
        ("a.bed", b"\x6c\x1b\x00" + BED[3:], "no .bed, or one with individuals as rows"),
        ("a.bim", b"1\tx\t0\t101\tC\n", r"a\.bim, line 1: 5 columns, expected 6"),
        ("a.bim", BIM.replace("1000", "99").encode(), r"a\.bim, line 2: position '99' after 101"),
        ("a.fam", b"", r"a\.fam: the file is empty"),
    ],
)
def test_bad_plink_files(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(PopdlError, match=message):
        imported(section(folder, "plink", ROWS))


def test_several_contigs_need_regions(folder: Path) -> None:
    for kind, ending in (("vcf", "vcf"), ("plink", "bed")):
        values = section(folder, kind, [], num_scenarios=1)
        (folder / "labels.tsv").write_text(f"file\tsize\na.{ending}\t1\n")
        with pytest.raises(PopdlError, match=r"contigs.*give the table a column `region`"):
            imported(values)


def test_unphased_genotypes_need_an_encoding_that_ignores_phase(folder: Path) -> None:
    values = {
        "study": "x",
        "import": section(folder, "plink", ROWS),
        "targets": {"size": {}},
        "networks": {"exchangeable": {}},
    }
    with pytest.raises(
        PopdlError, match=r"encoding\.phase: the imported genotypes are not phased; set `phase: ignore`"
    ):
        build_study(values)
    build_study({**values, "encoding": {"phase": "ignore"}})
