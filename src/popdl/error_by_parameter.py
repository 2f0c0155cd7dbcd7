"""Where a target is predicted well and where badly: errors on the test split by each parameter of the simulations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from popdl.scaling import next_to_prediction, on_scale

__all__ = ["error_by_parameter", "losses"]

NUM_GROUPS = 6
SMALLEST_GROUP = 20
"""Test examples in a group at least, on average: the error of fewer says little."""
MEASURES = {"regression": "rmse", "classification": "accuracy"}


def losses(predictions: pd.DataFrame, target: str, described: Mapping[str, Any]) -> np.ndarray:
    """What each test example adds to the measure: its squared error on the target's scale, or whether its class was found (1 or 0).

    Returns
    -------
    ndarray of shape (num_examples,), dtype=float64
        NaN where the truth is missing.
    """
    if described["task"] == "classification":
        truth = predictions[f"{target}_true"]
        return np.where(truth.isna(), np.nan, (truth == predictions[target]).astype(float))
    columns = [f"{target}_true", target, f"{target}_low", f"{target}_high"]
    values = (predictions[column].to_numpy() for column in columns)
    true, predicted, *_ = next_to_prediction(*values, period=described.get("circular"))
    scale = described["scale"]
    return np.asarray((on_scale(predicted, scale) - on_scale(true, scale)) ** 2)


def error_by_parameter(
    values: Mapping[str, np.ndarray],
    losses: Mapping[str, np.ndarray],
    *,
    scenarios: np.ndarray,
    task: str,
    words: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """The measure of each model in groups of test examples that are alike in a parameter.

    Parameters
    ----------
    values
        By parameter, ndarray of shape (num_examples,), in natural units, NaN where an example has none. A parameter that does not
        vary is left out.
    losses
        By model, as :func:`losses` gives them.
    scenarios : ndarray of shape (num_examples,)
        Number of the scenario: examples of one are not independent.
    task
        ``regression`` (root mean square error) or ``classification`` (accuracy).
    words
        By parameter that is a choice among words, the words; its values are their indices.

    Returns
    -------
    DataFrame
        Columns ``parameter``, ``model``, ``n`` (examples), ``from`` and ``to`` (lowest and highest value in the group), ``middle``
        (their median), ``word`` (None for numbers), ``measure``, ``value`` and ``se`` (standard error, of scenarios; NaN for one).
        Groups hold about as many examples each; a parameter of few values has a group for each.
    """
    rows: list[dict[str, Any]] = []
    for parameter, column in values.items():
        for group in _groups(column):
            some = column[group]
            described = {"parameter": parameter, "from": some.min(), "to": some.max(), "middle": np.median(some)}
            described["word"] = words[parameter][int(some[0])] if parameter in words else None
            for model, loss in losses.items():
                known = group[~np.isnan(loss[group])]
                if len(known):
                    value, error = _measure(loss[known], scenarios[known], task)
                    rows.append(
                        {
                            **described,
                            "model": model,
                            "n": len(known),
                            "measure": MEASURES[task],
                            "value": value,
                            "se": error,
                        }
                    )
    columns = ["parameter", "model", "n", "from", "to", "middle", "word", "measure", "value", "se"]
    return pd.DataFrame(rows, columns=columns)


def _groups(values: np.ndarray) -> list[np.ndarray]:
    """Rows of each group, by increasing value; none where all values are the same."""
    known = np.flatnonzero(~np.isnan(values))
    distinct = np.unique(values[known])
    if len(distinct) < 2:
        return []
    if len(distinct) <= NUM_GROUPS:
        return [known[values[known] == value] for value in distinct]
    num_groups = int(np.clip(len(known) // SMALLEST_GROUP, 2, NUM_GROUPS))
    inner = np.unique(np.quantile(values[known], np.linspace(0, 1, num_groups + 1)[1:-1]))
    group = np.searchsorted(inner, values[known], side="right")
    return [known[group == index] for index in range(len(inner) + 1) if (group == index).any()]


def _measure(losses: np.ndarray, scenarios: np.ndarray, task: str) -> tuple[float, float]:
    """Mean (of squares, its root) and standard error of a ratio of sums over scenarios (Cochran 1977, Sampling Techniques, 2.30)."""
    mean = losses.mean()
    _, index = np.unique(scenarios, return_inverse=True)
    off = np.bincount(index, weights=losses - mean)
    count = len(off)
    error = np.sqrt(count / (count - 1) * (off**2).sum()) / len(losses) if count > 1 else np.nan
    if task == "classification":
        return float(mean), float(error)
    root = np.sqrt(mean)
    return float(root), float(error / (2 * root)) if root > 0 else 0.0
