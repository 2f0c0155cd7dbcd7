"""Pairs of sites and pairs of haplotypes: linkage and distance, each from a few matrix products.

The products are sums of whole numbers, which are exact: of small ones in float32, below 2²⁴, of larger ones in float64, below 2⁵³. The
outcome depends neither on the number of threads nor on the order of the haplotypes.
"""

from __future__ import annotations

import numpy as np

__all__ = ["distances", "dosages", "four_gametes", "max_omega", "means_by_bin", "pairs", "r2_matrix"]


def dosages(genotypes: np.ndarray) -> np.ndarray:
    """Number of 1s in each diploid individual, −1 where either allele is missing.

    Parameters
    ----------
    genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
        0, 1, or −1 for missing; the two haplotypes of an individual are adjacent.

    Returns
    -------
    ndarray of shape (num_sites, num_haplotypes // 2), dtype=int8
    """
    first, second = genotypes[:, 0::2], genotypes[:, 1::2]
    return np.where((first < 0) | (second < 0), np.int8(-1), first + second)


def pairs(matrix: np.ndarray) -> np.ndarray:
    """The entries of a symmetric matrix that belong to two different things, each pair once, in the order of ``np.tril``."""
    return matrix[np.tri(len(matrix), k=-1, dtype=bool)]


def r2_matrix(genotypes: np.ndarray) -> np.ndarray:
    """Squared correlation r² of every pair of sites (Hill & Robertson 1968; of dosages: Rogers & Huff 2009).

    Parameters
    ----------
    genotypes : ndarray of shape (num_sites, num_samples), dtype=int8 or int32
        0 and 1 of haplotypes, 0, 1 and 2 of individuals, or larger whole numbers, such as shares of reads in parts of a million; −1 for
        missing. A pair is judged on the samples known at both.

    Returns
    -------
    ndarray of shape (num_sites, num_sites), dtype=float64
        NaN where one of the two does not vary.
    """
    known = genotypes >= 0
    exact: type[np.floating] = np.float32 if genotypes.dtype == np.int8 else np.float64
    values = np.where(known, genotypes, 0).astype(exact)
    products = (values @ values.T).astype(np.float64)
    if known.all():
        n: np.ndarray | float = float(genotypes.shape[1])
        sums = values.sum(axis=1, dtype=np.float64)[:, np.newaxis]
        squares = (values**2).sum(axis=1, dtype=np.float64)[:, np.newaxis]
    else:
        weights = known.astype(exact)
        n = (weights @ weights.T).astype(np.float64)
        sums = (values @ weights.T).astype(np.float64)
        squares = (values**2 @ weights.T).astype(np.float64)
    variances = n * squares - sums**2
    denominator = variances * variances.T
    covariances = n * products - sums * sums.T
    return np.divide(covariances**2, denominator, out=np.full(products.shape, np.nan), where=denominator > 0)


def means_by_bin(values: np.ndarray, bins: np.ndarray, num_bins: int) -> np.ndarray:
    """Mean of the values in each bin.

    Parameters
    ----------
    values : ndarray of shape (n,)
        NaN where undefined, which is left out.
    bins : ndarray of shape (n,), dtype=int64
        Bin of each value.
    num_bins
        Number of bins.

    Returns
    -------
    ndarray of shape (num_bins,), dtype=float64
        NaN for a bin without values.
    """
    defined = ~np.isnan(values)
    counts = np.bincount(bins, weights=defined, minlength=num_bins)
    sums = np.bincount(bins, weights=np.where(defined, values, 0), minlength=num_bins)
    return np.divide(sums, counts, out=np.full(num_bins, np.nan), where=counts > 0)


def four_gametes(haplotypes: np.ndarray) -> np.ndarray:
    """Which pairs of sites show all four gametes 00, 01, 10 and 11 (Hudson & Kaplan 1985): their history has a recombination.

    Parameters
    ----------
    haplotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
        0, 1, or −1 for missing.

    Returns
    -------
    ndarray of shape (num_sites, num_sites), dtype=bool
    """
    ones, zeros = (haplotypes == 1).astype(np.float32), (haplotypes == 0).astype(np.float32)
    mixed = ones @ zeros.T > 0
    return (ones @ ones.T > 0) & (zeros @ zeros.T > 0) & mixed & mixed.T


def max_omega(r2: np.ndarray) -> float:
    """The largest ω over all ways to cut the sites in two (Kim & Nielsen 2004, Genetics 167:1513).

    ω is the mean r² of pairs on the same side over that of pairs across the cut, with at least two sites on each side.

    Parameters
    ----------
    r2 : ndarray of shape (num_sites, num_sites)
        As :func:`r2_matrix` gives it; undefined pairs are left out.

    Returns
    -------
    float
        0 for fewer than four sites, or where no cut has pairs on both sides of the ratio.
    """
    num_sites = len(r2)
    if num_sites < 4:
        return 0.0
    upper = np.triu(np.nan_to_num(r2), 1)
    defined = np.triu(~np.isnan(r2), 1)
    (within, cross), (num_within, num_cross) = _by_cut(upper), _by_cut(defined.astype(np.float64))
    usable = (num_within > 0) & (cross > 0)
    ratios = np.divide(within * num_cross, num_within * cross, out=np.zeros(len(cross)), where=usable)
    return float(ratios.max())


def _by_cut(upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the pairs on the same side and across, for a cut before each site from the third to the last but one."""
    left = np.cumsum(upper.sum(axis=0))[1:-2]
    right = np.cumsum(upper.sum(axis=1)[::-1])[::-1][2:-1]
    within = left + right
    cross = upper.sum() - within
    # A difference of sums that are equal up to rounding is zero.
    return within, np.where(cross > 1e-12 * max(float(upper.sum()), 1.0), cross, 0.0)


def distances(genotypes: np.ndarray) -> np.ndarray:
    """Number of sites at which two samples differ.

    Parameters
    ----------
    genotypes : ndarray of shape (num_sites, num_samples), dtype=int8
        0 and 1 of haplotypes or 0, 1 and 2 of individuals; −1 for missing.

    Returns
    -------
    ndarray of shape (num_samples, num_samples), dtype=float64
        Where alleles are missing: the share of differing sites among those known in both, times ``num_sites``; NaN for a
        pair without such a site.
    """
    num_sites, num_samples = genotypes.shape
    samples = np.ascontiguousarray(genotypes.T)
    present = [(samples == value).astype(np.float32) for value in range(int(genotypes.max(initial=1)) + 1)]
    different = np.zeros((num_samples, num_samples))
    for value, flags in enumerate(present):
        for other in present[value + 1 :]:
            counts = flags @ other.T
            different += counts + counts.T
    known = samples >= 0
    if known.all():
        return different
    weights = known.astype(np.float32)
    shared = (weights @ weights.T).astype(np.float64)
    return np.divide(different * num_sites, shared, out=np.full(shared.shape, np.nan), where=shared > 0)
