"""A network that reads pairs of sites: how their alleles go together in the sample (linkage disequilibrium), and how far they lie apart.

Each site is paired with those 1, 2, 4, 8, … sites further on (or 1, 2, 3, …). A pair is described by the squared correlation of its two
columns of the matrix (Hill & Robertson 1968), by their standard deviations, which tell how much a correlation of rare alleles is worth, by its
rank distance, by the distance of the two in bp, and by the position of the second. With ``four_gametes`` it is also described by the rarest of its
gametes 00, 01, 10 and 11, without which the history of the pair needs no recombination (Hudson & Kaplan 1985). Layers with the same weights
for all pairs turn this into features, which are averaged over the pairs of each rank distance, in the whole array or in stretches of it; dense
layers read the averages and the number of sites.

A correlation takes phased haplotypes, genotypes of any ploidy and shares of reads alike, and does not depend on which allele is called 1.
With several populations, each has correlations of its own. Distances from the previous site (``positions: distance``), which networks see as
standardised logarithms, are added up to places first.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import one_hot

from popdl.networks._base import InputShape, Network, dense
from popdl.networks._masked import mean

__all__ = ["SitePairs"]

MIN_VARIANCE = 1e-6
"""Of a site that does not vary; with it correlations are 0."""
SMALLEST_DISTANCE = 1e-6
"""On the scale of the median distance of neighbours; what lies under padding has a logarithm too."""


class SitePairs(Network):
    """Linkage between sites at growing distances, described by shared layers and averaged."""

    class Settings(Network.Settings):
        num_distances: int = Field(default=8, ge=1, le=512)
        """How many rank distances, as far as there are sites."""
        spacing: Literal["doubling", "even"] = "doubling"
        """Which rank distances: 1, 2, 4, 8, … sites, or 1, 2, 3, 4, …, which costs more and leaves out no pair of a small array."""
        stretches: int = Field(default=1, ge=1, le=256)
        """In how many equal stretches of the array averages are taken, each pair in the one where its middle lies (1: of the whole array). Several tell where linkage breaks down, for arrays in which a place means something, as with `encoding.crop: midpoint`."""
        four_gametes: bool = False
        """Whether a pair is also described by its rarest gamete; for phased haplotypes."""
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
        if settings.four_gametes and shape.frequencies:
            raise ValueError("four_gametes: individuals and populations have no gametes; leave it out")
        numbers = range(settings.num_distances)
        steps = [2**number if settings.spacing == "doubling" else number + 1 for number in numbers]
        self.distances = [step for step in steps if step < shape.max_sites]
        if not self.distances:
            raise ValueError(f"a pair needs 2 sites, found {shape.max_sites}")
        self.stretches = [
            _stretches(shape.max_sites, distance, number=settings.stretches) for distance in self.distances
        ]
        self.inside_stretches = [_one_hot(stretches) for stretches in self.stretches]
        of_alleles = 4 if settings.four_gametes else 3
        num_channels = of_alleles * max(1, len(shape.populations)) + 1 + 2 * int(shape.has_positions)
        layers: list[nn.Module] = []
        for width in settings.per_pair:
            layers += [nn.Conv1d(num_channels, width, 1), nn.ReLU()]
            num_channels = width
        self.per_pair = nn.Sequential(*layers)
        num_pooled = 1 + num_channels * sum(stretches[-1] + 1 for stretches in self.stretches)
        self.spread = nn.Parameter(torch.ones(())) if shape.has_positions and shape.distances else None
        self.head = dense(num_pooled, settings.head, dropout=settings.dropout)
        self.num_features = settings.head[-1] if settings.head else num_pooled

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        columns = []
        for part in self.by_population(genotypes * mask.unsqueeze(1), dim=1):
            centred = part - part.mean(dim=1, keepdim=True)
            deviation = (centred.square().mean(dim=1, keepdim=True) + MIN_VARIANCE).sqrt()
            columns.append((part > 0, centred / deviation, deviation))
        places = positions
        if positions is not None and self.spread is not None:
            # Distances come as standardised logarithms. With their standard deviation as the spread these are bp, but for one factor.
            places = ((self.spread * positions).exp() * mask).cumsum(dim=1) / self.shape.max_sites
        features = [torch.log(mask.sum(dim=1, keepdim=True).clamp(min=1) / self.shape.max_sites)]
        described, inside = [], []
        for distance in self.distances:
            inside.append(mask[:, distance:])
            channels = [torch.full_like(genotypes[:, 0, distance:], math.log2(distance) / 4)]
            for carried, scaled, deviation in columns:
                correlation = (scaled[:, :, :-distance] * scaled[:, :, distance:]).mean(dim=1)
                first, second = deviation[:, 0, :-distance], deviation[:, 0, distance:]
                channels += [
                    4 * correlation.square(),
                    4 * torch.minimum(first, second),
                    4 * torch.maximum(first, second),
                ]
                if self.settings.four_gametes:
                    channels.append(_rarest_gamete(carried[:, :, :-distance], carried[:, :, distance:]))
            if places is not None:
                between = places[:, distance:] - places[:, :-distance]
                if self.spread is not None:
                    between = between.clamp(min=SMALLEST_DISTANCE).log()
                channels += [between, places[:, distance:]]
            described.append(torch.stack(channels, dim=1) * inside[-1].unsqueeze(1))
        values = self.per_pair(torch.cat(described, dim=2)) * torch.cat(inside, dim=1).unsqueeze(1)
        parts = values.split([pairs.shape[1] for pairs in inside], dim=2)
        # On the device once they are there: what is brought in every step lets the host wait.
        self.inside_stretches = [part.to(values.device) for part in self.inside_stretches]
        features += [_means(*part) for part in zip(parts, inside, self.inside_stretches, strict=True)]
        return self.head(torch.cat(features, dim=1))


def _stretches(max_sites: int, distance: int, *, number: int) -> list[int]:
    """The stretch of the array in which each pair at a distance has its middle, counted from 0 without those that have no pair."""
    middles = (2 * first + distance for first in range(max_sites - distance))  # in halves of a site
    found = [middle * number // (2 * max_sites) for middle in middles]
    ranks = {stretch: rank for rank, stretch in enumerate(dict.fromkeys(found))}
    return [ranks[stretch] for stretch in found]


def _one_hot(stretches: list[int]) -> Tensor:
    """Which pair lies in which stretch, shape (num_pairs, num_stretches), dtype=float32."""
    return one_hot(torch.tensor(stretches, device="cpu"), stretches[-1] + 1).float()


def _means(values: Tensor, pairs: Tensor, stretches: Tensor) -> Tensor:
    """Means of (batch, channels, pairs) over the real pairs of each stretch, side by side."""
    if stretches.shape[1] == 1:
        return mean(values, pairs)
    inside = stretches.to(values.dtype)
    counts = pairs.to(values.dtype) @ inside
    return (values @ inside / counts.clamp(min=1).unsqueeze(1)).flatten(1)


def _rarest_gamete(first: Tensor, second: Tensor) -> Tensor:
    """How many haplotypes carry the rarest of the gametes 00, 01, 10 and 11 of pairs of sites, as log₂ (1 + number) / 2.

    Parameters
    ----------
    first, second : Tensor of shape (batch, num_haplotypes, num_pairs), dtype=bool
        Who carries a 1; missing alleles count as 0s.

    Returns
    -------
    Tensor of shape (batch, num_pairs), dtype=float32
    """
    both = (first & second).sum(dim=1)
    ones, others = first.sum(dim=1), second.sum(dim=1)
    rarest = torch.stack([both, ones - both, others - both, first.shape[1] - ones - others + both]).amin(dim=0)
    return (rarest + 1).float().log2() / 2
