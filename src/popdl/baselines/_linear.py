"""Linear models whose strength of penalty is not left to the user."""

from __future__ import annotations

import numpy as np

from popdl.baselines._base import Predictor
from popdl.baselines._scikit import fit_classifier
from popdl.in_parts import parts, total, triangle

__all__ = ["fit_logistic", "fit_ridge"]

PENALTIES = np.logspace(-3, 5, 17)
"""Penalties tried; the one with the smallest leave-one-out error is used."""


def fit_ridge(features: Predictor, statistics: np.ndarray, values: np.ndarray) -> Predictor:
    """Ridge regression (Hoerl & Kennard 1970) with the penalty of the smallest leave-one-out error.

    With the singular value decomposition U S Vᵀ of the centred features, the leave-one-out residual of an example is
    (y − ŷ) / (1 − 1/n − Σⱼ Uⱼ² sⱼ² / (sⱼ² + penalty)) (Golub et al. 1979, Technometrics 21: 215). Features are computed some
    rows at a time, so that all of them are never in memory: scikit-learn's ``RidgeCV``, with which a test compares this, holds
    several copies of them.

    Parameters
    ----------
    features
        From rows of statistics to standardised features.
    statistics : ndarray of shape (num_examples, num_statistics)
    values : ndarray of shape (num_examples,)
    """
    count, mean = len(values), float(values.mean())
    centre = total(statistics, lambda rows: features(rows).sum(axis=0)) / count
    pairs = list(zip(parts(statistics), parts(values), strict=True))
    joined = triangle(np.column_stack([features(rows) - centre, here - mean]) for rows, here in pairs)
    left, singular, directions = np.linalg.svd(joined[:, :-1], full_matrices=False)
    # One column for each penalty.
    shrunk = 1 / (singular[:, np.newaxis] ** 2 + PENALTIES)
    slopes = shrunk * (singular * (left.T @ joined[:, -1]))[:, np.newaxis]
    errors = np.zeros(len(PENALTIES))
    for rows, here in pairs:
        turned = (features(rows) - centre) @ directions.T
        residuals = here[:, np.newaxis] - mean - turned @ slopes
        errors += ((residuals / (1 - 1 / count - turned**2 @ shrunk)) ** 2).sum(axis=0)
    weights = slopes[:, errors.argmin()] @ directions
    return lambda statistics: (features(statistics) - centre) @ weights + mean


def fit_logistic(features: np.ndarray, classes: np.ndarray, *, num_classes: int) -> Predictor:
    """Multinomial logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression  # here, for a study is checked sooner without it

    return fit_classifier(LogisticRegression(max_iter=2000), features, classes, num_classes=num_classes)
