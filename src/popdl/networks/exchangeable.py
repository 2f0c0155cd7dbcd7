"""An exchangeable network after Chan et al. (2018, NeurIPS): every haplotype through the same layers, then a symmetric pool.

Two branches read the window, and dense layers (``head``) read both:

* ``per_haplotype`` convolutions run along the sites of each haplotype, with weights shared among haplotypes; symmetric
  pools over haplotypes follow, then ``after_pool`` convolutions along sites. They see which alleles sit on one haplotype.
* ``per_site`` convolutions run along the columns: how often the 1-allele occurs at each site, and the positions. They see the
  site-frequency spectrum and how it changes along the window, at a small part of the cost.

The first branch does as much work for every haplotype as the second for all, so its default takes wide strides. Each branch
ends in means over the window's sites, of every layer from the pool on. Padding is set to zero after every layer. After a
stride, a place counts as a site if the site that its filter is centred on is one.
"""

from __future__ import annotations

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
        per_haplotype: list[Layer] = [Layer(conv=8, width=16, stride=16)]
        """Convolutions along each haplotype ([] leaves this branch out)."""
        pool: list[Literal["mean", "max"]] = Field(default=["mean", "max"], min_length=1)
        """How haplotypes are pooled; several pools give several sets of features."""
        after_pool: list[Layer] = [Layer(conv=16, width=3)]
        """Convolutions along sites after haplotypes are pooled."""
        per_site: list[Layer] = [Layer(conv=8), Layer(conv=32, width=5, stride=4), Layer(conv=64, width=5, stride=4)]
        """Convolutions along allele frequencies and positions ([] leaves this branch out)."""
        head: list[int] = [128, 128]
        """Widths of the dense layers."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of units of the dense layers that are dropped while training."""

        @model_validator(mode="after")
        def _check(self) -> Exchangeable.Settings:
            if not self.per_haplotype and not self.per_site:
                raise ValueError("per_haplotype and per_site: at least one must list a convolution")
            if self.after_pool and not self.per_haplotype:
                raise ValueError(
                    "after_pool: there is nothing to pool without per_haplotype; list convolutions there or set after_pool: []"
                )
            if min(self.head, default=1) < 1:
                raise ValueError(f"head: expected positive widths, found {self.head}")
            return self

    exchangeable = True

    def __init__(self, settings: Any, shape: InputShape) -> None:
        super().__init__(settings, shape)
        num_pooled = 1  # the number of sites
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
            channels *= len(settings.pool)
            self.after_pool = _along_sites(channels, settings.after_pool)
            num_pooled += channels + sum(layer.conv for layer in settings.after_pool)
        num_columns = NUM_FREQUENCY_CHANNELS + int(shape.has_positions)
        self.per_site = _along_sites(num_columns, settings.per_site)
        num_pooled += sum(layer.conv for layer in settings.per_site)
        self.head = dense(num_pooled, settings.head, dropout=settings.dropout)
        self.num_features = settings.head[-1] if settings.head else num_pooled

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        num_sites = mask.sum(dim=1, keepdim=True).clamp(min=1)
        features = [torch.log(num_sites / self.shape.max_sites)]
        if self.per_haplotype:
            features += self._haplotype_branch(genotypes, positions, mask)
        if self.per_site:
            features += _means_along(self.per_site, self._columns(genotypes, positions, mask), mask)
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
        pools = {"mean": lambda: values.mean(dim=2), "max": lambda: values.amax(dim=2)}
        pooled = torch.cat([pools[name]() for name in self.settings.pool], dim=1)
        return [mean(pooled, mask), *_means_along(self.after_pool, pooled, mask)]

    def _columns(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        """Channels that describe each site, shape (batch, num_columns, max_sites)."""
        # A 1 is the only positive value with either way of writing alleles.
        frequency = (genotypes > 0).float().mean(dim=1)
        # On a log scale too, on which the rarest classes of the spectrum, the largest, lie apart.
        logarithm = torch.log(frequency.clamp(min=0.5 / self.shape.num_haplotypes))
        channels = [4 * frequency - 1, logarithm + 2]
        if self.shape.has_positions:
            assert positions is not None
            channels.append(positions)
        return torch.stack(channels, dim=1) * mask.unsqueeze(1)


NUM_FREQUENCY_CHANNELS = 2


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
