"""Do intervals and probabilities hold what they promise, wherever the prediction lies?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from popdl.plots.style import COLOURS, axis_label, note, scale_axis
from popdl.scaling import from_scale

__all__ = ["coverage", "reliability"]


def coverage(table: Sequence[Mapping[str, float]], ax: Axes, *, described: Mapping[str, Any], promised: float) -> Axes:
    """Draw the share of truths inside their interval for tenths of the test split, by predicted value.

    Parameters
    ----------
    table
        One row per group: ``n``, ``predicted`` (mean, on the target's scale), ``coverage``, ``band_low``, ``band_high``.
    promised
        Coverage that the intervals aim at.
    """
    position = from_scale(np.array([row["predicted"] for row in table]), described["scale"])
    share, low, high = (np.array([row[key] for row in table]) for key in ("coverage", "band_low", "band_high"))
    _band(ax, position, low, high)
    ax.axhline(promised, color=COLOURS["truth"], linewidth=0.8, label="promised")
    inside = (low <= share) & (share <= high)
    ax.plot(position, share, "-", color=COLOURS["network"], linewidth=0.6)
    ax.plot(position[inside], share[inside], "o", color=COLOURS["network"], markersize=4, label="observed")
    if not inside.all():
        ax.plot(position[~inside], share[~inside], "D", color=COLOURS["warning"], markersize=4.5, label="observed, off")
    ends = (min(described["low"], position.min()), max(described["high"], position.max()))
    scale_axis(ax, "x", low=ends[0], high=ends[1], scale=described["scale"])
    ax.set_ylim(min(0.5, float(share.min()) - 0.05), 1.03)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_xlabel(axis_label("Predicted", described["unit"]))
    ax.set_ylabel("Truths inside the interval")
    ax.set_title(described["label"])
    note(ax, _groups(table))
    return ax


def reliability(table: Sequence[Mapping[str, float]], ax: Axes, *, label: str) -> Axes:
    """Draw how often the predicted class is right, by the probability that it was given."""
    confidence, share, low, high = (
        np.array([row[key] for row in table]) for key in ("predicted", "true", "band_low", "band_high")
    )
    _band(ax, confidence, low, high)
    ax.plot([0, 1], [0, 1], color=COLOURS["truth"], linewidth=0.8, label="promised")
    ax.plot(confidence, share, "o-", color=COLOURS["network"], markersize=4, linewidth=0.6, label="observed")
    lowest = max(0.0, min(confidence.min(), share.min(), low.min()) - 0.05)
    ax.set_xlim(lowest, 1.03)
    ax.set_ylim(lowest, 1.03)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_xlabel("Probability of the predicted class")
    ax.set_ylabel("Predictions that are right")
    ax.set_title(label)
    note(ax, _groups(table))
    return ax


def _band(ax: Axes, position: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Where 95 % of samples lie if the promise holds: a bar at each group, so that one group alone has one too."""
    ax.vlines(position, low, high, color=COLOURS["band"], linewidth=7, label="95% of samples, if the promise holds")


def _groups(table: Sequence[Mapping[str, float]]) -> str:
    size = f"{np.mean([row['n'] for row in table]):.0f} test examples"
    return f"{len(table)} groups of about {size}" if len(table) > 1 else f"one group of {size}"
