"""True against predicted values of the test split; the confusion matrix where the target is a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from popdl.plots.style import COLOURS, axis_label, note, scale_axis

__all__ = ["confusion", "parity"]

MANY = 1500
"""From here on points would hide each other, and their density is drawn."""
FEW = 400
"""Up to here intervals are drawn."""


def parity(predictions: pd.DataFrame, ax: Axes, *, target: str, described: Mapping[str, Any], metrics: Mapping) -> Axes:
    """Draw predictions of a number against the truth, with the diagonal.

    Parameters
    ----------
    predictions
        Columns ``<target>_true``, ``<target>``, ``<target>_low`` and ``<target>_high``, in natural units.
    described
        ``label``, ``unit``, ``scale``, and the range of the prior, ``low`` and ``high``.
    metrics
        Metrics on the target's scale, each with ``value``.
    """
    log = described["scale"] == "log"
    known = predictions[predictions[f"{target}_true"].notna()]
    true, predicted = known[f"{target}_true"].to_numpy(), known[target].to_numpy()
    if len(known) > MANY:
        scale: Literal["log", "linear"] = "log" if log else "linear"
        ax.hexbin(
            true, predicted, gridsize=45, bins="log", mincnt=1, xscale=scale, yscale=scale, cmap="Blues", linewidths=0
        )
    else:
        if len(known) <= FEW:
            ends = np.abs(known[[f"{target}_low", f"{target}_high"]].to_numpy() - predicted[:, None]).T
            ax.errorbar(true, predicted, yerr=ends, fmt="none", ecolor=COLOURS["band_dark"], elinewidth=0.4, alpha=0.6)
        ax.plot(true, predicted, ".", color=COLOURS["network"], markersize=3.5, alpha=0.6, markeredgewidth=0)
    low, high = described["low"], described["high"]
    ax.plot([low, high], [low, high], color=COLOURS["truth"], linewidth=0.8, label="truth")
    for which in "xy":
        scale_axis(ax, which, low=low, high=high, log=log)
    ax.set_aspect("equal")
    ax.set_xlabel(axis_label("True", described["unit"]))
    ax.set_ylabel(axis_label("Predicted", described["unit"]))
    ax.set_title(described["label"])
    values = {key: metric["value"] for key, metric in metrics.items()}
    unit = " log₁₀" if log else ""
    small = f"n {len(known)}   R² {values['r2']:.2f}\nRMSE {values['rmse']:.3f}{unit}\nbias {values['bias']:+.3f}{unit}"
    note(ax, small.replace("-", "−"))
    return ax


def confusion(
    counts: Sequence[Sequence[int]], ax: Axes, *, classes: Sequence[str], label: str, accuracy: float
) -> Axes:
    """Draw how often each true class (rows) was predicted as each class (columns), as shares of the row."""
    table = np.array(counts)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        colour = "white" if shares[row, column] > 0.55 else "black"
        ax.text(
            column, row, f"{shares[row, column]:.0%}\n({count})", ha="center", va="center", color=colour, fontsize=7
        )
    ax.set_xticks(range(len(classes)), classes, rotation=30 if max(map(len, classes)) > 6 else 0)
    ax.set_yticks(range(len(classes)), classes)
    ax.set_xlabel("Predicted class")
    ax.set_ylabel("True class")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set_title(label)
    note(ax, f"n {table.sum()}   accuracy {accuracy:.1%}\nshare of each true class (count)")
    return ax
