"""How the loss fell, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from popdl.plots.style import COLOURS, note

__all__ = ["training_curves"]


def training_curves(histories: Mapping[str, pd.DataFrame], ax: Axes, *, title: str) -> Axes:
    """Draw training and validation loss of the replicates of one network, and mark each replicate's best epoch.

    Parameters
    ----------
    histories
        By replicate; columns ``epoch``, ``train_loss`` and ``validation_loss``.
    """
    best = []
    for number, (_, history) in enumerate(histories.items()):
        first = number == 0
        ax.plot(history["epoch"], history["train_loss"], color=COLOURS["baseline"], label="training" if first else None)
        ax.plot(
            history["epoch"],
            history["validation_loss"],
            color=COLOURS["network"],
            label="validation" if first else None,
        )
        if history["validation_loss"].notna().any():
            lowest = int(history["validation_loss"].argmin())
            best.append(float(history["validation_loss"].iloc[lowest]))
            ax.plot(
                history["epoch"].iloc[lowest],
                best[-1],
                "o",
                color=COLOURS["network"],
                markersize=5,
                markerfacecolor="white",
                label="kept epoch" if first else None,
            )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("Epoch")
    ax.set_ylabel("Loss")
    ax.set_title(title)
    span = list(dict.fromkeys(f"{value:.3f}" for value in (min(best), max(best))))  # room for two figures
    note(ax, f"lowest validation loss {' to '.join(span)}")
    ax.legend()
    return ax
