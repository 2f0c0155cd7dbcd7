"""What every baseline has, and the step that fits one and predicts the test split."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from popdl import plugins
from popdl.config.training import Evaluation
from popdl.dataset import open_shards, read_array, read_parameters
from popdl.errors import PopdlError
from popdl.files import write_table
from popdl.in_parts import parts
from popdl.intervals import half_width
from popdl.scaling import SPLITS, TargetScale, TargetScaling, turns_around
from popdl.seeds import generator
from popdl.splits import read_splits
from popdl.statistics import chosen
from popdl.store import read_shard

__all__ = ["Baseline", "Predictor", "apply_baseline", "fit_baseline"]

Predictor = Callable[[np.ndarray], np.ndarray]
"""From statistics of shape (n, num_statistics) to values of shape (n,), or to probabilities of shape (n, num_classes)."""


class Baseline:
    """A classical method that predicts one target at a time from summary statistics.

    A subclass defines both methods below. Neither sees the test split, nor an example whose target is missing.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    """Statistics without which it cannot be fitted, as ``baseline_statistics`` would name them."""

    def fit_regression(
        self, statistics: np.ndarray, values: np.ndarray, *, names: Sequence[str], generator: np.random.Generator
    ) -> Predictor:
        """Learn to predict a number.

        Parameters
        ----------
        statistics : ndarray of shape (num_examples, num_statistics)
            NaN where a statistic is undefined.
        values : ndarray of shape (num_examples,)
            On the target's scale, standardised.
        names
            Names of the statistics.
        generator
            The only source of randomness.
        """
        raise NotImplementedError

    def fit_classification(
        self,
        statistics: np.ndarray,
        classes: np.ndarray,
        *,
        num_classes: int,
        names: Sequence[str],
        generator: np.random.Generator,
    ) -> Predictor:
        """Learn to predict the probability of each class.

        Parameters
        ----------
        statistics : ndarray of shape (num_examples, num_statistics)
            NaN where a statistic is undefined.
        classes : ndarray of shape (num_examples,), dtype=int64
            Index of the class; a class may have no example.
        num_classes
            Number of classes that there are.
        names
            Names of the statistics.
        generator
            The only source of randomness.
        """
        raise NotImplementedError


def fit_baseline(
    name: str,
    *,
    shards: Sequence[Path],
    splits: Path,
    targets: Path,
    evaluation: Evaluation,
    seed: int,
    output: Path,
    statistics: Sequence[str] | None = None,
) -> None:
    """Fit a baseline to the training split, set its intervals on the validation split, and predict the test split.

    Parameters
    ----------
    name
        A baseline that ships with popdl, or ``path/to/file.py:ClassName``.
    shards
        All encoded shards of the dataset.
    splits, targets
        What :func:`popdl.splits.make_splits` wrote.
    evaluation
        The config's section: coverage of the intervals.
    seed
        The study's seed.
    output
        TSV with the same columns as the networks' predictions: ``example``, and for each target ``<t>_true``, ``<t>`` and
        ``<t>_low``, ``<t>_high`` in natural units, or ``<t>_p_<class>``.
    statistics
        What it reads, as the config's ``baseline_statistics`` says it (None: all statistics).

    Raises
    ------
    PopdlError
        If the dataset has no such statistics.
    """
    fitted = _Fitted(
        name,
        shards=shards,
        splits=splits,
        targets=targets,
        evaluation=evaluation,
        seed=seed,
        statistics=statistics,
    )
    test = fitted.parts["test"]
    table = pd.DataFrame({"example": fitted.rows[test], **fitted.columns(fitted.statistics[test], fitted.values[test])})
    write_table(output, table)


def apply_baseline(
    name: str,
    *,
    shards: Sequence[Path],
    splits: Path,
    targets: Path,
    evaluation: Evaluation,
    seed: int,
    windows: Path,
    output: Path,
    statistics: Sequence[str] | None = None,
) -> None:
    """Fit a baseline as :func:`fit_baseline` does, and predict the windows of a genome.

    Parameters
    ----------
    name, shards, splits, targets, evaluation, seed, statistics
        As in :func:`fit_baseline`.
    windows
        Encoded shard of kind ``windows``.
    output
        TSV, one row per window: ``contig``, ``start``, ``end`` (bp, 0-based, half-open), the columns of each target, `.`
        in a window that cannot be predicted, and ``reason``, why.

    Raises
    ------
    PopdlError
        If the windows have other statistics than the dataset.
    """
    fitted = _Fitted(
        name,
        shards=shards,
        splits=splits,
        targets=targets,
        evaluation=evaluation,
        seed=seed,
        statistics=statistics,
    )
    shard = read_shard(windows, kind="windows")
    if list(shard.attributes["statistics"]) != fitted.all_names:
        raise PopdlError(f"{windows}: its statistics are not those of the dataset; encode the windows anew.")
    reasons = np.array(shard.attributes["reasons"], dtype=object)
    rows = np.flatnonzero(reasons == "")
    table = pd.DataFrame({"contig": shard.attributes["contigs"], "start": shard["start"], "end": shard["end"]})
    table = table.join(pd.DataFrame(fitted.columns(fitted.read(shard["statistics"][rows])), index=rows))
    table["reason"] = [reason or None for reason in reasons]
    write_table(output, table)


class _Fitted:
    """A baseline that has learned every target from the training split, with intervals from the validation split."""

    def __init__(
        self,
        name: str,
        *,
        shards: Sequence[Path],
        splits: Path,
        targets: Path,
        evaluation: Evaluation,
        seed: int,
        statistics: Sequence[str] | None,
    ) -> None:
        baseline = plugins.load("baselines", name, Baseline)()
        opened = open_shards(shards)
        self.all_names = list(opened[0].attributes["statistics"])
        self.places = range(len(self.all_names)) if statistics is None else _places(self.all_names, statistics)
        self.names = [self.all_names[place] for place in self.places]
        self.scaling = TargetScaling.read(targets)
        # Read in the order of the splits, which are then slices: there is one copy of the statistics.
        self.rows, self.parts = _by_split(read_splits(splits)["split"])
        self.statistics = self.read(read_array(opened, "statistics", self.rows))
        self.values = self.scaling.to_network(read_parameters(opened, self.scaling.names)[self.rows])
        self.predictors: dict[str, Predictor] = {}
        self.half_widths: dict[str, float] = {}
        # One thread: sums of floats depend on the number of threads, and other jobs share the cores.
        with threadpool_limits(limits=1):
            for index, (target, scale) in enumerate(self.scaling.targets.items()):
                # Keyed by name: leaving out another target or baseline changes nothing here.
                random = generator(seed, "baselines", zlib.crc32(f"{name}/{target}".encode()))
                self._fit(baseline, index, target, scale, random, evaluation)

    def read(self, statistics: np.ndarray) -> np.ndarray:
        """What the baseline reads of rows of all statistics."""
        return statistics if self.names == self.all_names else statistics.take(self.places, axis=1)

    def _fit(
        self,
        baseline: Baseline,
        index: int,
        target: str,
        scale: TargetScale,
        random: np.random.Generator,
        evaluation: Evaluation,
    ) -> None:
        train, validation = self.parts["train"], self.parts["validation"]
        statistics, values = self.statistics[train], self.values[train, index]
        if (missing := np.isnan(values)).any():
            statistics, values = statistics[~missing], values[~missing]
        if scale.task == "classification":
            self.predictors[target] = baseline.fit_classification(
                statistics,
                values.astype(np.int64),
                num_classes=len(scale.classes),
                names=self.names,
                generator=random,
            )
            return
        predict = self.predictors[target] = _fit_number(baseline, scale, statistics, values, self.names, random)
        residuals = self.values[validation, index] - _predicted(predict, self.statistics[validation])
        self.half_widths[target] = half_width(turns_around(residuals, scale.network_period), evaluation.interval)

    def columns(self, statistics: np.ndarray, true: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Predictions of rows of statistics in natural units; before them the truth (on the networks' scale), where it is given."""
        columns: dict[str, np.ndarray] = {}
        with threadpool_limits(limits=1):
            for index, (target, scale) in enumerate(self.scaling.targets.items()):
                predicted = _predicted(self.predictors[target], statistics)
                classes = scale.task == "classification"
                if true is not None:
                    values = true[:, index]
                    columns[f"{target}_true"] = _words(scale, values) if classes else scale.to_natural(values)
                columns |= (
                    _class_columns(target, scale, predicted)
                    if classes
                    else _number_columns(target, scale, predicted, self.half_widths[target])
                )
        return columns


def _places(names: Sequence[str], statistics: Sequence[str]) -> Sequence[int]:
    """Where the statistics that a baseline reads are among all."""
    try:
        return chosen(names, statistics)
    except PopdlError as error:
        raise PopdlError(f"baseline_statistics: {error}") from None


def _by_split(split: pd.Series) -> tuple[np.ndarray, dict[str, slice]]:
    """Numbers of the examples of all splits, one split after the other, and where each of them lies."""
    rows = {name: np.flatnonzero(split == name) for name in SPLITS}
    ends = np.cumsum([0, *map(len, rows.values())]).tolist()
    return np.concatenate(list(rows.values())), {name: slice(*ends[i : i + 2]) for i, name in enumerate(rows)}


def _predicted(predict: Predictor, statistics: np.ndarray) -> np.ndarray:
    """Predictions of some rows at a time: what is made of statistics before takes more memory than they do."""
    return np.concatenate([predict(rows) for rows in parts(statistics)])


def _fit_number(
    baseline: Baseline,
    scale: TargetScale,
    statistics: np.ndarray,
    values: np.ndarray,
    names: Sequence[str],
    random: np.random.Generator,
) -> Predictor:
    """Fit a number; of a circular one cosine and sine, which do not jump at the end of the period."""
    if scale.network_period is None:
        return baseline.fit_regression(statistics, values, names=names, generator=random)
    radius = scale.network_period / (2 * np.pi)
    cosine, sine = (
        baseline.fit_regression(statistics, part(values / radius), names=names, generator=random)
        for part in (np.cos, np.sin)
    )
    return lambda rows: radius * np.arctan2(sine(rows), cosine(rows))


def _number_columns(target: str, scale: TargetScale, predicted: np.ndarray, half: float) -> dict[str, np.ndarray]:
    assert scale.mean is not None and scale.sd is not None
    ends = (values * scale.sd + scale.mean for values in (predicted, predicted - half, predicted + half))
    value, low, high = scale.interval(*ends)
    return {target: value, f"{target}_low": low, f"{target}_high": high}


def _class_columns(target: str, scale: TargetScale, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    columns = {target: np.array(scale.classes, dtype=object)[probabilities.argmax(axis=1)]}
    return columns | {f"{target}_p_{name}": probabilities[:, index] for index, name in enumerate(scale.classes)}


def _words(scale: TargetScale, true: np.ndarray) -> np.ndarray:
    classes = np.array(scale.classes, dtype=object)
    return np.where(np.isnan(true), ".", classes[np.nan_to_num(true).astype(np.int64)])
