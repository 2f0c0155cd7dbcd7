"""Reads of individuals, as sequencing shows them: what the transform `read_counts` and the statistics `read_linkage` draw.

Without a generator the reads of an example come from a hash of its genotypes: it has the same ones in any batch, run and model, and
another example has others.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import pdtr
from torch import Generator, Tensor

from popdl.uniforms import uniforms

__all__ = ["Reads"]


class Reads:
    """Draws reads without errors: their number is Poisson, those that show a 1 are binomial.

    Parameters
    ----------
    coverage
        Mean number of reads of an individual at a site, over all of its chromosomes.
    ploidy
        Chromosomes of an individual.
    """

    def __init__(self, *, coverage: float, ploidy: int) -> None:
        self.size = ploidy + 1
        self.table = _cumulative(coverage, ploidy)

    def __call__(
        self, ones: Tensor, called: Tensor, mask: Tensor, *, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Draw the reads of each individual at each site.

        Parameters
        ----------
        ones, called : Tensor of shape (batch, individuals, max_sites), dtype=int64
            1s of an individual, and its alleles that are not missing; the reads of one that is called in part are those of
            its called alleles.
        mask : Tensor of shape (batch, max_sites), dtype=bool
            Real sites.
        generator
            Where chance comes from, on the device of the batch; None for a function of each example.

        Returns
        -------
        Reads that show a 1, and all reads: two tensors of the shape and dtype of ``ones``.
        """
        content = ones + called * self.size
        chance = uniforms(content, mask, number=2, generator=generator)
        self.table = self.table.to(content.device)  # once
        # A Poisson number of reads of which a binomial number shows a 1: two independent Poisson numbers.
        reads = _poisson(self.table, torch.stack([content, called - ones + called * self.size]), chance)
        return reads[0], reads.sum(dim=0)


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
