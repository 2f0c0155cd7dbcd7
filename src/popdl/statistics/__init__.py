"""Classical summary statistics of one window: what the baselines learn from, and what real windows are checked on.

Every study has the standard ones. A study can add groups (`statistics:` in its config): a file of ``optional/``, or its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from popdl.config.base import suggestion
from popdl.errors import PopdlError
from popdl.statistics import linkage, spectrum
from popdl.statistics._base import Statistic
from popdl.statistics._counts import allele_counts
from popdl.statistics.haplotypes import haplotype_statistics

__all__ = ["chosen", "compute", "names"]


def names(num_haplotypes: int, *, derived: bool, groups: Sequence[Statistic] = ()) -> list[str]:
    """Names of the statistics in the order of :func:`compute`.

    ``segregating_sites``; ``pi`` and ``wattersons_theta`` (per bp); ``tajimas_d``; the site-frequency spectrum in numbers of sites,
    ``sfs_3`` for allele count 3 and ``sfs_10_12`` for counts 10 to 12; ``h1``, ``h12``, ``h2_h1``, ``distinct_haplotypes``;
    ``r2_0.01`` for the mean r² at distances from that fraction of the window up to the next; ``distance_cv``, the coefficient of
    variation of the distances between neighbouring sites; ``missing_fraction``.

    Parameters
    ----------
    num_haplotypes
        Haplotypes in the sample.
    derived
        Whether a 1 is the derived allele: the spectrum is then unfolded.
    groups
        The groups that the study adds; their names follow.

    Raises
    ------
    PopdlError
        If two statistics have the same name.
    """
    found = [
        "segregating_sites",
        "pi",
        "wattersons_theta",
        "tajimas_d",
        *spectrum.bin_names(num_haplotypes, derived=derived),
        "h1",
        "h12",
        "h2_h1",
        "distinct_haplotypes",
        *(f"r2_{low:g}" for low in linkage.EDGES[:-1]),
        "distance_cv",
        "missing_fraction",
    ]
    for group in groups:
        found += group.names(num_haplotypes, derived=derived)
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise PopdlError(f"statistics: {twice[0]!r} is the name of two statistics; rename one, or leave one group out.")
    return found


def chosen(names: Sequence[str], beginnings: Sequence[str]) -> list[int]:
    """Which statistics are meant.

    Parameters
    ----------
    names
        Names of all statistics.
    beginnings
        Names, or how names begin up to a ``_``: ``r2`` stands for ``r2``, ``r2_0.01``, ``r2_rank_1``, …

    Returns
    -------
    list of int
        Places in ``names``, in order.

    Raises
    ------
    PopdlError
        If one of them stands for nothing.
    """
    meant: set[int] = set()
    for beginning in beginnings:
        found = [place for place, name in enumerate(names) if f"{name}_".startswith(f"{beginning}_")]
        if not found:
            heads = Counter(name.partition("_")[0] for name in names)
            known = {name if heads[head := name.partition("_")[0]] == 1 else head for name in names}
            raise PopdlError(f"no statistic is called {beginning!r} or {beginning}_…; {suggestion(beginning, known)}")
        meant.update(found)
    return sorted(meant)


def compute(
    genotypes: np.ndarray,
    positions: np.ndarray,
    *,
    sequence_length: float,
    derived: bool,
    groups: Sequence[Statistic] = (),
) -> np.ndarray:
    """Compute every statistic of one window.

    Parameters
    ----------
    genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
        0, 1, or −1 for missing, which is never counted as an allele.
    positions : ndarray of shape (num_sites,)
        In bp, not decreasing.
    sequence_length
        Length of the window in bp.
    derived
        Whether a 1 is the derived allele: the spectrum is then unfolded.
    groups
        The groups that the study adds.

    Returns
    -------
    ndarray of shape (num_statistics,), dtype=float64
        In the order of :func:`names`; NaN where a statistic is undefined, e.g. Tajima's D without polymorphic sites.

    Raises
    ------
    PopdlError
        If a group gives more or fewer numbers than names.
    """
    num_sites, num_haplotypes = genotypes.shape
    ones, called = allele_counts(genotypes)
    distances = np.diff(positions)
    mean_distance = distances.mean() if len(distances) else 0.0
    return np.concatenate(
        [
            [
                np.count_nonzero((ones > 0) & (ones < called)),
                spectrum.pairwise_differences(ones, called) / sequence_length,
                spectrum.wattersons_estimate(ones, called) / sequence_length,
                spectrum.tajimas_d(ones, called),
            ],
            spectrum.site_frequency_spectrum(ones, called, num_haplotypes=num_haplotypes, derived=derived),
            list(haplotype_statistics(genotypes).values()),
            linkage.linkage_by_distance(genotypes, positions, sequence_length=sequence_length),
            [
                distances.std() / mean_distance if mean_distance > 0 else np.nan,
                1 - called.sum() / genotypes.size if num_sites else 0.0,
            ],
            *(_group(group, genotypes, positions, sequence_length, derived) for group in groups),
        ]
    )


def _group(
    group: Statistic, genotypes: np.ndarray, positions: np.ndarray, sequence_length: float, derived: bool
) -> np.ndarray:
    values = np.asarray(
        group.compute(genotypes, positions, sequence_length=sequence_length, derived=derived), dtype=np.float64
    )
    expected = len(group.names(genotypes.shape[1], derived=derived))
    if values.shape != (expected,):
        raise PopdlError(
            f"statistics: {type(group).__name__} has {expected} names, but compute() gave an array of shape {values.shape}; "
            "return one number for each name."
        )
    return np.where(np.isfinite(values), values, np.nan)
