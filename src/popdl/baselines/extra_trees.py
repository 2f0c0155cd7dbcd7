"""Extremely randomised trees on every summary statistic, as FILET and S/HIC use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from popdl.baselines._base import Baseline, Predictor
from popdl.baselines._scikit import Standardised, fit_classifier, random_state

__all__ = ["ExtraTrees"]

NUM_TREES = 300
SMALLEST_LEAF = 3
SHARE_OF_STATISTICS = 1 / 3
"""Statistics tried at each split of a regression tree; classification tries the square root of their number."""


class ExtraTrees(Baseline):
    """Extremely randomised trees (Geurts et al. 2006, Machine Learning 63:3)."""

    def fit_regression(
        self, statistics: np.ndarray, values: np.ndarray, *, names: Sequence[str], generator: np.random.Generator
    ) -> Predictor:
        from sklearn.ensemble import ExtraTreesRegressor  # here, for a study is checked sooner without it

        features = Standardised(statistics)
        model = ExtraTreesRegressor(**_settings(SHARE_OF_STATISTICS, generator)).fit(features(statistics), values)
        return lambda statistics: model.predict(features(statistics))

    def fit_classification(
        self,
        statistics: np.ndarray,
        classes: np.ndarray,
        *,
        num_classes: int,
        names: Sequence[str],
        generator: np.random.Generator,
    ) -> Predictor:
        from sklearn.ensemble import ExtraTreesClassifier

        features = Standardised(statistics)
        model = ExtraTreesClassifier(**_settings("sqrt", generator))
        predict = fit_classifier(model, features(statistics), classes, num_classes=num_classes)
        return lambda statistics: predict(features(statistics))


def _settings(max_features: float | str, generator: np.random.Generator) -> dict[str, Any]:
    return {
        "n_estimators": NUM_TREES,
        "min_samples_leaf": SMALLEST_LEAF,
        "max_features": max_features,
        "random_state": random_state(generator),
    }
