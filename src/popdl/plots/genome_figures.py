"""The figures of a study's applications: predictions along genomes, real data against simulations, and scans of several."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from popdl.errors import PopdlError
from popdl.outcomes import Outcomes
from popdl.plots.comparison import comparison_panel
from popdl.plots.genome_track import genome_coordinates, genome_track, probability_track, statistic_track
from popdl.plots.panels import draw_panels
from popdl.plots.realism import realism, realism_rows

__all__ = ["draw_genomes"]


def draw_genomes(outcomes: Outcomes, output: Path) -> None:
    """Draw what the best network says of every application, and how real windows compare with simulations.

    Parameters
    ----------
    outcomes
        The results of the study.
    output
        Folder for ``<figure>.png`` and ``<figure>.tsv``.

    Raises
    ------
    PopdlError
        If a scan puts together applications whose windows lie on different contigs.
    """
    for application in outcomes.study.applications:
        _genome(outcomes, application, output)
        _realism(outcomes, application, output)
    for application in outcomes.comparisons:
        _comparison(outcomes, application, output)
    for scan in outcomes.study.scans:
        _scan(outcomes, scan, output)


def _genome(outcomes: Outcomes, application: str, output: Path) -> None:
    def paint(target: str, ax: Axes) -> None:
        _track(outcomes, application, target, ax)
        if target != list(outcomes.targets)[-1]:
            ax.set_xlabel("")

    path = output / f"genome_{application}"
    windows = outcomes.windows[application][outcomes.best]
    draw_panels(outcomes.targets, paint, path, table=windows, height=1.6, columns=1, legend=True)


def _track(outcomes: Outcomes, application: str, target: str, ax: Axes) -> None:
    """The predictions of the best network along a genome."""
    described, windows = outcomes.targets[target], outcomes.windows[application][outcomes.best]
    if described["task"] == "regression":
        true = outcomes.true_values(application).get(target)
        genome_track(windows, ax, target=target, described=described, true=true)
    else:
        probability_track(windows, ax, target=target, described=described)


def _scan(outcomes: Outcomes, name: str, output: Path) -> None:
    scan = outcomes.study.scans[name]
    windows = {application: outcomes.windows[application][outcomes.best] for application in scan.applications}
    _refuse_other_contigs(name, windows)
    values = {
        statistic: {application: _values(outcomes, application, statistic) for application in scan.applications}
        for statistic in scan.statistics
    }
    tracks = {
        f"{application} {target}": (application, target)
        for target in outcomes.targets
        for application in scan.applications
    }
    names = [*tracks, *scan.statistics]
    ends = [
        end
        for table in windows.values()
        for span in genome_coordinates(table, table["reason"] == "")[1].values()
        for end in span
    ]

    def paint(panel: str, ax: Axes) -> None:
        if panel in tracks:
            application, target = tracks[panel]
            _track(outcomes, application, target, ax)
            ax.set_title(application)
        else:
            tables = values[panel]
            levels = next(iter(tables.values())).filter(like="simulated_").iloc[0]
            simulated = {float(str(level).removeprefix("simulated_")): value for level, value in levels.items()}
            statistic_track(tables, ax, statistic=panel, simulated=simulated)
        ax.set_xlim(min(ends), max(ends))  # the same in all panels, whatever is undefined in some
        if panel != names[-1]:
            ax.set_xlabel("")

    numbers = pd.concat([table.assign(application=application) for application, table in windows.items()])
    for statistic, tables in values.items():
        column = pd.concat([table["value"] for table in tables.values()])
        numbers[statistic] = column.to_numpy()
    draw_panels(names, paint, output / f"scan_{name}", table=numbers, height=1.15, columns=1, legend=True)


def _values(outcomes: Outcomes, application: str, statistic: str) -> pd.DataFrame:
    """A statistic of all windows of an application, in their order: rows of ``realism.tsv``, missing where nothing is predicted."""
    rows = outcomes.realism[application]
    rows = rows[rows["statistic"] == statistic]
    reasons = outcomes.windows[application][outcomes.best]["reason"].to_numpy()
    return rows.assign(value=rows["value"].where(reasons == ""))


def _refuse_other_contigs(name: str, windows: Mapping[str, pd.DataFrame]) -> None:
    contigs = {application: list(table["contig"].unique()) for application, table in windows.items()}
    first, *others = contigs
    for other in others:
        if contigs[other] != contigs[first]:
            raise PopdlError(
                f"scans.{name}: {other} has windows on {contigs[other]}, but {first} on {contigs[first]}; "
                "draw together what lies on the same contigs."
            )


def _realism(outcomes: Outcomes, application: str, output: Path) -> None:
    table = outcomes.realism[application]
    if table.empty:
        return
    height = 1.1 + 0.17 * len(realism_rows(table))

    def paint(name: str, ax: Axes) -> None:
        realism(table, ax, title=name)

    draw_panels(
        {application: None},
        paint,
        output / f"realism_{application}",
        table=table,
        height=height,
        columns=1,
        legend=True,
    )


def _comparison(outcomes: Outcomes, application: str, output: Path) -> None:
    compare = outcomes.study.applications[application].compare
    assert compare is not None
    table = outcomes.comparisons[application]
    shown = {f"{scale:g}": bins for scale, bins in table[table["method"] == outcomes.best].groupby("scale")}
    found = outcomes.correlations[application]
    found = found[found["method"] == outcomes.best].set_index("scale")
    finest = next(iter(shown))
    ends = {f"{compare.target}_low": "low", f"{compare.target}_high": "high"}

    def paint(name: str, ax: Axes) -> None:
        row = found.loc[float(name)]
        # Intervals are of single windows: those of a mean over several are not known.
        intervals = outcomes.windows[application][outcomes.best].rename(columns=ends) if name == finest else None
        words = f"n {row['bins']:.0f}; Pearson {row['pearson']:.2f}, of logarithms {row['pearson_log']:.2f}; Spearman {row['spearman']:.2f}"
        comparison_panel(shown[name], ax, title=_kilobases(float(name)), words=words, intervals=intervals)
        if name == list(shown)[-1]:
            ax.set_xlabel(f"Position on contig {table['contig'].iloc[0]} (Mb)")

    draw_panels(shown, paint, output / f"comparison_{application}", table=table, height=1.7, columns=1, legend=True)


def _kilobases(scale: float) -> str:
    return f"{scale / 1000:g} kb"
