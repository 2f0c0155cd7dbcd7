"""Make individuals the rows, as sequencing shows them: each cell is the share of reads with a 1. In prediction, reads follow from the genotypes.

In training the reads are drawn anew every time. Outside of it they come from a hash of the example: an example has the same
reads in any batch, run and model, and another one has others. This holds for real windows too: their calls are taken for the
truth, and get the reads that a simulation with these genotypes would get, so that networks see what they were trained on. For
calls that shall stay as they are, list ``genotypes`` for prediction.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from pydantic import Field
from scipy.special import pdtr
from torch import Generator, Tensor

from popdl.transforms._base import Examples, Form, Transform
from popdl.transforms._operations import count_by_individual, with_frequencies
from popdl.transforms._uniforms import uniforms

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
        self.table = _cumulative(settings.coverage, form.ploidy)

    @property
    def after(self) -> Form:
        return self.form.of_individuals()

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        ones, called = count_by_individual(examples.genotypes, self.form.ploidy)
        size = self.form.ploidy + 1
        content = ones + called * size
        chance = uniforms(content, examples.mask, number=2, generator=generator)
        self.table = self.table.to(content.device)  # once
        # A Poisson number of reads of which a binomial number shows a 1: two independent Poisson numbers.
        reads = _poisson(self.table, torch.stack([content, called - ones + called * size]), chance)
        return with_frequencies(examples, reads[0], reads.sum(dim=0))


def _cumulative(coverage: float, ploidy: int) -> Tensor:
    """Distribution functions of the number of reads of an allele.

    Returns
    -------
    Tensor of shape ((ploidy + 1)², num_counts), dtype=float64
        In row ``copies + called · (ploidy + 1)``: the chance of at most 0, 1, 2, … reads where ``copies`` of the ``called``
        chromosomes of an individual carry the allele; the rest of its chromosomes is taken to be like those.
    """
    called, copies = np.divmod(np.arange((ploidy + 1) ** 2), ploidy + 1)
    rates = coverage * np.minimum(copies, called) / np.maximum(called, 1)
    num_counts = math.ceil(coverage + 12 * math.sqrt(coverage) + 40)  # what lies beyond is below the rounding of 1
    return torch.from_numpy(pdtr(np.arange(num_counts), rates[:, np.newaxis]))


def _poisson(table: Tensor, rows: Tensor, chance: Tensor) -> Tensor:
    """Invert the distribution function in the row of each cell at a uniform number, shape and dtype of ``rows``."""
    num_rows, num_counts = table.shape
    # One search in all rows at once: row r lies between r and r + 1.
    steps = (table + torch.arange(num_rows, device=table.device).unsqueeze(1)).flatten()
    found = torch.searchsorted(steps, (rows + chance).contiguous(), right=True) - rows * num_counts
    return found.clamp(0, num_counts - 1)
