"""The recombination hotspot: breakpoints and linkage against what the rates say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated import examples, section, standard_errors, trees

from popdl import priors, seeds
from popdl.errors import PopdlError
from popdl.simulators._base import Simulator

MAP = Path(__file__).parents[2] / "shared" / "data" / "maps" / "genetic_map_GRCh37_chr20.txt.gz"
PARAMETERS: dict[str, Any] = {
    "population_size": 1000,
    "hotspot": {"choice": ["absent", "present"]},
    "heat": {"uniform": [10, 100]},
    "hotspot_width": 2000,
}
LENGTH = 20_000


def hotspot(**changes: Any) -> Simulator:
    return section("hotspot", **({"parameters": PARAMETERS, "sequence_length": LENGTH} | changes))


def rates(simulation: Simulator, **parameters: float) -> Any:
    values = simulation.with_constants(parameters)
    return simulation._recombination(values, seeds.generator(1, "simulation", 0))  # type: ignore[attr-defined]


def test_breakpoints_follow_the_rates() -> None:
    """E[number of recombinations] of two haplotypes is 2 · r · E[T] · L, E[T] = 2N: inside and outside the hotspot alike.

    With two haplotypes a recombination within the time of their coalescence changes their tree unless they meet again
    unchanged, so that counts are compared between places: the shares inside and outside go as the rates do.
    """
    simulation = hotspot(num_haplotypes=2, recombination_rate=1e-7)
    inside, total = [], []
    for tree_sequence in trees(simulation, 400, hotspot=1, heat=9):
        found = tree_sequence.breakpoints(as_array=True)[1:-1]
        inside.append(np.count_nonzero((found >= 9000) & (found < 11000)))
        total.append(len(found))
    share = 9 * 2000 / (9 * 2000 + 18000)  # one half
    difference = np.array(inside) - share * np.array(total)
    assert sum(total) > 1000
    assert standard_errors(difference, 0.0) < 4


def r2_across(simulation: Simulator, **parameters: float) -> np.ndarray:
    """Mean r² of each example between sites 1 to 4 kb left and 1 to 4 kb right of the middle."""
    values = []
    for example in examples(simulation, 200, **parameters):
        frequencies = example.genotypes.mean(axis=1)
        common = (frequencies >= 0.2) & (frequencies <= 0.8)
        distance = example.positions - LENGTH / 2
        left = example.genotypes[common & (distance > -4000) & (distance < -1000)]
        right = example.genotypes[common & (distance > 1000) & (distance < 4000)]
        if len(left) and len(right):
            values.append(np.mean(np.corrcoef(left, right)[: len(left), len(left) :] ** 2))
    return np.array(values)


def test_a_hotspot_lowers_linkage_across_it() -> None:
    simulation = hotspot(num_haplotypes=20, recombination_rate=2e-8, mutation_rate=4e-7, discrete_genome=False)
    absent, present = r2_across(simulation, hotspot=0, heat=50), r2_across(simulation, hotspot=1, heat=50)
    error = math.hypot(absent.std() / math.sqrt(len(absent)), present.std() / math.sqrt(len(present)))
    assert absent.mean() - present.mean() > 4 * error


def test_an_absent_hotspot_is_a_constant_size() -> None:
    constant = examples(section(sequence_length=LENGTH), 1)[0]
    absent = examples(hotspot(), 1, hotspot=0)[0]
    np.testing.assert_array_equal(absent.positions, constant.positions)
    np.testing.assert_array_equal(absent.genotypes, constant.genotypes)


def test_heat_place_and_width() -> None:
    simulation = hotspot(parameters=PARAMETERS | {"hotspot_position": 5000})
    made = rates(simulation, hotspot=1, heat=20)
    np.testing.assert_allclose(made.position, [0, 4000, 6000, LENGTH])
    np.testing.assert_allclose(made.rate, [1e-8, 2e-7, 1e-8])
    at_the_edge = rates(simulation, hotspot=1, heat=20, hotspot_position=500)
    np.testing.assert_allclose(at_the_edge.position, [0, 1500, LENGTH])


@pytest.mark.parametrize(("background", "factor"), [(1.25e-9, 10), (1.25e-8, 1), (1e-7, 1)])
def test_a_cold_background_makes_a_hotter_hotspot(background: float, factor: float) -> None:
    """Chan et al. (2018): heat · max(1.25e-8 / background, 1)."""
    made = rates(hotspot(reference_rate=1.25e-8, recombination_rate=background), hotspot=1, heat=20)
    np.testing.assert_allclose(made.rate, np.array([1, 20 * factor, 1]) * background)


def test_labels_are_missing_without_a_hotspot() -> None:
    simulation = hotspot(parameters=PARAMETERS | {"hotspot_position": {"uniform": [5000, 15000]}})
    seen = set()
    for scenario in range(20):
        drawn = priors.draw(simulation.priors, seeds.generator(1, "parameters", scenario))
        labels = simulation.labels(drawn)
        present = drawn["hotspot"] == 1
        seen.add(present)
        for name in ("heat", "hotspot_width", "hotspot_position"):
            assert math.isnan(labels[name]) != present
    assert seen == {True, False}


@pytest.mark.skipif(not MAP.exists(), reason=f"needs the human chr20 map, {MAP}")
@pytest.mark.parametrize("background", [{"rate_from_map": str(MAP)}, {"map": str(MAP), "region": [1e6, 4e6]}])
def test_backgrounds_out_of_a_map(background: dict[str, Any]) -> None:
    simulation = hotspot(recombination_rate=background, min_sites=5)
    drawn = priors.draw(simulation.priors, seeds.generator(1, "parameters", 0))
    assert len(examples(simulation, 3, **drawn)) == 3
    generator = seeds.generator(1, "simulation", 0)
    made = simulation._recombination(drawn | {"hotspot": 1.0, "heat": 50.0}, generator)  # type: ignore[attr-defined]
    hot = made.get_cumulative_mass(11000) - made.get_cumulative_mass(9000)
    plain = simulation._recombination(drawn | {"hotspot": 0.0}, seeds.generator(1, "simulation", 0))  # type: ignore[attr-defined]
    assert hot == pytest.approx(50 * (plain.get_cumulative_mass(11000) - plain.get_cumulative_mass(9000)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hotspot": {"choice": ["no", "present"]}}, "hotspot: 'no' means nothing here; known: absent, present"),
        ({"hotspot": {"choice": [0, 1]}}, "hotspot: expected a choice among words"),
        ({"hotspot": 1}, "hotspot: expected a choice among words"),
        ({"heat": 0}, "heat: must be positive"),
        ({"hotspot_width": {"uniform": [-1, 1]}}, "hotspot_width: must be positive"),
        ({"width": 1}, "unknown .'width'"),
    ],
)
def test_bad_hotspots(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        hotspot(parameters=PARAMETERS | changes)
