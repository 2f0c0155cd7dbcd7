"""What every baseline has, and the step that fits one and predicts the test split."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from popdl import plugins
from popdl.config.training import Evaluation
from popdl.dataset import open_shards, read_array, read_parameters
from popdl.files import write_text
from popdl.intervals import half_width
from popdl.scaling import TargetScale, TargetScaling, turns_around
from popdl.seeds import generator
from popdl.splits import read_splits

__all__ = ["Baseline", "Predictor", "fit_baseline"]

Predictor = Callable[[np.ndarray], np.ndarray]
"""From statistics of shape (n, num_statistics) to values of shape (n,), or to probabilities of shape (n, num_classes)."""


class Baseline:
    """A classical method that predicts one target at a time from summary statistics.

    A subclass defines both methods below. Neither sees the test split, nor an example whose target is missing.
    """

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
    """
    baseline = plugins.load("baselines", name, Baseline)()
    opened = open_shards(shards)
    statistics, names = read_array(opened, "statistics"), list(opened[0].attributes["statistics"])
    scaling = TargetScaling.read(targets)
    values = scaling.to_network(read_parameters(opened, scaling.names))
    split = read_splits(splits)["split"].to_numpy()
    rows = {part: np.flatnonzero(split == part) for part in ("train", "validation", "test")}
    columns: dict[str, np.ndarray] = {"example": rows["test"]}
    # One thread: sums of floats depend on the number of threads, and other jobs share the cores.
    with threadpool_limits(limits=1):
        for index, (target, scale) in enumerate(scaling.targets.items()):
            known = rows["train"][~np.isnan(values[rows["train"], index])]
            # Keyed by name: leaving out another target or baseline changes nothing here.
            random = generator(seed, "baselines", zlib.crc32(f"{name}/{target}".encode()))
            true = values[rows["test"], index]
            if scale.task == "classification":
                predict = baseline.fit_classification(
                    statistics[known],
                    values[known, index].astype(np.int64),
                    num_classes=len(scale.classes),
                    names=names,
                    generator=random,
                )
                columns |= _class_columns(target, scale, true, predict(statistics[rows["test"]]))
            else:
                predict = _fit_number(baseline, scale, statistics[known], values[known, index], names, random)
                residuals = values[rows["validation"], index] - predict(statistics[rows["validation"]])
                half = half_width(turns_around(residuals, scale.network_period), evaluation.interval)
                columns |= _number_columns(target, scale, true, predict(statistics[rows["test"]]), half)
    table = pd.DataFrame(columns)
    write_text(output, table.to_csv(sep="\t", index=False, na_rep=".", lineterminator="\n"))


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


def _number_columns(
    target: str, scale: TargetScale, true: np.ndarray, predicted: np.ndarray, half: float
) -> dict[str, np.ndarray]:
    assert scale.mean is not None and scale.sd is not None
    ends = (values * scale.sd + scale.mean for values in (predicted, predicted - half, predicted + half))
    value, low, high = scale.interval(*ends)
    return {f"{target}_true": scale.to_natural(true), target: value, f"{target}_low": low, f"{target}_high": high}


def _class_columns(
    target: str, scale: TargetScale, true: np.ndarray, probabilities: np.ndarray
) -> dict[str, np.ndarray]:
    classes = np.array(scale.classes, dtype=object)
    words = np.where(np.isnan(true), ".", classes[np.nan_to_num(true).astype(np.int64)])
    columns = {f"{target}_true": words, target: classes[probabilities.argmax(axis=1)]}
    return columns | {f"{target}_p_{name}": probabilities[:, index] for index, name in enumerate(scale.classes)}
