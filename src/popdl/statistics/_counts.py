"""How often each allele occurs: what both the site filters and the statistics start from."""

from __future__ import annotations

import numpy as np

__all__ = ["allele_counts"]


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
    # A matrix product is several times faster than a sum over the short axis, and exact up to 2²⁴ haplotypes.
    unit = np.ones(num_haplotypes, dtype=np.float32)
    ones = ((genotypes == 1).astype(np.float32) @ unit).astype(np.int64)
    if genotypes.size and genotypes.min() < 0:
        called = ((genotypes >= 0).astype(np.float32) @ unit).astype(np.int64)
    else:
        called = np.full(num_sites, num_haplotypes, dtype=np.int64)
    return ones, called
