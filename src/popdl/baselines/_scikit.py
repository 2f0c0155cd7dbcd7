"""What the baselines made of scikit-learn's methods share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from popdl.baselines._base import Predictor
from popdl.errors import PopdlError
from popdl.in_parts import parts, total

__all__ = ["Standardised", "can_hold_out", "fit_classifier", "random_state"]

SMALLEST_SPLIT = 50
"""With fewer examples nothing is held out for early stopping."""


class Standardised:
    """Statistics as they are in the training split standardised to mean 0 and variance 1, an undefined one written as 0.

    Those that are constant in the training split, or never defined, are left out.

    Parameters
    ----------
    statistics : ndarray of shape (num_examples, num_statistics)
        Of the training split; NaN where undefined.
    features
        What is made of some rows of statistics before (default: nothing).

    Raises
    ------
    PopdlError
        If none is left.
    """

    def __init__(
        self, statistics: np.ndarray, *, features: Callable[[np.ndarray], np.ndarray] = lambda statistics: statistics
    ) -> None:
        self.features = features
        counts = np.maximum(total(statistics, lambda rows: np.isfinite(features(rows)).sum(axis=0)), 1)
        means = total(statistics, lambda rows: _defined(features(rows)).sum(axis=0)) / counts
        squares = total(statistics, lambda rows: (_defined(features(rows) - means) ** 2).sum(axis=0))
        scales = np.sqrt(squares / counts)
        # What varies by rounding alone is constant.
        self.columns = np.flatnonzero(scales > 1e-12 * np.abs(means))
        if len(self.columns) == 0:
            raise PopdlError(
                f"baselines: all {statistics.shape[1]} statistics are constant or undefined in the training split; "
                "simulate examples that differ, or leave all baselines but prior_mean out."
            )
        self.means, self.scales = means[self.columns], scales[self.columns]

    def __call__(self, statistics: np.ndarray) -> np.ndarray:
        standardised = np.empty((len(statistics), len(self.columns)))
        for rows, made in zip(parts(statistics), parts(standardised), strict=True):
            made[:] = _defined((self.features(rows)[:, self.columns] - self.means) / self.scales)
        return standardised


def _defined(values: np.ndarray) -> np.ndarray:
    """0 where a value is undefined."""
    return np.where(np.isfinite(values), values, 0.0)


def fit_classifier(model: Any, features: np.ndarray, classes: np.ndarray, *, num_classes: int) -> Predictor:
    """Fit a classifier and give the probability of every class: 0 for one without an example, 1 for the only one with any.

    Parameters
    ----------
    model
        A classifier as in scikit-learn.
    features : ndarray of shape (num_examples, num_features)
        What it learns from, and what the predictor then expects.
    classes : ndarray of shape (num_examples,), dtype=int64
    num_classes
        Number of classes that there are.
    """
    seen = np.unique(classes)
    if len(seen) > 1:
        model.fit(features, classes)

    def predict(features: np.ndarray) -> np.ndarray:
        probabilities = np.zeros((len(features), num_classes))
        probabilities[:, seen] = model.predict_proba(features) if len(seen) > 1 else 1.0
        return probabilities

    return predict


def can_hold_out(num_examples: int, classes: np.ndarray | None = None) -> bool:
    """Whether a tenth of the examples can be held out for early stopping; of classes, a tenth of each."""
    if num_examples < SMALLEST_SPLIT or classes is None:
        return num_examples >= SMALLEST_SPLIT
    counts = np.unique(classes, return_counts=True)[1]
    return int(counts.min()) >= 2 and len(counts) <= num_examples // 10


def random_state(generator: np.random.Generator) -> int:
    """A seed as scikit-learn takes it."""
    return int(generator.integers(2**32))
