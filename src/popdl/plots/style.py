"""How every figure looks: colours, sizes, and axes that a reader can read."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from popdl.scaling import from_scale, on_scale

__all__ = ["COLOURS", "DPI", "RC", "WIDTH", "axis_label", "note", "number", "scale_axis", "statistic_label"]

DPI = 150
WIDTH = 7.2
"""Inches: a full page of text."""

# Okabe & Ito's palette, told apart with every common kind of colour blindness.
COLOURS = {
    "network": "#0072B2",
    "second": "#56B4E9",
    "baseline": "#7A7A7A",
    "warning": "#D55E00",
    "truth": "#000000",
    "good": "#009E73",
    "band": "#E4E8EC",
    "band_dark": "#B9C4CE",
}

STATISTICS = {
    "segregating_sites": "Segregating sites",
    "pi": "π per bp",
    "wattersons_theta": "Watterson's θ per bp",
    "tajimas_d": "Tajima's D",
    "h1": "H1",
    "h12": "H12",
    "h2_h1": "H2/H1",
    "distinct_haplotypes": "Distinct haplotypes",
    "distance_cv": "CV of distances",
    "missing_fraction": "Missing alleles",
}
"""What the field calls a statistic; those that stand for bins, and those of a study's own, keep the names that tables have."""

LETTER = 0.06
"""Inches: how wide a digit of a tick's label is."""
GAP = 0.07
"""Inches between the labels of two ticks, at least."""

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#444444",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.07,
    "figure.constrained_layout.w_pad": 0.06,
}


def number(value: float, _position: int | None = None) -> str:
    """A number as a reader writes it: 5,000 or 0.25, and 1×10⁻⁸ where zeros would have to be counted."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return str(value)
    exponent = math.floor(math.log10(abs(value)))
    if -3 <= exponent < 6:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    mantissa = f"{value / 10.0**exponent:.3g}"
    power = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa}×10{power}"


def axis_label(label: str, unit: str | None) -> str:
    """A quantity with its unit."""
    return f"{label} ({unit})" if unit else label


def statistic_label(name: str) -> str:
    """A summary statistic as figures call it."""
    return STATISTICS.get(name, name)


def scale_axis(ax: Axes, which: str, *, low: float, high: float, scale: str) -> None:
    """Set limits a little beyond [low, high] and ticks that read as plain numbers, on an axis of a target's scale."""
    axis: Axis = getattr(ax, f"{which}axis")
    set_limits = getattr(ax, f"set_{which}lim")
    if scale == "linear":
        margin = 0.06 * (high - low)
        low, high = low - margin, high + margin
        axis.set_major_locator(MaxNLocator(5))
    else:
        getattr(ax, f"set_{which}scale")(scale)
        first, last = on_scale(low, scale), on_scale(high, scale)
        margin = 0.06 * (last - first)
        low, high = from_scale(first - margin, scale), from_scale(last + margin, scale)
        if scale == "logit":
            axis.set_major_locator(FixedLocator(_logit_ticks(low, high)))
        else:
            room = _width(ax) if which == "x" else math.inf
            few = high < 4 * low
            axis.set_major_locator(MaxNLocator(4) if few else FixedLocator(_log_ticks(low, high, room=room)))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(number))
    set_limits(low, high)


def _width(ax: Axes) -> float:
    """Of the plot, in inches; of one whose aspect is fixed, that of the square that fits."""
    extent = ax.get_window_extent()
    return float(extent.width if ax.get_aspect() == "auto" else min(extent.width, extent.height)) / ax.figure.dpi


def note(ax: Axes, text: str) -> None:
    """Small print between the title, which must be there already, and the plot."""
    small = ax.annotate(
        text, (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", fontsize=6.5, color="#444444"
    )
    small.set_in_layout(False)  # else the layout makes room for it beside the plot
    ax.set_title(ax.get_title("left"), pad=5 + 9 * len(text.splitlines()))


def _logit_ticks(low: float, high: float) -> list[float]:
    """Round fractions, the same on both sides of a half."""
    if high - low < 0.4 and low > 0.1 and high < 0.9:
        return [float(tick) for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
    below = [10.0**power for power in range(-12, 0)]
    middle = [0.3, 0.5, 0.7] if low > 0.05 and high < 0.95 else [0.5]
    ticks = [*below, *middle, *(1 - tick for tick in reversed(below))]
    return [tick for tick in ticks if low <= tick <= high]


def _log_ticks(low: float, high: float, *, room: float) -> list[float]:
    """Round numbers, as many decades as there are: 1, 2, 5 for few, tens for many; fewer where labels would meet.

    Parameters
    ----------
    room
        Length of the axis along which the labels stand, in inches.
    """
    decades = math.log10(high / low)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    coarse = max(1, round((last - first) / 6))
    fine: list[tuple[tuple[int, ...], int]] = [((1, 2, 5), 1)] if decades <= 1.4 else []
    fine += [((1, 3), 1)] if decades <= 3.5 else []
    ticks: list[float] = []
    for steps, every in [*fine, *(((1,), every) for every in range(1 if fine else coarse, last - first + 1))]:
        chosen = [step * 10.0**power for power in range(first, last + 1, every) for step in steps]
        chosen = [tick for tick in chosen if low <= tick <= high]
        if ticks and len(chosen) < 2:
            break  # two labels that meet say more than one alone
        ticks = chosen
        inches = [LETTER * len(number(tick)) for tick in ticks]
        apart = [room / decades * math.log10(after / before) for before, after in pairwise(ticks)]
        if all(gap >= (sum(pair) / 2) + GAP for gap, pair in zip(apart, pairwise(inches), strict=True)):
            break
    return ticks


matplotlib.use("Agg")
