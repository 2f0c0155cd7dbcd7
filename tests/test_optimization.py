"""Optimizers, schedules and groups of weights, by name."""

from __future__ import annotations

import learnable
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from popdl.config.base import validate
from popdl.config.training import Training
from popdl.errors import PopdlError
from popdl.model import load_model, read_card
from popdl.optimization import OPTIMIZERS, SCHEDULERS, frozen_modules, make_optimizer, make_schedule

INNER = [{"name": "LinearLR", "total_iters": 2}, {"name": "ExponentialLR", "gamma": 0.9}]
NEEDED = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [1, 3]},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": 5},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 1e-4},
    "SequentialLR": {"schedulers": INNER, "milestones": [2]},
    "ChainedScheduler": {"schedulers": INNER},
}
EPOCHS, STEPS = 6, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return learnable.dataset(tmp_path_factory.mktemp("learnable"))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4, bias=False))
        self.heads = nn.Linear(4, 2)


def settings(**values) -> Training:
    return validate(Training, {"max_epochs": EPOCHS, **values}, where="training")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_torch_trains_or_is_refused_with_a_reason(name):
    net = nn.Linear(3, 1, bias=False)
    training = settings(optimizer=name, learning_rate=0.01)
    if name in ("LBFGS", "SparseAdam"):
        with pytest.raises(PopdlError, match=rf"training.optimizer: {name} cannot be used: it (needs|takes)"):
            make_optimizer(net, training)
        return
    optimizer = make_optimizer(net, training)
    assert type(optimizer) is OPTIMIZERS[name]
    torch.manual_seed(1)
    inputs = torch.randn(50, 3)
    truths = inputs @ torch.tensor([[1.0], [-2.0], [0.5]])
    losses = []
    for _ in range(20):
        loss = ((net(inputs) - truths) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_options_reach_the_optimizer():
    group = make_optimizer(Net(), settings(optimizer={"name": "SGD", "momentum": 0.5, "nesterov": True})).param_groups[
        0
    ]
    assert (group["momentum"], group["nesterov"], group["lr"], group["weight_decay"]) == (0.5, True, 1e-3, 1e-4)
    assert make_optimizer(Net(), settings(optimizer="sgd")).param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": {"name": "SGD", "momentun": 1}}, "SGD takes no 'momentun'; did you mean 'momentum'"),
        ({"optimizer": {"name": "SGD", "lr": 1}}, "training.optimizer.lr: leave it out and set training.learning_rate"),
        ({"optimizer": {"name": "SGD", "nesterov": True}}, "SGD refuses these options: ValueError: Nesterov"),
        ({"optimizer": "SDG"}, "'SDG' is none of the optimizers; did you mean 'SGD'"),
        pytest.param(
            {"optimizer": "Muon"},
            "Muon refuses these options: .* 2D parameters",
            marks=pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon"),
        ),
        ({"schedule": "StepLR"}, "training.schedule: StepLR needs 'step_size'; known: gamma, step_size"),
        ({"schedule": {"name": "StepLR", "step_sise": 1}}, "StepLR takes no 'step_sise'; did you mean 'step_size'"),
        ({"schedule": "LambdaLR"}, "LambdaLR cannot be used: it needs a function"),
        ({"schedule": "cosin"}, "'cosin' is none of the schedules; did you mean 'cosine'"),
        ({"schedule": {"name": "cosine", "T_max": 3}}, "cosine takes no 'T_max'"),
        ({"schedule": {"name": "OneCycleLR", "total_steps": 3}}, "its cycle takes 3 steps, but the training up to 24"),
        ({"schedule": {"name": "ChainedScheduler", "schedulers": ["OneCycleLR"]}}, "OneCycleLR cannot be part"),
        (
            {"schedule": {"name": "ChainedScheduler", "schedulers": [3]}},
            "expected a list of schedules, each with its name",
        ),
        ({"parameter_groups": [{"match": "bodi.*", "freeze": True}]}, "'bodi.*': it matches no weight; .*body.0.bias"),
        (
            {"parameter_groups": [{"match": "*", "learning_rate": 0.1}, {"match": "heads.*", "freeze": True}]},
            "parameter_groups.1.match: 'heads.*': earlier groups have all weights",
        ),
        ({"parameter_groups": [{"match": "*", "learning_rate": 0}]}, "all weights are frozen"),
        (
            {"parameter_groups": [{"match": "heads.*", "weight_decay": 0}], "optimizer": "Rprop"},
            "parameter_groups.1.weight_decay: Rprop has no weight decay",
        ),
        ({"parameter_groups": [{"match": "heads.*"}]}, "give learning_rate, weight_decay or `freeze: true`"),
        (
            {"parameter_groups": [{"match": "*", "freeze": True, "learning_rate": 1}]},
            "frozen weights have no learning_rate",
        ),
    ],
)
def test_what_does_not_fit_is_refused(values, message):
    with pytest.raises(PopdlError, match=message):
        both(settings(**values))


def both(training):
    """Optimizer and schedule of a small network."""
    optimizer = make_optimizer(Net(), training)
    return optimizer, make_schedule(optimizer, training, steps_per_epoch=STEPS)


def run(training, losses):
    """Learning rates and momenta before each step, and after the last, of a training with these validation losses."""
    optimizer, schedule = both(training)
    seen = []
    for epoch, loss in enumerate(losses):
        for step in range(STEPS):
            schedule.before_step(epoch * STEPS + step)
            seen.append([(group["lr"], group["betas"]) for group in optimizer.param_groups])
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(loss)
    return schedule, seen


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name not in ("LambdaLR", "MultiplicativeLR")])
def test_every_scheduler_goes_on_where_it_was(name):
    training = settings(schedule={"name": name, **NEEDED.get(name, {})})
    losses = [1.0, 0.9, 1.2, 1.3, 0.8, 0.9]
    _, whole = run(training, losses)
    first, seen = run(training, losses[:3])
    optimizer, resumed = both(training)
    resumed.replay([{"validation_loss": loss} for loss in losses[:3]])
    assert resumed.rate == first.rate
    for loss in losses[3:]:
        for _ in range(STEPS):
            seen.append([(group["lr"], group["betas"]) for group in optimizer.param_groups])
            optimizer.step()
            resumed.after_step()
        resumed.after_epoch(loss)
    assert seen == whole
    assert len({rates[0][0] for rates in whole}) > 1 or name == "ReduceLROnPlateau"


def test_steps_and_epochs():
    _, by_epoch = run(
        settings(schedule={"name": "StepLR", "step_size": 2, "gamma": 0.5}, learning_rate=0.08), [1.0] * 6
    )
    rates = [rates[0][0] for rates in by_epoch]
    assert rates[::STEPS] == pytest.approx([0.08, 0.08, 0.04, 0.04, 0.02, 0.02])
    assert rates == [rate for rate in rates[::STEPS] for _ in range(STEPS)]
    _, by_step = run(settings(schedule="OneCycleLR", learning_rate=0.08), [1.0] * 6)
    rates = [rates[0][0] for rates in by_step]
    assert len(set(rates)) == len(rates) and max(rates) == pytest.approx(0.08, rel=0.02)


def test_plateau_follows_the_validation_loss():
    training = settings(schedule={"name": "ReduceLROnPlateau", "patience": 1, "factor": 0.1}, learning_rate=0.1)
    _, seen = run(training, [1.0, 0.9, 0.95, 0.96, 0.5, 0.4])
    assert [rates[0][0] for rates in seen[::STEPS]] == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_groups_keep_their_share_of_the_schedule():
    groups = [{"match": "heads.*", "learning_rate": 1e-2, "weight_decay": 0}, {"match": "body.0.*", "freeze": True}]
    net, training = Net(), settings(parameter_groups=groups, learning_rate=1e-3)
    optimizer = make_optimizer(net, training)
    rest, heads = optimizer.param_groups
    assert [tuple(weight.shape) for weight in heads["params"]] == [(2, 4), (2,)] and heads["weight_decay"] == 0
    assert len(rest["params"]) == 3 and rest["weight_decay"] == 1e-4
    assert [weight.requires_grad for weight in net.body[0].parameters()] == [False, False]
    schedule = make_schedule(optimizer, training, steps_per_epoch=100)
    for step in (0, 3, 50, 99):
        schedule.before_step(step)
        assert heads["lr"] == pytest.approx(10 * rest["lr"])


def test_frozen_normalisation_keeps_its_running_means():
    net = Net()
    assert frozen_modules(net, settings(parameter_groups=[{"match": "body.*", "learning_rate": 0}])) == [net.body[1]]
    assert frozen_modules(net, settings(parameter_groups=[{"match": "body.1.weight", "freeze": True}])) == []
    assert frozen_modules(net, settings()) == []


def test_frozen_weights_stay_as_they_are_and_the_others_learn(data, tmp_path):
    before = learnable.fit(data, tmp_path / "before")["output"]
    training = settings(
        max_epochs=2,
        learning_rate=0.01,
        parameter_groups=[{"match": "body.*", "freeze": True}],
        initialise_from=str(before),
    )
    after = learnable.fit(data, tmp_path / "after", training=training)["output"]
    old, new = (load_model(path).module.state_dict() for path in (before, after))
    for name, tensor in old.items():
        assert torch.equal(tensor, new[name]) == name.startswith("body."), name


OWN = """
from torch.optim import SGD
from torch.optim.lr_scheduler import ExponentialLR

class Halving(ExponentialLR):
    def __init__(self, optimizer):
        super().__init__(optimizer, gamma=0.5)

class Backwards(SGD):
    def __init__(self, params, lr, steps=1):
        super().__init__(params, lr=lr)
        self.steps = steps

    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                state["count"] = state.get("count", 0) + 1
                weight.data.add_(weight.grad.sign(), alpha=-group["lr"] / state["count"])
"""


def test_your_own_optimizer_and_schedule_are_used_resumed_and_in_the_card(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    training = settings(
        max_epochs=3,
        optimizer={"name": f"{path}:Backwards", "steps": 2},
        schedule=f"{path}:Halving",
        learning_rate=0.01,
    )
    whole = learnable.fit(data, tmp_path / "whole", training=training)
    assert pd.read_csv(whole["history"])["learning_rate"].tolist() == pytest.approx([0.01, 0.005, 0.0025])
    own = read_card(whole["output"])["training_plugins"]
    assert set(own) == {"training.optimizer", "training.schedule"}
    assert own["training.optimizer"]["source"] == OWN and len(own["training.optimizer"]["sha256"]) == 64

    from popdl import training as trainings

    save = trainings.save_checkpoint

    def save_and_fail(folder, module, optimizer, progress, **rest):
        save(folder, module, optimizer, progress, **rest)
        if progress.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainings, "save_checkpoint", save_and_fail)
    with pytest.raises(KeyboardInterrupt):
        learnable.fit(data, tmp_path / "killed", training=training)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    resumed = learnable.fit(data, tmp_path / "killed", training=training)
    assert resumed["output"].read_bytes() == whole["output"].read_bytes()
    # Another source is another training.
    path.write_text(OWN.replace("gamma=0.5", "gamma=0.25"))
    other = learnable.fit(data, tmp_path / "other", training=training)
    assert not np.allclose(pd.read_csv(other["history"])["learning_rate"], [0.01, 0.005, 0.0025])
