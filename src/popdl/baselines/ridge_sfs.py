"""A linear model on the site-frequency spectrum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from popdl.baselines._base import Baseline, Predictor
from popdl.baselines._linear import fit_logistic, fit_ridge
from popdl.errors import PopdlError
from popdl.in_parts import parts

__all__ = ["RidgeSfs"]


class RidgeSfs(Baseline):
    """Ridge regression (Hoerl & Kennard 1970), or multinomial logistic regression, on the standardised log(1 + counts)."""

    needs = ("sfs",)

    def fit_regression(
        self, statistics: np.ndarray, values: np.ndarray, *, names: Sequence[str], generator: np.random.Generator
    ) -> Predictor:
        return fit_ridge(_Spectrum(statistics, names), statistics, values)

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
        predict = fit_logistic(spectrum(statistics), classes, num_classes=num_classes)
        return lambda statistics: predict(spectrum(statistics))


class _Spectrum:
    """Picks the spectrum out of all statistics, and standardises it as it is in the training split."""

    def __init__(self, statistics: np.ndarray, names: Sequence[str]) -> None:
        from sklearn.preprocessing import StandardScaler  # here, for a study is checked sooner without it

        self.columns = [index for index, name in enumerate(names) if name.startswith("sfs_")]
        if not self.columns:
            raise PopdlError(
                f"ridge_sfs needs the site-frequency spectrum, but the statistics are {', '.join(names)}; "
                "leave ridge_sfs out of `baselines`, or put sfs into `baseline_statistics`."
            )
        self.scaler = StandardScaler()
        for rows in parts(statistics):
            self.scaler.partial_fit(self._log_counts(rows))

    def __call__(self, statistics: np.ndarray) -> np.ndarray:
        return np.concatenate([self.scaler.transform(self._log_counts(rows)) for rows in parts(statistics)])

    def _log_counts(self, statistics: np.ndarray) -> np.ndarray:
        return np.log1p(np.nan_to_num(statistics[:, self.columns]))
