"""Traces of recombination, for its rate and for hotspots: r² and pairs of sites with four gametes, by rank, distance and place."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from popdl.statistics._counts import allele_counts
from popdl.statistics._pairs import dosages, four_gametes, means_by_bin, pairs, r2_matrix
from popdl.statistics.linkage import MIN_FREQUENCY
from popdl.statistics.optional._phased import PhasedStatistic

__all__ = [
    "Recombination",
    "compared_sites",
    "least_recombinations",
    "means_by_place",
    "names",
    "names_by_place",
    "recombination",
]

MAX_SITES = 400
"""Sites in the middle of the window that are compared at most: 80,000 pairs."""
RANKS = (1, 2, 3, 5, 9, 17, 33, 65)
"""Bounds of the bins of rank differences: 1, 2, 3-4, 5-8, …"""
DISTANCES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Bounds of the distance bins, as fractions of the window."""
NUM_RANKS, NUM_DISTANCES = len(RANKS) - 1, len(DISTANCES) - 1
NUM_POINTS = 11
"""Points of the profile, evenly spread within the window; the sixth is its centre."""
REACH = 0.1
"""Pairs that span a point of the profile are this fraction of the window apart at most."""


class Recombination(PhasedStatistic):
    """r² and pairs with four gametes by rank and distance, across the centre and off it, and along the window."""

    def names(self, num_haplotypes: int, *, derived: bool) -> list[str]:
        return names(phased=self.settings.phased)

    def compute(
        self, genotypes: np.ndarray, positions: np.ndarray, *, sequence_length: float, derived: bool
    ) -> np.ndarray:
        return recombination(genotypes, positions, sequence_length=sequence_length, phased=self.settings.phased)


def names(*, phased: bool) -> list[str]:
    """Names of the statistics in the order of :func:`recombination`.

    Those of :func:`names_by_place` for ``r2`` and for ``four_gametes``; ``least_recombinations``.
    """
    kinds = ("r2", "four_gametes") if phased else ("r2",)
    found = [name for kind in kinds for name in names_by_place(kind)]
    return [*found, "least_recombinations"] if phased else found


def names_by_place(kind: str) -> list[str]:
    """Names of the means of pairs of sites in the order of :func:`means_by_place`, each after ``kind``.

    ``r2_rank_3_4``: pairs of sites whose ranks differ by 3 or 4; ``r2_centre_0.05``: pairs that span the centre, at distances
    from that fraction of the window up to the next; ``r2_flanks_0.05``: pairs that do not; ``r2_contrast``: the first minus
    the second, mean over distances; ``r2_span_3``: pairs across the third point of the profile.
    """
    ranks = [f"rank_{low}" if low == high - 1 else f"rank_{low}_{high - 1}" for low, high in pairwise(RANKS)]
    sides = [f"{side}_{low:g}" for side in ("centre", "flanks") for low in DISTANCES[:-1]]
    points = [f"span_{point}" for point in range(1, NUM_POINTS + 1)]
    return [f"{kind}_{name}" for name in (*ranks, *sides, "contrast", *points)]


def recombination(genotypes: np.ndarray, positions: np.ndarray, *, sequence_length: float, phased: bool) -> np.ndarray:
    """Mean r² and share of pairs with four gametes, by rank difference, by distance on and off the centre, and along the window.

    Pairs are those of the sites that :func:`compared_sites` chooses.

    Parameters
    ----------
    genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
        0, 1, or −1 for missing.
    positions : ndarray of shape (num_sites,)
        In bp from the start of the window, not decreasing.
    sequence_length
        Length of the window in bp.
    phased
        Whether columns are haplotypes; if not, r² is that of the dosages of individuals, and gametes are not known.

    Returns
    -------
    ndarray of shape (num_statistics,), dtype=float64
        In the order of :func:`names`; NaN for a bin without pairs.
    """
    ones, called = allele_counts(genotypes)
    minor = np.minimum(ones, called - ones) / np.maximum(called, 1)
    chosen = compared_sites(minor, positions, sequence_length=sequence_length)
    places = positions[chosen] / sequence_length
    if not phased:
        return means_by_place(places, pairs(r2_matrix(dosages(genotypes[chosen]))))
    recombined = four_gametes(genotypes[chosen])
    means = means_by_place(places, pairs(r2_matrix(genotypes[chosen])), pairs(recombined).astype(np.float64))
    return np.append(means, least_recombinations(recombined))


def compared_sites(minor: np.ndarray, positions: np.ndarray, *, sequence_length: float) -> np.ndarray:
    """The up to ``MAX_SITES`` sites nearest to the centre (in rank) whose minor allele has a frequency of ``MIN_FREQUENCY`` or more.

    Parameters
    ----------
    minor : ndarray of shape (num_sites,)
        Frequency of the minor allele.
    positions : ndarray of shape (num_sites,)
        In bp from the start of the window, not decreasing.
    sequence_length
        Length of the window in bp.

    Returns
    -------
    ndarray of shape (num_compared,), dtype=int64
        Indices of sites, in order.
    """
    common = np.flatnonzero(minor >= MIN_FREQUENCY)
    middle = np.searchsorted(positions[common], sequence_length / 2)
    first = int(np.clip(middle - MAX_SITES // 2, 0, max(0, len(common) - MAX_SITES)))
    return common[first : first + MAX_SITES]


def means_by_place(places: np.ndarray, *values: np.ndarray) -> np.ndarray:
    """Means of pairs of sites by rank difference, by distance on and off the centre, and along the window.

    Parameters
    ----------
    places : ndarray of shape (num_sites,)
        Positions of the sites as fractions of the window, not decreasing.
    values : ndarray of shape (num_pairs,)
        Of one kind each, in the order of :func:`popdl.statistics._pairs.pairs`; NaN where undefined, which is left out.

    Returns
    -------
    ndarray of shape (num_kinds · num_means,), dtype=float64
        Kind by kind in the order of :func:`names_by_place`; NaN for a bin without pairs.
    """
    inside, bins = _members(places)
    return np.concatenate([_means(kind[inside], bins) for kind in values])


def least_recombinations(recombined: np.ndarray) -> int:
    """The least number of recombinations that the sample needs, R_M (Hudson & Kaplan 1985, Genetics 111:147).

    It is the largest number of intervals between sites with four gametes that do not overlap.

    Parameters
    ----------
    recombined : ndarray of shape (num_sites, num_sites), dtype=bool
        As :func:`popdl.statistics._pairs.four_gametes` gives it.
    """
    # For every right end the nearest left end, −1 where there is none; then greedily from the left.
    ranks = np.arange(len(recombined))
    nearest = np.where(np.tril(recombined, -1), ranks, -1).max(axis=1, initial=-1)
    count, end = 0, 0
    for right, left in enumerate(nearest.tolist()):
        if left >= end:
            count, end = count + 1, right
    return count


def _members(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which pairs (in the order of ``pairs``) are in which bin: first those of ranks, then centre, flanks and profile."""
    rows, columns = np.nonzero(np.tri(len(places), k=-1, dtype=bool))
    low, high = places[columns], places[rows]
    distance = high - low
    by_rank = np.digitize(rows - columns, RANKS) - 1
    by_distance = np.digitize(distance, DISTANCES) - 1
    on_flanks = (low >= 0.5) | (high < 0.5)
    inside = [np.flatnonzero(by_rank < NUM_RANKS), np.flatnonzero(by_distance < NUM_DISTANCES)]
    bins = [by_rank[inside[0]], NUM_RANKS + (by_distance + NUM_DISTANCES * on_flanks)[inside[1]]]
    near = np.flatnonzero(distance <= REACH)
    low, high = low[near], high[near]
    for point in range(NUM_POINTS):
        place = (point + 1) / (NUM_POINTS + 1)
        inside.append(near[(low < place) & (high >= place)])
        bins.append(np.full(len(inside[-1]), NUM_RANKS + 2 * NUM_DISTANCES + point))
    return np.concatenate(inside), np.concatenate(bins)


def _means(values: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Means by bin, with the contrast between centre and flanks before the profile."""
    means = means_by_bin(values, bins, NUM_RANKS + 2 * NUM_DISTANCES + NUM_POINTS)
    ranks, centre, flanks, points = np.split(means, np.cumsum([NUM_RANKS, NUM_DISTANCES, NUM_DISTANCES]))
    differences = (centre - flanks)[~np.isnan(centre - flanks)]
    contrast = differences.mean() if len(differences) else np.nan
    return np.concatenate([ranks, centre, flanks, [contrast], points])
