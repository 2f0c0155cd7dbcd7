import json

import numpy as np
import pandas as pd
import pytest
from fabricated import described_targets, fabricate, predictions, study

from popdl.config.training import Evaluation
from popdl.errors import PopdlError
from popdl.evaluation import evaluate, read_predictions
from popdl.metrics import regression_metrics
from popdl.verdict import judge

ERRORS = {"exchangeable/0": 0.3, "cnn/0": 0.5, "prior_mean": 1.0, "ridge_sfs": 0.6, "boosted_trees": 0.45}


@pytest.fixture(scope="module")
def winning(tmp_path_factory):
    folder = tmp_path_factory.mktemp("winning")
    made_up = study()
    return fabricate(folder / "fabricated", made_up, errors=ERRORS), made_up


def rescore(results, made_up, folder, **changes):
    """Evaluate the fabricated results again with some predictions replaced."""
    networks = {name: (results.test_predictions(name), results.model(name)) for name in ("exchangeable/0", "cnn/0")}
    baselines = {name: results.baseline(name) for name in made_up.baselines}
    for name, path in changes.get("baselines", {}).items():
        baselines[name] = path
    for name, path in changes.get("networks", {}).items():
        networks[name] = (path, networks[name][1])
    evaluate(
        networks=networks,
        baselines=baselines,
        targets=results.targets,
        evaluation=Evaluation(),
        seed=made_up.seed,
        output=folder / "metrics.json",
        table=folder / "metrics.tsv",
        replicates=changes.get("replicates", 1),
    )
    return json.loads((folder / "metrics.json").read_text())


def test_a_better_network_is_said_to_be_better(winning):
    metrics = json.loads(winning[0].metrics.read_text())
    assert metrics["best_network"] == "exchangeable/0"
    assert metrics["verdict"]["outcome"] == "better"
    assert metrics["verdict"]["sentences"][0] == "The network exchangeable/0 beats the best baseline on every target."
    assert {row["verdict"] for row in metrics["comparisons"] if row["network"] == "exchangeable/0"} == {"better"}


def test_metrics_are_those_of_the_predictions_on_the_targets_scale(winning):
    results, made_up = winning
    score = json.loads(results.metrics.read_text())["models"]["cnn/0"]["targets"]["recent_size"]
    table = read_predictions(results.test_predictions("cnn/0"), described_targets(made_up))
    columns = [np.log10(table[f"recent_size{end}"]).to_numpy() for end in ("_true", "", "_low", "_high")]
    expected = regression_metrics(*columns, scale="log")
    assert {name: metric["value"] for name, metric in score["metrics"].items()} == pytest.approx(expected)
    long = pd.read_csv(results.metrics_table, sep="\t", na_values=".").query(
        "model == 'cnn/0' and target == 'recent_size'"
    )
    assert dict(zip(long["metric"], long["value"], strict=True)) == pytest.approx(expected, rel=1e-5)
    assert list(long.columns) == ["model", "kind", "target", "n", "metric", "value", "se"]


def test_calibration_groups_hold_every_example(winning):
    for target in json.loads(winning[0].metrics.read_text())["models"]["cnn/0"]["targets"].values():
        assert sum(group["n"] for group in target["calibration"]) == target["n"] == 300
        predicted = [group["predicted"] for group in target["calibration"]]
        assert predicted == sorted(predicted)


def test_a_network_equal_to_a_baseline_is_not_distinguishable(winning, tmp_path):
    results, made_up = winning
    same = results.test_predictions("exchangeable/0")
    metrics = rescore(results, made_up, tmp_path, baselines={"boosted_trees": same})
    rows = [row for row in metrics["comparisons"] if row["baseline"] == "boosted_trees" and row["network"] != "cnn/0"]
    assert {(row["difference"], row["verdict"]) for row in rows} == {(0.0, "not distinguishable")}
    assert metrics["verdict"]["outcome"] == "not distinguishable"
    assert metrics["verdict"]["sentences"][0] == (
        "The network exchangeable/0 is no better than the best baseline on 3 of 3 targets."
    )


def test_a_losing_network_says_so_first_and_worst_first(winning, tmp_path):
    results, made_up = winning
    table = pd.read_csv(results.test_predictions("exchangeable/0"), sep="\t")
    prior = pd.read_csv(results.baseline("prior_mean"), sep="\t")
    columns = [name for name in table if name.startswith("event_time")]
    table[columns] = prior[columns]  # no better than the prior at the second target only
    table.to_csv(tmp_path / "losing.tsv", sep="\t", index=False)
    metrics = rescore(results, made_up, tmp_path, networks={"exchangeable/0": tmp_path / "losing.tsv"})
    sentences = metrics["verdict"]["sentences"]
    assert metrics["verdict"]["outcome"] == "worse"
    assert "is worse than the best baseline on 1 of 3 targets" in sentences[0]
    assert sentences[1].startswith("Time of the change: the network does not beat boosted_trees, it is worse")


def test_the_test_split_does_not_choose_the_best_network(winning, tmp_path):
    results, made_up = winning
    swapped = {"exchangeable/0": results.test_predictions("cnn/0"), "cnn/0": results.test_predictions("exchangeable/0")}
    assert rescore(results, made_up, tmp_path, networks=swapped)["best_network"] == "exchangeable/0"


def test_missing_truths_are_left_out_and_counted(winning, tmp_path):
    results, made_up = winning
    for name in ("exchangeable/0", "cnn/0"):
        table = pd.read_csv(results.test_predictions(name), sep="\t", dtype=str)
        table.loc[:9, "recent_size_true"] = "."
        table["change_true"] = "."
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
    for name in made_up.baselines:
        table = pd.read_csv(results.baseline(name), sep="\t", dtype=str)
        table.loc[:9, "recent_size_true"] = "."
        table["change_true"] = "."
        table.to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
    metrics = rescore(
        results,
        made_up,
        tmp_path,
        networks={name: tmp_path / f"{name}.tsv" for name in ("exchangeable/0", "cnn/0")},
        baselines={name: tmp_path / f"{name}.tsv" for name in made_up.baselines},
    )
    scored = metrics["models"]["cnn/0"]["targets"]
    assert (scored["recent_size"]["n"], scored["recent_size"]["num_missing"]) == (290, 10)
    assert scored["change"] == {"n": 0, "num_missing": 300}
    assert set(metrics["verdict"]["targets"]) == {"recent_size", "event_time"}


def test_replicates_widen_the_standard_errors(winning, tmp_path):
    results, made_up = winning
    wide = rescore(results, made_up, tmp_path, replicates=300)["models"]["cnn/0"]["targets"]["event_time"]
    assert wide["metrics"]["rmse"]["se"] == 0, "one scenario: every resample is the same"


def test_the_same_seed_gives_the_same_bytes(winning, tmp_path):
    results, made_up = winning
    rescore(results, made_up, tmp_path)
    assert (tmp_path / "metrics.json").read_bytes() == results.metrics.read_bytes()


def test_predictions_of_other_examples_are_refused(winning, tmp_path):
    results, made_up = winning
    table = pd.read_csv(results.baseline("ridge_sfs"), sep="\t").iloc[1:]
    table.to_csv(tmp_path / "other.tsv", sep="\t", index=False)
    with pytest.raises(PopdlError, match="its test examples are not those of"):
        rescore(results, made_up, tmp_path, baselines={"ridge_sfs": tmp_path / "other.tsv"})
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize("text", ["", "no table", "example\tx\n1\t2\n"])
def test_a_file_that_is_no_table_of_predictions_is_refused(winning, tmp_path, text):
    (tmp_path / "bad.tsv").write_text(text)
    with pytest.raises(PopdlError, match=r"bad.tsv: expected"):
        read_predictions(tmp_path / "bad.tsv", described_targets(winning[1]))


def test_class_names_that_look_like_numbers_or_nothing_stay_words(tmp_path):
    targets = {"k": {"task": "classification", "classes": ["1", "NA"]}}
    (tmp_path / "p.tsv").write_text("example\tk_true\tk\tk_p_1\tk_p_NA\n4\t1\tNA\t0.2\t0.8\n5\t.\t1\t0.6\t0.4\n")
    table = read_predictions(tmp_path / "p.tsv", targets)
    assert table["k_true"].tolist()[0] == "1" and table["k"].tolist() == ["NA", "1"]
    assert table["k_true"].isna().tolist() == [False, True]


def test_fabricated_predictions_have_the_error_they_are_asked_for(winning):
    made_up = winning[1]
    truth = {
        "recent_size": 10 ** np.linspace(3.7, 4.7, 3000),
        "event_time": np.linspace(80, 4000, 3000),
        "change": np.zeros(3000, int),
    }
    table = predictions(made_up, truth, error=0.5, generator=np.random.default_rng(1))
    residual = np.log10(table["recent_size"] / table["recent_size_true"])
    assert residual.std() / np.log10(truth["recent_size"]).std() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("outcomes", "expected", "sentence"),
    [
        (["better", "better"], "better", "beats the best baseline on every target"),
        (
            ["better", "not distinguishable"],
            "partly better",
            "is no better than the best baseline on 1 of 2 targets, beats",
        ),
        (
            ["not distinguishable", "not distinguishable"],
            "not distinguishable",
            "no better than the best baseline on 2 of 2",
        ),
        (
            ["better", "worse"],
            "worse",
            "is worse than the best baseline on 1 of 2 targets, beats it on 1 of 2",
        ),
        (["worse"], "worse", "is worse than the best baseline."),
        (["cannot be said"] * 2, "cannot be said", "cannot be said: too few test scenarios have a value (20 needed)."),
        (
            ["better", "cannot be said"],
            "partly better",
            "net/0 beats the best baseline on 1 of 2 targets; on 1 of 2 it",
        ),
        (
            ["cannot be said", "not distinguishable"],
            "not distinguishable",
            "is no better than the best baseline on 1 of 2",
        ),
        (["worse", "better", "cannot be said"], "worse", "is worse than the best baseline on 1 of 3"),
    ],
)
def test_bad_news_come_first(outcomes, expected, sentence):
    scores = {"metrics": {"accuracy": {"value": 0.5}}, "num_scenarios": 7}
    names = [f"t{number}" for number in range(len(outcomes))]
    models = {model: {"targets": dict.fromkeys(names, scores)} for model in ("net/0", "ridge_sfs")}
    rows = [
        {"network": "net/0", "baseline": "ridge_sfs", "target": name, "difference": 0.0, "verdict": outcome}
        for name, outcome in zip(names, outcomes, strict=True)
    ]
    verdict = judge("net/0", models, rows, {name: {"label": None, "scale": "linear"} for name in names})
    assert verdict["outcome"] == expected
    assert sentence in verdict["sentences"][0]


def test_few_scenarios_are_no_loss(winning, tmp_path):
    """Seven test scenarios have a value of one target: a large difference there is neither a win nor noise."""
    results, made_up = winning
    for name in ("exchangeable/0", "cnn/0", *made_up.baselines):
        path = results.baseline(name) if name in made_up.baselines else results.test_predictions(name)
        table = pd.read_csv(path, sep="\t", dtype=str)
        table.loc[7:, "event_time_true"] = "."
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
    verdict = rescore(
        results,
        made_up,
        tmp_path,
        networks={name: tmp_path / f"{name}.tsv" for name in ("exchangeable/0", "cnn/0")},
        baselines={name: tmp_path / f"{name}.tsv" for name in made_up.baselines},
    )["verdict"]
    assert verdict["targets"]["event_time"]["outcome"] == "cannot be said"
    assert "cannot be said: only 7 test scenarios have a value (20 needed); R²" in verdict["sentences"][1]
    assert verdict["outcome"] == "partly better" and "no better" not in verdict["sentences"][0]
    assert "within the noise" not in " ".join(verdict["sentences"])
