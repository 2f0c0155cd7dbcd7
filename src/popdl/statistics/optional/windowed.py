"""How statistics change along a window: the feature vectors of S/HIC and diploS/HIC, for sweeps.

Schrider & Kern (2016, PLoS Genetics 12:e1005928) and Kern & Schrider (2018, G3 8:1959) cut a window into 11 and write each
statistic of a sub-window as its share in the sum over all: what is left is the shape along the window, which depends less on
the population's history than the values do.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from popdl.statistics import spectrum
from popdl.statistics._counts import allele_counts
from popdl.statistics._pairs import distances, dosages, max_omega, pairs, r2_matrix
from popdl.statistics.haplotypes import frequencies, homozygosities
from popdl.statistics.optional._phased import PhasedStatistic

__all__ = ["Windowed", "names", "normalise", "sub_window_statistics", "windowed"]

MAX_SITES = 400
"""Sites of a sub-window that enter r² at most, evenly spread."""

SPECTRUM = ("pi", "wattersons_theta", "tajimas_d")
POLARISED = ("theta_h", "fay_wu_h", "highest_frequency")
SAMPLES = (
    "distinct_haplotypes",
    "h1",
    "h12",
    "h2_h1",
    "zns",
    "max_omega",
    "distance_variance",
    "distance_skewness",
    "distance_kurtosis",
)


class Windowed(PhasedStatistic):
    """Mean over sub-windows and share of each of them, for the statistics of :func:`sub_window_statistics`."""

    class Settings(PhasedStatistic.Settings):
        num_windows: int = Field(default=11, ge=2)
        """Sub-windows of equal length."""

    def names(self, num_haplotypes: int, *, derived: bool) -> list[str]:
        return names(derived=derived, num_windows=self.settings.num_windows)

    def compute(
        self, genotypes: np.ndarray, positions: np.ndarray, *, sequence_length: float, derived: bool
    ) -> np.ndarray:
        return windowed(
            genotypes,
            positions,
            sequence_length=sequence_length,
            derived=derived,
            phased=self.settings.phased,
            num_windows=self.settings.num_windows,
        )


def names(*, derived: bool, num_windows: int) -> list[str]:
    """Names of the statistics in the order of :func:`windowed`: ``windowed_h12_mean``, then ``windowed_h12_1``, …

    Parameters
    ----------
    derived
        Whether a 1 is the derived allele: θ_H, Fay and Wu's H and the highest frequency exist only then.
    num_windows
        Sub-windows of equal length.
    """
    return [
        f"windowed_{name}_{part}" for name in _names(derived) for part in ("mean", *map(str, range(1, num_windows + 1)))
    ]


def windowed(
    genotypes: np.ndarray,
    positions: np.ndarray,
    *,
    sequence_length: float,
    derived: bool,
    phased: bool,
    num_windows: int,
) -> np.ndarray:
    """Mean over the sub-windows, and share of each in their sum, for every statistic of :func:`sub_window_statistics`.

    Parameters
    ----------
    genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
        0, 1, or −1 for missing.
    positions : ndarray of shape (num_sites,)
        In bp from the start of the window, not decreasing.
    sequence_length
        Length of the window in bp.
    derived
        Whether a 1 is the derived allele.
    phased
        Whether columns are haplotypes; if not, every two adjacent ones are an individual whose alleles have no order.

    Returns
    -------
    ndarray of shape (num_statistics · (1 + num_windows),), dtype=float64
        In the order of :func:`names`; always defined.
    """
    edges = np.searchsorted(positions, np.arange(1, num_windows) * sequence_length / num_windows)
    values = np.array(
        [
            sub_window_statistics(part, derived=derived, phased=phased)
            for part in np.split(genotypes, edges)  # views
        ]
    ).T
    return np.column_stack([values.mean(axis=1), normalise(values)]).ravel()


def sub_window_statistics(genotypes: np.ndarray, *, derived: bool, phased: bool) -> list[float]:
    """Statistics of one sub-window, not divided by its length.

    π, Watterson's θ, Tajima's D; with derived alleles θ_H = Σ 2i² / (n(n − 1)) over sites with i derived alleles (Fay & Wu
    2000), Fay and Wu's H = π − θ_H, and the highest frequency of a derived allele; the number of distinct haplotypes, H1, H12,
    H2/H1; Z_nS, the mean r² of all pairs of sites (Kelly 1997), and the largest ω; variance, skewness and excess kurtosis of
    the numbers of differences between two haplotypes. Without phase, the last nine are those of multilocus genotypes: with the
    three first they are the twelve of diploS/HIC.

    Where one is undefined it is what diploS/HIC takes: that of a sub-window without polymorphism (0; 1 for the number of
    distinct haplotypes, H1 and H12).
    """
    ones, called = allele_counts(genotypes)
    samples = genotypes if phased else dosages(genotypes)
    pi = spectrum.pairwise_differences(ones, called)
    values = [pi, spectrum.wattersons_estimate(ones, called), spectrum.tajimas_d(ones, called)]
    if derived:
        theta_h = float(np.sum(2 * ones**2 / np.maximum(called * (called - 1), 1)))
        values += [theta_h, pi - theta_h, float((ones / np.maximum(called, 1)).max(initial=0))]
    found = homozygosities(frequencies(samples))
    values += [found[name] for name in ("distinct_haplotypes", "h1", "h12", "h2_h1")]
    values += [*_linkage(samples), *_shape(pairs(distances(samples)))]
    return [0.0 if np.isnan(value) else value for value in values]


def normalise(values: np.ndarray) -> np.ndarray:
    """Write each row as shares of its sum, after raising it until its lowest value is not negative.

    Parameters
    ----------
    values : ndarray of shape (num_statistics, num_windows)

    Returns
    -------
    ndarray of the same shape
        Rows of 1 / num_windows where the sum is 0, as in diploS/HIC.
    """
    raised = values - np.minimum(values.min(axis=1, keepdims=True), 0)
    sums = raised.sum(axis=1, keepdims=True)
    return np.divide(raised, sums, out=np.full(values.shape, 1 / values.shape[1]), where=sums > 0)


def _names(derived: bool) -> tuple[str, ...]:
    return (*SPECTRUM, *(POLARISED if derived else ()), *SAMPLES)


def _linkage(samples: np.ndarray) -> tuple[float, float]:
    """Z_nS and the largest ω."""
    if len(samples) < 2:
        return 0.0, 0.0
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(MAX_SITES, len(samples))).astype(int))
    r2 = r2_matrix(samples[chosen])
    found = pairs(r2)
    defined = found[~np.isnan(found)]
    return float(defined.mean()) if len(defined) else 0.0, max_omega(r2)


def _shape(values: np.ndarray) -> tuple[float, float, float]:
    """Variance, skewness and excess kurtosis; NaN where undefined."""
    values = values[~np.isnan(values)]
    if len(values) == 0 or np.ptp(values) == 0:
        return 0.0, np.nan, np.nan
    centred = values - values.mean()
    squared = centred * centred
    variance = float(squared.mean())
    skewness = float((squared * centred).mean()) / variance**1.5
    return variance, skewness, float((squared * squared).mean()) / variance**2 - 3
