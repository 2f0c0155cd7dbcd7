"""Approximate Bayesian computation with local-linear regression adjustment, or by rejection for classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from popdl.baselines._abc import Rejection, fit_rejection
from popdl.baselines._base import Baseline, Predictor
from popdl.baselines.ridge import Ridge

__all__ = ["AbcLocalLinear"]

RIDGE = 1e-6
"""Relative to the summaries' weighted mean square: keeps the regression defined where summaries depend on each other."""
BLOCK = 2**21
"""Entries of the regressions' design matrices in memory at once."""


class AbcLocalLinear(Baseline):
    """The posterior mean after local-linear adjustment (Beaumont et al. 2002, Genetics 162:2025, equations 5 to 9).

    Nearness is that of summaries: the estimate of ``ridge`` and a few partial-least-squares components. Of the simulations that
    are nearest to the observation, weighted by nearness, a linear regression on the summaries says what each would have been
    at the observation itself; the mean of these values is the regression's value there. It is kept within the range of the
    training values. Classes get their weighted shares among the nearest simulations.
    """

    def fit_regression(
        self, statistics: np.ndarray, values: np.ndarray, *, names: Sequence[str], generator: np.random.Generator
    ) -> Predictor:
        estimate = Ridge().fit_regression(statistics, values, names=names, generator=generator)
        rejection = Rejection(statistics, values[:, np.newaxis], estimate=estimate)

        def predict(statistics: np.ndarray) -> np.ndarray:
            observed = rejection.summaries(statistics)
            predicted = np.empty(len(observed))
            step = max(1, BLOCK // (rejection.num_accepted * (observed.shape[1] + 1)))
            for rows, accepted, weights in rejection.accept(observed):
                part = observed[rows]
                for start in range(0, len(part), step):
                    few = slice(start, start + step)
                    differences = rejection.simulated[accepted[few]] - part[few, np.newaxis]
                    predicted[rows][few] = _intercepts(differences, values[accepted[few]], weights[few])
            return np.clip(predicted, values.min(), values.max())

        return predict

    def fit_classification(
        self,
        statistics: np.ndarray,
        classes: np.ndarray,
        *,
        num_classes: int,
        names: Sequence[str],
        generator: np.random.Generator,
    ) -> Predictor:
        probabilities = Ridge().fit_classification(
            statistics, classes, num_classes=num_classes, names=names, generator=generator
        )
        return fit_rejection(statistics, classes, num_classes=num_classes, probabilities=probabilities)


def _intercepts(differences: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted linear regression of each observation's accepted values on the differences, at difference 0.

    Parameters
    ----------
    differences : ndarray of shape (num_observations, num_accepted, num_summaries)
    values, weights : ndarray of shape (num_observations, num_accepted)
        The weights of an observation sum to 1.
    """
    centre = np.einsum("ij,ijk->ik", weights, differences)
    mean = np.einsum("ij,ij->i", weights, values)
    centred = differences - centre[:, np.newaxis]
    weighted = (centred * weights[:, :, np.newaxis]).transpose(0, 2, 1)
    covariances = weighted @ centred
    penalty = RIDGE * np.trace(covariances, axis1=1, axis2=2) / covariances.shape[1]
    # Where nothing varies the slopes are zero.
    covariances += np.where(penalty > 0, penalty, 1.0)[:, np.newaxis, np.newaxis] * np.eye(covariances.shape[1])
    slopes = np.linalg.solve(covariances, weighted @ (values - mean[:, np.newaxis])[:, :, np.newaxis])[:, :, 0]
    return np.asarray(mean - np.einsum("ij,ij->i", slopes, centre))
