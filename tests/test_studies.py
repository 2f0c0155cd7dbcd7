"""Every study that ships can be built: config, schema, simulator, encoding, and each network on one batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from popdl import seeds
from popdl.config.reading import read_config
from popdl.config.study import build_study
from popdl.encoding import Encoder
from popdl.networks._base import InputShape, build
from popdl.priors import draw

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


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_study_can_be_built(path: Path, request: pytest.FixtureRequest) -> None:
    values = read_config(path)
    jsonschema.validate(values, json.loads((ROOT / "workflow/schemas/config.schema.json").read_text()))
    if "resources/" in path.read_text():
        values = localised(values, request.getfixturevalue("data"))
    study = build_study(values)
    simulation = study.simulation

    parameters = draw(simulation.priors, seeds.generator(study.seed, "parameters", 0))
    assert set(study.targets) <= {*simulation.labels(parameters), *simulation.computed}
    example = simulation.simulate(parameters, seeds.generator(study.seed, "simulation", 0))
    assert example.genotypes.shape == (len(example.positions), simulation.total_haplotypes)
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
