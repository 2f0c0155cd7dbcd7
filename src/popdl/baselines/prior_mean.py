"""The best that can be said without looking at any genotype."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from popdl.baselines._base import Baseline, Predictor

__all__ = ["PriorMean"]


class PriorMean(Baseline):
    """Predicts the mean of the training values on the target's scale, or the frequency of each class."""

    def fit_regression(
        self, statistics: np.ndarray, values: np.ndarray, *, names: Sequence[str], generator: np.random.Generator
    ) -> Predictor:
        mean = float(values.mean())
        return lambda statistics: np.full(len(statistics), mean)

    def fit_classification(
        self,
        statistics: np.ndarray,
        classes: np.ndarray,
        *,
        num_classes: int,
        names: Sequence[str],
        generator: np.random.Generator,
    ) -> Predictor:
        frequencies = np.bincount(classes, minlength=num_classes) / len(classes)
        return lambda statistics: np.tile(frequencies, (len(statistics), 1))
