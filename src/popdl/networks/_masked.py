"""What networks share to leave padding out: convolutions along sites, means, and normalisation."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, distributed, nn

__all__ = ["BatchNormalisation", "Moments", "Normalisation", "after", "convolve", "mean"]

MOMENTUM = 0.1
"""Weight of a batch in the running mean and variance."""
EPSILON = 1e-5


def convolve(layer: nn.Module, values: Tensor) -> Tensor:
    """Convolve with zeros around the window, so that filter j is centred on site j × stride."""
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    width = layer.kernel_size[-1]
    return layer(functional.pad(values, ((width - 1) // 2, width // 2)))


def after(layer: nn.Module, mask: Tensor) -> Tensor:
    """The mask of a layer's output."""
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    return mask[:, :: layer.stride[-1]]


def mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over real sites of values that are 0 elsewhere, shape (batch, channels)."""
    return values.sum(dim=2) / mask.sum(dim=1, keepdim=True).clamp(min=1)


class Moments(NamedTuple):
    """Means over the real sites (and haplotypes) of each example."""

    first: Tensor
    """Tensor of shape (batch, num_features): mean."""
    second: Tensor
    """Tensor of shape (batch, num_features): mean square."""


class Normalisation(nn.Module):
    """Mean and variance to a scale and a shift for each feature.

    In evaluation ``batch`` uses its running values, so that an example is predicted alike in any batch.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, num_features: int, kind: Literal["batch", "instance", "adaptive"]) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        if kind == "batch":
            self.register_buffer("running_mean", torch.zeros(num_features))
            self.register_buffer("running_variance", torch.ones(num_features))

    def forward(self, moments: Moments, num_sites: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and shift, each of shape (batch or 1, num_features).

        Parameters
        ----------
        moments
            Of each example.
        num_sites : Tensor of shape (batch,)
            Real sites of each example: its weight in a batch.
        """
        mean, square = moments
        if self.kind == "batch" and not self.training:
            mean, variance = self.running_mean.unsqueeze(0), self.running_variance.unsqueeze(0)
        else:
            if self.kind == "batch":
                share = (num_sites / _summed(num_sites.sum()).clamp(min=1)).unsqueeze(1)
                mean, square = (_summed((value * share).sum(0, keepdim=True)) for value in (mean, square))
            elif self.kind == "adaptive":
                mean, square = mean.mean(1, keepdim=True), square.mean(1, keepdim=True)
            variance = (square - mean**2).clamp(min=0)
            if self.kind == "batch":
                with torch.no_grad():
                    self.running_mean.lerp_(mean[0], MOMENTUM)
                    self.running_variance.lerp_(variance[0], MOMENTUM)
        scale = self.weight * torch.rsqrt(variance + EPSILON)
        return scale, self.bias - mean * scale


class BatchNormalisation(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) over real sites; 0 under padding."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.normalisation = Normalisation(num_features, "batch")

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Normalise values of shape (batch, num_features, …, num_sites), given which of their sites are real."""
        present = mask.reshape(len(mask), *[1] * (values.ndim - 2), -1)
        exact = torch.promote_types(values.dtype, torch.float32)  # a variance in bfloat16 would be worth little
        real = (values * present).flatten(2)
        num_sites = mask.sum(1)
        number = num_sites.clamp(min=1).unsqueeze(1) * (values[0, 0].numel() // values.shape[-1])
        moments = Moments(real.sum(2, dtype=exact) / number, real.square().sum(2, dtype=exact) / number)
        scale, shift = (
            part.reshape(-1, values.shape[1], *[1] * (values.ndim - 2))
            for part in self.normalisation(moments, num_sites)
        )
        return (values * scale + shift) * present


def _summed(values: Tensor) -> Tensor:
    """The sum over all processes that train together, through which gradients flow; in a process alone, the values."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    from torch.distributed.nn.functional import all_reduce  # here, for it loads much, and most networks are alone

    return all_reduce(values)
