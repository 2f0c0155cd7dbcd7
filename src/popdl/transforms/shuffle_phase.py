"""Lose the phase: the alleles of each individual change places at random, at each site by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Generator

from popdl.transforms._base import Examples, Form, Transform

__all__ = ["ShufflePhase"]


class ShufflePhase(Transform):
    """Put the alleles of each individual at each site in random order, so that a network cannot rely on phase."""

    def __init__(self, settings: Any, form: Form) -> None:
        super().__init__(settings, form)
        if form.ploidy < 2:
            raise ValueError("individuals of ploidy 1 have no phase; leave it out")
        if not form.phased:
            raise ValueError("`encoding.phase: ignore` has removed the phase already; leave it out")
        form.need_individuals()

    @property
    def chance(self) -> str | None:
        return "the order of alleles; leave it out, or use `encoding.phase: ignore`"

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        alleles = examples.genotypes.unflatten(1, (-1, self.form.ploidy))
        order = torch.rand(alleles.shape, generator=generator, device=alleles.device).argsort(dim=2)
        return replace(examples, genotypes=alleles.gather(2, order).flatten(1, 2))
