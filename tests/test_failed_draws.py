"""Draws from the prior that cannot be simulated: recorded, replaced by the stated rule, and few; the prior never changes silently."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from simulated import section

from popdl import priors, seeds, store
from popdl.errors import PopdlError
from popdl.exporting import export
from popdl.layout import Results
from popdl.on_the_fly import simulate_examples
from popdl.report import bookkeeping
from popdl.simulation import simulate_shard
from popdl.simulators._base import Simulator

PLUGIN = """
import numpy as np
from popdl.simulators._base import Example, Failed, Simulator

class Fails(Simulator):
    needs = ("size",)

    def simulate(self, parameters, generator):
        if parameters["size"] < 5:
            raise Failed(f"a size of {parameters['size']} is too small", reason="too small")
        if generator.uniform() < 0.3:
            raise Failed("bad luck")
        return Example(generator.integers(0, 2, (4, 10)).astype(np.int8), np.arange(4.0))
"""
SEED = 5


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Simulator]:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(PLUGIN)
    values: dict[str, Any] = {"simulator": "mine.py:Fails", "num_scenarios": 1000, "shard_size": 400, "replicates": 2}
    return lambda **changes: section(**{**values, "parameters": {"size": {"uniform": [0, 1000]}}, **changes})


@pytest.fixture(autouse=True)
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of these studies lose some per cent of their draws."""
    monkeypatch.setattr("popdl.simulation.MAX_FAILED", 0.5)


def simulated(simulation: Simulator, folder: Path) -> list[store.Shard]:
    shards = range(-(-simulation.num_examples // simulation.shard_size))
    paths = [folder / f"shard_{number}" for number in shards]
    for number, path in enumerate(paths):
        simulate_shard(simulation, seed=SEED, shard=number, output=path)
    return [store.read_shard(path, kind="simulations") for path in paths]


def sizes_of(shard: store.Shard) -> np.ndarray:
    return shard["parameters"][:, shard.attributes["parameters"].index("size")]


def test_draws_that_fail_are_recorded_and_replaced(failing: Callable[..., Simulator], tmp_path: Path) -> None:
    """Beside a naive loop over the prior's draws: the scenario has the first that can be simulated."""
    simulation = failing()
    shards = simulated(simulation, tmp_path / "simulations.zarr")
    recorded = [draw for shard in shards for draw in shard.attributes.get("failed", [])]
    sizes = np.concatenate([sizes_of(shard) for shard in shards])
    np.testing.assert_array_equal(sizes[::2], sizes[1::2])
    expected = []
    for scenario in range(1000):
        generator = seeds.generator(SEED, "parameters", scenario)
        tried = []
        while (drawn := priors.draw(simulation.priors, generator))["size"] != sizes[2 * scenario] and len(tried) < 9:
            tried.append(drawn)
        expected += [{"scenario": scenario, "parameters": parameters} for parameters in tried]
    assert [{key: draw[key] for key in ("scenario", "parameters")} for draw in recorded] == expected
    reasons = {draw["reason"] for draw in recorded if draw["parameters"]["size"] < 5}
    assert reasons == {"too small"} and sizes.min() >= 5
    # 0.5 % of the draws are too small, and three failures in a row are the end of 0.3³ = 2.7 % of the others.
    assert "bad luck" in {draw["reason"] for draw in recorded}
    assert all(shard.attributes["redrawn"]["the simulation failed: bad luck"] > 50 for shard in shards)


def test_shards_change_nothing(failing: Callable[..., Simulator], tmp_path: Path) -> None:
    """A scenario whose examples lie in two shards has the same parameters in both, and its failures are counted once."""
    few = {"num_scenarios": 60, "parameters": {"size": {"uniform": [0, 40]}}}
    whole = simulated(failing(**few, shard_size=120), tmp_path / "whole")[0]
    cut = simulated(failing(**few, shard_size=15), tmp_path / "cut")
    for name in ("parameters", "genotypes"):
        np.testing.assert_array_equal(np.concatenate([shard[name] for shard in cut]), whole[name])
    failed = [draw for shard in cut for draw in shard.attributes.get("failed", [])]
    assert failed == whole.attributes["failed"] and len(failed) > 3
    some = list(simulate_examples(failing(**few), seed=SEED, first=31, last=50))
    np.testing.assert_array_equal([example.labels for example in some], whole["parameters"][31:50])


def test_too_many_failures_end_the_job(
    failing: Callable[..., Simulator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("popdl.simulation.MAX_FAILED", 0.01)
    caplog.set_level(logging.WARNING, "popdl")
    simulation = failing(parameters={"size": {"uniform": [0, 50]}})
    with pytest.raises(
        PopdlError,
        match=r"3 draws from the prior cannot be simulated, in 200 scenarios \(at most 1% may fail.*the last with .*size = ",
    ):
        simulate_shard(simulation, seed=SEED, shard=0, output=tmp_path / "shard_0")
    assert len(caplog.messages) == 3 and "is given up" in caplog.messages[0]
    assert not (tmp_path / "shard_0").exists()


def test_a_simulator_that_always_fails_ends_at_once(failing: Callable[..., Simulator], tmp_path: Path) -> None:
    with pytest.raises(PopdlError, match=r"the last with .*size = 1.*: too small; others in their place would change"):
        simulate_shard(failing(parameters={"size": 1}, num_scenarios=3), seed=1, shard=0, output=tmp_path / "shard_0")


def test_the_report_counts_them(failing: Callable[..., Simulator], tmp_path: Path) -> None:
    results = Results(tmp_path)
    simulation = failing(num_scenarios=100, parameters={"size": {"uniform": [0, 40]}}, shard_size=100)
    shards = simulated(simulation, results.simulations(0).parent)
    failed = [draw for shard in shards for draw in shard.attributes["failed"]]
    rows = list(bookkeeping._failed(SimpleNamespace(results=results)))  # type: ignore[arg-type]
    assert sum(row["count"] for row in rows) == len(failed) > 5
    small = next(row for row in rows if "too small" in row["reason"])
    number = sum(draw["reason"] == "too small" for draw in failed)
    assert small["count"] == number and small["share"] == f"{number / (100 + len(failed)):.2%}"
    assert "cannot be simulated, others drawn in their place: too small (the first: " in small["reason"]


def test_a_program_that_fails_for_some_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exit code of its own is a failed draw; an end that came from the machine is none."""
    monkeypatch.chdir(tmp_path)
    Path("program.sh").write_text(
        'if [ "${1%.*}" -lt 20 ]; then echo "$2 is a bad seed" >&2; exit 3; fi\n'
        'if [ "${1%.*}" -gt 90 ]; then kill -9 $$; fi\n'
        "printf '//\\nsegsites: 1\\npositions: 0.5\\n0\\n1\\n'\n"
    )
    values = {"simulator": "command", "num_haplotypes": 2, "command": "bash program.sh {size} {seed}", "shard_size": 50}
    values |= {"mutation_rate": None, "recombination_rate": None, "num_scenarios": 50}
    simulation = section(**values, parameters={"size": {"uniform": [10, 80]}})
    (shard,) = simulated(simulation, tmp_path / "simulations.zarr")
    assert {draw["reason"] for draw in shard.attributes["failed"]} == {"the program ended with exit code 3"}
    assert sizes_of(shard).min() >= 20
    simulation = section(**values, parameters={"size": {"uniform": [90, 100]}})
    with pytest.raises(PopdlError, match="failed with exit code -9"):
        simulate_shard(simulation, seed=1, shard=0, output=tmp_path / "shard_0")


def test_trees_of_a_scenario_whose_first_draw_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from popdl.simulators.constant_size import ConstantSize\nfrom popdl.simulators._base import Failed\n"
        "class Mine(ConstantSize):\n    def tree_sequence(self, parameters, generator):\n"
        "        if parameters['population_size'] < 500: raise Failed('too small')\n"
        "        return super().tree_sequence(parameters, generator)\n"
    )
    simulation = section("mine.py:Mine", parameters={"population_size": {"uniform": [100, 1000]}}, replicates=2)
    shards = simulated(simulation, tmp_path / "simulations.zarr")
    assert shards[0].attributes["failed"]
    assert export(tmp_path / "simulations.zarr", tmp_path / "trees", to="trees") == 20
