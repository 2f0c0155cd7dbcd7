"""The plan: its terms against theory, its fit on known costs, its corners, its memory, and a study that takes hours."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest

from popdl import plan as planning
from popdl import training_cost
from popdl.config.study import Study, build_study, load_study, simulation_section, study_values
from popdl.errors import PopdlError
from popdl.pilot import Cost, Draw, _time_to_meet, scaled_rates
from popdl.plan import plan_study, plan_values
from popdl.plan_text import plan_text


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


def test_corners_follow_the_references_of_priors(root: Path) -> None:
    """`over` and `plus` hold at the corners as in draws: the two changes of size stand in their order."""
    simulation = load_study(root / "config/three_epoch.yaml").simulation
    corners = list(planning._corners(simulation.priors))
    assert {corner["time_1"] for corner in corners} == {1e6 / 100, 1e6 / 40000, 3.49999e7 / 100, 3.49999e7 / 40000}
    for corner in corners:
        between = (corner["time_2"] - corner["time_1"]) * corner["size_0"]
        assert between == pytest.approx(1e4) or between == pytest.approx(3.5e7)


def test_plan_of_a_small_study() -> None:
    whole = plan_study(study(), seconds=60)
    plan = whole.simulation
    assert (whole.num_examples, whole.shard_size) == (100, 500)
    assert len(plan.seconds) == 100
    assert plan.corner[0]["population_size"] == 10000
    assert plan.corner[1] >= plan.seconds.max() * 0.99
    # E[S] = θ h (Watterson 1975), and a raw site takes less than its uncompressed 10 + 8 bytes.
    sites = 4 * 2e-8 * 1e6 * np.mean(np.geomspace(1000, 10000, 1000)) * sum(1 / i for i in range(1, 10))
    assert 0.2 * sites * 18 < plan.raw_bytes < 1.3 * sites * 18
    text = plan_text(whole)
    for line in ("study planned: 100 examples", "suggested shard_size: 100", "GPU memory of cnn"):
        assert line in text
    assert whole.training["cnn"].num_steps == 2 * study().training.max_epochs, (
        "two batches hold the 70 examples that train"
    )
    assert "suggested shard_size: 100 (1 job of" in text and "all in one); the config has 500" in text
    assert whole.hours == pytest.approx(plan.simulate_hours + plan.encode_hours + whole.training_hours)
    # One shard is simulated and encoded, one network trained and tested, and so many baselines are fitted.
    assert (whole.num_jobs(500), whole.num_jobs(10)) == (4 + whole.num_baselines, 22 + whole.num_baselines)
    assert "simulate_shard 2000, train 2000" in text, "what profiles/slurm asks for at least"
    assert "warning" not in text and "search" not in text and "on the fly" not in text
    values = json.loads(json.dumps(plan_values(whole), allow_nan=False))
    assert values["simulation"]["simulate_hours"] == pytest.approx(plan.seconds.mean() * 100 / 3600)
    assert values["training"]["hours"] == pytest.approx(values["training"]["networks"]["cnn"]["seconds"] / 3600)


def test_a_search_over_data_simulates_and_encodes_the_study_for_each_of_them() -> None:
    over = {"simulation.num_haplotypes": [10, 8], "encoding.max_sites": [16, 32, 64]}
    values = study_values(study(num_scenarios=20)) | {"training": {"max_epochs": 2}}
    plain = plan_study(build_study(values), seconds=60).simulation
    whole = plan_study(build_study({**values, "search": {"over": over}}), seconds=60)
    plan = whole.simulation
    assert (plan.num_sources, plan.num_datasets) == (2, 6) and (plain.num_sources, plain.num_datasets) == (1, 1)
    assert plan.simulate_hours == pytest.approx(2 * plan.seconds.mean() * 20 / 3600)
    assert plan.encode_hours == pytest.approx(6 * plan.encode_seconds * 20 / 3600)
    assert plan.disk == pytest.approx(20 * (2 * plan.raw_bytes + 6 * plan.encoded_bytes))
    assert "all examples are simulated 2 times and encoded 6 times" in plan_text(whole)
    assert whole.training["cnn"].num_trainings == 6


def test_windows_without_sites(root: Path) -> None:
    planned = load_study(root / "config/spidna_size_history_small.yaml")  # its smallest populations leave some
    drawn = planning._scenarios(planned, planned.simulation)
    scenarios = [planning._draw(planned.simulation, parameters) for parameters in drawn]
    sites = np.mean([draw.theta for draw in scenarios]) * sum(1 / i for i in range(1, 20))
    assert 0.1 * sites * 28 < plan_study(planned, seconds=60).simulation.raw_bytes < sites * 28


def test_sites_that_are_not_kept() -> None:
    assert plan_study(study(keep_sites=5), seconds=60).simulation.raw_bytes < 1.3 * 5 * 18


def test_a_study_that_would_take_hours_is_planned_in_seconds_and_warned_of() -> None:
    huge = study(sequence_length=3e7, parameters={"population_size": {"loguniform": [5e5, 1e6]}})
    start = time.monotonic()
    plan = plan_study(huge, seconds=8)
    assert time.monotonic() - start < 60
    assert 0 < plan.simulation.num_pilot < planning.PILOT_DRAWS
    assert plan.simulation.corner[1] > planning.SLOW
    assert "warning: one draw at" in plan_text(plan)


def test_without_any_draw_in_time_the_plan_is_refused() -> None:
    with pytest.raises(PopdlError, match=r"not one draw of a window of 976 bp was simulated within 1e-06 s"):
        plan_study(study(), seconds=1e-6)


def test_of_an_import_training_is_planned(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_cost, "_time_of_a_step", lambda study, key: (0.01, 0.001))
    plan = plan_study(load_study(root / "config/theta.yaml"))
    assert plan.simulation is None and plan_values(plan)["simulation"] is None
    # 1,000 of the 5,000 replicates test, a tenth of the rest validates: 113 batches of 32 train in 10 epochs, 10 times.
    assert plan.training["exchangeable"].num_steps == 10 * 10 * 113
    assert plan.training["exchangeable"].seconds == pytest.approx(100 * (113 * 0.01 + 13 * 0.001))
    assert "the study imports its data" in plan_text(plan)


@pytest.mark.parametrize(
    ("seconds", "raw", "expected"),
    [(1.0, 1e3, (600, "time")), (1e-6, 1e6, (200, "memory")), (1e5, 1e3, (1, "time")), (1e-6, 1.0, (10**6, "all"))],
)
def test_a_shard_takes_minutes_and_fits_into_memory(seconds: float, raw: float, expected: tuple[int, str]) -> None:
    simulation = simulation_section(section(num_scenarios=10**6))
    size, limit = planning._shard_size(simulation, seconds, raw)
    assert (size, limit) == expected
    assert size == 1 or size * raw <= planning.SHARD_BYTES
    assert math.log10(size) >= 0
