"""An exchangeable network after Chan et al. (2018, NeurIPS): what it reads of a window does not depend on the order of haplotypes.

Dense layers (``head``) read up to four descriptions of the window:

* the site-frequency spectrum, on a log scale, and the number of sites;
* ``homozygosity``: the share of pairs of haplotypes that are identical in blocks of 16, 32, 64, … sites, on a log scale. It tells
  how far pairs of haplotypes go before they differ, in terms of sites, and so what recombination has left of shared descent;
* ``per_site`` convolutions along the columns: how often the 1-allele occurs at each site, and the positions;
* ``per_haplotype`` convolutions, which run along the sites of each haplotype with weights shared among haplotypes; symmetric
  pools over haplotypes follow, then ``after_pool`` convolutions along sites. They can learn which alleles sit on one
  haplotype, but do as much work for every haplotype as ``per_site`` for all: on a CPU, windows of thousands of sites are
  many times cheaper without them.

The convolutions end in means over the window's sites, of every layer from the pool on. Padding is set to zero after every
layer. After a stride, a place counts as a site if the site that its filter is centred on is one; a block counts if all its
sites are real.

With several populations, each has a spectrum, channels of allele frequencies and pools of its own, side by side, and pairs of
haplotypes are compared within each population and between each two: the order of haplotypes makes no difference within a
population, and which population they are of does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any, Literal

import torch
import torch.nn.functional as functional
from pydantic import Field, model_validator
from torch import Tensor, nn

from popdl.config.base import Section
from popdl.networks._base import InputShape, Network, dense
from popdl.networks._masked import after, convolve, mean

__all__ = ["Exchangeable"]


class Layer(Section):
    """One convolution along sites, followed by ReLU."""

    conv: int = Field(ge=1)
    """Number of filters."""
    width: int = Field(default=1, ge=1)
    """Neighbouring sites that a filter sees."""
    stride: int = Field(default=1, ge=1)
    """Sites between the places where the filters are applied: 4 makes everything after it four times cheaper."""


class Exchangeable(Network):
    """Haplotypes share one set of weights, and their order makes no difference."""

    class Settings(Network.Settings):
        per_haplotype: list[Layer] = [Layer(conv=16, width=5, stride=4)]
        """Convolutions along each haplotype ([] leaves this branch out)."""
        pool: list[Literal["mean", "max"]] = Field(default=["mean", "max"], min_length=1)
        """How haplotypes are pooled; several pools give several sets of features."""
        after_pool: list[Layer] = [Layer(conv=32, width=5, stride=2)]
        """Convolutions along sites after haplotypes are pooled."""
        homozygosity: int = Field(default=5, ge=0, le=16)
        """How many lengths of blocks are searched for identical pairs of haplotypes: 16, 32, 64, … sites (0: none)."""
        per_site: list[Layer] = [Layer(conv=8)]
        """Convolutions along allele frequencies and positions ([] leaves this branch out)."""
        head: list[int] = [128, 128]
        """Widths of the dense layers."""
        dropout: float = Field(default=0.0, ge=0, lt=1)
        """Share of units of the dense layers that are dropped while training."""

        @model_validator(mode="after")
        def _check(self) -> Exchangeable.Settings:
            if self.after_pool and not self.per_haplotype:
                raise ValueError(
                    "after_pool: there is nothing to pool without per_haplotype; list convolutions there or set after_pool: []"
                )
            if min(self.head, default=1) < 1:
                raise ValueError(f"head: expected positive widths, found {self.head}")
            return self

    citation = (
        "Chan J. et al. (2018) A likelihood-free inference framework for population genetic data using exchangeable neural networks. "
        "NeurIPS 31: 8594–8605."
    )
    exchangeable = True

    def __init__(self, settings: Any, shape: InputShape) -> None:
        super().__init__(settings, shape)
        shape.check_haplotypes()
        self.counts = shape.populations or (shape.num_haplotypes,)
        num_populations = len(self.counts)
        self.pairs = list(combinations_with_replacement(range(num_populations), 2))
        num_pooled = 1 + sum(_num_classes(count) + 1 for count in self.counts) + settings.homozygosity * len(self.pairs)
        self.per_haplotype = nn.ModuleList()
        if settings.per_haplotype:
            channels = 1
            for layer in settings.per_haplotype:
                self.per_haplotype.append(nn.Conv2d(channels, layer.conv, (1, layer.width), (1, layer.stride)))
                channels = layer.conv
            # Positions are the same for all haplotypes, so their part of the first convolution is computed once.
            first = settings.per_haplotype[0]
            self.per_haplotype_positions = (
                nn.Conv1d(1, first.conv, first.width, first.stride, bias=False) if shape.has_positions else None
            )
            channels *= len(settings.pool) * num_populations
            self.after_pool = _along_sites(channels, settings.after_pool)
            num_pooled += channels + sum(layer.conv for layer in settings.after_pool)
        num_columns = NUM_FREQUENCY_CHANNELS * num_populations + int(shape.has_positions)
        self.per_site = _along_sites(num_columns, settings.per_site)
        num_pooled += sum(layer.conv for layer in settings.per_site)
        self.head = dense(num_pooled, settings.head, dropout=settings.dropout)
        self.num_features = settings.head[-1] if settings.head else num_pooled

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        num_sites = mask.sum(dim=1, keepdim=True).clamp(min=1)
        # A 1 is the only positive value with either way of writing alleles.
        frequencies = [(part > 0).float().mean(dim=1) for part in self.by_population(genotypes, dim=1)]
        features = [torch.log(num_sites / self.shape.max_sites)]
        for frequency, count in zip(frequencies, self.counts, strict=True):
            features.append(_spectrum(frequency, mask, num_classes=_num_classes(count)))
        if self.settings.homozygosity:
            features.append(self._homozygosity(genotypes, mask))
        if self.per_haplotype:
            features += self._haplotype_branch(genotypes, positions, mask)
        if self.per_site:
            features += _means_along(self.per_site, self._columns(frequencies, positions, mask), mask)
        return self.head(torch.cat(features, dim=1))

    def _haplotype_branch(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> list[Tensor]:
        values = genotypes.unsqueeze(1) * mask[:, None, None]
        for number, layer in enumerate(self.per_haplotype):
            values = convolve(layer, values)
            if number == 0 and self.per_haplotype_positions is not None:
                assert positions is not None
                values = values + convolve(self.per_haplotype_positions, (positions * mask).unsqueeze(1)).unsqueeze(2)
            mask = after(layer, mask)
            values = functional.relu(values) * mask[:, None, None]
        pools = {"mean": lambda part: part.mean(dim=2), "max": lambda part: part.amax(dim=2)}
        parts = self.by_population(values, dim=2)
        pooled = torch.cat([pools[name](part) for part in parts for name in self.settings.pool], dim=1)
        return [mean(pooled, mask), *_means_along(self.after_pool, pooled, mask)]

    @torch.no_grad()
    def _homozygosity(self, genotypes: Tensor, mask: Tensor) -> Tensor:
        """Log share of identical pairs of haplotypes in blocks of each length.

        Returns
        -------
        Tensor of shape (batch, homozygosity · num_pairs)
            For each length, one share for each pair of populations, of a population with itself included.
        """
        surplus = -genotypes.shape[2] % (BLOCK << (self.settings.homozygosity - 1))
        alleles = functional.pad((genotypes > 0).float(), (0, surplus)).unflatten(2, (-1, BLOCK))
        real = functional.pad(mask, (0, surplus)).unflatten(1, (-1, BLOCK)).all(dim=2)
        # A block of 16 alleles as one number, which float32 holds exactly.
        numbers = (alleles * 2.0 ** torch.arange(BLOCK, device=alleles.device)).sum(dim=3).transpose(1, 2)
        numbers = numbers.masked_fill(~real.unsqueeze(2), math.nan)  # equals nothing, itself included
        identical = numbers.unsqueeze(3) == numbers.unsqueeze(2)
        shares = []
        for length in range(self.settings.homozygosity):
            if length:  # two neighbours make a block of twice the length
                identical = identical[:, ::2] & identical[:, 1::2]
                real = real[:, ::2] & real[:, 1::2]
            # Sums of bytes are many times faster on a CPU than sums of larger integers.
            parts = [part.sum(dim=1, dtype=torch.uint8) for part in identical.split(255, dim=1)]
            num_blocks = real.sum(dim=1)
            for first, second in self.pairs:
                found = [self.by_population(self.by_population(part, dim=1)[first], dim=2)[second] for part in parts]
                rows, columns = found[0].shape[1:]
                itself = int(first == second)  # less every haplotype with itself
                pairs = torch.stack([part.sum(dim=(1, 2)) for part in found]).sum(dim=0) - num_blocks * rows * itself
                num_pairs = num_blocks * (rows * (columns - itself))
                shares.append(pairs / num_pairs.clamp(min=1))
        return _log_share(torch.stack(shares, dim=1))

    def _columns(self, frequencies: Sequence[Tensor], positions: Tensor | None, mask: Tensor) -> Tensor:
        """Channels that describe each site, shape (batch, num_columns, max_sites)."""
        channels = []
        for frequency, count in zip(frequencies, self.counts, strict=True):
            # On a log scale too, on which the rarest classes of the spectrum, the largest, lie apart.
            channels += [4 * frequency - 1, torch.log(frequency.clamp(min=0.5 / count)) + 2]
        if self.shape.has_positions:
            assert positions is not None
            channels.append(positions)
        return torch.stack(channels, dim=1) * mask.unsqueeze(1)


NUM_FREQUENCY_CHANNELS = 2
MAX_CLASSES = 50
"""Classes of the spectrum are merged where there are more haplotypes, so that each has sites."""
BLOCK = 16
"""Sites in the shortest block."""


def _num_classes(num_haplotypes: int) -> int:
    """Classes of the spectrum of so many haplotypes, beside that of sites without a 1."""
    return min(num_haplotypes, MAX_CLASSES)


def _spectrum(frequency: Tensor, mask: Tensor, *, num_classes: int) -> Tensor:
    """Log share of sites in each class of frequency, shape (batch, num_classes + 1)."""
    classes = (frequency * num_classes).round().long()
    counts = frequency.new_zeros(len(mask), num_classes + 1).scatter_add(1, classes, mask.to(frequency.dtype))
    return _log_share(counts / mask.sum(dim=1, keepdim=True).clamp(min=1))


def _log_share(share: Tensor) -> Tensor:
    """A share on a log scale, of order 1, with 0 well below the smallest that tells something."""
    return torch.log(share + 1e-3) + 3


def _along_sites(channels: int, layers: list[Layer]) -> nn.ModuleList:
    modules = nn.ModuleList()
    for layer in layers:
        modules.append(nn.Conv1d(channels, layer.conv, layer.width, layer.stride))
        channels = layer.conv
    return modules


def _means_along(layers: nn.ModuleList, values: Tensor, mask: Tensor) -> list[Tensor]:
    """Run convolutions along sites, and average the output of each over the window."""
    means = []
    for layer in layers:
        values = convolve(layer, values)
        mask = after(layer, mask)
        values = functional.relu(values) * mask.unsqueeze(1)
        means.append(mean(values, mask))
    return means
