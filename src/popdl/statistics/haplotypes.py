"""Statistics of haplotype frequencies (Garud et al. 2015, PLoS Genetics 11:e1005004)."""

from __future__ import annotations

from collections import Counter

import numpy as np

from popdl.statistics._counts import allele_counts

__all__ = ["STRETCH", "haplotype_statistics"]

STRETCH = 100
"""Sites that make a haplotype. Over a whole window nearly every haplotype is unique, and the statistics say nothing."""


def haplotype_statistics(genotypes: np.ndarray) -> dict[str, float]:
    """H1, H12, H2/H1 and the number of distinct haplotypes over the central ``STRETCH`` sites, or all if they are fewer.

    With haplotype frequencies p₁ ≥ p₂ ≥ …: H1 = Σ pᵢ², H12 = (p₁ + p₂)² + Σ_{i>2} pᵢ², H2 = H1 − p₁². A missing allele counts
    as the more frequent one of its site, so that it makes no haplotype distinct by itself.

    Parameters
    ----------
    genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
        0, 1, or −1 for missing.
    """
    first = max(0, (len(genotypes) - STRETCH) // 2)
    stretch = genotypes[first : first + STRETCH]
    ones, called = allele_counts(stretch)
    alleles = np.where(stretch < 0, (2 * ones > called)[:, np.newaxis], stretch == 1)
    haplotypes = np.packbits(alleles, axis=0).T
    frequencies = np.array(sorted(Counter(map(bytes, haplotypes)).values(), reverse=True)) / genotypes.shape[1]
    h1 = float(np.sum(frequencies**2))
    h12 = h1 + 2 * float(np.prod(frequencies[:2])) if len(frequencies) > 1 else h1
    return {
        "h1": h1,
        "h12": h12,
        "h2_h1": (h1 - float(frequencies[0]) ** 2) / h1,
        "distinct_haplotypes": float(len(frequencies)),
    }
