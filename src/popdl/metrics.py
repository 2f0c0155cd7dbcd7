"""Measures of how good predictions are, their standard errors, and paired comparisons of two sets of predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.stats

from popdl import seeds
from popdl.scaling import circular_mean, from_scale, turns_around

__all__ = [
    "FEWEST_SCENARIOS",
    "Metrics",
    "binomial_band",
    "bootstrap",
    "classification_metrics",
    "compare",
    "confusion_matrix",
    "regression_metrics",
]

Metrics = dict[str, float]
NUM_RESAMPLES = 1000
FEWEST_SCENARIOS = 20
"""With fewer, bootstrap intervals are too narrow to tell anything apart."""
SMALLEST_PROBABILITY = 1e-6
"""A class that happened although its predicted probability was lower counts as this in the log loss."""


def regression_metrics(
    true: np.ndarray,
    predicted: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    *,
    scale: str = "linear",
    circular: float | None = None,
) -> Metrics:
    """Judge predictions of a number.

    Parameters
    ----------
    true, predicted, low, high : ndarray of shape (n,)
        Truth, prediction and ends of the prediction interval, on the target's scale; no NaN. Of a circular target, each on
        the turn that is next to the prediction.
    scale
        That scale, ``linear``, ``log`` or ``logit``; needed for the relative error in natural units.
    circular
        Period; the total sum of squares is then that around the circular mean, and ``pearson`` is the circular correlation
        of Jammalamadaka & SenGupta (2001, Topics in Circular Statistics, equation 8.2.2).

    Returns
    -------
    dict
        ``r2`` (1 − residual over total sum of squares; at most 1, below 0 if worse than the mean), ``rmse``, ``bias`` (mean of
        prediction − truth), ``mae``, ``pearson``, ``coverage`` (share of truths inside the interval) and
        ``median_relative_error`` (|prediction − truth| / |truth| in natural units); on a log or logit scale also ``natural_r2``
        and ``natural_rmse``, of the same predictions in natural units. NaN where undefined.
    """
    error = predicted - true
    centre = true.mean() if circular is None else circular_mean(true, circular)
    total = float((turns_around(true - centre, circular) ** 2).sum())
    if scale == "log":
        defined = np.ones(len(true), dtype=bool)
        relative = np.abs(10.0**error - 1)
    else:
        natural = from_scale(true, scale)
        defined = natural != 0
        relative = np.abs(from_scale(predicted, scale) - natural)[defined] / np.abs(natural[defined])
    relative = relative if circular is None else np.full(1, np.nan)  # a place on a circle is no amount
    return {
        "r2": 1 - float((error**2).sum()) / total if total > 0 else np.nan,
        "rmse": float(np.sqrt((error**2).mean())),
        "bias": float(error.mean()),
        "mae": float(np.abs(error).mean()),
        "pearson": _correlation(true, predicted)
        if circular is None
        else _circular_correlation(true, predicted, circular),
        "coverage": float(((low <= true) & (true <= high)).mean()),
        "median_relative_error": float(np.median(relative)) if defined.any() else np.nan,
        **({} if scale == "linear" else _in_natural_units(from_scale(true, scale), from_scale(predicted, scale))),
    }


def _in_natural_units(true: np.ndarray, predicted: np.ndarray) -> Metrics:
    """R² and RMSE as others report them who judge on another scale than they learned on."""
    with np.errstate(over="ignore", invalid="ignore"):  # what was learned as a logarithm may be too large to be squared
        squared, total = (predicted - true) ** 2, float(((true - true.mean()) ** 2).sum())
        return {
            "natural_r2": 1 - float(squared.sum()) / total if total > 0 else np.nan,
            "natural_rmse": float(np.sqrt(squared.mean())),
        }


def classification_metrics(true: np.ndarray, probabilities: np.ndarray, *, classes: Sequence[str]) -> Metrics:
    """Judge predicted probabilities.

    Parameters
    ----------
    true : ndarray of shape (n,), dtype=int64
        Index of the true class.
    probabilities : ndarray of shape (n, num_classes)
        Predicted probability of each class.
    classes
        Their names.

    Returns
    -------
    dict
        ``accuracy`` of the most probable class, ``balanced_accuracy``, the mean of the recall of the classes that happened
        (Brodersen et al. 2010, Proc. ICPR, 3121), ``recall_<class>``, the share of a class's examples for which it is the most
        probable one (NaN for a class that never happened), ``log_loss`` (natural logarithm), and ``auc``, the mean over classes of the
        probability that an example of the class gets a higher probability for it than another example.
    """
    happened = probabilities[np.arange(len(true)), true]
    areas = [_auc(true == index, probabilities[:, index]) for index in range(probabilities.shape[1])]
    defined = [area for area in areas if not np.isnan(area)]
    right = probabilities.argmax(axis=1) == true
    counts = np.bincount(true, minlength=len(classes))
    found = np.bincount(true[right], minlength=len(classes))
    recalls = np.divide(found, counts, out=np.full(len(classes), np.nan), where=counts > 0)
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.nanmean(recalls)),
        **{f"recall_{name}": float(recall) for name, recall in zip(classes, recalls, strict=True)},
        "log_loss": float(-np.log(np.maximum(happened, SMALLEST_PROBABILITY)).mean()),
        "auc": float(np.mean(defined)) if defined else np.nan,
    }


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Count examples by true class (rows) and predicted class (columns)."""
    return np.bincount(true * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def bootstrap(
    measure: Callable[..., Metrics], arrays: tuple[np.ndarray, ...], *, scenarios: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Measure again on resampled scenarios (Efron 1979).

    Replicates of one scenario are not independent, so whole scenarios are drawn. With the same scenarios and seed every model
    gets the same resamples: differences between two models are paired.

    Parameters
    ----------
    measure
        Function of ``arrays``.
    arrays
        Arrays with one row per example.
    scenarios : ndarray of shape (n,)
        Scenario of each example.

    Returns
    -------
    dict
        Each measure as an ndarray of shape (NUM_RESAMPLES,).
    """
    _, scenario_index = np.unique(scenarios, return_inverse=True)
    num_scenarios = int(scenario_index.max()) + 1
    generator = seeds.generator(seed, "bootstrap")
    samples = []
    for _ in range(NUM_RESAMPLES):
        counts = np.bincount(generator.integers(num_scenarios, size=num_scenarios), minlength=num_scenarios)
        rows = np.repeat(np.arange(len(scenario_index)), counts[scenario_index])
        samples.append(measure(*(array[rows] for array in arrays)))
    return {name: np.array([sample[name] for sample in samples]) for name in samples[0]}


def compare(difference: float, resampled: np.ndarray, *, num_scenarios: int) -> dict[str, float | str]:
    """Say whether a difference in error, network minus baseline, can be told from zero.

    Parameters
    ----------
    difference
        Measured difference; negative where the network is better.
    resampled
        The same difference in paired resamples.
    num_scenarios
        Number of scenarios that were resampled.

    Returns
    -------
    dict
        The ``difference``, its 95 % bootstrap interval ``low`` and ``high``, and a ``verdict``: `better` or `worse` if the
        interval leaves out zero, else `not distinguishable`; `cannot be said` below ``FEWEST_SCENARIOS``.
    """
    low, high = (float(value) for value in np.nanpercentile(resampled, (2.5, 97.5)))
    verdict = "better" if high < 0 else "worse" if low > 0 else "not distinguishable"
    if num_scenarios < FEWEST_SCENARIOS:
        verdict = "cannot be said"
    return {"difference": difference, "low": low, "high": high, "verdict": verdict}


def binomial_band(n: int, share: float) -> tuple[float, float]:
    """Between which shares 95 % of samples of ``n`` lie if the true one is ``share``."""
    low, high = scipy.stats.binom.ppf((0.025, 0.975), n, share) / n
    return float(low), float(high)


def _auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve from ranks (Mann & Whitney 1947); NaN if one side is empty."""
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    if num_positive == 0 or num_negative == 0:
        return np.nan
    ordered = np.sort(scores)
    # Ties share the mean of their ranks.
    ranks = (np.searchsorted(ordered, scores) + np.searchsorted(ordered, scores, side="right") + 1) / 2
    return float((ranks[positive].sum() - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))


def _circular_correlation(first: np.ndarray, second: np.ndarray, period: float) -> float:
    """NaN where one of them does not vary."""
    sines = [np.sin((values - circular_mean(values, period)) * (2 * np.pi / period)) for values in (first, second)]
    spread = float(np.sqrt((sines[0] ** 2).sum() * (sines[1] ** 2).sum()))
    return float((sines[0] * sines[1]).sum()) / spread if spread > 0 else np.nan


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation; NaN if one side does not vary."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan
    first, second = first - first.mean(), second - second.mean()
    return float((first @ second) / np.sqrt((first @ first) * (second @ second)))
