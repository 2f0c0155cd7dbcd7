"""Approximate Bayesian computation: the simulations whose statistics are nearest to the observed ones are the posterior."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.cross_decomposition import PLSRegression

from popdl.baselines._base import Predictor
from popdl.baselines._scikit import Standardised

__all__ = ["Rejection", "fit_rejection"]

MAX_SUMMARIES = 20
"""More statistics are replaced by as many partial-least-squares components: nearness means little in many dimensions."""
TOLERANCE = 0.05
"""Share of the simulations that is accepted."""
FEWEST, MOST = 200, 2000
"""Simulations accepted at least (if there are as many) and at most."""
BLOCK = 2**22
"""Distances in memory at once: 32 MB."""


class Rejection:
    """Finds the nearest simulations, with Epanechnikov weights (Beaumont et al. 2002, Genetics 162:2025).

    The distance is Euclidean on standardised statistics. More than ``MAX_SUMMARIES`` of them are first replaced by their
    partial-least-squares components with respect to what is inferred (Wegmann et al. 2009, Genetics 182:1207).

    Parameters
    ----------
    statistics : ndarray of shape (num_simulations, num_statistics)
        NaN where a statistic is undefined.
    inferred : ndarray of shape (num_simulations,) or (num_simulations, num_classes)
        What is inferred: values, or a column of zeros and ones for each class.
    """

    def __init__(self, statistics: np.ndarray, inferred: np.ndarray) -> None:
        self._standardise = Standardised(statistics)
        standardised = self._standardise(statistics)
        self._components: PLSRegression | None = None
        num_summaries = min(MAX_SUMMARIES, len(statistics) - 1)
        if standardised.shape[1] > num_summaries >= 1 and np.ptp(inferred, axis=0).max() > 0:
            self._components = PLSRegression(num_summaries, scale=False).fit(standardised, inferred)
            components = self._components.transform(standardised)
            self._scales = np.where(components.std(axis=0) > 0, components.std(axis=0), 1.0)
        self.simulated = self.summaries(statistics)
        """ndarray of shape (num_simulations, num_summaries)."""
        share = int(np.ceil(TOLERANCE * len(statistics)))
        self.num_accepted = min(len(statistics), max(FEWEST, min(share, MOST)))

    def summaries(self, statistics: np.ndarray) -> np.ndarray:
        """The statistics, or their components, in units of their standard deviation in the simulations."""
        standardised = self._standardise(statistics)
        if self._components is None:
            return standardised
        return np.asarray(self._components.transform(standardised) / self._scales)

    def accept(self, observed: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Find the nearest simulations of each observation.

        Parameters
        ----------
        observed : ndarray of shape (num_observations, num_summaries)
            As :meth:`summaries` gives them.

        Yields
        ------
        rows
            Some of the observations.
        accepted : ndarray of shape (num_rows, num_accepted), dtype=int64
            Indices of simulations.
        weights : ndarray of shape (num_rows, num_accepted)
            1 − (d / δ)² at distance d, with δ that of the furthest accepted one; they sum to 1.
        """
        lengths = (self.simulated**2).sum(axis=1)
        step = max(1, BLOCK // len(lengths))
        for start in range(0, len(observed), step):
            rows = slice(start, start + step)
            part = observed[rows]
            squared = lengths + (part**2).sum(axis=1)[:, np.newaxis] - 2 * part @ self.simulated.T
            accepted = np.argpartition(squared, self.num_accepted - 1, axis=1)[:, : self.num_accepted]
            nearest = np.maximum(np.take_along_axis(squared, accepted, axis=1), 0)
            furthest = nearest.max(axis=1, keepdims=True)
            weights = 1 - np.divide(nearest, furthest, out=np.zeros_like(nearest), where=furthest > 0)
            totals = weights.sum(axis=1, keepdims=True)
            # All at the same distance: none tells more than another.
            weights = np.where(totals > 0, weights, 1.0)
            yield rows, accepted, weights / weights.sum(axis=1, keepdims=True)


def fit_rejection(statistics: np.ndarray, classes: np.ndarray, *, num_classes: int) -> Predictor:
    """Posterior probabilities of models: the weighted share of each class among the accepted simulations."""
    belongs = np.eye(num_classes)[classes]
    rejection = Rejection(statistics, belongs)

    def predict(statistics: np.ndarray) -> np.ndarray:
        probabilities = np.empty((len(statistics), num_classes))
        for rows, accepted, weights in rejection.accept(rejection.summaries(statistics)):
            probabilities[rows] = np.einsum("ij,ijk->ik", weights, belongs[accepted])
        return probabilities

    return predict
