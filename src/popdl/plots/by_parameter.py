"""Errors on the test split by one parameter of the simulations."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from popdl.plots.style import COLOURS, note, number, scale_axis

__all__ = ["parameter_panel"]

WIDE = 20
"""A parameter that is so many times larger in the last group than in the first one is drawn on a logarithmic axis."""
MANY_LETTERS = 24
"""Labels of all ticks together, from which on they would touch if they were level."""


def parameter_panel(rows: pd.DataFrame, ax: Axes, *, name: str, measure: str, num_examples: int) -> Axes:
    """Draw the measure by the values of one parameter, with two standard errors to either side.

    Parameters
    ----------
    rows
        Of :func:`popdl.error_by_parameter.error_by_parameter`, of one parameter and the models to be drawn: the network first, then a baseline if there is one.
    name
        What the parameter is called.
    measure
        Label of the other axis.
    num_examples
        Test examples, with the parameter or without.
    """
    choices = list(dict.fromkeys(rows["middle"])) if (rows["from"] == rows["to"]).all() else []
    numbers = bool(rows["word"].isna().all())
    drawn = list(dict.fromkeys(rows["model"]))
    for model, (colour, marker) in zip(drawn, (("network", "o"), ("baseline", "s")), strict=False):
        some = rows[rows["model"] == model]
        place = some["middle"].map(choices.index) if choices else some["middle"]
        ax.errorbar(
            place, some["value"], yerr=2 * some["se"], fmt=f"{marker}-", color=COLOURS[colour], markersize=3.5,
            linewidth=0.7 if numbers else 0, elinewidth=1, capsize=1.5, label=model,
        )  # fmt: skip
    if choices:
        labels = [number(value) for value in choices] if numbers else list(dict.fromkeys(rows["word"]))
        many = sum(map(len, labels)) > MANY_LETTERS
        ax.set_xticks(range(len(choices)), labels, rotation=30 if many else 0, ha="right" if many else "center")
        ax.set_xlim(-0.5, len(choices) - 0.5)
    else:
        low, high = float(rows["middle"].min()), float(rows["middle"].max())
        wide = low > 0 and high >= WIDE * low
        scale_axis(ax, "x", low=low, high=high, scale="log" if wide else "linear")
        if not wide:
            ax.xaxis.set_major_locator(MaxNLocator(3))
    if rows["measure"].iloc[0] == "accuracy":
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.set_ylim(min(0.5, float((rows["value"] - 2 * rows["se"].fillna(0)).min()) - 0.03), 1.03)
    else:
        ax.set_ylim(0, float((rows["value"] + 2 * rows["se"].fillna(0)).max()) * 1.08 or 1)
    ax.set_ylabel(measure)
    ax.set_title(name)
    having = int(rows.loc[rows["model"] == drawn[0], "n"].sum())
    note(ax, f"n {having:,}" if having == num_examples else f"n {having:,} of {num_examples:,} that have a value")
    return ax
