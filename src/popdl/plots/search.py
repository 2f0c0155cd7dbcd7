"""How the validation loss of trials depends on each setting that was searched."""

from __future__ import annotations

import json

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from popdl.plots.style import COLOURS, note

__all__ = ["search_panel"]

MOST_WORDS = 5
"""Numbers that are more than this are drawn along an axis, fewer as the words that they were written as."""
WIDE = 20.0
"""Numbers that span more than this factor are drawn on a log scale."""


def search_panel(trials: pd.DataFrame, ax: Axes, *, key: str) -> Axes:
    """Draw the validation loss of every trial of one network against its value of one key; the chosen trial is filled.

    Parameters
    ----------
    trials
        Rows of ``search.tsv`` of one network.
    key
        A column: the values as JSON.
    """
    values = [json.loads(value) for value in trials[key]]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    words = [text for _, text in sorted(zip(values, trials[key], strict=True))] if numbers else list(trials[key])
    words = list(dict.fromkeys(words))
    if numbers and len(words) > MOST_WORDS:
        places = [float(value) for value in values]
        ax.xaxis.set_major_locator(MaxNLocator(4))
        if min(places) > 0 and max(places) > WIDE * min(places):
            ax.set_xscale("log")
    else:
        places = [float(words.index(value)) for value in trials[key]]
        ax.set_xticks(range(len(words)), words, rotation=0 if numbers else 30, ha="center" if numbers else "right")
        ax.set_xlim(-0.5, len(words) - 0.5)
    for place, loss, chosen in zip(places, trials["validation_loss"], trials["chosen"], strict=True):
        fill = COLOURS["network"] if chosen == "yes" else "white"
        ax.plot(place, loss, "o", color=COLOURS["network"], markersize=5, markerfacecolor=fill)
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel(key.rpartition(".")[2])
    ax.set_ylabel("Validation loss")
    ax.set_title(trials["network"].iloc[0])
    if diverged := int(trials["validation_loss"].isna().sum()):
        note(ax, f"{diverged} of {len(trials)} diverged")
    return ax
