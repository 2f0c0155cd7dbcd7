"""What `popdl check` finds wrong with losses, optimizers, schedules, groups of weights and a model to start from."""

from __future__ import annotations

from pathlib import Path

import fabricated
import learnable
import pytest
import yaml

from popdl.config.study import build_study, study_text
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


@pytest.mark.parametrize("options", [{"scale": "logit"}, {"circular": 10}])
def test_a_prior_off_the_scale_is_refused(tmp_path, options):
    simulation = fabricated.study(tmp_path).simulation.model_dump(mode="json")
    simulation["parameters"]["event_time"] = {"uniform": [-5, 100]}
    with pytest.raises(PopdlError, match=r"targets.event_time: values must lie between 0 and .*down to -5"):
        fabricated.study(tmp_path, applications=False, simulation=simulation, targets={"event_time": options})


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
