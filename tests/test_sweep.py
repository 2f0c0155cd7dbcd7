"""Selective sweeps: coalescence times against a naive Wright-Fisher model, and what cannot be simulated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated import examples, section, trees

from popdl import priors, seeds, simulation, store
from popdl.errors import PopdlError
from popdl.simulators._base import Simulator

SIZE, SELECTION, RATE, LENGTH = 1000, 0.05, 1e-6, 10_000
REPLICATES = 150
PARAMETERS: dict[str, Any] = {
    "sweep": {"choice": ["neutral", "hard", "linked", "partial", "old"]},
    "size_0": SIZE,
    "selection_coefficient": SELECTION,
    "distance": 0,
    "linked_distance": {"uniform": [2000, 5000], "times": "side"},
    "side": {"choice": [-1, 1]},
    "end_frequency": {"uniform": [0.2, 0.9]},
    "age": {"uniform": [0, 500]},
}
NEUTRAL, HARD, LINKED, PARTIAL, OLD = range(5)


def sweep(**changes: Any) -> Simulator:
    return section(
        "sweep", **({"parameters": PARAMETERS, "sequence_length": LENGTH, "recombination_rate": RATE} | changes)
    )


def path(end: float, generator: np.random.Generator) -> list[float]:
    """Frequencies, back in time, of a new mutation that reached ``end`` in a Wright-Fisher population; fitness 1, 1 + s/2, 1 + s."""
    while True:
        frequencies = [1 / (2 * SIZE)]
        while 0 < frequencies[-1] < end:
            x = frequencies[-1]
            selected = x * (1 + SELECTION / 2 + x * SELECTION / 2) / (1 + SELECTION * x)
            frequencies.append(generator.binomial(2 * SIZE, selected) / (2 * SIZE))
        if frequencies[-1] > 0:
            return frequencies[::-1]


def naive_time(end: float, age: float, recombination: float, generator: np.random.Generator) -> float:
    """Generations until two haplotypes share an ancestor at a site that recombines with the selected one at this rate."""
    early = generator.exponential(2 * SIZE)
    if early < age:
        return early
    frequencies = path(end, generator)
    carries = [generator.uniform() < frequencies[0] for _ in range(2)]
    for generation, x in enumerate(frequencies):
        if carries[0] == carries[1]:
            share = x if carries[0] else 1 - x
            if generator.uniform() * 2 * SIZE * share < 1:
                return age + generation
        for lineage in range(2):
            other = 1 - x if carries[lineage] else x
            if generator.uniform() < recombination * other:
                carries[lineage] = not carries[lineage]
    return age + len(frequencies) + generator.exponential(2 * SIZE)


@pytest.mark.parametrize(
    ("kind", "distance", "end", "age"),
    [
        (HARD, 0, 1 - 1e-9, 0),
        (HARD, -3000, 1 - 1e-9, 0),
        (HARD, 6000, 1 - 1e-9, 0),  # beside the window
        (LINKED, 3000, 1 - 1e-9, 0),
        (PARTIAL, 0, 0.9, 0),
        (OLD, 0, 1 - 1e-9, 400),
    ],
)
def test_coalescence_follows_the_sweep(kind: int, distance: float, end: float, age: float) -> None:
    """Mean coalescence time of two haplotypes in the middle of the window: its reduction is that of diversity (Maynard Smith & Haigh 1974)."""
    values = {"distance": distance, "linked_distance": distance, "end_frequency": end, "age": age, "side": 1.0}
    found = np.array(
        [
            tree_sequence.at(LENGTH / 2).tmrca(0, 1)
            for tree_sequence in trees(sweep(num_haplotypes=2), REPLICATES, sweep=kind, **values)
        ]
    )
    generator = np.random.default_rng(1)
    expected = np.array([naive_time(end, age, RATE * abs(distance), generator) for _ in range(REPLICATES)])
    error = math.hypot(found.std(ddof=1), expected.std(ddof=1)) / math.sqrt(REPLICATES)
    assert abs(found.mean() - expected.mean()) < 4 * error
    if distance == 0:
        assert found.mean() < 2 * SIZE - 4 * error  # far less than without a sweep


def test_selection_is_msprimes() -> None:
    """Fixation takes 4 (ln(2Ns) + 0.577) / s generations where heterozygotes have 1 + s/2 (Hermisson & Pennings 2005); discoal's s would halve it."""
    simulated = trees(sweep(num_haplotypes=20, recombination_rate=0), 200, sweep=HARD, distance=0)
    ages = np.array([tree_sequence.first().tmrca(*range(20)) for tree_sequence in simulated])
    duration = 4 * (math.log(2 * SIZE * SELECTION) + 0.577) / SELECTION
    assert 0.85 * duration < ages.mean() < duration  # the common ancestor is a little younger than the mutation


def test_neutral_is_a_constant_size() -> None:
    constant = examples(section(sequence_length=LENGTH, recombination_rate=RATE), 1)[0]
    neutral = examples(sweep(), 1, sweep=NEUTRAL)[0]
    np.testing.assert_array_equal(neutral.positions, constant.positions)
    np.testing.assert_array_equal(neutral.genotypes, constant.genotypes)


def test_a_window_beside_the_sweep_keeps_its_length() -> None:
    for distance in (-2e4, 2e4):
        simulated = trees(sweep(), 2, sweep=LINKED, linked_distance=distance)
        assert [tree_sequence.sequence_length for tree_sequence in simulated] == [LENGTH, LENGTH]
        assert all(tree_sequence.num_samples == 10 for tree_sequence in simulated)


def test_smck_and_real_maps(tmp_path: Path) -> None:
    lines = ["chr position rate map", "chr1 0 1 0", "chr1 20000 2 0.02", "chr1 50000 0 0.08"]
    (tmp_path / "map.txt").write_text("\n".join(lines))
    simulated = sweep(ancestry_model="smck", recombination_rate={"map": str(tmp_path / "map.txt")})
    for distance in (0.0, 8000.0):
        assert examples(simulated, 1, sweep=HARD, distance=distance)[0].genotypes.shape[1] == 10


def test_labels_are_missing_where_they_mean_nothing() -> None:
    simulated = sweep()
    used = {
        NEUTRAL: set(),
        HARD: {"selection_coefficient", "distance"},
        LINKED: {"selection_coefficient", "linked_distance", "side"},
        PARTIAL: {"selection_coefficient", "distance", "end_frequency"},
        OLD: {"selection_coefficient", "distance", "age"},
    }
    drawn = priors.draw(simulated.priors, seeds.generator(1, "parameters", 0))
    for kind, names in used.items():
        labels = simulated.labels(drawn | {"sweep": kind})
        known = {name for name, value in labels.items() if not math.isnan(value)}
        assert known == names | {"sweep", "size_0", "mutation_rate", "recombination_rate"}


def test_a_change_of_size_during_the_sweep_is_counted(tmp_path: Path) -> None:
    """Fixation takes about 415 generations, so that a change at 415 falls into about half of the sweeps."""
    parameters = PARAMETERS | {"sweep": {"choice": ["neutral", "hard"]}, "size_1": 2000}
    for name in ("linked_distance", "side", "end_frequency", "age"):
        del parameters[name]
    simulated = sweep(parameters=parameters, times=[415], num_scenarios=30)
    simulation.simulate_shard(simulated, seed=1, shard=0, output=tmp_path / "shard_0")
    redrawn = store.read_shard(tmp_path / "shard_0", kind="simulations").attributes["redrawn"]
    assert redrawn["the population's size changes during the sweep, which msprime cannot simulate"] > 0


def test_a_sweep_that_can_never_be_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "MAX_DRAWS", 5)
    simulated = sweep(parameters=PARAMETERS | {"size_1": 2000}, times=[50])
    assert len(examples(simulated, 1, sweep=NEUTRAL)) == 1
    with pytest.raises(PopdlError, match=r"none of 5 draws .*size changes during the sweep.*\(5 times\)"):
        examples(simulated, 1, sweep=HARD)


def test_sizes_change_after_and_before_the_sweep() -> None:
    simulated = sweep(parameters=PARAMETERS | {"size_1": 2000, "size_2": 500}, times=[50, 20_000])
    values = simulated.with_constants({})
    assert [simulated._size_at(values, time) for time in (0, 49, 51, 3e4)] == [1000, 1000, 2000, 500]  # type: ignore[attr-defined]
    assert len(examples(simulated, 1, sweep=OLD, age=100, distance=0)) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": PARAMETERS | {"start_frequency": 0.1}}, "start_frequency: msprime cannot simulate a sweep from standing variation.*simulator: command"),
        ({"parameters": PARAMETERS | {"sweep": {"choice": ["neutral", "soft"]}}}, "soft: msprime cannot simulate a sweep from standing"),
        ({"parameters": PARAMETERS | {"sweep": {"choice": ["neutral", "strong"]}}}, "'strong' means nothing here; known: hard, linked"),
        ({"parameters": PARAMETERS | {"selection_coefficient": {"uniform": [0, 0.1]}}}, "selection_coefficient: must be positive"),
        ({"parameters": PARAMETERS | {"age": {"uniform": [-1, 1]}}}, "age: must be positive"),
        ({"parameters": {"sweep": {"choice": ["neutral", "old"]}, "size_0": 10}}, "missing .'selection_coefficient', 'distance', 'age'"),
        ({"num_haplotypes": {"CEU": 4, "YRI": 6}}, "unknown population CEU, YRI"),
        ({"ploidy": 1}, "ploidy: selection acts on diploid genotypes here, found 1"),
    ],
)  # fmt: skip
def test_bad_sweeps(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        sweep(**changes)


def test_an_end_that_cannot_be_reached() -> None:
    with pytest.raises(PopdlError, match=r"msprime refuses .*end_frequency = 0.0001"):
        examples(sweep(), 1, sweep=PARTIAL, end_frequency=1e-4, distance=0)
