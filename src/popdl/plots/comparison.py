"""Predictions along a genome beside a recombination map."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from popdl.plots.style import COLOURS, note, scale_axis

__all__ = ["comparison_panel"]

PER_MEGABASE = 1e8
"""cM/Mb that one crossover per bp and generation is, as short distances go."""


def comparison_panel(
    bins: pd.DataFrame, ax: Axes, *, title: str, words: str, intervals: pd.DataFrame | None = None
) -> Axes:
    """Draw the rate of a map and a prediction, brought to the same median, as steps along the genome.

    Parameters
    ----------
    bins
        Of one scale and method: columns ``start``, ``end`` (bp), ``predicted`` and ``map``, NaN where unknown.
    title, words
        Above the panel: what the bins are, and how the two go together.
    intervals
        Columns ``start``, ``end``, ``low`` and ``high``, in the units of ``predicted``: where intervals are known, NaN elsewhere.
    """
    both = bins.dropna(subset=["predicted", "map"])
    factor = float(both["map"].median() / both["predicted"].median()) * PER_MEGABASE if len(both) else 1.0
    edges = np.append(bins["start"], bins["end"].iloc[-1]) / 1e6
    known, predicted = bins["map"] * PER_MEGABASE, bins["predicted"] * factor
    values = [known, predicted]
    if intervals is not None:
        values += [intervals["low"] * factor, intervals["high"] * factor]
        ax.bar(
            intervals["start"] / 1e6,
            (intervals["high"] - intervals["low"]) * factor,
            (intervals["end"] - intervals["start"]) / 1e6,
            bottom=intervals["low"] * factor,
            align="edge",
            color=COLOURS["second"],
            alpha=0.35,
            linewidth=0,
            label="interval",
        )
    ax.stairs(known, edges, baseline=None, color=COLOURS["truth"], linewidth=1.0, label="map")
    ax.stairs(
        predicted,
        edges,
        baseline=None,
        color=COLOURS["network"],
        linewidth=1.2,
        label="prediction, scaled to the map's median",
    )
    drawn = np.concatenate(values)
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if len(drawn):
        scale_axis(ax, "y", low=float(drawn.min()), high=float(drawn.max()), scale="log")
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylabel("cM/Mb")
    ax.set_title(title)
    note(ax, words)
    return ax
