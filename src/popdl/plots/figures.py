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
from popdl.error_by_parameter import error_by_parameter, losses
from popdl.outcomes import Outcomes, read_outcomes, searched_keys
from popdl.plots.by_parameter import parameter_panel
from popdl.plots.calibration import coverage, reliability
from popdl.plots.genome_figures import draw_genomes
from popdl.plots.panels import COLUMNS, draw_panels
from popdl.plots.parity import confusion, parity
from popdl.plots.priors import prior, prior_bins
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
from popdl.plots.style import RC, axis_label
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
        _by_parameter(outcomes, output)
        draw_genomes(outcomes, output)


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


def _by_parameter(outcomes: Outcomes, output: Path) -> None:
    """The best network and the baseline that it was judged against."""
    parameters, words = outcomes.test_parameters()
    against = outcomes.metrics["verdict"].get("targets", {})
    for target, described in outcomes.targets.items():
        numbers = described["task"] == "regression"
        names: list[str] = [*([target] if numbers else []), *(name for name in parameters.columns if name != target)]
        models = {outcomes.best: outcomes.test[outcomes.best]}
        if target in against:
            models[against[target]["baseline"]] = outcomes.baseline_predictions(against[target]["baseline"])
        table = error_by_parameter(
            {name: parameters[name].to_numpy() for name in names},
            {model: losses(predictions, target, described) for model, predictions in models.items()},
            scenarios=outcomes.test[outcomes.best]["example"].to_numpy().astype(int)
            // outcomes.study.source.replicates,
            task=described["task"],
            words=words,
        )

        def paint(name: str, ax: Axes, table: pd.DataFrame = table, described: Mapping[str, Any] = described) -> None:
            unit = {"log": "log₁₀", "logit": "logit"}.get(described["scale"], described["unit"])
            measure = axis_label("RMSE", unit) if described["task"] == "regression" else "Accuracy"
            parameter_panel(
                table[table["parameter"] == name],
                ax,
                name=outcomes.targets[name]["label"] if name in outcomes.targets else name,
                measure=measure,
                num_examples=len(parameters),
            )

        panels = dict.fromkeys(table["parameter"])
        draw_panels(panels, paint, output / f"by_parameter_{target}", table=table, height=1.75, legend=True)
