"""Defects of dnadna 1.0 that must not return: one test for each, named after the defect."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import batches
import learnable
import numpy as np
import pandas as pd
import pytest
import torch

from popdl import plugins, steps, training
from popdl.config.reading import read_yaml
from popdl.config.study import build_study, simulation_section
from popdl.dataset import open_shards, read_parameters
from popdl.layout import Results
from popdl.loader import PackedData
from popdl.model import load_model, read_card
from popdl.module import PopdlModule, PositionScaling, predict_outputs
from popdl.networks._base import InputShape, build
from popdl.prediction import predict_arrays, predict_test
from popdl.scaling import TargetScaling
from popdl.simulation import simulate_shard
from popdl.splits import read_splits
from popdl.store import read_shard

TARGET = {"task": "regression", "scale": "log", "weight": 1.0, "mean": 0.0, "sd": 1.0, "classes": []}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return learnable.dataset(tmp_path_factory.mktemp("learnable"))


@pytest.fixture(scope="module")
def model(data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable.fit(data, tmp_path_factory.mktemp("trained"))["output"]


def test_same_seed_in_every_scenario(root: Path, tmp_path: Path) -> None:
    """Scenarios that share all parameters differ in everything else."""
    values = read_yaml(root / "config/test.yaml")["simulation"]
    fixed = {"recent_size": 20_000, "event_size": 20_000, "event_time": 100}
    simulation = simulation_section(values | {"parameters": fixed, "replicates": 1, "num_scenarios": 40})
    simulate_shard(simulation, seed=1, shard=0, output=tmp_path / "shard_0")
    shard = read_shard(tmp_path / "shard_0", kind="simulations")
    offsets, positions = shard["offsets"], shard["positions"]
    windows = [tuple(positions[first:last]) for first, last in itertools.pairwise(offsets)]
    assert len(windows) == len(set(windows)) == 40
    shared = [len(set(one) & set(other)) for one, other in itertools.pairwise(windows)]
    assert np.mean(shared) < 3  # of some hundred sites on 50,000 bp, by chance alone


@pytest.mark.parametrize("haplotypes", [4, 20, 50])
def test_dead_filter_branches(haplotypes: int) -> None:
    """Every branch of the custom CNN reads its own rows, and every weight of it learns."""
    torch.manual_seed(0)
    network = build("custom_cnn", {}, InputShape(haplotypes, 400, True))
    genotypes = (torch.rand(4, haplotypes, 400) < 0.3).float()
    features = network(genotypes, torch.randn(4, 400), torch.ones(4, 400, dtype=torch.bool))
    (features * torch.randn(features.shape)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_missing_target_turned_into_minus_one(data: dict[str, Any], model: Path, tmp_path: Path) -> None:
    values = read_parameters(open_shards(data["shards"]), ["size", "kind"])
    missing = np.isnan(values[:, 0])
    scaling = TargetScaling.read(data["targets"])
    np.testing.assert_array_equal(np.isnan(scaling.to_network(values)), np.isnan(values))
    splits = read_splits(data["splits"])["split"].to_numpy()
    known = np.log10(values[(splits == "train") & ~missing, 0])
    assert read_card(model)["targets"]["size"]["mean"] == pytest.approx(known.mean())
    predict_test(model, shards=data["shards"], splits=data["splits"], output=tmp_path / "test.tsv")
    table = pd.read_csv(tmp_path / "test.tsv", sep="\t", na_values=["."])
    assert missing[splits == "test"].sum() > 0
    np.testing.assert_array_equal(table["size_true"].isna(), missing[table["example"]])

    heads = load_model(model).module.heads
    outputs = torch.randn(2, heads.num_outputs, requires_grad=True)
    heads.total(heads.losses(outputs, torch.tensor([[math.nan, 1.0], [0.5, math.nan]])).means()).backward()
    assert outputs.grad is not None
    assert (outputs.grad[:, 0] != 0).tolist() == [False, True]
    assert (outputs.grad[:, 1:] != 0).any(dim=1).tolist() == [True, False]


@pytest.mark.parametrize("name", plugins.known("networks"))
def test_predictions_that_change_with_batch_size(name: str, data: dict[str, Any]) -> None:
    """Alone, or beside examples with more sites: in none of the networks does padding count."""
    packed = PackedData.from_shards(data["shards"])
    assert len(packed.num_sites.unique()) > 5
    rows = torch.argsort(packed.num_sites)[:20]
    torch.manual_seed(0)
    shape = InputShape(packed.num_haplotypes, packed.max_sites, packed.has_positions)
    module = PopdlModule(
        name, {}, shape=shape, targets={"a": TARGET}, position_scaling=PositionScaling.fit(packed, rows)
    )
    alone = predict_outputs(module, packed, rows, batch_size=1)
    beside = predict_outputs(module, packed, torch.arange(packed.num_examples), batch_size=64)[rows]
    torch.testing.assert_close(alone, beside, rtol=1e-4, atol=1e-5)
    assert alone.std() > 0


def test_advertised_but_absent_resume(
    data: dict[str, Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that died after its second epoch trains two more, and ends as one that lived."""
    save, saved = training.save_checkpoint, []

    def save_and_die(*arguments: Any, **rest: Any) -> None:
        save(*arguments, **rest)
        saved.append(len(saved))
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        learnable.fit(data, tmp_path)
    resumed = learnable.fit(data, tmp_path)
    assert len(saved) == learnable.TRAINING.max_epochs == 4
    assert resumed["output"].read_bytes() == model.read_bytes()


def test_unused_test_split(root: Path, tmp_path: Path) -> None:
    """Scenarios that no training saw are scored without being asked for, and their score is what the model's card shows."""
    values = read_yaml(root / "config/test.yaml")
    values["simulation"] |= {"num_scenarios": 40, "replicates": 1}
    study = build_study(values | {"networks": {"mlp": {}}, "baselines": ["prior_mean"], "applications": {}})
    results = Results(tmp_path)
    for step in (steps.simulate, steps.encode, steps.split, steps.train, steps.evaluate):
        step(study, results)
    table = read_splits(results.splits)
    test = table.loc[table["split"] == "test", "example"].tolist()
    predicted = pd.read_csv(results.test_predictions("mlp/0"), sep="\t")
    assert predicted["example"].tolist() == test and len(test) > 0
    errors = np.log10(predicted["recent_size"] / predicted["recent_size_true"])
    shown = read_card(results.shared_model)["metrics"]["targets"]["recent_size"]
    assert shown["metrics"]["rmse"]["value"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-4)


def test_prediction_one_example_at_a_time(data: dict[str, Any], model: Path) -> None:
    loaded = load_model(model)
    sizes: list[int] = []
    loaded.module.register_forward_hook(lambda module, inputs, outputs: sizes.append(len(outputs)))
    predict_arrays([loaded], PackedData.from_shards(data["shards"]), np.arange(100), batch_size=64)
    assert sizes == [64, 36]


def test_class_weights_ignored(data: dict[str, Any], tmp_path: Path) -> None:
    """A class with ten times the weight is predicted more often, by the same network on the same data."""
    shares = []
    for weights in ({"even": 10, "rare": 1}, {"even": 1, "rare": 10}):
        folder = tmp_path / str(len(shares))
        folder.mkdir()
        weighted = dict(data, targets=folder / "targets.json")
        scaling = TargetScaling.read(data["targets"]).to_json()
        scaling["kind"]["class_weights"] = weights
        weighted["targets"].write_text(json.dumps(scaling))
        trained = load_model(
            learnable.fit(weighted, folder, training=learnable.TRAINING.model_copy(update={"max_epochs": 1}))["output"]
        )
        packed = PackedData.from_shards(data["shards"])
        table = predict_arrays([trained], packed, np.arange(packed.num_examples))
        shares.append(table["kind_p_even"].mean())
    assert shares[0] > shares[1] + 0.1  # equal if weights were ignored


def test_plugins_not_embedded(data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with its author's network predicts where that file is not, once its user trusts it."""
    (tmp_path / "author").mkdir()
    (tmp_path / "user").mkdir()
    monkeypatch.chdir(tmp_path / "author")
    Path("own.py").write_text(
        "from popdl.networks._base import Network\n\n\n"
        "class Own(Network):\n"
        "    def __init__(self, settings, shape):\n"
        "        super().__init__(settings, shape)\n"
        "        self.num_features = shape.num_haplotypes\n\n"
        "    def forward(self, genotypes, positions, mask):\n"
        "        return (genotypes * mask.unsqueeze(1)).mean(dim=2)\n"
    )
    path = learnable.fit(data, tmp_path / "author", options={"name": "own.py:Own"})["output"]
    packed = PackedData.from_shards(data["shards"])
    expected = predict_arrays([load_model(path)], packed, np.arange(20))
    Path("own.py").unlink()
    monkeypatch.chdir(tmp_path / "user")
    loaded = load_model(path.rename("model.safetensors"), trust=lambda part: True)
    pd.testing.assert_frame_equal(predict_arrays([loaded], packed, np.arange(20)), expected)


def test_a_range_that_leaves_out_its_maximum() -> None:
    """`individuals: [2, 4]` means 2, 3 or 4, each as often."""
    subsample = batches.make("subsample", individuals=[2, 4])
    examples, chance = batches.some(0), batches.chance()
    numbers = [subsample(examples, chance).genotypes.shape[1] // 2 for _ in range(600)]
    counts = np.array([numbers.count(number) for number in (2, 3, 4)])
    assert counts.sum() == 600
    assert (np.abs(counts - 200) < 4 * math.sqrt(600 * 2 / 9)).all()
