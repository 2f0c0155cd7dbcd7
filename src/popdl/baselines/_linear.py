"""Linear models whose strength of penalty is not left to the user."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV

from popdl.baselines._base import Predictor
from popdl.baselines._scikit import fit_classifier

__all__ = ["fit_logistic", "fit_ridge"]

PENALTIES = np.logspace(-3, 5, 17)
"""Penalties tried; the one with the smallest leave-one-out error is used."""


def fit_ridge(features: np.ndarray, values: np.ndarray) -> Predictor:
    """Ridge regression (Hoerl & Kennard 1970) on standardised features."""
    return RidgeCV(alphas=PENALTIES).fit(features, values).predict


def fit_logistic(features: np.ndarray, classes: np.ndarray, *, num_classes: int) -> Predictor:
    """Multinomial logistic regression on standardised features."""
    return fit_classifier(LogisticRegression(max_iter=2000), features, classes, num_classes=num_classes)
