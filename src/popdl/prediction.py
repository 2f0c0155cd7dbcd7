"""From models and encoded data to tables of predictions, in natural units.

Several models are averaged: outputs on each target's scale (such as log10 for `log`), probabilities of classes. The intervals of
an ensemble are calibrated for the average; those of models that are merely given together take the widest half-width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from popdl.dataset import open_shards, read_parameters
from popdl.ensembles import HalfWidths, load_models, write_ensemble
from popdl.errors import PopdlError
from popdl.files import write_table, write_text
from popdl.intervals import half_width
from popdl.loader import OnDisk, PackedData
from popdl.memory import keep_freed_memory
from popdl.model import Model
from popdl.module import predict_outputs, sites_dropped
from popdl.prediction_tables import bed_table, common_scaling, table_text
from popdl.realism import assess
from popdl.scaling import TargetScale
from popdl.splits import read_splits
from popdl.store import Shard, read_shard

__all__ = [
    "BATCH_SIZE",
    "combine_replicates",
    "example_table",
    "predict_arrays",
    "predict_test",
    "predict_windows",
    "window_table",
]

log = logging.getLogger("popdl")

BATCH_SIZE = 64
"""Examples at once; predictions do not depend on it."""
BATCHES_AT_ONCE = 8
"""Batches between two movements of a progress bar."""

BATCHES_OF_A_PART = 256
"""Batches of a split that are in memory at once, twice: a split may be larger than memory."""

Progress = Callable[[int], object]
"""Is told how many more examples have been predicted."""


def predict_arrays(
    models: Sequence[Model],
    data: PackedData | OnDisk,
    rows: np.ndarray,
    *,
    batch_size: int = BATCH_SIZE,
    half_widths: HalfWidths | None = None,
) -> pd.DataFrame:
    """Predict encoded examples.

    Parameters
    ----------
    models
        One model, or several with the same targets that are averaged.
    data
        Encoded by the models' own recipe.
    rows : ndarray of shape (n,), dtype=int64
        Which examples.
    batch_size
        Examples at once.
    half_widths
        Of the intervals of an ensemble; None takes the widest of the models' own.

    Returns
    -------
    DataFrame
        One row per example. For a regression target t: ``t``, ``t_low`` and ``t_high`` in natural units (the interval is NaN
        where the model has none). For a classification target: ``t``, the likeliest class, and ``t_p_<class>``.

    Raises
    ------
    PopdlError
        If the data were encoded by another recipe, or models differ in their targets.
    """
    for model in models:
        if model.encoder.fingerprint != data.fingerprint:
            raise PopdlError(
                f"{model.path}: this model takes other data: {_difference(model.encoder.recipe, data.encoding)}; "
                "encode the data with the model's own recipe, or use a model that was trained with this encoding."
            )
    scaling = common_scaling(models)
    keep_freed_memory()  # a network's layers take and free the same blocks for every batch
    outputs = [
        predict_outputs(model.module, data, torch.from_numpy(rows), batch_size=batch_size).double() for model in models
    ]
    columns: dict[str, Any] = {}
    for name, target in scaling.targets.items():
        parts = [output[:, model.module.heads.columns[name]] for model, output in zip(models, outputs, strict=True)]
        if target.task == "classification":
            probabilities = torch.stack([part.softmax(dim=1) for part in parts]).mean(dim=0).numpy()
            columns[name] = np.array(target.classes, dtype=object)[probabilities.argmax(axis=1)]
            columns |= {f"{name}_p_{label}": probabilities[:, index] for index, label in enumerate(target.classes)}
            continue
        value = target.mean_of(
            [_on_scale(model, name, part[:, 0].numpy()) for model, part in zip(models, parts, strict=True)]
        )
        given = [half_widths] if half_widths else [model.card["intervals"]["half_widths"] for model in models]
        widths: list[Any] = [known.get(name) for known in given]
        width = np.nan if None in widths else max(widths)
        ends = target.interval(value, value - width, value + width)
        columns |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    return pd.DataFrame(columns)


def predict_test(model: Path, *, shards: Sequence[Path], splits: Path, output: Path) -> None:
    """Predict the test split.

    Parameters
    ----------
    model
        The model file, or an ensemble.
    shards
        All encoded shards of the dataset.
    splits
        ``splits.tsv``.
    output
        TSV with the column ``example``, and for each target ``<t>_true`` and the columns of :func:`predict_arrays`.
    """
    loaded, half_widths = load_models([model])
    with _threads_of(loaded):
        rows, truths, table = _predict_split("test", loaded, half_widths, shards=shards, splits=splits)
    for number, (name, target) in enumerate(common_scaling(loaded).targets.items()):
        _insert_truth(table, name, target, truths[:, number])
    table.insert(0, "example", rows)
    write_table(output, table)


def combine_replicates(models: Sequence[Path], *, shards: Sequence[Path], splits: Path, output: Path) -> None:
    """Make an ensemble of the replicates of a network: their average, with intervals calibrated on the validation split.

    Parameters
    ----------
    models
        The model files.
    shards
        All encoded shards of the dataset.
    splits
        ``splits.tsv``.
    output
        The ensemble, a JSON file in the folder of the models.
    """
    loaded, _ = load_models(models)
    with _threads_of(loaded):
        _, truths, table = _predict_split("validation", loaded, None, shards=shards, splits=splits)
    coverage = loaded[0].card["intervals"]["coverage"]
    half_widths: dict[str, float | None] = {}
    for number, (name, target) in enumerate(common_scaling(loaded).targets.items()):
        if target.task == "regression":
            pair = truths[:, number], table[name].to_numpy()
            truth, predicted = (np.log10(values) for values in pair) if target.scale == "log" else pair
            width = half_width(truth - predicted, coverage)
            half_widths[name] = width if np.isfinite(width) else None
    write_ensemble(output, loaded, half_widths)


def _predict_split(
    name: str, models: Sequence[Model], half_widths: HalfWidths | None, *, shards: Sequence[Path], splits: Path
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Numbers of the examples of a split, their true values in natural units, and their predictions."""
    rows = np.flatnonzero(read_splits(splits)["split"] == name)
    opened = open_shards(shards)
    truths = read_parameters(opened, list(models[0].card["targets"]))[rows]
    data = OnDisk(opened, part_size=BATCH_SIZE * BATCHES_OF_A_PART)
    return rows, truths, predict_arrays(models, data, rows, half_widths=half_widths)


def predict_windows(models: Sequence[Path], *, windows: Path, output: Path, bed: Path) -> None:
    """Predict the windows of a genome.

    Parameters
    ----------
    models
        Model files, which are averaged, or one ensemble.
    windows
        Encoded shard of kind ``windows``.
    output
        TSV, one row per window: ``contig``, ``start`` and ``end`` (bp, 0-based, half-open), ``n_sites`` (usable sites of
        the window), ``n_sites_dropped`` (where models have transforms for prediction: sites of the encoded window that these leave
        out; of several models the most), the columns of :func:`predict_arrays`, ``outside_domain`` (``yes`` where the window's statistics are more
        unusual than those of nearly all training simulations), ``domain_percentile`` (share of the simulations that are less
        unusual, in %), and ``reason`` (why there is no prediction, else ``.``).
    bed
        The same windows as BED6+: ``name`` is ``window_<number>``, ``score`` is 10 × (100 − domain_percentile), 0 where
        there is no prediction, ``strand`` is ``.``; the columns after that are those of the TSV from ``n_sites`` on.
    """
    loaded, half_widths = load_models(models)
    with _threads_of(loaded):
        table = window_table(loaded, windows, half_widths=half_widths)
    write_text(output, table_text(table))
    write_text(bed, table_text(bed_table(table)))


def window_table(
    models: Sequence[Model],
    windows: Path,
    *,
    half_widths: HalfWidths | None = None,
    batch_size: int = BATCH_SIZE,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Predict the windows of a genome: the table of :func:`predict_windows`.

    Parameters
    ----------
    models
        All on one device; several are averaged.
    windows
        Encoded shard of kind ``windows``.
    half_widths
        As in :func:`predict_arrays`.
    batch_size
        Examples at once.
    progress
        Is told of every few batches.
    """
    shard = read_shard(windows, kind="windows")
    data = PackedData.from_shards([windows], kind="windows", device=_device(models))
    reasons = np.array(shard.attributes["reasons"], dtype=object)
    rows = np.flatnonzero(reasons == "")
    table = pd.DataFrame(
        {
            "contig": shard.attributes["contigs"],
            "start": shard["start"],
            "end": shard["end"],
            "n_sites": shard["num_sites_window"],
        }
    )
    predictions = _in_parts(models, data, rows, half_widths, batch_size, progress)
    table = table.join(predictions.set_index(pd.Index(rows)))
    outside = _add_domain(table, models[0], shard, rows)
    _add_dropped(table, models, data, rows, batch_size)
    table["reason"] = [reason or None for reason in reasons]
    log.info("%d of %d windows predicted, %d of them outside the training domain.", len(rows), len(table), outside)
    return table


def example_table(
    models: Sequence[Model],
    dataset: Path,
    *,
    half_widths: HalfWidths | None = None,
    batch_size: int = BATCH_SIZE,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Predict every example of an encoded shard.

    Parameters
    ----------
    models, half_widths, batch_size, progress
        As in :func:`window_table`.
    dataset
        Encoded shard of kind ``dataset``.

    Returns
    -------
    DataFrame
        One row per example: ``example``, ``scenario``, ``n_sites``, ``n_sites_dropped`` as for windows, the columns of :func:`predict_arrays` (before them
        ``<t>_true`` for each target whose value the shard knows), ``outside_domain`` and ``domain_percentile``.
    """
    shard = read_shard(dataset, kind="dataset")
    data = PackedData.from_shards([dataset], device=_device(models), whole=False)
    rows = np.arange(data.num_examples)
    table = _in_parts(models, data, rows, half_widths, batch_size, progress)
    for name, target in common_scaling(models).targets.items():
        comparable = target.task == "regression" or shard.attributes["classes"].get(name) == list(target.classes)
        if name in shard.attributes["parameters"] and comparable:
            _insert_truth(table, name, target, read_parameters([shard], [name])[:, 0])
    table.insert(0, "n_sites", shard["num_sites_window"])
    table.insert(0, "scenario", shard["scenario"])
    table.insert(0, "example", rows + shard.attributes["first_example"])
    _add_domain(table, models[0], shard, rows)
    _add_dropped(table, models, data, rows, batch_size)
    return table


def _in_parts(
    models: Sequence[Model],
    data: PackedData,
    rows: np.ndarray,
    half_widths: HalfWidths | None,
    batch_size: int,
    progress: Progress | None,
) -> pd.DataFrame:
    """:func:`predict_arrays` for some batches at a time: the same batches, and so the same numbers, as all at once."""
    size = batch_size * BATCHES_AT_ONCE
    tables = []
    for first in range(0, max(len(rows), 1), size):
        part = rows[first : first + size]
        tables.append(predict_arrays(models, data, part, batch_size=batch_size, half_widths=half_widths))
        if progress is not None:
            progress(len(part))
    return pd.concat(tables, ignore_index=True)


@contextmanager
def _threads_of(models: Sequence[Model]) -> Iterator[None]:
    """As many threads as the training had: sums of floats depend on it, and a study's tables must not depend on how it was run."""
    before = torch.get_num_threads()
    torch.set_num_threads(models[0].card.get("training", {}).get("threads", 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(models: Sequence[Model]) -> torch.device:
    return next(models[0].module.parameters()).device


def _add_dropped(
    table: pd.DataFrame, models: Sequence[Model], data: PackedData, rows: np.ndarray, batch_size: int
) -> None:
    """Count the sites of these rows that transforms leave out, behind the sites that there are; nothing where there are none."""
    counts = [
        sites_dropped(model.module, data, torch.from_numpy(rows), batch_size=batch_size).numpy()
        for model in models
        if model.module.has_transforms
    ]
    if counts:
        most = pd.Series(np.max(counts, axis=0), index=rows, dtype="Int64").reindex(table.index)
        table.insert(int(table.columns.get_loc("n_sites")) + 1, "n_sites_dropped", most)  # type: ignore[arg-type]


def _insert_truth(table: pd.DataFrame, name: str, target: TargetScale, values: np.ndarray) -> None:
    """Put the true values of a target before its predictions."""
    truth: Any = values
    if target.task == "classification":
        truth = [
            None if np.isnan(index) else target.classes[int(index)] for index in target.to_network(values).tolist()
        ]
    table.insert(int(table.columns.get_loc(name)), f"{name}_true", truth)  # type: ignore[arg-type]


def _add_domain(table: pd.DataFrame, model: Model, shard: Shard, rows: np.ndarray) -> int:
    """Say of these rows whether they lie outside the training domain; returns how many do."""
    assessment = assess(model.card["realism"], shard["statistics"][rows])
    table["outside_domain"] = pd.Series(np.where(assessment.outside, "yes", "no"), index=rows, dtype=object)
    table["domain_percentile"] = pd.Series(assessment.percentile, index=rows, dtype=float)
    return int(assessment.outside.sum())


def _on_scale(model: Model, name: str, values: np.ndarray) -> np.ndarray:
    """Standardised outputs on the target's scale."""
    target = model.card["targets"][name]
    return values * target["sd"] + target["mean"]


def _difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Where two encoding recipes differ."""
    flat = [
        {**recipe, **recipe["settings"], "statistics": [group["name"] for group in recipe.get("statistics", [])]}
        for recipe in (expected, found)
    ]
    if flat[0] == flat[1]:
        return "a group of `statistics` was computed with other options or by another version of its file"
    keys = [key for key in flat[0] if key != "settings" and flat[0][key] != flat[1].get(key)]
    return "; ".join(f"{key} expected {flat[0][key]}, found {flat[1].get(key)}" for key in keys)
