"""The convolutional network of Flagel, Brandvain & Schrider (2019, Molecular Biology and Evolution 36:220-238).

Haplotypes are the channels of 1-D convolutions along sites, so their order matters: use ``encoding.sort: similarity``
as the paper does. A second branch of dense layers reads the positions. Defaults follow the paper's demographic network.
``along: haplotypes`` is what the paper compares this with, as "untransposed": sites are the channels.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from popdl.networks._base import InputShape, Network, dense

__all__ = ["Flagel"]

PoolSize = Annotated[int, Field(ge=1)]


class Flagel(Network):
    """Convolutions with haplotypes as channels, average pooling, and dense layers on the flattened result."""

    class Settings(Network.Settings):
        filters: list[int] = Field(default=[128, 128], min_length=1)
        """Number of filters of each convolution; average pooling follows each."""
        along: Literal["sites", "haplotypes"] = "sites"
        """What filters move along; the other one are their channels."""
        width: int = Field(default=2, ge=1)
        """Sites (or haplotypes) that a filter sees."""
        pool: PoolSize | list[PoolSize] = 2
        """Neighbouring sites (or haplotypes) that are averaged after each convolution, or a number for each; 1 averages nothing."""
        position_branch: list[int] = [64]
        """Widths of the dense layers that read the positions ([] leaves positions out)."""
        head: list[int] = [128]
        """Widths of the dense layers on both branches."""
        dropout: float = Field(default=0.25, ge=0, lt=1)
        """Share of units dropped after each pool (of more than 1) and dense layer while training."""
        head_dropout: float | None = Field(default=None, ge=0, lt=1)
        """Share for the dense layers on both branches, if it is another one."""

    citation = (
        "Flagel L., Brandvain Y. & Schrider D.R. (2019) The unreasonable effectiveness of convolutional neural networks in population genetic inference. "
        "Mol. Biol. Evol. 36: 220–238."
    )

    def __init__(self, settings: Any, shape: InputShape) -> None:
        super().__init__(settings, shape)
        if min([*settings.filters, *settings.position_branch, *settings.head]) < 1:
            raise ValueError("filters, position_branch, head: expected positive widths")
        pools = settings.pool if isinstance(settings.pool, list) else [settings.pool] * len(settings.filters)
        if len(pools) != len(settings.filters):
            raise ValueError(f"pool: expected one number for each of {len(settings.filters)} filters, found {pools}")
        layers: list[nn.Module] = []
        channels, length, key = shape.num_haplotypes, shape.max_sites, "encoding.max_sites"
        if settings.along == "haplotypes":
            channels, length, key = length, channels, "num_haplotypes"
        places = length
        for number, (filters, pool) in enumerate(zip(settings.filters, pools, strict=True), start=1):
            length = (length - settings.width + 1) // pool
            if length < 1:
                raise ValueError(
                    f"filters: {places} {settings.along} ({key}) are used up at convolution {number} of "
                    f"{len(settings.filters)} (width {settings.width}, pool {pool}); raise {key} or list fewer filters"
                )
            layers += [
                nn.Conv1d(channels, filters, settings.width),
                nn.ReLU(),
                nn.AvgPool1d(pool),
                nn.Dropout(settings.dropout if pool > 1 else 0.0),
            ]
            channels = filters
        self.convolutions = nn.Sequential(*layers)
        num_flat = channels * length
        self.position_branch: nn.Sequential | None = None
        if shape.has_positions and settings.position_branch:
            self.position_branch = dense(shape.max_sites, settings.position_branch, dropout=settings.dropout)
            num_flat += settings.position_branch[-1]
        head_dropout = settings.dropout if settings.head_dropout is None else settings.head_dropout
        self.head = dense(num_flat, settings.head, dropout=head_dropout)
        self.num_features = settings.head[-1] if settings.head else num_flat

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        values = genotypes * mask.unsqueeze(1)
        features = self.convolutions(values if self.settings.along == "sites" else values.mT).flatten(1)
        if self.position_branch is not None:
            assert positions is not None
            features = torch.cat([features, self.position_branch(positions * mask)], dim=1)
        return self.head(features)
