"""Is a real window like the simulations that the networks learned from?

The summary statistics of the training simulations are kept, in a few numbers, inside the model. Each real window is held
against them twice: statistic by statistic, and by one distance over all statistics, which also notices combinations that
the simulations never show. A window further out than a set share of the simulations themselves is outside the domain.

The distance is that of multivariate process control (Jackson & Mudholkar 1979, Technometrics 21: 341-349): the squared
Mahalanobis distance in the leading principal components, plus the squared residual that they leave, as a multiple of its
mean in the simulations. Its threshold is the empirical quantile of the simulations' own distances. They are the same
simulations that the components were fitted to, so with few of them the check is a little too strict, never too lax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from popdl.errors import PopdlError
from popdl.files import write_text
from popdl.in_parts import parts, total, triangle

__all__ = ["LEVELS", "Assessment", "assess", "compare_windows", "fit_reference"]

LEVELS = (0.0, 1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0, 100.0)
"""Percentiles of the simulations that are kept for every statistic."""
DISTANCE_LEVELS = (*range(0, 99), *np.linspace(99, 100, 11).round(1).tolist())
EXPLAINED = 0.99
MAX_COMPONENTS = 10
SIMULATIONS_PER_COMPONENT = 10
NORMAL_95 = 1.6449  # 95 % quantile of the standard normal distribution


@dataclass(frozen=True)
class Assessment:
    """How far out each window lies; every field has one entry per window."""

    distance: np.ndarray
    """Distance from the middle of the simulations; NaN where the window has no statistics at all."""
    percentile: np.ndarray
    """Percentage of the simulations that lie closer to the middle; NaN as above."""
    outside: np.ndarray
    """dtype=bool: outside the training domain."""
    statistic: list[str]
    """The statistic that is furthest out; "" where there is none."""
    deviation: np.ndarray
    """Its distance from the simulations' median in robust standard deviations, signed; infinite where every simulation
    has the same value (or has one at all) and the window does not."""


def fit_reference(statistics: np.ndarray, names: Sequence[str], *, domain: float) -> dict[str, Any]:
    """Summarise the statistics of the training simulations.

    Parameters
    ----------
    statistics : ndarray of shape (num_simulations, num_statistics)
        NaN where a statistic is undefined.
    names
        Names of the statistics.
    domain
        Share of the simulations that the domain holds; more unusual windows are outside.

    Returns
    -------
    dict
        The reference that :func:`assess` needs: JSON, of a size that does not depend on the number of simulations.
    """
    statistics = np.asarray(statistics)
    assert statistics.ndim == 2 and statistics.shape[1] == len(names) and len(statistics) > 0
    quantiles = np.array([_percentiles(column) for column in statistics.T]).reshape(len(names), len(LEVELS))
    reference: dict[str, Any] = {
        "names": list(names),
        "num_simulations": len(statistics),
        "domain": domain,
        "levels": list(LEVELS),
        "quantiles": [[None if np.isnan(value) else float(value) for value in row] for row in quantiles],
        "standard_deviations": [_standard_deviation(column) for column in statistics.T],
        "always_defined": [bool(np.isfinite(column).all()) for column in statistics.T],
    }

    def scores(rows: np.ndarray) -> np.ndarray:
        return _standardise(reference, _finite(rows))

    centre = total(statistics, lambda rows: scores(rows).sum(axis=0)) / len(statistics)
    centred = (scores(rows) - centre for rows in parts(statistics))
    _, singular_values, directions = np.linalg.svd(triangle(centred), full_matrices=False)
    variances = singular_values**2 / len(statistics)
    count = _number_of_components(variances, len(statistics))
    reference["centre"] = centre.tolist()
    reference["components"] = directions[:count].tolist()
    reference["variances"] = variances[:count].tolist()
    reference["residual"] = float(variances[count:].sum())
    distances = np.concatenate([_distances(reference, scores(rows)) for rows in parts(statistics)])
    reference["distances"] = np.percentile(distances, DISTANCE_LEVELS).tolist()
    reference["threshold"] = float(np.quantile(distances, domain))
    return reference


def assess(reference: Mapping[str, Any], statistics: np.ndarray) -> Assessment:
    """Hold windows against the simulations.

    An undefined statistic (NaN) adds nothing to the distance, unless it is defined in every simulation: then the window
    is outside. So it is where every simulation has the same value and the window another one.

    Parameters
    ----------
    reference
        What :func:`fit_reference` gave.
    statistics : ndarray of shape (num_windows, num_statistics)
        In the order of ``reference["names"]``; NaN where undefined.
    """
    statistics = _finite(statistics)
    names = reference["names"]
    if statistics.ndim != 2 or statistics.shape[1] != len(names):
        raise PopdlError(
            f"realism check: expected the {len(names)} statistics of the model's simulations for each window, "
            f"found an array of shape {statistics.shape}; encode the windows with the model's own recipe."
        )
    empty = np.isnan(statistics).all(axis=1)
    scores = _standardise(reference, statistics)
    distance = _distances(reference, scores)
    deviation = np.where(_departures(reference, statistics), np.copysign(np.inf, scores), scores)
    furthest = np.abs(deviation).argmax(axis=1) if len(names) else np.zeros(len(statistics), dtype=int)
    extreme = np.take_along_axis(deviation, furthest[:, None], axis=1)[:, 0]
    percentile = np.interp(distance, reference["distances"], DISTANCE_LEVELS)
    return Assessment(
        distance=np.where(empty, np.nan, distance),
        percentile=np.where(empty, np.nan, np.where(np.isinf(extreme), 100.0, percentile)),
        outside=empty | np.isinf(extreme) | (distance > reference["threshold"]),
        statistic=["" if lost else names[index] for index, lost in zip(furthest, empty, strict=True)],
        deviation=np.where(empty, np.nan, extreme),
    )


def compare_windows(model: Path | Mapping[str, Any], *, windows: Path, output: Path) -> None:
    """Write the statistics of real windows beside those of the simulations, one row per window and statistic.

    Parameters
    ----------
    model
        A model file, or a reference from :func:`fit_reference`.
    windows
        An encoded shard of kind ``windows``.
    output
        TSV with the columns ``contig, start, end, outside_domain, statistic, value, deviation`` (in robust standard
        deviations from the simulations' median) and ``simulated_<percentile>``.
    """
    from popdl.store import read_shard  # here, because the check itself needs numpy alone

    if isinstance(model, Path):
        from popdl.model import read_card

        reference = read_card(model)["realism"]
    else:
        reference = model
    shard = read_shard(windows, kind="windows")
    if list(shard.attributes["statistics"]) != list(reference["names"]):
        raise PopdlError(
            f"{windows}: its statistics are {shard.attributes['statistics']}, those of the model are {reference['names']}; "
            "encode the windows with the model's own recipe."
        )
    statistics = _finite(shard["statistics"])
    assessment = assess(reference, statistics)
    deviations = np.where(np.isnan(statistics), np.nan, _standardise(reference, statistics))
    deviations[_departures(reference, statistics)] = np.inf
    header = ["contig", "start", "end", "outside_domain", "statistic", "value", "deviation"]
    lines = ["\t".join([*header, *(f"simulated_{level:g}" for level in LEVELS)])]
    places = zip(shard.attributes["contigs"], shard["start"].tolist(), shard["end"].tolist(), strict=True)
    for row, (contig, start, end) in enumerate(places):
        for column, name in enumerate(reference["names"]):
            numbers = [statistics[row, column], deviations[row, column], *reference["quantiles"][column]]
            place = [str(contig), str(start), str(end), "yes" if assessment.outside[row] else "no", name]
            lines.append("\t".join([*place, *map(_cell, numbers)]))
    write_text(output, "\n".join(lines) + "\n")


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _percentiles(column: np.ndarray) -> np.ndarray:
    defined = column[np.isfinite(column)]
    return np.percentile(defined, LEVELS) if len(defined) else np.full(len(LEVELS), np.nan)


def _standard_deviation(column: np.ndarray) -> float:
    defined = column[np.isfinite(column)]
    return float(defined.std()) if len(defined) and np.ptp(defined) > 0 else 0.0


def _quantiles(reference: Mapping[str, Any]) -> dict[float, np.ndarray]:
    table = np.array(reference["quantiles"], dtype=np.float64).reshape(-1, len(LEVELS))
    return dict(zip(reference["levels"], table.T, strict=True))


def _standardise(reference: Mapping[str, Any], statistics: np.ndarray) -> np.ndarray:
    """Robust z-scores of shape (n, num_statistics); 0 where undefined and where the simulations do not vary.

    Each side of the median has its own scale, the distance to the 5 or 95 % quantile: counts are skewed, and with one
    scale their long tail would look unusual.
    """
    quantiles = _quantiles(reference)
    median, fallback = quantiles[50.0], np.array(reference["standard_deviations"], dtype=np.float64)
    below, above = (median - quantiles[5.0]) / NORMAL_95, (quantiles[95.0] - median) / NORMAL_95
    below, above = np.where(below > 0, below, above), np.where(above > 0, above, below)
    scale = np.where(statistics < median, below, above)
    scale = np.where(scale > 0, scale, fallback)
    difference = statistics - median
    scores = np.divide(difference, scale, out=np.zeros_like(difference), where=(fallback > 0) & (scale > 0))
    return np.where(np.isfinite(scores), scores, 0.0)


def _departures(reference: Mapping[str, Any], statistics: np.ndarray) -> np.ndarray:
    """Where a window differs from a value that all simulations share, or lacks one that they all have."""
    median, constant = _quantiles(reference)[50.0], np.array(reference["standard_deviations"]) == 0
    undefined = np.isnan(statistics)
    differs = ~undefined & constant & np.isfinite(median) & ~np.isclose(statistics, median, rtol=1e-9, atol=1e-12)
    return differs | (undefined & np.array(reference["always_defined"], dtype=bool))


def _number_of_components(variances: np.ndarray, num_simulations: int) -> int:
    if variances.sum() <= 0:
        return 0
    explained = np.cumsum(variances) / variances.sum()
    needed = int(np.searchsorted(explained, EXPLAINED)) + 1
    return min(needed, MAX_COMPONENTS, max(1, num_simulations // SIMULATIONS_PER_COMPONENT))


def _distances(reference: Mapping[str, Any], scores: np.ndarray) -> np.ndarray:
    centred = scores - np.array(reference["centre"])
    components = np.array(reference["components"]).reshape(-1, centred.shape[1])
    projected = centred @ components.T
    residual = (centred**2).sum(axis=1) - (projected**2).sum(axis=1)
    squared = (projected**2 / np.array(reference["variances"])).sum(axis=1)
    # A residual that is zero up to rounding says nothing, so it is measured against at least a millionth of the rest.
    smallest = max(reference["residual"], 1e-6 * (sum(reference["variances"]) or 1.0))
    return np.sqrt(squared + np.maximum(residual, 0.0) / smallest)


def _cell(value: float | None) -> str:
    return "." if value is None or np.isnan(value) else f"{value:.6g}"
