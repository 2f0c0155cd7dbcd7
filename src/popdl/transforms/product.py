"""Genotypes times positions, for networks that take one matrix."""

from __future__ import annotations

from dataclasses import replace

from torch import Generator

from popdl.transforms._base import Examples, View

__all__ = ["Product"]


class Product(View):
    """Multiply each allele by the position of its site, in units of the root mean square of positions."""

    centred = False

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        assert examples.positions is not None
        return replace(examples, genotypes=examples.genotypes * examples.positions.unsqueeze(1), positions=None)
