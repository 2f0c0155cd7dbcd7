"""VCF Zarr stores, fabricated by the specification, against the VCF that holds the same records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cyvcf2
import numpy as np
import pytest
import zarr
from imported import assert_same, imported
from zarr.storage import LocalStore, ZipStore

from popdl.config.study import build_study
from popdl.errors import PopdlError

VCF = """\
##fileformat=VCFv4.2
##FILTER=<ID=q10,Description="bad">
##INFO=<ID=AA,Number=1,Type=String,Description="Ancestral allele">
##contig=<ID=1,length=5000>
##contig=<ID=2,length=5000>
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\tc
1\t101\t.\tA\tC\t.\tPASS\tAA=a|||\tGT\t0|1\t0|0\t1|1
1\t150\t.\tA\tC,G\t.\t.\tAA=A\tGT\t0|1\t0|2\t1|1
1\t160\t.\tA\t.\t.\t.\tAA=A\tGT\t0|0\t0|0\t0|0
1\t170\t.\tAT\tA\t.\t.\tAA=A\tGT\t0|1\t0|0\t0|0
1\t180\t.\tA\tC\t.\tq10\tAA=A\tGT\t0|1\t0|0\t0|0
1\t190\t.\tA\tC\t.\t.\tAA=A\tGT\t0|1\t0|0\t0|0
1\t190\t.\tA\tG\t.\t.\tAA=A\tGT\t0|1\t0|0\t0|0
1\t1000\t.\tG\tT\t.\t.\tAA=T\tGT\t0|0\t0|1\t.
1\t1001\t.\tG\tT\t.\t.\tAA=N\tGT\t1|0\t0|1\t0|0
2\t2000\t.\tG\tT\t.\t.\tAA=G\tGT\t1|0\t0|0\t0|0
"""
ROWS = ["1:1-1,000\t10", "1:1001-2000\t20", "2:1001-2000\t30", "2:1-1000\t40"]


def write_store(vcf: Path, path: Path, *, zarr_format: Any = 3, chunks: tuple[int, int] = (3, 2)) -> Path:
    """Write the records of a VCF as the specification has it, in chunks of so many variants and samples."""
    file = cyvcf2.VCF(str(vcf))
    records = list(file)
    filters = ["PASS", "q10"]
    num_alleles = max(2, *(1 + len(record.ALT) for record in records))
    genotypes = np.array([record.genotype.array()[:, :2] for record in records], dtype=np.int8)
    arrays = {
        "contig_id": np.array(file.seqnames, dtype=np.dtypes.StringDType()),
        "sample_id": np.array(file.samples, dtype=np.dtypes.StringDType()),
        "filter_id": np.array(filters, dtype=np.dtypes.StringDType()),
        "variant_contig": np.array([file.seqnames.index(record.CHROM) for record in records], dtype=np.int8),
        "variant_position": np.array([record.POS for record in records], dtype=np.int32),
        "variant_allele": np.array(
            [([record.REF, *record.ALT] + [""] * num_alleles)[:num_alleles] for record in records],
            dtype=np.dtypes.StringDType(),
        ),
        "variant_filter": np.array([[(record.FILTER or "PASS") == name for name in filters] for record in records]),
        "variant_AA": np.array([record.INFO.get("AA") or "." for record in records], dtype=np.dtypes.StringDType()),
        "call_genotype": genotypes,
        "call_genotype_phased": np.array([record.genotype.array()[:, 2] for record in records], dtype=bool),
    }
    store = ZipStore(path, mode="w") if path.suffix == ".zip" else LocalStore(path)
    group = zarr.open_group(store, mode="w", zarr_format=zarr_format, attributes={"vcf_zarr_version": "0.4"})
    for name, values in arrays.items():
        lengths = (chunks[0], min(chunks[1], values.shape[1])) if name[:4] == "call" else chunks[:1]
        shape = (*lengths, *values.shape[len(lengths) :])
        group.create_array(name, data=values, chunks=shape, config={"write_empty_chunks": True})
    store.close()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.vcf").write_text(VCF)
    write_store(tmp_path / "a.vcf", tmp_path / "a.vcz")
    return tmp_path


def section(folder: Path, name: str = "a.vcz", rows: list[str] = ROWS, **changes: Any) -> dict[str, Any]:
    (folder / "labels.tsv").write_text("\n".join(["file\tregion\tsize", *(f"{name}\t{row}" for row in rows)]))
    return {
        "format": "vcf" if name.endswith("vcf") else "vcf_zarr",
        "files": str(folder / name),
        "table": str(folder / "labels.tsv"),
        "parameters": ["size"],
        "num_haplotypes": 6,
        "sequence_length": 1000,
        "num_scenarios": len(rows),
        **changes,
    }


@pytest.mark.parametrize(("name", "zarr_format"), [("b.vcz", 2), ("b.vcz", 3), ("b.vcz.zip", 2), ("b.vcz.zip", 3)])
@pytest.mark.parametrize(
    "changes", [{}, {"ancestral": "INFO/AA"}, {"samples": {"names": ["c", "a"]}, "num_haplotypes": 4}]
)
def test_store_says_what_the_vcf_says(folder: Path, name: str, zarr_format: int, changes: dict[str, Any]) -> None:
    write_store(folder / "a.vcf", folder / name, zarr_format=zarr_format)
    expected = imported(section(folder, "a.vcf", **changes))
    found = imported(section(folder, name, **changes))
    assert sum(len(labelled.example.positions) for labelled in expected) >= 3
    for one, other in zip(found, expected, strict=True):
        assert_same(one.example, other.example)
        assert one.labels == other.labels
        assert one.left_out == other.left_out


def test_whole_store_of_one_contig(folder: Path) -> None:
    (folder / "one.vcf").write_text("".join(line for line in VCF.splitlines(True) if line[0] != "2"))
    write_store(folder / "one.vcf", folder / "one.vcz")
    tables = {}
    for name in ("one.vcf", "one.vcz"):
        values = section(folder, name, [], sequence_length=5000, num_scenarios=1)
        (folder / "labels.tsv").write_text(f"file\tsize\n{name}\t7\n")
        (tables[name],) = imported(values)
    assert_same(tables["one.vcz"].example, tables["one.vcf"].example)
    values = section(folder, "a.vcz", [], sequence_length=5000, num_scenarios=1)
    (folder / "labels.tsv").write_text("file\tsize\na.vcz\t7\n")
    with pytest.raises(PopdlError, match=r"several contigs \(1, 2\); give the table a column `region`"):
        imported(values)


def test_real_vcf_as_a_store(data: Path, tmp_path: Path) -> None:
    source = data / "lct_1kg_b37/lct_1kg_b37.vcf.gz"
    store = write_store(source, tmp_path / "lct.vcz", chunks=(1000, 200))
    found = {}
    for kind, path in (("vcf", source), ("vcf_zarr", store)):
        (tmp_path / "labels.tsv").write_text(f"file\tregion\tx\n{path.name}\t2:136500001-136600000\t1\n")
        (found[kind],) = imported(
            {
                "format": kind,
                "files": str(path),
                "table": str(tmp_path / "labels.tsv"),
                "parameters": ["x"],
                "samples": {"panel": str(data / "lct_1kg_b37/lct_1kg_b37.panel"), "population": "CEU"},
                "num_haplotypes": 198,
                "sequence_length": 100_000,
                "num_scenarios": 1,
            }
        )
    assert len(found["vcf"].example.positions) > 500
    assert_same(found["vcf_zarr"].example, found["vcf"].example)
    assert found["vcf_zarr"].left_out == found["vcf"].left_out


def test_unphased_genotypes_are_refused_unless_allowed(folder: Path) -> None:
    shutil.rmtree(folder / "a.vcz/call_genotype_phased")
    with pytest.raises(PopdlError, match=r"4 heterozygous genotypes are not phased .*row 0, sample 'a'"):
        imported(section(folder))
    values = section(folder, unphased=True)
    expected = imported(section(folder, "a.vcf"))
    for one, other in zip(imported(section(folder, unphased=True)), expected, strict=True):
        assert_same(one.example, other.example)
    study = {"study": "x", "import": values, "targets": {"size": {}}, "networks": {"exchangeable": {}}}
    with pytest.raises(PopdlError, match=r"encoding\.phase: the imported genotypes are not phased"):
        build_study(study)


def declare(store: Path, name: str, **changes: Any) -> None:
    path = store / name / "zarr.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def chunks_of(*shape: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


def edit(store: Path, name: str, place: Any, value: Any) -> None:
    zarr.open_array(store / name, mode="r+")[place] = value


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: shutil.rmtree(s / "call_genotype"), "there is no array 'call_genotype', which the VCF Zarr"),
        (lambda s: shutil.rmtree(s / "sample_id"), "there is no array 'sample_id'"),
        (lambda s: shutil.rmtree(s / "contig_id"), "there is no array 'contig_id'"),
        (lambda s: (s / "zarr.json").unlink(), "not a whole zarr store"),
        (lambda s: declare(s, "", attributes={}), "no VCF Zarr store: its group has no attribute vcf_zarr_version"),
        (lambda s: declare(s, "call_genotype", shape=[10, 4, 2]), r"call_genotype is int8 of shape \(10, 4, 2\), expected \(10, 3, any\)"),
        (lambda s: declare(s, "call_genotype", shape=[10, 3, 1]), "holds 1 alleles of an individual, but import.ploidy is 2"),
        (lambda s: declare(s, "call_genotype", chunk_grid=chunks_of(10**12, 2, 2)), "one chunk takes .* GiB"),
        (lambda s: declare(s, "variant_position", data_type="float32", fill_value=0.0), "variant_position is float32"),
        (lambda s: (s / "call_genotype/c/0/0/0").unlink(), r"the chunk call_genotype/c/0/0/0 is missing"),
        (lambda s: (s / "variant_position/c/0").unlink(), "variant_position is not sorted, or not above 0, in rows 0"),
        (lambda s: (s / "call_genotype/c/0/0/0").write_bytes(b"nonsense"), "not a whole zarr store"),
        (lambda s: edit(s, "variant_position", 0, 900), "variant_position is not sorted"),
        (lambda s: edit(s, "variant_contig", 1, 1), "the rows of contig '1' do not stand together"),
        (lambda s: edit(s, "variant_contig", 1, 7), "variant_contig reaches 7, but contig_id has 2 names"),
        (lambda s: edit(s, "call_genotype", (0, 1), [0, -2]), r"genotype \[0, -2\] of sample 'b' in row 0"),
        (lambda s: edit(s, "call_genotype", (0, 1), [0, 2]), r"genotype \[0, 2\] of sample 'b' in row 0"),
    ],
)  # fmt: skip
def test_bad_stores(folder: Path, damage: Any, message: str) -> None:
    damage(folder / "a.vcz")
    with pytest.raises(PopdlError, match=message):
        imported(section(folder))


def test_huge_shapes_are_refused_before_anything_is_allocated(folder: Path) -> None:
    for name in ("variant_position", "variant_contig"):
        declare(folder / "a.vcz", name, shape=[10**13])
    with pytest.raises(PopdlError, match=r"variant_contig declares \(10000000000000,\), of which .* takes 9,313 GiB"):
        imported(section(folder))


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (["3:1-1000\t1"], {}, "there is no contig '3'; known: 1, 2"),
        (["1:1-999\t1"], {}, r"must be contig:start-end of 1000 bp"),
        (["1:1-1000\t1"], {"samples": {"names": ["d"]}}, "samples are not in"),
    ],
)
def test_bad_sections(folder: Path, rows: list[str], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        imported(section(folder, rows=rows, **changes))
