"""A network that reads pairs of haplotypes: how much they differ in windows along the sites, within and between populations.

Genes that came from another population make a haplotype resemble one of that population for a stretch, more than the time since the
split allows, and differ from its own. Schrider et al. (2018, PLoS Genetics 14:e1007341) find them by the smallest distance of two
haplotypes in the whole window, d_min; here the same is read along the window and at several lengths, by layers that learn what to
make of it:

1. In windows of 1, 2, 4, … blocks of sites, one starting at each block, and in the whole example, the share of sites at which two
   haplotypes differ, for all pairs.
2. For each haplotype and place, the smallest and the mean distance to the others of its own population, and to those of each other one.
3. ``per_haplotype`` convolutions along the places with the same weights for all haplotypes, which know the population; their means
   and maxima over the haplotypes of each population.
4. ``after_pool`` convolutions on these and on the positions; their means and maxima over the places; dense layers (``head``).

The order of haplotypes makes no difference within a population, and which population they are of does. Memory grows with the square of
the number of haplotypes: a batch of 64 with 200 haplotypes and 32 blocks takes 330 MB for each length.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from pydantic import Field
from torch import Tensor, nn

from popdl.networks._base import InputShape, Network, dense
from popdl.networks._masked import convolve, mean

__all__ = ["HaplotypePairs"]

NUM_SUMMARIES = 2
"""Of the distances of a haplotype to those of a population: the smallest and the mean."""


class HaplotypePairs(Network):
    """Distances of haplotypes within and between populations, in windows of several lengths."""

    class Settings(Network.Settings):
        block: int = Field(default=8, ge=1)
        """Sites in the shortest window."""
        num_lengths: int = Field(default=4, ge=1, le=16)
        """How many lengths of windows at most: 1, 2, 4, … blocks, as far as they fit; the whole example comes on top."""
        per_haplotype: list[int] = Field(default=[32, 32], min_length=1)
        """Filters of the convolutions along the places of each haplotype."""
        after_pool: list[int] = Field(default=[64], min_length=1)
        """Filters of the convolutions along places after haplotypes are pooled."""
        width: int = Field(default=3, ge=1)
        """Neighbouring places that a filter sees; the first of `per_haplotype` sees one."""
        head: list[int] = [64]
        """Widths of the dense layers."""
        dropout: float = Field(default=0.0, ge=0, lt=1)
        """Share of units of the dense layers that are dropped while training."""

    exchangeable = True

    def __init__(self, settings: Any, shape: InputShape) -> None:
        super().__init__(settings, shape)
        shape.check_haplotypes()
        if min([*settings.per_haplotype, *settings.after_pool, *settings.head]) < 1:
            raise ValueError("per_haplotype, after_pool, head: expected positive widths")
        # Of the lengths 1, 2, 4, … blocks, those that fit into an example.
        self.num_lengths = min(settings.num_lengths, (shape.max_sites // settings.block).bit_length())
        num_populations = max(1, len(shape.populations))
        channels = (self.num_lengths + 1) * NUM_SUMMARIES * num_populations + num_populations
        self.per_haplotype = nn.ModuleList()
        for number, filters in enumerate(settings.per_haplotype):
            self.per_haplotype.append(nn.Conv2d(channels, filters, (1, settings.width if number else 1)))
            channels = filters
        channels = 2 * num_populations * channels + int(shape.has_positions)
        self.after_pool = nn.ModuleList()
        for filters in settings.after_pool:
            self.after_pool.append(nn.Conv1d(channels, filters, settings.width))
            channels = filters
        num_pooled = 1 + 2 * channels
        self.head = dense(num_pooled, settings.head, dropout=settings.dropout)
        self.num_features = settings.head[-1] if settings.head else num_pooled

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        places = self._blocks(mask).any(dim=2)
        values = self._distances(genotypes, mask)
        for layer in self.per_haplotype:
            values = functional.relu(convolve(layer, values)) * places[:, None, None]
        parts = self.by_population(values, dim=2)
        pooled = torch.cat([pool for part in parts for pool in (part.mean(dim=2), part.amax(dim=2))], dim=1)
        if positions is not None:
            sums = self._blocks(positions * mask).sum(dim=2) / self.settings.block
            pooled = torch.cat([pooled, sums.unsqueeze(1)], dim=1)
        for layer in self.after_pool:
            pooled = functional.relu(convolve(layer, pooled)) * places.unsqueeze(1)
        num_sites = mask.sum(dim=1, keepdim=True).clamp(min=1)
        size = torch.log(num_sites / self.shape.max_sites)
        return self.head(torch.cat([size, mean(pooled, places), pooled.amax(dim=2)], dim=1))

    def _blocks(self, values: Tensor) -> Tensor:
        """Sites in blocks, shape (…, num_blocks, block); the last is filled up with 0."""
        surplus = -values.shape[-1] % self.settings.block
        return functional.pad(values, (0, surplus)).unflatten(-1, (-1, self.settings.block))

    @torch.no_grad()
    def _distances(self, genotypes: Tensor, mask: Tensor) -> Tensor:
        """What each haplotype's distances to the others are, and which population it is of.

        Returns
        -------
        Tensor of shape (batch, channels, num_haplotypes, num_blocks)
            For each length of windows, the smallest and the mean distance, as the square root of the share of sites that differ, to a
            haplotype's own population and to each other one; 0 for a window that is not full of sites. Then a 1 for its own population.
        """
        # A 1 is the only positive value with either way of writing alleles.
        alleles = self._blocks((genotypes > 0).float() * mask.unsqueeze(1)).transpose(1, 2)
        ones = alleles.sum(dim=3)
        apart = ones.unsqueeze(3) + ones.unsqueeze(2) - 2 * alleles @ alleles.mT
        full = self._blocks(mask).all(dim=2)
        whole = apart.sum(dim=1, keepdim=True) / mask.sum(dim=1).clamp(min=1)[:, None, None, None]
        channels = [self._summaries(whole).expand(-1, -1, -1, apart.shape[1])]
        for number in range(self.num_lengths):
            if number:  # two windows, one behind the other, make one of twice the length
                step = 1 << number - 1
                apart = apart + _later(apart, step)
                full = full & _later(full, step)
            share = apart / (self.settings.block << number)
            channels.append(self._summaries(share) * full[:, None, None])
        counts = self.shape.populations or (genotypes.shape[1],)
        each = torch.eye(len(counts), device=alleles.device)
        own = torch.cat([each[:, [index]].expand(-1, count) for index, count in enumerate(counts)], dim=1)
        channels.append(own[None, :, :, None].expand(len(alleles), -1, -1, apart.shape[1]))
        return torch.cat(channels, dim=1)

    def _summaries(self, share: Tensor) -> Tensor:
        """Smallest and mean distance to the own and to each other population.

        Parameters
        ----------
        share : Tensor of shape (batch, num_windows, num_haplotypes, num_haplotypes)
            Share of sites that differ.

        Returns
        -------
        Tensor of shape (batch, NUM_SUMMARIES · num_populations, num_haplotypes, num_windows)
        """
        found = []
        for first, rows in enumerate(self.by_population(share, dim=2)):
            parts = list(self.by_population(rows, dim=3))
            own = parts.pop(first)
            num_others = max(own.shape[3] - 1, 1)
            itself = torch.eye(own.shape[3], device=own.device)  # more than any share of sites
            summaries = [(own + itself).amin(dim=3), own.sum(dim=3) / num_others]
            for part in parts:
                summaries += [part.amin(dim=3), part.mean(dim=3)]
            found.append(torch.stack(summaries, dim=1))
        return torch.cat(found, dim=3).clamp(min=0).sqrt().mT


def _later(values: Tensor, step: int) -> Tensor:
    """What stands so many blocks further on along axis 1, and 0 beyond the end."""
    later = torch.zeros_like(values)
    later[:, :-step] = values[:, step:]
    return later
