"""Statistics of allele frequencies: diversity, Tajima's D and the site-frequency spectrum.

All start from allele counts (:func:`popdl.statistics._counts.allele_counts`). Where alleles are missing, each site counts with
the number of haplotypes that are known there.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = [
    "bin_edges",
    "bin_names",
    "pairwise_differences",
    "site_frequency_spectrum",
    "tajimas_d",
    "wattersons_estimate",
]

MAX_BINS = 50
"""Bins of the spectrum at most: few enough for a linear model on a few thousand simulations."""


def pairwise_differences(ones: np.ndarray, called: np.ndarray) -> float:
    """Mean number of sites at which two haplotypes differ: π over the whole window (Tajima 1983).

    Parameters
    ----------
    ones, called : ndarray of shape (num_sites,)
        Haplotypes with allele 1, and haplotypes known.
    """
    pairs = called * (called - 1)
    return float(np.sum(2 * ones * (called - ones) / np.maximum(pairs, 1)))


def wattersons_estimate(ones: np.ndarray, called: np.ndarray) -> float:
    """Watterson's (1975) estimate of θ for the whole window: the sum over polymorphic sites of 1 / (1 + 1/2 + … + 1/(n − 1)).

    ``n`` is the number of haplotypes known at the site.
    """
    polymorphic = (ones > 0) & (ones < called)
    if not polymorphic.any():
        return 0.0
    sizes = called[polymorphic]
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, sizes.max()))])
    return float(np.sum(1 / harmonic[sizes - 1]))


def tajimas_d(ones: np.ndarray, called: np.ndarray) -> float:
    """Tajima's D (1989, Genetics 123:585, equation 38).

    Where alleles are missing, the variance is that of the mean number of haplotypes known at a site, rounded.

    Returns
    -------
    float
        NaN without polymorphic sites, and for fewer than four haplotypes.
    """
    polymorphic = (ones > 0) & (ones < called)
    sites = int(np.count_nonzero(polymorphic))
    if sites == 0:
        return math.nan
    n = round(float(called[polymorphic].mean()))
    if n < 4:
        return math.nan
    i = np.arange(1, n)
    a1, a2 = float(np.sum(1 / i)), float(np.sum(1 / i**2))
    b1, b2 = (n + 1) / (3 * (n - 1)), 2 * (n * n + n + 3) / (9 * n * (n - 1))
    c1, c2 = b1 - 1 / a1, b2 - (n + 2) / (a1 * n) + a2 / a1**2
    variance = c1 / a1 * sites + c2 / (a1**2 + a2) * sites * (sites - 1)
    return (pairwise_differences(ones, called) - wattersons_estimate(ones, called)) / math.sqrt(variance)


def bin_edges(num_haplotypes: int, *, derived: bool) -> np.ndarray:
    """First allele count of each bin of the spectrum, and at the end one more than the last.

    A bin for each count where there are at most ``MAX_BINS`` counts. Otherwise bins grow by a constant factor from count 1
    on; those of an unfolded spectrum grow from both ends towards the middle.

    Parameters
    ----------
    num_haplotypes
        Haplotypes in the sample, n.
    derived
        Whether the spectrum is unfolded: counts 1 … n − 1 instead of 1 … n/2.
    """
    last = num_haplotypes - 1 if derived else num_haplotypes // 2
    if last <= MAX_BINS:
        return np.arange(1, last + 2)
    if not derived:
        return _growing(last, MAX_BINS)
    low = _growing(num_haplotypes // 2, MAX_BINS // 2)[:-1]
    high = num_haplotypes - low[::-1] + 1
    return np.concatenate([low, high])


def bin_names(num_haplotypes: int, *, derived: bool) -> list[str]:
    """Names of the bins: ``sfs_3`` for allele count 3, ``sfs_10_12`` for counts 10 to 12."""
    edges = bin_edges(num_haplotypes, derived=derived)
    ends = zip(edges[:-1], edges[1:] - 1, strict=True)
    return [f"sfs_{low}" if low == high else f"sfs_{low}_{high}" for low, high in ends]


def site_frequency_spectrum(ones: np.ndarray, called: np.ndarray, *, num_haplotypes: int, derived: bool) -> np.ndarray:
    """Number of polymorphic sites in each frequency bin.

    A site at which alleles are missing counts at the frequency of its known alleles: the count is scaled to the whole
    sample and rounded, to at least 1.

    Returns
    -------
    ndarray of shape (num_bins,), dtype=int64
        The bins are those of :func:`bin_edges`.
    """
    polymorphic = (ones > 0) & (ones < called)
    ones, called = ones[polymorphic], called[polymorphic]
    counts = ones if derived else np.minimum(ones, called - ones)
    edges = bin_edges(num_haplotypes, derived=derived)
    scaled = (2 * counts * num_haplotypes + called) // (2 * called)  # rounded in integers
    bins = np.searchsorted(edges, np.clip(scaled, 1, edges[-1] - 1), side="right") - 1
    return np.bincount(bins, minlength=len(edges) - 1)


def _growing(last: int, num_bins: int) -> np.ndarray:
    """Edges of at most ``num_bins`` bins over 1 … ``last``: the lowest of width 1, then wider by a constant factor."""
    edges = [1]
    while edges[-1] <= last:
        remaining = num_bins - len(edges) + 1
        factor = ((last + 1) / edges[-1]) ** (1 / remaining)
        edges.append(max(edges[-1] + 1, round(edges[-1] * factor)))
    return np.array(edges)
