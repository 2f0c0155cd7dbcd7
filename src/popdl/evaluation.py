"""Networks and baselines, scored once on the test split, in one table; a network that loses is said to lose."""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from popdl.config.training import Evaluation
from popdl.errors import PopdlError
from popdl.files import write_text
from popdl.metrics import (
    Metrics,
    binomial_band,
    bootstrap,
    classification_metrics,
    compare,
    confusion_matrix,
    regression_metrics,
)
from popdl.model import read_card
from popdl.scaling import next_to_prediction, on_scale, probability_shares
from popdl.verdict import judge

__all__ = ["FORMAT_VERSION", "evaluate", "read_predictions"]

FORMAT_VERSION = 1
NUM_BINS = 10
"""Groups of test examples, by predicted value, in which calibration is tabulated at most."""
SMALLEST_BIN = 20
"""Examples in a group at least: the share of fewer says little."""

Target = Mapping[str, Any]


def evaluate(
    *,
    networks: Mapping[str, tuple[Path, Path]],
    baselines: Mapping[str, Path],
    targets: Path,
    evaluation: Evaluation,
    seed: int,
    output: Path,
    table: Path,
    replicates: int = 1,
    ensembles: Mapping[str, Path] | None = None,
) -> None:
    """Score every network, ensemble and baseline, and compare each network and ensemble with each baseline.

    The best network is the one with the lowest loss on the validation split: the test split only judges, it never chooses.
    Standard errors and comparisons come from resampled scenarios.

    Parameters
    ----------
    networks
        By name, predictions of the test split (TSV) and the model file.
    baselines
        By name, predictions of the test split.
    targets
        The ``targets.json`` of the splits.
    evaluation
        The config's section.
    seed
        Seed of the study, for the resamples.
    output
        ``metrics.json``: everything.
    table
        ``metrics.tsv``: one row per model, target and metric, with its standard error.
    replicates
        Number of simulations of each scenario, which are resampled together.
    ensembles
        By name (``<network>/ensemble``), predictions of the test split. They are scored, and never chosen: the model to share is one file.

    Raises
    ------
    PopdlError
        If a table lacks a column or was made for other test examples.
    """
    described = json.loads(targets.read_text(encoding="utf-8"))
    tables = {name: read_predictions(path, described) for name, (path, _) in networks.items()}
    others = {**(ensembles or {}), **baselines}
    tables |= {name: read_predictions(path, described) for name, path in others.items()}
    _check_same_examples(tables, {**{name: pair[0] for name, pair in networks.items()}, **others})
    models: dict[str, dict[str, Any]] = {}
    resampled: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for name, predictions in tables.items():
        kind = "network" if name in networks else "baseline" if name in baselines else "ensemble"
        models[name] = {"kind": kind, "targets": {}}
        if kind == "network":
            models[name]["validation_loss"] = float(read_card(networks[name][1])["validation_loss"])
        if kind == "ensemble":
            models[name]["members"] = [
                other for other in networks if other.rpartition("/")[0] == name.rpartition("/")[0]
            ]
        resampled[name] = {}
        for target, description in described.items():
            scored, resamples = _score(
                predictions, target, description, evaluation, replicates, seed, weighted=kind != "baseline"
            )
            models[name]["targets"][target], resampled[name][target] = scored, resamples
    best = min(networks, key=lambda name: (models[name]["validation_loss"], name))
    comparisons = [
        _compare(network, baseline, target, models, resampled)
        for target in described
        for network in [*networks, *(ensembles or {})]
        for baseline in baselines
        if resampled[network][target]
    ]
    metrics = {
        "format_version": FORMAT_VERSION,
        "num_test_examples": len(next(iter(tables.values()))),
        "interval": evaluation.interval,
        "targets": described,
        "models": models,
        "comparisons": comparisons,
        "best_network": best,
        "verdict": judge(best, models, comparisons, described),
    }
    write_text(output, json.dumps(_without_nan(metrics), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(table, _long_table(models))


def read_predictions(path: Path, targets: Mapping[str, Target]) -> pd.DataFrame:
    """Read a table of test predictions; numbers become float64 (NaN for "."), class names stay words.

    Raises
    ------
    PopdlError
        If the file is no such table or lacks a column.
    """
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, na_values=["."])
        needed = [
            "example",
            *(column for target, described in targets.items() for column in _columns(target, described)),
        ]
        if missing := [column for column in needed if column not in table]:
            raise PopdlError(
                f"{path}: expected the column {missing[0]!r}, found {', '.join(map(str, table.columns))}; predict anew."
            )
        words = {column for target, described in targets.items() for column in _class_columns(target, described)}
        return table[needed].astype({column: "float64" for column in needed if column not in words})
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise PopdlError(
            f"{path}: expected a table of predictions, found something else ({error}); predict anew."
        ) from None


def _class_columns(target: str, described: Target) -> list[str]:
    return [f"{target}_true", target] if described["task"] == "classification" else []


def _columns(target: str, described: Target) -> list[str]:
    if described["task"] == "classification":
        return [f"{target}_true", target, *(f"{target}_p_{name}" for name in described["classes"])]
    return [f"{target}_true", target, f"{target}_low", f"{target}_high"]


def _check_same_examples(tables: Mapping[str, pd.DataFrame], paths: Mapping[str, Path]) -> None:
    first = next(iter(tables))
    for name, table in tables.items():
        if not np.array_equal(table["example"], tables[first]["example"]):
            raise PopdlError(
                f"{paths[name]}: its test examples are not those of {paths[first]} ({len(table)} and {len(tables[first])}); "
                "both must be predicted from the same splits."
            )


def _score(
    predictions: pd.DataFrame,
    target: str,
    described: Target,
    evaluation: Evaluation,
    replicates: int,
    seed: int,
    *,
    weighted: bool,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metrics of one model and target, and the same metrics in resamples (none without any true value).

    ``weighted`` says whether the model was trained with the weights of classes, as networks are and baselines are not.
    """
    known = predictions[predictions[f"{target}_true"].notna()]
    score: dict[str, Any] = {"n": len(known), "num_missing": len(predictions) - len(known)}
    if known.empty:
        return score, {}
    arrays: tuple[np.ndarray, ...]
    measure: Callable[..., Metrics]
    if described["task"] == "classification":
        classes = list(described["classes"])
        true = known[f"{target}_true"].map(classes.index).to_numpy(dtype=np.int64)
        probabilities = known[[f"{target}_p_{name}" for name in classes]].to_numpy()
        arrays = (true, probabilities)
        measure = functools.partial(classification_metrics, classes=classes)
        predicted = probabilities.argmax(axis=1)
        score["confusion"] = confusion_matrix(true, predicted, num_classes=len(classes)).tolist()
        weights = described.get("class_weights") if weighted and probability_shares(described) else None
        score["calibration"] = _reliability(
            true, probabilities, weights=np.array([weights[name] for name in classes])[true] if weights else None
        )
    else:
        scale, period = described["scale"], described.get("circular")
        true, *ends = (known[column].to_numpy() for column in _columns(target, described))
        arrays = tuple(on_scale(values, scale) for values in next_to_prediction(true, *ends, period=period))
        measure = functools.partial(regression_metrics, scale=scale, circular=period)
        score["calibration"] = _coverage_by_prediction(*arrays, share=evaluation.interval)
        score["coverage_band"] = list(binomial_band(len(known), evaluation.interval))
    scenarios = known["example"].to_numpy().astype(np.int64) // replicates
    score["num_scenarios"] = len(np.unique(scenarios))
    resamples = bootstrap(measure, arrays, scenarios=scenarios, seed=seed)
    values: Metrics = measure(*arrays)
    score["metrics"] = {
        name: {"value": value, "se": _standard_error(resamples[name])} for name, value in values.items()
    }
    return score, resamples


def _standard_error(resamples: np.ndarray) -> float:
    defined = resamples[np.isfinite(resamples)]
    return float(defined.std(ddof=1)) if len(defined) > 1 else np.nan


def _bins(values: np.ndarray) -> list[np.ndarray]:
    """Rows in groups of equal size, by increasing value."""
    groups = min(NUM_BINS, max(1, len(values) // SMALLEST_BIN))
    return np.array_split(np.argsort(values, kind="stable"), groups)


def _coverage_by_prediction(
    true: np.ndarray, predicted: np.ndarray, low: np.ndarray, high: np.ndarray, *, share: float
) -> list[dict[str, float]]:
    """Do intervals hold what they promise, and are predictions right on average, wherever the prediction lies?"""
    table = []
    for rows in _bins(predicted):
        band = binomial_band(len(rows), share)
        inside = (low[rows] <= true[rows]) & (true[rows] <= high[rows])
        table.append(
            {
                "n": len(rows),
                "predicted": float(predicted[rows].mean()),
                "true": float(true[rows].mean()),
                "coverage": float(inside.mean()),
                "band_low": band[0],
                "band_high": band[1],
            }
        )
    return table


def _reliability(
    true: np.ndarray, probabilities: np.ndarray, *, weights: np.ndarray | None = None
) -> list[dict[str, float]]:
    """Is the most probable class right as often as its probability says?

    With a weight for each example, in a world where the classes are as frequent as their weights make them.
    """
    weights = np.ones(len(true)) if weights is None else weights
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == true
    table = []
    for rows in _bins(confidence):
        weight = weights[rows]
        predicted, share = (float(np.average(values[rows], weights=weight)) for values in (confidence, correct))
        effective = round(weight.sum() ** 2 / (weight**2).sum())  # Kish (1965, Survey Sampling, section 11.7)
        band = binomial_band(effective, predicted)
        table.append(
            {
                "n": len(rows),
                "predicted": predicted,
                "true": share,
                "band_low": band[0],
                "band_high": band[1],
            }
        )
    return table


def _compare(
    network: str,
    baseline: str,
    target: str,
    models: Mapping[str, Any],
    resampled: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]],
) -> dict[str, Any]:
    """The difference in squared error, or in the share of wrong classes, over the same resamples."""
    metrics = [models[name]["targets"][target]["metrics"] for name in (network, baseline)]
    resamples = [resampled[name][target] for name in (network, baseline)]
    if "rmse" in metrics[0]:
        error = "mean squared error"
        values = [metric["rmse"]["value"] ** 2 for metric in metrics]
        draws = [resample["rmse"] ** 2 for resample in resamples]
    else:
        error = "share of wrong classes"
        values = [1 - metric["accuracy"]["value"] for metric in metrics]
        draws = [1 - resample["accuracy"] for resample in resamples]
    num_scenarios = models[network]["targets"][target]["num_scenarios"]
    difference = compare(values[0] - values[1], draws[0] - draws[1], num_scenarios=num_scenarios)
    return {"network": network, "baseline": baseline, "target": target, "error": error, **difference}


def _long_table(models: Mapping[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["model", "kind", "target", "n", "metric", "value", "se"])
    for name, model in models.items():
        for target, score in model["targets"].items():
            for metric, numbers in score.get("metrics", {}).items():
                cells = ["." if np.isnan(numbers[key]) else f"{numbers[key]:.6g}" for key in ("value", "se")]
                writer.writerow([name, model["kind"], target, score["n"], metric, *cells])
    return text.getvalue()


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null says the same."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
