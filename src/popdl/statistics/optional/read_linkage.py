"""What reads tell of linkage: r² of the shares of reads of two sites over individuals, and the spectrum of mean shares.

Neither haplotypes nor genotypes are looked at: the statistics are those of reads, drawn as the transform `read_counts` draws
them for a network's predictions, at every site of the window.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from popdl.config.base import Section
from popdl.statistics import spectrum
from popdl.statistics._base import Statistic
from popdl.statistics._pairs import means_by_bin, pairs, r2_matrix
from popdl.statistics.linkage import EDGES
from popdl.statistics.optional.recombination import compared_sites, means_by_place, names_by_place

if TYPE_CHECKING:
    from popdl.config.study import Study
    from popdl.reads import Reads

__all__ = ["UNIT", "ReadLinkage", "read_linkage"]

UNIT = 2**20
"""Shares of reads are whole numbers of 1 / UNIT: sums of products over 8,000 individuals are exact, below 2⁵³."""


class ReadLinkage(Statistic):
    """What reads show without phase or genotypes: number of sites, spectrum, and r² of shares of reads by distance and rank.

    Reads are those of `read_counts`, which follow from the genotypes: an example has the same ones every time, and where no site is cut off, those that
    networks see in prediction.
    """

    class Settings(Section):
        coverage: float = Field(gt=0, le=1000)
        """Mean number of reads of an individual at a site, over all of its chromosomes, as in `read_counts`."""
        ploidy: int = Field(ge=1)
        """Chromosomes of an individual, as in `simulation` or `import`."""

    def problems(self, study: Study) -> list[str]:
        if self.settings.ploidy != study.source.ploidy:
            return [f"ploidy: expected that of `{study.section}`, {study.source.ploidy}, found {self.settings.ploidy}"]
        return []

    @cached_property
    def reads(self) -> Reads:
        """What draws them."""
        from popdl.reads import Reads  # here, for it needs torch, which a study is checked without

        return Reads(coverage=self.settings.coverage, ploidy=self.settings.ploidy)

    def names(self, num_haplotypes: int, *, derived: bool) -> list[str]:
        """``reads_sites``; ``reads_sfs_3``: sites whose mean share of reads, times the number of haplotypes, is nearest to 3; ``reads_r2_0.01``:
        distances from that fraction of the window up to the next; then as in :func:`popdl.statistics.optional.recombination.names_by_place`.
        """
        names = ["sites", *spectrum.bin_names(num_haplotypes, derived=derived), *(f"r2_{low:g}" for low in EDGES[:-1])]
        return [f"reads_{name}" for name in (*names, *names_by_place("r2"))]

    def compute(
        self, genotypes: np.ndarray, positions: np.ndarray, *, sequence_length: float, derived: bool
    ) -> np.ndarray:
        return read_linkage(
            self.shares(genotypes),
            positions,
            sequence_length=sequence_length,
            num_haplotypes=genotypes.shape[1],
            derived=derived,
        )

    def shares(self, genotypes: np.ndarray) -> np.ndarray:
        """Draw reads and give the share that shows a 1.

        Parameters
        ----------
        genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
            0, 1, or −1 for missing; the haplotypes of an individual are adjacent.

        Returns
        -------
        ndarray of shape (num_sites, num_individuals), dtype=int32
            Whole numbers of 1 / ``UNIT``; −1 for an individual without a read.
        """
        import torch

        num_sites, num_haplotypes = genotypes.shape
        ploidy = self.settings.ploidy
        alleles = genotypes.T.reshape(num_haplotypes // ploidy, ploidy, num_sites)
        ones, called = (torch.from_numpy(flags.sum(axis=1)).unsqueeze(0) for flags in (alleles == 1, alleles >= 0))
        mask = torch.ones(1, num_sites, dtype=torch.bool)
        with_one, number = (reads[0].numpy().T for reads in self.reads(ones, called, mask, generator=None))
        return np.where(number > 0, np.rint(with_one * UNIT / np.maximum(number, 1)), -1).astype(np.int32)


def read_linkage(
    shares: np.ndarray, positions: np.ndarray, *, sequence_length: float, num_haplotypes: int, derived: bool
) -> np.ndarray:
    """Compute the statistics of the reads of one window.

    Sites are those at which reads show both alleles. A site has the frequency that is the mean share of the individuals with reads; an
    r² is that of the shares of the individuals with reads at both sites (with n of them it is about 1 / (n − 1) between unlinked
    sites), for the sites that :func:`popdl.statistics.optional.recombination.compared_sites` chooses.

    Parameters
    ----------
    shares : ndarray of shape (num_sites, num_individuals), dtype=int32
        As :meth:`ReadLinkage.shares` gives them.
    positions : ndarray of shape (num_sites,)
        In bp from the start of the window, not decreasing.
    sequence_length
        Length of the window in bp.
    num_haplotypes
        Chromosomes of all individuals.
    derived
        Whether a 1 is the derived allele: the spectrum is then unfolded.

    Returns
    -------
    ndarray of shape (num_statistics,), dtype=float64
        In the order of :meth:`ReadLinkage.names`; NaN for a bin without pairs.
    """
    known = shares >= 0
    ones = np.where(known, shares, 0).sum(axis=1, dtype=np.int64)
    total = known.sum(axis=1, dtype=np.int64) * UNIT
    counts = spectrum.site_frequency_spectrum(ones, total, num_haplotypes=num_haplotypes, derived=derived)
    minor = np.minimum(ones, total - ones) / np.maximum(total, 1)
    chosen = compared_sites(minor, positions, sequence_length=sequence_length)
    places = positions[chosen] / sequence_length
    r2 = pairs(r2_matrix(shares[chosen]))
    bins = np.digitize(
        pairs(places[:, np.newaxis] - places), EDGES
    )  # 0 below the first bound, len(EDGES) from the last one on
    by_distance = means_by_bin(r2, bins, len(EDGES) + 1)[1:-1]
    return np.concatenate([[counts.sum()], counts, by_distance, means_by_place(places, r2)])
