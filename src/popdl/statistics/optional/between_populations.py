"""Statistics of populations and of pairs of them, as FILET uses them to find introgression.

Schrider et al. (2018, PLoS Genetics 14:e1007341) tell no introgression from introgression in either direction by them: genes
that came over recently are closer to a haplotype of the other population than the split allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from popdl.statistics import spectrum
from popdl.statistics._counts import allele_counts
from popdl.statistics._pairs import distances, pairs, r2_matrix
from popdl.statistics.optional._phased import PhasedStatistic

if TYPE_CHECKING:
    from popdl.config.study import Study

__all__ = ["BetweenPopulations", "between_populations", "names"]

MAX_SITES = 400
"""Sites that enter r² at most, evenly spread."""
WITHIN = ("segregating_sites", "pi", "wattersons_theta", "tajimas_d", "private_sites")
BETWEEN = ("fst", "dxy", "da", "shared_sites", "fixed_differences")
PHASED = ("dmin", "gmin", "nearest_neighbours", "zx", "longest_shared", "mean_longest_shared")
DIRECTED = ("dmin_over_pi", "dmin_rank")


class BetweenPopulations(PhasedStatistic):
    """Diversity within populations, and divergence and nearest haplotypes between them."""

    class Settings(PhasedStatistic.Settings):
        populations: dict[str, Annotated[int, Field(ge=2)]] = Field(min_length=2)
        """Haplotypes of each population, in the order of `num_haplotypes`: {CEU: 20, YRI: 14}."""

    def problems(self, study: Study) -> list[str]:
        given, counts = self.settings.populations, study.simulation.num_haplotypes if study.simulation else None
        if isinstance(counts, dict) and list(given.items()) != list(counts.items()):
            return [f"populations: expected those of simulation.num_haplotypes, {counts}, found {given}"]
        if sum(given.values()) != study.source.total_haplotypes:
            total = study.source.total_haplotypes
            return [f"populations: expected {total} haplotypes in all ({study.section}), found {sum(given.values())}"]
        return super().problems(study)

    def names(self, num_haplotypes: int, *, derived: bool) -> list[str]:
        return names(self.settings.populations, phased=self.settings.phased)

    def compute(
        self, genotypes: np.ndarray, positions: np.ndarray, *, sequence_length: float, derived: bool
    ) -> np.ndarray:
        return between_populations(
            genotypes,
            positions,
            sequence_length=sequence_length,
            populations=self.settings.populations,
            phased=self.settings.phased,
        )


def names(populations: Mapping[str, int], *, phased: bool) -> list[str]:
    """Names of the statistics in the order of :func:`between_populations`: ``pi_A``, …, ``fst_A_B``, …, ``dmin_rank_A_B``.

    Parameters
    ----------
    populations
        Haplotypes of each population, in the order of their columns.
    phased
        Whether columns are haplotypes; what needs haplotypes is left out if not.
    """
    found = [f"{name}_{population}" for population in populations for name in WITHIN]
    for first, second in combinations(populations, 2):
        found += [f"{name}_{first}_{second}" for name in (*BETWEEN, *(PHASED if phased else ()))]
        if phased:
            found += [f"{name}_{a}_{b}" for a, b in ((first, second), (second, first)) for name in DIRECTED]
    return found


def between_populations(
    genotypes: np.ndarray,
    positions: np.ndarray,
    *,
    sequence_length: float,
    populations: Mapping[str, int],
    phased: bool,
) -> np.ndarray:
    """Compute every statistic of one window.

    Of each population: segregating sites, π and Watterson's θ per bp, Tajima's D, and sites that vary in it alone.

    Of each pair A, B: F_ST as 1 − mean π / d_xy over the whole window (Hudson et al. 1992), d_xy and d_a = d_xy − mean π per bp,
    sites that vary in both, fixed differences, and from haplotypes

    * ``dmin``, the differences per bp of the two haplotypes (one from each) that are closest; ``gmin`` = d_min / d_xy (Geneva
      et al. 2015);
    * ``nearest_neighbours``, S_nn: the share of nearest neighbours that are of a haplotype's own population (Hudson 2000);
    * ``zx``, mean Z_nS within the populations over that of both together;
    * ``longest_shared``, the longest stretch in which a haplotype of A and one of B agree, and ``mean_longest_shared``, the mean
      over all such pairs of their longest ones (fractions of the window);
    * ``dmin_over_pi_A_B``, d_min / π of A, and ``dmin_rank_A_B``, the share of pairs within A that are closer than d_min: low
      where A has what came from B.

    Parameters
    ----------
    genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
        0, 1, or −1 for missing.
    positions : ndarray of shape (num_sites,)
        In bp from the start of the window, not decreasing.
    sequence_length
        Length of the window in bp.
    populations
        Haplotypes of each population, in the order of their columns; two or more populations.
    phased
        Whether columns are haplotypes.

    Returns
    -------
    ndarray of shape (num_statistics,), dtype=float64
        In the order of :func:`names`; NaN where undefined.
    """
    ends = np.cumsum(list(populations.values()))
    assert len(ends) > 1 and ends[-1] == genotypes.shape[1], "the populations are the columns"
    columns = {name: slice(end - populations[name], end) for name, end in zip(populations, ends.tolist(), strict=True)}
    counts = {name: allele_counts(np.ascontiguousarray(genotypes[:, part])) for name, part in columns.items()}
    varying = {name: (ones > 0) & (ones < called) for name, (ones, called) in counts.items()}
    num_varying = np.sum(list(varying.values()), axis=0)
    pi = {name: spectrum.pairwise_differences(*found) / sequence_length for name, found in counts.items()}
    values: list[float] = []
    for name, (ones, called) in counts.items():
        values += [
            int(np.count_nonzero(varying[name])),
            pi[name],
            spectrum.wattersons_estimate(ones, called) / sequence_length,
            spectrum.tajimas_d(ones, called),
            int(np.count_nonzero(varying[name] & (num_varying == 1))),
        ]
    apart = distances(genotypes) / sequence_length if phased else None
    zns = {name: _zns(genotypes[:, part]) for name, part in columns.items()} if phased else {}
    for first, second in combinations(populations, 2):
        dxy = _between(*counts[first], *counts[second]) / sequence_length
        within = (pi[first] + pi[second]) / 2
        values += [
            1 - within / dxy if dxy > 0 else np.nan,
            dxy,
            dxy - within,
            int(np.count_nonzero(varying[first] & varying[second])),
            _fixed_differences(*counts[first], *counts[second]),
        ]
        if apart is None:
            continue
        a, b = columns[first], columns[second]
        dmin = _lowest(apart[a, b])
        both = _zns(np.concatenate([genotypes[:, a], genotypes[:, b]], axis=1))
        values += [
            dmin,
            dmin / dxy if dxy > 0 else np.nan,
            _nearest_neighbours(apart[a, a], apart[a, b], apart[b, b]),
            (zns[first] + zns[second]) / (2 * both) if both > 0 else np.nan,
            *_longest_shared(genotypes[:, a], genotypes[:, b], positions / sequence_length),
        ]
        for name in (first, second):
            own = pairs(apart[columns[name], columns[name]])
            own = own[~np.isnan(own)]
            values += [
                dmin / pi[name] if pi[name] > 0 else np.nan,
                float(np.mean(own < dmin)) if len(own) and not np.isnan(dmin) else np.nan,
            ]
    return np.array(values, dtype=np.float64)


def _between(ones: np.ndarray, called: np.ndarray, other_ones: np.ndarray, other_called: np.ndarray) -> float:
    """Mean number of sites at which a haplotype of one population differs from one of another (Nei & Li 1979)."""
    different = ones * (other_called - other_ones) + other_ones * (called - ones)
    return float(np.sum(different / np.maximum(called * other_called, 1)))


def _fixed_differences(ones: np.ndarray, called: np.ndarray, other_ones: np.ndarray, other_called: np.ndarray) -> int:
    here, there = (ones == called) & (other_ones == 0), (ones == 0) & (other_ones == other_called)
    return int(np.count_nonzero((here | there) & (called > 0) & (other_called > 0)))


def _zns(genotypes: np.ndarray) -> float:
    """Mean r² over all pairs of sites (Kelly 1997); NaN without a pair."""
    chosen = np.unique(np.linspace(0, len(genotypes) - 1, min(MAX_SITES, len(genotypes))).astype(int))
    r2 = pairs(r2_matrix(genotypes[chosen]))
    defined = r2[~np.isnan(r2)]
    return float(defined.mean()) if len(defined) else np.nan


def _lowest(values: np.ndarray) -> float:
    return float(np.nanmin(values)) if not np.isnan(values).all() else np.nan


def _nearest_neighbours(within: np.ndarray, across: np.ndarray, other_within: np.ndarray) -> float:
    """S_nn (Hudson 2000, Genetics 155:2011); neighbours that are equally near share the vote."""
    shares = []
    for own, foreign in ((within, across), (other_within, across.T)):
        own = np.where(np.eye(len(own), dtype=bool) | np.isnan(own), np.inf, own)
        foreign = np.where(np.isnan(foreign), np.inf, foreign)
        nearest = np.minimum(own.min(axis=1), foreign.min(axis=1))[:, np.newaxis]
        own_count, foreign_count = (own == nearest).sum(axis=1), (foreign == nearest).sum(axis=1)
        shares.append((own_count / (own_count + foreign_count))[np.isfinite(nearest[:, 0])])
    found = np.concatenate(shares)
    return float(found.mean()) if len(found) else np.nan


def _longest_shared(first: np.ndarray, second: np.ndarray, places: np.ndarray) -> tuple[float, float]:
    """Longest stretch without a difference, over all pairs of one haplotype from each side: its maximum and mean.

    A stretch reaches from a difference, or an end of the window, to the next; a missing allele makes no difference.
    """
    num_sites, num_second = second.shape
    second = np.ascontiguousarray(second.T)
    borders = np.concatenate([[0.0], places, [1.0]])
    different = np.ones((num_second, num_sites + 2), dtype=bool)  # the ends of the window are borders of every pair
    longest = []
    for haplotype in np.ascontiguousarray(first.T):
        different[:, 1:-1] = (second != haplotype) & (second >= 0) & (haplotype >= 0)
        found = np.flatnonzero(different) % (num_sites + 2)
        # From the last border of a pair to the first of the next the difference is negative, and never the longest.
        lengths = np.diff(borders[found])
        longest.append(np.maximum.reduceat(lengths, np.flatnonzero(found[:-1] == 0)))
    every = np.array(longest)
    return float(every.max()), float(every.mean())
