"""What is exported and imported again is what was in the store."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tskit
import yaml
from imported import HAPLOTYPES, LENGTH, assert_same, dnadna_dataset, dnadna_section, imported

from popdl import cli
from popdl.config.reading import read_yaml
from popdl.config.study import import_section, simulation_section
from popdl.errors import PopdlError
from popdl.exporting import export
from popdl.formats._base import LabelledExample
from popdl.importing import import_shard, survey
from popdl.simulation import simulate_shard
from popdl.store import read_shard, write_shard


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[LabelledExample]]:
    """A store of three shards, with its examples; among the labels are words, and one is missing."""
    folder = tmp_path_factory.mktemp("store")
    dnadna_dataset(folder / "data", scenarios=6)
    table = folder / "data/mine_params.csv"
    lines = table.read_text().splitlines()
    kinds = ["kind", "soft", "hard", "hard", "soft", "", "soft"]
    table.write_text("\n".join(f"{line},{kind}" for line, kind in zip(lines, kinds, strict=True)))
    values = dnadna_section(
        folder / "data", shard_size=5, parameters={"kind": {"classes": ["hard", "soft"]}, "size": {}}
    )
    importer = import_section(values)
    for shard in range(3):
        import_shard(importer, survey(importer), seed=1, shard=shard, output=folder / f"store.zarr/shard_{shard}")
    return folder / "store.zarr", imported(values)


def assert_all_same(found: list[LabelledExample], expected: list[LabelledExample]) -> None:
    assert len(found) == len(expected) == 12
    for one, other in zip(found, expected, strict=True):
        assert_same(one.example, other.example)
        assert one.labels.keys() == other.labels.keys()
        np.testing.assert_array_equal([*one.labels.values()], [*other.labels.values()])


def test_npz_and_back(store: tuple[Path, list[LabelledExample]], tmp_path: Path) -> None:
    output = tmp_path / "again"
    assert export(store[0], output, to="npz") == 12
    parameters = {"kind": {"classes": ["hard", "soft"]}, "size": {}}
    section = dnadna_section(
        output, dataset_name="again", table=str(output / "again_params.csv"), parameters=parameters
    )
    assert_all_same(imported(section), store[1])
    with np.load(output / "scenario_0/again_0_1.npz") as arrays:
        assert arrays["SNP"].dtype == np.uint8 and arrays["SNP"].shape[0] == HAPLOTYPES
        assert 0 <= arrays["POS"].min() <= arrays["POS"].max() <= 1
    config = yaml.safe_load((output / "again_dataset.yml").read_text())
    assert config["dataset_name"] == "again" and (output / config["scenario_params_path"]).is_file()
    assert (output / "again_params.csv").read_text().startswith("scenario_idx,kind,size,n_replicates\n0,soft,")
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


@pytest.mark.parametrize("name", ["sims.txt", "sims.txt.gz"])
def test_ms_and_back(store: tuple[Path, list[LabelledExample]], tmp_path: Path, name: str) -> None:
    assert export(store[0], tmp_path / name, to="ms") == 12
    section: dict[str, Any] = {
        "format": "ms",
        "files": str(tmp_path / name),
        "table": str(tmp_path / "sims.labels.tsv"),
        "parameters": {"kind": {"classes": ["hard", "soft"]}, "size": {}},
        "num_haplotypes": HAPLOTYPES,
        "sequence_length": LENGTH,
        "num_scenarios": 6,
        "replicates": 2,
    }
    assert_all_same(imported(section), store[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sims.labels.tsv", name]
    if name.endswith(".gz"):
        export(store[0], tmp_path / "plain.txt", to="ms")
        assert gzip.decompress((tmp_path / name).read_bytes()) == (tmp_path / "plain.txt").read_bytes()


def test_one_shard_alone(store: tuple[Path, list[LabelledExample]], tmp_path: Path) -> None:
    assert export(store[0] / "shard_2", tmp_path / "two", to="npz") == 2


def raw(path: Path, genotypes: np.ndarray) -> Path:
    """A store with one example of two haplotypes."""
    write_shard(
        path / "shard_0",
        kind="simulations",
        arrays={
            "genotypes": genotypes.astype(np.int8),
            "positions": np.arange(len(genotypes), dtype=np.float64),
            "offsets": np.array([0, len(genotypes)]),
            "parameters": np.array([[1.5]]),
            "scenario": np.array([0]),
        },
        attributes={
            "first_example": 0,
            "num_examples": 1,
            "parameters": ["x"],
            "classes": {},
            "num_haplotypes": 2,
            "sequence_length": 10.0,
        },
    )
    return path


@pytest.mark.parametrize(("allele", "what"), [(-1, "missing alleles"), (2, "a third allele")])
def test_what_ms_cannot_say_goes_to_npz(tmp_path: Path, allele: int, what: str) -> None:
    store = raw(tmp_path / "store", np.array([[0, 1], [allele, 0]]))
    with pytest.raises(PopdlError, match=f"example 0: ms text has no way to write {what}; export to npz"):
        export(store, tmp_path / "a.txt", to="ms")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    export(store, tmp_path / "a", to="npz")
    with np.load(tmp_path / "a/scenario_0/a_0_0.npz") as arrays:
        np.testing.assert_array_equal(arrays["SNP"], [[0, allele], [1, 0]])


def test_examples_without_sites(tmp_path: Path) -> None:
    store = raw(tmp_path / "store", np.empty((0, 2)))
    export(store, tmp_path / "a.txt", to="ms")
    assert (tmp_path / "a.txt").read_text() == "popdl 2 1\n0\n\n//\nsegsites: 0\n\n"
    export(store, tmp_path / "a", to="npz")
    with np.load(tmp_path / "a/scenario_0/a_0_0.npz") as arrays:
        assert arrays["SNP"].shape == (2, 0)


def test_refusals(store: tuple[Path, list[LabelledExample]], tmp_path: Path) -> None:
    with pytest.raises(PopdlError, match="these examples were imported, so there are no trees of them"):
        export(store[0], tmp_path / "trees", to="trees")
    assert not list(tmp_path.iterdir())
    with pytest.raises(PopdlError, match="neither a shard nor a store"):
        export(tmp_path, tmp_path / "a", to="npz")
    (tmp_path / "there").mkdir()
    with pytest.raises(PopdlError, match="there is there already; export to a new name"):
        export(store[0], tmp_path / "there", to="npz")


def test_command_line(
    store: tuple[Path, list[LabelledExample]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["export", str(store[0]), "--to", "ms", str(tmp_path / "sims.txt")])
    assert "12 examples written" in capsys.readouterr().out


@pytest.mark.parametrize("changes", [{}, {"min_sites": 30}, {"keep_sites": 12}])
def test_trees_are_those_of_the_stored_examples(root: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    values = read_yaml(root / "config/test.yaml")["simulation"] | {"num_scenarios": 4, "shard_size": 5} | changes
    for shard in range(2):
        simulate_shard(simulation_section(values), seed=3, shard=shard, output=tmp_path / f"store.zarr/shard_{shard}")
    assert export(tmp_path / "store.zarr", tmp_path / "trees", to="trees") == 8
    shard = read_shard(tmp_path / "store.zarr/shard_1", kind="simulations")
    start, stop = shard["offsets"][1:3]
    trees = tskit.load(tmp_path / "trees/example_6.trees")
    assert np.array_equal(trees.genotype_matrix(), shard["genotypes"][start:stop])
    assert np.array_equal(trees.sites_position, shard["positions"][start:stop])
    labels = (tmp_path / "trees/labels.tsv").read_text().splitlines()
    assert labels[7].split("\t")[:2] == ["6", "3"] and len(labels) == 9


def test_trees_that_cannot_be_made_again_are_refused(root: Path, tmp_path: Path) -> None:
    values = read_yaml(root / "config/test.yaml")["simulation"] | {"num_scenarios": 1}
    simulate_shard(simulation_section(values), seed=3, shard=0, output=tmp_path / "shard_0")
    shard = read_shard(tmp_path / "shard_0", kind="simulations")
    arrays = {name: shard[name] for name in ("genotypes", "positions", "offsets", "parameters", "scenario")}
    write_shard(tmp_path / "shard_1", kind="simulations", arrays=arrays, attributes={**shard.attributes, "seed": 4})
    with pytest.raises(PopdlError, match=r"example 0 comes out differently .* use the versions that made it: popdl"):
        export(tmp_path / "shard_1", tmp_path / "trees", to="trees")
    assert not (tmp_path / "trees").exists()
