"""The loss of each target, for every example of a batch on its own, so that missing truths are masked exactly.

Any loss of ``torch.nn`` that compares one prediction with one truth can be named in the config, or a user's own subclass of
``torch.nn.Module`` with ``forward(predicted, truths)``: for a number both have the shape (batch,), on the target's
standardised scale; for a class they are logits (batch, num_classes) and the numbers of the classes (batch,), int64. Either
way it returns the loss of each example, shape (batch,). What is wrong with a loss is found by trying it, before any training.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from popdl.config.training import named
from popdl.errors import PopdlError
from popdl.torch_parts import arguments, construct, find

__all__ = ["CircularError", "TargetLoss", "check_loss"]

SHORT = {
    "mse": "MSELoss",
    "mae": "L1Loss",
    "huber": "HuberLoss",
    "smooth_l1": "SmoothL1Loss",
    "cross_entropy": "CrossEntropyLoss",
}
CLASSES: dict[str, type[nn.Module]] = {
    name: value for name, value in vars(nn).items() if isinstance(value, type) and name.endswith("Loss")
}
PAIRS = "it compares examples with each other, and here each has a truth of its own"
REFUSED = {
    "CTCLoss": "it aligns sequences, and a target is one value",
    "CosineEmbeddingLoss": PAIRS,
    "HingeEmbeddingLoss": PAIRS,
    "MarginRankingLoss": PAIRS,
    "TripletMarginLoss": PAIRS,
    "TripletMarginWithDistanceLoss": PAIRS,
    "AdaptiveLogSoftmaxWithLoss": "it is a layer with weights of its own",
    "LinearCrossEntropyLoss": "it is a layer with weights of its own",
    "GaussianNLLLoss": "it needs a variance beside the prediction",
    "PoissonNLLLoss": "its predictions are rates of counts; use `scale: log` with another loss",
    "KLDivLoss": "it compares distributions; for classes use CrossEntropyLoss",
    "NLLLoss": "it expects log-probabilities; CrossEntropyLoss is the same for the logits that networks give",
    "BCELoss": "it expects probabilities of two classes; use `task: classification` with CrossEntropyLoss",
    "BCEWithLogitsLoss": "it expects truths of 0 and 1; use `task: classification` with CrossEntropyLoss",
    "SoftMarginLoss": "it expects truths of −1 and 1; use `task: classification` with CrossEntropyLoss",
    "MultiLabelMarginLoss": "it expects several classes for one example",
    "MultiLabelSoftMarginLoss": "it expects several classes for one example",
}
OWN_ARGUMENTS = ("reduction", "size_average", "reduce", "weight")
"""Arguments of torch's losses that have their own place in the config, or none."""


class CircularError(nn.Module):
    """Mean circular error: 2 (P/2π)² (1 − cos(2π (predicted − truth) / P)), with the period P.

    It is the squared error for small errors, and smooth and bounded for large ones; 1 − cos is one minus the resultant of
    Mardia & Jupp (2000, Directional Statistics, section 2.3).
    """

    def __init__(self, period: float) -> None:
        super().__init__()
        self.radius = period / (2 * math.pi)

    def forward(self, predicted: Tensor, truths: Tensor) -> Tensor:
        return 2 * self.radius**2 * (1 - ((predicted - truths) / self.radius).cos())


class TargetLoss:
    """The loss of one target.

    Parameters
    ----------
    name
        Name of the target.
    target
        Description of the target as in ``targets.json``: ``task``, and, optionally, ``loss``, ``class_weights``, and
        ``circular`` with ``sd``.

    Raises
    ------
    PopdlError
        If the loss is unknown, takes no such options or is not suited to the target.
    """

    def __init__(self, name: str, target: Mapping[str, Any]) -> None:
        self.where = f"targets.{name}.loss"
        self.is_class = target["task"] == "classification"
        weights = target.get("class_weights")
        self.weights = None if weights is None else torch.tensor([weights[label] for label in target["classes"]])
        circular = target.get("circular")
        self.period = None if circular is None else circular / target["sd"]
        self.function = self._function(target.get("loss"))

    def _function(self, loss: Any) -> nn.Module:
        if loss is None:
            if self.period is not None:
                return CircularError(self.period)
            return nn.CrossEntropyLoss(reduction="none") if self.is_class else nn.MSELoss(reduction="none")
        name, options = named(loss)
        name = SHORT.get(name, name)
        part = find(
            name, kind="losses", base=nn.Module, classes=CLASSES, refused=REFUSED, short=SHORT, where=self.where
        )
        fixed: dict[str, Any] = {}
        if name in CLASSES:
            for key in OWN_ARGUMENTS:
                if key in options:
                    instead = (
                        "use `class_weights`" if key == "weight" else "popdl takes the mean over known truths itself"
                    )
                    raise PopdlError(f"{self.where}.{key}: leave it out; {instead}.")
        if "reduction" in arguments(part):
            fixed["reduction"] = "none"
        return construct(part, options=options, where=self.where, fixed=fixed)

    def __call__(self, outputs: Tensor, truths: Tensor) -> Tensor:
        """Loss of each example.

        Parameters
        ----------
        outputs : Tensor of shape (batch, num_outputs)
            The target's outputs.
        truths : Tensor of shape (batch,)
            Standardised value, or number of the class; no NaN.

        Returns
        -------
        Tensor of shape (batch,)
        """
        if self.is_class:
            classes = truths.long()
            losses: Tensor = self.function(outputs, classes)
            if self.weights is not None:
                self.weights = self.weights.to(outputs.device)
                losses = losses * self.weights[classes]
            return losses
        predicted = outputs[:, 0]
        if self.period is not None:
            error = predicted - truths
            predicted = truths + (error - self.period * (error / self.period).round())
        return self.function(predicted, truths)


def check_loss(name: str, target: Mapping[str, Any]) -> None:
    """Try a target's loss, and refuse it if a network could not learn the target with it.

    Raises
    ------
    PopdlError
        If it fails, does not give one finite number for each example, mixes examples, or is not smallest where the prediction
        is right (a number: where it equals the truth; a class: where its logit is highest, whatever is added to all).
    """
    loss = TargetLoss(name, target)
    part = type(loss.function).__name__
    if any(True for _ in loss.function.parameters()):
        raise PopdlError(f"{loss.where}: {part} has weights of its own, which a model file does not hold.")
    if loss.is_class:
        num_classes = max(len(target["classes"]), 2)
        truths = torch.arange(num_classes).repeat(num_classes).float()
        guesses = torch.arange(num_classes).repeat_interleave(num_classes)
        outputs = 5 * nn.functional.one_hot(guesses, num_classes).float()
        right = guesses == truths
    else:
        steps = torch.tensor([0.0, -0.25, 0.25, -1, 1, -20, 20])
        if loss.period is not None:
            steps = steps.clamp(-loss.period / 2, loss.period / 2)
        truths = torch.linspace(-2, 2, 9).repeat_interleave(len(steps))
        outputs = (truths + steps.repeat(9)).unsqueeze(1)
        right = (steps == 0).repeat(9)
    found = _try(loss, outputs, truths, part)
    if tuple(found.shape) != tuple(truths.shape):
        raise PopdlError(
            f"{loss.where}: {part} must return the loss of each example, shape ({len(truths)},), found {tuple(found.shape)}."
        )
    if not found.isfinite().all():
        raise PopdlError(f"{loss.where}: {part} does not give finite numbers for every prediction and truth.")
    few = [1, 3]
    if not torch.allclose(_try(loss, outputs[few], truths[few], part), found[few], rtol=1e-4, atol=1e-5):
        raise PopdlError(f"{loss.where}: {part} mixes examples: the loss of one depends on the others in its batch.")
    unweighted = found if loss.weights is None else found / loss.weights[truths.long()]
    if loss.is_class:
        smallest = unweighted[right].max() < unweighted[~right].min()
        smallest &= torch.allclose(_try(loss, outputs + 3, truths, part), found, rtol=1e-3, atol=1e-4)
        wanted = "where the logit of the true class is highest, whatever is added to all logits"
    else:
        rows = found.reshape(9, -1)
        smallest = (rows[:, :1] <= rows + 1e-5).all() & (rows[:, 0] < rows[:, 5:].min(dim=1).values).all()
        wanted = "where the prediction equals the truth"
    if not smallest:
        raise PopdlError(f"{loss.where}: {part} is not suited to a {target['task']}: it must be smallest {wanted}.")


def _try(loss: TargetLoss, outputs: Tensor, truths: Tensor, part: str) -> Tensor:
    outputs = outputs.clone().requires_grad_()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is worth a warning here is refused with a message of our own
            found = loss(outputs, truths)
            (gradient,) = torch.autograd.grad(found.sum(), outputs)
    except Exception as error:  # torch raises every kind, and a user's own class may
        raise PopdlError(
            f"{loss.where}: {part} fails on the predictions and truths of a {'classification' if loss.is_class else 'regression'}: "
            f"{type(error).__name__}: {error}."
        ) from error
    if not gradient.isfinite().all():
        raise PopdlError(f"{loss.where}: {part} does not give a finite gradient for every prediction and truth.")
    return found.detach()
