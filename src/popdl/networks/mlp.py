"""A multilayer perceptron on the flattened genotypes and positions: the plainest network, to compare others with.

It knows nothing of neighbouring sites or of haplotypes, and their order matters.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from popdl.networks._base import InputShape, Network, dense

__all__ = ["Mlp"]


class Mlp(Network):
    """Dense layers that read every allele and every position."""

    class Settings(Network.Settings):
        widths: list[int] = Field(default=[100, 50], min_length=1)
        """Widths of the dense layers."""
        dropout: float = Field(default=0.0, ge=0, lt=1)
        """Share of units dropped after each layer while training."""

    def __init__(self, settings: Any, shape: InputShape) -> None:
        super().__init__(settings, shape)
        if min(settings.widths) < 1:
            raise ValueError(f"widths: expected positive widths, found {settings.widths}")
        num_rows = shape.num_haplotypes + int(shape.has_positions)
        self.layers = dense(num_rows * shape.max_sites, settings.widths, dropout=settings.dropout)
        self.num_features = settings.widths[-1]

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        rows = genotypes if positions is None else torch.cat([genotypes, positions.unsqueeze(1)], dim=1)
        return self.layers((rows * mask.unsqueeze(1)).flatten(1))
