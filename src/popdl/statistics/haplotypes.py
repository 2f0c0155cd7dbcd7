"""Statistics of haplotype frequencies (Garud et al. 2015, PLoS Genetics 11:e1005004)."""

from __future__ import annotations

from collections import Counter

import numpy as np

from popdl.statistics._counts import allele_counts

__all__ = ["STRETCH", "central", "frequencies", "haplotype_statistics", "homozygosities"]

STRETCH = 100
"""Sites that make a haplotype. Over a whole window nearly every haplotype is unique, and the statistics say nothing."""


def haplotype_statistics(genotypes: np.ndarray) -> dict[str, float]:
    """H1, H12, H2/H1 and the number of distinct haplotypes over the central ``STRETCH`` sites, or all if they are fewer.

    A missing allele counts as the more frequent one of its site, so that it makes no haplotype distinct by itself.

    Parameters
    ----------
    genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
        0, 1, or −1 for missing.
    """
    found = homozygosities(frequencies(central(genotypes, STRETCH)))
    return {name: found[name] for name in ("h1", "h12", "h2_h1", "distinct_haplotypes")}


def central(genotypes: np.ndarray, num_sites: int) -> np.ndarray:
    """The central ``num_sites`` rows, or all if they are fewer."""
    first = max(0, (len(genotypes) - num_sites) // 2)
    return genotypes[first : first + num_sites]


def frequencies(genotypes: np.ndarray) -> np.ndarray:
    """Frequencies of the distinct columns: of haplotypes, or of multilocus genotypes, the most frequent first.

    A missing value counts as the most frequent one of its site (the lowest of several).

    Parameters
    ----------
    genotypes : ndarray of shape (num_sites, num_samples), dtype=int8
        0 and 1 of haplotypes or 0, 1 and 2 of individuals; −1 for missing.
    """
    if genotypes.max(initial=0) <= 1:
        ones, called = allele_counts(genotypes)
        alleles = np.where(genotypes < 0, (2 * ones > called)[:, np.newaxis], genotypes == 1)
        columns = np.packbits(alleles, axis=0)
    else:
        commonest = np.stack([np.count_nonzero(genotypes == value, axis=1) for value in range(3)]).argmax(axis=0)
        columns = np.where(genotypes < 0, commonest[:, np.newaxis], genotypes).astype(np.uint8)
    counts = sorted(Counter(map(bytes, columns.T)).values(), reverse=True)
    return np.array(counts) / genotypes.shape[1]


def homozygosities(frequencies: np.ndarray) -> dict[str, float]:
    """What the frequencies p₁ ≥ p₂ ≥ … of distinct haplotypes say about sweeps.

    H1 = Σ pᵢ², H12 = H1 + 2p₁p₂, H123 = H1 + 2(p₁p₂ + p₁p₃ + p₂p₃), H2 = H1 − p₁².
    """
    first, second, third = (*map(float, frequencies[:3]), 0.0, 0.0)[:3]
    h1 = float(np.sum(frequencies**2))
    h12 = h1 + 2 * first * second
    return {
        "h1": h1,
        "h12": h12,
        "h123": h12 + 2 * (first * third + second * third),
        "h2_h1": (h1 - first**2) / h1,
        "distinct_haplotypes": float(len(frequencies)),
    }
