"""Exchange the two alleles at random, so that a network cannot rely on which of them is called derived."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Generator

from popdl.transforms._base import Examples, Transform
from popdl.transforms._operations import as_phased

__all__ = ["FlipPolarity"]


class FlipPolarity(Transform):
    """Exchange 0 and 1 in some examples, or at some sites, as errors of polarisation do."""

    class Settings(Transform.Settings):
        share: float = Field(default=0.5, ge=0, le=1)
        """Chance of each example or site to be flipped."""
        of: Literal["examples", "sites"] = "examples"
        """Whether all sites of an example are flipped together, or each by itself."""

    @property
    def chance(self) -> str | None:
        return "what it flips; leave it out, or use `fold` in all lists"

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        genotypes = examples.genotypes
        batch, max_sites = examples.mask.shape
        shape = (batch, 1, max_sites if self.settings.of == "sites" else 1)
        flip = torch.rand(shape, generator=generator, device=genotypes.device) < self.settings.share
        swap = flip & examples.mask.unsqueeze(1) & (genotypes >= 0)
        return replace(examples, genotypes=as_phased(torch.where(swap, 1 - genotypes, genotypes), self.form))
