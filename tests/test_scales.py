"""Targets on a logit scale, circular ones, and those that are not standardised, from the splits to the scores."""

from __future__ import annotations

import re

import learnable
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from popdl.baselines._base import fit_baseline
from popdl.cards import class_prior
from popdl.config.training import Evaluation, Target
from popdl.dataset import open_shards, read_parameters
from popdl.errors import PopdlError
from popdl.evaluation import _reliability, evaluate, read_predictions
from popdl.loader import PackedData
from popdl.losses import TargetLoss
from popdl.metrics import regression_metrics
from popdl.model import load_model, read_card
from popdl.plots import style
from popdl.plots.genome_track import genome_track
from popdl.plots.parity import MANY, parity
from popdl.plots.priors import prior_bins
from popdl.prediction import predict_arrays, predict_test
from popdl.scaling import (
    TargetScaling,
    fit_scale,
    from_scale,
    next_to_prediction,
    on_scale,
    probability_shares,
    turns_around,
)

TARGETS = {
    "size": Target(scale="log", loss="mae"),
    "kind": Target(task="classification", class_weights={"even": 1, "rare": 5}),
    "share": Target(scale="logit", weight=2),
    "place": Target(standardise=False, circular=1.0),
}
SPLIT = np.array(["train"] * 8 + ["validation"] * 2)


def scale(target: Target, values, classes=()):
    return fit_scale("t", target, np.asarray(values, dtype=float), SPLIT, classes)


@given(st.lists(st.floats(1e-9, 1 - 1e-9), min_size=10, max_size=10, unique=True))
def test_logit_values_come_back_and_stay_between_0_and_1(values):
    logit = scale(Target(scale="logit"), values)
    written = logit.to_network(np.array(values))
    np.testing.assert_allclose(logit.to_natural(written), values, rtol=1e-6)
    anything = logit.to_natural(np.array([-1e6, -40.0, 0.0, 40.0, 1e6]))
    assert ((anything > 0) & (anything < 1)).all() and np.isfinite(on_scale(anything, "logit")).all()


def test_values_that_are_not_standardised_are_left_on_their_scale():
    values = np.linspace(0.05, 0.95, 10)
    plain = scale(Target(standardise=False), values)
    assert (plain.mean, plain.sd) == (0.0, 1.0)
    np.testing.assert_array_equal(plain.to_network(values), values)
    np.testing.assert_array_equal(
        scale(Target(scale="log", standardise=False), values).to_network(values), np.log10(values)
    )


@given(st.floats(-20, 20), st.floats(0, 3), st.floats(-20, 20))
def test_intervals_go_round_the_circle(value, half, truth):
    """In the interval is what lies within half its width, the shorter way round, wherever the numbers are cut."""
    circular = scale(Target(circular=2.0), np.linspace(0, 2, 10))
    ends = [np.array([end]) for end in (value, value - half, value + half)]
    predicted, low, high = circular.interval(*ends)
    assert all(0 <= end[0] <= 2 for end in (predicted, low, high))
    true, predicted, low, high = next_to_prediction(np.mod([truth], 2), predicted, low, high, period=2.0)
    distance = abs(turns_around(np.array([truth - value]), 2.0)[0])
    if abs(distance - half) > 1e-6 and half > 1e-6:
        assert bool(low[0] <= true[0] <= high[0]) == (distance < half)


def test_models_are_averaged_the_shorter_way_round():
    circular = scale(Target(circular=1.0), np.linspace(0, 1, 10))
    mean = circular.natural(circular.mean_of([np.array([0.9, 0.4]), np.array([0.2, 0.6])]))
    np.testing.assert_allclose(mean, [0.05, 0.5])


@pytest.mark.parametrize(
    ("target", "values", "message"),
    [
        (Target(scale="logit"), [0.0, *[0.5] * 9], "scale logit needs values between 0 and 1, .* found 0; use"),
        (Target(scale="logit"), [0.5] * 9 + [1.0], "scale logit needs values between 0 and 1, .* found 1; use"),
        (Target(circular=1.0), [0.5] * 9 + [1.2], r"values from 0 to its period \(1\), found 1.2"),
        (Target(circular=1.0), [-0.5] + [0.9] * 9, r"values from 0 to its period \(1\), found -0.5"),
    ],
)
def test_values_off_the_scale_are_refused(target, values, message):
    with pytest.raises(PopdlError, match=message):
        scale(target, values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "classification", "circular": 1}, "a classification target has neither"),
        ({"circular": 1, "scale": "log"}, "a circular target is linear, found `scale: log`"),
        ({"class_weights": "balanced"}, "only a classification target has classes"),
        ({"task": "classification", "class_weights": {"a": 0}}, "greater than 0"),
        ({"task": "classification", "class_weights": "even"}, "balanced"),
        ({"loss": {"delta": 1}}, "name"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        Target(**options)


def test_class_weights_keep_their_ratios_and_are_1_on_average():
    kinds = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])  # of the training split, six and two
    given_weights = Target(task="classification", class_weights={"neutral": 1, "hard": 5})
    weights = scale(given_weights, kinds, ["neutral", "hard"]).class_weights
    assert weights["hard"] == pytest.approx(5 * weights["neutral"])
    assert 6 * weights["neutral"] + 2 * weights["hard"] == pytest.approx(8)
    balanced = scale(Target(task="classification", class_weights="balanced"), kinds, ["neutral", "hard"]).class_weights
    assert balanced == pytest.approx({"neutral": 8 / 12, "hard": 8 / 4})


def test_class_weights_must_name_the_classes():
    kinds = np.array([0, 1] * 5)
    with pytest.raises(PopdlError, match="expected a weight for each of neutral, hard, found neutral, soft"):
        scale(Target(task="classification", class_weights={"neutral": 1, "soft": 2}), kinds, ["neutral", "hard"])
    with pytest.raises(PopdlError, match="`balanced` needs every class in the training split, which has no 'never'"):
        scale(Target(task="classification", class_weights="balanced"), kinds, ["neutral", "hard", "never"])
    numbers = Target(task="classification", class_weights={2: 1, 0.5: 3})
    assert numbers.class_weights == {"2": 1, "0.5": 3}


def test_circular_metrics_do_not_depend_on_where_the_circle_is_cut():
    random = np.random.default_rng(2)
    true, error = random.normal(0, 0.1, 300), random.normal(0, 0.02, 300)

    def metrics(shift):
        columns = [
            np.mod(values + shift, 1) for values in (true, true + error, true + error - 0.03, true + error + 0.03)
        ]
        return regression_metrics(*next_to_prediction(*columns, period=1.0), circular=1.0)

    middle, cut = metrics(0.5), metrics(0.0)
    assert cut == pytest.approx(middle, nan_ok=True)
    assert cut["rmse"] == pytest.approx(error.std(), rel=0.05) and cut["mae"] < 0.02
    assert cut["r2"] == pytest.approx(1 - (error**2).sum() / ((true - true.mean()) ** 2).sum(), abs=0.01)
    assert 0.9 < cut["pearson"] < 1 and cut["coverage"] == pytest.approx((np.abs(error) < 0.03).mean())


def test_relative_error_on_a_logit_scale_is_that_of_the_fraction():
    true, predicted = np.array([0.5, 0.2]), np.array([0.6, 0.3])
    columns = [on_scale(values, "logit") for values in (true, predicted, predicted, predicted)]
    assert regression_metrics(*columns, scale="logit")["median_relative_error"] == pytest.approx((0.2 + 0.5) / 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return learnable.dataset(tmp_path_factory.mktemp("mixed"), targets=TARGETS)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    training = learnable.TRAINING.model_copy(update={"max_epochs": 30, "patience": 30})
    return learnable.fit(data, tmp_path_factory.mktemp("trained"), training=training)


def test_a_mix_of_all_kinds_of_targets_learns(trained):
    history = pd.read_csv(trained["history"])
    for name in TARGETS:
        losses = history[f"validation_loss_{name}"]
        assert losses.min() < 0.8 * losses.iloc[0], name
    card = read_card(trained["output"])
    assert card["targets"]["size"]["loss"] == {"name": "mae"}
    assert card["targets"]["place"]["circular"] == 1.0
    weights = card["targets"]["kind"]["class_weights"]
    assert weights["rare"] == pytest.approx(5 * weights["even"])


def test_predictions_and_intervals_are_on_the_scale_of_the_target(trained, data):
    packed = PackedData.from_shards(data["shards"])
    model = load_model(trained["output"])
    table = predict_arrays([model], packed, np.arange(packed.num_examples))
    assert (table[["share", "share_low", "share_high"]] > 0).all(axis=None)
    assert (table[["share", "share_low", "share_high"]] < 1).all(axis=None)
    assert (table["share_low"] < table["share"]).all() and (table["share"] < table["share_high"]).all()
    assert table[["place", "place_low", "place_high"]].to_numpy().min() >= 0
    assert table[["place", "place_low", "place_high"]].to_numpy().max() <= 1
    width = model.card["intervals"]["half_widths"]["place"]
    assert 0 < width <= 0.5
    np.testing.assert_allclose(np.mod(table["place_high"] - table["place_low"], 1), np.mod(2 * width, 1), atol=1e-6)
    both = predict_arrays([model, model], packed, np.arange(20))
    pd.testing.assert_frame_equal(both, table.head(20), rtol=1e-9)


def test_networks_and_baselines_are_scored_on_the_same_scales(trained, data, tmp_path):
    predict_test(trained["output"], shards=data["shards"], splits=data["splits"], output=tmp_path / "net.tsv")
    names = ("prior_mean", "ridge_sfs")
    for name in names:
        fit_baseline(name, **data, evaluation=Evaluation(), seed=1, output=tmp_path / f"{name}.tsv")
    evaluate(
        networks={"net/0": (tmp_path / "net.tsv", trained["output"])},
        baselines={name: tmp_path / f"{name}.tsv" for name in names},
        targets=data["targets"],
        evaluation=Evaluation(),
        seed=1,
        output=tmp_path / "metrics.json",
        table=tmp_path / "metrics.tsv",
    )
    scaling = TargetScaling.read(data["targets"])
    tables = [read_predictions(tmp_path / f"{name}.tsv", scaling.to_json()) for name in ("net", *names)]
    for name in ("size", "share"):
        for table in tables[1:]:
            np.testing.assert_allclose(table[f"{name}_true"], tables[0][f"{name}_true"], rtol=1e-9)
    scores = pd.read_csv(tmp_path / "metrics.tsv", sep="\t", na_values=["."]).set_index(["model", "target", "metric"])[
        "value"
    ]
    values = read_parameters(open_shards(data["shards"]), ["place"])[tables[0]["example"].astype(int), 0]
    error = turns_around(tables[2]["place"].to_numpy() - values, 1.0)
    assert scores["ridge_sfs", "place", "rmse"] == np.float64(f"{np.sqrt((error**2).mean()):.6g}")
    for name in ("share", "place"):
        assert abs(scores["prior_mean", name, "r2"]) < 0.4  # of 24 examples
        assert scores["ridge_sfs", name, "r2"] > 0.3
        assert 0.5 < scores["ridge_sfs", name, "coverage"] <= 1


@pytest.fixture
def ax():
    with plt.rc_context(style.RC):
        figure, axes = plt.subplots(figsize=(3, 3))
        yield axes
        plt.close(figure)


METRICS = {key: {"value": 0.5} for key in ("r2", "rmse", "bias")}


def predictions(count: int, *, period: float | None) -> pd.DataFrame:
    random = np.random.default_rng(4)
    true = random.uniform(0.01, 0.99, count)
    if period is None:
        value = on_scale(true, "logit") + random.normal(0, 0.3, count)
        columns = [from_scale(value + shift, "logit") for shift in (0, -0.5, 0.5)]
    else:
        columns = [np.mod(true + random.normal(0, 0.02, count) + shift, period) for shift in (0, -0.1, 0.1)]
    return pd.DataFrame(dict(zip(("t_true", "t", "t_low", "t_high"), (true, columns[0], *columns[1:]), strict=True)))


@pytest.mark.parametrize("count", [50, MANY + 1])
def test_parity_on_a_logit_axis_shows_fractions(ax, count):
    described = {"scale": "logit", "label": "Share", "unit": None, "low": 0.001, "high": 0.99}
    parity(predictions(count, period=None), ax, target="t", described=described, metrics=METRICS)
    ax.figure.canvas.draw()
    assert ax.get_xscale() == ax.get_yscale() == "logit"
    assert "0.5" in [label.get_text() for label in ax.get_xticklabels()]
    assert "0.500 logit" in " ".join(text.get_text() for text in ax.texts)


@pytest.mark.parametrize("count", [350, MANY + 1])
def test_circular_parity_lies_along_the_diagonal(ax, count):
    described = {"scale": "linear", "circular": 1.0, "label": "Place", "unit": None, "low": 0.0, "high": 1.0}
    table = predictions(count, period=1.0)
    assert (np.abs(table["t"] - table["t_true"]) > 0.5).any()
    parity(table, ax, target="t", described=described, metrics=METRICS)
    if count <= MANY:
        (points,) = [line for line in ax.lines if line.get_marker() == "."]
        assert np.abs(np.diff(points.get_xydata(), axis=1)).max() < 0.1
        assert ax.get_ylim()[0] <= points.get_ydata().min() and ax.get_ylim()[1] >= points.get_ydata().max()


def test_circular_intervals_along_a_genome_have_their_length(ax):
    table = pd.DataFrame({"contig": "1", "start": [0, 100], "end": [100, 200], "outside_domain": False})
    table = table.assign(t=[0.95, 0.5], t_low=[0.85, 0.4], t_high=[0.05, 0.6])
    described = {"scale": "linear", "circular": 1.0, "label": "Place", "unit": None, "low": 0.0, "high": 1.0}
    genome_track(table, ax, target="t", described=described)
    segments = ax.containers[0].lines[2][1].get_segments()
    np.testing.assert_allclose([np.diff(segment[:, 1])[0] for segment in segments], [0.2, 0.2])


def test_prior_bins_on_a_logit_scale_hold_every_draw():
    values = np.random.default_rng(1).uniform(0.001, 0.999, 500)
    edges, shares = prior_bins(values, scale="logit")
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.diff(on_scale(edges, "logit")), np.diff(on_scale(edges, "logit"))[0])


WEIGHTED = {
    **{"task": "classification", "classes": ["neutral", "sweep"], "loss": None},
    **{"class_weights": {"neutral": 5 / 9, "sweep": 5.0}, "class_shares": {"neutral": 0.9, "sweep": 0.1}},
}


def test_a_network_with_class_weights_predicts_the_posterior_of_the_prior_that_is_stated():
    """The logits that minimise the weighted loss over 1,000 examples, of which each shows one of three things."""
    counts = torch.tensor([[600.0, 10], [250, 30], [50, 60]])  # of each thing and class: 900 and 100
    logits = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    loss = TargetLoss("t", WEIGHTED)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14)

    def step():
        optimizer.zero_grad()
        total = sum((counts[:, k] * loss(logits, torch.full((3,), float(k)))).sum() for k in range(2)) / 1000
        total.backward()
        return total

    optimizer.step(step)
    shares = probability_shares(WEIGHTED)
    assert shares == pytest.approx({"neutral": 0.5, "sweep": 0.5})
    joint = (counts / counts.sum(dim=0)).numpy() * list(shares.values())
    posterior = joint / joint.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(logits.detach().softmax(dim=1).numpy(), posterior, atol=1e-4)


def test_weighted_reliability_is_that_of_the_prior_that_is_stated():
    generator = np.random.default_rng(2)
    true = (generator.random(20000) < 0.1).astype(int)
    seen = generator.normal(true * 1.5, 1 + true)
    densities = np.stack([scipy.stats.norm.pdf(seen, 0, 1), scipy.stats.norm.pdf(seen, 1.5, 2)], axis=1)
    probabilities = densities / densities.sum(axis=1, keepdims=True)  # where both classes are equally frequent
    weights = np.array([5 / 9, 5.0])[true]
    inside = [
        [row["band_low"] <= row["true"] <= row["band_high"] for row in _reliability(true, probabilities, weights=given)]
        for given in (weights, None)
    ]
    assert sum(inside[0]) >= 9 and sum(inside[1]) <= 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {},
            r"refer to a prior with the shares neutral: 50.0%, sweep: 50.0%, not to those .* \(neutral: 90.0%, sweep: 10.0%\)",
        ),
        ({"loss": {"name": "CrossEntropyLoss"}}, "refer to a prior with the shares neutral: 50.0%"),
        ({"loss": {"name": "MultiMarginLoss"}}, "do not refer to the shares of classes in its training split"),
        ({"class_shares": None}, "do not refer to the shares of classes in its training split"),
    ],
)
def test_what_class_weights_do_to_probabilities_is_said(change, sentence):
    assert re.search(sentence, class_prior({**WEIGHTED, **change}))
    assert class_prior({**WEIGHTED, "class_weights": None}) is None


def test_shares_of_weighted_classes_are_those_of_the_training_split():
    target = Target(task="classification", class_weights="balanced")
    fitted = scale(target, [0, 0, 0, 0, 0, 0, 1, np.nan, 1, 1], ["even", "rare"])
    assert fitted.class_shares == pytest.approx({"even": 6 / 7, "rare": 1 / 7})
    written = TargetScaling({"t": fitted}).to_json()["t"]
    assert probability_shares(written) == pytest.approx({"even": 0.5, "rare": 0.5})
    assert "class_shares" not in TargetScaling({"t": scale(Target(), np.arange(10.0))}).to_json()["t"]
