"""Gradient-boosted trees on every summary statistic: the strongest of the simple methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from popdl.baselines._base import Baseline, Predictor
from popdl.baselines._scikit import can_hold_out, fit_classifier, random_state

__all__ = ["BoostedTrees"]

MAX_TREES = 1000
PATIENCE = 20
LEARNING_RATE = 0.05
FEW_TREES = 50
"""Where nothing can be held out for early stopping."""


class BoostedTrees(Baseline):
    """Histogram-based gradient boosting (Ke et al. 2017) with early stopping on a tenth of the training split."""

    def fit_regression(
        self, statistics: np.ndarray, values: np.ndarray, *, names: Sequence[str], generator: np.random.Generator
    ) -> Predictor:
        from sklearn.ensemble import HistGradientBoostingRegressor  # here, for a study is checked sooner without it

        defined = _defined(statistics)
        model = HistGradientBoostingRegressor(**_settings(can_hold_out(len(values)), generator))
        model.fit(statistics[:, defined], values)
        return lambda statistics: model.predict(statistics[:, defined])

    def fit_classification(
        self,
        statistics: np.ndarray,
        classes: np.ndarray,
        *,
        num_classes: int,
        names: Sequence[str],
        generator: np.random.Generator,
    ) -> Predictor:
        from sklearn.ensemble import HistGradientBoostingClassifier

        model = HistGradientBoostingClassifier(**_settings(can_hold_out(len(classes), classes), generator))
        defined = _defined(statistics)
        predict = fit_classifier(model, statistics[:, defined], classes, num_classes=num_classes)
        return lambda statistics: predict(statistics[:, defined])


def _defined(statistics: np.ndarray) -> np.ndarray:
    """The statistics that are defined in any example: the others have no quantiles to bin by."""
    return np.flatnonzero(~np.isnan(statistics).all(axis=0))


def _settings(early_stopping: bool, generator: np.random.Generator) -> dict[str, Any]:
    return {
        "learning_rate": LEARNING_RATE,
        "max_iter": MAX_TREES if early_stopping else FEW_TREES,
        "early_stopping": early_stopping,
        "n_iter_no_change": PATIENCE,
        "random_state": random_state(generator),
    }
