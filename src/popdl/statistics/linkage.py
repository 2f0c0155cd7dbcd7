"""Linkage disequilibrium by distance."""

from __future__ import annotations

import numpy as np

from popdl.statistics._counts import allele_counts, row_sums
from popdl.statistics._pairs import means_by_bin

__all__ = ["EDGES", "linkage_by_distance"]

EDGES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""Bounds of the distance bins, as fractions of the window."""
MAX_PAIRS = 200
"""Pairs of sites in each bin at most: 1,600 pairs take a millisecond."""
MIN_FREQUENCY = 0.05
"""Rarer alleles are left out: how large r² can be at all depends on the frequencies (VanLiere & Rosenberg 2008)."""


def linkage_by_distance(genotypes: np.ndarray, positions: np.ndarray, *, sequence_length: float) -> np.ndarray:
    """Mean r² (Hill & Robertson 1968) of pairs of sites in each distance bin.

    Up to ``MAX_PAIRS`` sites with a minor allele of frequency ``MIN_FREQUENCY`` or more, evenly spread over all such sites,
    are each paired, for each bin, with the first such site that lies beyond the bin's lower bound, if it lies within the bin.
    r² is taken over the haplotypes that are known at both sites; a pair that does not vary among them is left out.

    Parameters
    ----------
    genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
        0, 1, or −1 for missing.
    positions : ndarray of shape (num_sites,)
        In bp, not decreasing.
    sequence_length
        In bp.

    Returns
    -------
    ndarray of shape (num_bins,), dtype=float64
        NaN for a bin without pairs.
    """
    num_bins = len(EDGES) - 1
    ones, called = allele_counts(genotypes)
    common = np.flatnonzero(np.minimum(ones, called - ones) / np.maximum(called, 1) >= MIN_FREQUENCY)
    if len(common) < 2:
        return np.full(num_bins, np.nan)
    positions = positions[common]
    anchors = np.unique(np.linspace(0, len(common) - 1, min(MAX_PAIRS, len(common))).astype(int))
    edges = np.array(EDGES) * sequence_length
    partners = np.searchsorted(positions, positions[anchors] + edges[:-1, np.newaxis])
    inside = partners < len(common)
    partners = np.minimum(partners, len(common) - 1)
    inside &= positions[partners] - positions[anchors] < edges[1:, np.newaxis]
    bins, columns = np.nonzero(inside)
    return means_by_bin(_r2(genotypes, common[anchors[columns]], common[partners[bins, columns]]), bins, num_bins)


def _r2(genotypes: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared correlation between pairs of sites, given by their indices; NaN where one does not vary."""
    a, b = genotypes[first], genotypes[second]
    known = (a >= 0) & (b >= 0)
    n = row_sums(known).astype(np.float64)
    a_ones, b_ones = row_sums(known & (a == 1)), row_sums(known & (b == 1))
    covariance = n * row_sums((a == 1) & (b == 1)) - a_ones * b_ones
    variances = a_ones * (n - a_ones) * b_ones * (n - b_ones)
    return np.divide(covariance**2, variances, out=np.full(len(n), np.nan), where=variances > 0)
