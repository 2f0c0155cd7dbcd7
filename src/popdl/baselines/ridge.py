"""A linear model on every summary statistic and its logarithm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from popdl.baselines._base import Baseline, Predictor
from popdl.baselines._linear import fit_logistic, fit_ridge
from popdl.baselines._scikit import Standardised

__all__ = ["Ridge"]


class Ridge(Baseline):
    """Ridge regression (Hoerl & Kennard 1970), or multinomial logistic regression.

    Each statistic enters as it is and, if it is never negative in the training split, as its logarithm too, with zeros raised
    to the smallest positive value.
    """

    def fit_regression(
        self, statistics: np.ndarray, values: np.ndarray, *, names: Sequence[str], generator: np.random.Generator
    ) -> Predictor:
        features = _Features(statistics)
        predict = fit_ridge(features(statistics), values)
        return lambda statistics: predict(features(statistics))

    def fit_classification(
        self,
        statistics: np.ndarray,
        classes: np.ndarray,
        *,
        num_classes: int,
        names: Sequence[str],
        generator: np.random.Generator,
    ) -> Predictor:
        features = _Features(statistics)
        predict = fit_logistic(features(statistics), classes, num_classes=num_classes)
        return lambda statistics: predict(features(statistics))


class _Features:
    """The statistics and their logarithms, standardised."""

    def __init__(self, statistics: np.ndarray) -> None:
        smallest = np.where(statistics > 0, statistics, np.inf).min(axis=0)
        never_negative = ~(statistics < 0).any(axis=0) & np.isfinite(smallest)
        self.columns = np.flatnonzero(never_negative)
        self.smallest = smallest[self.columns]
        self.standardise = Standardised(self._with_logarithms(statistics))

    def __call__(self, statistics: np.ndarray) -> np.ndarray:
        return self.standardise(self._with_logarithms(statistics))

    def _with_logarithms(self, statistics: np.ndarray) -> np.ndarray:
        logarithms = np.log(np.maximum(statistics[:, self.columns], self.smallest))
        return np.concatenate([statistics, logarithms], axis=1)
