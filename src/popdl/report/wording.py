"""How the report writes numbers, and which words stand for good and bad."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from popdl.plots import style

__all__ = ["Badge", "Figure", "badge", "baselines_read", "count", "length", "measured", "number", "span", "uncertainty"]


@dataclass(frozen=True)
class Badge:
    """A verdict in words; the colour only repeats them."""

    state: Literal["good", "warn", "bad"]
    text: str


@dataclass(frozen=True)
class Figure:
    """A picture inside the page."""

    source: str
    """Data URI."""
    width: int
    """CSS pixels at full size."""


def badge(outcome: str) -> Badge:
    """The badge of a comparison between network and baseline."""
    return {
        "better": Badge("good", "Beats the baselines"),
        "partly better": Badge("good", "Beats the baselines in part"),
        "not distinguishable": Badge("warn", "No better than a baseline"),
        "worse": Badge("bad", "Worse than a baseline"),
        "cannot be said": Badge("warn", "Too few test scenarios to say"),
        "not compared": Badge("warn", "Not compared with any baseline"),
    }[outcome]


def baselines_read(statistics: Sequence[str] | None) -> str:
    """The sentence that names what baselines read, as the config's ``baseline_statistics`` says it; empty where they read everything."""
    return f"Of the summary statistics, baselines read {', '.join(statistics)} and no others." if statistics else ""


def number(value: float | None) -> str:
    """Three significant digits; a dash for nothing."""
    if value is None or math.isnan(value):
        return "–"
    return style.number(float(f"{value:.3g}")).replace("-", "−")


def measured(value: float | None, error: float | None) -> str:
    """A value to the second digit of its standard error."""
    if value is None or not error:
        return number(value)
    return f"{value:,.{_decimals(error)}f}".replace("-", "−")


def uncertainty(error: float | None) -> str:
    """A standard error to its second digit."""
    return f"± {error:,.{_decimals(error)}f}" if error else ""


def _decimals(error: float) -> int:
    return max(0, 1 - math.floor(math.log10(error)))


def count(value: float) -> str:
    """A whole number with thousands set apart."""
    return f"{int(value):,}"


def span(low: float, high: float) -> str:
    """From one number to another."""
    return f"{number(low)} to {number(high)}"


def length(bp: float) -> str:
    """A length on the genome."""
    for unit, size in (("Mb", 1e6), ("kb", 1e3)):
        if bp >= size:
            return f"{bp / size:.4g} {unit}"
    return f"{bp:.4g} bp"
