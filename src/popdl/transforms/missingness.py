"""Lose alleles at random, so that a network learns to do without."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Generator

from popdl.transforms._base import Examples, Transform
from popdl.transforms._operations import as_phased

__all__ = ["Missingness"]

Share = Annotated[float, Field(ge=0, le=1)]


class Missingness(Transform):
    """Set alleles to missing, each by itself."""

    class Settings(Transform.Settings):
        share: Share | tuple[Share, Share]
        """Chance of each allele to go missing, or `[lowest, highest]`: each example then draws its own."""

        @model_validator(mode="after")
        def _check(self) -> Missingness.Settings:
            low, high = self.bounds
            if low > high:
                raise ValueError(f"share: expected [lowest, highest] in this order, found [{low:g}, {high:g}]")
            return self

        @property
        def bounds(self) -> tuple[float, float]:
            return self.share if isinstance(self.share, tuple) else (self.share, self.share)

    @property
    def chance(self) -> str | None:
        return "which alleles go missing; leave it out"

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        genotypes = examples.genotypes
        low, high = self.settings.bounds
        shares = torch.rand(len(genotypes), 1, 1, generator=generator, device=genotypes.device) * (high - low) + low
        lost = torch.rand(genotypes.shape, generator=generator, device=genotypes.device) < shares
        missing = genotypes.masked_fill(lost & examples.mask.unsqueeze(1), -1.0)
        return replace(examples, genotypes=as_phased(missing, self.form))
