"""Summary statistics of real windows against those of the simulations."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from popdl.plots.style import COLOURS, statistic_label

__all__ = ["MAX_ROWS", "realism", "realism_rows"]

MAX_ROWS = 60
"""More statistics than this are not drawn: those furthest out are."""
LIMIT = 6.0
"""Windows further out, in robust standard deviations, are drawn at the edge."""
NORMAL_95 = 1.6449


def realism_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The statistics in the order of the table, each with the simulations' quantiles in robust standard deviations.

    Parameters
    ----------
    table
        As :func:`popdl.realism.compare_windows` writes it.
    """
    rows = table.drop_duplicates("statistic").set_index("statistic").filter(like="simulated_")
    rows.columns = [float(name.removeprefix("simulated_")) for name in rows.columns]
    median, below, above = rows[50.0], rows[50.0] - rows[5.0], rows[95.0] - rows[50.0]
    below, above = below.where(below > 0, above), above.where(above > 0, below)
    deviation = rows.sub(median, axis=0)
    scale = (
        pd.DataFrame({level: above if level > 50 else below for level in deviation.columns.astype(float)}) / NORMAL_95
    )
    scaled = deviation.div(scale.where(scale > 0))
    furthest = table.groupby("statistic")["deviation"].apply(lambda values: values.abs().max())
    scaled["furthest"] = furthest.fillna(0)
    if len(scaled) > MAX_ROWS:
        kept = scaled["furthest"].nlargest(MAX_ROWS).index
        scaled = scaled[scaled.index.isin(kept)]
    return scaled


def realism(table: pd.DataFrame, ax: Axes, *, title: str) -> Axes:
    """Draw each statistic's simulated range as a band, and each real window as a dot, on one axis for all statistics.

    Parameters
    ----------
    table
        As :func:`popdl.realism.compare_windows` writes it, with ``outside_domain`` as bool.
    """
    rows = realism_rows(table)
    place = {name: row for row, name in enumerate(rows.index)}
    heights = np.arange(len(rows))
    for low, high, colour, label in (
        (1.0, 99.0, "band", "1–99% of the simulations"),
        (25.0, 75.0, "band_dark", "25–75%"),
    ):
        left = rows[low].fillna(0).clip(-LIMIT, LIMIT)
        width = rows[high].fillna(0).clip(-LIMIT, LIMIT) - left
        ax.barh(heights, width, left=left, height=0.8, color=COLOURS[colour], linewidth=0, label=label)
    ax.plot(np.zeros(len(rows)), heights, "|", color="white", markersize=5, markeredgewidth=1)
    drawn = table[table["statistic"].isin(rows.index) & (table["value"].notna() | np.isinf(table["deviation"]))]
    for outside, colour, label in (
        (False, "network", "window"),
        (True, "warning", "window outside the training domain"),
    ):
        part = drawn[drawn["outside_domain"] == outside]
        if part.empty:
            continue
        x, y = part["deviation"].to_numpy(), part["statistic"].map(place).to_numpy()
        within = np.abs(x) <= LIMIT
        marker = "D" if outside else "o"
        ax.plot(
            x[within], y[within], marker, color=COLOURS[colour], markersize=3, alpha=0.7, markeredgewidth=0, label=label
        )
        for side, arrow in ((-1, "<"), (1, ">")):
            beyond = ~within & (np.sign(x) == side)
            if not beyond.any():
                continue
            ax.plot(
                np.full(beyond.sum(), side * LIMIT),
                y[beyond],
                arrow,
                color=COLOURS[colour],
                markersize=5,
                clip_on=False,
            )
    ax.set_yticks(heights, [statistic_label(name) for name in rows.index])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(-LIMIT, LIMIT)
    ax.grid(axis="x", color=COLOURS["band"], linewidth=0.5)
    ax.set_xlabel("Robust standard deviations from the simulations' median; arrows: further out")
    ax.set_title(title)
    return ax
