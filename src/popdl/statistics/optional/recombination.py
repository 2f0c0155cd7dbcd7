"""Traces of recombination, for its rate and for hotspots: r² and pairs of sites with four gametes, by rank, distance and place."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from popdl.statistics._counts import allele_counts
from popdl.statistics._pairs import dosages, four_gametes, pairs, r2_matrix
from popdl.statistics.linkage import MIN_FREQUENCY
from popdl.statistics.optional._phased import PhasedStatistic

__all__ = ["Recombination", "least_recombinations", "names", "recombination"]

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

    ``r2_rank_3_4``: pairs of sites whose ranks differ by 3 or 4; ``r2_centre_0.05``: pairs that span the centre, at distances
    from that fraction of the window up to the next; ``r2_flanks_0.05``: pairs that do not; ``r2_contrast``: the first minus
    the second, mean over distances; ``r2_span_3``: pairs across the third point of the profile; the same with ``four_gametes``;
    ``least_recombinations``.
    """
    ranks = [f"rank_{low}" if low == high - 1 else f"rank_{low}_{high - 1}" for low, high in pairwise(RANKS)]
    sides = [f"{side}_{low:g}" for side in ("centre", "flanks") for low in DISTANCES[:-1]]
    points = [f"span_{point}" for point in range(1, NUM_POINTS + 1)]
    kinds = ("r2", "four_gametes") if phased else ("r2",)
    found = [f"{kind}_{name}" for kind in kinds for name in (*ranks, *sides, "contrast", *points)]
    return [*found, "least_recombinations"] if phased else found


def recombination(genotypes: np.ndarray, positions: np.ndarray, *, sequence_length: float, phased: bool) -> np.ndarray:
    """Mean r² and share of pairs with four gametes, by rank difference, by distance on and off the centre, and along the window.

    Pairs are those of the up to ``MAX_SITES`` sites nearest to the centre (in rank) whose minor allele has a frequency of
    ``MIN_FREQUENCY`` or more.

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
    common = np.flatnonzero(np.minimum(ones, called - ones) / np.maximum(called, 1) >= MIN_FREQUENCY)
    middle = np.searchsorted(positions[common], sequence_length / 2)
    first = int(np.clip(middle - MAX_SITES // 2, 0, max(0, len(common) - MAX_SITES)))
    chosen = common[first : first + MAX_SITES]
    samples = genotypes[chosen] if phased else dosages(genotypes[chosen])
    inside, bins = _members(positions[chosen] / sequence_length)
    values = [*_means(pairs(r2_matrix(samples)), inside, bins)]
    if phased:
        recombined = four_gametes(samples)
        values += [*_means(pairs(recombined).astype(np.float64), inside, bins), least_recombinations(recombined)]
    return np.array(values, dtype=np.float64)


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


def _means(values: np.ndarray, inside: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Means by bin, with the contrast between centre and flanks before the profile."""
    values = values[inside]
    defined = ~np.isnan(values)
    size = NUM_RANKS + 2 * NUM_DISTANCES + NUM_POINTS
    counts = np.bincount(bins, weights=defined, minlength=size)
    sums = np.bincount(bins, weights=np.where(defined, values, 0), minlength=size)
    means = np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0)
    ranks, centre, flanks, points = np.split(means, np.cumsum([NUM_RANKS, NUM_DISTANCES, NUM_DISTANCES]))
    differences = (centre - flanks)[~np.isnan(centre - flanks)]
    contrast = differences.mean() if len(differences) else np.nan
    return np.concatenate([ranks, centre, flanks, [contrast], points])
