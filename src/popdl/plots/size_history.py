"""Population size through time: inferred against true histories of test scenarios, and the error of each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from popdl.config.study import Study
from popdl.plots.style import COLOURS, axis_label, note, scale_axis
from popdl.simulators.piecewise_constant import PiecewiseConstant

__all__ = ["chosen_examples", "epoch_starts", "error_by_epoch", "error_panel", "history_panel", "history_table"]

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Test examples are shown at these quantiles of their error: good ones and bad ones."""


def epoch_starts(study: Study) -> list[float] | None:
    """Generations ago at which each epoch starts, the first 0; None if these are drawn, or the study does not ask for a whole size history."""
    simulation = study.simulation
    if not isinstance(simulation, PiecewiseConstant):
        return None
    if any(name not in study.targets for name in simulation.size_parameters):
        return None
    fixed = simulation.with_constants({})
    drawn = [name for name in simulation.needed_parameters() if name not in (*simulation.size_parameters, *fixed)]
    return None if drawn else [0.0, *simulation.starts(fixed)]


def history_table(predictions: pd.DataFrame, starts: Sequence[float]) -> pd.DataFrame:
    """Test predictions with one row for each example and epoch; examples without all true sizes are left out.

    Returns
    -------
    DataFrame
        Columns ``example``, ``epoch``, ``start`` (generations ago), ``true``, ``predicted``, ``low``, ``high`` (individuals)
        and ``error`` (log10 of predicted over true).
    """
    known = predictions[[f"size_{epoch}_true" for epoch in range(len(starts))]].notna().all(axis=1)
    parts = []
    for epoch, start in enumerate(starts):
        name = f"size_{epoch}"
        part = predictions.loc[known, ["example", f"{name}_true", name, f"{name}_low", f"{name}_high"]]
        part.columns = pd.Index(["example", "true", "predicted", "low", "high"])
        parts.append(part.assign(epoch=epoch, start=start))
    table = pd.concat(parts)
    table["error"] = np.log10(table["predicted"] / table["true"])
    columns = ["example", "epoch", "start", "true", "predicted", "low", "high", "error"]
    return table[columns].astype({"example": int}).sort_values(["example", "epoch"], ignore_index=True)


def chosen_examples(table: pd.DataFrame) -> dict[int, float]:
    """Numbers of the examples to show, each with the share of examples whose root mean square error is smaller."""
    errors = (table["error"] ** 2).groupby(table["example"]).mean().sort_values(kind="stable")
    last = len(errors) - 1
    return {int(errors.index[round(last * share)]): share for share in QUANTILES}


def error_by_epoch(table: pd.DataFrame) -> pd.DataFrame:
    """Columns ``epoch``, ``start``, ``rmse`` and ``spread``, the last two in log10 units.

    ``spread`` is the standard deviation of the true sizes: the error of a network that has learned nothing.
    """
    groups = table.assign(log=np.log10(table["true"]), square=table["error"] ** 2).groupby(["epoch", "start"])
    errors = groups.agg(rmse=("square", "mean"), spread=("log", lambda values: values.std(ddof=0))).reset_index()
    return errors.assign(rmse=np.sqrt(errors["rmse"]))


def history_panel(rows: pd.DataFrame, ax: Axes, *, nearer: float, described: Mapping[str, Any]) -> Axes:
    """Draw true and inferred sizes of one example as steps, with the prediction interval.

    Parameters
    ----------
    rows
        Of :func:`history_table`, one for each epoch in order.
    nearer
        Share of test examples that are inferred better.
    described
        Description of the target ``size_0``: unit, and the bounds of the prior.
    """
    edges = _edges(rows["start"])
    ax.stairs(rows["high"], edges, baseline=rows["low"], fill=True, color=COLOURS["band"], label="interval")
    ax.stairs(rows["true"], edges, baseline=None, color=COLOURS["truth"], label="true")
    ax.stairs(rows["predicted"], edges, baseline=None, color=COLOURS["network"], linewidth=1.6, label="inferred")
    sizes = rows[["true", "predicted"]].to_numpy()
    low, high = min(described["low"], sizes.min()), max(described["high"], sizes.max())
    scale_axis(ax, "y", low=low, high=high, scale="log")
    _time_axis(ax, edges)
    ax.set_ylabel(axis_label("Size", described["unit"]))
    ax.set_title(f"Test example {rows['example'].iloc[0]}")
    note(ax, f"{nearer:.0%} of test examples are inferred better")
    return ax


def error_panel(errors: pd.DataFrame, ax: Axes, *, num_examples: int) -> Axes:
    """Draw the error of each epoch, with what a network that has learned nothing would reach."""
    edges = _edges(errors["start"])
    ax.stairs(errors["spread"], edges, baseline=None, color=COLOURS["baseline"], label="spread of true sizes")
    ax.stairs(errors["rmse"], edges, baseline=None, color=COLOURS["network"], linewidth=1.6, label="inferred")
    _time_axis(ax, edges)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("Error (log10 units)")
    ax.set_title("All test examples")
    note(ax, f"n {num_examples}; root mean square of log10(inferred / true)")
    return ax


def _edges(starts: pd.Series) -> np.ndarray:
    """Edges of epochs on a logarithmic axis, which shows neither the present nor the end of the last epoch."""
    return np.array([starts.iloc[1] / 3, *starts.iloc[1:], starts.iloc[-1] * 3])


def _time_axis(ax: Axes, edges: np.ndarray) -> None:
    scale_axis(ax, "x", low=edges[0], high=edges[-1], scale="log")
    ax.set_xlabel("Generations ago")
