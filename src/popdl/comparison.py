"""Predictions along a genome beside a recombination map: do both rise and fall in the same places?

A sample tells ρ = 4Nr, a map says r. Correlations do not ask for N, nor for the length over which ρ counts. Both are averaged
over bins that lie side by side along the genome before they are correlated: of the length of a window, and of longer ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import msprime
import numpy as np
import pandas as pd
import scipy.stats

from popdl.config.application import Comparison
from popdl.errors import PopdlError
from popdl.files import write_text
from popdl.simulators._maps import read_hapmap

__all__ = ["FEWEST_BINS", "average", "compare_with_map", "correlations", "map_rates"]

FEWEST_BINS = 4
"""With fewer, a correlation is not computed."""
SMALLEST_SHARE = 0.5
"""Of a bin that must be predicted, and that the map must know."""


def compare_with_map(
    predictions: Mapping[str, Path], *, comparison: Comparison, window: float, output: Path, table: Path
) -> None:
    """Average predictions and map over bins, and correlate them.

    Parameters
    ----------
    predictions
        By method, the windows' predictions (TSV); all of the same windows.
    comparison
        The application's ``compare:``.
    window
        Length of a window in bp: the finest scale.
    output
        TSV, one row per scale, bin and method: ``scale`` (bp), ``method``, ``contig``, ``start``, ``end`` (bp, 0-based,
        half-open), ``predicted`` (mean over the bin, `.` where less than half of it could be predicted) and ``map`` (mean rate
        per bp per generation, `.` where the map knows less than half of it).
    table
        TSV, one row per scale and method: ``scale``, ``method``, ``bins`` that were compared, ``left_out`` (a value is
        missing, or the map's is 0, which has no logarithm), ``pearson`` of the values, ``pearson_log`` of their logarithms, and
        ``spearman``; `.` where undefined.

    Raises
    ------
    PopdlError
        If the windows are of several contigs, or the map cannot be read or is of another one.
    """
    tables = {
        name: pd.read_csv(path, sep="\t", dtype={"contig": str}, keep_default_na=False, na_values=["."])
        for name, path in predictions.items()
    }
    first = next(iter(tables.values()))
    contigs = list(dict.fromkeys(first["contig"]))
    if len(contigs) != 1:
        raise PopdlError(
            f"compare: the windows lie on {len(contigs)} contigs ({', '.join(contigs[:5])}), and a map is of one; "
            "give `regions` of that contig, and an application to each of the others."
        )
    rate_map = read_hapmap(comparison.map, contig=contigs[0])
    start, end = int(first["start"].min()), int(first["end"].max())
    bins, rows = [], []
    for scale in sorted({window, *comparison.scales}):
        edges = np.arange(start, end + 1, scale)
        known = map_rates(rate_map, edges)
        for name, windows in tables.items():
            predicted = average(windows, comparison.target, edges)
            places = {"contig": contigs[0], "start": edges[:-1].astype(np.int64), "end": edges[1:].astype(np.int64)}
            bins.append(pd.DataFrame({"scale": scale, "method": name, **places, "predicted": predicted, "map": known}))
            rows.append({"scale": scale, "method": name, **correlations(predicted, known)})
    write_text(output, _text(pd.concat(bins)))
    write_text(table, _text(pd.DataFrame(rows)))


def average(windows: pd.DataFrame, target: str, edges: np.ndarray) -> np.ndarray:
    """The mean of a target over each bin: every window counts by how much of it lies in the bin.

    Parameters
    ----------
    windows
        Columns ``start``, ``end`` and the target, NaN where a window was not predicted; in order of ``start``.
    edges : ndarray of shape (num_bins + 1,)
        Ends of the bins, in bp.

    Returns
    -------
    ndarray of shape (num_bins,)
        NaN where less than half of the bin was predicted.
    """
    starts, ends, values = (windows[column].to_numpy(dtype=float) for column in ("start", "end", target))
    longest = (ends - starts).max()
    means = np.full(len(edges) - 1, np.nan)
    for number, (low, high) in enumerate(pairwise(edges)):
        near = slice(np.searchsorted(starts, low - longest), np.searchsorted(starts, high))
        shares = np.clip(np.minimum(ends[near], high) - np.maximum(starts[near], low), 0, None)
        predicted = np.isfinite(values[near])
        weight = shares[predicted].sum()
        if weight > 0 and weight >= SMALLEST_SHARE * max(shares.sum(), high - low):
            means[number] = (shares[predicted] * values[near][predicted]).sum() / weight
    return means


def map_rates(rate_map: msprime.RateMap, edges: np.ndarray) -> np.ndarray:
    """Mean rate of each bin, per bp per generation, over the part that the map knows; NaN where that is less than half.

    Parameters
    ----------
    edges : ndarray of shape (num_bins + 1,)
        In bp; what lies beyond the end of the map is not known.
    """
    known = ~np.isnan(rate_map.rate)
    length = np.concatenate([[0.0], np.cumsum(rate_map.span * known)])
    mass = np.concatenate([[0.0], np.cumsum(rate_map.span * np.nan_to_num(rate_map.rate))])
    lengths, masses = (np.diff(np.interp(edges, rate_map.position, total)) for total in (length, mass))
    enough = lengths >= SMALLEST_SHARE * np.diff(edges)
    return np.divide(masses, lengths, out=np.full(len(lengths), np.nan), where=enough & (lengths > 0))


def correlations(predicted: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """How many bins have both values, and how these go together; NaN where one side does not vary."""
    both = np.isfinite(predicted) & np.isfinite(known) & (predicted > 0) & (known > 0)
    counted = {"bins": int(both.sum()), "left_out": int((~both).sum())}
    first, second = predicted[both], known[both]
    if len(first) < FEWEST_BINS or np.ptp(first) <= 1e-9 * first.max() or np.ptp(second) == 0:
        return {**counted, "pearson": np.nan, "pearson_log": np.nan, "spearman": np.nan}
    return {
        **counted,
        "pearson": float(scipy.stats.pearsonr(first, second).statistic),
        "pearson_log": float(scipy.stats.pearsonr(np.log10(first), np.log10(second)).statistic),
        "spearman": float(scipy.stats.spearmanr(first, second).statistic),
    }


def _text(table: pd.DataFrame) -> str:
    return table.to_csv(sep="\t", index=False, na_rep=".", float_format="%.6g", lineterminator="\n")
