"""From a network's features to predictions: one linear layer for all targets, and the loss that trains it.

A regression target has one output, on the standardised scale of the training split; a classification target has one
logit per class. Truths come as one column per target, NaN where missing: a missing truth adds nothing to loss or gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from popdl.losses import TargetLoss

__all__ = ["Heads", "TargetLosses", "output_columns"]


class TargetLosses(NamedTuple):
    """The loss of each target, summed over the examples of a batch whose truth is known."""

    sums: Tensor
    """Tensor of shape (num_targets,)."""
    counts: Tensor
    """Tensor of shape (num_targets,): examples with a known truth."""

    def means(self) -> Tensor:
        """Mean loss of each target; 0 for a target that is missing throughout."""
        return self.sums / self.counts.clamp(min=1)


def output_columns(targets: Mapping[str, Mapping[str, Any]]) -> dict[str, slice]:
    """Which outputs of the heads belong to each target."""
    columns: dict[str, slice] = {}
    start = 0
    for name, target in targets.items():
        size = len(target["classes"]) if target["task"] == "classification" else 1
        columns[name] = slice(start, start + size)
        start += size
    return columns


class Heads(nn.Module):
    """Linear heads for any mixture of regression and classification targets.

    Parameters
    ----------
    num_features
        Length of the network's feature vector.
    targets
        Description of every target, in order: ``task``, ``classes`` and, optionally, ``weight`` and what
        :class:`popdl.losses.TargetLoss` reads.
    """

    def __init__(self, num_features: int, targets: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        self.targets = {name: dict(target) for name, target in targets.items()}
        self.columns = output_columns(targets)
        weights = [float(target.get("weight", 1.0)) for target in targets.values()]
        # Kept on the device once it is there: a list that goes there in every step would let the host wait for it.
        self.weights = torch.tensor(weights, dtype=torch.float64, device="cpu")
        self.num_outputs = max(columns.stop for columns in self.columns.values())
        self.linear = nn.Linear(num_features, self.num_outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Features of shape (batch, num_features) to outputs of shape (batch, num_outputs)."""
        return self.linear(features)

    @cached_property
    def functions(self) -> list[TargetLoss]:
        """The loss of every target; made when first used, because predicting needs none."""
        return [TargetLoss(name, target) for name, target in self.targets.items()]

    def losses(self, outputs: Tensor, truths: Tensor) -> TargetLosses:
        """The loss of every target.

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
        sums = [
            (loss(outputs[:, columns], truths[:, number]) * known[:, number]).sum()
            for number, (columns, loss) in enumerate(zip(self.columns.values(), self.functions, strict=True))
        ]
        return TargetLosses(torch.stack(sums), known.sum(dim=0))

    def total(self, means: Tensor) -> Tensor:
        """The loss that is minimised: the weighted mean over targets."""
        self.weights = self.weights.to(means.device)
        weights = self.weights.to(means.dtype)
        return (means * weights).sum() / weights.sum()
