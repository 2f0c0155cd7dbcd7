"""dnadna's data sets: every layout and position format gives back what was simulated."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imported import HAPLOTYPES, LENGTH, assert_same, dnadna_dataset, dnadna_section, imported

from popdl.config.study import import_section
from popdl.errors import PopdlError
from popdl.importing import survey
from popdl.simulators._base import Example

Written = dict[tuple[int, int], Example]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Written]:
    """A data set of 6 scenarios with 2 replicates each; read only."""
    folder = tmp_path_factory.mktemp("dnadna")
    return folder, dnadna_dataset(folder, scenarios=6)


@pytest.fixture
def copy(dataset: tuple[Path, Written], tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(dataset[0], tmp_path / "copy"))


def rewrite(path: Path, **arrays: np.ndarray) -> None:
    with np.load(path) as old:
        np.savez(path, **{**old, **arrays})


def test_every_replicate_comes_back_with_its_parameters(dataset: tuple[Path, Written]) -> None:
    folder, written = dataset
    rows = (folder / "mine_params.csv").read_text().splitlines()[1:]
    sizes = [float(row.split(",")[1]) for row in rows]
    found = imported(dnadna_section(folder))
    assert len(found) == len(written) == 12
    for labelled, ((scenario, _), expected) in zip(found, written.items(), strict=True):
        assert_same(labelled.example, expected)
        assert labelled.labels == {"size": sizes[scenario]}


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("{scenario}_{replicate}", "{scenario}_{replicate}.npz"),
        ("{scenario:05}/r{replicate:03}", "{scenario}/r{replicate}.npz"),
        ("all/mine.{replicate}-{scenario:02}", "all/{dataset_name}.{replicate}-{scenario}.npz"),
    ],
)
def test_names_and_zeros_are_found_out(copy: Path, dataset: tuple[Path, Written], name: str, template: str) -> None:
    for scenario, replicate in dataset[1]:
        new = copy / f"{name.format(scenario=scenario, replicate=replicate)}.npz"
        new.parent.mkdir(exist_ok=True)
        (copy / f"scenario_{scenario:03}/mine_{scenario:03}_{replicate:02}.npz").rename(new)
    found = imported(dnadna_section(copy, filename=template))
    for labelled, expected in zip(found, dataset[1].values(), strict=True):
        assert_same(labelled.example, expected)


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("kind", ["absolute", "distance", "circular"])
def test_position_formats(copy: Path, dataset: tuple[Path, Written], normalized: bool, kind: str) -> None:
    whole, start = (1.0, 0.25) if normalized else (LENGTH, 5000.0)
    for (scenario, replicate), example in dataset[1].items():
        values = example.positions / LENGTH * whole
        if kind == "circular":
            values = np.diff(values, prepend=values[-1] - whole)
        elif kind == "distance":
            values = np.diff(values, prepend=0.0)
        rewrite(copy / f"scenario_{scenario:03}/mine_{scenario:03}_{replicate:02}.npz", POS=values)
    position_format: dict[str, Any] = {"normalized": normalized, "distance": kind != "absolute"}
    if kind == "circular":
        position_format |= {"circular": True, "initial_position": start}
    found = imported(dnadna_section(copy, position_format=position_format))
    for labelled, expected in zip(found, dataset[1].values(), strict=True):
        genotypes, positions = expected.genotypes, expected.positions
        if kind == "circular":  # the first site lies at 5 kb, and what is pushed beyond the end comes back at 0
            positions = (positions - positions[0] + 5000) % LENGTH
            genotypes, positions = genotypes[np.argsort(positions)], np.sort(positions)
        np.testing.assert_array_equal(labelled.example.genotypes, genotypes)
        np.testing.assert_allclose(labelled.example.positions, positions, atol=1e-6)


def test_fewer_replicates_are_imported_and_the_others_counted(dataset: tuple[Path, Written]) -> None:
    values = dnadna_section(dataset[0], replicates=1)
    assert survey(import_section(values))["left_out"] == {"files_beyond_the_number_of_replicates": 6}
    found = imported(values)
    assert [labelled.where.endswith("_00.npz") for labelled in found] == [True] * 6


def test_files_of_unknown_scenarios_are_counted(copy: Path) -> None:
    table = copy / "mine_params.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *reversed(lines[2:])]))
    found = survey(import_section(dnadna_section(copy, num_scenarios=5)))
    assert found["scenarios"] == [5, 4, 3, 2, 1]
    assert found["left_out"] == {"files_of_scenarios_that_are_not_in_the_table": 2}


def test_missing_parameters_are_missing(copy: Path) -> None:
    table = copy / "mine_params.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], "0,,2", *lines[2:]]))
    assert np.isnan(imported(dnadna_section(copy))[1].labels["size"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_scenarios": 7}, r"import\.num_scenarios: 7, but the data holds 6 scenarios .* write num_scenarios: 6"),
        ({"replicates": 3}, r"6 of 6 scenarios have fewer than 3 files .* scenario 0 with 2"),
        ({"dataset_name": "yours"}, r"no file is named like"),
        ({"folder": "/nowhere"}, r"/nowhere: there is no such folder"),
        ({"table": "/nowhere.csv"}, r"/nowhere\.csv: cannot read the table of labels"),
        ({"parameters": ["sise"]}, r"there is no column 'sise'; did you mean 'size'"),
        ({"num_haplotypes": 6}, r"SNP is uint8 of shape \(8, \d+\), expected whole numbers of shape \(6, sites\)"),
        ({"keys": ["G", "POS"]}, r"there is no array 'G' \(import\.keys\); it holds SNP, POS"),
        ({"position_format": {"normalized": False}}, r"no position is above 1, so they are fractions"),
        ({"position_format": {"distance": True}}, r"positions reach .* beyond the window's end at 1"),
        (
            {"position_format": {"distance": True, "circular": True}},
            r"distances add up to .*, expected 1, once round the genome",
        ),
        ({"filename": "{scenario}.npz"}, r"must tell scenarios and replicates apart"),
        ({"filename": "{scenario}_{replicat}.npz"}, r"found \['replicat'\]"),
        ({"parameters": {"size": {"flag": "-t"}}}, r"format dnadna has no `flag`"),
    ],
)
def test_bad_configs(dataset: tuple[Path, Written], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        imported(dnadna_section(dataset[0], **changes))


def test_mixed_zeros_are_refused(copy: Path) -> None:
    folder = copy / "scenario_001"
    (folder / "mine_001_01.npz").rename(folder / "mine_001_1.npz")
    with pytest.raises(PopdlError, match="filled with zeros in different ways"):
        imported(dnadna_section(copy))


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def _pickled(path: Path) -> None:
    np.savez(path, SNP=np.array([{}], dtype=object), POS=np.zeros(1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_truncated, "not a whole npz file"),
        (lambda path: path.write_bytes(b"no zip"), "not a whole npz file"),
        (_pickled, "SNP is not a plain array"),
        (lambda path: rewrite(path, POS=np.zeros(3)), r"POS has shape \(3,\), expected"),
        (lambda path: rewrite(path, SNP=np.full((HAPLOTYPES, 2), 200, np.uint8), POS=np.array([0.1, 0.2])), "values from 200 to 200"),
        (lambda path: rewrite(path, SNP=np.zeros((HAPLOTYPES, 2), np.uint8), POS=np.array([0.2, 0.1])), "positions decrease"),
        (lambda path: rewrite(path, SNP=np.zeros((HAPLOTYPES, 1), np.uint8), POS=np.array([np.nan])), "positions must be numbers"),
        (lambda path: rewrite(path, SNP=np.zeros((HAPLOTYPES, 2), np.uint8), POS=np.array([0.1, 1.5])), "beyond the window's end"),
        (lambda path: rewrite(path, SNP=np.zeros((HAPLOTYPES, 2)), POS=np.array([0.1, 0.5])), "SNP is float64"),
    ],
)  # fmt: skip
def test_bad_files_are_named(copy: Path, spoil: Any, message: str) -> None:
    path = copy / "scenario_004/mine_004_01.npz"
    spoil(path)
    with pytest.raises(PopdlError, match=message) as refusal:
        imported(dnadna_section(copy))
    assert str(refusal.value).startswith(str(path))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "the table is empty"),
        ("scenario_idx,size\n", "the table is empty"),
        ("scenario,size\n0,1\n", "there is no column 'scenario_idx'"),
        ("scenario_idx,size\n0,1\n0,2\n", "scenario 0 is there twice"),
        ("scenario_idx,size\nzero,1\n", "line 2: scenario_idx is 'zero'"),
        ("scenario_idx,size\n0,1\n1\n", "line 3: 1 columns, expected 2"),
        ("scenario_idx,size\n0,big\n", "line 2: size is 'big', expected a number"),
    ],
)
def test_bad_tables(copy: Path, table: str, message: str) -> None:
    (copy / "mine_params.csv").write_text(table)
    with pytest.raises(PopdlError, match=message):
        imported(dnadna_section(copy, num_scenarios=1))
