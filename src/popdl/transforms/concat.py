"""Positions as one more row of the matrix, for networks that take one matrix."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator

from popdl.transforms._base import Examples, View

__all__ = ["Concat"]


class Concat(View):
    """Add the standardised positions as the last row; a network for which the order of haplotypes makes no difference cannot tell it from them."""

    extra_rows = 1

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        assert examples.positions is not None
        matrix = torch.cat([examples.genotypes, examples.positions.unsqueeze(1)], dim=1)
        return replace(examples, genotypes=matrix, positions=None)
