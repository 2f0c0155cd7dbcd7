"""A network that reads pairs of sites: how their alleles go together in the sample (linkage disequilibrium), and how far they lie apart.

Each site is paired with those 1, 2, 4, 8, … sites further on. A pair is described by the squared correlation of its two columns of
the matrix (Hill & Robertson 1968), by their standard deviations, which tell how much a correlation of rare alleles is worth, by its rank
distance, by the difference of positions, and by that of the second site. Layers with the same weights for all pairs turn this into features, which are
averaged over the pairs of each rank distance; dense layers read the averages and the number of sites.

A correlation takes phased haplotypes, genotypes of any ploidy and shares of reads alike, and does not depend on which allele is called 1.
With several populations, each has correlations of its own. Positions should be `absolute` or `relative`: their difference is then a distance.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from popdl.networks._base import InputShape, Network, dense
from popdl.networks._masked import mean

__all__ = ["SitePairs"]

MIN_VARIANCE = 1e-6
"""Of a site that does not vary; with it correlations are 0."""


class SitePairs(Network):
    """Linkage between sites at growing distances, described by shared layers and averaged."""

    class Settings(Network.Settings):
        num_distances: int = Field(default=8, ge=1, le=16)
        """How many rank distances: 1, 2, 4, 8, … sites."""
        per_pair: list[int] = Field(default=[32, 16], min_length=1)
        """Widths of the layers that describe each pair."""
        head: list[int] = [128, 64]
        """Widths of the dense layers on the averages."""
        dropout: float = Field(default=0.0, ge=0, lt=1)
        """Share of units of the dense layers that are dropped while training."""

    exchangeable = True

    def __init__(self, settings: Any, shape: InputShape) -> None:
        super().__init__(settings, shape)
        if min([*settings.per_pair, *settings.head]) < 1:
            raise ValueError("per_pair, head: expected positive widths")
        self.distances = [2**number for number in range(settings.num_distances) if 2**number < shape.max_sites]
        if not self.distances:
            raise ValueError(f"a pair needs 2 sites, found {shape.max_sites}")
        num_channels = 3 * max(1, len(shape.populations)) + 1 + 2 * int(shape.has_positions)
        layers: list[nn.Module] = []
        for width in settings.per_pair:
            layers += [nn.Conv1d(num_channels, width, 1), nn.ReLU()]
            num_channels = width
        self.per_pair = nn.Sequential(*layers)
        num_pooled = 1 + num_channels * len(self.distances)
        self.head = dense(num_pooled, settings.head, dropout=settings.dropout)
        self.num_features = settings.head[-1] if settings.head else num_pooled

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        columns = []
        for part in self.by_population(genotypes * mask.unsqueeze(1), dim=1):
            centred = part - part.mean(dim=1, keepdim=True)
            deviation = (centred.square().mean(dim=1, keepdim=True) + MIN_VARIANCE).sqrt()
            columns.append((centred / deviation, deviation))
        features = [torch.log(mask.sum(dim=1, keepdim=True).clamp(min=1) / self.shape.max_sites)]
        for distance in self.distances:
            pairs = mask[:, distance:]
            channels = [torch.full_like(genotypes[:, 0, distance:], math.log2(distance) / 4)]
            for scaled, deviation in columns:
                correlation = (scaled[:, :, :-distance] * scaled[:, :, distance:]).mean(dim=1)
                first, second = deviation[:, 0, :-distance], deviation[:, 0, distance:]
                channels += [
                    4 * correlation.square(),
                    4 * torch.minimum(first, second),
                    4 * torch.maximum(first, second),
                ]
            if positions is not None:
                channels += [positions[:, distance:] - positions[:, :-distance], positions[:, distance:]]
            values = self.per_pair(torch.stack(channels, dim=1) * pairs.unsqueeze(1)) * pairs.unsqueeze(1)
            features.append(mean(values, pairs))
        return self.head(torch.cat(features, dim=1))
