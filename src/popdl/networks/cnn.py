"""A plain 2-D convolutional network that reads genotypes as an image, haplotypes × sites.

Positions are a second channel, the same for all haplotypes. Filters see neighbouring haplotypes, so their order matters: use
``encoding.sort: similarity``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as functional
from pydantic import Field
from torch import Tensor, nn

from popdl.networks._base import InputShape, Network, dense
from popdl.networks._masked import BatchNormalisation

__all__ = ["Cnn"]


class Cnn(Network):
    """2-D convolutions and pooling over haplotypes and sites, and dense layers on the flattened result."""

    class Settings(Network.Settings):
        filters: list[int] = Field(default=[16, 32], min_length=1)
        """Number of filters of each convolution; each is followed by pooling."""
        width: int = Field(default=3, ge=1)
        """Haplotypes and sites that a filter sees."""
        stride: int = Field(default=2, ge=1)
        """Haplotypes and sites from one place where the filters are applied to the next."""
        pool: int = Field(default=2, ge=1)
        """Of this many neighbouring haplotypes and sites, the largest value is kept."""
        head: list[int] = [64]
        """Widths of the dense layers."""
        dropout: float = Field(default=0.0, ge=0, lt=1)
        """Share of units of the dense layers that are dropped while training."""

    def __init__(self, settings: Any, shape: InputShape) -> None:
        super().__init__(settings, shape)
        if min([*settings.filters, *settings.head]) < 1:
            raise ValueError("filters, head: expected positive widths")
        self.convolutions, self.normalisations = nn.ModuleList(), nn.ModuleList()
        channels = 1 + int(shape.has_positions)
        height, length = shape.num_haplotypes, shape.max_sites
        for filters in settings.filters:
            # What is normalised afterwards needs no bias.
            self.convolutions.append(nn.Conv2d(channels, filters, settings.width, settings.stride, bias=False))
            self.normalisations.append(BatchNormalisation(filters))
            height, length = (math.ceil(math.ceil(size / settings.stride) / settings.pool) for size in (height, length))
            channels = filters
        num_flat = channels * height * length
        self.head = dense(num_flat, settings.head, dropout=settings.dropout)
        self.num_features = settings.head[-1] if settings.head else num_flat

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        values = genotypes.unsqueeze(1)
        if positions is not None:
            values = torch.cat([values, positions[:, None, None].expand_as(values)], dim=1)
        # Features innermost: with so few, convolutions take two thirds of the time (a CPU; those of exchangeable and custom_cnn take more).
        values = (values * mask[:, None, None]).contiguous(memory_format=torch.channels_last)
        before, behind = (self.settings.width - 1) // 2, self.settings.width // 2
        pool = self.settings.pool
        for convolution, normalisation in zip(self.convolutions, self.normalisations, strict=True):
            values = convolution(functional.pad(values, (before, behind, before, behind)))
            mask = mask[:, :: self.settings.stride]
            values = functional.relu(normalisation(values, mask))
            values = functional.max_pool2d(values, pool, ceil_mode=True)
            mask = functional.max_pool1d(mask.float(), pool, ceil_mode=True) > 0
        return self.head(values.flatten(1))
