"""Approximate Bayesian computation against naive loops and known posteriors."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cross_decomposition import PLSRegression

from popdl.baselines import _abc
from popdl.baselines._base import Baseline
from popdl.baselines.abc_local_linear import _intercepts
from popdl.plugins import load


def fitted(name, statistics, values):
    return load("baselines", name, Baseline)().fit_regression(
        statistics,
        values,
        names=[f"s{column}" for column in range(statistics.shape[1])],
        generator=np.random.default_rng(1),
    )


def gaussian(num_simulations, *, num_noise=0):
    """θ ~ N(0, 1), two statistics s₁, s₂ ~ N(θ, σ²) with σ² = 1/2: E[θ | s] = (s₁ + s₂) / (2 + σ²), var[θ | s] = σ² / (2 + σ²)."""
    random = np.random.default_rng(7)
    theta = random.normal(size=num_simulations)
    statistics = theta[:, np.newaxis] + random.normal(0, np.sqrt(0.5), (num_simulations, 2))
    return theta, np.column_stack([3 + 20 * statistics, random.normal(size=(num_simulations, num_noise))]), random


def posterior_mean(statistics):
    return (statistics[:, :2] - 3).sum(axis=1) / 20 / 2.5


def rejection(statistics, theta):
    """With the mean of the statistics for an estimate."""
    return _abc.Rejection(statistics, theta[:, np.newaxis], estimate=lambda statistics: statistics.mean(axis=1))


def test_the_nearest_are_accepted_with_epanechnikov_weights(monkeypatch):
    monkeypatch.setattr(_abc, "FEWEST", 20)
    monkeypatch.setattr(_abc, "BLOCK", 400)  # several blocks
    theta, statistics, _ = gaussian(100)
    found = rejection(statistics, theta)
    observed = found.summaries(statistics[:9] + 5)
    seen = []
    for rows, accepted, weights in found.accept(observed):
        for row, chosen, weight in zip(range(100)[rows], accepted, weights, strict=False):
            distances = np.linalg.norm(found.simulated - observed[row], axis=1)
            nearest = np.argsort(distances)[:20]
            assert set(chosen.tolist()) == set(nearest.tolist())
            expected = 1 - (distances[chosen] / distances[nearest[-1]]) ** 2
            np.testing.assert_allclose(weight, expected / expected.sum(), atol=1e-9)
            seen.append(row)
    assert seen == list(range(9))


def test_local_linear_adjustment_equals_naive_regression():
    theta, statistics, _ = gaussian(1500)
    found = rejection(statistics, theta)
    observed = found.summaries(statistics[:40] + 1.0)
    for _, accepted, weights in found.accept(observed):
        differences = found.simulated[accepted] - observed[:, np.newaxis]
        adjusted = _intercepts(differences, theta[accepted], weights)
        for row in range(40):
            design = np.column_stack([np.ones(differences.shape[1]), differences[row]])
            root = np.sqrt(weights[row])
            expected = np.linalg.lstsq(design * root[:, np.newaxis], theta[accepted[row]] * root, rcond=None)[0][0]
            assert adjusted[row] == pytest.approx(expected, abs=1e-4)


def test_components_equal_those_of_scikit_learn():
    theta, statistics, _ = gaussian(300, num_noise=8)
    standardised = (statistics - statistics.mean(axis=0)) / statistics.std(axis=0)
    for inferred in (theta[:, np.newaxis], np.eye(3)[np.digitize(theta, [-0.5, 0.5])]):
        components = standardised @ _abc._partial_least_squares(standardised, inferred)
        reference = PLSRegression(5, scale=False, max_iter=10000, tol=1e-12).fit(standardised, inferred)
        for column, expected in zip(components.T, reference.transform(standardised).T, strict=True):
            assert abs(np.corrcoef(column, expected)[0, 1]) > 1 - 1e-6


@pytest.mark.parametrize(
    ("name", "num_noise", "bias"), [("abc_local_linear", 0, 0), ("abc_local_linear", 30, 0.02), ("abc_neural", 0, 0.05)]
)
def test_the_posterior_mean_of_a_gaussian(name, num_noise, bias):
    """Its error at one observation: that of a weighted mean of the accepted, with variance σ²/(2 + σ²) · Σ w².

    In two dimensions the share of accepted distances below d is (d / δ)², so with w = 1 − (d / δ)² E[w²] / E[w]² is 4/3;
    noise adds components, and with them one regression coefficient each to the error.
    """
    theta, statistics, random = gaussian(8000, num_noise=num_noise)
    observed = np.column_stack(
        [3 + 20 * random.uniform(-1, 1, (200, 1)) + random.normal(0, 5, (200, 2)), random.normal(size=(200, num_noise))]
    )
    error = fitted(name, statistics, theta)(observed) - posterior_mean(observed)
    standard_error = np.sqrt(0.2 * 4 / 3 / 800)
    assert np.sqrt((error**2).mean()) < 1.25 * standard_error + bias
    assert abs(error.mean()) < 4 * standard_error / np.sqrt(10) + bias, "neighbouring observations share simulations"


def test_predictions_stay_within_the_prior():
    random = np.random.default_rng(2)
    theta = random.uniform(2, 3, 3000)
    statistics = theta[:, np.newaxis] + random.normal(0, 0.5, (3000, 1))
    for name in ("abc_local_linear", "abc_neural"):
        predicted = fitted(name, statistics, theta)(np.array([[-50.0], [2.5], [50.0]]))
        assert ((predicted >= 2) & (predicted <= 3)).all()
        assert predicted[0] < predicted[2]


def test_model_probabilities_of_two_gaussians():
    """Models N(−1, 1) and N(1, 1), prior 1/4 and 3/4: log odds of the second are 2s + log 3."""
    random = np.random.default_rng(5)
    classes = (random.random(20000) < 0.75).astype(int)
    statistics = (2 * classes - 1 + random.normal(size=20000))[:, np.newaxis]
    observed = np.linspace(-2, 1.5, 30)[:, np.newaxis]
    true = 1 / (1 + np.exp(-(2 * observed[:, 0] + np.log(3))))
    for name, bias in (("abc_local_linear", 0.01), ("abc_neural", 0.04)):
        predict = load("baselines", name, Baseline)().fit_classification(
            statistics, classes, num_classes=3, names=["s"], generator=random
        )
        found = predict(observed)
        np.testing.assert_allclose(found.sum(axis=1), 1)
        assert (found[:, 2] == 0).all()
        # In one dimension E[w²] / E[w]² = 6/5; 1,000 simulations are accepted.
        assert (np.abs(found[:, 1] - true) < 4 * np.sqrt(true * (1 - true) * 1.2 / 1000) + bias).all()


def test_many_statistics_become_few_summaries():
    theta, statistics, _ = gaussian(500, num_noise=60)
    found = rejection(statistics, theta)
    assert found.simulated.shape == (500, 1 + _abc.NUM_COMPONENTS)
    np.testing.assert_allclose(found.simulated.std(axis=0), 1)
    assert abs(np.corrcoef(found.simulated[:, 1], theta)[0, 1]) > 0.8
    assert rejection(statistics[:, :2], theta).simulated.shape == (500, 3), "two statistics have two components"


def test_simulations_that_are_all_alike():
    theta = np.random.default_rng(1).normal(size=300)
    statistics = np.column_stack([np.r_[1.0, np.zeros(299)]])
    predicted = fitted("abc_local_linear", statistics, theta)(np.zeros((1, 1)))
    assert np.isfinite(predicted).all() and abs(predicted[0]) < 0.5
