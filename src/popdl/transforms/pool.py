"""Make populations the rows, as pooled sequencing shows them: each cell is the frequency of the 1 allele."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator

from popdl.transforms._base import Examples, Form, Transform
from popdl.transforms._operations import allele_counts, with_frequencies

__all__ = ["Pool"]


class Pool(Transform):
    """Make one row of each population: the share of 1s among its called alleles, missing where none is called."""

    @property
    def after(self) -> Form:
        populations = (1,) * len(self.form.populations)
        num_rows = max(1, len(populations))
        return replace(
            self.form,
            num_haplotypes=num_rows,
            fewest_haplotypes=num_rows,
            ploidy=1,
            populations=populations,
            frequencies=True,
        )

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        counts = [allele_counts(part) for part in self.form.by_population(examples.genotypes)]
        ones, called = (torch.stack(column, dim=1) for column in zip(*counts, strict=True))
        return with_frequencies(examples, ones, called)
