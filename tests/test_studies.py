"""Every study that ships can be built: config, schema, simulator, encoding, and each network on one batch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
import yaml

from popdl import seeds
from popdl.config.reading import INHERITS, read_config
from popdl.config.study import Study, build_study
from popdl.encoding import Encoder
from popdl.importing import read_examples, survey
from popdl.networks._base import InputShape, build
from popdl.priors import draw
from popdl.simulators._base import Example

ROOT = Path(__file__).resolve().parents[1]
STUDIES = sorted((ROOT / "config").glob("*.yaml"))


def localised(value: Any, data: Path) -> Any:
    """Replace files of `resources/` by the shared copies of the same name; skip where one is absent."""
    if isinstance(value, dict):
        return {key: localised(item, data) for key, item in value.items()}
    if isinstance(value, str) and value.startswith("resources/"):
        found = list(data.glob(f"*/{Path(value).name}"))
        if not found:
            pytest.skip(f"{value} is not among the shared data")
        return str(found[0])
    return value


def first_example(study: Study) -> Example:
    """The first example that a study would simulate or import, whose labels are known."""
    if study.import_ is not None:
        labelled = read_examples(study.import_, survey(study.import_), 0, 1, seed=study.seed)[0]
        assert set(study.targets) <= set(labelled.labels)
        return labelled.example
    simulation = study.simulation
    assert simulation is not None
    parameters = draw(simulation.priors, seeds.generator(study.seed, "parameters", 0))
    assert set(study.targets) <= {*simulation.labels(parameters), *simulation.computed}
    return simulation.simulate(parameters, seeds.generator(study.seed, "simulation", 0))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_study_can_be_built(path: Path, request: pytest.FixtureRequest) -> None:
    values = read_config(path)
    jsonschema.validate(values, json.loads((ROOT / "workflow/schemas/config.schema.json").read_text()))
    if "resources/" in str(values):
        values = localised(values, request.getfixturevalue("data"))
    study = build_study(values)
    example = first_example(study)
    assert example.genotypes.shape == (len(example.positions), study.source.total_haplotypes)
    assert len(example.positions) > 10

    encoder = Encoder.of(study)
    encoded = encoder.encode(example.genotypes, example.positions, seeds.generator(study.seed, "encoding", 0))
    assert 0 < encoded.num_sites <= study.encoding.max_sites

    shape = InputShape.of(study)
    generator = np.random.default_rng(1)
    genotypes = torch.from_numpy(generator.integers(0, 2, (2, shape.num_haplotypes, shape.max_sites))).float()
    positions = torch.rand(2, shape.max_sites) if shape.has_positions else None
    mask = torch.ones(2, shape.max_sites, dtype=torch.bool)
    for key, options in study.networks.items():
        network = build(key, options, shape)
        assert network(genotypes, positions, mask).shape == (2, network.num_features)


def test_no_two_studies_share_a_results_folder() -> None:
    names = [read_config(path)["study"] for path in STUDIES]
    assert len(set(names)) == len(names)


SMALL = [path for path in STUDIES if path.stem.endswith("_small") and path.with_stem(path.stem[:-6]) in STUDIES]


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_a_small_study_asks_the_same_question(path: Path) -> None:
    small, full = read_config(path), read_config(path.with_stem(path.stem[:-6]))
    if INHERITS not in yaml.safe_load(path.read_text()):
        pytest.skip("written out, not inherited")
    assert (small["study"], full["study"]) == (path.stem, path.stem[:-6])
    assert small["targets"] == full["targets"] and small["description"] == full["description"]
    assert small.get("published") == full.get("published")
    for section in {"simulation", "import"} & {*small, *full}:
        for key in ("parameters", "mutation_rate", "recombination_rate", "sequence_length"):
            assert small[section].get(key) == full[section].get(key), f"{section}.{key}"
    assert small["training"]["replicates"] >= 3 and full["training"]["replicates"] >= 3


# Snakemake as in an environment of its own, where popdl cannot check the config before: that takes several times as long, and is tested above.
WITHOUT_CHECK = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *others: None if name == "msprime" else found(name, *others)
from snakemake.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_the_full_size_is_a_study_that_can_be_planned(path: Path, tmp_path: Path, root: Path) -> None:
    """A dry run of Snakemake, with one shard: what depends on what is the same for many."""
    full = path.with_stem(path.stem[:-6])
    values = read_config(full)
    (tmp_path / "resources").mkdir()
    for file in files_of(values):
        (tmp_path / file).touch()
    source = values["import" if "import" in values else "simulation"]
    source["shard_size"] = source["num_scenarios"] * source.get("replicates", 1)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(values))
    command = [
        sys.executable,
        "-c",
        WITHOUT_CHECK,
        "--snakefile",
        str(root / "Snakefile"),
        "--configfile",
        "study.yaml",
    ]
    run = subprocess.run(
        [*command, "--cores", "1", "--dry-run", "--quiet", "rules"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    jobs = dict(re.findall(r"^(\w+)\s+(\d+)$", run.stdout, flags=re.MULTILINE))
    assert int(jobs["train"]) == len(values["networks"]) * values["training"].get("replicates", 1)
    assert jobs["encode_shard"] == "1" and jobs["report"] == "1"


def files_of(value: Any) -> set[str]:
    """Files of `resources/` that a config names."""
    if isinstance(value, dict | list):
        return set().union(*map(files_of, value.values() if isinstance(value, dict) else value))
    return {value} if isinstance(value, str) and value.startswith("resources/") else set()


def published_prior(name: str, number: int) -> dict[str, np.ndarray]:
    """Draws of a study's labels."""
    simulation = build_study(read_config(ROOT / "config" / f"{name}.yaml")).simulation
    assert simulation is not None
    draws = [
        simulation.labels(draw(simulation.priors, seeds.generator(1, "parameters", index))) for index in range(number)
    ]
    return {key: np.array([labels[key] for labels in draws]) for key in draws[0]}


def test_recombination_rate_has_the_prior_of_flagel_et_al() -> None:
    labels = published_prior("recombination_rate", 500)
    assert set(labels["population_size"]) == {5000, 10_000, 15_000, 20_000, 50_000}
    np.testing.assert_allclose(labels["rho"], 4 * labels["population_size"] * labels["recombination_rate"] * 20_000)
    logarithm = np.log10(labels["recombination_rate"])
    assert -8 <= logarithm.min() < -7.95 and -6.05 < logarithm.max() <= -6
    assert abs(logarithm.mean() + 7) < 4 * 2 / np.sqrt(12 * 500)


def test_three_epoch_has_the_times_of_flagel_et_al_in_generations() -> None:
    labels = published_prior("three_epoch", 500)
    first = labels["time_1"] * labels["size_0"] / 1e4
    second = (labels["time_2"] - labels["time_1"]) * labels["size_0"] / 1e4
    assert 100 <= first.min() < 150 and 3450 < first.max() <= 3500
    assert 1 <= second.min() < 50 and 3450 < second.max() <= 3500
    assert labels["size_1"].max() <= 5000 and labels["size_2"].max() <= 20_000 and labels["size_0"].max() <= 40_000


def test_theta_simulated_has_the_prior_of_flagel_et_al() -> None:
    theta = published_prior("theta_simulated", 500)["theta"]
    assert 10 <= theta.min() < 10.5 and 49.5 < theta.max() <= 50
