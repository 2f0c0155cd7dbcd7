"""A linear model on the site-frequency spectrum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.preprocessing import StandardScaler

from popdl.baselines._base import Baseline, Predictor
from popdl.errors import PopdlError

__all__ = ["RidgeSfs"]

PENALTIES = np.logspace(-3, 5, 17)
"""Penalties tried; the one with the smallest leave-one-out error is used."""


class RidgeSfs(Baseline):
    """Ridge regression (Hoerl & Kennard 1970), or multinomial logistic regression, on the standardised log(1 + counts)."""

    def fit_regression(
        self, statistics: np.ndarray, values: np.ndarray, *, names: Sequence[str], generator: np.random.Generator
    ) -> Predictor:
        spectrum = _Spectrum(statistics, names)
        model = RidgeCV(alphas=PENALTIES).fit(spectrum(statistics), values)
        return lambda statistics: model.predict(spectrum(statistics))

    def fit_classification(
        self,
        statistics: np.ndarray,
        classes: np.ndarray,
        *,
        num_classes: int,
        names: Sequence[str],
        generator: np.random.Generator,
    ) -> Predictor:
        spectrum = _Spectrum(statistics, names)
        seen = np.unique(classes)
        model = LogisticRegression(max_iter=2000).fit(spectrum(statistics), classes) if len(seen) > 1 else None

        def predict(statistics: np.ndarray) -> np.ndarray:
            probabilities = np.zeros((len(statistics), num_classes))
            probabilities[:, seen] = 1.0 if model is None else model.predict_proba(spectrum(statistics))
            return probabilities

        return predict


class _Spectrum:
    """Picks the spectrum out of all statistics, and standardises it as it is in the training split."""

    def __init__(self, statistics: np.ndarray, names: Sequence[str]) -> None:
        self.columns = [index for index, name in enumerate(names) if name.startswith("sfs_")]
        if not self.columns:
            raise PopdlError(
                f"ridge_sfs needs the site-frequency spectrum, but the statistics are {', '.join(names)}; "
                "leave ridge_sfs out of `baselines:`, or encode the dataset anew."
            )
        self.scaler = StandardScaler().fit(self._log_counts(statistics))

    def __call__(self, statistics: np.ndarray) -> np.ndarray:
        return self.scaler.transform(self._log_counts(statistics))

    def _log_counts(self, statistics: np.ndarray) -> np.ndarray:
        return np.log1p(np.nan_to_num(statistics[:, self.columns]))
