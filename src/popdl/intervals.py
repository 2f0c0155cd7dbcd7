"""Prediction intervals that hold their promise whatever the method: split conformal prediction."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["half_width"]


def half_width(residuals: np.ndarray, coverage: float) -> float:
    """Half the width of an interval around a prediction that covers new truths with this probability.

    The ⌈(n + 1)·coverage⌉-th smallest absolute residual of n examples not used for fitting (Lei et al. 2018, JASA 113:
    1094-1111, algorithm 2). With fewer examples than the coverage needs it is the largest one, and promises less.

    Parameters
    ----------
    residuals : ndarray of shape (n,)
        Truth minus prediction on the validation split, on the scale of the interval; NaN is left out.
    coverage
        Coverage aimed at.
    """
    absolute = np.sort(np.abs(residuals[np.isfinite(residuals)]))
    if len(absolute) == 0:
        return math.nan
    rank = math.ceil(round((len(absolute) + 1) * coverage, 9))
    return float(absolute[min(rank, len(absolute)) - 1])
