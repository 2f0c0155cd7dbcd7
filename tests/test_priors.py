"""Priors: what they draw, in which order, and which ones are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from popdl import priors, seeds
from popdl.errors import PopdlError
from popdl.priors import Prior


def prior(value: object) -> Prior:
    return Prior.model_validate(value)


def draws(value: object, number: int = 4000) -> np.ndarray:
    generator = seeds.generator(1, "parameters", 0)
    return np.array([prior(value).sample(generator) for _ in range(number)])


def within_4_standard_errors(sample: np.ndarray, mean: float) -> bool:
    return abs(sample.mean() - mean) < 4 * sample.std(ddof=1) / math.sqrt(len(sample))


def test_uniform_and_loguniform() -> None:
    sample = draws({"uniform": [80, 4000]})
    assert sample.min() >= 80 and sample.max() <= 4000
    assert within_4_standard_errors(sample, 2040)
    sample = draws({"loguniform": [5000, 50000]})
    assert sample.min() >= 5000 and sample.max() <= 50000
    assert within_4_standard_errors(np.log(sample), (math.log(5000) + math.log(50000)) / 2)


def test_constant() -> None:
    assert set(draws(1e-8, 10)) == {1e-8}
    assert not prior(1e-8).is_random


def test_choice_of_numbers_and_of_words() -> None:
    assert set(draws({"choice": [1, 2.5]}, 100)) == {1.0, 2.5}
    words = {"choice": ["neutral", "sweep", "bottleneck"]}
    assert set(draws(words, 100)) == {0.0, 1.0, 2.0}
    assert prior(words).classes == ["neutral", "sweep", "bottleneck"]


@pytest.mark.parametrize("arguments", [[2.0, 3.0], {"loc": 2.0, "scale": 3.0}])
def test_distributions_of_scipy(arguments: object) -> None:
    sample = draws({"norm": arguments}, 500)
    assert within_4_standard_errors(sample, 2.0)
    assert 2.5 < sample.std() < 3.5


def test_times_and_within() -> None:
    """The default study's prior: event_size = recent_size × 10^U(−1, 1), redrawn into [5,000, 50,000]."""
    study = {
        "event_size": prior({"loguniform": [0.1, 10], "times": "recent_size", "within": [5000, 50000]}),
        "recent_size": prior({"loguniform": [5000, 50000]}),
    }
    assert priors.drawing_order(study) == ["recent_size", "event_size"]
    values = [priors.draw(study, seeds.generator(1, "parameters", scenario)) for scenario in range(2000)]
    assert list(values[0]) == ["event_size", "recent_size"]
    events = np.array([value["event_size"] for value in values])
    recents = np.array([value["recent_size"] for value in values])
    assert events.min() >= 5000 and events.max() <= 50000
    assert (np.abs(np.log10(events / recents)) <= 1 + 1e-12).all()
    # Given the recent size, the redrawn event size is loguniform on the whole of [5,000, 50,000].
    assert within_4_standard_errors(np.log(events), (math.log(5000) + math.log(50000)) / 2)
    assert abs(np.corrcoef(np.log(events), np.log(recents))[0, 1]) < 4 / math.sqrt(len(values))


def test_draws_are_reproducible() -> None:
    study = {"size": prior({"uniform": [0, 1]})}
    first, again, other = (priors.draw(study, seeds.generator(1, "parameters", index)) for index in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_bound_that_is_never_met() -> None:
    study = {"size": prior({"uniform": [0, 1], "within": [2, 3]})}
    with pytest.raises(PopdlError, match=r"parameter size: no draw out of 10000 fell within \[2, 3\]"):
        priors.draw(study, seeds.generator(1, "parameters", 0))


@pytest.mark.parametrize("names", [{"a": "b", "b": "a"}, {"a": "a"}, {"a": "unknown"}])
def test_circles_and_unknown_references(names: dict[str, str]) -> None:
    study = {name: prior({"uniform": [0, 1], "times": other}) for name, other in names.items()}
    with pytest.raises(ValueError, match="is not a parameter that is drawn before it"):
        priors.drawing_order(study)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"uniform": [2, 1]}, r"low must be below high, found \[2, 1\]"),
        ({"uniform": [1]}, r"uniform takes \[low, high\]"),
        ({"uniform": [0, math.inf]}, "should be a finite number"),
        ({"loguniform": [0, 1]}, "low must be positive"),
        ({"choice": ["a"]}, "at least two different values"),
        ({"choice": ["a", "a"]}, "at least two different values"),
        ({"lognormal": [1, 2]}, "'lognormal' is not a distribution"),
        ({"norm": [1, -2]}, "scipy.stats cannot use the arguments"),
        ({"norm": {"sigma": 1}}, "scipy.stats refuses the arguments"),
        ({"uniform": [0, 1], "within": [2, 1]}, "within: the lower bound must be below"),
        ({"uniform": [0, 1], "norm": [0, 1]}, "expected exactly one distribution"),
        ("uniform", "expected a number or a prior"),
        (True, "expected a number or a prior"),
    ],
)
def test_bad_priors(value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        prior(value)


@pytest.mark.parametrize(
    "value", [3.0, {"uniform": [0.0, 1.0]}, {"loguniform": [0.1, 10.0], "times": "size", "within": [1.0, 2.0]}]
)
def test_written_as_read(value: object) -> None:
    assert prior(value).model_dump() == value
    assert prior(prior(value).model_dump()) == prior(value)
