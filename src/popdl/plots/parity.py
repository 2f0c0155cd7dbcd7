"""True against predicted values of the test split; the confusion matrix where the target is a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from popdl.plots.style import COLOURS, axis_label, note, scale_axis
from popdl.scaling import from_scale, next_to_prediction, on_scale, turns_around

__all__ = ["confusion", "parity"]

MANY = 1500
"""From here on points would hide each other, and their density is drawn."""
FEW = 400
"""Up to here intervals are drawn, and the fewer dots there are, the larger."""
DOT, LARGEST_DOT = 3.5, 8.0
"""Points."""


def parity(predictions: pd.DataFrame, ax: Axes, *, target: str, described: Mapping[str, Any], metrics: Mapping) -> Axes:
    """Draw predictions of a number against the truth, with the diagonal; triangles at the edge stand for what goes on beyond it.

    Parameters
    ----------
    predictions
        Columns ``<target>_true``, ``<target>``, ``<target>_low`` and ``<target>_high``, in natural units.
    described
        ``label``, ``unit``, ``scale``, and the range of the prior, ``low`` and ``high``.
    metrics
        Metrics on the target's scale, each with ``value``.
    """
    on, period = described["scale"], described.get("circular")
    known = predictions[predictions[f"{target}_true"].notna()]
    true, predicted = known[f"{target}_true"].to_numpy(), known[target].to_numpy()
    ends = known[[f"{target}_low", f"{target}_high"]].to_numpy().T
    _, _, *both = next_to_prediction(true, predicted, *ends, period=period)
    reach: tuple[np.ndarray, np.ndarray] | None = None
    # On a circle each prediction is drawn on the turn that is next to its truth.
    near = predicted if period is None else true + turns_around(predicted - true, period)
    low, high = described["low"], described["high"]
    if len(known) > MANY and on == "logit":
        first, last = on_scale(min(low, predicted.min()), on), on_scale(max(high, predicted.max()), on)
        edges = from_scale(np.linspace(first, last, 46), on)
        ax.hist2d(true, predicted, bins=(edges, edges), norm=LogNorm(), cmin=1, cmap="Blues")
    elif len(known) > MANY:
        scale: Literal["log", "linear"] = "log" if on == "log" else "linear"
        ax.hexbin(
            true,
            near,
            gridsize=45,
            bins="log",
            mincnt=1,
            xscale=scale,
            yscale=scale,
            cmap="Blues",
            linewidths=0,
        )
    else:
        if len(known) <= FEW:
            lengths = np.abs(np.array(both) - predicted)
            reach = near - lengths[0], near + lengths[1]
            ax.errorbar(
                true,
                near,
                yerr=lengths,
                fmt="none",
                ecolor=COLOURS["band_dark"],
                elinewidth=0.4,
                alpha=0.6,
            )
        size = float(np.clip(DOT * np.sqrt(FEW / max(len(known), 1)), DOT, LARGEST_DOT))
        ax.plot(true, near, ".", color=COLOURS["network"], markersize=size, alpha=0.6, markeredgewidth=0)
    ax.plot([low, high], [low, high], color=COLOURS["truth"], linewidth=0.8, label="truth")
    ax.set_aspect("equal")
    scale_axis(ax, "x", low=low, high=high, scale=on)
    if period is not None:
        low, high = min(low, (near).min()), max(high, (near).max())
    scale_axis(ax, "y", low=low, high=high, scale=on)
    if reach is not None:
        _mark_beyond(ax, true, *reach, colour=COLOURS["band_dark"])
    _mark_beyond(ax, true, near, near, colour=COLOURS["network"])
    ax.set_xlabel(axis_label("True", described["unit"]))
    ax.set_ylabel(axis_label("Predicted", described["unit"]))
    ax.set_title(described["label"])
    values = {key: metric["value"] for key, metric in metrics.items()}
    unit = {"log": " log₁₀", "logit": " logit"}.get(on, "")
    small = f"n {len(known)}   R² {values['r2']:.2f}\nRMSE {values['rmse']:.3f}{unit}\nbias {values['bias']:+.3f}{unit}"
    note(ax, small.replace("-", "−"))
    return ax


def _mark_beyond(ax: Axes, true: np.ndarray, low: np.ndarray, high: np.ndarray, *, colour: str) -> None:
    """A triangle at the edge of the plot for each range that reaches beyond it."""
    bottom, top = ax.get_ylim()
    for beyond, edge, marker in ((low < bottom, 0, "v"), (high > top, 1, "^")):
        if not beyond.any():
            continue
        [marks] = ax.plot(
            true[beyond],
            np.full(int(beyond.sum()), edge),
            marker,
            color=colour,
            markersize=4,
            markeredgewidth=0,
            clip_on=False,
            transform=ax.get_xaxis_transform(),
        )
        marks.set_in_layout(False)  # else the layout shrinks the plot


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
