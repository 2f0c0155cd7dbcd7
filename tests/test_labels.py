"""Labels beside the drawn parameters, and examples that are simulated again: against direct computation."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from simulated import examples, section, standard_errors

import popdl.simulation
from popdl import priors, seeds, store
from popdl.config.study import build_study
from popdl.errors import PopdlError
from popdl.layout import Results
from popdl.priors import Prior
from popdl.report import bookkeeping
from popdl.simulation import simulate_example, simulate_shard
from popdl.simulators._base import Redrawn, Simulator

RHO: dict[str, Any] = {
    "parameters": {"population_size": {"choice": [500, 1000, 2000]}},
    "recombination_rate": {"loguniform": [1e-8, 1e-6]},
    "derived": {"rho": "4 * population_size * recombination_rate", "ratio": "recombination_rate / mutation_rate"},
}


def shard(simulation: Simulator, folder: Path) -> store.Shard:
    simulate_shard(simulation, seed=3, shard=0, output=folder / "shard_0")
    return store.read_shard(folder / "shard_0", kind="simulations")


def labels(shard: store.Shard) -> dict[str, np.ndarray]:
    return dict(zip(shard.attributes["parameters"], shard["parameters"].T, strict=True))


def test_derived_labels_are_products_of_parameters(tmp_path: Path) -> None:
    values = labels(shard(section(**RHO), tmp_path))
    np.testing.assert_allclose(values["rho"], 4 * values["population_size"] * values["recombination_rate"], rtol=1e-12)
    np.testing.assert_allclose(values["ratio"], values["recombination_rate"] / 1e-7, rtol=1e-12)
    assert len(np.unique(values["rho"])) == 10


def test_labels_change_no_genotype(tmp_path: Path) -> None:
    plain = {key: value for key, value in RHO.items() if key != "derived"}
    without = shard(section(**plain), tmp_path / "without")
    labelled = shard(section(**RHO, computed=["pi"]), tmp_path / "with")
    for name in ("genotypes", "positions", "offsets"):
        np.testing.assert_array_equal(labelled[name], without[name])
    assert not {"derived", "computed", "min_sites", "keep_sites"} & set(without.attributes["simulation"])
    assert "redrawn" not in without.attributes


def naive_tajimas_d(genotypes: np.ndarray) -> float:
    """Tajima (1989), term by term."""
    n, sites = genotypes.shape[1], len(genotypes)
    pi = sum(2 * int(k) * (n - int(k)) / (n * (n - 1)) for k in genotypes.sum(axis=1))
    a1, a2 = sum(1 / i for i in range(1, n)), sum(1 / i**2 for i in range(1, n))
    e1 = ((n + 1) / (3 * (n - 1)) - 1 / a1) / a1
    e2 = (2 * (n**2 + n + 3) / (9 * n * (n - 1)) - (n + 2) / (a1 * n) + a2 / a1**2) / (a1**2 + a2)
    return (pi - sites / a1) / math.sqrt(e1 * sites + e2 * sites * (sites - 1))


def test_computed_labels_are_statistics_of_the_example(tmp_path: Path) -> None:
    simulation = section(discrete_genome=False, computed=["tajimas_d", "segregating_sites"], keep_sites=12)
    made = shard(simulation, tmp_path)
    values = labels(made)
    for row in range(10):
        genotypes = made["genotypes"][slice(*made["offsets"][row : row + 2])]
        assert values["tajimas_d"][row] == pytest.approx(naive_tajimas_d(genotypes))
    assert (values["segregating_sites"] == 12).all()


def test_labels_can_be_targets() -> None:
    values = section(**RHO, computed=["tajimas_d"]).model_dump(mode="json")
    targets = {"rho": {"scale": "log"}, "tajimas_d": {}}
    study = build_study({"study": "x", "simulation": values, "targets": targets, "networks": {"mlp": {}}})
    assert study.source.parameter_names[-3:] == ["rho", "ratio", "tajimas_d"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"derived": {"rho": "4 * N"}}, "derived.rho: .*N is not a parameter; known: mutation_rate, population_size"),
        ({"derived": {"rho": "4 + population_size"}}, r"joined by \* and /.* found '4 \+ population_size'"),
        ({"derived": {"rho": "4 population_size"}}, "joined by"),
        ({"derived": {"rho": "population_size *"}}, "joined by"),
        ({"derived": {"rho": "__import__('os')"}}, "joined by"),
        ({"derived": {"population_size": "2 * mutation_rate"}}, "population_size is there twice"),
        ({"computed": ["tajima_d"]}, "did you mean 'tajimas_d'"),
        ({"min_sites": 20, "keep_sites": 10}, r"keep_sites: 10 is less than min_sites \(20\)"),
        ({"min_sites": -1}, "min_sites: .*of at least 0"),
    ],
)
def test_bad_labels(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        section(**changes)


def test_division_by_zero_is_missing() -> None:
    simulation = section(mutation_rate=0, derived={"ratio": "recombination_rate / mutation_rate"})
    assert math.isnan(simulation.labels(simulation.with_constants({}))["ratio"])


def test_examples_with_few_sites_are_simulated_again(tmp_path: Path) -> None:
    plain = shard(section(), tmp_path / "plain")
    threshold = int(np.median(np.diff(plain["offsets"])))
    conditioned = shard(section(min_sites=threshold), tmp_path / "conditioned")
    assert np.diff(conditioned["offsets"]).min() >= threshold
    ((reason, number),) = conditioned.attributes["redrawn"].items()
    assert reason == "fewer sites than simulation.min_sites asks for" and number >= 4
    np.testing.assert_array_equal(conditioned["parameters"], plain["parameters"])
    enough = np.diff(plain["offsets"]) >= threshold + 2  # nearly always: sites with three alleles do not count
    for row in np.flatnonzero(enough):
        np.testing.assert_array_equal(
            conditioned["positions"][slice(*conditioned["offsets"][row : row + 2])],
            plain["positions"][slice(*plain["offsets"][row : row + 2])],
        )


def test_nothing_simulated_again_is_counted_too(tmp_path: Path) -> None:
    made = shard(section(min_sites=1), tmp_path)
    assert made.attributes["redrawn"] == {"fewer sites than simulation.min_sites asks for": 0}


def test_the_report_counts_what_was_simulated_again(tmp_path: Path) -> None:
    results = Results(tmp_path)
    simulation = section(min_sites=14, shard_size=5)
    redrawn = 0
    for number in range(2):
        simulate_shard(simulation, seed=3, shard=number, output=results.simulations(number))
        attributes = store.read_shard(results.simulations(number), kind="simulations").attributes
        redrawn += sum(attributes["redrawn"].values())
    (row,) = bookkeeping._redrawn(SimpleNamespace(results=results))  # type: ignore[arg-type]
    assert redrawn > 0
    assert row["reason"] == "simulated again: fewer sites than simulation.min_sites asks for"
    assert row["count"] == redrawn and row["share"] == f"{redrawn / (10 + redrawn):.2%}"


def test_sites_kept_are_drawn_at_random() -> None:
    """Out of a genealogy's mutations, any subset of a given size is as likely: the spectrum stays θ / i (Fu 1995)."""
    simulation = section(discrete_genome=False, keep_sites=3, mutation_rate=1e-6)
    made = examples(simulation, 300)
    assert all(len(example.positions) == 3 and (np.diff(example.positions) > 0).all() for example in made)
    first = np.array([[example.positions[0], example.positions[2]] for example in made])
    assert (standard_errors(first, np.array([2500, 7500])) < 4).all()  # order statistics of three uniform positions


def test_parameters_that_never_have_enough_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(popdl.simulation, "MAX_DRAWS", 20)
    simulation = section(mutation_rate=0, min_sites=1, sequence_length=10, num_haplotypes=2)
    values = simulation.with_constants({})
    with pytest.raises(PopdlError, match=r"none of 20 draws with mutation_rate = 0, .*fewer sites .*20 times"):
        simulate_example(simulation, values, seeds.generator(1, "simulation", 0))


PLUGIN = """
import numpy as np
from popdl.simulators._base import Example, Redrawn, Simulator

class Mine(Simulator):
    def simulate(self, parameters, generator):
        if generator.uniform() < 0.5:
            raise Redrawn("tails")
        return Example(np.eye(4, 10, dtype=np.int8), np.arange(4.0))
"""


def test_a_simulator_may_ask_for_another_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(PLUGIN)
    simulation = section(simulator="mine.py:Mine", parameters={}, num_scenarios=200)
    redrawn = shard(simulation, tmp_path).attributes["redrawn"]
    assert issubclass(Redrawn, Exception)
    assert abs(redrawn["tails"] - 200) < 4 * math.sqrt(400)  # negative binomial: mean 200, variance 400


def test_over_and_plus() -> None:
    """Flagel et al. (2019) divide times by 4 N0 and hand them to ms, which counts in 4 · 10⁴: t = U · 10⁴ / N0 generations."""
    drawn_from = {
        "size_0": Prior.model_validate({"uniform": [100, 40000]}),
        "time_1": Prior.model_validate({"uniform": [1.0e6, 3.5e7], "over": "size_0"}),
        "time_2": Prior.model_validate({"uniform": [1.0e4, 3.5e7], "over": "size_0", "plus": "time_1"}),
    }
    assert drawn_from["time_2"].lower_bound is None and drawn_from["time_2"].is_random
    for name, prior in drawn_from.items():
        assert Prior.model_validate(prior.model_dump()) == prior, name
    for scenario in range(50):
        values = priors.draw(drawn_from, seeds.generator(1, "parameters", scenario))
        assert 1e6 <= values["time_1"] * values["size_0"] <= 3.5e7
        assert 1e4 <= (values["time_2"] - values["time_1"]) * values["size_0"] <= 3.5e7 * (1 + 1e-12)


def test_nothing_is_divided_by_zero() -> None:
    drawn_from = {"a": Prior.model_validate(0), "b": Prior.model_validate({"uniform": [1, 2], "over": "a"})}
    with pytest.raises(PopdlError, match="over: a is 0 in a draw"):
        priors.draw(drawn_from, seeds.generator(1, "parameters", 0))


def test_unknown_references() -> None:
    with pytest.raises(PopdlError, match="population_size: plus: 'size_7' is not a parameter that is drawn before it"):
        section(parameters={"population_size": {"uniform": [1, 2], "plus": "size_7"}})


def rate_map(path: Path) -> Path:
    lines = ["chr position rate map", "chr1 1000 1 0", "chr1 4000 0 0.003", "chr1 9000 5 0.003", "chr1 10000 0 0.008"]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def test_rates_out_of_a_map(tmp_path: Path) -> None:
    """3 kb at 1 cM/Mb and 1 kb at 5 cM/Mb; the 5 kb without recombination are left out."""
    path = rate_map(tmp_path / "map.txt.gz")
    simulation = section(recombination_rate={"rate_from_map": str(path)}, derived={"rho": "4 * recombination_rate"})
    assert simulation.input_files() == [path]
    assert section(**simulation.model_dump(mode="json")) == simulation
    drawn = np.array(
        [
            priors.draw(simulation.priors, seeds.generator(1, "parameters", scenario))["recombination_rate"]
            for scenario in range(400)
        ]
    )
    assert set(np.round(drawn * 1e8, 9)) == {1, 5}
    assert standard_errors(drawn == drawn.min(), 0.75) < 4


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["chr1 1 0 0", "chr1 2 0 0"], "no rate of the recombination map is above 0"),
        ([], "cannot read the recombination map"),
    ],
)
def test_maps_without_rates(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "map.txt"
    path.write_text("\n".join(lines))
    prior = Prior.model_validate({"rate_from_map": str(path)})
    with pytest.raises(PopdlError, match=message):
        prior.sample(seeds.generator(1, "parameters", 0))


def test_epochs_with_drawn_times() -> None:
    """Three epochs; E[T_2] of two haplotypes over epochs of sizes N_i (Hudson 1990), times their mutations."""
    simulation = section(
        "piecewise_constant",
        times=["time_1", "time_2"],
        num_haplotypes=2,
        recombination_rate=1e-7,
        discrete_genome=False,
        parameters={"size_*": 1000, "size_1": 200, "time_1": 500, "time_2": {"uniform": [100, 300], "plus": "time_1"}},
    )
    parameters = {"time_2": 700.0}
    sites = np.array([len(example.positions) for example in examples(simulation, 300, **parameters)])
    first, second = math.exp(-500 / 2000), math.exp(-500 / 2000 - 200 / 400)
    expected = 2000 * (1 - first) + 400 * (first - second) + 2000 * second
    assert standard_errors(sites, 2 * 1e-7 * 1e4 * expected) < 4
    drawn = priors.draw(simulation.priors, seeds.generator(1, "parameters", 0))
    assert 600 <= drawn["time_2"] <= 800


def test_times_out_of_order() -> None:
    simulation = section(
        "piecewise_constant", times=["early", "late"], parameters={"size_*": 1000, "early": 500, "late": 400}
    )
    with pytest.raises(PopdlError, match=r"rising order, found .'early', 'late'. = .500.0, 400.0. in a draw"):
        examples(simulation, 1)
