"""Searching for settings: which trials there are, which one is chosen, and what is refused."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fabricated
import learnable
import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from popdl import steps
from popdl.config.search import Search
from popdl.config.study import build_study, load_study
from popdl.config.training import Evaluation
from popdl.config.transforms import Transforms
from popdl.errors import PopdlError
from popdl.layout import Results
from popdl.model import read_card
from popdl.outcomes import read_outcomes
from popdl.plots.figures import make_figures
from popdl.report import write_report
from popdl.search import choose_trial, draw_values, run_trial, train_chosen, write_search_table
from popdl.study_check import check_study
from popdl.trials import changed, num_trials, trial_over

RATE, HEAD = "training.learning_rate", "networks.net.head"
GRID = {"over": {RATE: [1e-3, 3e-3, 1e-2], HEAD: [[8], [8, 8]], "networks.other.filters": [[4], [8]]}}
RANDOM = {"method": "random", "trials": 5, "over": {RATE: {"loguniform": [1e-4, 1e-2]}, HEAD: [[8], [16], [8, 8]]}}


def test_a_grid_has_every_combination_once() -> None:
    trials = [trial_over(GRID, "net", trial) for trial in range(num_trials(GRID, "net"))]
    found = {(over[RATE][0], tuple(over[HEAD][0])) for over in trials}
    assert len(trials) == 6 and found == set(itertools.product([1e-3, 3e-3, 1e-2], [(8,), (8, 8)]))
    assert all(draw_values(over, trial=3, seed=1) == {key: item for key, (item,) in over.items()} for over in trials)
    reordered = {"over": dict(reversed(GRID["over"].items()))}
    assert [trial_over(reordered, "net", trial) for trial in range(6)] == trials


def test_only_the_networks_that_are_searched_have_trials() -> None:
    assert num_trials(GRID, "other") == 6 and num_trials(GRID, "third") == 3
    assert num_trials({"over": {HEAD: [[8], [9]]}}, "other") == 0 == num_trials(None, "net")
    assert num_trials(RANDOM, "net") == 5


def test_draws_are_stable_and_from_the_prior() -> None:
    draws = [draw_values(RANDOM["over"], trial=trial, seed=7) for trial in range(300)]
    assert draws[:5] == [draw_values(trial_over(RANDOM, "net", trial), trial=trial, seed=7) for trial in range(5)]
    rates = np.log10([values[RATE] for values in draws])
    assert rates.min() >= -4 and rates.max() <= -2
    assert abs(rates.mean() + 3) < 4 * (2 / np.sqrt(12)) / np.sqrt(300)
    assert {tuple(values[HEAD]) for values in draws} == {(8,), (16,), (8, 8)}
    more = {**RANDOM["over"], "training.batch_size": {"randint": [8, 65]}}
    for trial, values in enumerate(draws[:20]):
        wider = draw_values(more, trial=trial, seed=7)
        assert {key: wider[key] for key in values} == values
        assert isinstance(wider["training.batch_size"], int) and 8 <= wider["training.batch_size"] < 65
    assert draw_values(RANDOM["over"], trial=0, seed=8) != draws[0]


def test_changes_go_where_the_key_says() -> None:
    options, training = {"head": [1], "deep": {"a": 1}}, {"learning_rate": 1.0}
    values = {"networks.net.deep.b": 2, "networks.net.new.c": [3], RATE: 0.5, "transforms.train": ["fold"]}
    found = changed("net", options, training, {"train": [], "prediction": ["fold"]}, values)
    new = {"head": [1], "deep": {"a": 1, "b": 2}, "new": {"c": [3]}}
    assert found == (new, {"learning_rate": 0.5}, {"train": ["fold"], "prediction": ["fold"]})
    assert options == {"head": [1], "deep": {"a": 1}} and training == {"learning_rate": 1.0}
    with pytest.raises(PopdlError, match=r"search.over.networks.net.head.x: head holds a value, not a section"):
        changed("net", options, training, {}, {"networks.net.head.x": 1})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"over": {}}, "at least 1"),
        ({"over": {RATE: []}}, "expected a list of different values"),
        ({"over": {RATE: [1, 1.0]}}, "expected a list of different values"),
        ({"over": {RATE: 0.1}}, "expected a list of values, or a prior"),
        ({"over": {RATE: {"uniform": [0, 1]}}}, "a grid needs a list of values"),
        ({"over": {RATE: [1]}, "trials": 3}, "leave it out for a grid"),
        ({"over": {RATE: [1]}, "method": "random"}, "say how many"),
        ({**RANDOM, "over": {RATE: {"choice": [1, 2]}}}, "expected a list of values, or a prior"),
        ({**RANDOM, "over": {RATE: {"uniform": [0, 1], "times": "x"}}}, "a prior of its own"),
        ({**RANDOM, "over": {RATE: {"unifrom": [0, 1]}}}, "not a distribution"),
    ],
)
def test_bad_sections_are_refused(section: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Search.model_validate(section)


@pytest.fixture
def values(root: Path) -> dict[str, Any]:
    return yaml.safe_load((root / "config/test.yaml").read_text())


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("training.learning_rat", "there is no such key; did you mean 'learning_rate'"),
        ("training.replicates", "does not make a network better"),
        ("training", "there is no such key"),
        ("networks.cnnn.filters", "there is no such network; did you mean 'cnn'"),
        ("networks.cnn", "give each network a key of its own"),
        ("networks.cnn.name", "give each network a key of its own"),
        ("targets.recent_size.weight", "cannot be compared"),
        ("transforms.trian", "there is no such list; did you mean 'train'"),
        ("simulation.num_scenarios", "write a config for each value"),
    ],
)
def test_keys_that_cannot_be_searched_are_refused(values: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(PopdlError, match=rf"search\.over\.{key}: .*{message}"):
        build_study({**values, "search": {"over": {key: [1, 2]}}})


def test_settings_that_cannot_be_trained_are_found_before(values: dict[str, Any]) -> None:
    search = {"over": {RATE: [0.1, -0.1], "networks.cnn.filters": [[8], [8, "x"]]}}
    problems = check_study(build_study({**values, "search": search}), config_only=True)
    assert len(problems) == 4  # two trials of each network have the bad rate, two of cnn the bad filters (one both)
    assert all("greater than 0, found -0.1" in problem for problem in problems if "learning_rate: -0.1)" in problem)
    assert any("trial 2 of cnn" in problem and "filters" in problem for problem in problems)
    assert check_study(build_study({**values, "search": {"over": {RATE: [0.1, 0.2]}}}), config_only=True) == []


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Any]:
    return learnable.dataset(tmp_path_factory.mktemp("learnable"))


def shared(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    training = learnable.TRAINING.model_dump(mode="json") | {"max_epochs": 2, "gradient_clip": None}
    settings = {"study": "s", "key": "net", "options": learnable.OPTIONS, "training": training, "seed": 3}
    paths = {"checkpoint": folder / "checkpoint", "tensorboard": None}
    return {**settings, **data, **paths, "evaluation": Evaluation(), "transforms": Transforms(), "priors": {}}


def test_the_best_trial_is_chosen_and_is_replicate_0(data: dict[str, Any], tmp_path: Path) -> None:
    search = {"over": {RATE: [5e-3, 1e-5, 1e30], HEAD: [[4]]}}
    folders = [tmp_path / "search/net" / str(trial) for trial in range(3)]
    settings = shared(data, tmp_path)
    for trial, folder in enumerate(folders):
        run_trial(**settings, over=trial_over(search, "net", trial), trial=trial, output=folder)
    choice = tmp_path / "search/net.json"
    choose_trial(folders, output=choice)
    write_search_table([choice], tmp_path / "search.tsv")
    table = pd.read_csv(tmp_path / "search.tsv", sep="\t", na_values=["."])
    losses = table["validation_loss"]
    assert table["chosen"].tolist() == ["yes", "no", "no"] and losses[0] < losses[1] and np.isnan(losses[2])
    assert table[RATE].tolist() == [5e-3, 1e-5, 1e30] and table[HEAD].tolist() == ["[4]"] * 3
    assert losses[0] == read_card(folders[0] / "model.safetensors")["validation_loss"]
    assert not (folders[2] / "model.safetensors").exists() and not settings["checkpoint"].exists()

    files = {"output": tmp_path / "0.safetensors", "history": tmp_path / "0.csv"}
    train_chosen(choice, **settings, **files, replicate=0)
    direct = {"output": tmp_path / "direct.safetensors", "history": tmp_path / "direct.csv"}
    options, training, _ = changed("net", settings["options"], settings["training"], {}, {RATE: 5e-3, HEAD: [4]})
    train_chosen(None, **{**settings, "options": options, "training": training}, **direct, replicate=0)
    assert files["output"].read_bytes() == direct["output"].read_bytes()
    other = {"output": tmp_path / "1.safetensors", "history": tmp_path / "1.csv"}
    train_chosen(choice, **settings, **other, replicate=1)
    cards = [read_card(path["output"]) for path in (files, other)]
    assert [card["replicate"] for card in cards] == [0, 1] and cards[0]["training"] == cards[1]["training"]
    assert cards[1]["network"]["options"]["head"] == [4] and cards[1]["training"]["learning_rate"] == 5e-3

    with pytest.raises(PopdlError, match="all 1 trials of net diverged"):
        choose_trial(folders[2:], output=tmp_path / "none.json")


def test_transforms_are_searched_too(data: dict[str, Any], tmp_path: Path) -> None:
    """How many sites a network needs: the choice goes into every replicate."""
    lists = [[{"name": "crop", "sites": sites}] for sites in (2, 20)]
    search = {"over": {"transforms": [{"train": one, "prediction": one} for one in lists]}}
    settings = shared(data, tmp_path)
    folders = [tmp_path / "search/net" / str(trial) for trial in range(2)]
    for trial, folder in enumerate(folders):
        run_trial(**settings, over=trial_over(search, "net", trial), trial=trial, output=folder)
    choice = tmp_path / "search/net.json"
    choose_trial(folders, output=choice)
    assert json.loads(choice.read_text())["chosen"] == 1
    for replicate in (0, 1):
        files = {"output": tmp_path / f"{replicate}.safetensors", "history": tmp_path / f"{replicate}.csv"}
        train_chosen(choice, **settings, **files, replicate=replicate)
        card = read_card(files["output"])
        assert card["shape"]["max_sites"] == 20
        assert card["transforms"]["prediction"][0]["options"]["sites"] == 20


def test_transforms_that_do_not_fit_are_found_before(values: dict[str, Any]) -> None:
    search = {"over": {"transforms.prediction": [[{"name": "crop", "sites": 10}], [{"name": "crop", "sites": 1000}]]}}
    (problem, *_) = check_study(build_study({**values, "search": search}), config_only=True)
    assert "trial 1 of exchangeable" in problem and "sites: 1000 are more than there are" in problem


def test_the_report_shows_every_trial(tmp_path: Path) -> None:
    over = {"training.learning_rate": [0.001, 0.01], "networks.cnn.dropout": [0.0, 0.5]}
    study = fabricated.study(search={"over": over}, applications=False)
    errors = {"exchangeable/0": 0.3, "cnn/0": 0.4, "prior_mean": 1.0, "ridge_sfs": 0.5, "boosted_trees": 0.45}
    results = fabricated.fabricate(tmp_path / "results", study, errors=errors)
    search = study.search.model_dump(mode="json")  # type: ignore[union-attr]
    for key in study.networks:
        trials = []
        for number in range(num_trials(search, key)):
            loss = None if number == 1 else 0.5 + number
            numbers = dict.fromkeys(("best_epoch", "num_epochs", "num_parameters"), None if loss is None else 12345)
            chosen = draw_values(trial_over(search, key, number), trial=number, seed=0)
            trials.append({"network": key, "trial": number, "values": chosen, "validation_loss": loss, **numbers})
        results.choice(key).parent.mkdir(exist_ok=True)
        results.choice(key).write_text(json.dumps({"chosen": 0, "trials": trials}))
    write_search_table([results.choice(key) for key in study.networks], results.search_table)
    outcomes = read_outcomes(results.folder, study)
    assert outcomes.search is not None and outcomes.search["network"].tolist() == ["exchangeable"] * 2 + ["cnn"] * 4
    make_figures(results=results.folder, study=study, output=results.figures)
    write_report(results=results.folder, study=study, output=results.report)
    page = results.report.read_text()
    assert "<summary>cnn: 4 trials</summary>" in page and "<summary>exchangeable: 2 trials</summary>" in page
    assert page.count("<td>diverged</td>") == 2
    assert (results.figures / "search.png").is_file()


@pytest.mark.slow
@pytest.mark.end_to_end
def test_snakemake_searches_and_combines(root: Path, values: dict[str, Any], tmp_path: Path) -> None:
    values |= {"study": "tiny", "networks": {"mlp": {}}, "baselines": ["prior_mean"], "applications": {}}
    values["simulation"] |= {"num_scenarios": 40, "replicates": 1, "shard_size": 40}
    values["training"] = {"batch_size": 16, "max_epochs": 1, "replicates": 2}
    values["search"] = {
        "method": "random",
        "trials": 2,
        "over": {"networks.mlp.widths": [[4], [8, 8]], RATE: {"loguniform": [1e-3, 1e-2]}},
    }
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(values))
    study, results = load_study(config), Results(tmp_path / "results/tiny")
    for step in (steps.simulate, steps.encode, steps.split):
        step(study, results)

    def snakemake(config: Path, *options: str) -> str:
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            str(root / "Snakefile"),
            "--configfile",
            str(config),
        ]
        command += ["--directory", str(tmp_path), "--profile", str(root / "profiles/default"), "--cores", "2"]
        environment = {**os.environ, "PYTHONPATH": str(root / "src")}
        run = subprocess.run([*command, *options], capture_output=True, text=True, check=False, env=environment)
        assert run.returncode == 0, run.stderr[-5000:]
        return run.stdout + run.stderr

    targets = [f"results/tiny/{name}" for name in ("metrics.json", "search.tsv", "config.yaml")]
    snakemake(config, *targets)
    models = json.loads(results.metrics.read_text())["models"]
    assert list(models) == ["mlp/0", "mlp/1", "mlp/ensemble", "prior_mean"]
    values["search"]["trials"] = 3
    longer = tmp_path / "longer.yaml"
    longer.write_text(yaml.safe_dump(values))
    more = snakemake(longer, *targets, "--dry-run")
    assert more.count("rule run_trial:") == 1  # the trials that are there stay

    # The expanded config repeats the run, here step by step.
    again, repeated = load_study(results.config), Results(tmp_path / "again")
    assert again == study
    for step in (steps.simulate, steps.encode, steps.split, steps.train, steps.evaluate):
        step(again, repeated)
    # The ensemble names the checksums of its members' weights.
    for name in ("search.tsv", "models/mlp/ensemble.json", "predictions/mlp/ensemble.tsv", "metrics.json"):
        assert (repeated.folder / name).read_bytes() == (results.folder / name).read_bytes(), name
