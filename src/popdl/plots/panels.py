"""Several panels in one figure, with the numbers behind them in a table of the same name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from popdl.files import whole, write_table
from popdl.plots.style import WIDTH

__all__ = ["COLUMNS", "draw_panels"]

COLUMNS = 3
"""Panels beside each other at most."""


def draw_panels(
    panels: Iterable[str],
    paint: Callable[[str, Axes], Any],
    path: Path,
    *,
    table: pd.DataFrame,
    height: float,
    columns: int = COLUMNS,
    legend: bool = False,
) -> None:
    """Draw one panel for each name, and write figure and table; nothing where there are no names.

    Parameters
    ----------
    panels
        Names of the panels.
    paint
        Draws the panel of a name.
    path
        The figure is written as ``.png``, the table as ``.tsv``.
    table
        The numbers.
    height
        Of one panel, in inches.
    columns
        Panels beside each other at most.
    legend
        Put one legend for all panels below them, instead of leaving it to each panel.
    """
    names = list(panels)
    if not names:
        return
    width = WIDTH * max(min(len(names), columns), min(2, columns)) / columns
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(width, height * rows + (0.25 if legend else 0)))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    for name, ax in zip(names, axes, strict=False):
        paint(name, ax)
    if legend:
        entries = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=min(len(entries), 4))
    with whole(path.with_suffix(".png")) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
    write_table(path.with_suffix(".tsv"), table)
