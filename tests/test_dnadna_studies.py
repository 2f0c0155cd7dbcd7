"""The studies that dnadna's users know, held against their definitions: one_event, and the history of Sanchez et al. (2021)."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from popdl import seeds
from popdl.config.reading import read_yaml
from popdl.config.study import Study, build_study
from popdl.priors import draw
from popdl.simulators.piecewise_constant import PiecewiseConstant

EVENT = ["one_event", "one_event_small"]
HISTORY = ["spidna_size_history", "spidna_size_history_small"]
DRAWS = 2000
P_VALUE = 1e-3


def study(root: Path, name: str) -> Study:
    return build_study(read_yaml(root / f"config/{name}.yaml"))


def draws(study: Study) -> dict[str, np.ndarray]:
    values = [draw(study.source.priors, seeds.generator(study.seed, "parameters", index)) for index in range(DRAWS)]
    return {name: np.array([value[name] for value in values]) for name in values[0]}


@pytest.mark.parametrize("name", EVENT)
def test_one_event_draws_what_dnadna_draws(root: Path, name: str) -> None:
    """Against dnadna's rules written out: a size before the change is drawn again until it lies in bounds."""
    random = np.random.default_rng(1)
    recent = 10 ** random.uniform(np.log10(5000), np.log10(50_000), DRAWS)
    event = np.zeros(DRAWS)
    while (outside := (event < 5000) | (event > 50_000)).any():
        event[outside] = (recent * 10 ** random.uniform(-1, 1, DRAWS))[outside]
    time = random.uniform(2000 / 25, 100_000 / 25, DRAWS)
    found = draws(study(root, name))
    for key, expected in {"recent_size": recent, "event_size": event, "event_time": time}.items():
        assert stats.ks_2samp(found[key], expected).pvalue > P_VALUE
    ratios = found["event_size"] / found["recent_size"], event / recent
    assert stats.ks_2samp(*ratios).pvalue > P_VALUE
    assert set(found["mutation_rate"]) == set(found["recombination_rate"]) == {1e-8}


@pytest.mark.parametrize("name", HISTORY)
def test_epochs_start_where_the_formula_says(root: Path, name: str) -> None:
    simulation = study(root, name).simulation
    assert isinstance(simulation, PiecewiseConstant)
    formula = [(np.exp(np.log(1 + 0.06 * 130_000) * i / 20) - 1) / 0.06 for i in range(1, 21)]
    np.testing.assert_allclose(simulation.starts({}), formula, rtol=1e-12)
    assert simulation.starts({})[0] > 1  # the epoch before it is the present, t_0 = 1
    sizes = {f"size_{epoch}": 10.0 + epoch for epoch in range(21)}
    (population,) = simulation.demography(sizes).populations
    assert population.initial_size == 10
    events = simulation.demography(sizes).events
    np.testing.assert_allclose([event.time for event in events], formula, rtol=1e-12)
    assert [event.initial_size for event in events] == [10 + epoch for epoch in range(1, 21)]


@pytest.mark.parametrize("name", HISTORY)
def test_sizes_are_drawn_around_the_one_before(root: Path, name: str) -> None:
    """N_0 = 10^U(1, 5); N_j = N_{j−1} · 10^U(−1, 1), drawn again until it lies in [10, 100,000]."""
    found = draws(study(root, name))
    logs = np.log10([found[f"size_{epoch}"] for epoch in range(21)])
    assert logs.min() >= 1 and logs.max() <= 5
    assert stats.kstest(logs[0], "uniform", args=(1, 4)).pvalue > P_VALUE
    for before, after in itertools.pairwise(logs):
        assert np.abs(after - before).max() <= 1
        inside = np.abs(before - 3) < 1  # here no draw can leave the bounds
        assert stats.kstest((after - before)[inside], "uniform", args=(-1, 2)).pvalue > P_VALUE
        near = before < 2  # here it can: U(−1, 1) is cut off at the bound
        cut = (after - before - (1 - before).clip(-1))[near] / (1 - (1 - before).clip(-1))[near]
        assert stats.kstest(cut, "uniform").pvalue > P_VALUE


@pytest.mark.parametrize("name", [EVENT[0], HISTORY[0]])
def test_full_size_is_that_of_the_paper(root: Path, name: str) -> None:
    whole = study(root, name)
    assert whole.source.num_haplotypes == 50
    assert whole.source.sequence_length == 2e6
    assert whole.encoding.max_sites == 400
    assert whole.networks == {"spidna": {"num_blocks": 7, "num_features": 50}}


@pytest.mark.parametrize(("small", "full"), [EVENT[::-1], HISTORY[::-1]])
def test_small_studies_ask_the_same_question(root: Path, small: str, full: str) -> None:
    one, other = study(root, small), study(root, full)
    assert one.targets == other.targets
    assert one.source.priors == other.source.priors
    assert set(one.networks) == set(other.networks) == {"spidna"}
