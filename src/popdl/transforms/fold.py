"""Forget which allele is derived: 1 becomes the one that is rarer in the sample as it now is."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator

from popdl.transforms._base import Examples, Transform
from popdl.transforms._operations import allele_counts, as_phased

__all__ = ["Fold"]


class Fold(Transform):
    """Write the minor allele as 1, as `encoding.alleles: minor` does; where both are equally frequent, the first known haplotype carries 0."""

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        genotypes = examples.genotypes
        ones, called = allele_counts(genotypes)
        decides = genotypes >= 0
        if not self.form.phased:
            first, second = genotypes[:, 0::2], genotypes[:, 1::2]
            heterozygous = (first == 1) & (second == 0)
            decides &= ~heterozygous.repeat_interleave(2, dim=1)
        # Where nobody decides, all individuals are heterozygous or missing: both choices give the same array.
        deciding = decides.int().argmax(dim=1, keepdim=True)
        first_is_one = genotypes.gather(1, deciding).squeeze(1) == 1
        flip = (2 * ones > called) | ((2 * ones == called) & first_is_one)
        swap = (flip & examples.mask).unsqueeze(1) & (genotypes >= 0)
        return replace(examples, genotypes=as_phased(torch.where(swap, 1 - genotypes, genotypes), self.form))
