"""What others have published, beside what the study's networks and baselines reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from popdl.config.published import NATURAL, Published
from popdl.config.study import Study
from popdl.layout import baseline_name

__all__ = ["METRICS", "Score", "best_baseline", "of_network", "published_table"]

METRICS = {
    "r2": "R²",
    "rmse": "RMSE",
    "mae": "MAE",
    "pearson": "correlation",
    "natural_r2": "R², natural units",
    "natural_rmse": "RMSE, natural units",
    "accuracy": "accuracy",
    "auc": "AUC",
}
SMALLER_IS_BETTER = ("rmse", "mae", "natural_rmse")


@dataclass(frozen=True)
class Score:
    """A method and its figure, with what it varies by."""

    name: str
    value: float
    spread: float | None
    """Standard deviation over the replicates of a network; bootstrap standard error of a single one, or of a baseline."""
    number: int
    """Replicates."""


def of_network(metrics: Mapping[str, Any], network: str, target: str, metric: str) -> Score | None:
    """The mean of a network's replicates, and their standard deviation; None where the metric is undefined."""
    measures = [
        model["targets"][target].get("metrics", {}).get(metric)
        for name, model in metrics["models"].items()
        if model["kind"] == "network" and name.rpartition("/")[0] == network
    ]
    values = [measure["value"] for measure in measures if measure and measure["value"] is not None]
    if not values or len(values) < len(measures):
        return None
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else measures[0]["se"]
    return Score(network, float(np.mean(values)), spread, len(values))


def best_baseline(metrics: Mapping[str, Any], target: str, metric: str) -> Score | None:
    """The baseline with the best figure on the test split; None if there is none."""
    scores = [
        score
        for name, model in metrics["models"].items()
        if model["kind"] == "baseline" and (score := _of_baseline(metrics, name, target, metric))
    ]
    better = min if metric in SMALLER_IS_BETTER else max
    return better(scores, key=lambda score: score.value, default=None)


def _of_baseline(metrics: Mapping[str, Any], name: str, target: str, metric: str) -> Score | None:
    measure = metrics["models"][name]["targets"][target].get("metrics", {}).get(metric)
    return None if not measure or measure["value"] is None else Score(name, measure["value"], measure["se"], 1)


def published_table(study: Study, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each published figure: the figure, and that of the method here that is meant to repeat it.

    Without such a method, it is that of the network that was chosen by its validation loss.
    """
    return [_row(figure, metrics) for figure in study.published]


def _row(figure: Published, metrics: Mapping[str, Any]) -> dict[str, Any]:
    if figure.baseline is not None:
        ours = _of_baseline(metrics, baseline_name(figure.baseline), figure.target, figure.metric)
    else:
        network = figure.network or metrics["best_network"].rpartition("/")[0]
        ours = of_network(metrics, network, figure.target, figure.metric)
    on_log_scale = metrics["targets"][figure.target]["scale"] == "log" and figure.metric not in NATURAL
    return {
        "method": figure.method,
        "target": figure.target,
        "label": metrics["targets"][figure.target]["label"] + (" (log10)" if on_log_scale else ""),
        "metric": METRICS[figure.metric],
        "key": figure.metric,
        "value": figure.value,
        "source": figure.source,
        "remark": figure.remark,
        "reached": None
        if ours is None
        else ours.value <= figure.value
        if figure.metric in SMALLER_IS_BETTER
        else ours.value >= figure.value,
        "repeated": figure.network is not None or figure.baseline is not None,
        "ours": ours,
    }
