"""Leave out sites at which all haplotypes that are known carry the same allele, as there are after `subsample`."""

from __future__ import annotations

from torch import Generator

from popdl.transforms._base import Examples, Transform
from popdl.transforms._operations import allele_counts, keep_sites

__all__ = ["Polymorphic"]


class Polymorphic(Transform):
    """Keep the sites at which both alleles are seen."""

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        ones, called = allele_counts(examples.genotypes)
        return keep_sites(examples, (ones > 0) & (ones < called), self.form)
