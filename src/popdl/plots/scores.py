"""Networks against baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from popdl.plots.style import COLOURS

__all__ = ["scores"]

MARKERS = {"network": "o", "ensemble": "D", "baseline": "s"}


def scores(
    models: Mapping[str, Any],
    ax: Axes,
    *,
    target: str,
    metric: str,
    names: Sequence[str],
    best: str,
    label: str,
    axis: str,
) -> Axes:
    """Draw one metric of one target for every model, with two standard errors to each side.

    Parameters
    ----------
    models
        Scores by model, as in ``metrics.json``.
    metric
        Which of them, e.g. ``r2``.
    names
        Models from top to bottom.
    best
        The network that was chosen on the validation split; it is drawn filled.
    axis
        Label of the metric.
    """
    for row, name in enumerate(names):
        model = models[name]
        score = model["targets"][target].get("metrics", {}).get(metric)
        if score is None or score["value"] is None:
            continue
        colour = COLOURS["baseline" if model["kind"] == "baseline" else "network"]
        ax.errorbar(
            score["value"],
            row,
            xerr=2 * (score["se"] or 0.0),
            fmt=MARKERS[model["kind"]],
            color=colour,
            markersize=5,
            markerfacecolor=colour if name == best or model["kind"] == "baseline" else "white",
            elinewidth=1.2,
            capsize=2,
        )
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", color=COLOURS["band"], linewidth=0.6)
    if metric == "r2":
        ax.axvline(0, color=COLOURS["band_dark"], linewidth=0.8)
    ax.set_xlabel(axis)
    ax.set_title(label)
    return ax
