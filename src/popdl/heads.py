"""From a network's features to predictions: one linear layer for all targets, and the loss that trains it.

A regression target has one output, on the standardised scale of the training split; a classification target has one
logit per class. Truths come as one column per target, NaN where missing: a missing truth adds nothing to loss or gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

__all__ = ["Heads", "TargetLosses"]


class TargetLosses(NamedTuple):
    """The loss of each target, summed over the examples of a batch whose truth is known."""

    sums: Tensor
    """Tensor of shape (num_targets,)."""
    counts: Tensor
    """Tensor of shape (num_targets,): examples with a known truth."""

    def means(self) -> Tensor:
        """Mean loss of each target; 0 for a target that is missing throughout."""
        return self.sums / self.counts.clamp(min=1)


class Heads(nn.Module):
    """Linear heads for any mixture of regression and classification targets.

    Parameters
    ----------
    num_features
        Length of the network's feature vector.
    targets
        Description of every target, in order: ``task``, ``classes`` and, optionally, ``weight``.
    """

    def __init__(self, num_features: int, targets: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        self.columns: dict[str, slice] = {}
        num_outputs = 0
        for name, target in targets.items():
            size = len(target["classes"]) if target["task"] == "classification" else 1
            self.columns[name] = slice(num_outputs, num_outputs + size)
            num_outputs += size
        self.tasks = [target["task"] for target in targets.values()]
        self.weights = [float(target.get("weight", 1.0)) for target in targets.values()]
        self.num_outputs = num_outputs
        self.linear = nn.Linear(num_features, num_outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Features of shape (batch, num_features) to outputs of shape (batch, num_outputs)."""
        return self.linear(features)

    def losses(self, outputs: Tensor, truths: Tensor) -> TargetLosses:
        """Squared error (regression) or cross-entropy (classification) of every target.

        Parameters
        ----------
        outputs : Tensor of shape (batch, num_outputs)
        truths : Tensor of shape (batch, num_targets)
            Standardised value, or number of the class; NaN where missing.
        """
        outputs = outputs.float()
        known = ~torch.isnan(truths)
        # NaN must be gone before any arithmetic: 0 × NaN would put it into the gradient.
        truths = torch.where(known, truths, 0.0)
        sums = []
        for number, (columns, task) in enumerate(zip(self.columns.values(), self.tasks, strict=True)):
            truth = truths[:, number]
            if task == "classification":
                loss = functional.cross_entropy(outputs[:, columns], truth.long(), reduction="none")
            else:
                loss = (outputs[:, columns.start] - truth) ** 2
            sums.append((loss * known[:, number]).sum())
        return TargetLosses(torch.stack(sums), known.sum(dim=0))

    def total(self, means: Tensor) -> Tensor:
        """The loss that is minimised: the weighted mean over targets."""
        weights = means.new_tensor(self.weights)
        return (means * weights).sum() / weights.sum()
