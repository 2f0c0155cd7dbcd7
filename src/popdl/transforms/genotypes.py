"""Make individuals the rows, as unphased genotypes show them: each cell is the number of 1s over the ploidy, as 0, 0.5 or 1 of a diploid."""

from __future__ import annotations

from typing import Any

from torch import Generator

from popdl.transforms._base import Examples, Form, Transform
from popdl.transforms._operations import count_by_individual, with_frequencies

__all__ = ["Genotypes"]


class Genotypes(Transform):
    """Make a row of each individual: how many of its alleles are 1s, over its ploidy. Of an individual that is called in part, those called count.

    A heterozygous diploid is 0.5, an autotetraploid with three copies 0.75, and an individual without any called allele is missing.
    """

    def __init__(self, settings: Any, form: Form) -> None:
        super().__init__(settings, form)
        form.need_individuals()

    @property
    def after(self) -> Form:
        return self.form.of_individuals()

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        return with_frequencies(examples, *count_by_individual(examples.genotypes, self.form.ploidy))
