"""Haplotype frequencies over stretches of several lengths: a sweep shows at the length that fits its age and strength."""

from __future__ import annotations

import numpy as np

from popdl.statistics._pairs import dosages
from popdl.statistics.haplotypes import central, frequencies, homozygosities
from popdl.statistics.optional._phased import PhasedStatistic

__all__ = ["LENGTHS", "HaplotypeStretches", "haplotype_stretches", "names"]

LENGTHS = (25, 50, 100, 200, 400)
"""Sites in a stretch; it lies in the middle of the window."""


class HaplotypeStretches(PhasedStatistic):
    """Garud's statistics and haplotype diversity over stretches of 25 to 400 sites."""

    def names(self, num_haplotypes: int, *, derived: bool) -> list[str]:
        return names()

    def compute(
        self, genotypes: np.ndarray, positions: np.ndarray, *, sequence_length: float, derived: bool
    ) -> np.ndarray:
        return haplotype_stretches(genotypes, phased=self.settings.phased)


def names() -> list[str]:
    """Names of the statistics in the order of :func:`haplotype_stretches`: ``h12_25_sites``, …"""
    return [
        f"{name}_{length}_sites"
        for length in LENGTHS
        for name in ("h1", "h12", "h123", "h2_h1", "distinct_haplotypes", "haplotype_diversity")
    ]


def haplotype_stretches(genotypes: np.ndarray, *, phased: bool) -> np.ndarray:
    """H1, H12, H123, H2/H1 (Garud et al. 2015), distinct haplotypes and haplotype diversity n (1 − H1) / (n − 1) (Nei 1987).

    Parameters
    ----------
    genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
        0, 1, or −1 for missing. A stretch longer than the window is the window.
    phased
        Whether columns are haplotypes; if not, the same is said of multilocus genotypes of individuals.

    Returns
    -------
    ndarray of shape (num_statistics,), dtype=float64
        In the order of :func:`names`; the diversity is NaN in a sample of one.
    """
    samples = genotypes if phased else dosages(genotypes)
    n = samples.shape[1]
    values: list[float] = []
    for length in LENGTHS:
        found = homozygosities(frequencies(central(samples, length)))
        values += [found[name] for name in ("h1", "h12", "h123", "h2_h1", "distinct_haplotypes")]
        values.append(n * (1 - found["h1"]) / (n - 1) if n > 1 else np.nan)
    return np.array(values)
