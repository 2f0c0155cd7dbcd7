import numpy as np
import pytest
import scipy.special
from sklearn.metrics import (
    balanced_accuracy_score,
    log_loss,
    r2_score,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
)
from sklearn.metrics import confusion_matrix as sklearn_confusion

from popdl.intervals import half_width
from popdl.metrics import (
    binomial_band,
    bootstrap,
    classification_metrics,
    compare,
    confusion_matrix,
    regression_metrics,
)


@pytest.fixture(scope="module")
def truth():
    return np.random.default_rng(1).normal(4, 0.3, 2000)


def test_a_perfect_prediction(truth):
    metrics = regression_metrics(truth, truth, truth - 1, truth + 1, scale="log")
    expected = {"r2": 1, "rmse": 0, "bias": 0, "mae": 0, "pearson": 1, "coverage": 1, "median_relative_error": 0}
    expected |= {"natural_r2": 1, "natural_rmse": 0}
    assert metrics == pytest.approx(expected, abs=1e-12)


def test_predicting_the_mean_explains_nothing(truth):
    mean = np.full_like(truth, truth.mean())
    metrics = regression_metrics(truth, mean, mean, mean, scale="log")
    assert metrics["r2"] == pytest.approx(0, abs=1e-12)
    assert metrics["rmse"] == pytest.approx(truth.std())
    assert np.isnan(metrics["pearson"]) and metrics["coverage"] == 0


def test_a_constant_error_is_all_bias(truth):
    off = truth + np.log10(1.5)
    metrics = regression_metrics(truth, off, off, off, scale="log")
    assert metrics["bias"] == pytest.approx(np.log10(1.5))
    assert metrics["median_relative_error"] == pytest.approx(0.5), "in natural units: half too much"
    assert metrics["r2"] == pytest.approx(r2_score(truth, off))
    assert regression_metrics(truth, truth * 1.25, truth, truth, scale="linear")[
        "median_relative_error"
    ] == pytest.approx(0.25)


def test_a_correct_gaussian_interval_covers_what_it_says(truth):
    predicted = truth + np.random.default_rng(2).normal(0, 0.1, len(truth))
    half = 1.6449 * 0.1
    coverage = regression_metrics(truth, predicted, predicted - half, predicted + half, scale="log")["coverage"]
    low, high = binomial_band(len(truth), 0.9)
    assert low < coverage < high
    assert (low, high) == pytest.approx((0.9 - 1.96 * 0.0067, 0.9 + 1.96 * 0.0067), abs=1e-3)


def test_the_conformal_interval_covers_new_truths_whatever_the_residuals():
    generator = np.random.default_rng(3)
    covered = [abs(generator.standard_t(2)) <= half_width(generator.standard_t(2, size=99), 0.9) for _ in range(4000)]
    assert np.mean(covered) == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / 4000))


def test_the_conformal_rank():
    assert half_width(np.arange(-9.0, 10), 0.9) == 9  # ⌈20 · 0.9⌉ = 18th of 0 1 1 2 2 … 9 9
    assert half_width(np.array([1.0, -3.0, np.nan]), 0.9) == 3
    assert np.isnan(half_width(np.array([]), 0.9))


def test_ties_count_half():
    probabilities = np.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1], [0.1, 0.9]])
    true = np.array([0, 1, 0, 0])
    assert classification_metrics(true, probabilities, classes="ab")["auc"] == pytest.approx(
        roc_auc_score(true, probabilities[:, 1])
    )


@pytest.mark.parametrize(("scale", "natural"), [("log", lambda x: 10.0**x), ("logit", scipy.special.expit)])
def test_errors_in_natural_units_are_those_of_the_values_themselves(truth, scale, natural):
    predicted = truth + np.random.default_rng(2).normal(0, 0.2, len(truth))
    metrics = regression_metrics(truth, predicted, predicted, predicted, scale=scale)
    assert metrics["natural_r2"] == pytest.approx(r2_score(natural(truth), natural(predicted)))
    assert metrics["natural_rmse"] == pytest.approx(root_mean_squared_error(natural(truth), natural(predicted)))
    assert metrics["natural_r2"] != pytest.approx(metrics["r2"])


def test_on_a_linear_scale_there_are_no_other_units(truth):
    assert not [name for name in regression_metrics(truth, truth, truth, truth) if name.startswith("natural")]


def test_what_is_too_large_to_be_squared_has_no_finite_error():
    true = np.array([1.0, 200.0, 300.0])
    assert not np.isfinite(regression_metrics(true, true + 1, true, true, scale="log")["natural_rmse"])


def test_a_truth_of_zero_has_no_relative_error():
    true, predicted = np.array([0.0, 2.0]), np.array([1.0, 3.0])
    assert regression_metrics(true, predicted, true, true, scale="linear")["median_relative_error"] == 0.5
    assert np.isnan(
        regression_metrics(true[:1], predicted[:1], true[:1], true[:1], scale="linear")["median_relative_error"]
    )


def test_classification_against_scikit_learn():
    generator = np.random.default_rng(4)
    true = generator.integers(3, size=500)
    probabilities = generator.dirichlet([1, 1, 1], size=500) + 0.5 * np.eye(3)[true]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    metrics = classification_metrics(true, probabilities, classes="abc")
    assert metrics["accuracy"] == (probabilities.argmax(axis=1) == true).mean()
    assert metrics["log_loss"] == pytest.approx(log_loss(true, probabilities))
    assert metrics["auc"] == pytest.approx(roc_auc_score(true, probabilities, multi_class="ovr"))
    predicted = probabilities.argmax(axis=1)
    assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, predicted))
    recalls = [metrics[f"recall_{name}"] for name in "abc"]
    np.testing.assert_allclose(recalls, recall_score(true, predicted, average=None))
    np.testing.assert_array_equal(
        confusion_matrix(true, predicted, num_classes=4), sklearn_confusion(true, predicted, labels=range(4))
    )


def test_a_class_that_never_happens_leaves_the_rest_defined():
    probabilities = np.array([[0.7, 0.3, 0.0], [0.2, 0.8, 0.0]])
    metrics = classification_metrics(np.array([0, 1]), probabilities, classes="abc")
    assert metrics["auc"] == metrics["balanced_accuracy"] == metrics["recall_b"] == 1
    assert np.isnan(metrics["recall_c"])
    assert np.isnan(classification_metrics(np.array([0, 0]), probabilities[:, :1], classes="a")["auc"])


def test_balanced_accuracy_is_not_taken_in_by_a_common_class():
    probabilities = np.tile([0.9, 0.1], (100, 1))
    metrics = classification_metrics(np.arange(100) // 95, probabilities, classes=["neutral", "sweep"])
    assert metrics["accuracy"] == 0.95
    assert metrics["balanced_accuracy"] == 0.5
    assert (metrics["recall_neutral"], metrics["recall_sweep"]) == (1, 0)


def test_the_bootstrap_error_of_a_mean_is_that_of_the_textbook():
    values = np.random.default_rng(5).normal(size=400)
    resamples = bootstrap(lambda x: {"mean": x.mean()}, (values,), scenarios=np.arange(400), seed=1)
    assert resamples["mean"].std() == pytest.approx(values.std() / 20, rel=0.1)


def test_replicates_of_a_scenario_are_drawn_together():
    values = np.repeat(np.random.default_rng(5).normal(size=100), 4)
    resamples = bootstrap(lambda x: {"mean": x.mean()}, (values,), scenarios=np.arange(400) // 4, seed=1)
    assert resamples["mean"].std() == pytest.approx(values.std() / 10, rel=0.1), "100 independent values, not 400"


def test_resamples_are_paired_and_repeatable():
    values = np.random.default_rng(6).normal(size=300)
    first, second = (
        bootstrap(lambda x: {"mean": x.mean()}, (x,), scenarios=np.arange(300), seed=9)["mean"]
        for x in (values, values + 1)
    )
    np.testing.assert_allclose(second - first, 1)


@pytest.mark.parametrize(
    ("shift", "verdict"),
    [(-1.0, "better"), (1.0, "worse"), (0.0, "not distinguishable"), (0.05, "not distinguishable")],
)
def test_a_comparison(shift, verdict):
    resampled = np.random.default_rng(7).normal(shift, 0.1, 1000)
    assert compare(shift, resampled, num_scenarios=100)["verdict"] == verdict


def test_no_difference_is_not_distinguishable():
    assert compare(0.0, np.zeros(1000), num_scenarios=100)["verdict"] == "not distinguishable"


def test_a_handful_of_scenarios_tells_nothing_apart():
    assert compare(-1.0, np.full(1000, -1.0), num_scenarios=19)["verdict"] == "cannot be said"
    assert compare(-1.0, np.full(1000, -1.0), num_scenarios=20)["verdict"] == "better"
