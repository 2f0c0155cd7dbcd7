"""The custom CNN of Sanchez et al. (2021, Molecular Ecology Resources 21:2645-2660): filters of mixed shapes, side by side.

Each branch has filters that see its own number of haplotypes and sites, and further filters for the positions; then filters
that see all rows of the branch. What the branches found is joined, and convolutions with wide strides shorten the window.
The order of haplotypes matters: use ``encoding.sort: similarity``. dnadna's CustomCNN was laid out for 20 haplotypes, and with
any other number read some branches in place of others; here each branch reads its own rows, whatever their number.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as functional
from pydantic import Field
from torch import Tensor, nn

from popdl.config.base import Section
from popdl.networks._base import InputShape, Network
from popdl.networks._masked import BatchNormalisation, after, convolve

__all__ = ["CustomCnn"]

WIDTH = 3
"""Sites that a filter of the last convolutions sees, and its stride."""


class Branch(Section):
    """The shape of one branch's filters."""

    haplotypes: int = Field(ge=1)
    """Neighbouring haplotypes that a filter sees (all, if there are fewer)."""
    sites: int = Field(ge=1)
    """Neighbouring sites that a filter sees."""


class CustomCnn(Network):
    """Branches of convolutions with filters of different shapes, joined by further convolutions."""

    class Settings(Network.Settings):
        branches: list[Branch] = Field(
            default=[
                Branch(haplotypes=haplotypes, sites=sites)
                for haplotypes, sites in ((2, 2), (5, 4), (3, 8), (2, 10), (20, 1))
            ],
            min_length=1,
        )
        """Shapes of the first filters."""
        filters: int = Field(default=20, ge=1)
        """First filters of each branch, on genotypes."""
        position_filters: int = Field(default=5, ge=1)
        """First filters of each branch, on positions."""
        num_features: int = Field(default=50, ge=1)
        """Filters of every later layer."""
        num_layers: int = Field(default=4, ge=0)
        """Convolutions after the branches are joined; each leaves a third of the sites."""

    citation = (
        "Sanchez T. et al. (2021) Deep learning for population size history inference: design, comparison and combination with approximate Bayesian computation. "
        "Mol. Ecol. Resour. 21: 2645–2660. doi:10.1111/1755-0998.13224"
    )

    def __init__(self, settings: Any, shape: InputShape) -> None:
        super().__init__(settings, shape)
        width = settings.num_features
        self.branches = nn.ModuleList(_Branch(branch, settings, shape) for branch in settings.branches)
        self.join = _Layer(width * len(settings.branches), width, 1)
        self.layers = nn.ModuleList(_Layer(width, width, WIDTH) for _ in range(settings.num_layers))
        length = shape.max_sites
        for _ in self.layers:
            length = math.ceil(length / WIDTH)
        self.head = nn.Sequential(nn.Linear(width * length, width), nn.ReLU())
        self.num_features = width

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        genotypes = genotypes * mask.unsqueeze(1)
        positions = None if positions is None else positions * mask
        values = torch.cat([branch(genotypes, positions, mask) for branch in self.branches], dim=1)
        for layer in [self.join, *self.layers]:
            values, mask = layer(values, mask)
        return self.head(values.flatten(1))


class _Branch(nn.Module):
    """Filters of one shape, and filters over all their rows."""

    def __init__(self, branch: Branch, settings: Any, shape: InputShape) -> None:
        super().__init__()
        height = min(branch.haplotypes, shape.num_haplotypes)
        # What is normalised afterwards needs no bias.
        self.genotypes = nn.Conv2d(1, settings.filters, (height, branch.sites), bias=False)
        self.normalise_genotypes = BatchNormalisation(settings.filters)
        num_rows = settings.filters * (shape.num_haplotypes - height + 1)
        self.positions: nn.Conv1d | None = None
        if shape.has_positions:
            self.positions = nn.Conv1d(1, settings.position_filters, branch.sites, bias=False)
            self.normalise_positions = BatchNormalisation(settings.position_filters)
            num_rows += settings.position_filters
        self.rows = _Layer(num_rows, settings.num_features, 1)

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        values = self.normalise_genotypes(convolve(self.genotypes, genotypes.unsqueeze(1)), mask)
        rows = [values.flatten(1, 2)]
        if self.positions is not None:
            assert positions is not None
            rows.append(self.normalise_positions(convolve(self.positions, positions.unsqueeze(1)), mask))
        joined: Tensor = self.rows(functional.relu(torch.cat(rows, dim=1)), mask)[0]
        return joined


class _Layer(nn.Module):
    """A convolution with as much stride as width, normalised, with ReLU."""

    def __init__(self, num_inputs: int, num_features: int, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(num_inputs, num_features, width, width, bias=False)
        self.normalisation = BatchNormalisation(num_features)

    def forward(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        values, mask = convolve(self.convolution, values), after(self.convolution, mask)
        return functional.relu(self.normalisation(values, mask)), mask
