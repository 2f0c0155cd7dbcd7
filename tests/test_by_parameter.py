"""Errors of test examples that are alike in a parameter."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from popdl.error_by_parameter import NUM_GROUPS, error_by_parameter, losses
from popdl.plots import style
from popdl.plots.by_parameter import parameter_panel


def table(values, squares, *, scenarios=None, task="regression", words=None):
    scenarios = np.arange(len(values)) if scenarios is None else scenarios
    return error_by_parameter(
        {"p": np.asarray(values, dtype=float)},
        {"net/0": np.asarray(squares, dtype=float)},
        scenarios=scenarios,
        task=task,
        words=words or {},
    )


def test_groups_hold_every_example_once_and_have_its_error():
    random = np.random.default_rng(1)
    values = random.uniform(0, 10, 601)
    squares = values**2  # the error of an example is its value
    found = table(values, squares)
    assert len(found) == NUM_GROUPS and found["n"].sum() == 601 and found["n"].between(95, 106).all()
    assert (found["from"].to_numpy()[1:] > found["to"].to_numpy()[:-1]).all()
    for row in found.itertuples():
        inside = values[(values >= row._4) & (values <= row.to)]
        assert len(inside) == row.n and row.middle == np.median(inside)
        assert row.value == pytest.approx(np.sqrt((inside**2).mean()))


def test_the_standard_error_is_that_of_repeated_draws_of_scenarios():
    random = np.random.default_rng(2)
    found = []
    for _ in range(300):
        # Two replicates of a scenario have the same error: half as many independent examples.
        squares = np.repeat(random.exponential(1, 200), 2)
        row = table(np.repeat([0.0, 1.0], 200), squares, scenarios=np.repeat(np.arange(200), 2)).iloc[0]
        found.append((row["value"], row["se"]))
    values, errors = np.array(found).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)


def test_examples_without_the_parameter_or_the_truth_are_left_out():
    values = np.r_[np.nan, np.arange(99.0)]
    squares = np.r_[1.0, np.nan, np.ones(98)]
    assert table(values, squares)["n"].sum() == 98
    assert table(np.full(50, np.nan), np.ones(50)).empty
    assert table(np.full(50, 3.0), np.ones(50)).empty, "what does not vary says nothing"
    assert table(values, np.full(100, np.nan)).empty


def test_few_values_have_a_group_each_and_words_their_word():
    found = table([0, 1, 1, 2], [1, 0, 1, 1], task="classification", words={"p": ["a", "b", "c"]})
    assert found["word"].tolist() == ["a", "b", "c"]
    assert found["value"].tolist() == [1, 0.5, 1]
    assert found["n"].tolist() == [1, 2, 1]
    assert set(found["measure"]) == {"accuracy"}


def test_losses_are_on_the_scale_of_the_target_and_the_shorter_way_round():
    numbers = pd.DataFrame({"t_true": [100.0, np.nan], "t": [1000.0, 1.0], "t_low": 1.0, "t_high": 1e4})
    squares = losses(numbers, "t", {"task": "regression", "scale": "log"})
    assert squares[0] == pytest.approx(1) and np.isnan(squares[1])
    angles = pd.DataFrame({"t_true": [350.0], "t": [10.0], "t_low": [0.0], "t_high": [20.0]})
    turned = losses(angles, "t", {"task": "regression", "scale": "linear", "circular": 360.0})
    assert turned[0] == pytest.approx(400)
    classes = pd.DataFrame({"t_true": ["a", "b", None], "t": ["a", "a", "a"]})
    right = losses(classes, "t", {"task": "classification"})
    assert right[:2].tolist() == [1, 0] and np.isnan(right[2])


@pytest.mark.parametrize(
    ("values", "scale", "ticks"),
    [
        (np.linspace(1, 10, 120), "linear", None),
        (10 ** np.linspace(0, 4, 120), "log", None),
        (np.repeat([5000.0, 50000.0], 60), "linear", ["5,000", "50,000"]),
    ],
)
def test_a_panel_shows_its_groups_on_an_axis_that_fits(values, scale, ticks):
    with matplotlib.rc_context(style.RC):
        ax = Figure(figsize=(2.4, 1.8)).subplots()
        found = table(values, np.ones(len(values)))
        parameter_panel(found, ax, name="Size", measure="RMSE", num_examples=150)
    assert ax.get_xscale() == scale
    [line] = [line for line in ax.get_lines() if len(line.get_xdata()) == len(found) and line.get_marker() == "o"]
    assert line.get_ydata() == pytest.approx(found["value"])
    assert "120 of 150" in ax.texts[0].get_text()
    if ticks:
        assert [label.get_text() for label in ax.get_xticklabels()] == ticks


def test_equal_values_stay_in_one_group():
    values = np.r_[np.zeros(300), np.arange(1.0, 301.0)]
    found = table(values, values == 0)
    assert found["n"].sum() == 600
    assert (found["from"].to_numpy()[1:] > found["to"].to_numpy()[:-1]).all()
    assert found["n"].iloc[0] >= 300 and found["from"].iloc[0] == 0
