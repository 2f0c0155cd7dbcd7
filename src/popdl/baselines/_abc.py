"""Approximate Bayesian computation: the simulations whose statistics are nearest to the observed ones are the posterior.

Nearness means little in the dozens of dimensions of all statistics. They are replaced by what a regression makes of them, an
estimate of what is inferred (Fearnhead & Prangle 2012, J. R. Statist. Soc. B 74:419), and by ``NUM_COMPONENTS`` partial-least-
squares components (Wegmann et al. 2009, Genetics 182:1207), which know what the estimate left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from popdl.baselines._base import Predictor
from popdl.baselines._scikit import Standardised

__all__ = ["Rejection", "fit_rejection"]

NUM_COMPONENTS = 5
TOLERANCE = 0.1
"""Share of the simulations that is accepted."""
FEWEST, MOST = 200, 2000
"""Simulations accepted at least (if there are as many) and at most."""
BLOCK = 2**22
"""Distances in memory at once: 32 MB."""
SMALLEST_PROBABILITY = 1e-3
"""Estimated probabilities are told apart down to this one."""


class Rejection:
    """Finds the nearest simulations, with Epanechnikov weights (Beaumont et al. 2002, Genetics 162:2025).

    Parameters
    ----------
    statistics : ndarray of shape (num_simulations, num_statistics)
        NaN where a statistic is undefined.
    inferred : ndarray of shape (num_simulations, num_columns)
        What is inferred: values in one column, or a column of zeros and ones for each class.
    estimate
        From statistics to estimates of what is inferred, of shape (n,) or (n, num_columns).
    """

    def __init__(self, statistics: np.ndarray, inferred: np.ndarray, *, estimate: Predictor) -> None:
        self._estimate = estimate
        self._standardise = Standardised(statistics)
        self._rotations = _partial_least_squares(self._standardise(statistics), inferred)
        unscaled = self._unscaled(statistics)
        self._means, scales = unscaled.mean(axis=0), unscaled.std(axis=0)
        self._scales = np.where(scales > 0, scales, 1.0)
        self.simulated = (unscaled - self._means) / self._scales
        """ndarray of shape (num_simulations, num_summaries)."""
        share = int(np.ceil(TOLERANCE * len(statistics)))
        self.num_accepted = min(len(statistics), max(FEWEST, min(share, MOST)))

    def summaries(self, statistics: np.ndarray) -> np.ndarray:
        """Estimates and components in units of their standard deviation in the simulations, kept within the simulations' range."""
        scaled = (self._unscaled(statistics) - self._means) / self._scales
        return np.clip(scaled, self.simulated.min(axis=0), self.simulated.max(axis=0))

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
            # All at the same distance: none tells more than another.
            weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, 1.0)
            yield rows, accepted, weights / weights.sum(axis=1, keepdims=True)

    def _unscaled(self, statistics: np.ndarray) -> np.ndarray:
        return np.column_stack([self._estimate(statistics), self._standardise(statistics) @ self._rotations])


def fit_rejection(
    statistics: np.ndarray, classes: np.ndarray, *, num_classes: int, probabilities: Predictor
) -> Predictor:
    """Posterior probabilities of models: the weighted share of each class among the accepted simulations.

    Parameters
    ----------
    probabilities
        A first estimate of the probabilities; nearness is judged by their logarithms.
    """
    belongs = np.eye(num_classes)[classes]

    def estimate(statistics: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(np.maximum(probabilities(statistics), SMALLEST_PROBABILITY)))

    rejection = Rejection(statistics, belongs, estimate=estimate)

    def predict(statistics: np.ndarray) -> np.ndarray:
        shares = np.empty((len(statistics), num_classes))
        for rows, accepted, weights in rejection.accept(rejection.summaries(statistics)):
            shares[rows] = np.einsum("ij,ijk->ik", weights, belongs[accepted])
        return shares

    return predict


def _partial_least_squares(standardised: np.ndarray, inferred: np.ndarray) -> np.ndarray:
    """Directions of the statistics that vary most with what is inferred (Wold et al. 1984; one after the other, by deflation).

    Returns
    -------
    ndarray of shape (num_statistics, num_components)
        Fewer components than ``NUM_COMPONENTS`` where the statistics have no more to say.
    """
    left, response = standardised.copy(), inferred - inferred.mean(axis=0)
    smallest = 1e-9 * np.linalg.norm(left) * max(float(np.linalg.norm(response)), np.finfo(float).tiny)
    weights, loadings = [], []
    for _ in range(NUM_COMPONENTS):
        directions, strengths, _ = np.linalg.svd(left.T @ response, full_matrices=False)
        if strengths[0] <= smallest:
            break
        component = left @ directions[:, 0]
        loading = left.T @ component / (component @ component)
        left -= np.outer(component, loading)
        weights.append(directions[:, 0])
        loadings.append(loading)
    if not weights:
        return np.empty((standardised.shape[1], 0))
    return np.asarray(np.linalg.solve(np.array(weights) @ np.array(loadings).T, np.array(weights)).T)
