"""Predictions along a genome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from popdl.plots.style import COLOURS, scale_axis, statistic_label
from popdl.scaling import next_to_prediction

__all__ = ["genome_coordinates", "genome_track", "probability_track", "statistic_track"]

MEGABASE = 1e6
MANY = 120
"""Windows from which on they are too narrow to be drawn with their width."""


def genome_coordinates(
    windows: pd.DataFrame, known: pd.Series | None = None
) -> tuple[pd.DataFrame, dict[str, tuple[float, float]]]:
    """Lay contigs one after the other.

    Parameters
    ----------
    windows
        Columns ``contig``, ``start`` and ``end`` (bp).
    known
        Which windows have something to show (default: all). A contig ends with the last of them: windows that reach beyond the
        region that was asked for have nothing. Where no window of a contig has anything, all of its windows count.

    Returns
    -------
    windows
        The same with columns ``left`` and ``right`` in Mb, and ``from`` and ``to``: where windows overlap, each has the part
        between the middles of the overlaps with its neighbours, so that no part is drawn twice.
    contigs
        Left and right end of each contig on that axis.
    """
    contigs: dict[str, tuple[float, float]] = {}
    parts = []
    for contig, part in windows.groupby("contig", sort=False):
        shown = part if known is None or not known[part.index].any() else part[known[part.index]]
        # The first contig keeps its own positions, so that with one contig the axis shows them.
        shift = list(contigs.values())[-1][1] - shown["start"].min() / MEGABASE if contigs else 0.0
        part = part.assign(left=part["start"] / MEGABASE + shift, right=part["end"] / MEGABASE + shift)
        parts.append(_without_overlaps(part))
        contigs[str(contig)] = (shown["start"].min() / MEGABASE + shift, shown["end"].max() / MEGABASE + shift)
    return pd.concat(parts), contigs


def _without_overlaps(windows: pd.DataFrame) -> pd.DataFrame:
    """Add the columns ``from`` and ``to`` to the windows of one contig, which are in order."""
    left, right = windows["left"].to_numpy(dtype=float), windows["right"].to_numpy(dtype=float)
    middle = (right[:-1] + left[1:]) / 2
    overlap = right[:-1] > left[1:]
    begin = np.concatenate([left[:1], np.where(overlap, middle, left[1:])])
    stop = np.concatenate([np.where(overlap, middle, right[:-1]), right[-1:]])
    # As far to one side as to the other: the first and the last are no wider than those beside them.
    centre = (left + right) / 2
    half = np.minimum(centre - begin, stop - centre)
    return windows.assign(**{"from": centre - half, "to": centre + half})


def genome_track(
    windows: pd.DataFrame, ax: Axes, *, target: str, described: Mapping[str, Any], true: float | None = None
) -> Axes:
    """Draw the prediction of each window with its interval; windows outside the training domain stand out.

    Parameters
    ----------
    windows
        Columns ``contig``, ``start``, ``end`` (bp), ``<target>``, ``<target>_low``, ``<target>_high``, and ``outside_domain``
        (bool). Windows without a prediction are left blank.
    described
        ``label``, ``unit``, ``scale``, and the range of the prior, ``low`` and ``high``.
    true
        The true value, where it is known.
    """
    placed, contigs = genome_coordinates(windows, windows[target].notna())
    many = len(placed) > MANY
    ax.axhspan(
        described["low"], described["high"], color=COLOURS["band"], alpha=0.55, linewidth=0, label="range of the prior"
    )
    for outside, colour, label in (
        (False, "network", "prediction and interval"),
        (True, "warning", "outside the training domain"),
    ):
        part = placed[(placed["outside_domain"] == outside) & placed[target].notna()]
        if part.empty:
            continue
        middle = (part["left"] + part["right"]) / 2
        predicted = part[target].to_numpy()
        _, _, *both = next_to_prediction(
            predicted,
            predicted,
            *part[[f"{target}_low", f"{target}_high"]].to_numpy().T,
            period=described.get("circular"),
        )
        lengths = np.abs(np.array(both) - predicted)
        bars = ax.errorbar(
            middle,
            part[target],
            xerr=None if many else (part["right"] - part["left"]) / 2,
            yerr=lengths,
            fmt="D" if outside else "o",
            color=COLOURS[colour],
            markerfacecolor="white" if outside else COLOURS[colour],
            markersize=1.8 if many else 4,
            markeredgewidth=0.6,
            elinewidth=0.5 if many else 1.0,
            label=label,
        )
        if many:  # intervals of neighbours overlap, so they step back behind the predictions
            for lines in bars.lines[2]:
                lines.set(alpha=0.25, zorder=1)
    if true is not None:
        ax.axhline(true, color=COLOURS["truth"], linewidth=0.9, linestyle=(0, (4, 2)), label="true value")
    ends = [described["low"], described["high"], *placed[f"{target}_low"], *placed[f"{target}_high"]]
    scale = described["scale"]
    limits = {"linear": (-np.inf, np.inf), "log": (0, np.inf), "logit": (0, 1)}[scale]
    shown = [end for end in ends if limits[0] < end < limits[1]]
    scale_axis(ax, "y", low=min(shown), high=max(shown), scale=scale)
    ax.set_ylabel(described["label"] + (f"\n({described['unit']})" if described["unit"] else ""))
    return _genome_axis(ax, contigs)


def probability_track(windows: pd.DataFrame, ax: Axes, *, target: str, described: Mapping[str, Any]) -> Axes:
    """Draw the probability of each class in each window; windows outside the training domain are hatched.

    Of windows that overlap, each is drawn around its middle only.
    """
    placed, contigs = genome_coordinates(windows, windows[target].notna())
    known = placed[placed[target].notna()]
    colours = _class_colours(len(described["classes"]))
    bottom = np.zeros(len(known))
    width = known["to"] - known["from"]
    for name, colour in zip(described["classes"], colours, strict=True):
        height = known[f"{target}_p_{name}"].to_numpy(dtype=float)
        ax.bar(
            known["from"],
            height,
            width,
            bottom=bottom,
            align="edge",
            color=colour,
            edgecolor="white",
            linewidth=0.4,
            label=name,
        )
        bottom += height
    outside = known[known["outside_domain"]]
    if len(outside):
        ax.bar(
            outside["from"],
            1.0,
            outside["to"] - outside["from"],
            align="edge",
            facecolor="none",
            edgecolor=COLOURS["warning"],
            hatch="////",
            linewidth=0.8,
            label="outside the training domain",
        )
    ax.set_ylim(0, 1)
    ax.set_ylabel(f"{described['label']}\n(probability)")
    return _genome_axis(ax, contigs)


def statistic_track(
    windows: Mapping[str, pd.DataFrame], ax: Axes, *, statistic: str, simulated: Mapping[float, float]
) -> Axes:
    """Draw a statistic of the windows of several applications, each as a line; windows outside the training domain are hollow.

    Parameters
    ----------
    windows
        By application: columns ``contig``, ``start``, ``end`` (bp), ``value`` and ``outside_domain`` (bool). The line breaks
        where the value is missing.
    statistic
        Its name.
    simulated
        Its percentiles in the simulations, of which 1, 25, 75 and 99 are drawn; NaN where it is never defined.
    """
    for low, high, colour, label in (
        (1.0, 99.0, "band", "1–99% of the simulations"),
        (25.0, 75.0, "band_dark", "25–75%"),
    ):
        if np.isfinite([simulated[low], simulated[high]]).all():
            ax.axhspan(simulated[low], simulated[high], color=COLOURS[colour], alpha=0.55, linewidth=0, label=label)
    contigs: dict[str, tuple[float, float]] = {}
    for (name, table), colour in zip(windows.items(), _line_colours(len(windows)), strict=True):
        placed, contigs = genome_coordinates(table, table["value"].notna())
        for number, (_, part) in enumerate(placed.groupby("contig", sort=False)):
            middle, values = (part["left"] + part["right"]) / 2, part["value"]
            ax.plot(middle, values, color=colour, linewidth=1.0, label=name if number == 0 else None)
            for outside in (False, True):
                chosen = part["outside_domain"] == outside
                face = "white" if outside else colour
                ax.plot(middle[chosen], values[chosen], "o", color=colour, markerfacecolor=face, markersize=2.5)
    ax.set_ylabel(statistic_label(statistic))
    return _genome_axis(ax, contigs)


def _line_colours(count: int) -> list[str]:
    palette = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9"]
    return [palette[index % len(palette)] for index in range(count)]


def _class_colours(count: int) -> list[str]:
    palette = ["#56B4E9", "#B9C4CE", "#F0E442", "#009E73", "#CC79A7", "#E69F00", "#0072B2"]
    return [palette[index % len(palette)] for index in range(count)]


def _genome_axis(ax: Axes, contigs: Mapping[str, tuple[float, float]]) -> Axes:
    ends = list(contigs.values())
    ax.set_xlim(ends[0][0], ends[-1][1])
    if len(contigs) == 1:
        ax.set_xlabel(f"Position on contig {next(iter(contigs))} (Mb)")
    else:
        ax.set_xticks([(left + right) / 2 for left, right in ends], list(contigs))
        for _, right in ends[:-1]:
            ax.axvline(right, color=COLOURS["band_dark"], linewidth=0.5)
        ax.tick_params(axis="x", length=0)
        ax.set_xlabel("Contig")
    return ax
