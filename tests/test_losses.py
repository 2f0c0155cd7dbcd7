"""The losses of targets: named, checked, weighted, circular, and blind to missing truths."""

from __future__ import annotations

import math

import pytest
import torch

from popdl.errors import PopdlError
from popdl.heads import Heads
from popdl.losses import CLASSES, REFUSED, TargetLoss, check_loss

NAN = math.nan
NUMBER = {"task": "regression", "classes": [], "sd": 1.0}
KIND = {"task": "classification", "classes": ["neutral", "soft", "hard"]}


def value(target, outputs, truths):
    return TargetLoss("t", target)(torch.tensor(outputs), torch.tensor(truths)).tolist()


def test_named_losses_have_their_options():
    outputs, truths = [[0.3], [4.0]], [0.0, 1.0]
    assert value({**NUMBER, "loss": "mae"}, outputs, truths) == pytest.approx([0.3, 3.0])
    huber = {**NUMBER, "loss": {"name": "huber", "delta": 0.5}}
    assert value(huber, outputs, truths) == pytest.approx([0.3**2 / 2, 0.5 * (3 - 0.25)])
    smooth = {**NUMBER, "loss": {"name": "SmoothL1Loss", "beta": 0.5}}
    assert value(smooth, outputs, truths) == pytest.approx([0.3**2, 3 - 0.25])


@pytest.mark.parametrize("name", [name for name in CLASSES if name not in REFUSED])
def test_every_loss_of_torch_suits_one_task_and_is_refused_for_the_other(name):
    suits, other = (KIND, NUMBER) if name in ("CrossEntropyLoss", "MultiMarginLoss") else (NUMBER, KIND)
    check_loss("t", {**suits, "loss": name})
    with pytest.raises(PopdlError, match=rf"targets.t.loss: {name} (fails on|must return)"):
        check_loss("t", {**other, "loss": name})


@pytest.mark.parametrize("name", REFUSED)
def test_losses_that_need_something_else_are_refused_with_the_reason(name):
    if name not in CLASSES:
        pytest.skip("this torch has no such loss")
    with pytest.raises(PopdlError, match=rf"{name} cannot be used: it.* "):
        check_loss("t", {**NUMBER, "loss": name})


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"name": "huber", "dleta": 1}, "HuberLoss takes no 'dleta'; did you mean 'delta'"),
        ({"name": "huber", "delta": -1}, "HuberLoss fails on the predictions and truths of a regression: .* delta"),
        ("HuberLos", "'HuberLos' is none of the losses; did you mean 'HuberLoss'"),
        ({"name": "mae", "reduction": "sum"}, "reduction: leave it out; popdl takes the mean over known truths itself"),
        ("plugins/nothing.py:Mine", "there is no file plugins/nothing.py"),
    ],
)
def test_wrong_losses_are_refused(loss, message):
    with pytest.raises(PopdlError, match=message):
        check_loss("t", {**NUMBER, "loss": loss})


def test_the_weight_of_torch_is_class_weights_here():
    with pytest.raises(PopdlError, match="weight: leave it out; use `class_weights`"):
        check_loss("t", {**KIND, "loss": {"name": "cross_entropy", "weight": [1, 2, 3]}})


OWN = """
import torch
from torch import nn

class Pinball(nn.Module):
    def __init__(self, quantile=0.5):
        super().__init__()
        self.quantile = quantile

    def forward(self, predicted, truths):
        error = truths - predicted
        return torch.maximum(self.quantile * error, (self.quantile - 1) * error)

class Shifted(nn.Module):
    def forward(self, predicted, truths):
        return (predicted - truths - 1) ** 2

class Centred(nn.Module):
    def forward(self, predicted, truths):
        error = predicted - truths
        return error**2 + (error.mean() - error[0]) ** 2

class Mean(nn.Module):
    def forward(self, predicted, truths):
        return ((predicted - truths) ** 2).mean()

class Heavy(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, predicted, truths):
        return self.scale * (predicted - truths) ** 2

class NoShift(nn.Module):
    def forward(self, predicted, truths):
        return -predicted.gather(1, truths.unsqueeze(1)).squeeze(1)

class Rooted(nn.Module):
    def forward(self, predicted, truths):
        return ((predicted - truths) ** 2).sqrt()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # files of a user's own are run in their project only
    path = tmp_path / "my_loss.py"
    path.write_text(OWN)
    return lambda name, **options: {"name": f"{path}:{name}", **options}


def test_a_loss_of_your_own_is_used_with_its_options(own):
    target = {**NUMBER, "loss": own("Pinball", quantile=0.9)}
    check_loss("t", target)
    assert value(target, [[0.0], [2.0]], [1.0, 1.0]) == pytest.approx([0.9, 0.1])
    with pytest.raises(PopdlError, match="Pinball takes no 'quantil'; did you mean 'quantile'"):
        check_loss("t", {**NUMBER, "loss": own("Pinball", quantil=0.9)})


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("Shifted", NUMBER, "not suited to a regression: it must be smallest where the prediction equals the truth"),
        ("Centred", NUMBER, "mixes examples"),
        ("Mean", NUMBER, r"must return the loss of each example, shape \(63,\), found \(\)"),
        ("Heavy", NUMBER, "has weights of its own"),
        ("Rooted", NUMBER, "does not give a finite gradient"),
        ("NoShift", KIND, "not suited to a classification"),
        ("Shifted", KIND, "fails on the predictions and truths of a classification"),
    ],
)
def test_a_loss_that_cannot_teach_the_target_is_refused(own, name, target, message):
    with pytest.raises(PopdlError, match=message):
        check_loss("t", {**target, "loss": own(name)})


@pytest.mark.parametrize("loss", [None, "mae", {"name": "huber", "delta": 0.1}])
def test_a_circular_loss_does_not_see_whole_turns(loss):
    target = {**NUMBER, "sd": 0.3, "circular": 2.0, "loss": loss}
    check_loss("t", target)
    function, period = TargetLoss("t", target), 2.0 / 0.3
    truths = torch.rand(20, dtype=torch.float64) * period
    outputs = (torch.randn(20, 1, dtype=torch.float64) * period).requires_grad_()
    losses = function(outputs, truths)
    (gradient,) = torch.autograd.grad(losses.sum(), outputs)
    for turns in (-3, 1, 2):
        moved = (outputs + turns * period).detach().requires_grad_()
        again = function(moved, truths)
        torch.testing.assert_close(again, losses)
        torch.testing.assert_close(torch.autograd.grad(again.sum(), moved)[0], gradient)
        torch.testing.assert_close(function(outputs, truths + turns * period), losses)


def test_mean_circular_error_is_the_squared_error_for_small_errors_and_largest_half_way_round():
    function = TargetLoss("t", {**NUMBER, "sd": 0.5, "circular": 1.0})  # a period of 2 for the network
    errors = torch.tensor([1e-3, 0.5, 1.0, 1.5])
    losses = function(errors.unsqueeze(1), torch.zeros(4))
    assert losses[0].item() == pytest.approx(1e-6, rel=1e-2)
    assert losses.argmax() == 2 and losses[1].item() == pytest.approx(losses[3].item(), rel=1e-5)
    assert losses[2].item() == pytest.approx(4 / math.pi**2)


@pytest.mark.parametrize("loss", [None, {"name": "cross_entropy", "label_smoothing": 0.1}, "MultiMarginLoss"])
def test_class_weights_scale_the_gradient_of_each_class(loss):
    truths = torch.tensor([0.0, 2.0, 1.0, 2.0])
    gradients = []
    for weights in (None, {"neutral": 0.5, "soft": 1.0, "hard": 2.5}):
        target = {**KIND, "loss": loss, "class_weights": weights}
        outputs = torch.tensor([[0.1, 0.2, -0.4]] * 4, requires_grad=True)
        TargetLoss("t", target)(outputs, truths).sum().backward()
        gradients.append(outputs.grad)
    torch.testing.assert_close(gradients[1], gradients[0] * torch.tensor([[0.5], [2.5], [1.0], [2.5]]))


def test_missing_truths_leave_exactly_the_gradient_of_the_rest():
    targets = {
        "size": {**NUMBER, "loss": {"name": "huber", "delta": 0.5}, "weight": 2.0},
        "kind": {**KIND, "class_weights": {"neutral": 0.5, "soft": 1.0, "hard": 2.5}},
        "place": {**NUMBER, "circular": 1.0, "sd": 0.3},
    }
    torch.manual_seed(1)
    heads, features = Heads(4, targets), torch.randn(6, 4)
    truths = torch.tensor([[1.0, 2, 0.1], [0.3, 1, 2.0], [-1, 0, 1], [2, 2, 0], [0, 1, 1], [1, 0, 0.5]])

    def gradient(rows, holes=()):
        known = truths[rows].clone()
        for row, column in holes:
            known[row, column] = NAN
        heads.zero_grad()
        heads.total(heads.losses(heads(features[rows]), known).means()).backward()
        return heads.linear.weight.grad.clone()

    everything = list(range(6))
    holes = [(row, column) for row in (4, 5) for column in range(3)]
    torch.testing.assert_close(gradient(everything, holes), gradient(everything[:4]), rtol=1e-6, atol=1e-8)
    without = gradient(everything, [(row, 0) for row in range(6)])
    assert without.isfinite().all() and (without[heads.columns["size"]] == 0).all()
    assert (without[heads.columns["kind"]] != 0).any()


def test_predicting_needs_no_loss(own):
    heads = Heads(4, {"size": {**NUMBER, "loss": {"name": "plugins/gone.py:Lost"}}})
    assert heads(torch.zeros(2, 4)).shape == (2, 1)
    assert set(heads.state_dict()) == {"linear.weight", "linear.bias"}
