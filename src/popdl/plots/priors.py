"""The prior of each target: what was believed before any genome was looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from popdl.plots.style import COLOURS, axis_label, scale_axis

__all__ = ["NUM_BINS", "prior", "prior_bins"]

NUM_BINS = 30


def prior_bins(values: np.ndarray, *, log: bool) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the histogram, evenly spaced on the target's scale, and the share of draws in each bin."""
    low, high = float(values.min()), float(values.max())
    edges = np.geomspace(low, high, NUM_BINS + 1) if log else np.linspace(low, high, NUM_BINS + 1)
    edges[0], edges[-1] = low, high  # rounding may leave out the extremes
    return edges, np.histogram(values, edges)[0] / len(values)


def prior(values: np.ndarray, ax: Axes, *, described: Mapping[str, Any]) -> Axes:
    """Draw a histogram of draws from the prior; bars by class where the target is one.

    Parameters
    ----------
    values : ndarray of shape (num_draws,)
        In natural units; the index of the class for a class.
    """
    label = described["label"]
    if described["task"] == "classification":
        shares = np.bincount(values.astype(int), minlength=len(described["classes"])) / len(values)
        ax.bar(described["classes"], shares, color=COLOURS["band_dark"], width=0.6)
        ax.set_xlabel("Class")
    else:
        log = described["scale"] == "log"
        edges, shares = prior_bins(values, log=log)
        ax.stairs(shares, edges, fill=True, color=COLOURS["band_dark"])
        scale_axis(ax, "x", low=float(edges[0]), high=float(edges[-1]), log=log)
        ax.set_xlabel(axis_label("Value", described["unit"]))
    ax.set_ylim(0, None)
    ax.set_ylabel("Share of draws")
    ax.set_title(label)
    return ax
