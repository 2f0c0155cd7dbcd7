"""Approximate Bayesian computation with adjustment by neural networks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from popdl.baselines._abc import Rejection, fit_rejection
from popdl.baselines._base import Baseline, Predictor
from popdl.baselines._scikit import Standardised, can_hold_out, fit_classifier, random_state

__all__ = ["AbcNeural"]

NUM_NETWORKS = 3
HIDDEN = 64
PENALTY = 1e-3
MAX_EPOCHS, FEW_EPOCHS = 200, 50
"""At most, and where nothing can be held out for early stopping."""


class AbcNeural(Baseline):
    """The posterior mean after non-linear, heteroscedastic adjustment (Blum & François 2010, Statistics and Computing 20:63).

    Networks m learn the mean of the target given the statistics, others learn the logarithm of its squared residuals,
    log σ². Simulations are near that have the same m and partial-least-squares components; an accepted one with target θ
    becomes m(observed) + (θ − m) σ(observed) / σ, and the prediction is the weighted mean, within the range of the training
    values. All networks are fitted once, to all simulations, instead of to the accepted ones of each observation. Classes
    get their weighted shares among the simulations to which a network gives about the same probabilities.
    """

    def fit_regression(
        self, statistics: np.ndarray, values: np.ndarray, *, names: Sequence[str], generator: np.random.Generator
    ) -> Predictor:
        inputs = _Inputs(statistics)
        simulated = inputs(statistics)
        mean = _fit(simulated, values, generator)
        residuals = values - mean(simulated)
        # A residual of zero has no logarithm: a millionth of their variance is as good as none.
        smallest = max(1e-6 * float((residuals**2).mean()), np.finfo(float).tiny)
        log_variance = _fit(simulated, np.log(np.maximum(residuals**2, smallest)), generator)
        rejection = Rejection(statistics, values[:, np.newaxis], estimate=lambda statistics: mean(inputs(statistics)))
        standardised = residuals / np.exp(log_variance(simulated) / 2)

        def predict(statistics: np.ndarray) -> np.ndarray:
            observed = inputs(statistics)
            left = np.empty(len(observed))
            for rows, accepted, weights in rejection.accept(rejection.summaries(statistics)):
                left[rows] = np.einsum("ij,ij->i", weights, standardised[accepted])
            predicted = mean(observed) + left * np.exp(log_variance(observed) / 2)
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
        from sklearn.exceptions import ConvergenceWarning  # here, for a study is checked sooner without them
        from sklearn.neural_network import MLPClassifier

        inputs = _Inputs(statistics)
        model = MLPClassifier(**_settings(can_hold_out(len(classes), classes), generator))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is bounded on purpose
            predict = fit_classifier(model, inputs(statistics), classes, num_classes=num_classes)
        return fit_rejection(
            statistics,
            classes,
            num_classes=num_classes,
            probabilities=lambda statistics: predict(inputs(statistics)),
        )


class _Inputs:
    """Standardised statistics, kept within the range that the networks saw."""

    def __init__(self, statistics: np.ndarray) -> None:
        self.standardise = Standardised(statistics)
        standardised = self.standardise(statistics)
        self.low, self.high = standardised.min(axis=0), standardised.max(axis=0)

    def __call__(self, statistics: np.ndarray) -> np.ndarray:
        return np.clip(self.standardise(statistics), self.low, self.high)


def _fit(inputs: np.ndarray, values: np.ndarray, generator: np.random.Generator) -> Predictor:
    """The mean of ``NUM_NETWORKS`` networks that start from different weights."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is bounded on purpose
        settings = [_settings(can_hold_out(len(values)), generator) for _ in range(NUM_NETWORKS)]
        networks = [MLPRegressor(**each).fit(inputs, values) for each in settings]
    return lambda inputs: np.mean([network.predict(inputs) for network in networks], axis=0)


def _settings(early_stopping: bool, generator: np.random.Generator) -> dict[str, Any]:
    return {
        "hidden_layer_sizes": (HIDDEN,),
        "alpha": PENALTY,
        "early_stopping": early_stopping,
        "max_iter": MAX_EPOCHS if early_stopping else FEW_EPOCHS,
        "random_state": random_state(generator),
    }
