"""A linear model on every summary statistic and its logarithm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from popdl.baselines._base import Baseline, Predictor
from popdl.baselines._linear import fit_logistic, fit_ridge
from popdl.baselines._scikit import Standardised
from popdl.in_parts import parts, total

__all__ = ["Ridge"]


class Ridge(Baseline):
    """Ridge regression (Hoerl & Kennard 1970), or multinomial logistic regression.

    Each statistic enters as it is and, if it is never negative in the training split, as its logarithm too, with zeros raised
    to the smallest positive value.
    """

    def fit_regression(
        self, statistics: np.ndarray, values: np.ndarray, *, names: Sequence[str], generator: np.random.Generator
    ) -> Predictor:
        return fit_ridge(_features(statistics), statistics, values)

    def fit_classification(
        self,
        statistics: np.ndarray,
        classes: np.ndarray,
        *,
        num_classes: int,
        names: Sequence[str],
        generator: np.random.Generator,
    ) -> Predictor:
        features = _features(statistics)
        predict = fit_logistic(features(statistics), classes, num_classes=num_classes)
        return lambda statistics: predict(features(statistics))


def _features(statistics: np.ndarray) -> Standardised:
    """The statistics and their logarithms, standardised."""
    least = np.array([np.where(rows > 0, rows, np.inf).min(axis=0) for rows in parts(statistics)]).min(axis=0)
    ever_negative = total(statistics, lambda rows: np.asarray((rows < 0).any(axis=0))) > 0
    columns = np.flatnonzero(~ever_negative & np.isfinite(least))

    def with_logarithms(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, np.log(np.maximum(rows[:, columns], least[columns]))], axis=1)

    return Standardised(statistics, features=with_logarithms)
