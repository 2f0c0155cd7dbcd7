"""What `popdl check` finds wrong with losses, optimizers, schedules, groups of weights and a model to start from."""

from __future__ import annotations

from pathlib import Path

import fabricated
import learnable
import pytest
import yaml
from pydantic import ValidationError

from popdl.cli import main
from popdl.config.base import explain
from popdl.config.study import build_study, study_text
from popdl.config.training import Splits
from popdl.errors import PopdlError
from popdl.study_check import check_study


def study(root: Path, *, targets: dict | None = None, **training):
    """The test study with other targets or settings of the training."""
    values = yaml.safe_load((root / "config/test.yaml").read_text())
    values["targets"] = {**values["targets"], **(targets or {})}
    values["training"] |= training
    return build_study(values)


def test_a_study_that_uses_everything_can_run(root):
    ready = study(
        root,
        targets={
            "recent_size": {"scale": "log", "loss": {"name": "huber", "delta": 0.5}, "weight": 2},
            "event_time": {"task": "classification", "class_weights": {100: 1, 2000: 5}},
            "event_size": {"circular": 50000, "standardise": False, "loss": "mae"},
        },
        optimizer={"name": "SGD", "momentum": 0.9, "nesterov": True},
        schedule={"name": "CyclicLR", "base_lr": 1e-5},
        parameter_groups=[{"match": "body.*", "learning_rate": 1e-4}, {"match": "heads.*", "weight_decay": 0}],
    )
    assert check_study(ready, config_only=True) == []
    again = build_study(yaml.safe_load(study_text(ready)))
    assert again == ready


@pytest.mark.parametrize(
    ("targets", "training", "message"),
    [
        (
            {"recent_size": {"loss": {"name": "huber", "dleta": 1}}},
            {},
            "targets.recent_size.loss: HuberLoss takes no 'dleta'",
        ),
        ({"event_time": {"task": "classification", "loss": "mae"}}, {}, "targets.event_time.loss: L1Loss fails"),
        ({}, {"optimizer": {"name": "SGD", "momentun": 1}}, "training.optimizer: SGD takes no 'momentun'"),
        ({}, {"schedule": "StepLR"}, "training.schedule: StepLR needs 'step_size'"),
        (
            {},
            {"schedule": {"name": "OneCycleLR", "total_steps": 2}},
            "its cycle takes 2 steps, but the training up to 16",
        ),
        ({}, {"parameter_groups": [{"match": "head.*", "freeze": True}]}, "'head.*': it matches no weight"),
    ],
)
def test_what_training_would_meet_is_found_before(root, targets, training, message):
    problems = check_study(study(root, targets=targets, **training), config_only=True)
    assert len(problems) in (1, 2) and message in problems[0]


@pytest.mark.parametrize(
    ("targets", "training", "message"),
    [
        (
            {"event_time": {"task": "classification", "class_weights": {"100": 1, "200": 2}}},
            {},
            "targets.event_time.class_weights: expected a weight for each of 100, 2000, found 100, 200",
        ),
        ({}, {"initialise_from": {"cn": "model.safetensors"}}, "'cn' is none of the networks; did you mean 'cnn'"),
        ({"recent_size": {"scale": "logarithm"}}, {}, "targets.recent_size.scale"),
    ],
)
def test_what_the_config_alone_shows_is_refused(root, targets, training, message):
    with pytest.raises(PopdlError, match=message):
        study(root, targets=targets, **training)


@pytest.mark.parametrize("name", ["mutation_rate", "recombination_rate"])
def test_a_rate_in_another_unit_is_refused_before_it_is_simulated(name):
    simulation = {**fabricated.study().simulation.model_dump(mode="json"), name: 2.0}
    problems = check_study(fabricated.study(applications=False, simulation=simulation))
    assert [problem for problem in problems if f"simulation.{name}: expected a rate per bp per generation" in problem]


@pytest.mark.parametrize("options", [{"scale": "logit"}, {"circular": 10}])
def test_a_prior_off_the_scale_is_refused(options):
    simulation = fabricated.study().simulation.model_dump(mode="json")
    simulation["parameters"]["event_time"] = {"uniform": [-5, 100]}
    with pytest.raises(PopdlError, match=r"targets.event_time: values must lie between 0 and .*down to -5"):
        fabricated.study(applications=False, simulation=simulation, targets={"event_time": options})


def test_a_model_that_does_not_fit_is_found(root, tmp_path):
    with_model = study(root, initialise_from=str(tmp_path / "model.safetensors"))
    assert any("the model cannot be read" in problem for problem in check_study(with_model))
    assert check_study(with_model, config_only=True) == []
    outputs = learnable.fit(
        learnable.dataset(tmp_path / "data"),
        tmp_path,
        training=learnable.TRAINING.model_copy(update={"max_epochs": 1}),
    )
    other = study(root, initialise_from=str(outputs["output"]))
    assert any("trained with another encoding" in problem for problem in check_study(other))


def test_everything_wrong_with_options_is_said_at_once(root, tmp_path, capfd):
    """Of several networks and lists, and together with what is wrong elsewhere: each with its key, what was expected and found."""
    values = yaml.safe_load((root / "config/test.yaml").read_text())
    values["networks"] = {
        "cnn": {"filters": ["a"], "width": "wide", "pol": 2},
        "exchangeable": {"pool": ["meen"], "dropout": 1},
        "mlp": {"widths": [8]},
        "spider": {},
    }
    values["transforms"] = {
        "train": [{"name": "crop", "sites": 0}, "rotat"],
        "prediction": [{"name": "maf", "minimum": "x"}],
    }
    lines = [
        "networks.cnn.filters.0: expected a whole number, found 'a'",
        "networks.cnn.width: expected a whole number, found 'wide'",
        "networks.cnn.pol: unknown key; did you mean 'pool'?",
        "networks.exchangeable.pool.0: expected 'mean' or 'max', found 'meen'; did you mean 'mean'?",
        "networks.exchangeable.dropout: expected a number less than 1, found 1",
        "networks.spider: 'spider' is not one of popdl's networks",
        "transforms.train[0].sites: expected a number of at least 1, found 0",
        "transforms.train[1]: 'rotat' is not one of popdl's transforms; did you mean 'rotate'?",
        "transforms.prediction[0].minimum: expected a number, found 'x'",
    ]
    problems = check_study(build_study(values), config_only=True)
    for line in lines:
        assert sum(line in problem for problem in problems) == 1, line
    assert len(problems) == len(lines), problems
    values["training"]["batch_size"] = 0
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit):
        main(["check", str(config), "--config-only"])
    found = capfd.readouterr().err
    for line in ["training.batch_size: expected a number of at least 1, found 0", *lines]:
        assert found.count(line) == 1, line


def test_a_baseline_that_may_not_read_what_it_needs_is_refused(root):
    values = yaml.safe_load((root / "config/test.yaml").read_text())
    values |= {"baselines": ["prior_mean", "ridge_sfs"], "baseline_statistics": ["pi", "r2"]}
    (problem,) = check_study(build_study(values), config_only=True)
    assert problem.startswith("baselines: ridge_sfs needs the statistics sfs; name them in `baseline_statistics`")
    assert check_study(build_study(values | {"baseline_statistics": ["pi", "sfs"]}), config_only=True) == []


def test_what_a_config_says_as_a_whole_stands_under_its_own_key(root):
    values = yaml.safe_load((root / "config/test.yaml").read_text())
    values["targets"] = {"recent_sise": {}, "event_tim": {}}
    values["baselines"] = ["ridge_sf"]
    with pytest.raises(PopdlError) as refusal:
        build_study(values, where="a.yaml")
    first, *lines = str(refusal.value).splitlines()
    assert first == "a.yaml: the config is not valid:"
    assert [line.partition(":")[0] for line in lines] == ["  targets.recent_sise", "  targets.event_tim", "  baselines"]
    values["simulation"]["num_haplotypes"], values["splits"] = 11, {"train": 1.5}
    with pytest.raises(PopdlError) as refusal:
        build_study(values)
    assert "  simulation.num_haplotypes: expected" in str(refusal.value)
    assert "  splits.train: a share must lie between 0 and 1, found 1.5" in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"train": "most"}, "splits.train: expected a number, or a list, found 'most'"),
        ({"column": 3}, "splits.column: expected text, found 3"),
        ({"train": [1, {}]}, "splits.train.1: expected a whole number, or a number, or text, found {}"),
    ],
)
def test_a_value_of_several_types_has_one_line(values, line):
    with pytest.raises(ValidationError) as refusal:
        Splits.model_validate(values)
    assert line in explain(refusal.value, section=Splits, prefix="splits")
