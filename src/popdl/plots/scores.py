"""Networks against baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from popdl.plots.style import COLOURS, number

__all__ = ["scores"]

MARKERS = {"network": "o", "ensemble": "D", "baseline": "s"}
LOWEST_R2, HIGHEST_R2 = -1.0, 1.0
"""Range of R² that is drawn. Further left one bad baseline would squeeze all others into a dot; further right there is none."""


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

    An R² below −1 is an arrow at the edge with its number; an error bar that goes on beyond it ends in an arrow.

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
    cut = False
    for row, name in enumerate(names):
        model = models[name]
        score = model["targets"][target].get("metrics", {}).get(metric)
        if score is None or score["value"] is None:
            continue
        colour = COLOURS["baseline" if model["kind"] == "baseline" else "network"]
        value, below, above = score["value"], 2 * (score["se"] or 0.0), 2 * (score["se"] or 0.0)
        if metric == "r2":
            if value - below < LOWEST_R2:
                cut = True
                ax.plot(LOWEST_R2, row, "<", color=colour, markersize=5)
            if value < LOWEST_R2:
                text = number(float(f"{value:.3g}")).replace("-", "−")
                ax.annotate(
                    text, (LOWEST_R2, row), (6, 0), textcoords="offset points", va="center", fontsize=6.5, color=colour
                )
                continue
            below, above = min(below, value - LOWEST_R2), min(above, HIGHEST_R2 - value)
        ax.errorbar(
            value,
            row,
            xerr=[[below], [above]],
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
        ax.set_xlim(right=min(ax.get_xlim()[1], HIGHEST_R2 + 0.05))
    ax.set_xlabel(axis + (f"; ◂: below {number(LOWEST_R2).replace('-', '−')}" if cut else ""))
    ax.set_title(label)
    return ax
