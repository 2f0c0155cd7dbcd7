"""Tree sequences: genotypes are tskit's own, labels come from wherever they were written."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import msprime
import numpy as np
import pytest
import tskit
from imported import imported

from popdl.config.study import import_section
from popdl.errors import PopdlError
from popdl.importing import read_examples, survey

LENGTH = 5000
SIZES = (500, 2000, 1000)


def ancestry(size: int, seed: int, *, samples: int = 6) -> tskit.TreeSequence:
    return msprime.sim_ancestry(samples, ploidy=1, population_size=size, sequence_length=LENGTH, random_seed=seed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three mutated tree sequences with metadata, numbered so that natural and alphabetic order differ."""
    for number, size in zip((2, 9, 10), SIZES, strict=True):
        tables = msprime.sim_mutations(ancestry(size, number), rate=1e-5, random_seed=number).dump_tables()
        tables.metadata_schema = tskit.MetadataSchema.permissive_json()
        tables.metadata = {"size": size, "SLiM": {"user_metadata": {"kind": ["sweep" if size > 900 else "neutral"]}}}
        tables.tree_sequence().dump(tmp_path / f"run_{number}.trees")
    return tmp_path


def section(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "format": "trees",
        "files": str(folder / "run_*.trees"),
        "parameters": {
            "size": {"metadata": "size"},
            "kind": {"metadata": "SLiM.user_metadata.kind", "classes": ["neutral", "sweep"]},
            "simulated_size": {"metadata": "population_size"},
        },
        "num_haplotypes": 6,
        "sequence_length": LENGTH,
        "num_scenarios": 3,
        **changes,
    }


def test_genotypes_metadata_and_provenance(folder: Path) -> None:
    found = imported(section(folder))
    for labelled, number, size in zip(found, (2, 9, 10), SIZES, strict=True):
        expected = tskit.load(folder / f"run_{number}.trees")
        np.testing.assert_array_equal(labelled.example.genotypes, expected.genotype_matrix())
        np.testing.assert_array_equal(labelled.example.positions, expected.sites_position)
        assert labelled.labels == {"size": size, "kind": size > 900, "simulated_size": size}


def test_rows_name_their_files(folder: Path) -> None:
    table = folder / "labels.tsv"
    table.write_text(f"size\tfile\n3\trun_10.trees\n1\trun_2.trees\n2\t{folder / 'run_9.trees'}\n")
    found = imported(section(folder, table=str(table), parameters=["size"]))
    assert [labelled.labels["size"] for labelled in found] == [1, 2, 3]


def test_mutations_are_added_where_there_are_none(tmp_path: Path) -> None:
    """They depend on the seed and the number of the example, not on which others are read."""
    for number in range(3):
        ancestry(1000, 1 + number).dump(tmp_path / f"run_{number}.trees")
    values = section(tmp_path, parameters={"size": {"metadata": "population_size"}}, mutation_rate=1e-4)
    whole = imported(values)
    assert all(len(labelled.example.positions) > 100 for labelled in whole)
    importer = import_section(values)
    (alone,) = read_examples(importer, survey(importer), 2, 3, seed=1)
    np.testing.assert_array_equal(alone.example.genotypes, whole[2].example.genotypes)
    (other,) = read_examples(importer, survey(importer), 2, 3, seed=2)
    assert len(other.example.positions) != len(alone.example.positions)
    silent = imported({**values, "mutation_rate": 0})
    assert [len(labelled.example.positions) for labelled in silent] == [0, 0, 0]
    with pytest.raises(PopdlError, match=r"run_0\.trees: there are no sites; give the mutation_rate"):
        imported({**values, "mutation_rate": None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_haplotypes": 4}, r"run_2\.trees: 6 samples, expected 4 \(num_haplotypes\)"),
        ({"sequence_length": 4000}, r"5000 bp, expected 4000 \(sequence_length\)"),
        ({"parameters": {"size": {"metadata": "sise"}}}, r"no number or word 'sise' in the metadata or the provenance \(metadata: SLiM, size\)"),
        ({"parameters": {"kind": {"metadata": "SLiM.user_metadata.kind"}}}, "kind is 'neutral', expected a number"),
        ({"num_scenarios": 4}, "write num_scenarios: 3"),
        ({"replicates": 2}, "holds 3 examples, which is no multiple of 2"),
    ],
)  # fmt: skip
def test_bad_configs(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        imported(section(folder, **changes))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("run_2.trees\t1\nrun_9.trees\t1\n", r"no row names .*run_10\.trees, and 1 of import\.files"),
        ("run_2.trees\t1\nrun_2.trees\t1\nrun_9.trees\t1\nrun_10.trees\t1\n", r"run_2\.trees has several rows"),
        ("run_3.trees\t1\n", r"labels\.tsv, line 2: run_3\.trees is not among import\.files; did you mean"),
    ],
)
def test_bad_tables(folder: Path, rows: str, message: str) -> None:
    (folder / "labels.tsv").write_text(f"file\tsize\n{rows}")
    with pytest.raises(PopdlError, match=message):
        imported(section(folder, table=str(folder / "labels.tsv"), parameters=["size"]))


def test_lineages_must_have_coalesced(folder: Path) -> None:
    recent = msprime.sim_ancestry(6, ploidy=1, population_size=1000, sequence_length=LENGTH, random_seed=1, end_time=10)
    recent.dump(folder / "run_9.trees")
    with pytest.raises(PopdlError, match=r"run_9\.trees: 6 lineages have not coalesced at 0 bp.*recapitate"):
        imported(section(folder, parameters={"size": {"metadata": "population_size"}}))


@pytest.mark.parametrize("content", [b"", b"no trees", None])
def test_bad_files_are_named(folder: Path, content: bytes | None) -> None:
    path = folder / "run_9.trees"
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(PopdlError, match=r"run_9\.trees: not a whole tree sequence"):
        imported(section(folder))


@pytest.mark.skipif(importlib.util.find_spec("tszip") is not None, reason="tszip is installed")
def test_compressed_tree_sequences_need_tszip(folder: Path) -> None:
    (folder / "run_2.trees").rename(folder / "run_2.tsz")
    with pytest.raises(PopdlError, match=r"run_2\.tsz: compressed tree sequences need the package tszip"):
        imported(section(folder, files=[str(folder / "run_2.tsz")], num_scenarios=1))
