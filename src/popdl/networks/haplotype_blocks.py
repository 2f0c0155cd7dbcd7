"""A network that reads how haplotypes, frequencies and linkage change along the window, for what has a place in it, such as a sweep.

The window is cut into blocks of a few sites. Each block is described by

* its haplotypes, in the stretches of 1, 2, 4, … blocks around it: the share of pairs that are identical (Garud et al. 2015's H1), the
  frequency of the commonest haplotype, and the mean square of the frequency of a haplotype's own kind;
* its sites, by layers with the same weights for all: allele frequency, and squared correlation with the sites 1, 2, 4, … further on,
  averaged over the block;
* where it lies, and how many bp its sites take.

Convolutions run along the blocks. Their output is averaged around evenly spaced places of the window, and dense layers read all places side
by side: unlike a mean over the window, this tells a sweep in the middle from one at the side. That is the idea of S/HIC's
statistics in sub-windows (Schrider & Kern 2016), with statistics that are learned. The order of haplotypes makes no difference; with several
populations, each has channels of its own. Positions should be `relative` or `absolute`; without positions, the rank of a site is its place.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as functional
from pydantic import Field
from torch import Tensor, nn

from popdl.networks._base import InputShape, Network, dense
from popdl.networks._masked import convolve

__all__ = ["HaplotypeBlocks"]

MIN_VARIANCE = 1e-6
"""Of a site that does not vary; with it correlations are 0."""
SMALLEST_SHARE = 1e-3
EDGE = math.sqrt(3)
"""Where positions that are spread evenly end, once they are standardised."""


class HaplotypeBlocks(Network):
    """Haplotype frequencies, allele frequencies and linkage along the window, by convolutions over blocks of sites."""

    class Settings(Network.Settings):
        block: int = Field(default=8, ge=1, le=16)
        """Sites of a block."""
        num_lengths: int = Field(default=5, ge=1, le=10)
        """How many lengths of stretches are searched for identical haplotypes: 1, 2, 4, … blocks."""
        num_distances: int = Field(default=6, ge=0, le=12)
        """How many rank distances linkage is read at: 1, 2, 4, … sites (0: none)."""
        per_site: list[int] = Field(default=[32], min_length=1)
        """Widths of the layers that describe each site."""
        filters: list[int] = Field(default=[64, 64], min_length=1)
        """Number of filters of each convolution along the blocks."""
        width: int = Field(default=3, ge=1)
        """Neighbouring blocks that a filter sees."""
        num_places: int = Field(default=11, ge=1)
        """Evenly spaced places of the window around which blocks are averaged."""
        head: list[int] = [128]
        """Widths of the dense layers on all places."""
        dropout: float = Field(default=0.2, ge=0, lt=1)
        """Share of units of the dense layers, and of what they read, that are dropped while training."""

    exchangeable = True

    def __init__(self, settings: Any, shape: InputShape) -> None:
        super().__init__(settings, shape)
        if min([*settings.per_site, *settings.filters, *settings.head]) < 1:
            raise ValueError("per_site, filters, head: expected positive widths")
        shape.check_haplotypes()
        num_populations = max(1, len(shape.populations))
        self.distances = [2**number for number in range(settings.num_distances) if 2**number < shape.max_sites]
        self.per_site = _convolutions((2 + len(self.distances)) * num_populations, settings.per_site, 1)
        num_channels = settings.per_site[-1] + 3 * settings.num_lengths * num_populations + 3
        self.along = _convolutions(num_channels, settings.filters, settings.width)
        num_pooled = (settings.filters[-1] + 1) * settings.num_places
        self.dropout = nn.Dropout(settings.dropout)
        self.head = dense(num_pooled, settings.head, dropout=settings.dropout)
        self.num_features = settings.head[-1] if settings.head else num_pooled

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        block = self.settings.block
        surplus = -mask.shape[1] % block
        genotypes = functional.pad(genotypes * mask.unsqueeze(1), (0, surplus))
        mask = functional.pad(mask, (0, surplus))
        num_sites = mask.sum(dim=1, keepdim=True).clamp(min=1)
        if positions is None:
            places = (torch.arange(mask.shape[1], device=mask.device) + 0.5) / num_sites * 2 * EDGE - EDGE
        else:
            places = functional.pad(positions, (0, surplus))
        places = places * mask
        # Channels of sites become means over blocks; a block counts if any of its sites is real.
        share = mask.float().unflatten(1, (-1, block)).mean(dim=2)
        weight = share.clamp(min=1 / block)
        present = (share > 0).float()
        sites = self._run(self.per_site, self._sites(genotypes, mask), mask.float())
        middle = _block_means(places.unsqueeze(1), block)[:, 0] / weight
        squares = _block_means(places.square().unsqueeze(1), block)[:, 0] / weight
        spread = torch.log((squares - middle.square()).clamp(min=0).sqrt() + SMALLEST_SHARE)
        channels = [
            _block_means(sites, block) / weight.unsqueeze(1),
            *self._haplotypes(genotypes, mask, share == 1),
            torch.stack([middle, spread, share], dim=1),
        ]
        values = self._run(self.along, torch.cat(channels, dim=1) * present.unsqueeze(1), present)
        return self.head(self.dropout(self._at_places(values, middle, share)))

    @staticmethod
    def _run(layers: nn.ModuleList, values: Tensor, mask: Tensor) -> Tensor:
        for layer in layers:
            values = functional.relu(convolve(layer, values)) * mask.unsqueeze(1)
        return values

    def _sites(self, genotypes: Tensor, mask: Tensor) -> Tensor:
        """Channels that describe each site, shape (batch, num_channels, num_sites)."""
        channels = []
        for part in self.by_population(genotypes, dim=1):
            frequency = (part > 0).float().mean(dim=1)
            channels += [4 * frequency - 1, torch.log(frequency.clamp(min=0.5 / part.shape[1])) + 2]
            centred = part - part.mean(dim=1, keepdim=True)
            scaled = centred / (centred.square().mean(dim=1, keepdim=True) + MIN_VARIANCE).sqrt()
            for distance in self.distances:
                squared = (scaled[:, :, :-distance] * scaled[:, :, distance:]).mean(dim=1).square()
                channels.append(functional.pad(4 * squared, (0, distance)))
        return torch.stack(channels, dim=1) * mask.unsqueeze(1)

    @torch.no_grad()
    def _haplotypes(self, genotypes: Tensor, mask: Tensor, real: Tensor) -> list[Tensor]:
        """Channels that describe the haplotypes around each block, each of shape (batch, 3, num_blocks).

        A stretch counts if all of its sites are real: else its channels are 0.
        """
        block, num_lengths = self.settings.block, self.settings.num_lengths
        alleles = (genotypes > 0).float().unflatten(2, (-1, block))
        # A block of alleles as one number, which float32 holds exactly.
        numbers = (alleles @ 2.0 ** torch.arange(block, device=alleles.device)).transpose(1, 2).contiguous()
        channels = []
        for part in self.by_population(numbers, dim=2):
            identical, whole = part.unsqueeze(3) == part.unsqueeze(2), real
            for length in range(num_lengths):
                if length:  # two neighbours make a stretch of twice the length
                    step = 2 ** (length - 1)
                    if identical.shape[1] > step:
                        identical, whole = (
                            identical[:, :-step] & identical[:, step:],
                            whole[:, :-step] & whole[:, step:],
                        )
                    else:
                        identical, whole = identical[:, :0], whole[:, :0]
                # Frequency of each haplotype's own kind. Sums of bytes are many times faster on a CPU than those of larger numbers.
                parts = identical.view(torch.uint8).split(255, dim=2)
                counts = [rows.sum(dim=2, dtype=torch.uint8).float() for rows in parts]
                own = torch.stack(counts).sum(dim=0) / part.shape[2]
                found = torch.stack(
                    [torch.log(own.mean(dim=2) + SMALLEST_SHARE), own.amax(dim=2), own.square().mean(dim=2)], dim=1
                )
                missing = real.shape[1] - whole.shape[1]
                channels.append(functional.pad(found * whole.unsqueeze(1), (missing // 2, missing - missing // 2)))
        return channels

    def _at_places(self, values: Tensor, middle: Tensor, share: Tensor) -> Tensor:
        """Means around evenly spaced places, and the share of all sites that lie there."""
        centres = torch.linspace(-EDGE, EDGE, 2 * self.settings.num_places + 1, device=values.device)[1::2]
        distance = (middle.unsqueeze(2) - centres) * self.settings.num_places / (2 * EDGE)  # in distances of places
        kernel = torch.exp(-0.5 * (distance / 0.5).square()) * share.unsqueeze(2)
        density = kernel.sum(dim=1)
        # A place without sites near it has a mean near 0, not one of faraway blocks.
        means = torch.einsum("bct,btk->bck", values, kernel) / (density + 0.1).unsqueeze(1)
        return torch.cat([means.flatten(1), torch.log(density + 0.1)], dim=1)


def _convolutions(channels: int, widths: list[int], width: int) -> nn.ModuleList:
    layers = nn.ModuleList()
    for filters in widths:
        layers.append(nn.Conv1d(channels, filters, width))
        channels = filters
    return layers


def _block_means(values: Tensor, block: int) -> Tensor:
    """Means over the sites of each block of values that are 0 under padding, shape (batch, channels, num_blocks)."""
    return functional.avg_pool1d(values, block)
