"""Inferred against true size through time: the numbers behind the figure, and what it draws."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from popdl.config.reading import read_yaml
from popdl.config.study import build_study
from popdl.plots import style
from popdl.plots.size_history import (
    chosen_examples,
    epoch_starts,
    error_by_epoch,
    error_panel,
    history_panel,
    history_table,
)

STARTS = [0.0, 30.0, 1000.0]
DESCRIBED = {"unit": "individuals", "low": 10.0, "high": 1e5}


@pytest.fixture
def predictions() -> pd.DataFrame:
    """Example i is wrong by a factor of 10^(i/100) in every epoch; in epoch 2 by twice that exponent."""
    true = 10 ** np.random.default_rng(1).uniform(2, 4, (101, 3))
    wrong = 10 ** (np.arange(101)[:, None] * [1, -1, 2] / 100)
    columns = {"example": np.arange(101) + 500.0}
    for epoch in range(3):
        predicted = true[:, epoch] * wrong[:, epoch]
        name = f"size_{epoch}"
        columns |= {f"{name}_true": true[:, epoch], name: predicted}
        columns |= {f"{name}_low": predicted / 2, f"{name}_high": predicted * 2}
    return pd.DataFrame(columns)


def values(root: Path) -> dict:
    return read_yaml(root / "config" / "spidna_size_history.yaml")


def test_only_a_whole_size_history_has_this_figure(root: Path) -> None:
    starts = epoch_starts(build_study(values(root)))
    assert starts is not None and len(starts) == 21 and starts[0] == 0 and starts[-1] == pytest.approx(130_000)
    fewer = values(root)
    del fewer["targets"]["size_7"]
    assert epoch_starts(build_study(fewer)) is None
    assert epoch_starts(build_study(read_yaml(root / "config" / "config.yaml"))) is None


def test_study_of_sanchez_et_al_starts_its_epochs_where_the_paper_does(root: Path) -> None:
    starts = epoch_starts(build_study(values(root)))
    paper = [(np.exp(np.log(1 + 0.06 * 130_000) * i / 20) - 1) / 0.06 for i in range(21)]
    np.testing.assert_allclose(starts, paper, rtol=1e-12)


def test_errors_of_epochs_are_those_of_a_loop(predictions: pd.DataFrame) -> None:
    predictions.loc[3, "size_1_true"] = np.nan
    table = history_table(predictions, STARTS)
    assert table["example"].nunique() == 100 and 503 not in set(table["example"])
    errors = error_by_epoch(table)
    kept = predictions.drop(index=3)
    for epoch, row in errors.iterrows():
        exponent = np.log10(kept[f"size_{epoch}"] / kept[f"size_{epoch}_true"])
        assert row["rmse"] == pytest.approx(np.sqrt(np.mean(exponent**2)))
        assert row["spread"] == pytest.approx(np.std(np.log10(kept[f"size_{epoch}_true"])))
    assert list(errors["start"]) == STARTS


def test_good_and_bad_examples_are_shown(predictions: pd.DataFrame) -> None:
    shown = chosen_examples(history_table(predictions.sample(frac=1, random_state=2), STARTS))
    assert shown == {510: 0.1, 530: 0.3, 550: 0.5, 570: 0.7, 590: 0.9}


def test_panels_draw_steps_on_logarithmic_axes(predictions: pd.DataFrame) -> None:
    table = history_table(predictions, STARTS)
    rows = table[table["example"] == 550]
    with matplotlib.rc_context(style.RC):
        history, errors = Figure(figsize=(6, 3)).subplots(1, 2)
        history_panel(rows, history, nearer=0.5, described=DESCRIBED)
        error_panel(error_by_epoch(table), errors, num_examples=101)
    assert history.get_xscale() == history.get_yscale() == errors.get_xscale() == "log"
    steps = {patch.get_label(): patch.get_data() for patch in history.patches}
    assert set(steps) == {"interval", "true", "inferred"}
    np.testing.assert_array_equal(steps["true"].values, rows["true"])
    np.testing.assert_array_equal(steps["inferred"].edges, [10, 30, 1000, 3000])
    assert history.get_title("left") == "Test example 550"
    assert any("n 101" in text.get_text() for text in errors.texts)
