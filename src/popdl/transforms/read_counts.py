"""Make individuals the rows, as sequencing shows them: each cell is the share of reads with a 1. In prediction, reads follow from the genotypes.

In training the reads are drawn anew every time. Outside of it they come from a hash of the example: an example has the same
reads in any batch, run and model, and another one has others. This holds for real windows too: their calls are taken for the
truth, and get the reads that a simulation with these genotypes would get, so that networks see what they were trained on. For
calls that shall stay as they are, list ``genotypes`` for prediction.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Generator

from popdl.reads import Reads
from popdl.transforms._base import Examples, Form, Transform
from popdl.transforms._operations import count_by_individual, with_frequencies

__all__ = ["ReadCounts"]


class ReadCounts(Transform):
    """Make a row of each individual: the share of its reads that show a 1. The number of reads is Poisson, those with a 1 are binomial.

    Reads have no errors. An individual without a read is missing. The reads of one that is called in part are those of its called alleles.
    """

    class Settings(Transform.Settings):
        coverage: float = Field(gt=0, le=1000)
        """Mean number of reads of an individual at a site, over all of its chromosomes."""

    def __init__(self, settings: Any, form: Form) -> None:
        super().__init__(settings, form)
        form.need_individuals()
        self.reads = Reads(coverage=settings.coverage, ploidy=form.ploidy)

    @property
    def after(self) -> Form:
        return self.form.of_individuals()

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        ones, called = count_by_individual(examples.genotypes, self.form.ploidy)
        return with_frequencies(examples, *self.reads(ones, called, examples.mask, generator=generator))
