"""The plan: its terms against theory, its fit on known costs, its corners, its memory, and a study that takes hours."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from popdl import plan as planning
from popdl.config.study import Study, build_study, load_study, simulation_section
from popdl.errors import PopdlError
from popdl.networks._base import InputShape, build
from popdl.pilot import Cost, Draw, _time_to_meet, scaled_rates
from popdl.plan import network_memory, plan_study, plan_text


def section(**changes: object) -> dict:
    return {
        "simulator": "constant_size",
        "num_haplotypes": 10,
        "sequence_length": 1e6,
        "mutation_rate": 2e-8,
        "recombination_rate": 1e-8,
        "parameters": {"population_size": {"loguniform": [1000, 10000]}},
        "num_scenarios": 100,
        **changes,
    }


def study(**changes: object) -> Study:
    return build_study(
        {
            "study": "planned",
            "simulation": section(**changes),
            "targets": {"population_size": {"scale": "log"}},
            "encoding": {"max_sites": 64},
            "networks": {"cnn": {"name": "flagel", "filters": [8, 8]}},
        }
    )


def test_rates_of_a_constant_size_are_4NrL_and_4NmuL() -> None:
    rho, theta = scaled_rates(simulation_section(section()), {"population_size": 5000, "mutation_rate": 2e-8, "recombination_rate": 1e-8})  # fmt: skip
    assert rho == pytest.approx(4 * 5000 * 1e-8 * 1e6)
    assert theta == pytest.approx(4 * 5000 * 2e-8 * 1e6)


def test_time_to_meet_is_what_msprime_integrates(root: Path) -> None:
    simulation = load_study(root / "config/config.yaml").simulation
    demography = simulation.demography({"recent_size": 20000, "event_size": 6000, "event_time": 900})
    expected = demography.debug().mean_coalescence_time({"pop_0": 2})
    assert _time_to_meet(demography, ["pop_0"], ploidy=2) == pytest.approx(expected, rel=0.01)


def test_fit_finds_costs_that_have_its_form_and_is_not_led_by_an_outlier() -> None:
    generator = np.random.default_rng(1)
    draws = [Draw({}, 1.0, rho, 2 * rho) for rho in np.geomspace(10, 1000, 30)]
    truth = np.array([1e-3 + 1e-5 * draw.rho + 1e-7 * draw.rho**2 for draw in draws])
    noisy = truth * np.exp(0.05 * generator.standard_normal(30))
    noisy[3] *= 30
    larger = [Draw({}, 1.0, 10_000.0, 20_000.0)]
    predicted = Cost.fit(draws, noisy, num_haplotypes=10)(larger, num_haplotypes=10)[0]
    assert predicted / (1e-3 + 1e-5 * 1e4 + 1e-7 * 1e8) < 3
    clean = Cost.fit(draws, truth, num_haplotypes=10)
    assert clean(draws, num_haplotypes=10) == pytest.approx(truth, rel=0.02)
    assert clean.error == pytest.approx(1, abs=0.02)


def test_corners_are_the_ends_of_the_prior(root: Path) -> None:
    simulation = load_study(root / "config/config.yaml").simulation
    corners = list(planning._corners(simulation.priors))
    assert len({tuple(corner.values()) for corner in corners}) == 8
    assert {corner["recent_size"] for corner in corners} == {5000, 50000}
    assert {corner["event_size"] for corner in corners} == {5000, 50000}  # `within` holds at the corners too


def test_corners_of_a_study_whose_times_follow_each_other(root: Path) -> None:
    corners = list(planning._corners(load_study(root / "config/three_epoch.yaml").simulation.priors))
    assert all(corner["time_1"] < corner["time_2"] for corner in corners)
    assert max(corner["time_1"] for corner in corners) == pytest.approx(3.49999e7 / 100)


def test_plan_of_a_small_study() -> None:
    plan = plan_study(study(), seconds=60)
    assert plan.num_examples == 100
    assert len(plan.seconds) == 100
    assert plan.corner[0]["population_size"] == 10000
    assert plan.corner[1] >= plan.seconds.max() * 0.99
    # E[S] = θ h (Watterson 1975), and a raw site takes less than its uncompressed 10 + 8 bytes.
    sites = 4 * 2e-8 * 1e6 * np.mean(np.geomspace(1000, 10000, 1000)) * sum(1 / i for i in range(1, 10))
    assert 0.2 * sites * 18 < plan.raw_bytes < 1.3 * sites * 18
    text = plan_text(plan)
    for line in ("study planned: 100 examples", "suggested shard_size: 100", "GPU memory of cnn"):
        assert line in text
    assert "warning" not in text


def test_windows_without_sites(root: Path) -> None:
    planned = load_study(root / "config/spidna_size_history_small.yaml")  # its smallest populations leave some
    scenarios = [planning._draw(planned.simulation, parameters) for parameters in planning._scenarios(planned)]
    sites = np.mean([draw.theta for draw in scenarios]) * sum(1 / i for i in range(1, 20))
    assert 0.1 * sites * 28 < plan_study(planned, seconds=60).raw_bytes < sites * 28


def test_sites_that_are_not_kept() -> None:
    assert plan_study(study(keep_sites=5), seconds=60).raw_bytes < 1.3 * 5 * 18


def test_a_study_that_would_take_hours_is_planned_in_seconds_and_warned_of() -> None:
    huge = study(sequence_length=3e7, parameters={"population_size": {"loguniform": [5e5, 1e6]}})
    start = time.monotonic()
    plan = plan_study(huge, seconds=8)
    assert time.monotonic() - start < 60
    assert 0 < plan.num_pilot < planning.PILOT_DRAWS
    assert plan.corner[1] > planning.SLOW
    assert "warning: one draw at" in plan_text(plan)


def test_without_any_draw_in_time_the_plan_is_refused() -> None:
    with pytest.raises(PopdlError, match=r"not one draw of a window of 976 bp was simulated within 1e-06 s"):
        plan_study(study(), seconds=1e-6)


def test_an_import_is_refused(tmp_path: Path) -> None:
    imported = study().model_copy(update={"simulation": None})
    with pytest.raises(PopdlError, match="imports its data"):
        plan_study(imported)


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


@pytest.mark.parametrize(("seconds", "raw", "expected"), [(1.0, 1e3, 600), (1e-6, 1e6, 200), (1e5, 1e3, 1)])
def test_a_shard_takes_minutes_and_fits_into_memory(seconds: float, raw: float, expected: int) -> None:
    simulation = simulation_section(section(num_scenarios=10**6))
    size = planning._shard_size(simulation, seconds, raw)
    assert size == expected
    assert size == 1 or size * raw <= planning.SHARD_BYTES
    assert math.log10(size) >= 0
