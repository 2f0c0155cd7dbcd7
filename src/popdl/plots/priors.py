"""The prior of each target: what was believed before any genome was looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from popdl.plots.style import COLOURS, axis_label, scale_axis
from popdl.scaling import from_scale, on_scale

__all__ = ["NUM_BINS", "prior", "prior_bins"]

NUM_BINS = 30


def prior_bins(values: np.ndarray, *, scale: str) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the histogram, evenly spaced on the target's scale, and the share of draws in each bin."""
    low, high = float(values.min()), float(values.max())
    if scale == "log":
        edges = np.geomspace(low, high, NUM_BINS + 1)
    else:
        edges = from_scale(np.linspace(on_scale(low, scale), on_scale(high, scale), NUM_BINS + 1), scale)
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
        scale = described["scale"]
        edges, shares = prior_bins(values, scale=scale)
        ax.stairs(shares, edges, fill=True, color=COLOURS["band_dark"])
        scale_axis(ax, "x", low=float(edges[0]), high=float(edges[-1]), scale=scale)
        ax.set_xlabel(axis_label("Value", described["unit"]))
    ax.set_ylim(0, None)
    ax.set_ylabel("Share of draws")
    ax.set_title(label)
    return ax
