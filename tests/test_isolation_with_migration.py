"""Splits, migration and introgression: coalescence times between populations against theory."""

from __future__ import annotations

import math
from typing import Any

import msprime
import numpy as np
import pytest
from simulated import examples, section, standard_errors, trees

from popdl import priors, seeds
from popdl.errors import PopdlError
from popdl.simulators._base import Simulator

SIZE, SPLIT = 500, 1000
PARAMETERS: dict[str, Any] = {"size_A": SIZE, "size_B": SIZE, "size_ancestral": 2000, "split_time_ancestral": SPLIT}
PULSES = PARAMETERS | {
    "introgression": {"choice": ["none", "A_to_B", "B_to_A"]},
    "pulse_time": {"uniform": [0.05, 0.5], "times": "split_time_ancestral"},
    "pulse_proportion": {"uniform": [0.05, 0.5]},
}
NONE, A_TO_B, B_TO_A = range(3)
THREE: dict[str, Any] = {
    "num_haplotypes": {"A": 2, "B": 2, "C": 2},
    "splits": {"ABC": ["AB", "C", "ghost"], "AB": ["A", "B"]},
    "parameters": {f"size_{name}": SIZE for name in ("A", "B", "C", "ghost", "AB", "ABC")}
    | {"split_time_AB": 300, "split_time_ABC": 900},
}


def model(**changes: Any) -> Simulator:
    values = {
        "num_haplotypes": {"A": 2, "B": 2},
        "parameters": PARAMETERS,
        "recombination_rate": 0,
        "sequence_length": 100,
    }
    return section("isolation_with_migration", **(values | changes))


def times(simulation: Simulator, number: int, *pairs: tuple[int, int], **parameters: float) -> list[np.ndarray]:
    """Coalescence times of pairs of haplotypes: an array for each pair."""
    firsts = [tree_sequence.first() for tree_sequence in trees(simulation, number, **parameters)]
    return [np.array([tree.tmrca(*pair) for tree in firsts]) for pair in pairs]


def within(size: float, until: float, older: float) -> float:
    """Expected coalescence time of two haplotypes of one population that joins one of another size."""
    later = math.exp(-until / (2 * size))
    return 2 * size * (1 - later) + 2 * older * later


def test_isolation() -> None:
    """E[T] between populations is the split time plus 2N of the ancestor (e.g. Wakeley 2009)."""
    between, inside = times(model(), 500, (0, 2), (0, 1))
    assert between.min() > SPLIT
    assert standard_errors(between, SPLIT + 2 * 2000) < 4
    assert standard_errors(inside, within(SIZE, SPLIT, 2000)) < 4


def test_haplotypes_are_in_the_order_of_the_config() -> None:
    for counts in ({"A": 2, "B": 4}, {"B": 4, "A": 2}):
        simulated = trees(model(num_haplotypes=counts), 1)[0]
        names = [simulated.population(simulated.node(node).population).metadata["name"] for node in simulated.samples()]
        assert names == [name for name, count in counts.items() for _ in range(count)]


@pytest.mark.parametrize(("kind", "receiver"), [(A_TO_B, 2), (B_TO_A, 0)])
def test_a_pulse_brings_ancestry_of_its_source(kind: int, receiver: int) -> None:
    """A_to_B: with probability `pulse_proportion` a haplotype of B was in A at the time of the pulse, and may meet A's there.

    Within the receiver, pairs meet before the split only if both or none came with the pulse; within the source nothing changes.
    """
    values = {"introgression": kind, "pulse_time": 100, "pulse_proportion": 0.4}
    simulation = model(parameters=PULSES)
    source = 2 - receiver
    pairs = [(0, 2), (source, source + 1), (receiver, receiver + 1)]
    between, inside_source, inside_receiver = times(simulation, 400, *pairs, **values)
    met = 1 - math.exp(-(SPLIT - 100) / (2 * SIZE))
    assert standard_errors(between < SPLIT, 0.4 * met) < 4
    assert between.min() > 100
    assert standard_errors(inside_source, within(SIZE, SPLIT, 2000)) < 4
    early = 1 - math.exp(-100 / (2 * SIZE))
    together = early + (1 - early) * (0.4**2 + 0.6**2) * met
    assert standard_errors(inside_receiver < SPLIT, together) < 4


def test_without_a_pulse_there_is_none() -> None:
    assert (
        times(model(parameters=PULSES), 100, (0, 2), introgression=NONE, pulse_time=1, pulse_proportion=1)[0].min()
        > SPLIT
    )


@pytest.mark.parametrize(("name", "receiver"), [("migration_A_to_B", 2), ("migration_B_to_A", 0)])
def test_migration_moves_ancestry_one_way(name: str, receiver: int) -> None:
    """Backwards in time only the receiver's lineages move: that of the other stays until the split, and they meet in the source."""
    rate = 1e-3
    simulation = model(parameters=PARAMETERS | {name: rate})
    source = 2 - receiver
    between, inside_source = times(simulation, 400, (0, 2), (source, source + 1))
    coal = 1 / (2 * SIZE)
    # P(moved by u, then met by the split): the sum of an exponential of each rate; the two rates are equal here.
    assert coal == rate
    expected = 1 - math.exp(-rate * SPLIT) * (1 + rate * SPLIT)
    assert standard_errors(between < SPLIT, expected) < 4
    assert standard_errors(inside_source, within(SIZE, SPLIT, 2000)) < 4


def test_symmetric_migration_of_two_old_populations() -> None:
    """E[T] within a population is 2 · 2N with any symmetric migration between two populations (Slatkin 1987)."""
    rates = {"migration_A_to_B": 1e-2, "migration_B_to_A": 1e-2}
    simulation = model(parameters=PARAMETERS | rates | {"split_time_ancestral": 1e6})
    inside, between = times(simulation, 400, (0, 1), (0, 2))
    assert standard_errors(inside, 4 * SIZE) < 4
    assert standard_errors(between, 4 * SIZE + 1 / (2 * 1e-2)) < 4


def test_three_populations_and_a_ghost() -> None:
    simulation = model(**THREE)
    assert simulation.populations() == ["A", "B", "C", "ghost"]  # type: ignore[attr-defined]
    sisters, cousins = times(simulation, 300, (0, 2), (0, 4))
    assert standard_errors(sisters, 300 + 2 * SIZE) < 4
    assert cousins.min() > 900
    pulse = {"introgression": {"choice": ["none", "ghost_to_C"]}, "pulse_time": 100, "pulse_proportion": 1}
    (ghosts, outside) = times(
        model(**(THREE | {"parameters": THREE["parameters"] | pulse})), 300, (4, 5), (0, 4), introgression=1
    )
    assert standard_errors(ghosts, 2 * SIZE) < 4
    assert outside.min() > 900
    ancient = model(**(THREE | {"parameters": THREE["parameters"] | {"migration_C_to_AB": 5e-2}}))
    (met,) = times(ancient, 300, (0, 4))
    assert met.min() > 300
    assert standard_errors(met, 300 + 20 + 2 * SIZE) < 4  # moves to C within 20 generations, meets there or in ABC


def test_it_is_the_demes_model() -> None:
    """The same model through demes, which speaks forwards in time, has the same coalescence rates."""
    import demes

    builder = demes.Builder()
    builder.add_deme("ancestral", epochs=[{"start_size": 2000, "end_time": SPLIT}])
    for name in "AB":
        builder.add_deme(name, ancestors=["ancestral"], epochs=[{"start_size": SIZE}])
    builder.add_migration(source="A", dest="B", rate=1e-3)
    builder.add_pulse(sources=["B"], dest="A", time=200, proportions=[0.3])
    expected = msprime.Demography.from_demes(builder.resolve()).debug()
    parameters = PULSES | {"migration_A_to_B": 1e-3}
    simulation = model(parameters=parameters)
    values = simulation.with_constants({"introgression": B_TO_A, "pulse_time": 200, "pulse_proportion": 0.3})
    found = simulation.demography(values).debug()  # type: ignore[attr-defined]
    steps = [0, 100, 199, 201, 500, 999, 1001, 5000]
    for samples in ({"A": 2}, {"B": 2}, {"A": 1, "B": 1}):
        np.testing.assert_allclose(
            found.coalescence_rate_trajectory(steps, samples)[0],
            expected.coalescence_rate_trajectory(steps, samples)[0],
            rtol=1e-5,  # both integrate numerically
        )


def test_labels_are_missing_without_a_pulse() -> None:
    simulation = model(parameters=PULSES)
    for scenario in range(12):
        drawn = priors.draw(simulation.priors, seeds.generator(1, "parameters", scenario))
        labels = simulation.labels(drawn)
        for name in ("pulse_time", "pulse_proportion"):
            assert math.isnan(labels[name]) == (drawn["introgression"] == NONE)
        assert len(examples(simulation, 1, **drawn)) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_haplotypes": 10}, "give a number for each population"),
        ({"num_haplotypes": {"A": 2, "C": 2}}, "missing .'size_C'.*unknown .'size_B'"),
        ({"parameters": PARAMETERS | {"migration_A_to_C": 0.1}}, "unknown .'migration_A_to_C'"),
        ({"parameters": PARAMETERS | {"migration_A_to_B": {"uniform": [-1, 1]}}}, "migration_A_to_B: cannot be negative"),
        ({"parameters": PARAMETERS | {"size_A": 0}}, "size_A: must be positive"),
        ({"parameters": PULSES | {"introgression": {"choice": ["none", "A_to_C"]}}}, "'A_to_C' means nothing here; did you mean"),
        ({"parameters": PARAMETERS | {"introgression": {"choice": ["none", "A_to_B"]}}}, "missing .'pulse_time', 'pulse_proportion'"),
        (THREE | {"splits": {"AB": ["A", "B"], "CD": ["C", "D"]}}, "one ancestor of all populations, found .'AB', 'CD'"),
        (THREE | {"splits": {"AB": ["A", "B"], "ABC": ["A", "C"]}}, "A comes out of two splits"),
        (THREE | {"splits": {"AB": ["A", "ABC"], "ABC": ["AB", "C"]}}, "one ancestor of all populations, found a circle"),
        (THREE | {"splits": {"AB": ["A"]}}, "splits.AB: expected at least two populations"),
        (THREE | {"num_haplotypes": {"AB": 2, "C": 2}}, "unknown population AB; known: A, B, C, ghost"),
    ],
)  # fmt: skip
def test_bad_models(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        model(**changes)


@pytest.mark.parametrize(
    ("simulation", "values", "message"),
    [
        (model(parameters=PULSES), {"introgression": A_TO_B, "pulse_time": 1000, "pulse_proportion": 0.1}, "split_time_ancestral must be longer ago than pulse_time"),
        (model(**THREE), {"split_time_AB": 900}, "split_time_ABC must be longer ago than split_time_AB, but a draw from the prior is 900 and 900"),
        (model(**(THREE | {"parameters": THREE["parameters"] | {"migration_A_to_AB": 0.1}})), {}, "A and AB never lived at the same time"),
        (model(parameters=PULSES), {"introgression": A_TO_B, "pulse_time": 10, "pulse_proportion": 2}, "msprime refuses .*pulse_proportion = 2"),
    ],
)  # fmt: skip
def test_draws_that_cannot_be(simulation: Simulator, values: dict[str, float], message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        trees(simulation, 1, **values)
