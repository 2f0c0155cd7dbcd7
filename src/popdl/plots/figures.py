"""Every figure of a study, each with the numbers behind it in a table of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from popdl.config.study import Study
from popdl.dataset import open_shards, read_parameters
from popdl.errors import PopdlError
from popdl.outcomes import Outcomes, read_outcomes, searched_keys
from popdl.plots.calibration import coverage, reliability
from popdl.plots.comparison import comparison_panel
from popdl.plots.genome_track import genome_coordinates, genome_track, probability_track, statistic_track
from popdl.plots.panels import COLUMNS, draw_panels
from popdl.plots.parity import confusion, parity
from popdl.plots.priors import prior, prior_bins
from popdl.plots.realism import realism, realism_rows
from popdl.plots.scores import scores
from popdl.plots.search import search_panel
from popdl.plots.size_history import (
    chosen_examples,
    epoch_starts,
    error_by_epoch,
    error_panel,
    history_panel,
    history_table,
)
from popdl.plots.style import RC
from popdl.plots.training_curves import training_curves
from popdl.priors import draw
from popdl.seeds import generator
from popdl.store import shard_paths

__all__ = ["make_figures"]

NUM_PRIOR_DRAWS = 5000
METRICS = {
    "r2": "R² (± 2 s.e.)",
    "accuracy": "Accuracy (± 2 s.e.)",
}


def make_figures(*, results: Path, study: Study, output: Path) -> None:
    """Draw the figures of a study.

    Parameters
    ----------
    results
        ``results/<study>``.
    study
        The study.
    output
        Folder for ``<figure>.png`` (150 dpi) and ``<figure>.tsv``.
    """
    outcomes = read_outcomes(results, study)
    with matplotlib.rc_context(RC):
        _priors(outcomes, output)
        _training(outcomes, output)
        _search(outcomes, output)
        for network in [*outcomes.networks, *outcomes.ensembles]:
            _parity(outcomes, network, output)
        _size_history(outcomes, output)
        _scores(outcomes, output)
        _calibration(outcomes, output)
        for application in study.applications:
            _genome(outcomes, application, output)
            _realism(outcomes, application, output)
        for application in outcomes.comparisons:
            _comparison(outcomes, application, output)
        for scan in study.scans:
            _scan(outcomes, scan, output)


def _priors(outcomes: Outcomes, output: Path) -> None:
    values = _prior_values(outcomes)
    rows: list[dict[str, Any]] = []
    for target, described in outcomes.targets.items():
        if described["task"] == "classification":
            values[target] = _class_index(values[target], described["classes"])
            counts = np.bincount(values[target], minlength=len(described["classes"]))
            rows += [
                {"target": target, "class": name, "share": count / len(values[target])}
                for name, count in zip(described["classes"], counts, strict=True)
            ]
        else:
            edges, shares = prior_bins(values[target], scale=described["scale"])
            rows += [
                {"target": target, "from": low, "to": high, "share": share}
                for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True)
            ]

    def paint(target: str, ax: Axes) -> None:
        prior(values[target], ax, described=outcomes.targets[target])

    draw_panels(outcomes.targets, paint, output / "priors", table=pd.DataFrame(rows), height=1.9)


def _prior_values(outcomes: Outcomes) -> dict[str, np.ndarray]:
    """New draws of every target from the prior; the values of all examples where no prior is known. Missing ones are left out."""
    simulation = outcomes.study.simulation
    if simulation is None or set(outcomes.targets) & set(simulation.computed):
        return _labels(outcomes)
    drawn = _drawn(outcomes.study)
    return {name: drawn[name][~np.isnan(drawn[name])] for name in outcomes.targets}


def _drawn(study: Study) -> dict[str, np.ndarray]:
    """New draws of every parameter from the prior."""
    assert study.simulation is not None
    random = generator(study.seed, "parameters", 0, 1)  # no scenario has two indices: these draws are new
    drawn = []
    for _ in range(NUM_PRIOR_DRAWS):
        parameters = draw(study.simulation.priors, random)
        drawn.append(study.simulation.labels(parameters))
    return {name: np.array([row[name] for row in drawn]) for name in drawn[0]}


def _labels(outcomes: Outcomes) -> dict[str, np.ndarray]:
    """The targets of all examples; missing ones are left out."""
    shards = open_shards(shard_paths(outcomes.results.dataset(0).parent))
    values = read_parameters(shards, list(outcomes.targets)).T
    return {name: column[~np.isnan(column)] for name, column in zip(outcomes.targets, values, strict=True)}


def _class_index(values: np.ndarray, classes: list[str]) -> np.ndarray:
    """A choice among words is drawn as an index, one among numbers as the number."""
    named = {name: index for index, name in enumerate(classes)}
    return np.array([named.get(f"{value:g}", int(value)) for value in values])


def _training(outcomes: Outcomes, output: Path) -> None:
    histories = {name: outcomes.histories[name] for name in sorted(outcomes.histories)}
    by_network: dict[str, dict[str, pd.DataFrame]] = {}
    for name, history in histories.items():
        by_network.setdefault(name.rpartition("/")[0], {})[name.rpartition("/")[2]] = history

    def paint(network: str, ax: Axes) -> None:
        training_curves(by_network[network], ax, title=network)

    table = pd.concat([history.assign(network=name) for name, history in histories.items()])
    draw_panels(by_network, paint, output / "training", table=table, height=2.3)


def _search(outcomes: Outcomes, output: Path) -> None:
    if outcomes.search is None:
        return
    table = outcomes.search
    panels = {
        f"{network} {key}": (rows, key)
        for network, rows in table.groupby("network", sort=False)
        for key in searched_keys(rows)
    }

    def paint(name: str, ax: Axes) -> None:
        rows, key = panels[name]
        search_panel(rows, ax, key=key)

    draw_panels(panels, paint, output / "search", table=table, height=2.3)


def _parity(outcomes: Outcomes, network: str, output: Path) -> None:
    scored = outcomes.metrics["models"][network]["targets"]
    targets = {name: described for name, described in outcomes.targets.items() if "metrics" in scored[name]}

    def paint(target: str, ax: Axes) -> None:
        described, score = targets[target], scored[target]
        if described["task"] == "regression":
            parity(outcomes.test[network], ax, target=target, described=described, metrics=_numbers(score["metrics"]))
        else:
            accuracy = score["metrics"]["accuracy"]["value"]
            confusion(score["confusion"], ax, classes=described["classes"], label=described["label"], accuracy=accuracy)

    path = output / f"parity_{network.replace('/', '_')}"
    draw_panels(targets, paint, path, table=outcomes.test[network], height=2.8)


def _size_history(outcomes: Outcomes, output: Path) -> None:
    starts = epoch_starts(outcomes.study)
    if starts is None:
        return
    table = history_table(outcomes.test[outcomes.best], starts)
    if table.empty:
        return
    shown, errors = chosen_examples(table), error_by_epoch(table)

    def paint(name: str, ax: Axes) -> None:
        if name == "errors":
            error_panel(errors, ax, num_examples=table["example"].nunique())
        else:
            rows = table[table["example"] == int(name)]
            history_panel(rows, ax, nearer=shown[int(name)], described=outcomes.targets["size_0"])

    numbers = pd.concat([table[table["example"].isin(shown)], errors]).astype({"example": "Int64"})
    panels = [*map(str, shown), "errors"]
    draw_panels(panels, paint, output / "size_history", table=numbers, height=2.2, columns=2, legend=True)


def _numbers(metrics: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float]]:
    """JSON's null is NaN again, so that it can be formatted."""
    return {name: {"value": np.nan if metric["value"] is None else metric["value"]} for name, metric in metrics.items()}


def _scores(outcomes: Outcomes, output: Path) -> None:
    models = outcomes.metrics["models"]
    names = [
        *outcomes.networks,
        *outcomes.ensembles,
        *(name for name, model in models.items() if model["kind"] == "baseline"),
    ]

    def paint(target: str, ax: Axes) -> None:
        metric = "r2" if outcomes.targets[target]["task"] == "regression" else "accuracy"
        label = outcomes.targets[target]["label"]
        scores(
            models, ax, target=target, metric=metric, names=names, best=outcomes.best, label=label, axis=METRICS[metric]
        )
        ax.tick_params(labelleft=list(outcomes.targets).index(target) % COLUMNS == 0)

    rows = [
        {"target": target, "model": name, "kind": models[name]["kind"], "metric": metric, **value}
        for target in outcomes.targets
        for name in names
        for metric, value in models[name]["targets"][target].get("metrics", {}).items()
        if metric in METRICS
    ]
    draw_panels(
        outcomes.targets, paint, output / "baselines", table=pd.DataFrame(rows), height=0.75 + 0.24 * len(names)
    )


def _calibration(outcomes: Outcomes, output: Path) -> None:
    scored = outcomes.metrics["models"][outcomes.best]["targets"]
    targets = {name: described for name, described in outcomes.targets.items() if "metrics" in scored[name]}

    def paint(target: str, ax: Axes) -> None:
        described, table = targets[target], scored[target]["calibration"]
        if described["task"] == "regression":
            coverage(table, ax, described=described, promised=outcomes.metrics["interval"])
        else:
            reliability(table, ax, label=described["label"])

    table = pd.concat([pd.DataFrame(scored[target]["calibration"]).assign(target=target) for target in targets])
    draw_panels(targets, paint, output / "calibration", table=table, height=2.3, legend=True)


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
