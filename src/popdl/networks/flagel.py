"""The convolutional network of Flagel, Brandvain & Schrider (2019, Molecular Biology and Evolution 36:220-238).

Haplotypes are the channels of 1-D convolutions along sites, so their order matters: use ``encoding.sort: similarity``
as the paper does. A second branch of dense layers reads the positions. Defaults follow the paper's demographic network.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from popdl.networks._base import InputShape, Network, dense

__all__ = ["Flagel"]


class Flagel(Network):
    """Convolutions with haplotypes as channels, average pooling, and dense layers on the flattened result."""

    class Settings(Network.Settings):
        filters: list[int] = Field(default=[128, 128], min_length=1)
        """Number of filters of each convolution; average pooling follows each."""
        width: int = Field(default=2, ge=1)
        """Sites that a filter sees."""
        pool: int = Field(default=2, ge=1)
        """Neighbouring sites that are averaged after each convolution."""
        position_branch: list[int] = [64]
        """Widths of the dense layers that read the positions ([] leaves positions out)."""
        head: list[int] = [128]
        """Widths of the dense layers on both branches."""
        dropout: float = Field(default=0.25, ge=0, lt=1)
        """Share of units dropped after each convolution and dense layer while training."""

    citation = (
        "Flagel L., Brandvain Y. & Schrider D.R. (2019) The unreasonable effectiveness of convolutional neural networks in population genetic inference. "
        "Mol. Biol. Evol. 36: 220–238."
    )

    def __init__(self, settings: Any, shape: InputShape) -> None:
        super().__init__(settings, shape)
        if min([*settings.filters, *settings.position_branch, *settings.head]) < 1:
            raise ValueError("filters, position_branch, head: expected positive widths")
        layers: list[nn.Module] = []
        channels, length = shape.num_haplotypes, shape.max_sites
        for number, filters in enumerate(settings.filters, start=1):
            length = (length - settings.width + 1) // settings.pool
            if length < 1:
                raise ValueError(
                    f"filters: {shape.max_sites} sites (encoding.max_sites) are used up at convolution {number} of "
                    f"{len(settings.filters)} (width {settings.width}, pool {settings.pool}); raise encoding.max_sites or list fewer filters"
                )
            layers += [
                nn.Conv1d(channels, filters, settings.width),
                nn.ReLU(),
                nn.AvgPool1d(settings.pool),
                nn.Dropout(settings.dropout),
            ]
            channels = filters
        self.convolutions = nn.Sequential(*layers)
        num_flat = channels * length
        self.position_branch: nn.Sequential | None = None
        if shape.has_positions and settings.position_branch:
            self.position_branch = dense(shape.max_sites, settings.position_branch, dropout=settings.dropout)
            num_flat += settings.position_branch[-1]
        self.head = dense(num_flat, settings.head, dropout=settings.dropout)
        self.num_features = settings.head[-1] if settings.head else num_flat

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        features = self.convolutions(genotypes * mask.unsqueeze(1)).flatten(1)
        if self.position_branch is not None:
            assert positions is not None
            features = torch.cat([features, self.position_branch(positions * mask)], dim=1)
        return self.head(features)
