"""What training costs: steps are counted exactly, and what was measured for one is multiplied by their number."""

from __future__ import annotations

import math

import pytest
import torch

from popdl import training_cost
from popdl.config.study import Study, build_study
from popdl.networks._base import InputShape, build
from popdl.training_cost import TrainingCost, network_memory, steps_of_a_training, training_costs

STEP, LOOK = 0.01, 0.001


def study(**sections: object) -> Study:
    simulation = {
        "simulator": "constant_size", "num_haplotypes": 10, "sequence_length": 1e5, "recombination_rate": 1e-8,
        "mutation_rate": {"choice": [1e-8, 2e-8, 3e-8]}, "parameters": {"population_size": {"loguniform": [1000, 10000]}},
        "num_scenarios": 100, "replicates": 3,
    }  # fmt: skip
    return build_study(
        {
            "study": "planned",
            "simulation": simulation,
            "targets": {"population_size": {"scale": "log"}},
            "encoding": {"max_sites": 64},
            "networks": {"cnn": {"name": "flagel", "filters": [8, 8]}, "mlp": {}},
            **sections,
        }
    )


@pytest.fixture
def known_times(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """A step costs as much as its batch is large; which ones were timed."""
    timed = []

    def time_of_a_step(study: Study, key: str) -> tuple[float, float]:
        timed.append((study.training.batch_size, key))
        return STEP * study.training.batch_size, LOOK

    monkeypatch.setattr(training_cost, "_time_of_a_step", time_of_a_step)
    return timed


@pytest.mark.parametrize(
    ("splits", "num_train", "num_validation"),
    [
        ({}, 210, 45),
        ({"train": 0.5, "validation": 0.25, "test": 0.25}, 150, 75),
        ({"train": ["0-49"], "validation": ["50-59"], "test": ["60-99"]}, 150, 30),
        ({"column": "mutation_rate", "train": [1e-8], "validation": [2e-8], "test": [3e-8]}, 300, 0),
    ],
)
def test_steps_are_those_of_the_examples_that_train(splits: dict, num_train: int, num_validation: int) -> None:
    planned = study(splits=splits, training={"batch_size": 32, "max_epochs": 7})
    expected = (7 * math.ceil(num_train / 32), 7 * math.ceil(num_validation / 32))
    assert steps_of_a_training(planned) == expected


def test_steps_are_those_of_fresh_examples(known_times: list) -> None:
    fresh = {"data": "on_the_fly", "examples_per_epoch": 1000, "batch_size": 50, "max_epochs": 4, "replicates": 2}
    planned = study(training=fresh)
    assert steps_of_a_training(planned) == (4 * 20, 4 * 1)
    assert training_costs(planned)["mlp"].num_fresh == 2 * 4 * 1000


def test_replicates_cost_as_much_each(known_times: list) -> None:
    costs = training_costs(study(training={"batch_size": 32, "max_epochs": 5, "replicates": 3}))
    assert costs["cnn"] == TrainingCost(3, 3 * 5 * 7, 0, pytest.approx(3 * 5 * (7 * 32 * STEP + 2 * LOOK)))
    assert known_times == [(32, "cnn"), (32, "mlp")]


def test_trials_have_their_own_settings_and_replicates_those_of_the_dearest(known_times: list) -> None:
    search = {
        "over": {
            "training.max_epochs": [2, 4],
            "training.batch_size": [32, 64],
            "networks.mlp.hidden": [[8], [16], [32]],
        }
    }
    costs = training_costs(study(training={"replicates": 3}, search=search))
    # Of 210 examples, 7 batches of 32 or 4 of 64; of the 45 that validate, 2 or 1.
    seconds = {(epochs, batch): epochs * (steps * batch * STEP + looks * LOOK) for epochs in (2, 4) for batch, steps, looks in ((32, 7, 2), (64, 4, 1))}  # fmt: skip
    assert max(seconds, key=lambda trial: seconds[trial]) == (4, 64)
    assert costs["cnn"].num_trainings == 4 + 2 and costs["mlp"].num_trainings == 12 + 2
    assert costs["cnn"].num_steps == (2 + 4) * (7 + 4) + 2 * 4 * 4
    assert costs["cnn"].seconds == pytest.approx(sum(seconds.values()) + 2 * seconds[4, 64])
    assert costs["mlp"].seconds == pytest.approx(3 * sum(seconds.values()) + 2 * seconds[4, 64])
    assert len(known_times) == 2 + 6, "nothing is timed twice"


def test_of_a_batch_that_needs_much_memory_a_part_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    planned, sizes = study(training={"batch_size": 32}), []
    original = training_cost._network_and_batch

    def record(study: Study, key: str, batch_size: int) -> tuple:
        network, inputs = original(study, key, batch_size)
        if network.parameters().__next__().device.type != "meta":
            sizes.append(batch_size)
        return network, inputs

    monkeypatch.setattr(training_cost, "_network_and_batch", record)
    monkeypatch.setattr(training_cost, "_cpu_seconds", lambda work: work() or 1.0)
    assert training_cost._time_of_a_step(planned, "cnn") == (1.0, 1.0)
    monkeypatch.setattr(training_cost, "TIMED_ACTIVATIONS", network_memory(planned, "cnn").activations // 4)
    assert training_cost._time_of_a_step(planned, "cnn") == pytest.approx((32 / 7, 32 / 7), abs=1)
    monkeypatch.setattr(training_cost, "TIMED_ACTIVATIONS", 1)
    assert training_cost._time_of_a_step(planned, "cnn") == (16.0, 16.0)
    assert sizes[0] == 32 and 7 <= sizes[1] <= 8 and sizes[2] == 2


def test_timing_leaves_torch_as_it_was() -> None:
    torch.manual_seed(5)
    expected, threads = torch.rand(1), torch.get_num_threads()
    torch.manual_seed(5)
    costs = training_costs(study(training={"threads": threads + 1, "max_epochs": 1}))
    assert torch.rand(1) == expected and torch.get_num_threads() == threads
    assert costs["cnn"].seconds > 0 and costs["mlp"].seconds > 0


def test_activations_are_those_that_a_real_batch_keeps() -> None:
    planned = study()
    network = build("cnn", planned.networks["cnn"], InputShape.of(planned)).train()
    batch, shape = planned.training.batch_size, InputShape.of(planned)
    inputs = (torch.zeros(batch, shape.num_haplotypes, shape.max_sites), torch.zeros(batch, shape.max_sites), torch.ones(batch, shape.max_sites, dtype=torch.bool))  # fmt: skip
    own = {tensor.data_ptr() for tensor in (*inputs, *network.parameters(), *network.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(*inputs)
    found = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert network_memory(planned, "cnn").activations == pytest.approx(found, rel=0.05)
