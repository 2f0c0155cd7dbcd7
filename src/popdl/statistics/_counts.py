"""How often each allele occurs: what both the site filters and the statistics start from."""

from __future__ import annotations

import numpy as np

__all__ = ["allele_counts", "row_sums"]


def allele_counts(genotypes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the haplotypes that carry allele 1, and those whose allele is known.

    Parameters
    ----------
    genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
        0, 1, or −1 for missing; larger indices count as known.

    Returns
    -------
    ones, called : ndarray of shape (num_sites,), dtype=int64
    """
    num_sites, num_haplotypes = genotypes.shape
    ones = row_sums(genotypes == 1)
    if genotypes.size and genotypes.min() < 0:
        return ones, row_sums(genotypes >= 0)
    return ones, np.full(num_sites, num_haplotypes, dtype=np.int64)


def row_sums(flags: np.ndarray) -> np.ndarray:
    """Number of true values in each row of a contiguous array of shape (rows, columns), dtype=bool, as int64.

    Twice as fast as ``flags.sum(axis=1)`` for short rows. As fast as a matrix product, which would start BLAS threads in jobs
    that were given one core.
    """
    sums: np.ndarray = np.einsum("ij->i", flags.view(np.int8), dtype=np.int32)
    return sums.astype(np.int64)
