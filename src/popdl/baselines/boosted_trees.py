"""Gradient-boosted trees on every summary statistic: the strongest of the simple methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from popdl.baselines._base import Baseline, Predictor

__all__ = ["BoostedTrees"]

MAX_TREES = 1000
PATIENCE = 20
LEARNING_RATE = 0.05
SMALLEST_SPLIT = 50
"""With fewer examples nothing is held out for early stopping, and the number of trees is fixed."""
FEW_TREES = 50


class BoostedTrees(Baseline):
    """Histogram-based gradient boosting (Ke et al. 2017) with early stopping on a tenth of the training split."""

    def fit_regression(
        self, statistics: np.ndarray, values: np.ndarray, *, names: Sequence[str], generator: np.random.Generator
    ) -> Predictor:
        model = HistGradientBoostingRegressor(**_settings(len(values) >= SMALLEST_SPLIT, generator))
        return model.fit(statistics, values).predict

    def fit_classification(
        self,
        statistics: np.ndarray,
        classes: np.ndarray,
        *,
        num_classes: int,
        names: Sequence[str],
        generator: np.random.Generator,
    ) -> Predictor:
        seen, counts = np.unique(classes, return_counts=True)
        # The tenth is drawn within classes, so each needs two examples.
        early_stopping = len(classes) >= SMALLEST_SPLIT and int(counts.min()) >= 2
        model = HistGradientBoostingClassifier(**_settings(early_stopping, generator))
        if len(seen) > 1:
            model.fit(statistics, classes)

        def predict(statistics: np.ndarray) -> np.ndarray:
            probabilities = np.zeros((len(statistics), num_classes))
            probabilities[:, seen] = model.predict_proba(statistics) if len(seen) > 1 else 1.0
            return probabilities

        return predict


def _settings(early_stopping: bool, generator: np.random.Generator) -> dict[str, Any]:
    return {
        "learning_rate": LEARNING_RATE,
        "max_iter": MAX_TREES if early_stopping else FEW_TREES,
        "early_stopping": early_stopping,
        "n_iter_no_change": PATIENCE,
        "random_state": int(generator.integers(2**32)),
    }
